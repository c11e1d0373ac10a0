"""Depthwise convolutions of stored 8-bit integers on Cortex-M with DSP.

    k.depthwise_conv2d_dsp(%x, @w.stream) -> (%y, %planes) {kernel = [3, 3], guard = 8, shift = 12, band = 4, ...}

Some rows of four channels at a time become planes of 16-bit values in scratch memory, padding included, from which a
band of rows of the result is computed channel by channel (`dsp_planes`). 3x3 windows that go through few rows at a
time, through narrow ones, or with stride 2, are computed row by row from groups of three rows instead (`dsp_triples`,
band 0). The last four channels may overlap those before. Outside the image values are the zero point of x, whose part
in the sums is in the biases.
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering
from tinyir.opdef import Tiling, Written
from tinyir.ops.conv import convolve_depthwise
from tinyir.ops.qconv import QDepthwiseConv2D
from tinyir.ops.quant import quant_of
from tinyir.types import U32, BufferType

from ..text import c_type, fill
from .dsp_pack import Plan, Scalings, plan_layer, stored_values
from .dsp_planes import PIXELS, plane_pitch, weight_words
from .dsp_triples import groups_of, split_triples, triple_words
from .taps import clipped_pad, factor
from .window import WindowKernel

__all__ = ["DepthwiseDsp", "lower_depthwise_dsp"]

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]
_CHANNELS = 4
_PLANE_BYTES = 4096
"""Four planes together take about that much: more rows at a time are unpacked less often."""
_LEAST_BAND = 3
"""Rows for which planes of 3x3 windows pay, where rows are whole steps of results."""


@final
class DepthwiseDsp(WindowKernel, opname="k.depthwise_conv2d_dsp"):
    """y[n, i, j, c] = stored(bias[c] + sum of x times weight over the window), x its zero point outside the image."""

    x: Value                                # [N, ring, W, C] i8 or u8
    stream: Value                           # [C, words] u32: see dsp_planes
    y: Written                              # [N, ring, OW, C] i8 or u8
    planes: Written                         # [words] u32: some rows, or groups of three, of four channels
    kernel: Pair
    stride: Pair
    pad: Quad                               # top, left, bottom, right
    x_zero: int
    y_zero: int
    guard: int                              # sums are kept times two to this power
    shift: int
    band: int                               # rows of y that are computed at a time from planes; 0: from groups
    rows: Pair
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return f"depthwise_conv2d_dsp_{self.x.type.dtype}"

    def macs(self) -> int:
        rows = self.rows[1] - self.rows[0]
        return self.x.shape[0] * rows * self.y.shape[2] * self.y.shape[3] * self.kernel[0] * self.kernel[1]

    def reference(self, x: Array, stream: Array, y: Array, planes: Array) -> None:
        weight, bias, scalings = _unpack(stream, self.kernel, self.guard, groups=self.band == 0)
        bias = bias + self.x_zero * weight.astype(np.int64).sum(axis=(0, 1))
        rows, _ = self.read_rows("x", x)
        pad = clipped_pad(self.rows, self.taps, self.pad)
        sums = convolve_depthwise(rows.astype(np.float64) - self.x_zero, weight.astype(np.float64), self.stride, pad,
                                  (1, 1))
        self.write_rows("y", y, stored_values(sums.astype(np.int64) + bias, scalings,
                                              (self.y_zero, self.y.type.dtype), self.shift, self.guard))

    def source(self) -> str:
        return self._planes_text() if self.band else self._groups_text()

    def dimensions(self) -> dict[str, int]:
        height, width, outputs = self.height, self.x.shape[2], self.y.shape[2]
        found = {"side": width} if height == width == outputs else {}
        found |= {"length": self.pitch("x")} if self.pitch("x") == self.pitch("y") else {}
        found |= {"channels": self.x.shape[3], "height": height, "width": width, "outputs": outputs,
                  "in_length": self.pitch("x"), "out_length": self.pitch("y"), "in_ring": self.ring("x"),
                  "out_ring": self.ring("y")}
        if self.band:
            pitch = plane_pitch(outputs, self.kernel[1], self.stride[1])
            return {**found, "band": self.band, "pitch": pitch, "apart": pitch * self._plane_rows}
        groups = groups_of(outputs, self.stride[1])
        return {**found, "count": groups, "apart": 3 * groups}

    def _common(self) -> dict[str, object]:
        """What both texts are filled with."""
        taps, (_, _, width, channels) = self.taps, self.x.shape
        inside = ["line >= 0"] * taps.clipped_above + [f"line < {taps.extent}"] * taps.clipped_below
        return {"xt": c_type(self.x.type.dtype), "yt": c_type(self.y.type.dtype), "kind": self.x.type.dtype,
                "row_parameters": self.row_parameters(), "setup": self.row_setup(), "width": width,
                "channels": channels, "before": self.pad[1], "zero": f"{self.x_zero & 0xFF:02X}" * 4,
                "inside": " && ".join(inside), "top": f"row * {taps.stride} - {taps.pad}",
                "words": self.stream.shape[1],
                "outputs": self.y.shape[2],
                "first": f"next + 4 <= {channels} ? next : {channels} - 4",
                "length": self.pitch("y"), "slot": factor(self.slot("y", "row"))}

    def _groups_text(self) -> str:
        common, place = self._common(), f"(const uint8_t *)({self.address('x', 'line')})"
        variant = f"{self.stride[1]}_{self.y.type.dtype}_{self.shift}"
        groups = groups_of(self.y.shape[2], self.stride[1])
        return fill("""
            static void {name}(const {xt} *restrict x, const uint32_t *restrict stream, {yt} *restrict y,
                uint32_t *restrict groups, {row_parameters})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const uint8_t *lines[3];
                    for (int32_t k = 0; k < 3; k++) {
                        const int32_t line = {top} + k;
                        lines[k] = {place};
                    }
                    {yt} *out = y + {slot} * {length};
                    for (int32_t next = 0; next < {channels}; next += 4) {
                        const int32_t c = {first};
                        tc_triples_{kind}(lines, c, {channels}, {width}, {before}, {count}, groups, {apart}, 0x{zero}u);
                        tc_triple_row_{variant}(groups + (next - c) * {apart}, stream + next * {words}, out + next,
                            {channels}, {outputs}, {apart}, 4 - (next - c));
                    }
                }
            }
        """, place=f"{common['inside']} ? {place} : NULL" if common["inside"] else place, variant=variant, count=groups,
                    apart=3 * groups, **common)

    def _planes_text(self) -> str:
        common, place = self._common(), f"{self.address('x', 'line')} + c"
        pitch = plane_pitch(self.y.shape[2], self.kernel[1], self.stride[1])
        return fill("""
            static void {name}(const {xt} *restrict x, const uint32_t *restrict stream, {yt} *restrict y,
                uint32_t *restrict planes, {row_parameters})
            {
                {setup}
                for (int32_t row = row_begin, rows = 0; row < row_end; row += rows) {
                    const int32_t slot = {slot};
                    {rows}
                    {yt} *out = y + slot * {length};
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
        """, rows=self._band_text(), lines=self._lines("rows"),
                    place=f"{common['inside']} ? {place} : NULL" if common["inside"] else place,
                    columns=f"2 * {pitch}", pitch=pitch, apart=pitch * self._plane_rows,
                    variant=f"{self.kernel[0]}x{self.kernel[1]}_{self.stride[1]}_{self.y.type.dtype}_{self.shift}",
                    pitch_bytes=f"4 * {pitch}", **common)

    def _band_text(self) -> str:
        """C statements for the rows of a band."""
        if self.band == 1 or self._is_apart("y"):
            return "rows = 1;"
        text = f"rows = row_end - row < {self.band} ? row_end - row : {self.band};"
        if self.is_parted("y"):
            text += f"\nrows = rows < {self.ring('y')} - slot ? rows : {self.ring('y')} - slot;"
        return text

    def tilings(self) -> tuple[Tiling, ...]:
        pitch = plane_pitch(self.y.shape[2], self.kernel[1], self.stride[1])
        bands = [self.band >> halved for halved in range(self.band.bit_length())]
        return tuple(Tiling({"band": band}, "planes", _plane_words(band, pitch, self.kernel[0], self.stride[0]))
                     for band in bands)

    @property
    def _plane_rows(self) -> int:
        return (self.band - 1) * self.stride[0] + self.kernel[0]

    def _lines(self, rows: str) -> str:
        """C expression for the rows of the planes that `rows` rows of y take."""
        if self.band == 1:
            return str(self.kernel[0])
        less = self.kernel[0] - self.stride[0]
        scaled = rows if self.stride[0] == 1 else f"{rows} * {self.stride[0]}"
        return f"{scaled} {'+' if less >= 0 else '-'} {abs(less)}" if less else scaled


def _pack(plan: Plan, kernel: Pair, stride: int, zero: int, *, groups: bool) -> Array:
    """The stream [C, words] u32: with `groups` weights, biases and scalings, else biases in front; biases have the zero
    point of x in them.
    """
    channels = len(plan.weight)
    weight = (plan.weight.astype(np.int64) << plan.guard).astype(np.int16).reshape(channels, *kernel)
    start = (plan.bias - zero * plan.weight.astype(np.int64).sum(axis=1)) << plan.guard
    bias = start.astype(np.int32).view(np.uint32)[:, None]
    parts = [triple_words(weight, stride), bias] if groups else \
        [bias, weight_words(weight, stride).reshape(channels, -1)]
    return np.concatenate([*parts, plan.scalings.multiplier[:, None], plan.scalings.rounding[:, None]], axis=1)


def _unpack(stream: Array, kernel: Pair, guard: int, *, groups: bool) -> tuple[Array, Array, Scalings]:
    """Weights [KH, KW, C], biases and scalings."""
    if groups:
        start, weight = stream[:, -3], split_triples(stream[:, :-3])
    else:
        words = np.ascontiguousarray(stream[:, 1:-2]).reshape(len(stream), kernel[0], -1)
        start = stream[:, 0]
        weight = np.ascontiguousarray(words[:, :, :-(-kernel[1] // 2)]).view(np.int16)[:, :, :kernel[1]]
    bias = start.astype(np.uint32).view(np.int32).astype(np.int64) >> guard
    scalings = Scalings(np.ascontiguousarray(stream[:, -2]), np.ascontiguousarray(stream[:, -1]))
    return np.moveaxis(weight >> guard, 0, -1), bias, scalings


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
    fits = weight.shape[2] == channels and low.channels_of(op.x) >= _CHANNELS and op.dilation == (1, 1) and weight.size
    if not fits or strides[0] != strides[1] or strides[1] not in (1, 2) or not 2 <= op.kernel[1] <= 7 or not _pays(op):
        return False
    flat = np.ascontiguousarray(weight.reshape(-1, channels).T)
    plan = plan_layer(op, (op.x, op.weight), flat, bias, low, halves=True)
    if plan is None:
        return False
    height, width = op.out.shape[1:3]
    groups = op.kernel == (3, 3) and max(op.pad) <= 1
    band, words = _band(op.kernel, strides[0], width, low.rows_of_call(height), groups=groups)
    zero = quant_of(op.x).zero_point
    stream = _pack(plan, op.kernel, strides[1], zero, groups=band == 0)
    low.emit(DepthwiseDsp(
        low.buffer(op.x), low.const(f"{op.weight.name}.stream", stream), low.result(op.out),
        low.scratch(BufferType((words,), U32), f"{op.out.name}.planes"), kernel=op.kernel, stride=strides, pad=op.pad,
        x_zero=zero, y_zero=quant_of(op.out).zero_point, guard=plan.guard, shift=plan.shift, band=band,
        rows=(0, height), height=op.x.shape[1]))
    return True


def _band(kernel: Pair, stride: int, width: int, rows: int, *, groups: bool) -> Pair:
    """Rows of the result for which planes are made at a time, where calls compute `rows` of them, 0 if groups, which
    the window allows for, are made instead; and the words of scratch.
    """
    if groups and (stride == 2 or rows < _LEAST_BAND or width % PIXELS in (1, 2)):
        return 0, _CHANNELS * 3 * groups_of(width, stride)
    pitch = plane_pitch(width, kernel[1], stride)
    band = max(1, min(rows, (_PLANE_BYTES // (4 * _CHANNELS * pitch) - kernel[0]) // stride + 1))
    return band, _plane_words(band, pitch, kernel[0], stride)


def _plane_words(band: int, pitch: int, taps: int, stride: int) -> int:
    return _CHANNELS * pitch * ((band - 1) * stride + taps)
