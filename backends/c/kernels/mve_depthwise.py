"""Depthwise convolutions of stored 8-bit integers with vectors of 16 bytes (MVE).

    k.depthwise_conv2d_mve(%x, @w.stream) -> (%y, %columns) {kernel = [3, 3], strip = 16, ...}

A strip of a row at a time, 16 channels at a time: the columns that its windows need are interleaved in scratch memory
(`mve_taps`), padding included, then multiplied. Outside the image values are the zero point of x, whose part in the
sums is in the biases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from tinyir.arith import requantize
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering
from tinyir.opdef import Tiling, Written
from tinyir.ops.conv import convolve_depthwise
from tinyir.ops.qconv import QDepthwiseConv2D
from tinyir.ops.quant import quant_of
from tinyir.types import I8, U32, BufferType

from ..text import fill
from .mve_pack import plan_mve
from .mve_taps import COLUMN, pack_taps, unpack_taps
from .taps import clipped_pad, factor
from .window import WindowKernel

__all__ = ["DepthwiseMve", "lower_depthwise_mve"]

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]
_STRIP = 16
_MOST_TAPS = 8
_MOST_CHANNELS = 16384
"""Offsets of four results have 16 bits."""


@final
class DepthwiseMve(WindowKernel, opname="k.depthwise_conv2d_mve"):
    """y[n, i, j, c] = stored(bias[c] + sum of x times weight over the window), x its zero point outside the image."""

    x: Value                                # [N, ring, W, C] i8
    stream: Value                           # [pairs of channels, words] u32: see mve_taps
    y: Written                              # [N, ring, OW, C] i8
    columns: Written                        # [words] u32
    kernel: Pair
    stride: Pair
    pad: Quad                               # top, left, bottom, right
    x_zero: int
    y_zero: int
    strip: int                              # results of a row that are computed at a time, a multiple of 4
    rows: Pair
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return "depthwise_conv2d_mve"

    def macs(self) -> int:
        rows = self.rows[1] - self.rows[0]
        return self.x.shape[0] * rows * self.y.shape[2] * self.y.shape[3] * self.kernel[0] * self.kernel[1]

    def reference(self, x: Array, stream: Array, y: Array, columns: Array) -> None:
        coded = unpack_taps(stream, self.x.shape[3], self.kernel)
        bias = coded.bias + self.x_zero * coded.weight.astype(np.int64).sum(axis=1)
        weight = np.moveaxis(coded.weight.reshape(-1, *self.kernel), 0, -1)
        rows, _ = self.read_rows("x", x)
        pad = clipped_pad(self.rows, self.taps, self.pad)
        sums = convolve_depthwise(rows.astype(np.float64) - self.x_zero, weight.astype(np.float64), self.stride, pad,
                                  (1, 1))
        self.write_rows("y", y, requantize(sums.astype(np.int64) + bias, coded.scale, self.y_zero, I8))

    def tilings(self) -> tuple[Tiling, ...]:
        strips = [size for size in (self.strip, 8, 4) if size <= self.strip]
        return tuple(Tiling({"strip": size}, "columns", columns_bytes(size, self.kernel, self.stride[1]) // 4)
                     for size in dict.fromkeys(strips))

    def source(self) -> str:
        taps, (_, _, width, channels) = self.taps, self.x.shape
        inside = " && ".join(["line >= 0"] * taps.clipped_above + [f"line < {taps.extent}"] * taps.clipped_below)
        place = self.address("x", "line")
        fours = [-(-size // 4) for size in self.kernel]
        apart = columns_bytes(self.strip, self.kernel, self.stride[1]) // fours[0]
        interleave = "".join(
            f"tc_mve_columns_{min(4, self.kernel[0] - 4 * group)}({plus('lines', 4 * group)}, offset, "
            f"{plus('columns', apart * group)}, edges, {channels} - c);\n" for group in range(fours[0]))
        return fill("""
            static void {name}(const int8_t *restrict x, const uint32_t *restrict stream, int8_t *restrict y,
                uint32_t *restrict words, {rows})
            {
                int8_t *columns = (int8_t *)words;
                static const int32_t shape[3] = {{apart}, {channels}, {y_zero}};
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const int8_t *lines[{taps}];
                    for (int32_t ky = 0; ky < {taps}; ky++) {
                        const int32_t line = row * {stride} - {above} + ky;
                        lines[ky] = {place};
                    }
                    int8_t *out = y + {slot} * {length};
                    for (int32_t column = 0; column < {outputs}; column += {strip}) {
                        {count}
                        const int32_t first = column * {step} - {before};
                        const int32_t needed = (count - 1) * {step} + {window};
                        const int32_t before = first >= 0 ? 0 : -first < needed ? -first : needed;
                        const int32_t over = first + needed - {width};
                        const int32_t behind = over <= 0 ? 0 : over < needed ? over : needed;
                        const int32_t edges[5] = {before, needed - before - behind, behind, {channels}, {x_zero}};
                        for (int32_t next = 0; next < {channels}; next += 16) {
                            const int32_t c = {c};
                            const int32_t offset = (first + before) * {channels} + c;
                            {interleave}
                            const uint32_t *part = stream + next / 2 * {words};
                            int8_t *to = out + column * {channels} + c;
                            {products}
                        }
                    }
                }
            }
        """, rows=self.row_parameters(), apart=apart, channels=channels, y_zero=self.y_zero, setup=self.row_setup(),
                    taps=self.kernel[0], stride=self.stride[0], above=self.pad[0],
                    place=f"{inside} ? {place} : NULL" if inside else place, slot=factor(self.slot("y", "row")),
                    length=self.pitch("y"), outputs=self.y.shape[2], strip=self.strip, count=self._count_text(),
                    step=self.stride[1], before=self.pad[1], window=self.kernel[1], width=width, x_zero=self.x_zero,
                    c=f"next + 1 < {channels} ? next : {channels - 2}" if channels % 16 == 1 else "next",
                    interleave=interleave, words=self.stream.shape[1], products=self._products_text(fours))

    def _products_text(self, fours: Sequence[int]) -> str:
        """C statements for the results of a strip of 16 channels: one or two that are left over, one by one."""
        channels, rest = self.x.shape[3], self.y.shape[2] % 4
        taps = f"tc_mve_taps_{fours[0]}_{fours[1]}_{self.stride[1]}(columns, part, to, shape"
        if rest not in (1, 2) or channels % 8 or fours[0] * fours[1] > 2:
            return f"{taps}, count, {channels} - c);"
        return fill("""
            const int32_t whole = count - count % 4;
            if (whole > 0) {
                {taps}, whole, {channels} - c);
            }
            for (int32_t i = whole; i < count; i++) {
                tc_mve_pixel_{groups}_{fours}(columns + i * {apart}, part, to + i * {channels}, shape, {channels} - c);
            }
        """, taps=taps, channels=channels, groups=fours[0], fours=fours[1], apart=self.stride[1] * COLUMN)

    def _count_text(self) -> str:
        width = self.y.shape[2]
        if width <= self.strip:
            return f"const int32_t count = {width};"
        if width % self.strip == 0:
            return f"const int32_t count = {self.strip};"
        return f"const int32_t count = {width} - column < {self.strip} ? {width} - column : {self.strip};"


def plus(name: str, offset: int) -> str:
    """C expression for so many elements behind a pointer."""
    return f"{name} + {offset}" if offset else name


def columns_bytes(strip: int, kernel: Pair, stride: int) -> int:
    """Bytes of the columns for `strip` results."""
    fours = [-(-size // 4) for size in kernel]
    return fours[0] * ((strip - 1) * stride + 4 * fours[1]) * COLUMN


def _strip(width: int) -> int:
    """Results of a row of `width` that are computed at a time."""
    count = -(-width // (_STRIP + 4))
    return -(-width // (4 * count)) * 4


def lower_depthwise_mve(op: QDepthwiseConv2D, weight: Array, bias: Array | None, low: Lowering) -> bool:
    """Compute `op` with `weight` [KH, KW, C] (differences from the zero point) and `bias` [C], if the target has the
    instructions and they do; whether it did.
    """
    channels = op.x.shape[3]
    if weight.shape[2] != channels or not 2 <= channels <= _MOST_CHANNELS:
        return False
    if op.dilation != (1, 1) or max(op.kernel) > _MOST_TAPS or op.stride[1] > 2:
        return False
    coded = plan_mve(op, (op.x, op.weight), np.ascontiguousarray(weight.reshape(-1, channels).T), bias, low)
    if coded is None:
        return False
    strip = _strip(op.out.shape[2])
    size = columns_bytes(strip, op.kernel, op.stride[1])
    low.emit(DepthwiseMve(
        low.buffer(op.x), low.const(f"{op.weight.name}.stream", pack_taps(coded, op.kernel)), low.result(op.out),
        low.scratch(BufferType((size // 4,), U32), f"{op.out.name}.columns"), kernel=op.kernel, stride=op.stride,
        pad=op.pad, x_zero=quant_of(op.x).zero_point, y_zero=quant_of(op.out).zero_point, strip=strip,
        rows=(0, op.out.shape[1]), height=op.x.shape[1]))
    return True
