"""Softmax of stored 8-bit integers, as onnxruntime computes it: a table of 256 exponentials, a sum in single precision.

    k.softmax_s8(%x, @table) -> (%y) {axis = 1, steps = 256.0, zero = -128, arithmetic = float}
    k.softmax_rows_s8(%x, @table) -> (%ring) {axis = 3, ...}                for a span of rows, along another axis

The C has no multiplication in front of an addition, so no compiler can fuse the two. With arithmetic = integer the same
single-precision operations are done with integers (`tc_soft_*`), for cores without an FPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, final

import numpy as np

from tinyir.arith import saturate, softmax_table
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers, row_form, streams
from tinyir.opdef import Op, Written
from tinyir.ops.base import normal_axis
from tinyir.ops.qeltwise import QSoftmax
from tinyir.ops.quant import quant_of

from ..text import c_float, c_type, fill
from .base import Argument, RowKernel
from .eltwise import Pointwise

__all__ = ["Arithmetic", "SoftmaxRowsS8", "SoftmaxS8", "encoded"]

Arithmetic = Literal["float", "integer"]


class _Softmax(Pointwise):
    """What the two have in common."""

    if TYPE_CHECKING:
        @property
        def steps(self) -> float: ...
        @property
        def zero(self) -> int: ...
        @property
        def arithmetic(self) -> Arithmetic: ...

    def reuses(self) -> tuple[int, ...]:
        return (0,) if self.reads[0].type.dtype == self.writes[0].type.dtype else ()

    def compute(self, x: Array, table: Array, axis: int) -> Array:
        values = table.view(np.float32)
        wide = np.moveaxis(x, axis, -1).astype(np.int32)
        terms = values[255 - (wide.max(axis=-1, keepdims=True) - wide)]
        total = np.cumsum(terms, axis=-1, dtype=np.float32)[..., -1:]
        with np.errstate(over="ignore"):
            stored = np.rint(terms * np.float32(self.steps) / total).astype(np.float64) + self.zero
        return np.moveaxis(saturate(stored, self.writes[0].type.dtype), -1, axis)

    def each_line(self, x: str, y: str, place: str, extent: int, step: int) -> str:
        """C statements for the line of `extent` elements of x, `step` apart, from the element `place` on."""
        k = "k" if step == 1 else f"k * {step}"
        kind, start, add, result = self._arithmetic(f"exponentials[from[{k}]]")
        return fill("""
            const {xt} *from = {x} + {place};
            {yt} *to = {y} + {place};
            int32_t most = from[0];
            for (int32_t k = 1; k < {extent}; k++) {
                most = from[{k}] > most ? from[{k}] : most;
            }
            const {kind} *exponentials = table + (255 - most);
            {kind} sum = {start};
            for (int32_t k = 0; k < {extent}; k++) {
                sum = {add};
            }
            for (int32_t k = 0; k < {extent}; k++) {
                to[{k}] = ({yt}){result};
            }
        """, xt=c_type(self.reads[0].type.dtype), yt=c_type(self.writes[0].type.dtype), kind=kind, start=start,
                    add=add, result=result, extent=extent, k=k, place=place, x=x, y=y)

    def _arithmetic(self, term: str) -> tuple[str, str, str, str]:
        """The C type of the table, the start of a sum, one step of it, and a result."""
        low, high = self.writes[0].type.dtype.range
        if self.arithmetic == "float":
            share = f"{term} * {c_float(self.steps)} / sum"
            return "float", "0.0f", f"sum + {term}", f"tc_quantized({share}, {self.zero}, {low}, {high})"
        share = f"tc_soft_divide(tc_soft_multiply({term}, 0x{encoded(self.steps):08X}u), sum)"
        return "uint32_t", "0u", f"tc_soft_add(sum, {term})", f"tc_soft_quantized({share}, {self.zero}, {low}, {high})"


@final
class SoftmaxS8(_Softmax, opname="k.softmax_s8"):
    """y = saturate(rint(f32(f32(t * steps) / sum of t)) + zero), t = table[255 - (greatest x - x)], along `axis`."""

    x: Value                               # i8 or u8
    table: Value                           # [256] f32, or u32: their encodings
    y: Written
    axis: int                              # counted from the front
    steps: float
    zero: int
    arithmetic: Arithmetic

    def stem(self) -> str:
        return f"softmax_s8_{self.x.type.dtype}"

    def reference(self, x: Array, table: Array, y: Array) -> None:
        y[...] = self.compute(x, table, self.axis)

    def source(self) -> str:
        shape = self.x.shape
        inner, extent = int(np.prod(shape[self.axis + 1:])), shape[self.axis]
        place = f"line * {extent}" if inner == 1 else f"(line / {inner} * {extent * inner} + line % {inner})"
        return fill("""
            static void {name}({pointers})
            {
                for (int32_t line = 0; line < {lines}; line++) {
                    {line}
                }
            }
        """, pointers=self.pointers(), lines=int(np.prod(shape[:self.axis])) * inner,
                    line=self.each_line(self.element("x"), "y", place, extent, inner))


@final
class SoftmaxRowsS8(_Softmax, RowKernel, opname="k.softmax_rows_s8"):
    """k.softmax_s8 for a span of rows, along the columns or the channels."""

    rings: ClassVar[tuple[str, ...]] = ("x", "y")

    x: Value                               # [1, ring, W, C], i8 or u8
    table: Value                           # [256] f32, or u32: their encodings
    y: Written                             # [1, ring, W, C]
    axis: int                              # 2 or 3
    steps: float
    zero: int
    arithmetic: Arithmetic
    rows: tuple[int, int]
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return f"softmax_rows_s8_{self.x.type.dtype}"

    def reference(self, x: Array, table: Array, y: Array) -> None:
        self.write_rows("y", y, self.compute(self.read_rows("x", x)[0], table, self.axis))

    def arguments(self) -> tuple[Argument, ...]:
        return (self.x, self.table, self.y, *self.row_arguments())

    def source(self) -> str:
        width, channels = self.y.shape[2:]
        extent, step, lines = (channels, 1, width) if self.axis == 3 else (width, channels, channels)
        place = f"line * {channels}" if self.axis == 3 else "line"
        return fill("""
            static void {name}(const {xt} *x, const {kind} *restrict table, {yt} *y, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const {xt} *x_row = {x_row};
                    {yt} *y_row = y + {y_slot} * {pitch};
                    for (int32_t line = 0; line < {lines}; line++) {
                        {line}
                    }
                }
            }
        """, xt=c_type(self.x.type.dtype), yt=c_type(self.y.type.dtype), kind=c_type(self.table.type.dtype),
            rows=self.row_parameters(), setup=self.row_setup(), x_row=self.address("x", "row"),
            y_slot=self.slot("y", "row"), pitch=self.pitch("y"), lines=lines,
            line=self.each_line("x_row", "y_row", place, extent, step))


def encoded(value: float) -> int:
    """The IEEE 754 encoding of the float32 next to `value`."""
    return int(np.asarray(value, np.float32).view(np.uint32))


@lowers(QSoftmax)
def lower_softmax(op: QSoftmax, low: Lowering) -> None:
    """The table for this scale and size, and a remark where onnxruntime's rounding of 1 / scale costs accuracy."""
    qx, qy = quant_of(op.x), quant_of(op.out)
    axis = normal_axis(op.axis, op.x.type.rank)
    table = softmax_table(qx.scale, op.x.shape[axis])
    exact = np.float32(1.0) / np.float32(qy.scale)
    steps = float(np.floor(exact))
    if steps != float(exact):
        low.remark(f"{op.opname}: as in onnxruntime, shares are counted in {steps:g} steps of the scale "
                   f"1/{float(exact):.6g}: a scale of 1/256 would be exact")
    integer = low.integer_only
    const = low.const(f"{op.out.name}.exponentials", table.view(np.uint32) if integer else table)
    low.emit(SoftmaxS8(low.buffer(op.x), const, low.result(op.out), axis, steps, qy.zero_point,
                       "integer" if integer else "float"))


@row_form(SoftmaxS8)
def softmax_rows(kernel: SoftmaxS8, low: Lowering) -> list[Op]:
    height = low.source.out.shape[1]
    return SoftmaxRowsS8(kernel.x, kernel.table, kernel.y, kernel.axis, kernel.steps, kernel.zero, kernel.arithmetic,
                         (0, height), height).paced(low.pace)


streams(QSoftmax)
