"""Transposed convolutions of float NHWC tensors, as sums that each output pixel gathers.

    k.conv_transpose2d_f32(%x, @w, @b) -> (%y) {stride = [2, 2], pad = [1, 1, 1, 1], form = scalar, ...}

With stride s, output columns j, j + s, j + 2s, ... are reached by the same taps: they are one phase, and a phase is a
convolution with stride 1. So blocks of pixels of one phase are computed as in a convolution; rows likewise, one at a
time, each with the taps that reach it. No output is written twice, and rows can be computed in any spans.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from tinyir.geometry import Span, dilated, spread_input_span
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.ops.activation import Activation
from tinyir.ops.conv import ConvTranspose2D

from ..text import fill
from .base import RowKernel, evaluate
from .blocking import Form, SizesOf, block_sizes, choose_pixels, form_of, packed_block, unpack_weights
from .channels import (
    Packed,
    Place,
    by_form,
    channel_loops,
    kernel_comment,
    plus,
    scalar_lanes,
    scalar_tile,
    vector_tile,
)
from .taps import factor
from .tile import Tile
from .weights import packed_bias, packed_weights, require_f32

__all__ = ["ConvTransposeF32"]

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Block:
    """Some pixels of a phase: column `phase + stride * (first + p)`, `blocks` times `pixels` of them."""

    phase: int
    first: int
    blocks: int
    pixels: int
    reached: tuple[tuple[int, int, int], ...]   # tap, and the pixels [begin, end) of a block that it reaches


@final
class ConvTransposeF32(RowKernel, opname="k.conv_transpose2d_f32"):
    """y[n, i, j, o] = act(bias[o] + sum of x[n, r, q, c] * weight[o, ky, kx, c] over all r * sy + ky * dy - top = i,
    q * sx + kx * dx - left = j and the channels of the group).
    """

    batched: ClassVar[tuple[str, ...]] = ("x", "y")

    x: Value                                # [N, ring, W, C]
    weight: Value                           # [groups * blocks, KH, KW, C / groups, block]
    bias: Value                             # [groups * blocks * block]
    y: Written                              # [N, ring, OW, O]
    stride: Pair
    pad: Pair                               # top, left: what is cropped there
    dilation: Pair
    act: Activation
    act_args: tuple[float, ...]
    form: Form
    pixels: int                             # of a block of scalars
    fma: bool
    out_rows: int                           # rows of the true output tensor
    rows: Pair
    height: int
    x_base: int = 0
    y_base: int = 0

    @property
    def kernel(self) -> Pair:
        """Height and width of what one input element spreads over."""
        return self.weight.shape[1], self.weight.shape[2]

    @property
    def groups(self) -> int:
        return self.x.shape[3] // self.weight.shape[3]

    @property
    def packed(self) -> Packed:
        return Packed(self.y.shape[3] // self.groups, self.weight.shape[4], int(np.prod(self.weight.shape[1:4])))

    def out_height(self) -> int:
        return self.out_rows

    def input_rows(self, rows: Pair) -> Pair:
        return spread_input_span(Span(*rows), self.kernel[0], self.stride[0], self.dilation[0], self.pad[0],
                                 self.height)

    def first_row(self) -> str:
        before = dilated(self.kernel[0], self.dilation[0]) - 1 - self.pad[0]
        first = f"(row_begin{plus(self.stride[0] - 1 - before)}) / {self.stride[0]}"
        return f"row_begin < {before} ? 0 : {first}" if before > 0 else first

    def macs(self) -> int:
        rows = self.rows[1] - self.rows[0]
        return self.x.shape[0] * rows * self.y.shape[2] * self.y.shape[3] * self.packed.size // \
            (self.stride[0] * self.stride[1])

    def reference(self, x: Array, weight: Array, bias: Array, y: Array) -> None:
        rows, first = self.read_rows("x", x)
        if not rows.shape[1]:
            rows = np.zeros((x.shape[0], 1, *x.shape[2:]), x.dtype)   # nothing reaches these rows
        plain = unpack_weights(weight, self.groups, y.shape[3])
        offsets = unpack_weights(bias.reshape(-1, weight.shape[-1]), self.groups, y.shape[3])
        begin = self.rows[0] + self.pad[0] - first * self.stride[0], self.pad[1]
        wanted = self.rows[1] - self.rows[0], y.shape[2]
        left_over = [(rows.shape[1 + a] - 1) * self.stride[a] + dilated(self.kernel[a], self.dilation[a]) - begin[a]
                     - wanted[a] for a in (0, 1)]
        values = evaluate(ConvTranspose2D, rows, plain, offsets, stride=self.stride,
                          pad=(*begin, max(left_over[0], 0), max(left_over[1], 0)),
                          output_pad=(max(-left_over[0], 0), max(-left_over[1], 0)), dilation=self.dilation,
                          groups=self.groups, act=self.act, act_args=self.act_args)
        self.write_rows("y", y, values)

    def source(self) -> str:
        return by_form(self.form, self._text)

    def _text(self, vector: bool) -> str:
        sizes = _sizes(self.y.shape[2], self.stride[1])
        tile = vector_tile(self.packed, sizes) if vector else scalar_tile(self.packed, self.pixels, self.fma)
        blocks = self._blocks(tile.pixels)
        loops = channel_loops(self.packed, tile, self._origin(), lambda place: "".join(
            self._block_text(tile, place, block) for block in blocks))
        if self.groups > 1:
            loops = fill("""
                for (int32_t group = 0; group < {groups}; group++) {
                    {loops}
                }
            """, groups=self.groups, loops=loops)
        return fill("""
            {comment}
            static void {name}(const float *restrict x, const float *restrict weight, const float *restrict bias,
                float *restrict y, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    float *y_row = y + {slot} * {outputs};
                    {loops}
                }
            }
        """, comment=kernel_comment("transposed convolution", self.kernel, self.stride,
                                    (self.x.shape, self.y.shape), self.act, tile),
                    rows=self.row_parameters(), setup=self.row_setup(), slot=factor(self.slot("y", "row")),
                    outputs=self.pitch("y"), loops=loops)

    def _origin(self) -> Place:
        if self.groups == 1:
            return Place("weight", "bias", "y_row")
        packed = self.packed
        return Place(f"weight + group * {packed.blocks * packed.block * packed.size}",
                     f"bias + group * {packed.blocks * packed.block}", f"y_row + group * {packed.outputs}")

    def _blocks(self, pixels: int) -> list[_Block]:
        """The columns of every phase in blocks, equal neighbours together."""
        found: list[_Block] = []
        for phase in range(min(self.stride[1], self.y.shape[2])):
            first = 0
            for size in block_sizes(-(-(self.y.shape[2] - phase) // self.stride[1]), pixels):
                found.append(_Block(phase, first, 1, size, self._reached(phase, first, size)))
                first += size
        merged: list[_Block] = []
        for block in found:
            last = merged[-1] if merged else None
            if last and (last.phase, last.pixels, last.reached) == (block.phase, block.pixels, block.reached):
                merged[-1] = _Block(last.phase, last.first, last.blocks + 1, last.pixels, last.reached)
            else:
                merged.append(block)
        return merged

    def _reached(self, phase: int, first: int, count: int) -> tuple[tuple[int, int, int], ...]:
        found = []
        for tap in range(self.kernel[1]):
            if (phase + self.pad[1] - tap * self.dilation[1]) % self.stride[1]:
                continue
            inside = [p for p in range(count) if 0 <= self._source(phase, tap, first + p) < self.x.shape[2]]
            if inside:
                found.append((tap, inside[0], inside[-1] + 1))
        return tuple(found)

    def _source(self, phase: int, tap: int, pixel: int) -> int:
        """The input column that reaches pixel number `pixel` of the phase through `tap`."""
        return pixel + (phase + self.pad[1] - tap * self.dilation[1]) // self.stride[1]

    def _block_text(self, tile: Tile, place: Place, block: _Block) -> str:
        outputs, stride = self.y.shape[3], self.stride[1]
        looped = block.blocks > 1
        last = block.phase + (block.first + block.pixels - 1) * stride
        opening = f"for (int32_t column = {block.first}; column < {block.first + block.blocks * block.pixels}; " \
            f"column += {block.pixels}) {{" if looped else \
            f"{{   /* columns {block.phase + block.first * stride} to {last}, {stride} apart */"
        start = (block.phase + (0 if looped else block.first * stride)) * outputs
        column = f" + column * {stride * outputs}" if looped else ""
        return fill("""
            {opening}
                float *out = {y}{column}{start};
                {totals}
                {window}
                {stores}
            }
        """, opening=opening, y=place.y, column=column, start=plus(start),
                    totals=tile.start(block.pixels, place.bias), window=self._window_text(tile, place, block),
                    stores=tile.finish(block.pixels, "out", stride * outputs, self.act, self.act_args, place.left))

    def _window_text(self, tile: Tile, place: Place, block: _Block) -> str:
        """The sums of one block, over the window rows that reach the output row."""
        if not block.reached:
            return f"(void){place.weight};   /* no input reaches these */"
        stride = self.stride[0]
        ky = f"ky * {self.dilation[0]}" if self.dilation[0] > 1 else "ky"
        apart = f" || from % {stride} != 0" if stride > 1 else ""
        row = f"from / {stride}" if stride > 1 else "from"
        return fill("""
            {declare}
            for (int32_t ky = 0; ky < {kernel}; ky++) {
                const int32_t from = row{pad} - {ky};
                if (from < 0 || from >= {limit}{apart}) {
                    continue;
                }
                const float *in = {line}{group};
                const float *wk = {weight} + ky * {size};
                {taps}
            }
        """, declare=tile.declare(), kernel=self.kernel[0], pad=plus(self.pad[0]), ky=ky, apart=apart,
                    limit=self.height * stride, line=self.address("x", row), weight=place.weight,
                    group=f" + group * {self.weight.shape[3]}" if self.groups > 1 else "",
                    size=self.packed.size // self.kernel[0] * tile.block,
                    taps="".join(self._tap_text(tile, block, *reached) for reached in block.reached))

    def _tap_text(self, tile: Tile, block: _Block, tap: int, begin: int, end: int) -> str:
        channels, inputs = self.x.shape[3], self.weight.shape[3]
        looped = block.blocks > 1
        base = self._source(block.phase, tap, begin + (0 if looped else block.first)) * channels
        return fill("""
            {
                const float *xs = in{column}{base};
                const float *ws = wk{tap};
                {inner}
            }
        """, column=f" + column * {channels}" if looped else "", base=plus(base),
                    tap=plus(tap * inputs * tile.block), inner=tile.accumulate((begin, end), inputs, channels))


def _sizes(width: int, stride: int) -> SizesOf:
    """How the columns of one phase are cut into blocks."""
    return lambda pixels: block_sizes(-(-width // stride), pixels)


@lowers(ConvTranspose2D)
def lower_conv_transpose2d(op: ConvTranspose2D, low: Lowering) -> None:
    """Pack the weights for the target and compute all rows."""
    require_f32(op)
    form, registers = form_of(low.target), low.target.float_registers
    height, width, outputs = op.out.shape[1:]
    block = packed_block(outputs // op.groups, form, registers)
    low.emit(ConvTransposeF32(
        low.buffer(op.x), packed_weights(op.weight, op.groups, block, low),
        packed_bias(op.bias, op.groups, outputs, block, op.weight.name, low), low.result(op.out), stride=op.stride,
        pad=op.pad[:2], dilation=op.dilation, act=op.act, act_args=op.act_args, form=form,
        pixels=choose_pixels(_sizes(width, op.stride[1]), scalar_lanes(block), registers), fma=low.target.fma,
        out_rows=height, rows=(0, height), height=op.x.shape[1]))
