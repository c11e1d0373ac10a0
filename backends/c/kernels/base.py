"""The base of all kernels: an op of the mem level that is one C function.

A kernel class is schema, meaning and C in one place:

    class CopyF32(Kernel, opname="k.copy_f32"):
        x: Value
        y: Written

        def reference(self, x, y):           # fills y in place
            y[...] = x

        def source(self):                    # one C function; the emitter gives {name}
            return fill('''
                static void {name}(const float *restrict x, float *restrict y)
                {
                    for (int32_t i = 0; i < {count}; i++) {
                        y[i] = x[i];
                    }
                }
            ''', count=self.y.type.elements)

and the call is `{name}(x, y)`, from `arguments()`. Everything that is known at compile time is a literal in the text,
so that the C compiler unrolls and folds; kernels with equal text share one function. The text may use `tc_exp`,
`tc_tanh` and the other functions of `runtime/` (the file is named after the function); the emitter pastes what is used.
It may not call libc.

A *row kernel* computes rows [row_begin, row_end) of its output, and any of its operands may be a ring: a buffer with
fewer rows than the tensor, where row r is in a slot of its own until r + ring rows overwrite it.

    true rows   0 1 2 3 4 5 6 7      ring of 3 rows, x_base = 1, first row read = 4:  slot 1 = row 4,
    slots       0 1 2 0 1 2 0 1                                                        slot 2 = row 5, slot 0 = row 6
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from tinyir.diag import Unsupported
from tinyir.ir import Arena, Array, Value
from tinyir.loops import base_of
from tinyir.lowering import Lowering
from tinyir.opdef import Op
from tinyir.ops.mem import Join, Window
from tinyir.pace import Pace
from tinyir.registry import ROW_FORMS
from tinyir.types import TensorType, dtype_of

from ..text import c_type, fill
from .taps import RowTaps

__all__ = ["Argument", "Kernel", "RowKernel", "c_type", "evaluate", "fill", "place_rows", "storage", "take_rows"]

Argument = Value | int
"""What a call passes: the address of a buffer, or a literal."""


class Kernel(Op):
    """An op of the mem level that is computed by one C function. Subclasses set `opname="k.<function>"`."""

    pure: ClassVar[bool] = False
    batched: ClassVar[tuple[str, ...]] = ()
    """Operands that have one image after another: the emitter calls the function once for each index of axis 0, so the
    C text (and x_base and so on) is about one image. Empty: the function does everything in one call."""

    def infer(self) -> tuple[()]:
        return ()

    def source(self) -> str:
        """The text of the C function, with `{name}` for its name."""
        raise NotImplementedError(f"{type(self).__name__}.source")

    def arguments(self) -> tuple[Argument, ...]:
        """What the call passes, in the order of the C parameters: by default the operands that are present."""
        return tuple(v for v in self.operands if v is not None)

    def dimensions(self) -> dict[str, int]:
        """Numbers in `source()` that may as well be parameters, by the names that these have then: kernels whose texts
        differ in nothing else share a function.
        """
        return {}

    def stem(self) -> str:
        """What the function is called; the emitter adds a number where two differ under one name."""
        return self.opname.partition(".")[2]

    def batch(self) -> int:
        """How many images a call handles one after the other (1 unless `batched`)."""
        return int(getattr(self, self.batched[0]).shape[0]) if self.batched else 1

    def shared(self) -> tuple[str, ...]:
        """The read operands that live at the very address of a written one: the op works in place.

        Their C must not take `restrict` pointers to both; it takes the written pointer only.
        """
        places = [storage(value) for value in self.writes]
        names = []
        for operand in type(self).schema.operands:
            value = None if operand.written or operand.variadic else getattr(self, operand.name)
            if value is not None and storage(value) in places:
                names.append(operand.name)
        return tuple(names)


    def unsupported(self, function: str, value: Value) -> Unsupported:
        """The answer to elements that the kernel has no C for."""
        message = f"there is no C for {function} of {value.type.dtype}"
        return Unsupported(self.error(message, help="cast the operands to f32").diagnostics)


class RowKernel(Kernel):
    """A kernel that computes a span of output rows, with ring buffers on both sides.

    Subclasses declare these attributes (in this order, behind their own), with a base for each name in `rings`:

        rows: tuple[int, int]      # output rows to compute, [begin, end)
        height: int                # rows of the true input tensor (the buffers may be rings with fewer)
        x_base: int = 0            # slot of the first input row that the span reads (0 too if x holds the whole tensor)
        y_base: int = 0            # slot of row rows[0] of the output (0 too if y holds the whole tensor)

    In a loop it also has a `pace`: which of `rows` it computes in which step. Then row r of a ring is in slot r mod
    ring, and the bases follow from that; but operands named in `fresh` hold only the rows that are not in the ring yet,
    where they go in the next step that `keep` says. What it reads may be a `mem.join` of a ring and of the fresh rows,
    which are those from row `{name}_split` on.

    Buffers are [N, ring rows, W, C]. In the C function a buffer that holds the whole tensor is indexed with the true
    row number and has no base parameter.
    """

    rings: ClassVar[tuple[str, ...]] = ("x", "y")
    held: ClassVar[tuple[str, ...]] = ()
    """Written operands without rows that hold something from one call to the next; others are scratch."""

    def __init_subclass__(cls, opname: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(opname=opname, **kwargs)
        if opname:
            ROW_FORMS.add(opname, _paced)

    if TYPE_CHECKING:
        @property
        def rows(self) -> tuple[int, int]: ...
        @property
        def height(self) -> int: ...
        @property
        def pace(self) -> tuple[int, int, int] | None: ...
        @property
        def fresh(self) -> tuple[str, ...]: ...
        @property
        def keep(self) -> tuple[int, int]: ...
    else:
        pace: Annotated[tuple[int, int, int] | None, "last"] = None
        fresh: Annotated[tuple[str, ...], "last"] = ()
        keep: Annotated[tuple[int, int], "last"] = (1, 0)

    def at_step(self, step: int) -> RowKernel | None:
        if self.pace is None:
            return self
        rows = self.due(step)
        if rows[0] == rows[1]:
            return None
        made = copy.copy(self)
        splits = {f"{name}_split": join.first_fresh(step) for name in self.rings if (join := self.join(name))}
        made.__dict__.update({"rows": rows, "pace": None, **self._bases_of(rows, step), **splits})
        return made

    def due(self, step: int) -> tuple[int, int]:
        """The rows to compute in a step."""
        pace, count = Pace(*(self.pace or (1, 1, 0))), self.rows[1]
        return pace.done(step, count), pace.done(step + 1, count)

    def paced(self, pace: Pace | None) -> list[Op]:
        """The kernel, which goes through its rows at `pace` or at once, as the row form of another."""
        self.__dict__["pace"] = None if pace is None else tuple(pace)
        return [self]

    def _bases_of(self, rows: tuple[int, int], step: int) -> dict[str, int]:
        """The base of each ring for a span of rows, where row r is in slot r mod ring."""
        first = {True: rows[0], False: self.input_rows(rows)[0]}
        waiting = rows[0] - Pace(*(self.pace or (1, 1, 0))).kept(step, self.rows[1], self.keep)
        return {f"{name}_base": waiting if name in self.fresh else first[self._is_written(name)] % self.ring(name)
                for name in self.rings if self.is_ring(name)}

    # What a subclass says about itself; the defaults are those of an element-wise op.

    def out_height(self) -> int:
        """Rows of the true output tensor."""
        return self.height

    def input_rows(self, rows: tuple[int, int]) -> tuple[int, int]:
        """The rows of the input that output rows `rows` read, clipped to the tensor."""
        return rows

    def first_row(self) -> str:
        """C expression for `input_rows((row_begin, row_end))[0]`."""
        return "row_begin"

    # What the C text is made of.

    def is_ring(self, operand: str) -> bool:
        """Whether the buffer of that operand has fewer rows than its tensor."""
        return self.ring(operand) < self.true_height(operand)

    def ring(self, operand: str) -> int:
        """Rows of the buffer, without the fresh ones of a join."""
        join = self.join(operand)
        return int((getattr(self, operand) if join is None else join.ring).shape[1])

    def join(self, operand: str) -> Join | None:
        """The op that joins the ring that is read and the fresh rows, if there are two buffers."""
        return base_of(getattr(self, operand)).defining(Join)

    def lies_in(self, operand: str) -> Window | None:
        """The op that makes the operand a part of a larger buffer, if it is one."""
        value: Value = getattr(self, operand)
        return value.defining(Window)

    def pitch(self, operand: str) -> int:
        """Elements from one row of the operand to the next."""
        window = self.lies_in(operand)
        return int(np.prod((getattr(self, operand) if window is None else window.x).shape[2:]))

    def in_runs(self, operand: str) -> bool:
        """Whether the rows of the operand do not all lie behind each other: see `run_limit`."""
        return self.is_ring(operand) or self._is_apart(operand)

    def _is_apart(self, operand: str) -> bool:
        """Whether there is something else between the rows of the operand."""
        return self.pitch(operand) != int(np.prod(getattr(self, operand).shape[2:]))

    def true_height(self, operand: str) -> int:
        """Rows of the tensor."""
        return self.out_height() if self._is_written(operand) else self.height

    def row_parameters(self) -> str:
        """The last parameters of the C function: `int32_t row_begin, int32_t row_end[, int32_t x_base][, ...]`."""
        bases = [f"{name}_base" for name in self.rings if self.is_ring(name)]
        parameters = [f"int32_t {p}" for p in ("row_begin", "row_end", *bases)]
        for name in self.rings:
            if self.join(name) is not None:
                kind = c_type(getattr(self, name).type.dtype)
                parameters += [f"int32_t {name}_split", f"const {kind} *{name}_fresh"]
        return ", ".join(parameters)

    def row_arguments(self) -> tuple[int, ...]:
        """What the call passes for `row_parameters()`, outside of a loop."""
        return (*self.rows, *(getattr(self, f"{name}_base") for name in self.rings if self.is_ring(name)))

    def arguments(self) -> tuple[Argument, ...]:
        return (*super().arguments(), *self.row_arguments())

    def row_setup(self) -> str:
        """C declarations that `slot()` needs, for the beginning of the function body; often empty."""
        read = [name for name in self.rings if not self._is_written(name) and self.is_ring(name)]
        return f"const int32_t first_row = {self.first_row()};" if read else ""

    def slot(self, operand: str, row: str) -> str:
        """C expression for the slot of true row `row` in the operand's buffer; wraps once, by comparison.

        What is read may be in two buffers: use `address` for it.
        """
        if self.join(operand) is not None:
            raise NotImplementedError(f"{type(self).__name__} cannot read %{operand} from two buffers: see address()")
        return self._slot(operand, row)

    def _slot(self, operand: str, row: str) -> str:
        if not self.is_ring(operand):
            return row
        first = "row_begin" if self._is_written(operand) else "first_row"
        return f"tc_wrap({operand}_base + ({row}) - {first}, {self.ring(operand)})"

    def address(self, operand: str, row: str) -> str:
        """C expression for the address of true row `row` of an operand that is read."""
        pitch = self.pitch(operand)
        slot = self._slot(operand, row)
        product = slot.startswith(("tc_wrap(", "(")) or not any(sign in slot for sign in (" + ", " - ", " ? "))
        grouped = slot if product else f"({slot})"
        if self.join(operand) is None:
            return f"{operand} + {grouped} * {pitch}"
        fresh = f"{operand}_fresh + ({row} - {operand}_split) * {pitch}"
        return f"({row} < {operand}_split ? {operand} + {grouped} * {pitch} : {fresh})"

    def declare_lines(self, operand: str, taps: RowTaps) -> str:
        """C declaration of `lines`: the rows that the taps of row `row` read, behind `taps.declare()`. Empty where it
        takes no more than a product to find them.
        """
        if not self.is_ring(operand):
            return ""
        lines = f"const {c_type(getattr(self, operand).type.dtype)} *lines[{taps.kernel}];\n"
        return lines + taps.loop(f"lines[ky] = {self.address(operand, taps.row('ky'))};")

    def line(self, operand: str, taps: RowTaps, tap: str) -> str:
        """C expression for the row that a tap of row `row` reads, behind `declare_lines`."""
        return f"lines[{tap}]" if self.is_ring(operand) else self.address(operand, taps.row(tap))

    def is_parted(self, operand: str) -> bool:
        """Whether the rows of a call may lie at both ends of the buffer that they are written to."""
        return self._is_apart(operand) or (self.is_ring(operand) and operand not in self.fresh)

    def declare_slot(self, operand: str) -> str:
        """C declaration of `{operand}_slot` for row `row`, where a run of rows begins; empty if there is none."""
        if self.join(operand) is not None:
            return ""
        return f"const int32_t {operand}_slot = {self.slot(operand, 'row')};"

    def run_address(self, operand: str) -> str:
        """C expression for the address of row `row`, behind `declare_slot`."""
        if self.join(operand) is not None:
            return self.address(operand, "row")
        return f"{operand} + {operand}_slot * {self.pitch(operand)}"

    def run_limit(self, operand: str) -> str:
        """C statement that shortens a run of `rows` rows to those that lie behind each other."""
        if self._is_apart(operand):
            return "rows = 1;"
        if self.join(operand) is not None:
            return f"if (row < {operand}_split) {{\n    rows = 1;\n}}"
        ring = self.ring(operand)
        return f"if (rows > {ring} - {operand}_slot) {{\n    rows = {ring} - {operand}_slot;\n}}"

    # What the numpy reference is made of.

    def read_rows(self, operand: str, buffer: Array) -> tuple[Array, int]:
        """The rows that the span reads, in order, without the ring, [N, n, W, C], and the true number of the first."""
        first, last = self.input_rows(self.rows)
        base = getattr(self, f"{operand}_base") if self.is_ring(operand) else first
        if self.join(operand) is None:
            return take_rows(buffer, base, last - first), first
        ring, split = self.ring(operand), self.__dict__[f"{operand}_split"]
        slots = [row % ring if row < split else ring + row - split for row in range(first, last)]
        return np.take(buffer, slots, axis=1), first

    def write_rows(self, operand: str, buffer: Array, values: Array) -> None:
        """Store rows `rows` of the output, given as [N, rows, W, C], where they belong in the buffer."""
        base = getattr(self, f"{operand}_base") if self.is_ring(operand) else self.rows[0]
        place_rows(buffer, base, values)

    def _is_written(self, operand: str) -> bool:
        return any(f.name == operand and f.written for f in type(self).schema.operands)


def _paced(kernel: RowKernel, low: Lowering) -> list[Op]:
    """The row form of a row kernel: itself."""
    return kernel.paced(low.pace)


def take_rows(buffer: Array, base: int, count: int) -> Array:
    """Rows `count` of the ring `buffer` [N, ring, W, C] from slot `base` on, unrolled. A view where nothing wraps."""
    ring = buffer.shape[1]
    if base + count <= ring:
        return buffer[:, base:base + count]
    return np.take(buffer, [(base + i) % ring for i in range(count)], axis=1)


def place_rows(buffer: Array, base: int, values: Array) -> None:
    """Store `values` [N, count, W, C] into the ring `buffer` from slot `base` on."""
    ring = buffer.shape[1]
    for i in range(values.shape[1]):
        buffer[:, (base + i) % ring] = values[:, i]


def evaluate(kind: type[Op], *arrays: Array | None, **attrs: Any) -> Array:
    """What a graph-level op of class `kind` computes from these arrays: kernels borrow its reference semantics."""
    def value(array: Array | None) -> Value | None:
        return None if array is None else Value(TensorType(array.shape, dtype_of(array.dtype)))

    op: Any = kind(*(value(a) for a in arrays), **attrs)
    return np.asarray(op.reference(*arrays))


def storage(value: Value) -> tuple[object, int]:
    """Where the bytes of `value` are: (arena, offset) of a placed slot, else the value that owns them and 0."""
    op = value.op
    while op is not None and op.opname == "mem.view" and op.operands[0] is not None:
        value = op.operands[0]
        op = value.op
    arena = op.operands[0] if op is not None and op.opname == "mem.slot" else None
    if isinstance(arena, Arena) and op is not None and getattr(op, "offset", None) is not None:
        return arena, int(op.attrs["offset"])
    return value, 0
