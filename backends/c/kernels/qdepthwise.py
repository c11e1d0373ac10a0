"""Depthwise convolutions of stored 8-bit integers.

    k.depthwise_conv2d_s8(%x, @w, @b, @w.multiplier, @w.rounding) -> (%y) {stride = [1, 1], shift = 38, ...}

computes blocks of neighbouring output columns of one channel, so that each weight is loaded once for the block and
each input once for all the taps that meet it:

    for (int32_t ky = 0; ky < 3; ky++) {                          a 3x3 window, two columns a block
        const int32_t w0 = wk[0], w1 = wk[32], w2 = wk[64];
        const int32_t x0 = xs[0], x1 = xs[32], x2 = xs[64], x3 = xs[96];
        a0 += x0 * w0 + x1 * w1 + x2 * w2;
        a1 += x1 * w0 + x2 * w1 + x3 * w2;
    }

The bias has what the zero point of x adds over all taps; for taps outside the image, where x is that zero point, the
kernel adds the weights times it.
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.ops.conv import convolve_depthwise
from tinyir.ops.qconv import QDepthwiseConv2D
from tinyir.ops.quant import quant_of

from ..text import fill
from .blocking import Columns, Strip, block_sizes, strips
from .dsp_depthwise import lower_depthwise_dsp
from .mve_depthwise import lower_depthwise_mve
from .qrequant import stored_from_sums, sum_range
from .qsums import StoresSums, differences, elements, packed, sum_fields, wraps_around
from .qtile import plus
from .taps import clipped_pad, factor
from .window import WindowKernel

__all__ = ["DepthwiseS8"]

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]


@final
class DepthwiseS8(StoresSums, WindowKernel, opname="k.depthwise_conv2d_s8"):
    """y[n, i, j, o] = stored(bias[o] + sum of x times weight over the window), channel o // multiplier of x.

    Outside the image x is `x_zero`.
    """

    x: Value                                # [N, ring, W, C] i8 or u8
    weight: Value                           # [KH, KW, C * multiplier] i8, or i16 where zero points ask for it
    bias: Value                             # [C * multiplier] i32
    multiplier: Value | None                # [C * multiplier] i32
    rounding: Value | None                  # [C * multiplier] i64
    y: Written                              # [N, ring, OW, C * multiplier]
    stride: Pair
    pad: Quad                               # top, left, bottom, right
    dilation: Pair
    x_zero: int
    common: tuple[int, int]
    shift: int
    zero: int
    clamp: Pair | None
    emulated: bool
    wraps: bool
    pixels: int                             # columns of a block
    rows: Pair
    height: int
    x_base: int = 0
    y_base: int = 0

    @property
    def kernel(self) -> Pair:
        """Height and width of the window."""
        return self.weight.shape[0], self.weight.shape[1]

    @property
    def row_dilation(self) -> int:
        return self.dilation[0]

    @property
    def columns(self) -> Columns:
        return Columns(self.x.shape[2], self.y.shape[2], self.kernel[1], self.stride[1], self.dilation[1], self.pad[1])

    @property
    def fanout(self) -> int:
        """Output channels of an input channel."""
        return self.weight.shape[2] // self.x.shape[3]

    def macs(self) -> int:
        rows = self.rows[1] - self.rows[0]
        return self.x.shape[0] * rows * self.y.shape[2] * self.weight.type.elements

    def reference(self, x: Array, weight: Array, bias: Array, multiplier: Array | None, rounding: Array | None,
                  y: Array) -> None:
        rows, _ = self.read_rows("x", x)
        wide, pad = weight.astype(np.float64), clipped_pad(self.rows, self.taps, self.pad)
        sums = convolve_depthwise(rows.astype(np.float64) - self.x_zero, wide, self.stride, pad, self.dilation)
        sums += self.x_zero * wide.sum(axis=(0, 1))
        self.write_rows("y", y, self.finish(sums.astype(np.int64) + bias, multiplier, rounding))

    @property
    def _sum_type(self) -> str:
        return "uint32_t" if self.wraps else "int32_t"

    @property
    def _clipped(self) -> bool:
        return self.taps.clipped_above or self.taps.clipped_below

    def source(self) -> str:
        return fill("""
            static void {name}({pointers}, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    {yt} *y_row = y + {slot} * {length};
                    {lines}
                    {strips}
                }
            }
        """, pointers=self.pointers(), rows=self.row_parameters(), setup=self.row_setup(),
                    slot=factor(self.slot("y", "row")), length=self.pitch("y"),
                    lines=self._lines_text(), **self.kinds,
                    strips="".join(map(self._strip_text, strips(self.columns, self.pixels))))

    def _lines_text(self) -> str:
        """`lines`: the input rows of the taps, NULL outside the image."""
        if self.x_zero == 0 and not any(s.segments for s in strips(self.columns, self.pixels)):
            return "(void)x;\n(void)weight;"
        taps, kernel = self.taps, self.kernel[0]
        top = f"row * {taps.stride}" if taps.stride > 1 else "row"
        step = f"ky * {taps.dilation}" if taps.dilation > 1 else "ky"
        place = self.address("x", "line")
        inside = " && ".join(["line >= 0"] * taps.clipped_above + [f"line < {taps.extent}"] * taps.clipped_below)
        return fill("""
            const {xt} *lines[{kernel}];
            for (int32_t ky = 0; ky < {kernel}; ky++) {
                const int32_t line = {top}{pad} + {step};
                lines[ky] = {place};
            }
        """, kernel=kernel, top=top, step=step, pad=plus(-taps.pad),
                    place=f"{inside} ? {place} : NULL" if inside else place, **self.kinds)

    def _strip_text(self, strip: Strip) -> str:
        looped = strip.blocks > 1
        opening = f"for (int32_t column = {strip.first}; column < {strip.end}; column += {strip.pixels}) {{" if looped \
            else f"{{   /* columns {strip.first} to {strip.end - 1} */"
        outputs = self.y.shape[3]
        place = f" + column * {outputs}" if looped else plus(strip.first * outputs)
        return fill("""
            {opening}
                {yt} *out = y_row{place};
                {channels}
            }
        """, opening=opening, place=place, channels=self._channel_loop(strip), **self.kinds)

    def _channel_loop(self, strip: Strip) -> str:
        body = self._channel_text(strip)
        if self.fanout == 1:
            return fill("""
                for (int32_t c = 0; c < {channels}; c++) {
                    {body}
                }
            """, channels=self.x.shape[3], body=body)
        return fill("""
            for (int32_t c = 0; c < {channels}; c++) {
                for (int32_t o = c * {fanout}; o < (c + 1) * {fanout}; o++) {
                    {body}
                }
            }
        """, channels=self.x.shape[3], fanout=self.fanout, body=body)

    def _channel_text(self, strip: Strip) -> str:
        """One block of columns of one output channel."""
        o = "c" if self.fanout == 1 else "o"
        start = ", ".join(f"a{p} = {'(uint32_t)' if self.wraps else ''}bias[{o}]" for p in range(strip.pixels))
        stores = "\n".join(f"out[{o}{plus(p * self.y.shape[3])}] = {self._stored(p, o)};" for p in range(strip.pixels))
        return fill("""
            {kind} {start};
            {window}
            {stores}
        """, kind=self._sum_type, start=start, window=self._window_text(strip, o), stores=stores)

    def _window_text(self, strip: Strip, channel: str) -> str:
        row = self._row_text(strip)
        return row and fill("""
            {unroll}
            for (int32_t ky = 0; ky < {kernel}; ky++) {
                const {wt} *wk = weight + ky * {line} + {channel};
                {row}
            }
        """, unroll="#pragma GCC unroll 3" if self.kernel[0] <= 3 else "", kernel=self.kernel[0],
                           line=self.kernel[1] * self.weight.shape[2], channel=channel, row=row, **self.kinds)

    def _stored(self, pixel: int, channel: str) -> str:
        return self.store(f"(int32_t)a{pixel}" if self.wraps else f"a{pixel}", channel)

    def _row_text(self, strip: Strip) -> str:
        """One row of the window: weights, what is outside, inputs, products."""
        first = 0 if strip.blocks > 1 else strip.first
        reached = self._reached(strip)
        outside = self._missing_taps(strip.pixels, reached) if self.x_zero else ""
        every = outside or (self.x_zero and self._clipped)
        named = range(self.kernel[1]) if every else sorted({tap for tap, _ in reached})
        if not named:
            return ""
        weights = ", ".join(f"w{t} = wk[{t * self.weight.shape[2]}]" for t in named)
        return fill("""
            const int32_t {weights};
            {skip}
            {outside}
            {inside}
        """, weights=weights, skip=self._skip_text(strip.pixels), outside=outside,
                    inside=self._products(reached, first, strip))

    def _reached(self, strip: Strip) -> list[Pair]:
        """The pairs (tap, pixel of the block) that lie inside the image."""
        return [(tap, pixel) for segment in strip.segments for tap in range(*segment.taps)
                for pixel in range(*segment.pixels)]

    def _skip_text(self, pixels: int) -> str:
        """What a row of the window outside the image adds."""
        if not self._clipped:
            return ""
        if self.x_zero == 0:
            return "if (lines[ky] == NULL) {\n    continue;\n}"
        total = " + ".join(f"w{t}" for t in range(self.kernel[1]))
        added = self._cast(f"{self.x_zero} * ({total})")
        return fill("""
            if (lines[ky] == NULL) {
                {sums}
                continue;
            }
        """, sums="\n".join(f"a{p} += {added};" for p in range(pixels)))

    def _missing_taps(self, pixels: int, reached: list[Pair]) -> str:
        """What the taps left and right of the image add."""
        lines = []
        for pixel in range(pixels):
            missing = [t for t in range(self.kernel[1]) if (t, pixel) not in reached]
            if missing:
                total = " + ".join(f"w{t}" for t in missing)
                lines.append(f"a{pixel} += {self._cast(f'{self.x_zero} * ({total})')};")
        return "\n".join(lines)

    def _products(self, reached: list[Pair], first: int, strip: Strip) -> str:
        if not reached:
            return ""
        channels = self.x.shape[3]
        sources = {(t, p): self.columns.source(t, first + p) for t, p in reached}
        names = {column: f"x{i}" for i, column in enumerate(sorted(set(sources.values())))}
        inputs = ", ".join(f"{name} = xs[{column * channels}]" for column, name in names.items())
        column = f" + column * {self.stride[1] * channels}" if strip.blocks > 1 else ""
        sums = []
        for pixel in range(strip.pixels):
            terms = [f"{names[sources[t, p]]} * w{t}" for t, p in reached if p == pixel]
            if terms:
                sums.append(f"a{pixel} += {self._cast(' + '.join(terms))};")
        return fill("""
            const {xt} *xs = lines[ky]{column} + c;
            const int32_t {inputs};
            {sums}
        """, column=column, inputs=inputs, sums="\n".join(sums), **self.kinds)

    def _cast(self, expression: str) -> str:
        return f"(uint32_t)({expression})" if self.wraps else expression


def choose_columns(width: int, kernel: int, stride: int) -> int:
    """Columns of a block: the fewest loads and multiplications for a row, where a second size of block is a second
    piece of code and has to be worth a few percent.
    """
    def cost(pixels: int) -> float:
        sizes = block_sizes(width, pixels)
        return sum(2 * kernel + stride * size + kernel * size for size in sizes) * (1 + 0.04 * len(set(sizes)))

    return min(range(1, 5), key=lambda p: (cost(p), p))


@lowers(QDepthwiseConv2D)
def lower_depthwise(op: QDepthwiseConv2D, low: Lowering) -> None:
    """Fold the zero points, prove the requantisation and compute all rows."""
    weight = differences(op.weight, op)
    bias = None if op.bias is None else elements(op.bias, op)
    if lower_depthwise_mve(op, weight, bias, low) or lower_depthwise_dsp(op, weight, bias, low):
        return
    zero, outputs = quant_of(op.x).zero_point, weight.shape[2]
    flat = weight.reshape(-1, outputs).T
    stored = stored_from_sums(op, (op.x, op.weight), op.clamp, sum_range(op.x.type.dtype, zero, flat, bias), low)
    folded = np.asarray((0 if bias is None else bias.astype(np.int64)) - zero * flat.astype(np.int64).sum(axis=1))
    height, width = op.out.shape[1:3]
    low.emit(DepthwiseS8(
        low.buffer(op.x), *packed(op.weight.name, weight, folded, low),
        y=low.result(op.out), stride=op.stride, pad=op.pad, dilation=op.dilation, x_zero=zero,
        wraps=wraps_around(op.x, flat, folded), pixels=choose_columns(width, op.kernel[1], op.stride[1]),
        rows=(0, height), height=op.x.shape[1], **sum_fields(stored)))
