"""Depthwise convolutions of stored 8-bit integers on Cortex-M with DSP.

    k.depthwise_conv2d_dsp(%x, @w.stream) -> (%y, %planes) {kernel = [3, 3], guard = 8, shift = 12, ...}

Some rows of four channels at a time become planes of 16-bit values in scratch memory, padding included, from which the
rows of the result are computed channel by channel (`dsp_planes`). The last four channels may overlap those before.
Outside the image values are the zero point of x, whose part in the sums is in the biases.
"""

from __future__ import annotations

from typing import ClassVar, final

import numpy as np

from tinyir.geometry import Span, window_input_span, window_output_extent
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering
from tinyir.opdef import Written
from tinyir.ops.conv import convolve_depthwise
from tinyir.ops.qconv import QDepthwiseConv2D
from tinyir.ops.quant import quant_of
from tinyir.types import U32, BufferType

from ..text import c_type, fill
from .base import RowKernel
from .dsp_pack import Plan, Scalings, offset_of, plan_layer, stored_values
from .dsp_planes import PIXELS, plane_pitch, weight_words
from .taps import RowTaps, clipped_pad, factor

__all__ = ["DepthwiseDsp", "lower_depthwise_dsp"]

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]
_CHANNELS = 4
_PLANE_BYTES = 4096
"""Four planes together take about that much: more rows at a time are unpacked less often."""


@final
class DepthwiseDsp(RowKernel, opname="k.depthwise_conv2d_dsp"):
    """y[n, i, j, c] = stored(bias[c] + sum of x times weight over the window), x its zero point outside the image."""

    batched: ClassVar[tuple[str, ...]] = ("x", "y")

    x: Value                                # [N, ring, W, C] i8 or u8
    stream: Value                           # [C, words] u32: see dsp_planes
    y: Written                              # [N, ring, OW, C] i8 or u8
    planes: Written                         # [words] u32: some rows of four channels
    kernel: Pair
    stride: Pair
    pad: Quad                               # top, left, bottom, right
    x_zero: int
    y_zero: int
    guard: int                              # sums are kept times two to this power
    shift: int
    band: int                               # rows of y that are computed at a time
    rows: Pair
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return f"depthwise_conv2d_dsp_{self.x.type.dtype}"

    @property
    def taps(self) -> RowTaps:
        return RowTaps(self.height, self.out_height(), self.kernel[0], self.stride[0], 1, self.pad[0])

    def out_height(self) -> int:
        return window_output_extent(self.height, self.kernel[0], self.stride[0], 1, (self.pad[0], self.pad[2]))

    def input_rows(self, rows: Pair) -> Pair:
        return window_input_span(Span(*rows), self.kernel[0], self.stride[0], 1, self.pad[0], self.height)

    def first_row(self) -> str:
        return self.taps.first_row()

    def macs(self) -> int:
        rows = self.rows[1] - self.rows[0]
        return self.x.shape[0] * rows * self.y.shape[2] * self.y.shape[3] * self.kernel[0] * self.kernel[1]

    def reference(self, x: Array, stream: Array, y: Array, planes: Array) -> None:
        weight, bias, scalings = _unpack(stream, self.kernel, self.stride[1], self.guard)
        bias = bias + (self.x_zero - offset_of(self.x)) * weight.astype(np.int64).sum(axis=(0, 1))
        rows, _ = self.read_rows("x", x)
        pad = clipped_pad(self.rows, self.taps, self.pad)
        sums = convolve_depthwise(rows.astype(np.float64) - self.x_zero, weight.astype(np.float64), self.stride, pad,
                                  (1, 1))
        self.write_rows("y", y, stored_values(sums.astype(np.int64) + bias, scalings,
                                              (self.y_zero, self.y.type.dtype), self.shift, self.guard))

    def source(self) -> str:
        taps, (_, _, width, channels) = self.taps, self.x.shape
        pitch = plane_pitch(self.y.shape[2], self.kernel[1], self.stride[1])
        inside = " && ".join(["line >= 0"] * taps.clipped_above + [f"line < {taps.extent}"] * taps.clipped_below)
        place = f"{self.address('x', 'line')} + c"
        band = 1 if self.is_ring("y") else self.band
        return fill("""
            static void {name}(const {xt} *restrict x, const uint32_t *restrict stream, {yt} *restrict y,
                uint32_t *restrict planes, {row_parameters})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row += {band}) {
                    {count}
                    {yt} *out = y + {slot} * {length};
                    for (int32_t next = 0; next < {channels}; next += 4) {
                        const int32_t c = {first};
                        for (int32_t k = 0; k < {lines}; k++) {
                            const int32_t line = {top} + k;
                            tc_planes_{kind}({place}, {channels}, {width}, {before}, {columns},
                                planes + k * {pitch}, {apart}, 0x{zero}u);
                        }
                        for (int32_t i = next - c; i < 4; i++) {
                            tc_plane_rows_{variant}(planes + i * {apart}, stream + (c + i) * {words}, out + c + i,
                                {channels}, {outputs}, rows, {pitch_bytes});
                        }
                    }
                }
            }
        """, xt=c_type(self.x.type.dtype), yt=c_type(self.y.type.dtype), row_parameters=self.row_parameters(),
                    setup=self.row_setup(), band=band, count=_rows_of(band),
                    first="next" if channels % 4 == 0 else f"next + 4 <= {channels} ? next : {channels - 4}",
                    length=self.y.shape[2] * channels,
                    slot=factor(self.slot("y", "row")), channels=channels, lines=self._lines("rows", band),
                    top=f"row * {taps.stride} - {taps.pad}", kind=self.x.type.dtype,
                    place=f"{inside} ? {place} : NULL" if inside else place, width=width, before=self.pad[1],
                    columns=2 * pitch, pitch=pitch, apart=pitch * self._plane_rows,
                    zero=f"{self.x_zero & 0xFF:02X}" * 4,
                    variant=f"{self.kernel[0]}x{self.kernel[1]}_{self.stride[1]}_{self.y.type.dtype}_{self.shift}",
                    words=self.stream.shape[1], outputs=self.y.shape[2], pitch_bytes=4 * pitch)

    @property
    def _plane_rows(self) -> int:
        return (self.band - 1) * self.stride[0] + self.kernel[0]

    def _lines(self, rows: str, band: int) -> str:
        """C expression for the rows of the planes that `rows` rows of y take."""
        if band == 1:
            return str(self.kernel[0])
        less = self.kernel[0] - self.stride[0]
        scaled = rows if self.stride[0] == 1 else f"{rows} * {self.stride[0]}"
        return f"{scaled} {'+' if less >= 0 else '-'} {abs(less)}" if less else scaled


def _rows_of(band: int) -> str:
    if band == 1:
        return "const int32_t rows = 1;"
    return f"const int32_t rows = row_end - row < {band} ? row_end - row : {band};"


def _pack(plan: Plan, kernel: Pair, stride: int, start: Array) -> Array:
    """The stream [C, words] u32; `start` [C] has the biases with the zero point of x in them."""
    channels = len(plan.weight)
    weight = (plan.weight.astype(np.int64) << plan.guard).astype(np.int16).reshape(channels, *kernel)
    words = weight_words(weight, stride).reshape(channels, -1)
    bias = (start << plan.guard).astype(np.int32).view(np.uint32)
    return np.concatenate([bias[:, None], words, plan.scalings.multiplier[:, None], plan.scalings.rounding[:, None]],
                          axis=1)


def _unpack(stream: Array, kernel: Pair, stride: int, guard: int) -> tuple[Array, Array, Scalings]:
    """Weights [KH, KW, C], biases and scalings."""
    words = np.ascontiguousarray(stream[:, 1:-2]).reshape(len(stream), kernel[0], -1)
    even = np.ascontiguousarray(words[:, :, :-(-kernel[1] // 2)]).view(np.int16)[:, :, :kernel[1]]
    bias = stream[:, 0].astype(np.uint32).view(np.int32).astype(np.int64) >> guard
    scalings = Scalings(np.ascontiguousarray(stream[:, -2]), np.ascontiguousarray(stream[:, -1]))
    return np.moveaxis(even >> guard, 0, -1), bias, scalings


def _pays(op: QDepthwiseConv2D) -> bool:
    """Whether whole steps of outputs leave the kernel faster than the portable one: about 1.9 instructions for each tap
    and step, against about 3.2.
    """
    width = op.out.shape[2]
    return 1.9 * (-(-width // PIXELS) * PIXELS) <= 3.2 * width


def lower_depthwise_dsp(op: QDepthwiseConv2D, weight: Array, bias: Array | None, low: Lowering) -> bool:
    """Compute `op` with `weight` [KH, KW, C] (differences from the zero point) and `bias` [C], if the target has the
    instructions, they do, and it pays; whether it did.
    """
    channels, strides = op.x.shape[3], op.stride
    fits = weight.shape[2] == channels and channels >= _CHANNELS and op.dilation == (1, 1) and weight.size
    if not fits or strides[0] != strides[1] or strides[1] not in (1, 2) or not 2 <= op.kernel[1] <= 7 or not _pays(op):
        return False
    flat = np.ascontiguousarray(weight.reshape(-1, channels).T)
    plan = plan_layer(op, (op.x, op.weight), flat, bias, low, halves=True)
    if plan is None:
        return False
    zero = quant_of(op.x).zero_point
    start = plan.bias - (zero - offset_of(op.x)) * plan.weight.astype(np.int64).sum(axis=1)
    height, width = op.out.shape[1:3]
    pitch = plane_pitch(width, op.kernel[1], strides[1])
    band = max(1, min(height, (_PLANE_BYTES // (4 * _CHANNELS * pitch) - op.kernel[0]) // strides[0] + 1))
    words = _CHANNELS * pitch * ((band - 1) * strides[0] + op.kernel[0])
    low.emit(DepthwiseDsp(
        low.buffer(op.x), low.const(f"{op.weight.name}.stream", _pack(plan, op.kernel, strides[1], start)),
        low.result(op.out), low.scratch(BufferType((words,), U32), f"{op.out.name}.planes"), kernel=op.kernel,
        stride=strides, pad=op.pad, x_zero=zero, y_zero=quant_of(op.out).zero_point, guard=plan.guard,
        shift=plan.shift, band=band, rows=(0, height), height=op.x.shape[1]))
    return True
