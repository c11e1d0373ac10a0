"""3x3 convolutions of stored 8-bit integers with stride 1 on Cortex-M with DSP, by Winograd's F(2x2, 3x3): 16 products
for each four results, exactly (see `dsp_winograd_text`).

    k.conv2d_winograd(%x, @w.stream) -> (%y, %columns) {pad = [1, 1, 1, 1], guard = 6, shift = 16, ...}

Four tiles of 2 x 2 results at a time: their transformed inputs become a column in scratch memory, which is multiplied
with all output channels. Tiles go on from two rows of the image to the next two. What they have beyond the result, as
it has an odd number of rows or columns, and tiles that fill up the last column, go to a spare place.

Transformed weights have 16 bits, so they take 32/9 of the bytes of the weights. Layers are computed like that where it
pays, and the module's attribute `larger_weights` allows for these bytes: `schedule` says with it what speed may cost.
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering
from tinyir.opdef import Written
from tinyir.ops.conv import convolve
from tinyir.ops.qconv import QConv2D
from tinyir.ops.quant import quant_of
from tinyir.types import U32, BufferType

from ..text import c_type, fill
from .dsp_pack import Plan, Scalings, offset_of, plan_layer, stored_values
from .taps import clipped_pad, factor
from .window import ConvKernel

__all__ = ["PLACES", "TILES", "ConvWinograd", "lower_conv2d_winograd", "winograd_pays"]

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]
TILES = 4
"""Tiles of a column."""
PLACES = 16
"""Products of a tile for each channel."""
_TRANSFORM = np.array([[1, 1, 1], [1, -1, 1], [2, 0, 0], [0, 0, 2]])
"""2G, its rows in the order of places: 1, 2, 0, 3."""
_FACTOR = 2
"""Sums are four times the true ones: two to this power."""


@final
class ConvWinograd(ConvKernel, opname="k.conv2d_winograd"):
    """y[n, i, j, o] = stored(bias[o] + sum of x times weight over the window), x its zero point outside the image."""

    x: Value                                # [N, ring, W, C] i8 or u8, C a multiple of 4
    stream: Value                           # [pairs of output channels, words] u32: see pack_winograd
    y: Written                              # [N, ring, OW, O] i8 or u8
    columns: Written                        # [words] u32: a column, a line of zero points, spare results
    pad: Quad                               # top, left, bottom, right
    x_zero: int
    y_zero: int
    guard: int
    shift: int
    rows: Pair
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return f"conv2d_winograd_{self.x.type.dtype}"

    @property
    def kernel(self) -> Pair:
        return 3, 3

    @property
    def stride(self) -> Pair:
        return 1, 1

    @property
    def tiles(self) -> int:
        """Tiles beside each other."""
        return -(-self.y.shape[2] // 2)

    @property
    def steps(self) -> int:
        """Fours of input channels."""
        return self.x.shape[3] // 4

    def reference(self, x: Array, stream: Array, y: Array, columns: Array) -> None:
        weight, bias, scalings = unpack_winograd(stream, (self.y.shape[3], self.x.shape[3]), self.guard)
        zero = self.x_zero - offset_of(self.x)
        bias = bias + zero * weight.sum(axis=(1, 2, 3))
        rows, _ = self.read_rows("x", x)
        pad = clipped_pad(self.rows, self.taps, self.pad)
        sums = convolve(rows.astype(np.float64) - self.x_zero, weight.astype(np.float64), (1, 1), pad, (1, 1), 1)
        stored = self.y_zero, self.y.type.dtype
        self.write_rows("y", y, stored_values(sums.astype(np.int64) + bias, scalings, stored, self.shift, self.guard))

    def source(self) -> str:
        return fill("""
            static void {name}(const {xt} *restrict x, const uint32_t *restrict stream, {yt} *restrict y,
                uint32_t *restrict columns, {rows})
            {
                {setup}
                {blank}
                {yt} *const spare = ({yt} *)(columns + {spare});
                {yt} *places[16];
                int32_t filled = 0;
                for (int32_t row = row_begin; row < row_end; row += 2) {
                    {lines}
                    {yt} *const out = y + {slot} * {pitch};
                    {yt} *const below = row + 1 < row_end ? y + {next_slot} * {pitch} : NULL;
                    {ends}
                    for (int32_t tile = 0; tile < tiles;) {
                        const int32_t count = tiles - tile < 4 - filled ? tiles - tile : 4 - filled;
                        tc_winograd_tiles_{x_dtype}(lines, 2 * tile - {left}, {width}, {channels}, count,
                            columns + filled, 0x{outside}u);
                        for (const int32_t end = tile + count; tile < end; tile++, filled++) {
                            {places}
                        }
                        if (filled == 4) {
                            tc_winograd_{variant}(stream, columns, places, {outputs}, {steps});
                            filled = 0;
                        }
                    }
                }
            }
        """, **self._literals(), rows=self.row_parameters(), setup=self.row_setup(), blank=self._blank_text(),
                    lines=self._lines_text(), ends=self._ends_text(), places=self._places_text())

    def _literals(self) -> dict[str, object]:
        """The values that are known."""
        width, channels = self.x.shape[2:]
        unroll = next(n for n in (4, 3, 2, 1) if self.steps % n == 0)
        passes = "once" if unroll == self.steps else "many"
        outside = 2 * (self.x_zero - offset_of(self.x)) & 0xFFFF
        return {"xt": c_type(self.x.type.dtype), "yt": c_type(self.y.type.dtype), "x_dtype": self.x.type.dtype,
                "spare": _spare_at(width, channels), "slot": factor(self.slot("y", "row")),
                "next_slot": factor(self.slot("y", "row + 1")), "pitch": self.pitch("y"), "left": self.pad[1],
                "width": width, "channels": channels, "outputs": self.y.shape[3], "steps": self.steps,
                "outside": f"{outside * 0x10001:08X}", "variant": f"{self.y.type.dtype}_{self.shift}_{passes}{unroll}"}

    def _blank_text(self) -> str:
        """`blank`: a line for rows outside the image, where calls may reach there."""
        taps, (width, channels) = self.taps, self.x.shape[2:]
        below = f"row_end > {taps.extent + taps.pad - 2}"
        edges = ["row_begin == 0"] * taps.clipped_above + [below] * taps.clipped_below
        if not edges:
            return ""
        return fill("""
            uint32_t *const blank = columns + {at};
            for (int32_t i = {edges} ? 0 : {words}; i < {words}; i++) {
                blank[i] = 0x{zero}u;
            }
        """, at=_column_words(channels), words=width * channels // 4, edges=" || ".join(edges),
                    zero=f"{(self.x_zero & 0xFF) * 0x01010101:08X}")

    def _lines_text(self) -> str:
        """`lines`: the input rows of two rows of tiles. The fourth is for the second of them only, and need not be
        there if that is not wanted.
        """
        taps, place = self.taps, self.address("x", "line")
        inside = ["line >= 0"] * taps.clipped_above + [f"line < {taps.extent}"] * taps.clipped_below
        return fill("""
            const void *lines[4];
            for (int32_t ky = 0; ky < 4; ky++) {
                const int32_t line = row{pad} + (ky == 3 && row + 1 == row_end ? 2 : ky);
                lines[ky] = {place};
            }
        """, pad=f" - {taps.pad}" if taps.pad else "",
                    place=f"{' && '.join(inside)} ? (const void *)({place}) : blank" if inside else place)

    def _ends_text(self) -> str:
        """`tiles` of this row, with those that fill up the last column."""
        if self.tiles % TILES == 0:
            return f"const int32_t tiles = {self.tiles};"
        return fill("""
            const int32_t left = (row_end - row_begin + 1) / 2 * {tiles} % 4;
            const int32_t tiles = row + 2 < row_end || left == 0 ? {tiles} : {tiles} + 4 - left;
        """, tiles=self.tiles)

    def _places_text(self) -> str:
        """Where the results of a tile go."""
        width, outputs = self.y.shape[2:]
        filled = self.tiles % TILES > 0
        lines = [f"const int32_t at = 2 * tile * {outputs};"]
        for k, (start, there) in enumerate((("out", []), ("below", ["below != NULL"])) * 2):
            beside = f" + {outputs}" if k > 1 else ""
            column = "2 * tile + 1" if k > 1 else "2 * tile"
            limits = there + [f"{column} < {width}"] * (filled or (k > 1 and width % 2 > 0))
            place = f"{start} + at{beside}"
            index = f"filled + {TILES * k}" if k else "filled"
            lines.append(f"places[{index}] = {' && '.join(limits)} ? {place} : spare;" if limits else
                         f"places[{index}] = {place};")
        return "\n".join(lines)


def _column_words(channels: int) -> int:
    """Words of scratch for the inputs of four tiles."""
    return PLACES * channels // 2 * TILES


def _spare_at(width: int, channels: int) -> int:
    """Where in the scratch results go that nobody wants: behind a column and a line of zero points."""
    return _column_words(channels) + width * channels // 4


def pack_winograd(plan: Plan, channels: int, zero: int) -> Array:
    """The stream [pairs of output channels, words] u32 of a plan whose weights are [O, 9 * C]: two biases, in which the
    zero point `zero` of x is, the weights, two multipliers each with a rounding constant.
    """
    weight = plan.weight.astype(np.int64).reshape(-1, 3, 3, channels)
    start = (plan.bias - zero * weight.sum(axis=(1, 2, 3))) << plan.guard
    words = _words_of(transformed(weight) << (plan.guard - _FACTOR))
    scalings = np.stack([plan.scalings.multiplier, plan.scalings.rounding], axis=1)
    pairs = -(-len(weight) // 2)

    def paired(values: Array) -> Array:
        full = np.zeros((2 * pairs, *values.shape[1:]), np.uint32)
        full[:len(values)] = values
        return full.reshape(pairs, 2, -1)

    biases = start.astype(np.int32).view(np.uint32)[:, None]
    parts = [paired(biases), paired(words).transpose(0, 2, 1), paired(scalings)]
    return np.ascontiguousarray(np.concatenate([part.reshape(pairs, -1) for part in parts], axis=1))


def _bytes_of(outputs: int, channels: int) -> int:
    """What the stream takes."""
    return -(-outputs // 2) * (2 + PLACES * channels + 4) * 4


def unpack_winograd(stream: Array, shape: Pair, guard: int) -> tuple[Array, Array, Scalings]:
    """The inverse of `pack_winograd` for O output and C input channels: weights [O, 3, 3, C], biases, scalings."""
    outputs, channels = shape
    words = stream[:, 2:-4].reshape(len(stream), -1, 2).transpose(0, 2, 1).reshape(2 * len(stream), -1)[:outputs]
    halves = np.ascontiguousarray(words).view(np.int16).astype(np.int64) >> (guard - _FACTOR)
    places = halves.reshape(outputs, 4, 4, channels // 4, 2, 2).swapaxes(4, 5).reshape(outputs, 4, 4, channels)
    places[:, :, 3] *= -1
    inverse = np.array([[0, 0, 1, 0], [1, -1, 0, 0], [0, 0, 0, 1]])
    weight = np.einsum("ip,jq,opqc->oijc", inverse, inverse, places) // 4
    bias = stream[:, :2].reshape(-1)[:outputs].view(np.int32).astype(np.int64) >> guard
    pairs = stream[:, -4:].reshape(-1, 2)[:outputs]
    return weight, bias, Scalings(np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1]))


def transformed(weight: Array) -> Array:
    """[O, 4, 4, C], four times the weights of tiles, from weights [O, 3, 3, C]: at most 9 times as great."""
    places: Array = np.einsum("pi,qj,oijc->opqc", _TRANSFORM, _TRANSFORM, weight.astype(np.int64))
    places[:, :, 3] *= -1
    return places


def _words_of(places: Array) -> Array:
    """Words [O, 16 * C / 2] u32 of weights [O, 4, 4, C]: channels 0 and 2, then 1 and 3 of each four."""
    outputs, channels = len(places), places.shape[3]
    fours = places.astype(np.int16).reshape(outputs, PLACES, channels // 4, 2, 2).swapaxes(3, 4)
    return np.ascontiguousarray(fours).view(np.uint32).reshape(outputs, -1)


def winograd_pays(inputs: int, outputs: int, width: int, rows: int) -> bool:
    """Whether it takes fewer instructions than the direct convolution (`dsp_conv`), where calls compute `rows` rows of
    `width` results: for a column, by pairs of output channels 352 and a 22nd for each product at 16 places, or 60 and
    23 for each four inputs; and to transform 4 * 4 inputs, or to gather windows.
    """
    steps, pairs = inputs // 4, -(-outputs // 2)
    columns = -(-rows // 2) * -(-width // 2) / TILES
    tiled = columns * (pairs * (480 + 352 * steps) + 680 * steps + 250)
    direct = rows * width / 4 * (pairs * (65 + 207 * steps) + 86 * steps + 300)
    return tiled < direct


def lower_conv2d_winograd(op: QConv2D, weight: Array, bias: Array | None, low: Lowering) -> bool:
    """Compute `op` with `weight` [O, 3, 3, C] (differences from the zero point) and `bias` [O], if it is of the kind,
    its weights may take more room, and it pays; whether it did.
    """
    channels, (height, width) = op.x.shape[3], op.out.shape[1:3]
    allowed = low.module.attrs.get("larger_weights", 0)
    if not low.target.dsp or low.part_count > 1 or not _is_of_kind(op) or _bytes_of(len(weight), channels) > allowed:
        return False
    if not winograd_pays(channels, len(weight), width, low.rows_of_call(height)):
        return False
    greatest = int(np.abs(transformed(weight)).max(initial=1))
    guard = _FACTOR + (2**15 - 1).bit_length() - greatest.bit_length()
    plan = plan_layer(op, (op.x, op.weight), weight.reshape(len(weight), -1), bias, low, halves=True, most=guard)
    if plan is None or plan.guard < _FACTOR:
        return False
    zero = quant_of(op.x).zero_point
    words = _spare_at(op.x.shape[2], channels) + -(-len(weight) // 4)
    low.emit(ConvWinograd(
        low.buffer(op.x), low.const(f"{op.weight.name}.stream", pack_winograd(plan, channels, zero - offset_of(op.x))),
        low.result(op.out), low.scratch(BufferType((words,), U32), f"{op.out.name}.columns"), pad=op.pad, x_zero=zero,
        y_zero=quant_of(op.out).zero_point, guard=plan.guard, shift=plan.shift, rows=(0, height),
        height=op.x.shape[1]))
    return True


def _is_of_kind(op: QConv2D) -> bool:
    """3x3 windows of all channels, next to each other, that reach out of the image by one at most."""
    return op.kernel == (3, 3) and op.stride == (1, 1) and op.dilation == (1, 1) and op.groups == 1 \
        and max(op.pad) <= 1 and op.x.shape[3] % 4 == 0 and 0 not in op.weight.shape
