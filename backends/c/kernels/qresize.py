"""Bilinear resizing of stored 8-bit integers, a span of rows, rings on both sides.

    k.resize_s8(%x, @first, @parts, @first, @parts) -> (%y) {parts = [4, 4], form = [...]}      from whole weights
    k.resize_single_s8(%x, .., none) -> (%y) {x_scale = 0.02, y_scale = 0.02, arithmetic = float}

The first is taken where `tinyir.requant_mean` proves it equal to onnxruntime's sum in single precision, for every
input. Else the second does onnxruntime's operations one by one; with arithmetic = integer, for cores without an FPU,
with integers (`tc_soft_*`).
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir.arith import qlinear_mix, saturate
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.ops.qresize import QResize, corner_weights
from tinyir.ops.quant import quant_of
from tinyir.requant_mean import MeanForm, solve_mean
from tinyir.types import Quant

from ..text import c_float, c_type, fill
from .qrequant import requantize_function
from .qsoftmax import Arithmetic, encoded
from .qtile import plus
from .resize import AXES, Bilinear, bilinear_tables

__all__ = ["ResizeS8", "ResizeSingleS8"]

_ORDER = {False: (0, 1, 2, 3), True: (0, 2, 1, 3)}
"""In which pixels are added up: as they are numbered, or rows and columns swapped."""
_PIXELS = ("line0[left + c]", "line0[right + c]", "line1[left + c]", "line1[right + c]")


@final
class ResizeS8(Bilinear, opname="k.resize_s8"):
    """y = clamp((sum of parts * x * multiplier + rounding) >> shift), the parts of a pixel being whole numbers."""

    x: Value                               # [N, ring, W, C] i8 or u8
    row_first: Value                       # [H'] i32
    row_weight: Value                      # [H'] u8, of parts[0]
    column_first: Value                    # [W'] i32
    column_weight: Value                   # [W'] u8, of parts[1]
    y: Written                             # [N, ring, W', C]
    parts: tuple[int, int]
    form: tuple[int, int, int]             # multiplier, rounding, shift
    rows: tuple[int, int]
    height: int
    x_base: int = 0
    y_base: int = 0

    def reference(self, x: Array, row_first: Array, row_weight: Array, column_first: Array, column_weight: Array,
                  y: Array) -> None:
        multiplier, rounding, shift = self.form
        total = np.zeros((), np.int64)
        down, across = (w.astype(np.int64) for w in (row_weight[slice(*self.rows)], column_weight))
        weights = [v[:, None, None] * u[None, :, None] for v in (self.parts[0] - down, down)
                   for u in (self.parts[1] - across, across)]
        for weight, corner in zip(weights, self.corners(x, row_weight, column_weight), strict=True):
            total = total + weight * corner
        self.write_rows("y", y, saturate((total * multiplier + rounding) >> shift, self.y.type.dtype))

    def source(self) -> str:
        multiplier, rounding, shift = self.form
        low, high = self.y.type.dtype.range
        stored = f"{requantize_function(shift)}(total, {multiplier}, INT64_C({rounding - (low << shift)}), {shift}, " \
                 f"{high - low}){plus(low)}"
        return self.pixels(fill("""
            const int32_t w1 = ({rows} - down) * across;
            const int32_t w0 = ({rows} - down) * {columns} - w1;
            const int32_t w3 = down * across;
            const int32_t w2 = down * {columns} - w3;
        """, rows=self.parts[0], columns=self.parts[1]), fill("""
            const int32_t total = {pixel0} * w0 + {pixel1} * w1
                + {pixel2} * w2 + {pixel3} * w3;
            out[c] = ({yt})({stored});
        """, yt=c_type(self.y.type.dtype), stored=stored, **{f"pixel{i}": text for i, text in enumerate(_PIXELS)}))


@final
class ResizeSingleS8(Bilinear, opname="k.resize_single_s8"):
    """y = saturate(rint(f32(sum of f32(weight * f32(x_scale * (x - x_zero))) / y_scale)) + zero), f32 sums in order."""

    x: Value                               # [N, ring, W, C] i8 or u8
    row_first: Value                       # [H'] i32
    row_weight: Value                      # [H'] f32, or u32, their encodings
    column_first: Value                    # [W'] i32
    column_weight: Value                   # [W'] as row_weight
    reals: Value | None                    # [256] u32, by the byte of x: real values, for arithmetic = integer
    y: Written                             # [N, ring, W', C]
    x_scale: float
    x_zero: int
    y_scale: float
    zero: int
    turned: bool                           # as qnn.resize has it
    arithmetic: Arithmetic
    rows: tuple[int, int]
    height: int
    x_base: int = 0
    y_base: int = 0

    def reference(self, x: Array, row_first: Array, row_weight: Array, column_first: Array, column_weight: Array,
                  reals: Array | None, y: Array) -> None:
        weights = corner_weights(row_weight.view(np.float32)[slice(*self.rows)], column_weight.view(np.float32))
        corners, order = self.corners(x, row_weight, column_weight), _ORDER[self.turned]
        self.write_rows("y", y, qlinear_mix(
            [corners[i] for i in order], [weights[i] for i in order], Quant((self.x_scale,), (self.x_zero,)),
            Quant((self.y_scale,), (self.zero,)), self.y.type.dtype))

    def source(self) -> str:
        return self._in_floats() if self.arithmetic == "float" else self._in_integers()

    def _in_floats(self) -> str:
        low, high = self.y.type.dtype.range
        first, *others = (f"tc_rounded(w{i} * ((float)({_PIXELS[i]}{plus(-self.x_zero)}) * {c_float(self.x_scale)}))"
                          for i in _ORDER[self.turned])
        return self.pixels("""
            const float w0 = (1.0f - down) * (1.0f - across);
            const float w1 = (1.0f - down) * across;
            const float w2 = down * (1.0f - across);
            const float w3 = down * across;
        """, "\n".join([
            f"float total = {first};", *(f"total += {term};" for term in others),
            f"const float steps = total / {c_float(self.y_scale)};",
            f"out[c] = ({c_type(self.y.type.dtype)})tc_quantized(steps, {self.zero}, {low}, {high});"]))

    def _in_integers(self) -> str:
        low, high = self.y.type.dtype.range
        first, *others = (f"tc_soft_multiply(w{i}, reals[(uint8_t){_PIXELS[i]}])" for i in _ORDER[self.turned])
        one, scale = (f"0x{encoded(value):08X}u" for value in (1.0, self.y_scale))
        rest = [f"tc_soft_add({one}, {weight} ^ 0x80000000u)" for weight in ("down", "across")]
        return self.pixels(fill("""
            const uint32_t up = {up};
            const uint32_t back = {back};
            const uint32_t w0 = tc_soft_multiply(up, back);
            const uint32_t w1 = tc_soft_multiply(up, across);
            const uint32_t w2 = tc_soft_multiply(down, back);
            const uint32_t w3 = tc_soft_multiply(down, across);
        """, up=rest[0], back=rest[1]), "\n".join([
            f"uint32_t total = {first};", *(f"total = tc_soft_add(total, {term});" for term in others),
            f"const uint32_t steps = tc_soft_divide(total, {scale});",
            f"out[c] = ({c_type(self.y.type.dtype)})tc_soft_quantized(steps, {self.zero}, {low}, {high});"]))


@lowers(QResize)
def lower_resize(op: QResize, low: Lowering) -> None:
    """Prove a form from whole weights, or take single precision."""
    quants, dtypes = (quant_of(op.x), quant_of(op.out)), (op.x.type.dtype, op.out.type.dtype)
    op.require(all(d.bits == 8 for d in dtypes), "x is {}, the result {}, expected 8-bit integers", *dtypes)
    down, across = (op.linear_sources(axis)[2] for axis in AXES)
    form = solve_mean(down, across, quants, dtypes)
    if form is None:
        low.remark(f"{op.opname}: no integer form could be proved, the single-precision sum is computed")
        _lower_single(op, low)
        return
    low.remark(f"{op.opname}: proved for all inputs with weights of {form.row_parts} x {form.column_parts} parts")
    _lower_whole(op, form, low)


def _lower_whole(op: QResize, form: MeanForm, low: Lowering) -> None:
    weights = [whole.astype(np.uint8) for whole in (form.rows, form.columns)]
    row_first, row_weight, column_first, column_weight = bilinear_tables(op, weights, low)
    low.emit(ResizeS8(low.buffer(op.x), row_first, row_weight, column_first, column_weight, low.result(op.out),
                      (form.row_parts, form.column_parts), (form.multiplier, form.rounding, form.shift),
                      (0, op.out.shape[1]), op.x.shape[1]))


def _lower_single(op: QResize, low: Lowering) -> None:
    qx, qy = quant_of(op.x), quant_of(op.out)
    weights, reals = [op.halved_weights(axis) for axis in AXES], None
    if low.integer_only:
        every = np.arange(256).astype(np.uint8).view(op.x.type.dtype.numpy).astype(np.int32)
        real = np.float32(qx.scale) * (every - qx.zero_point).astype(np.float32)
        weights = [weight.view(np.uint32) for weight in weights]
        reals = low.const(f"{op.x.name}.reals", real.view(np.uint32))
    row_first, row_weight, column_first, column_weight = bilinear_tables(op, weights, low)
    low.emit(ResizeSingleS8(
        low.buffer(op.x), row_first, row_weight, column_first, column_weight, reals, low.result(op.out), qx.scale,
        qx.zero_point, qy.scale, qy.zero_point, op.turned, "integer" if low.integer_only else "float",
        (0, op.out.shape[1]), op.x.shape[1]))
