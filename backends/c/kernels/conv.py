"""Convolutions of float NHWC tensors.

    k.conv2d_f32(%x, @w, @b) -> (%y) {stride = [1, 1], pad = [1, 1, 1, 1], form = scalar, pixels = 4, ...}

computes blocks of output pixels by output channels (`tile`), whose sums stay in registers over the whole window. The
weights are packed [blocks, KH, KW, C / groups, channels of a block], the bias is filled up to whole blocks. A 1x1
window with stride 1 sees the rows as one run of pixels.
"""

from __future__ import annotations

from typing import final

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.ops.activation import Activation
from tinyir.ops.conv import Conv2D

from ..text import fill
from .base import evaluate
from .blocking import (
    Columns,
    Form,
    SizesOf,
    Strip,
    block_sizes,
    choose_pixels,
    form_of,
    packed_block,
    run_sizes,
    strips,
    unpack_weights,
)
from .channels import (
    Packed,
    Place,
    by_form,
    channel_loops,
    kernel_comment,
    pixel_run,
    plus,
    scalar_lanes,
    scalar_tile,
    vector_tile,
)
from .taps import clipped_pad, factor
from .tile import Tile
from .weights import packed_bias, packed_weights, require_f32
from .window import WindowKernel

__all__ = ["ConvF32", "pixels_for"]

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]


@final
class ConvF32(WindowKernel, opname="k.conv2d_f32"):
    """y[n, i, j, o] = act(bias[o] + sum of x times weight over the window and the channels of the group)."""

    x: Value                                # [N, ring, W, C]
    weight: Value                           # [groups * blocks, KH, KW, C / groups, block]
    bias: Value                             # [groups * blocks * block]
    y: Written                              # [N, ring, OW, O]
    stride: Pair
    pad: Quad                               # top, left, bottom, right
    dilation: Pair
    act: Activation
    act_args: tuple[float, ...]
    form: Form
    pixels: int                             # of a block of scalars
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
    def groups(self) -> int:
        return self.x.shape[3] // self.weight.shape[3]

    @property
    def packed(self) -> Packed:
        kernel_height, kernel_width, inputs, block = self.weight.shape[1:]
        return Packed(self.y.shape[3] // self.groups, block, kernel_height * kernel_width * inputs)

    @property
    def row_dilation(self) -> int:
        return self.dilation[0]

    @property
    def columns(self) -> Columns:
        return Columns(self.x.shape[2], self.y.shape[2], self.kernel[1], self.stride[1], self.dilation[1], self.pad[1])

    @property
    def pointwise(self) -> bool:
        """Whether output pixel i reads input pixel i and nothing else."""
        return _is_pointwise(self.kernel, self.stride, self.pad, self.groups)

    def macs(self) -> int:
        rows = self.rows[1] - self.rows[0]
        return self.x.shape[0] * rows * self.y.shape[2] * self.y.shape[3] * self.packed.size

    def reference(self, x: Array, weight: Array, bias: Array, y: Array) -> None:
        rows, _ = self.read_rows("x", x)
        outputs = y.shape[3]
        plain = unpack_weights(weight, self.groups, outputs)
        offsets = unpack_weights(bias.reshape(-1, weight.shape[-1]), self.groups, outputs)
        pad = clipped_pad(self.rows, self.taps, self.pad)
        values = evaluate(Conv2D, rows, plain, offsets, stride=self.stride, pad=pad, dilation=self.dilation,
                          groups=self.groups, act=self.act, act_args=self.act_args)
        self.write_rows("y", y, values)

    def source(self) -> str:
        return by_form(self.form, self._pointwise_text if self.pointwise else self._window_text)

    def sizes(self) -> SizesOf:
        """How a row, or the whole image if it is one run, is cut into blocks of pixels."""
        return _sizes(self.pointwise, self.out_height(), self.y.shape[2])

    def tile(self, vector: bool) -> Tile:
        return vector_tile(self.packed, self.sizes()) if vector else scalar_tile(self.packed, self.pixels, self.fma)

    def _comment(self, tile: Tile) -> str:
        return kernel_comment("convolution", self.kernel, self.stride, (self.x.shape, self.y.shape), self.act, tile)

    # -- a window --------------------------------------------------------------------------------------------------

    def _window_text(self, vector: bool) -> str:
        tile = self.tile(vector)
        outputs = self.pitch("y")
        loops = channel_loops(self.packed, tile, self._origin(), lambda place: self._strips_text(tile, place))
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
                    {loops}
                }
            }
        """, comment=self._comment(tile), rows=self.row_parameters(), setup=self.row_setup(),
                    slot=factor(self.slot("y", "row")), outputs=outputs,
                    taps=self.taps.declare(), lines=self.declare_lines("x", self.taps), loops=self._group_loop(loops))

    def _origin(self) -> Place:
        if self.groups == 1:
            return Place("weight", "bias", "y_row")
        packed = self.packed
        return Place(f"weight + group * {packed.blocks * packed.block * packed.size}",
                     f"bias + group * {packed.blocks * packed.block}", f"y_row + group * {packed.outputs}")

    def _group_loop(self, body: str) -> str:
        if self.groups == 1:
            return body
        return fill("""
            for (int32_t group = 0; group < {groups}; group++) {
                {body}
            }
        """, groups=self.groups, body=body)

    def _strips_text(self, tile: Tile, place: Place) -> str:
        return "".join(self._strip_text(tile, place, strip) for strip in strips(self.columns, tile.pixels))

    def _strip_text(self, tile: Tile, place: Place, strip: Strip) -> str:
        outputs = self.y.shape[3]
        looped = strip.blocks > 1
        opening = f"for (int32_t column = {strip.first}; column < {strip.end}; column += {strip.pixels}) {{" if looped \
            else f"{{   /* columns {strip.first} to {strip.end - 1} */"
        out = f"{place.y} + column * {outputs}" if looped else f"{place.y}{plus(strip.first * outputs)}"
        return fill("""
            {opening}
                float *out = {out};
                {start}
                {window}
                {stores}
            }
        """, opening=opening, out=out, start=tile.start(strip.pixels, place.bias),
                    window=self._strip_window_text(tile, place, strip),
                    stores=tile.finish(strip.pixels, "out", outputs, self.act, self.act_args, place.left))

    def _strip_window_text(self, tile: Tile, place: Place, strip: Strip) -> str:
        """The sums of one block."""
        if not strip.segments:
            return f"(void){place.weight};   /* in the padding, all of it */"
        return tile.declare() + "\n" + self.taps.loop(self._window_row_text(tile, place, strip))

    def _window_row_text(self, tile: Tile, place: Place, strip: Strip) -> str:
        return fill("""
            const float *in = {line}{group};
            const float *wk = {weight} + ky * {size};
            {segments}
        """, line=self.line("x", self.taps, "ky"),
                    group=f" + group * {self.weight.shape[3]}" if self.groups > 1 else "", weight=place.weight,
                    size=self.packed.size // self.kernel[0] * tile.block, segments=self._segments_text(tile, strip))

    def _segments_text(self, tile: Tile, strip: Strip) -> str:
        return "".join(self._segment_text(tile, strip, s.taps, s.pixels) for s in strip.segments)

    def _segment_text(self, tile: Tile, strip: Strip, taps: Pair, pixels: Pair) -> str:
        """Taps [begin, end) of one window row for some pixels of the strip's block."""
        channels, inputs = self.x.shape[3], self.weight.shape[3]
        looped = strip.blocks > 1
        base = self.columns.source(taps[0], pixels[0] + (0 if looped else strip.first)) * channels
        column = f" + column * {self.stride[1] * channels}" if looped else ""
        step = self.stride[1] * channels
        contiguous = self.groups == 1 and self.dilation[1] == 1
        if contiguous or taps[1] - taps[0] == 1:
            return fill("""
                {
                    const float *xs = in{column}{base};
                    const float *ws = wk{tap};
                    {inner}
                }
            """, column=column, base=plus(base), tap=plus(taps[0] * inputs * tile.block),
                        inner=tile.accumulate(pixels, (taps[1] - taps[0]) * inputs, step, self._is_rare(strip)))
        return fill("""
            for (int32_t kx = {first}; kx < {end}; kx++) {
                const float *xs = in{column} + (kx - {first}) * {tap_step}{base};
                const float *ws = wk + kx * {size};
                {inner}
            }
        """, first=taps[0], end=taps[1], column=column, tap_step=self.dilation[1] * channels, base=plus(base),
                    size=inputs * tile.block, inner=tile.accumulate(pixels, inputs, step, self._is_rare(strip)))

    def _is_rare(self, strip: Strip) -> bool:
        """Whether the strip is a small part of the row: its code is kept short."""
        return strip.blocks == 1 and 6 * strip.pixels <= self.columns.outputs

    # -- a run of pixels ---------------------------------------------------------------------------------------------

    def _pointwise_text(self, vector: bool) -> str:
        tile = self.tile(vector)
        width, inputs, outputs = self.x.shape[2], self.x.shape[3], self.y.shape[3]

        def body(place: Place) -> str:
            return pixel_run(tile, width, "count", inputs, outputs, self.act, self.act_args, place)

        return fill("""
            {comment}
            static void {name}(const float *restrict x, const float *restrict weight, const float *restrict bias,
                float *restrict y, {parameters})
            {
                {rows}
            }
        """, comment=self._comment(tile), parameters=self.row_parameters(),
                    rows=self._run(channel_loops(self.packed, tile, self._origin(), body)))

    def _run(self, loops: str) -> str:
        """The rows as runs of pixels that end where a ring does."""
        limits = [self.run_limit(name) for name in ("x", "y") if self.in_runs(name)]
        width, inputs, outputs = self.x.shape[2], self.x.shape[3], self.y.shape[3]
        if not limits:
            return fill("""
                const float *in = x + row_begin * {x_width};
                float *y_row = y + row_begin * {y_width};
                const int32_t count = (row_end - row_begin) * {width};
                {loops}
            """, x_width=width * inputs, y_width=width * outputs, width=width, loops=loops)
        return fill("""
            {setup}
            for (int32_t row = row_begin, rows = 0; row < row_end; row += rows) {
                {x_slot}
                const int32_t y_slot = {y_slot};
                rows = row_end - row;
                {limits}
                const float *in = {x_row};
                float *y_row = y + y_slot * {y_width};
                const int32_t count = rows * {width};
                {loops}
            }
        """, setup=self.row_setup(), x_slot=self.declare_slot("x"), x_row=self.run_address("x"),
                    y_slot=self.slot("y", "row"), limits="\n".join(limits), y_width=self.pitch("y"), width=width,
                    loops=loops)


def _sizes(pointwise: bool, height: int, width: int) -> SizesOf:
    if pointwise:
        return lambda pixels: run_sizes(width, height, pixels)
    return lambda pixels: block_sizes(width, pixels)


def pixels_for(kernel: ConvF32, lanes: int, registers: int) -> int:
    """Pixels of a block of scalars, of `lanes` channels."""
    return choose_pixels(_sizes(kernel.pointwise, kernel.out_height(), kernel.y.shape[2]), lanes, registers)


def _is_pointwise(kernel: Pair, stride: Pair, pad: Quad, groups: int) -> bool:
    return kernel == (1, 1) and stride == (1, 1) and not any(pad) and groups == 1


@lowers(Conv2D)
def lower_conv2d(op: Conv2D, low: Lowering) -> None:
    """Pack the weights for the target and compute all rows."""
    require_f32(op)
    form, registers = form_of(low.target), low.target.float_registers
    height, width, outputs = op.out.shape[1:]
    block = packed_block(outputs // op.groups, form, registers)
    weight = packed_weights(op.weight, op.groups, block, low)
    bias = packed_bias(op.bias, op.groups, outputs, block, op.weight.name, low)
    sizes = _sizes(_is_pointwise(op.kernel, op.stride, op.pad, op.groups), height, width)
    low.emit(ConvF32(
        low.buffer(op.x), weight, bias, low.result(op.out), stride=op.stride, pad=op.pad, dilation=op.dilation,
        act=op.act, act_args=op.act_args, form=form, pixels=choose_pixels(sizes, scalar_lanes(block), registers),
        fma=low.target.fma, rows=(0, height), height=op.x.shape[1]))
