"""Convolutions of stored 8-bit integers.

    k.conv2d_s8(%x, @w, @b, @w.multiplier, @w.rounding) -> (%y) {stride = [1, 1], pad = [1, 1, 1, 1], shift = 38, ...}

computes blocks of output pixels by output channels (`qtile`) in int32. The weights are [O, KH, KW, C / groups] with
their zero point subtracted; the zero point of x is in the biases (`qborder`), or subtracted from every input. Taps
outside the image are not multiplied. A 1x1 window with stride 1 sees the rows as one run of pixels.
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.ops.conv import convolve
from tinyir.ops.qconv import QConv2D
from tinyir.ops.quant import quant_of

from ..text import fill
from .blocking import Columns, Strip, strips
from .dsp_conv import lower_conv2d_dsp
from .dsp_winograd import lower_conv2d_winograd
from .mve_conv import lower_conv2d_mve
from .qborder import Cases, border_bias, cases_of, row_reach, worth_folding
from .qrequant import stored_from_sums, sum_range
from .qruns import lane_loops, pixel_blocks, row_runs
from .qsums import StoresSums, differences, elements, packed, sum_fields, wraps_around
from .qtile import SumTile, plus
from .swar_conv import lower_conv2d_swar
from .taps import RowTaps, clipped_pad, factor
from .window import WindowKernel

__all__ = ["ConvS8", "choose_lanes", "choose_pixels"]

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]


@final
class ConvS8(StoresSums, WindowKernel, opname="k.conv2d_s8"):
    """y[n, i, j, o] = stored(bias[case, o] + sum of (x - x_zero) times weight over the window and the group)."""

    x: Value                                # [N, ring, W, C] i8 or u8
    weight: Value                           # [O, KH, KW, C / groups] i8, or i16 where zero points ask for it
    bias: Value                             # [cases, O] i32
    multiplier: Value | None                # [O] i32
    rounding: Value | None                  # [O] i64
    y: Written                              # [N, ring, OW, O]
    stride: Pair
    pad: Quad                               # top, left, bottom, right
    dilation: Pair
    x_zero: int                             # subtracted from x; 0 where the biases have it
    common: tuple[int, int]
    shift: int
    zero: int
    clamp: Pair | None
    emulated: bool
    wraps: bool
    pixels: int                             # of a block
    lanes: int                              # output channels of a block
    rows: Pair
    height: int
    x_base: int = 0
    y_base: int = 0

    @property
    def kernel(self) -> Pair:
        """Height and width of the window."""
        return self.weight.shape[1], self.weight.shape[2]

    @property
    def groups(self) -> int:
        return self.x.shape[3] // self.weight.shape[3]

    @property
    def row_dilation(self) -> int:
        return self.dilation[0]

    @property
    def columns(self) -> Columns:
        return Columns(self.x.shape[2], self.y.shape[2], self.kernel[1], self.stride[1], self.dilation[1], self.pad[1])

    @property
    def cases(self) -> Cases | None:
        """The border cases that the biases distinguish, None if they do not."""
        return cases_of(self.taps, self.columns) if self.bias.shape[0] > 1 else None

    @property
    def pointwise(self) -> bool:
        """Whether output pixel i reads input pixel i and nothing else."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and not any(self.pad) and self.groups == 1

    def macs(self) -> int:
        rows = self.rows[1] - self.rows[0]
        size = int(np.prod(self.weight.shape[1:]))
        return self.x.shape[0] * rows * self.y.shape[2] * self.y.shape[3] * size

    def reference(self, x: Array, weight: Array, bias: Array, multiplier: Array | None, rounding: Array | None,
                  y: Array) -> None:
        rows, _ = self.read_rows("x", x)
        pad = clipped_pad(self.rows, self.taps, self.pad)
        sums = convolve(rows.astype(np.float64) - self.x_zero, weight.astype(np.float64), self.stride, pad,
                        self.dilation, self.groups).astype(np.int64)
        self.write_rows("y", y, self.finish(sums + self._biases(bias), multiplier, rounding))

    def _biases(self, bias: Array) -> Array:
        """The bias of each result, [rows, OW or 1, O] or [1, O]."""
        cases = self.cases
        if cases is None:
            return bias
        reaches = [row_reach(self.taps, row) for row in range(*self.rows)]
        table = bias.reshape(len(cases.rows), len(cases.columns), -1)
        columns = [cases.column(self.columns, column) for column in range(self.y.shape[2])]
        return np.asarray(table[[cases.rows.index(r) for r in reaches]][:, columns])

    def tile(self, lanes: int) -> SumTile:
        size = int(np.prod(self.weight.shape[1:]))
        return SumTile(self.pixels, lanes, size, self.x.type.dtype, self.x_zero, self.wraps)

    def source(self) -> str:
        body = self._run_text() if self.pointwise else self._window_text()
        return fill("""
            static void {name}({pointers}, {rows})
            {
                {body}
            }
        """, pointers=self.pointers(), rows=self.row_parameters(), body=body)

    # -- a window ----------------------------------------------------------------------------------------------------

    def _window_text(self) -> str:
        reads = any(strip.segments for strip in strips(self.columns, self.pixels))
        return fill("""
            {setup}
            {unused}
            for (int32_t row = row_begin; row < row_end; row++) {
                {taps}
                {biases}
                {yt} *y_row = y + {slot} * {length};
                {loops}
            }
        """, setup=self.row_setup(), unused="" if reads else "(void)x;\n(void)weight;",
                    taps=self.taps.declare() if reads else "", biases=self._bias_text(),
                    slot=factor(self.slot("y", "row")), length=self.pitch("y"),
                    loops=self._group_loop(), **self.kinds)

    def _bias_text(self) -> str:
        cases = self.cases
        if cases is None:
            return ""
        index = factor(cases.row_index(self.taps))
        return f"const int32_t *row_bias = bias + {index} * {len(cases.columns) * self.y.shape[3]};"

    def _group_loop(self) -> str:
        outputs = self.y.shape[3] // self.groups
        loops = lane_loops(outputs, self.lanes, "first" if self.groups > 1 else "", self._block_text)
        if self.groups == 1:
            return loops
        return fill("""
            for (int32_t group = 0; group < {groups}; group++) {
                const int32_t first = group * {outputs};
                {loops}
            }
        """, groups=self.groups, outputs=outputs, loops=loops)

    def _block_text(self, lanes: int) -> str:
        """All columns of a row, for `lanes` channels from `o` on."""
        tile = self.tile(lanes)
        return "".join(self._strip_text(tile, strip) for strip in strips(self.columns, tile.pixels))

    def _strip_text(self, tile: SumTile, strip: Strip) -> str:
        outputs = self.y.shape[3]
        looped = strip.blocks > 1
        opening = f"for (int32_t column = {strip.first}; column < {strip.end}; column += {strip.pixels}) {{" if looped \
            else f"{{   /* columns {strip.first} to {strip.end - 1} */"
        place = f" + column * {outputs}" if looped else plus(strip.first * outputs)
        return fill("""
            {opening}
                {yt} *out = y_row{place} + o;
                {start}
                {window}
                {stores}
            }
        """, opening=opening, place=place, start=self._start_text(tile, strip),
                    window=self.taps.loop(self._window_row_text(tile, strip)) if strip.segments else "",
                    stores=self.store_tile(tile, strip.pixels, "out", outputs, "o"), **self.kinds)

    def _start_text(self, tile: SumTile, strip: Strip) -> str:
        cases = self.cases
        if cases is None:
            return tile.start("bias", [0] * strip.pixels)
        kinds = [cases.column(self.columns, strip.first + pixel) for pixel in range(strip.pixels)]
        return tile.start("row_bias", [kind * self.y.shape[3] for kind in kinds])

    def _window_row_text(self, tile: SumTile, strip: Strip) -> str:
        inputs = self.weight.shape[3]
        return fill("""
            const {xt} *in = {row}{group};
            const {wt} *wk = weight + o * {size} + ky * {line};
            {segments}
        """, row=self.address("x", self.taps.row("ky")),
                    group=f" + group * {inputs}" if self.groups > 1 else "", size=tile.apart,
                    line=self.kernel[1] * inputs, **self.kinds,
                    segments="".join(self._segment_text(tile, strip, s.taps, s.pixels) for s in strip.segments))

    def _segment_text(self, tile: SumTile, strip: Strip, taps: Pair, pixels: Pair) -> str:
        """Taps [begin, end) of one window row for some pixels of the strip's block."""
        channels, inputs = self.x.shape[3], self.weight.shape[3]
        looped = strip.blocks > 1
        step = self.stride[1] * channels
        values = {"column": f" + column * {step}" if looped else "", **self.kinds,
                  "base": plus(self.columns.source(taps[0], pixels[0] + (0 if looped else strip.first)) * channels)}
        if taps[1] - taps[0] == 1 or (self.groups == 1 and self.dilation[1] == 1):
            return fill("""
                {
                    const {xt} *xs = in{column}{base};
                    const {wt} *ws = wk{tap};
                    {inner}
                }
            """, tap=plus(taps[0] * inputs), inner=tile.accumulate(pixels, (taps[1] - taps[0]) * inputs, step),
                        **values)
        return fill("""
            for (int32_t kx = {first}; kx < {end}; kx++) {
                const {xt} *xs = in{column} + (kx - {first}) * {tap_step}{base};
                const {wt} *ws = wk + kx * {inputs};
                {inner}
            }
        """, first=taps[0], end=taps[1], tap_step=self.dilation[1] * channels, inputs=inputs,
                    inner=tile.accumulate(pixels, inputs, step), **values)

    # -- a run of pixels ---------------------------------------------------------------------------------------------

    def _run_text(self) -> str:
        width, inputs, outputs = self.x.shape[2], self.x.shape[3], self.y.shape[3]

        def block(lanes: int) -> str:
            return pixel_blocks(self, self.tile(lanes), "count", width, (inputs, outputs))

        return row_runs(self, width, (inputs, outputs), lane_loops(outputs, self.lanes, "", block))


def choose_lanes(outputs: int) -> int:
    """Output channels of a block: as many as the registers bear, rather fewer than have a rest."""
    return next((lanes for lanes in (4, 3, 2) if outputs % lanes == 0), min(outputs, 4))


def choose_pixels(width: int) -> int:
    """Pixels of a block."""
    return min(2, width)


_INSTEAD = lower_conv2d_mve, lower_conv2d_winograd, lower_conv2d_dsp, lower_conv2d_swar
"""What computes convolutions where the core, and the layer, allow."""


@lowers(QConv2D)
def lower_conv2d(op: QConv2D, low: Lowering) -> None:
    """Fold the zero points, prove the requantisation and compute all rows."""
    height, width, outputs = op.out.shape[1:]
    weight = differences(op.weight, op)
    bias = None if op.bias is None else elements(op.bias, op)
    if any(lower(op, weight, bias, low) for lower in _INSTEAD):
        return
    taps = RowTaps(op.x.shape[1], height, op.kernel[0], op.stride[0], op.dilation[0], op.pad[0])
    columns = Columns(op.x.shape[2], width, op.kernel[1], op.stride[1], op.dilation[1], op.pad[1])
    zero = quant_of(op.x).zero_point
    flat = weight.reshape(outputs, -1)
    stored = stored_from_sums(op, (op.x, op.weight), op.clamp, sum_range(op.x.type.dtype, zero, flat, bias), low)
    biases, left = fold(weight, bias, zero, taps, columns)
    low.emit(ConvS8(
        low.buffer(op.x), *packed(op.weight.name, weight, biases, low),
        y=low.result(op.out), stride=op.stride, pad=op.pad, dilation=op.dilation, x_zero=left,
        wraps=wraps_around(op.x, flat, biases), pixels=choose_pixels(width),
        lanes=choose_lanes(outputs // op.groups), rows=(0, height), height=op.x.shape[1], **sum_fields(stored)))


def fold(weight: Array, bias: Array | None, zero: int, taps: RowTaps, columns: Columns) -> tuple[Array, int]:
    """Biases [cases, O] i64, and what of the zero point is left to subtract from x."""
    cases = cases_of(taps, columns)
    plain = np.zeros(len(weight), np.int64) if bias is None else bias.astype(np.int64)
    if cases.columns == ((0, 0),):  # the window meets padding only
        return plain[None], 0
    if zero == 0 or not worth_folding(cases, zero, weight):
        return plain[None], zero
    return border_bias(weight, bias, zero, cases), 0
