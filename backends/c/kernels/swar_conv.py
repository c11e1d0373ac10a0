"""Convolutions of stored 8-bit integers on cores that multiply 32-bit integers and no more.

    k.conv2d_swar(%x, @w, @w.starts, @w.segments) -> (%y, %columns) {kernel = [3, 3], together = 1, shift = 38, ...}

Four output pixels at a time, or two where memory is short: their windows become a column of words in scratch memory,
two pixels in each, which is multiplied with all output channels (`swar_columns`). Columns go on from one row of the
image to the next; at the end some of their pixels are not used. Where there is no memory for a column, each result is
computed by itself (`swar_direct`). Outside the image values are the zero point of x, whose
part in the sums is in the biases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np

from tinyir.ir import Array, Const, Value
from tinyir.lowering import Lowering
from tinyir.opdef import Tiling, Written
from tinyir.ops.conv import convolve
from tinyir.ops.mem import Part
from tinyir.ops.qconv import QConv2D
from tinyir.ops.quant import quant_of
from tinyir.types import U32, BufferType

from ..text import fill
from .dsp_pack import offset_of
from .qrequant import stored_from_sums, sum_range
from .qruns import row_runs
from .qsums import StoresSums, sum_fields
from .swar_pack import BLOCK, STEP, Packed, pack_layer, unpack_weights, upper_sums
from .taps import clipped_pad, factor
from .window import ConvKernel

__all__ = ["PIXELS", "ConvSwar", "lower_conv2d_swar", "packed_constants"]

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]
PIXELS = 4
"""Of a column, where memory is not short."""
_SIZES = (4, 2, 0)
_USUAL_LENGTH = 6
"""Inputs of a segment."""


@dataclass(frozen=True)
class _Price:
    """Instructions, counted in the loops: those of `swar_columns`, for `together` channels, and of other kernels."""

    step: float
    segment: float
    channel: float
    gather: float     # a value into a column
    portable: float   # a multiply-accumulate of the portable kernel


_PRICES = {1: _Price(14, 14, 30, 4, 7.5), 2: _Price(23, 18, 60, 3, 3.8)}


@final
class ConvSwar(StoresSums, ConvKernel, opname="k.conv2d_swar"):
    """y[n, i, j, o] = stored(bias[o] + sum of x times weight over the window), x its zero point outside the image."""

    x: Value                                # [N, ring, W, C] i8 or u8
    weight: Value                           # [blocks, K, 8] i8: see swar_pack
    starts: Value                           # [blocks * 8, 2] u32
    segments: Value                         # [blocks, bytes] u8
    multiplier: Value | None                # [O] i32
    rounding: Value | None                  # [O] i64
    y: Written                              # [N, ring, OW, O]
    columns: Written                        # [words] u32: a column; one word where there is none
    kernel: Pair
    stride: Pair
    pad: Quad                               # top, left, bottom, right
    dilation: int                           # of rows
    x_zero: int
    together: int                           # channels that share segments
    pixels: int                             # of a column: 4 or 2; 0 where there is none
    common: tuple[int, int]
    shift: int
    zero: int
    clamp: Pair | None
    emulated: bool
    rows: Pair
    height: int
    x_base: int = 0
    y_base: int = 0

    @property
    def row_dilation(self) -> int:
        return self.dilation

    def column_words(self, pixels: int) -> int:
        """Words of scratch for a column, one at least."""
        return max(1, pixels // 2 * self._steps)

    def tilings(self) -> tuple[Tiling, ...]:
        return tuple(Tiling({"pixels": pixels}, "columns", self.column_words(pixels))
                     for pixels in _SIZES if pixels <= self.pixels)

    def segment_count(self) -> int:
        """Segments of all output channels: how often sums are taken apart for a column."""
        part = self.segments.defining(Part)
        whole = self.segments if part is None else part.x
        data = whole.data if isinstance(whole, Const) else None
        if data is None:  # constants of a text may have no elements
            return -(-self.y.shape[3] * self.inputs // (_USUAL_LENGTH * self.together))
        return -(-int(np.count_nonzero(data)) // (1 if part is None else part.parts))

    def reference(self, x: Array, weight: Array, starts: Array, segments: Array, multiplier: Array | None,
                  rounding: Array | None, y: Array, columns: Array) -> None:
        outputs = self.y.shape[3]
        flat = unpack_weights(weight, outputs, self.inputs).astype(np.int64)
        bias = upper_sums(starts)[:outputs] + (self.x_zero - offset_of(self.x)) * flat.sum(axis=1)
        rows, _ = self.read_rows("x", x)
        pad = clipped_pad(self.rows, self.taps, self.pad)
        wide = flat.reshape(outputs, *self.kernel, -1).astype(np.float64)
        sums = convolve(rows.astype(np.float64) - self.x_zero, wide, self.stride, pad, (self.dilation, 1), 1)
        self.write_rows("y", y, self.finish(sums.astype(np.int64) + bias, multiplier, rounding))

    # -- the C -------------------------------------------------------------------------------------------------------

    def pointers(self) -> str:
        lines = ["const {xt} *restrict x", "const int8_t *restrict weight", "const uint32_t *restrict starts",
                 "const uint8_t *restrict segments"]
        lines += ["const int32_t *restrict multiplier"] if self.multiplier is not None else []
        lines += ["const int64_t *restrict rounding"] if self.rounding is not None else []
        return fill(", ".join([*lines, "{yt} *restrict y", "uint32_t *restrict columns"]), **self.kinds).strip()

    def source(self) -> str:
        return fill("""
            static void {name}({pointers},
                {rows})
            {
                {rest}
                {body}
            }
        """, pointers=self.pointers(), rows=self.row_parameters(), rest=self._rest_text(), body=self._body_text())

    def _body_text(self) -> str:
        if self.pixels == 0:
            return self._direct_text()
        return self._run_text() if self.pointwise else self._window_text()

    def _direct_text(self) -> str:
        """Each result by itself, without a column."""
        channels, outputs = self.x.shape[3], self.y.shape[3]
        return fill("""
            (void)segments;
            (void)columns;
            {setup}
            for (int32_t row = row_begin; row < row_end; row++) {
                {lines}
                {yt} *out = y + {slot} * {pitch};
                for (int32_t pixel = 0; pixel < {width}; pixel++, out += {outputs}) {
                    for (int32_t o = 0; o < {outputs}; o++) {
                        const int8_t *weights = weight + o / {block} * {apart} + o % {block};
                        uint32_t sum = starts[2 * o + 1];
                        for (int32_t ky = 0; ky < {kernel}; ky++, weights += {length} * {block}) {
                            sum += tc_swar_line_{dtype}(lines[ky], pixel * {step} - {pad}, {length}, {limit}, weights,
                                {zero});
                        }
                        out[o] = {stored};
                    }
                }
            }
        """, setup=self.row_setup(), lines=self._lines_text(), slot=factor(self.slot("y", "row")), outputs=outputs,
                    pitch=self.pitch("y"), width=self.y.shape[2], block=BLOCK, apart=self._steps * BLOCK,
                    kernel=self.kernel[0], length=self.kernel[1] * channels, dtype=self.x.type.dtype,
                    step=self.stride[1] * channels, pad=self.pad[1] * channels, limit=self.x.shape[2] * channels,
                    zero=self.x_zero, stored=self.store("(int32_t)sum", "o"), **self.kinds)

    @property
    def _steps(self) -> int:
        """Inputs of a column, in whole steps."""
        return int(self.weight.shape[1])

    def _rest_text(self) -> str:
        """Inputs that fill up the last step."""
        words = self.pixels // 2
        return "\n".join(f"columns[{word}] = 0;" for word in range(words * self.inputs, words * self._steps))

    def _block_text(self, out: str) -> str:
        """The results of a column with `filled` pixels, at `out`."""
        outputs, bytes_ = self.y.shape[3], self.segments.shape[1]
        count = str(BLOCK) if outputs % BLOCK == 0 else f"({outputs} - o < {BLOCK} ? {outputs} - o : {BLOCK})"
        return fill("""
            for (int32_t o = 0; o < {outputs}; o += {block}) {
                int32_t sums[{pixels} * {block}];
                const int32_t channels = {count};
                tc_swar_sums_{together}_of{pixels}(columns, weight + o * {steps}, starts + 2 * o, segments{place},
                    channels, sums);
                for (int32_t lane = 0; lane < channels; lane++) {
                    for (int32_t i = 0; i < filled; i++) {
                        {out}[i * {outputs} + o + lane] = {stored};
                    }
                }
            }
        """, outputs=outputs, block=BLOCK, pixels=self.pixels, count=count, together=self.together, steps=self._steps,
                    out=out, place=f" + o / {BLOCK} * {bytes_}",
                    stored=self.store(f"sums[{self.pixels} * lane + i]", "o + lane"))

    def _run_text(self) -> str:
        width, inputs, outputs = self.x.shape[2], self.x.shape[3], self.y.shape[3]
        return row_runs(cast(Any, self), width, (inputs, outputs), fill("""
            for (int32_t pixel = 0; pixel < count; pixel += {pixels}) {
                const int32_t filled = count - pixel < {pixels} ? count - pixel : {pixels};
                const {xt} *from = in + pixel * {inputs};
                for (int32_t i = 0; i < filled; i += 2, from += 2 * {inputs}) {
                    if (i + 1 < filled) {
                        (void)tc_swar_pair_{dtype}_of{pixels}(from, from + {inputs}, {inputs}, columns + i / 2);
                    } else {
                        (void)tc_swar_spread_{dtype}_of{pixels}(from, {inputs}, columns + i / 2, 0);
                    }
                }
                {yt} *out = out_row + pixel * {outputs};
                {block}
            }
        """, pixels=self.pixels, dtype=self.x.type.dtype, inputs=inputs, outputs=outputs, block=self._block_text("out"),
                                                                       **self.kinds))

    def _window_text(self) -> str:
        width, outputs, parted = self.y.shape[2], self.y.shape[3], self.is_parted("y")
        row, rows = ("row", "") if parted else ("row_begin", "(row_end - row_begin) * ")
        start = fill("""
            {yt} *out = y + {slot} * {length};
            int32_t left = {rows}{width}, filled = 0;
        """, slot=factor(self.slot("y", row)), length=self.pitch("y"), rows=rows, width=width, **self.kinds)
        return fill("""
            {setup}
            {whole_start}
            for (int32_t row = row_begin; row < row_end; row++) {
                {lines}
                {row_start}
                for (int32_t pixel = 0, some; pixel < {width}; pixel += some) {
                    {gather}
                    filled += some;
                    left -= some;
                    if (filled == {pixels} || left == 0) {
                        {block}
                        out += filled * {outputs};
                        filled = 0;
                    }
                }
            }
        """, setup=self.row_setup(), lines=self._lines_text(), width=width, gather=self._gather_text(),
                    whole_start="" if parted else start, row_start=start if parted else "", pixels=self.pixels,
                    block=self._block_text("out"), outputs=outputs)

    def _lines_text(self) -> str:
        """`lines`: the input rows of the taps, NULL outside the image."""
        taps = self.taps
        inside = " && ".join(["line >= 0"] * taps.clipped_above + [f"line < {taps.extent}"] * taps.clipped_below)
        place = self.address("x", "line")
        return fill("""
            const {xt} *lines[{kernel}];
            for (int32_t ky = 0; ky < {kernel}; ky++) {
                const int32_t line = row * {stride} - {pad} + ky * {dilation};
                lines[ky] = {place};
            }
        """, kernel=taps.kernel, stride=taps.stride, pad=taps.pad, dilation=taps.dilation,
                    place=f"{inside} ? {place} : NULL" if inside else place, **self.kinds)

    def _gather_text(self) -> str:
        """The windows of `pixel` and, where both are the halves of words and lie inside, of the next one, into the
        column; `some` is how many.
        """
        channels = self.x.shape[3]
        length, limit, step = self.kernel[1] * channels, self.x.shape[2] * channels, self.stride[1] * channels
        return fill("""
            const int32_t first = pixel * {step} - {pad};
            uint32_t *to = columns + filled / 2;
            if ({pairs}) {
                some = 2;
                for (int32_t ky = 0; ky < {kernel}; ky++) {
                    to = tc_swar_pair_{dtype}_of{pixels}(lines[ky] + first, lines[ky] + first + {step}, {length}, to);
                }
            } else {
                some = 1;
                for (int32_t ky = 0; ky < {kernel}; ky++) {
                    to = tc_swar_window_{dtype}_of{pixels}(lines[ky], first, {length}, {limit}, to, filled & 1, {zero});
                }
            }
        """, step=step, pad=self.pad[1] * channels, kernel=self.kernel[0], dtype=self.x.type.dtype, length=length,
                    pixels=self.pixels,
                    limit=limit, zero=self.x_zero, pairs=" && ".join(self._pairs(limit - length - step)))

    def _pairs(self, last: int) -> list[str]:
        """C conditions for two windows from `first` on to be inside the image, and two halves of a column."""
        taps, width = self.taps, self.y.shape[2]
        return ["(filled & 1) == 0", f"pixel + 1 < {width}", *["first >= 0"] * (self.pad[1] > 0), f"first <= {last}",
                *["lines[0] != NULL"] * taps.clipped_above, *[f"lines[{taps.kernel - 1}] != NULL"] * taps.clipped_below]


def lower_conv2d_swar(op: QConv2D, weight: Array, bias: Array | None, low: Lowering) -> bool:
    """Compute `op` with `weight` [O, KH, KW, C] (differences from the zero point) and `bias` [O], if the target is of
    the kind, and two sums fit a word; whether it did.
    """
    together, outputs = low.target.word_channels, len(weight)
    if not together or op.groups != 1 or op.dilation[1] != 1 or not weight.size or low.is_cut(op.x):
        return False
    if weight.dtype != np.int8:
        return False
    flat = weight.reshape(outputs, -1)
    zero = quant_of(op.x).zero_point
    folded = -(zero - offset_of(op.x)) * flat.astype(np.int64).sum(axis=1)
    packed = pack_layer(flat, folded if bias is None else folded + bias, together)
    height, width = op.out.shape[1:3]
    if packed is None or not worth(packed, flat.shape, width * low.rows_of_call(height), together):
        return False
    stored = stored_from_sums(op, (op.x, op.weight), op.clamp, sum_range(op.x.type.dtype, zero, flat, bias), low)
    low.emit(ConvSwar(
        low.buffer(op.x), *packed_constants(op.weight.name, packed, low), y=low.result(op.out),
        columns=low.scratch(BufferType((2 * packed.weight.shape[1],), U32), f"{op.out.name}.columns"),
        kernel=op.kernel, stride=op.stride, pad=op.pad, dilation=op.dilation[0], x_zero=zero, together=together,
        pixels=PIXELS, rows=(0, height), height=op.x.shape[1], **sum_fields(stored)))
    return True


def worth(packed: Packed, shape: Pair, run: int, together: int) -> bool:
    """Whether columns take fewer instructions for weights of `shape` [O, K] and a run of `run` pixels than the portable
    kernel: few pixels leave a part of a column unused, great weights have short segments, and few outputs do not make
    up for what it takes to fill a column.
    """
    price, (outputs, inputs) = _PRICES[together], shape
    segments, steps = int(np.count_nonzero(packed.segments)), packed.weight.shape[1] // STEP
    a_column = (segments * price.segment + outputs / together * (steps * price.step + price.channel)
                + PIXELS * inputs * price.gather)
    return bool(-(-run // PIXELS) * a_column < run * inputs * outputs * price.portable)


def packed_constants(name: str, packed: Packed, low: Lowering) -> tuple[Const, Const, Const]:
    """Weights, starts and segments as constants called after `name`."""
    return (low.const(name, packed.weight), low.const(f"{name}.starts", packed.starts),
            low.const(f"{name}.segments", packed.segments))
