"""Softmax of stored 8-bit integers, as onnxruntime computes it: a table of 256 exponentials, a sum in single precision.

    k.softmax_s8(%x, @table) -> (%y) {axis = 1, steps = 256.0, zero = -128, arithmetic = float}

The C has no multiplication in front of an addition, so no compiler can fuse the two. With arithmetic = integer the same
single-precision operations are done with integers (`tc_soft_*`), for cores without an FPU.
"""

from __future__ import annotations

from typing import Literal, final

import numpy as np

from tinyir.arith import saturate, softmax_table
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.ops.base import normal_axis
from tinyir.ops.qeltwise import QSoftmax
from tinyir.ops.quant import quant_of

from ..text import c_float, c_type, fill
from .eltwise import Pointwise

__all__ = ["Arithmetic", "SoftmaxS8", "encoded"]

Arithmetic = Literal["float", "integer"]


@final
class SoftmaxS8(Pointwise, opname="k.softmax_s8"):
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

    def reuses(self) -> tuple[int, ...]:
        return (0,) if self.x.type.dtype == self.y.type.dtype else ()

    def reference(self, x: Array, table: Array, y: Array) -> None:
        values = table.view(np.float32)
        wide = np.moveaxis(x, self.axis, -1).astype(np.int32)
        terms = values[255 - (wide.max(axis=-1, keepdims=True) - wide)]
        total = np.cumsum(terms, axis=-1, dtype=np.float32)[..., -1:]
        with np.errstate(over="ignore"):
            stored = np.rint(terms * np.float32(self.steps) / total).astype(np.float64) + self.zero
        y[...] = np.moveaxis(saturate(stored, self.y.type.dtype), -1, self.axis)

    def source(self) -> str:
        shape = self.x.shape
        inner, extent = int(np.prod(shape[self.axis + 1:])), shape[self.axis]
        kind, start, add, result = self._arithmetic()
        return fill("""
            static void {name}({pointers})
            {
                for (int32_t line = 0; line < {lines}; line++) {
                    const {xt} *from = {x} + {place};
                    {yt} *to = y + {place};
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
                }
            }
        """, pointers=self.pointers(), x=self.element("x"), xt=c_type(self.x.type.dtype),
                    yt=c_type(self.y.type.dtype), kind=kind, start=start, add=add, result=result, extent=extent,
                    lines=int(np.prod(shape[:self.axis])) * inner, k="k" if inner == 1 else f"k * {inner}",
                    place=f"line * {extent}" if inner == 1 else
                    f"(line / {inner} * {extent * inner} + line % {inner})")

    def _arithmetic(self) -> tuple[str, str, str, str]:
        """The C type of the table, the start of a sum, one step of it, and a result."""
        inner = int(np.prod(self.x.shape[self.axis + 1:]))
        term = f"exponentials[from[{'k' if inner == 1 else f'k * {inner}'}]]"
        low, high = self.y.type.dtype.range
        if self.arithmetic == "float":
            share = f"{term} * {c_float(self.steps)} / sum"
            return "float", "0.0f", f"sum + {term}", f"tc_quantized({share}, {self.zero}, {low}, {high})"
        share = f"tc_soft_divide(tc_soft_multiply({term}, 0x{encoded(self.steps):08X}u), sum)"
        return "uint32_t", "0u", f"tc_soft_add(sum, {term})", f"tc_soft_quantized({share}, {self.zero}, {low}, {high})"


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
