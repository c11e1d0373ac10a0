"""Values, constants, blocks, functions and modules: the graph that ops are nodes of.

A value is defined once, by an op (`Result`), a block (`Argument`), the module (`Const`, `Arena`), and knows its uses.
Ops live in blocks, blocks in functions or in ops that have a region, functions in a module. A module states its level;
`verify` accepts only ops of that level.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from .diag import UNKNOWN, Location, error
from .types import BufferType, Shape, TensorType, Type, dtype_of

if TYPE_CHECKING:
    from .opdef import Op

__all__ = [
    "LEVELS", "Arena", "Argument", "Array", "Block", "Const", "DataPayload", "Func", "Level", "Module", "Payload",
    "RandomPayload", "Result", "SplatPayload", "Use", "Value", "sanitise",
]

Array = NDArray[Any]
Level = Literal["graph", "quant", "sched", "mem"]
LEVELS: tuple[Level, ...] = ("graph", "quant", "sched", "mem")
OpT = TypeVar("OpT", bound="Op")
_Kind: TypeAlias = "type[OpT]"  # inside Value the name `type` is the property


def _symbol_stem(name: str) -> str:
    """`name` as a symbol: letters, digits, underscores and points, no digit first."""
    stem = re.sub(r"[^A-Za-z0-9_.]+", "_", name).strip("_.") or "c"
    return stem if stem[0].isalpha() or stem[0] == "_" else f"c{stem}"


def sanitise(name: str) -> str:
    """`name` with everything but letters, digits and underscores replaced, as values are printed (`%conv1_relu`)."""
    cleaned = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")
    return cleaned or "v"


@dataclass(frozen=True)
class Use:
    """Operand number `index` of `op` reads (or writes, at mem level) the value."""

    op: Op
    index: int


class Value:
    """Something an op can read. `name` is a hint: the printer makes it unique."""

    def __init__(self, type_: Type, name: str = "v", loc: Location = UNKNOWN) -> None:
        self.type_: Type = type_
        self.name = name
        self.loc = loc
        self.uses: list[Use] = []

    @property
    def type(self) -> TensorType | BufferType:
        """The array type. Raises TypeError for an index."""
        if isinstance(self.type_, (TensorType, BufferType)):
            return self.type_
        raise TypeError(f"%{self.name} is {self.type_}, not an array")

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def op(self) -> Op | None:
        """The op that defines it, or None for arguments and constants."""
        return None

    @property
    def data(self) -> Array | None:
        """The elements, if they are known at compile time."""
        return None

    @property
    def users(self) -> list[Op]:
        """The ops that use it, each once, in the order in which they began to."""
        return list(dict.fromkeys(use.op for use in self.uses))

    def defining(self, kind: _Kind[OpT]) -> OpT | None:
        """The op that defines it if that is a `kind`, else None."""
        op = self.op
        return op if isinstance(op, kind) else None

    def only_user(self, kind: _Kind[OpT]) -> OpT | None:
        """Its single user if there is just one use and that is by a `kind`, else None."""
        if len(self.uses) != 1:
            return None
        op = self.uses[0].op
        return op if isinstance(op, kind) else None

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type_}"


class Result(Value):
    """Result number `index` of an op."""

    def __init__(self, op: Op, index: int, type_: Type, name: str, loc: Location = UNKNOWN) -> None:
        super().__init__(type_, name, loc)
        self._op = op
        self.index = index

    @property
    def op(self) -> Op:
        return self._op


class Argument(Value):
    """A parameter of a function or of a region's block."""


@dataclass(frozen=True)
class SplatPayload:
    """Every element is `value`."""

    value: float | int


@dataclass(frozen=True)
class RandomPayload:
    """Pseudo-random elements, the same on every machine: tests need no binary files.

    Floats are uniform in [-1, 1), integers over the whole range of the type (32-bit and wider: [-1000, 1000]).
    """

    seed: int


@dataclass(frozen=True)
class DataPayload:
    """Array `key` of the .npz file `file`, which is in `folder`: where the text that names it is."""

    file: str
    key: str
    folder: str = ""

    def load(self) -> Array:
        """The array. Raises CompileError when the file or the key is not there."""
        path = os.path.join(self.folder, self.file)
        try:
            with np.load(path) as archive:
                return np.asarray(archive[self.key])
        except KeyError:
            raise error(f"{path} has no array called {self.key!r}") from None
        except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as problem:
            raise error(f"cannot read the constants in {path}: {problem}",
                        help="a .tir file with data<...> needs its .npz file beside it") from None


Payload = SplatPayload | RandomPayload | DataPayload


class Const(Value):
    """A named weight of the module. Holds its elements, or the payload that they come from when first asked for."""

    def __init__(self, name: str, type_: TensorType | BufferType, data: Array | None = None,
                 payload: Payload | None = None, loc: Location = UNKNOWN) -> None:
        super().__init__(type_, name, loc)
        self._data = data
        self.payload = payload
        self.stem = name

    @property
    def known(self) -> bool:
        """False for a constant whose elements were left out of the text that it was read from."""
        return self._data is not None or self.payload is not None

    @property
    def data(self) -> Array | None:
        if self._data is None and self.payload is not None:
            self._data = _materialise(self.payload, self.type)
        return self._data


def _materialise(payload: Payload, type_: TensorType | BufferType) -> Array:
    numpy_type = type_.dtype.numpy
    if isinstance(payload, SplatPayload):
        return np.full(type_.shape, payload.value, numpy_type)
    if isinstance(payload, RandomPayload):
        rng = np.random.Generator(np.random.PCG64(payload.seed))
        if type_.dtype.is_float:
            return rng.uniform(-1, 1, type_.shape).astype(numpy_type)
        low, high = type_.dtype.range if type_.dtype.bits <= 8 else (-1000, 1000)
        return rng.integers(low, high, type_.shape, endpoint=True).astype(numpy_type)
    array = payload.load()
    if array.shape != type_.shape or array.dtype != numpy_type:
        found = f"{'x'.join(map(str, array.shape))} {array.dtype}"
        raise error(f"array {payload.key!r} of {payload.file} is {found}, but the constant is {type_}")
    return array


class Arena(Value):
    """A region of RAM that slots are placed in. `size` is decided by plan-arena (None before)."""

    def __init__(self, name: str, size: int | None = None, align: int = 16, loc: Location = UNKNOWN) -> None:
        super().__init__(BufferType((size or 0,), dtype_of(np.dtype(np.uint8))), name, loc)
        self.size = size
        self.align = align


class Block:
    """A sequence of ops with arguments; the body of a function or of a region."""

    def __init__(self, args: list[Argument] | None = None) -> None:
        self.args: list[Argument] = args or []
        self.ops: list[Op] = []
        self.parent: Func | Op | None = None

    def append(self, op: Op) -> None:
        op.block = self
        self.ops.append(op)

    def insert(self, index: int, op: Op) -> None:
        op.block = self
        self.ops.insert(index, op)

    def walk(self) -> Iterator[Op]:
        """Every op, outer before inner, in textual order."""
        for op in list(self.ops):
            yield op
            for region in op.regions:
                yield from region.walk()


@dataclass
class Func:
    """A function. At mem level it writes its last `outputs` arguments; above, nn.return gives results."""

    name: str
    block: Block
    outputs: int = 0
    result_names: tuple[str, ...] = ()
    loc: Location = UNKNOWN

    def __post_init__(self) -> None:
        self.block.parent = self

    @property
    def args(self) -> list[Argument]:
        return self.block.args

    @property
    def inputs(self) -> list[Argument]:
        return self.args[: len(self.args) - self.outputs]

    @property
    def written(self) -> list[Argument]:
        """The output buffers (mem level)."""
        return self.args[len(self.args) - self.outputs:]

    @property
    def ops(self) -> list[Op]:
        return self.block.ops

    @property
    def results(self) -> list[Value]:
        """What the function returns: the operands of its terminator above mem level, the output buffers at it."""
        if self.outputs or not self.ops:
            return list(self.written)
        return [v for v in self.ops[-1].operands if v is not None]


@dataclass
class Module:
    """A program: constants, arenas and functions, at one level.

    `attrs` holds facts about the whole (for instance `target` or `input_layout`). `version` grows at each change, which
    is how cached analyses know that they are stale.
    """

    name: str
    level: Level = "graph"
    attrs: dict[str, Any] = field(default_factory=dict)
    consts: dict[str, Const] = field(default_factory=dict)
    arenas: dict[str, Arena] = field(default_factory=dict)
    funcs: dict[str, Func] = field(default_factory=dict)
    version: int = 0

    @property
    def main(self) -> Func:
        return self.funcs["main"]

    def walk(self) -> Iterator[Op]:
        """Every op of every function."""
        for func in self.funcs.values():
            yield from func.block.walk()

    def add_const(self, name: str, data: Array, loc: Location = UNKNOWN, type_: TensorType | BufferType | None = None) \
            -> Const:
        """A new constant; `name` is made unique and valid as a symbol."""
        data = np.asarray(data)
        const = Const(self._fresh(name), type_ or TensorType(data.shape, dtype_of(data.dtype)), data, loc=loc)
        const.stem = _symbol_stem(name)
        self.consts[const.name] = const
        self.version += 1
        return const

    def add_arena(self, name: str, align: int = 16) -> Arena:
        """A new arena without a size yet."""
        arena = Arena(self._fresh(name), None, align)
        self.arenas[arena.name] = arena
        self.version += 1
        return arena

    def drop_unused_consts(self) -> int:
        """Forget the constants that no op uses; returns how many.

        A constant that was made to replace one of the same name takes the name over: @w_1 becomes @w.
        """
        dead = [name for name, const in self.consts.items() if not const.uses]
        for name in dead:
            del self.consts[name]
        for name, const in list(self.consts.items()):
            if name != const.stem and const.stem not in self.consts and const.stem not in self.arenas:
                self.consts[const.stem] = self.consts.pop(name)
                const.name = const.stem
        self.version += bool(dead)
        return len(dead)

    def _fresh(self, name: str) -> str:
        stem = _symbol_stem(name)
        candidate, number = stem, 1
        while candidate in self.consts or candidate in self.arenas:
            candidate, number = f"{stem}_{number}", number + 1
        return candidate
