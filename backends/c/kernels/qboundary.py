"""Between floats and stored integers, per tensor or with a scale for each index of an axis.

    k.boundary(%x, none, none) -> (%y) {function = quantize, scale = 0.05, zero = 3}
"""

from __future__ import annotations

from typing import Literal, final

import numpy as np

from tinyir.arith import dequantize, quantize
from tinyir.ir import Array, Const, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Op, Written
from tinyir.ops.quant import Dequantize, Quantize, quant_of
from tinyir.types import DType, Quant

from ..text import c_float, c_type, fill
from .base import Kernel

__all__ = ["Boundary"]


@final
class Boundary(Kernel, opname="k.boundary"):
    """quantize: y = saturate(rint(x / scale) + zero), ties to even, the least value for NaN; dequantize:
    y = (x - zero) * scale. `scales` and `zeros` have one element for each index of `axis`.
    """

    x: Value
    scales: Value | None                   # [extent of axis] f32
    zeros: Value | None                    # [extent of axis] i32
    y: Written
    function: Literal["quantize", "dequantize"]
    scale: float = 1.0                     # for all, where there is no operand
    zero: int = 0
    axis: int = 0

    def stem(self) -> str:
        return f"{self.function}_{(self.y if self.function == 'quantize' else self.x).type.dtype}"

    def reference(self, x: Array, scales: Array | None, zeros: Array | None, y: Array) -> None:
        quant = self._quant(scales, zeros)
        if self.function == "dequantize":
            y[...] = dequantize(x, quant)
            return
        known = np.where(np.isnan(x), -np.inf, x)
        y[...] = quantize(known, quant, self.y.type.dtype)

    def _quant(self, scales: Array | None, zeros: Array | None) -> Quant:
        if scales is None:
            return Quant((self.scale,), (self.zero,))
        points = (self.zero,) if zeros is None else tuple(int(z) for z in zeros)
        return Quant(tuple(float(s) for s in scales), points, self.axis)

    def source(self) -> str:
        shape = self.x.shape
        inner, extent = int(np.prod(shape[self.axis + 1:])), shape[self.axis] if shape else 1
        if self.scales is None:
            loop = self.loop(str(self.x.type.elements), "x[i]", "y[i]")
        else:
            loop = fill("""
                for (int32_t outer = 0; outer < {outer}; outer++) {
                    for (int32_t c = 0; c < {extent}; c++) {
                        const {xt} *from = x + (outer * {extent} + c) * {inner};
                        {yt} *to = y + (outer * {extent} + c) * {inner};
                        {loop}
                    }
                }
            """, outer=int(np.prod(shape[:self.axis])), extent=extent, inner=inner, xt=c_type(self.x.type.dtype),
                        yt=c_type(self.y.type.dtype), loop=self.loop(str(inner), "from[i]", "to[i]"))
        return fill("""
            static void {name}({pointers})
            {
                {loop}
            }
        """, pointers=self._pointers(), loop=loop)

    def _pointers(self) -> str:
        parts = [f"const {c_type(self.x.type.dtype)} *restrict x"]
        if self.scales is not None:
            parts.append("const float *restrict scales")
        if self.zeros is not None:
            parts.append("const int32_t *restrict zeros")
        return ", ".join([*parts, f"{c_type(self.y.type.dtype)} *restrict y"])

    def loop(self, count: str, x: str, y: str) -> str:
        """The loop over `count` elements `x` and `y`, counted by i."""
        return fill("""
            for (int32_t i = 0; i < {count}; i++) {
                {y} = {value};
            }
        """, count=count, y=y, value=self._quantized(x) if self.function == "quantize" else self._real(x))

    def _quantized(self, x: str) -> str:
        scale = c_float(self.scale) if self.scales is None else "scales[c]"
        low, high = self.y.type.dtype.range
        return f"({c_type(self.y.type.dtype)})tc_quantized({x} / {scale}, {self._zero()}, {low}, {high})"

    def _real(self, x: str) -> str:
        scale = c_float(self.scale) if self.scales is None else "scales[c]"
        zero = self._zero()
        if zero == "0":
            return f"(float){x} * {scale}"
        wide = "(int64_t)" if self.x.type.dtype.bits == 32 else ""
        return f"(float)({wide}{x} - {zero}) * {scale}"

    def _zero(self) -> str:
        if self.zeros is not None:
            return "zeros[c]"
        return f"({self.zero})" if self.zero < 0 else str(self.zero)


def _parameters(op: Op, quant: Quant, rank: int, low: Lowering) -> tuple[Const | None, Const | None, float, int, int]:
    """Constants for what differs along the axis, else the common scale and zero point; and the axis."""
    if quant.axis is None:
        return None, None, quant.scale, quant.zero_point, 0
    scales = low.const(f"{op.out.name}.scales", np.asarray(quant.scales, np.float32))
    axis = quant.axis % rank
    if len(set(quant.zero_points)) == 1:
        return scales, None, 1.0, quant.zero_points[0], axis
    return scales, low.const(f"{op.out.name}.zeros", np.asarray(quant.zero_points, np.int32)), 1.0, 0, axis


def _require_width(op: Op, dtype: DType) -> None:
    op.require(dtype.bits <= 16, "the stored type is {}, expected 8 or 16 bits", dtype)


@lowers(Quantize)
def lower_quantize(op: Quantize, low: Lowering) -> None:
    """From f32 to 8 or 16 bits."""
    _require_width(op, op.out.type.dtype)
    scales, zeros, scale, zero, axis = _parameters(op, quant_of(op.out), op.x.type.rank, low)
    low.emit(Boundary(low.buffer(op.x), scales, zeros, low.result(op.out), "quantize", scale, zero, axis))


@lowers(Dequantize)
def lower_dequantize(op: Dequantize, low: Lowering) -> None:
    """From 8, 16 or 32 bits to f32."""
    op.require(op.x.type.dtype.bits <= 32, "the stored type is {}, expected up to 32 bits", op.x.type.dtype)
    scales, zeros, scale, zero, axis = _parameters(op, quant_of(op.x), op.x.type.rank, low)
    low.emit(Boundary(low.buffer(op.x), scales, zeros, low.result(op.out), "dequantize", scale, zero, axis))
