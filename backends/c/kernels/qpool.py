"""Average pools of stored 8-bit integers with windows smaller than the image, as onnxruntime computes them.

    k.avg_pool_s8(%x, @reals) -> (%y) {kernel = [3, 3], stride = [2, 2], y_scale = 0.02, zero = 3, arithmetic = float}

The real values of the elements come from a table, f32(scale * (x - zero)), are summed in raster order in single
precision, divided by the count and by the scale of y. There is no multiplication, so no compiler can fuse one with an
addition. Padding adds zeros, so it is skipped. With arithmetic = integer the same operations are done with integers.
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir.arith import qlinear_average
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.ops.qeltwise import QAvgPool
from tinyir.ops.quant import quant_of
from tinyir.ops.window import pad_rows_columns, windows
from tinyir.types import Quant

from ..text import c_float, c_type, fill
from .qborder import row_reach
from .qsoftmax import Arithmetic, encoded
from .taps import RowTaps, clipped_pad, factor
from .window import WindowKernel

__all__ = ["AvgPoolS8"]

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]


@final
class AvgPoolS8(WindowKernel, opname="k.avg_pool_s8"):
    """y = saturate(rint(f32(f32(f32(sum of reals / count) / y_scale) + zero)))."""

    x: Value                               # [N, ring, W, C] i8 or u8
    reals: Value                           # [256], by the byte of x: f32, or u32, their encodings
    y: Written                             # [N, ring, OW, C]
    kernel: Pair
    stride: Pair
    pad: Quad                              # top, left, bottom, right
    count_include_pad: bool
    x_zero: int
    x_scale: float
    y_scale: float
    zero: int
    arithmetic: Arithmetic
    rows: Pair
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return f"avg_pool_s8_{self.x.type.dtype}"

    @property
    def across(self) -> RowTaps:
        """The same for columns."""
        return RowTaps(self.x.shape[2], self.y.shape[2], self.kernel[1], self.stride[1], 1, self.pad[1])

    def reference(self, x: Array, reals: Array, y: Array) -> None:
        pad = clipped_pad(self.rows, self.taps, self.pad)
        padded = pad_rows_columns(self.read_rows("x", x)[0], pad, self.x_zero)
        view = windows(padded, self.kernel, self.stride, (1, 1))
        counts = np.broadcast_to(self._counts()[None, :, :, None], view.shape[:4])
        self.write_rows("y", y, qlinear_average(
            view.reshape(*view.shape[:4], -1), counts, Quant((self.x_scale,), (self.x_zero,)),
            Quant((self.y_scale,), (self.zero,)), self.y.type.dtype))

    def _counts(self) -> Array:
        """The divisors of the rows that are computed, [rows, OW]."""
        down = [row_reach(self.taps, row) for row in range(*self.rows)]
        across = [row_reach(self.across, column) for column in range(self.y.shape[2])]
        if self.count_include_pad:
            return np.full((len(down), len(across)), self.kernel[0] * self.kernel[1])
        return np.outer([end - begin for begin, end in down], [end - begin for begin, end in across])

    def source(self) -> str:
        channels = self.x.shape[3]
        kind, start, add, result = self._arithmetic()
        return fill("""
            static void {name}(const {xt} *restrict x, const {kind} *restrict reals, {yt} *restrict y, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    {taps}
                    {yt} *out = y + {slot} * {length};
                    for (int32_t column = 0; column < {columns}; column++) {
                        {across}
                        {count}
                        for (int32_t c = 0; c < {channels}; c++) {
                            {kind} total = {start};
                            for (int32_t ky = {ky_begin}; ky < {ky_end}; ky++) {
                                const {xt} *in = {x_row} + left * {channels} + c;
                                for (int32_t kx = {kx_begin}; kx < {kx_end}; kx++) {
                                    total = {add};
                                }
                            }
                            out[column * {channels} + c] = ({yt}){result};
                        }
                    }
                }
            }
        """, xt=c_type(self.x.type.dtype), yt=c_type(self.y.type.dtype), kind=kind, start=start, add=add,
                    result=result, rows=self.row_parameters(), setup=self.row_setup(), taps=self.taps.declare(),
                    across=_columns(self.across.declare()), count=self._count_text(), channels=channels,
                    slot=factor(self.slot("y", "row")), length=self.pitch("y"), columns=self.y.shape[2],
                    ky_begin=self.taps.begin, ky_end=self.taps.end, kx_begin=_columns(self.across.begin),
                    kx_end=_columns(self.across.end), x_row=self.address("x", self.taps.row("ky")))

    def _count_text(self) -> str:
        if not self._counted:
            return ""
        down = f"({self.taps.end} - {self.taps.begin})"
        return f"const int32_t count = {down} * ({_columns(self.across.end)} - {_columns(self.across.begin)});"

    @property
    def _counted(self) -> bool:
        """Whether the divisor depends on the place."""
        return not self.count_include_pad and any(t.clipped_above or t.clipped_below for t in (self.taps, self.across))

    def _arithmetic(self) -> tuple[str, str, str, str]:
        """The C type of the table, the start of a sum, one step of it, and a result."""
        value = f"reals[(uint8_t)in[kx * {self.x.shape[3]}]]"
        low, high = self.y.type.dtype.range
        whole = self.kernel[0] * self.kernel[1]
        if self.arithmetic == "float":
            count = "(float)count" if self._counted else c_float(whole)
            stored = f"total / {count} / {c_float(self.y_scale)} + {c_float(self.zero)}"
            return "float", "0.0f", f"total + {value}", f"tc_quantized({stored}, 0, {low}, {high})"
        count = "tc_soft_count(count)" if self._counted else f"0x{encoded(whole):08X}u"
        mean = f"tc_soft_divide(tc_soft_divide(total, {count}), 0x{encoded(self.y_scale):08X}u)"
        stored = f"tc_soft_add({mean}, 0x{encoded(self.zero):08X}u)"
        return "uint32_t", "0u", f"tc_soft_add(total, {value})", f"tc_soft_quantized({stored}, 0, {low}, {high})"


def _columns(text: str) -> str:
    """The C of `RowTaps`, about columns."""
    for row, column in (("ky_", "kx_"), ("top", "left"), ("row", "column")):
        text = text.replace(row, column)
    return text


@lowers(QAvgPool)
def lower_avg_pool(op: QAvgPool, low: Lowering) -> None:
    """The table of real values, and all rows."""
    qx, qy = quant_of(op.x), quant_of(op.out)
    every = np.arange(256).astype(np.uint8).view(op.x.type.dtype.numpy).astype(np.int32)
    reals = np.float32(qx.scale) * (every - qx.zero_point).astype(np.float32)
    integer = low.integer_only
    const = low.const(f"{op.x.name}.reals", reals.view(np.uint32) if integer else reals)
    low.emit(AvgPoolS8(
        low.buffer(op.x), const, low.result(op.out), op.kernel, op.stride, op.pad, op.count_include_pad,
        qx.zero_point, qx.scale, qy.scale, qy.zero_point, "integer" if integer else "float",
        rows=(0, op.out.shape[1]), height=op.x.shape[1]))
