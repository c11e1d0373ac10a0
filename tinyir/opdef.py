"""The base class of all ops. One op is one class, and the class body is its schema.

    class Conv2D(Op, opname="nn.conv2d"):
        x: Value                             # an operand
        weight: Value
        bias: Value | None = None            # an operand that may be absent (`none` in the text)
        stride: tuple[int, int] = (1, 1)     # an attribute; the default is not printed

        def infer(self) -> TensorType: ...   # result type(s) from operand types and attributes
        def reference(self, x, weight, bias): ...   # numpy; defines the meaning

Annotations: `Value`, `Value | None`, `tuple[Value, ...]` (at most one, last of its kind) are operands; `Written` is an
operand that the op writes (mem level, printed behind `->`); `Annotated[T, "last"]` is a field that comes behind those
of subclasses; `TensorType` or `BufferType` is the declared result type,
for ops that cannot infer it (printed behind the colon, as every result type is); everything else is an attribute: int,
float, bool, str, Literal words, tuples of them, or None.

The class also holds everything else that is true of the op: verifier, multiply-accumulates, receptive field, what may
be computed in place. What is true of a target (kernels) attaches in a backend.
"""

from __future__ import annotations

import types as pytypes
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, NamedTuple

from typing_extensions import dataclass_transform

from .diag import UNKNOWN, CompileError, Diagnostic, Location
from .ir import Block, Level, Result, Use, Value
from .types import BufferType, IndexType, TensorType, Type

__all__ = ["MISSING", "AttrField", "Op", "OperandField", "Schema", "Tiling", "Written"]

Written = Annotated[Value, "written"]
MISSING: Any = object()
_DIALECT_LEVELS: dict[str, tuple[Level, ...]] = {
    "nn": ("graph", "quant", "sched"), "qnn": ("quant", "sched"), "sched": ("sched",), "mem": ("mem",), "k": ("mem",),
}


@dataclass(frozen=True)
class OperandField:
    """One operand (or, if `variadic`, any number of them) of an op class."""

    name: str
    optional: bool = False
    variadic: bool = False
    written: bool = False


@dataclass(frozen=True)
class AttrField:
    """One attribute of an op class; `annotation` is the type that values are checked against."""

    name: str
    annotation: Any
    default: Any = MISSING

    @property
    def words(self) -> tuple[str, ...]:
        """The allowed words, for an attribute with a Literal type."""
        for choice in _union_members(self.annotation):
            if typing.get_origin(choice) is typing.Literal:
                return typing.get_args(choice)
        return ()


@dataclass(frozen=True)
class Schema:
    """The fields of an op class, in order. `result_field` names the one that declares the result type, if any."""

    operands: tuple[OperandField, ...] = ()
    attrs: tuple[AttrField, ...] = ()
    result_field: str | None = None
    order: tuple[str, ...] = field(default=())

    @cached_property
    def writes(self) -> bool:
        """Whether there is an operand that is written."""
        return any(operand.written for operand in self.operands)

    def attr(self, name: str) -> AttrField | None:
        return next((a for a in self.attrs if a.name == name), None)


def _union_members(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, pytypes.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _operand_field(name: str, annotation: Any) -> OperandField | None:
    if typing.get_origin(annotation) is Annotated and "written" in annotation.__metadata__:
        return OperandField(name, written=True)
    members = _union_members(annotation)
    written = any(typing.get_origin(m) is Annotated and "written" in m.__metadata__ for m in members)
    if Value in members or written:
        return OperandField(name, optional=type(None) in members, written=written)
    if typing.get_origin(annotation) is tuple:
        inner = typing.get_args(annotation)
        if inner and inner[0] is Value:
            return OperandField(name, variadic=True)
    return None


def _comes_last(annotation: Any) -> bool:
    return typing.get_origin(annotation) is Annotated and "last" in annotation.__metadata__


def _build_schema(cls: type[Op]) -> Schema:
    hints = typing.get_type_hints(cls, include_extras=True)
    operands: list[OperandField] = []
    attrs: list[AttrField] = []
    order: list[str] = []
    result_field = None
    for name, annotation in sorted(hints.items(), key=lambda item: _comes_last(item[1])):
        if typing.get_origin(annotation) is ClassVar or name in _INSTANCE_FIELDS:
            continue
        if _comes_last(annotation):
            annotation = typing.get_args(annotation)[0]
        if name in Op.__dict__:
            raise TypeError(f"{cls.__name__}: a field cannot be called {name!r}, every op has that")
        order.append(name)
        operand = _operand_field(name, annotation)
        if operand is not None:
            operands.append(operand)
        elif annotation in (TensorType, BufferType, IndexType):
            result_field = name
        else:
            attrs.append(AttrField(name, annotation, getattr(cls, name, MISSING)))
    if any(f.variadic for f in [f for f in operands if not f.written][:-1]):
        raise TypeError(f"{cls.__name__}: the variadic operand must be the last one read")
    return Schema(tuple(operands), tuple(attrs), result_field, tuple(order))


_INSTANCE_FIELDS = frozenset({"block", "loc", "results", "regions"})


class Tiling(NamedTuple):
    """Attributes with which an op takes `elements` elements of its operand `operand` as scratch."""

    attrs: dict[str, Any]
    operand: str
    elements: int


@dataclass_transform()
class Op:
    """A node. Construct it with its fields; it is not in a block until a Builder or a Rewriter puts it there."""

    opname: ClassVar[str] = ""
    levels: ClassVar[tuple[Level, ...]] = ()
    schema: ClassVar[Schema] = Schema()
    pure: ClassVar[bool] = True  # no effect but its results: may be dropped when unused, merged when equal
    terminator: ClassVar[bool] = False
    commutative: ClassVar[bool] = False

    def __init_subclass__(cls, opname: str = "", levels: tuple[Level, ...] | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not opname:
            return  # an abstract base for a family
        cls.opname = opname
        cls.levels = levels if levels is not None else _DIALECT_LEVELS.get(opname.partition(".")[0], ())
        cls.schema = _build_schema(cls)
        for position, operand in enumerate(cls.schema.operands):
            setattr(cls, f"_default_{operand.name}", getattr(cls, operand.name, MISSING))
            setattr(cls, operand.name, property(_operand_getter(position)))
        from .registry import OPS

        OPS.add(opname, cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        schema = type(self).schema
        if len(args) > len(schema.order):
            raise TypeError(f"{self.opname} takes {len(schema.order)} arguments, got {len(args)}")
        values = dict(zip(schema.order, args, strict=False))
        for name, value in kwargs.items():
            if name in values or name not in schema.order:
                raise TypeError(f"{self.opname} got an unexpected argument {name!r}")
            values[name] = value
        self._start()
        for index, operand in enumerate(schema.operands):
            self._groups[index] = _as_group(self, operand, values.pop(operand.name, MISSING))
        self._fill_attrs(values)
        self._link()
        inferred = self.infer()
        self._make_results(inferred if isinstance(inferred, tuple) else (inferred,))

    # -- construction ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.block: Block | None = None
        self.loc: Location = UNKNOWN
        self.regions: list[Block] = []
        self.results: list[Result] = []
        self._groups: list[list[Value | None]] = [[] for _ in self.schema.operands]

    def _fill_attrs(self, values: dict[str, Any]) -> None:
        for attribute in self.schema.attrs:
            value = values.pop(attribute.name, attribute.default)
            if value is MISSING:
                raise TypeError(f"{self.opname} needs the attribute {attribute.name!r}")
            self.__dict__[attribute.name] = value
        if self.schema.result_field is not None:
            self.__dict__[self.schema.result_field] = values.pop(self.schema.result_field)

    def _link(self) -> None:
        for index, value in enumerate(self.operands):
            if value is not None:
                value.uses.append(Use(self, index))

    def _unlink(self) -> None:
        for index, value in enumerate(self.operands):
            if value is not None:
                value.uses.remove(Use(self, index))

    def _make_results(self, types: Sequence[Type]) -> None:
        name = self.opname.partition(".")[2]
        self.results = [Result(self, i, t, name) for i, t in enumerate(types)]

    @classmethod
    def build(cls, operands: list[list[Value | None]], attrs: dict[str, Any], result_types: Sequence[Type],
              regions: Sequence[Block] = (), loc: Location = UNKNOWN) -> Op:
        """An op exactly as written, for the parser and for cloning: declared result types, nothing inferred.

        `operands` has one list per operand field. The verifier compares the declared types with `infer()`.
        """
        op = cls.__new__(cls)
        op._start()
        op._groups = [list(group) for group in operands]
        values = dict(attrs)
        if cls.schema.result_field is not None:
            values[cls.schema.result_field] = result_types[0] if result_types else None
        op._fill_attrs(values)
        op.loc = loc
        op.regions = list(regions)
        for region in op.regions:
            region.parent = op
        op._link()
        op._make_results(result_types)
        return op

    # -- access ------------------------------------------------------------------------------------------------------

    @property
    def operands(self) -> list[Value | None]:
        """All operands in order, absent ones as None, the variadic one spread out."""
        return [value for group in self._groups for value in group]

    @property
    def reads(self) -> list[Value]:
        """The operands that it reads."""
        if not self.schema.writes:
            return [v for g in self._groups for v in g if v is not None]
        return [v for f, g in zip(self.schema.operands, self._groups, strict=True) if not f.written
                for v in g if v is not None]

    @property
    def writes(self) -> list[Value]:
        """The operands that it writes (mem level)."""
        if not self.schema.writes:
            return []
        return [v for f, g in zip(self.schema.operands, self._groups, strict=True) if f.written
                for v in g if v is not None]

    @property
    def operand_groups(self) -> list[list[Value | None]]:
        """The operands, one list per operand field."""
        return [list(group) for group in self._groups]

    @property
    def out(self) -> Result:
        """The only result."""
        if len(self.results) != 1:
            raise ValueError(f"{self.opname} has {len(self.results)} results, not one")
        return self.results[0]

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes by name, defaults included."""
        return {a.name: getattr(self, a.name) for a in self.schema.attrs}

    def replace_operand(self, index: int, value: Value | None) -> None:
        """Make operand number `index` (counted as in `operands`) read `value`. Passes call this through a Rewriter."""
        position = index
        for group in self._groups:
            if index < len(group):
                break
            index -= len(group)
        else:
            raise IndexError(f"{self.opname} has no operand {position}")
        old, group[index] = group[index], value
        if old is not None:
            old.uses.remove(Use(self, position))
        if value is not None:
            value.uses.append(Use(self, position))

    def clone(self, mapping: dict[Value, Value]) -> Op:
        """A copy that reads `mapping[v]` where this reads v, v where the mapping has none. Regions are not copied."""
        groups = [[v if v is None else mapping.get(v, v) for v in group] for group in self._groups]
        return type(self).build(groups, self.attrs, [r.type_ for r in self.results], (), self.loc)

    def __repr__(self) -> str:
        return f"<{self.opname} {', '.join('%' + r.name for r in self.results)}>"

    # -- what is true of the op: subclasses say ------------------------------------------------------------------------

    def infer(self) -> Type | tuple[Type, ...]:
        """Result type or types, from operand types and attributes. Raises CompileError when they do not fit."""
        raise NotImplementedError(f"{type(self).__name__}.infer")

    def verify(self) -> None:
        """Check what `infer` does not. Raises CompileError."""

    def reference(self, *operands: Any, **named: Any) -> Any:  # `Any` twice: subclasses may name their operands
        """The meaning, in numpy: result array(s) from operand arrays (None where absent; a list for the variadic one).

        Ops that write operands get those arrays too, fill them in place and return None. Called with positions only.
        """
        raise NotImplementedError(f"{type(self).__name__}.reference")

    def macs(self) -> int:
        """Multiply-accumulates."""
        return 0

    def at_step(self, step: int) -> Op | None:
        """The op as it runs in step number `step` of the loop that it is in; None if it has nothing to do then."""
        return self

    def tilings(self) -> tuple[Tiling, ...]:
        """How the op can do its work with more or less scratch memory, the fastest way first; none: no choice."""
        return ()

    def reuses(self) -> tuple[int, ...]:
        """The operands, by number, the memory of one of which the result may take over element by element."""
        return ()

    # -- errors --------------------------------------------------------------------------------------------------------

    def require(self, condition: bool, message: str, *values: object) -> None:
        """Raise an error at this op, with `values` formatted into `message`, unless `condition` holds."""
        if not condition:
            raise self.error(message.format(*values))

    def error(self, message: str, *, help: str | None = None) -> CompileError:
        """An error that names the op, its location and the types of what it reads."""
        names = [f.name for f, g in zip(self.schema.operands, self._groups, strict=True) for _ in g]
        notes = [f"{n} is {v.type_}" for n, v in zip(names, self.operands, strict=True) if v is not None]
        return CompileError((Diagnostic("error", f"{self.opname}: {message}", self.loc, tuple(notes), help),))


def _operand_getter(position: int) -> Any:
    def get(op: Op) -> Any:
        operand = type(op).schema.operands[position]
        group = op._groups[position]
        return tuple(group) if operand.variadic else group[0]

    return get


def _as_group(op: Op, operand: OperandField, value: Any) -> list[Value | None]:
    if value is MISSING:
        value = getattr(type(op), f"_default_{operand.name}")
    if value is MISSING:
        raise TypeError(f"{op.opname} needs the operand {operand.name!r}")
    return list(value) if operand.variadic else [value]
