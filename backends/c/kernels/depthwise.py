"""Depthwise convolutions of float NHWC tensors: each output channel is a window over one input channel.

    k.depthwise_conv2d_f32(%x, @w, @b) -> (%y) {stride = [1, 1], pad = [1, 1, 1, 1], form = scalar, pixels = 5, ...}

A block of neighbouring pixels of a channel (or of a vector of channels) keeps its sums in registers; each input is
loaded once a window row and used for all the taps that reach it. Taps in the padding are left out of the text. Where
the whole window lies inside, its rows are written out, else a loop runs over those that do.
"""

from __future__ import annotations

from itertools import groupby
from typing import final

import numpy as np

from tinyir.ir import Array, Const, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.ops.activation import Activation
from tinyir.ops.conv import DepthwiseConv2D

from ..text import fill
from .base import evaluate
from .blocking import Columns, Form, Strip, block_sizes, form_of, pack_weights, strips
from .channels import Packed, Place, by_form, channel_loops, kernel_comment, plus
from .taps import clipped_pad, factor
from .tile import Tile
from .weights import elements, packed_bias, require_f32, reshaped
from .window import WindowKernel

__all__ = ["DepthwiseF32", "channel_block"]

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]
_WRITTEN_OUT = 9   # taps of the largest window whose rows are written out


@final
class DepthwiseF32(WindowKernel, opname="k.depthwise_conv2d_f32"):
    """y[n, i, j, o] = act(bias[o] + sum over the window of x[.., o // multiplier] * weight[.., o])."""

    x: Value                                # [N, ring, W, C]
    weight: Value                           # [blocks, KH, KW, block]
    bias: Value                             # [O]
    y: Written                              # [N, ring, OW, O]
    stride: Pair
    pad: Quad                               # top, left, bottom, right
    dilation: Pair
    act: Activation
    act_args: tuple[float, ...]
    form: Form
    pixels: int                             # of a block
    fma: bool
    rows: Pair
    height: int
    x_base: int = 0
    y_base: int = 0

    @property
    def kernel(self) -> Pair:
        """Height and width of the window."""
        return self.weight.shape[1], self.weight.shape[2]

    @property
    def multiplier(self) -> int:
        """Output channels for each input channel."""
        return self.y.shape[3] // self.x.shape[3]

    @property
    def packed(self) -> Packed:
        return Packed(self.y.shape[3], self.weight.shape[3], self.kernel[0] * self.kernel[1])

    @property
    def row_dilation(self) -> int:
        return self.dilation[0]

    @property
    def columns(self) -> Columns:
        return Columns(self.x.shape[2], self.y.shape[2], self.kernel[1], self.stride[1], self.dilation[1], self.pad[1])

    def macs(self) -> int:
        rows = self.rows[1] - self.rows[0]
        return self.x.shape[0] * rows * self.y.shape[2] * self.y.shape[3] * self.packed.size

    def reference(self, x: Array, weight: Array, bias: Array, y: Array) -> None:
        rows, _ = self.read_rows("x", x)
        plain = np.moveaxis(weight, 0, 2).reshape(*self.kernel, y.shape[3])
        values = evaluate(DepthwiseConv2D, rows, plain, bias, stride=self.stride,
                          pad=clipped_pad(self.rows, self.taps, self.pad), dilation=self.dilation, act=self.act,
                          act_args=self.act_args)
        self.write_rows("y", y, values)

    def source(self) -> str:
        return by_form(self.form if _vector_block(self.weight.shape[3]) else "scalar", self._text)

    def _text(self, vector: bool) -> str:
        block = self.weight.shape[3]
        kind = f"tc_vec{_vector_block(block)}" if vector else "float"
        tile = Tile(self.pixels, 1, block, kind, fma=self.fma and not vector)
        return fill("""
            {comment}
            static void {name}(const float *restrict x, const float *restrict weight, const float *restrict bias,
                float *restrict y, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    {taps}
                    {lines}
                    float *y_row = y + {slot} * {outputs};
                    {body}
                }
            }
        """, comment=kernel_comment("depthwise convolution", self.kernel, self.stride, (self.x.shape, self.y.shape),
                                    self.act, tile),
                    rows=self.row_parameters(), setup=self.row_setup(), taps=self.taps.declare(),
                    lines=self.declare_lines("x", self.taps),
                    slot=factor(self.slot("y", "row")), outputs=self.pitch("y"),
                    body=self._columns_text(tile))

    def _columns_text(self, tile: Tile) -> str:
        """All columns of an output row: neighbouring strips that are written out are so together."""
        groups = groupby(strips(self.columns, tile.pixels), self._is_written_out)
        return "".join(self._group_text(tile, list(group), written_out) for written_out, group in groups)

    def _is_written_out(self, strip: Strip) -> bool:
        """Whether the strip pays for text of its own for windows that lie inside."""
        rare = strip.blocks == 1 and 6 * strip.pixels <= self.columns.outputs
        return self.packed.size <= _WRITTEN_OUT and bool(strip.segments) and not rare

    def _group_text(self, tile: Tile, group: list[Strip], written_out: bool) -> str:
        looped = "".join(self._strip_text(tile, strip, False) for strip in group)
        if not written_out:
            return looped
        whole = self._input_rows() + "".join(self._strip_text(tile, strip, True) for strip in group)
        if not self.taps.whole:
            return fill("""
                {
                    {whole}
                }
            """, whole=whole)
        return fill("""
            if ({condition}) {
                {whole}
            } else {
                {looped}
            }
        """, condition=self.taps.whole, whole=whole, looped=looped)

    def _input_rows(self) -> str:
        """Declarations: x0, x1, ... are the input rows of the window."""
        rows = [self.line("x", self.taps, str(ky)) if self.is_ring("x")
                else self.address("x", f"top{plus(ky * self.dilation[0])}") for ky in range(self.kernel[0])]
        return "".join(f"const float *x{ky} = {row};\n" for ky, row in enumerate(rows))

    def _strip_text(self, tile: Tile, strip: Strip, whole: bool) -> str:
        outputs = self.y.shape[3]
        looped = strip.blocks > 1
        opening = f"for (int32_t column = {strip.first}; column < {strip.end}; column += {strip.pixels}) {{" if looped \
            else f"{{   /* columns {strip.first} to {strip.end - 1} */"
        origin = f"y_row + column * {outputs}" if looped else f"y_row{plus(strip.first * outputs)}"
        return fill("""
            {opening}
                {loops}
            }
        """, opening=opening, loops=channel_loops(self.packed, tile, Place("weight", "bias", origin),
                                                  lambda place: self._block_text(tile, strip, place, whole)))

    def _block_text(self, tile: Tile, strip: Strip, place: Place, whole: bool) -> str:
        """One block of pixels of one channel, or vector of channels."""
        return fill("""
            {start}
            {window}
            {stores}
        """, start=tile.start(strip.pixels, place.bias),
                    window=self._window_text(tile, strip, place, whole),
                    stores=tile.finish(strip.pixels, place.y, self.y.shape[3], self.act, self.act_args, ""))

    def _window_text(self, tile: Tile, strip: Strip, place: Place, whole: bool) -> str:
        if not strip.segments:
            return f"(void){place.weight};   /* in the padding, all of it */"
        window = self._window_whole if whole else self._window_loop
        return f"{self._declare(tile, strip)}\n{window(tile, strip, place)}"

    def _declare(self, tile: Tile, strip: Strip) -> str:
        names = ", ".join(["v", *(f"w{kx}" for kx in _reached(self._uses(strip)))])
        return f"{tile.kind} {names};"

    def _window_whole(self, tile: Tile, strip: Strip, place: Place) -> str:
        lines = [f"const float *in{ky} = x{ky}{self._within(strip, place)};" for ky in range(self.kernel[0])]
        for ky in range(self.kernel[0]):
            lines.append(self._taps_text(tile, strip, f"in{ky}", place.weight, ky * self.kernel[1] * tile.block))
        return "\n".join(lines)

    def _window_loop(self, tile: Tile, strip: Strip, place: Place) -> str:
        return self.taps.loop(fill("""
            const float *in = {line}{within};
            const float *ws = {weight} + ky * {size};
            {taps}
        """, line=self.line("x", self.taps, "ky"),
                                   within=self._within(strip, place), weight=place.weight,
                                   size=self.kernel[1] * tile.block,
                                   taps=self._taps_text(tile, strip, "in", "ws", 0)))

    def _within(self, strip: Strip, place: Place) -> str:
        """What to add to the start of an input row to come to the input column and channel of the block."""
        channel = "" if place.channel == "0" else f" + {place.channel}"
        if channel and self.multiplier > 1:
            grouped = f"({place.channel})" if " " in place.channel else place.channel
            channel = f" + {grouped} / {self.multiplier}"
        step = self.stride[1] * self.x.shape[3]
        column = f" + column * {step}" if strip.blocks > 1 else plus(strip.first * step)
        return column + channel

    def _taps_text(self, tile: Tile, strip: Strip, x: str, w: str, first: int) -> str:
        """One window row: every weight and every input is loaded once."""
        uses = self._uses(strip)
        lines = [" ".join(f"w{kx} = {tile.load(w, first + kx * tile.block)};" for kx in _reached(uses))]
        for column in sorted(uses):
            sums = " ".join(tile.multiply(tile.total(p), f"w{kx}") for p, kx in uses[column])
            lines.append(f"v = {tile.load(x, column * self.x.shape[3])}; {sums}")
        return "\n".join(lines)

    def _uses(self, strip: Strip) -> dict[int, list[Pair]]:
        """For each input column, counted from that of the block's first pixel, the pixels and taps that use it."""
        uses: dict[int, list[Pair]] = {}
        for segment in strip.segments:
            for kx in range(*segment.taps):
                for p in range(*segment.pixels):
                    uses.setdefault(self.columns.source(kx, p), []).append((p, kx))
        return uses


def _reached(uses: dict[int, list[Pair]]) -> list[int]:
    """The taps that some pixel of the block uses."""
    return sorted({kx for pairs in uses.values() for _, kx in pairs})


def _vector_block(block: int) -> int:
    """The vector type that a block of channels is made of: a divisor, or 0."""
    return next((b for b in (16, 8, 4) if block % b == 0), 0)


def channel_block(channels: int, multiplier: int, form: Form) -> int:
    """Channels of a packed block: whole vectors, or one after the other."""
    return _vector_block(channels) or 1 if form != "scalar" and multiplier == 1 else 1


# Instructions for a 3x3 window with that many pixels in a block, each multiply-accumulate, counted on a Cortex-M4.
_COST = {1: 3.6, 2: 2.9, 3: 2.6, 4: 2.45, 5: 2.35, 6: 2.3}


def choose_block(width: int, kernel_width: int, registers: int) -> int:
    """Pixels of a block: as many as the registers hold beside a row of weights and an input."""
    most = max(1, min(6, max(registers, 8) - kernel_width - 2))

    def cost(pixels: int) -> float:
        sizes = block_sizes(width, pixels)
        return sum(size * _COST[size] for size in sizes) * (1 + 0.04 * (len(set(sizes)) - 1))

    return min(range(1, most + 1), key=lambda p: (cost(p), p))


@lowers(DepthwiseConv2D)
def lower_depthwise(op: DepthwiseConv2D, low: Lowering) -> None:
    """Pack the weights for the target and compute all rows."""
    require_f32(op)
    form, registers = form_of(low.target), low.target.float_registers
    height, width, outputs = op.out.shape[1:]
    block = channel_block(op.x.shape[3], op.multiplier, form)
    if isinstance(op.weight, Const):
        packed = pack_weights(np.moveaxis(elements(op.weight, low), 2, 0), 1, block)
        weight: Value = low.const(op.weight.name, packed)
    else:
        weight = reshaped(low.buffer(op.weight), (1, *op.weight.shape), low)
    low.emit(DepthwiseF32(
        low.buffer(op.x), weight, packed_bias(op.bias, 1, outputs, 1, op.weight.name, low), low.result(op.out),
        stride=op.stride, pad=op.pad, dilation=op.dilation, act=op.act, act_args=op.act_args, form=form,
        pixels=choose_block(width, op.kernel[1], registers), fma=low.target.fma, rows=(0, height),
        height=op.x.shape[1]))
