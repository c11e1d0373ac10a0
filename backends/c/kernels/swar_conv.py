"""Convolutions of stored 8-bit integers on cores that multiply 32-bit integers and no more.

    k.conv2d_swar(%x, @w, @w.starts, @w.segments) -> (%y, %columns) {kernel = [3, 3], together = 1, shift = 38, ...}

Four output pixels at a time: their windows become a column of words in scratch memory, two pixels in each, which is
multiplied with all output channels (`swar_columns`). Columns go on from one row of the image to the next; at the end
some of their pixels are not used. Outside the image values are the zero point of x, whose part in the sums is in the
biases.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast, final

import numpy as np

from tinyir.geometry import Span, window_input_span, window_output_extent
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering
from tinyir.opdef import Written
from tinyir.ops.conv import convolve
from tinyir.ops.qconv import QConv2D
from tinyir.ops.quant import quant_of
from tinyir.types import U32, BufferType

from ..text import fill
from .base import RowKernel
from .dsp_pack import offset_of
from .qrequant import stored_from_sums, sum_range
from .qruns import row_runs
from .qsums import StoresSums, sum_fields
from .swar_pack import BLOCK, STEP, pack_segments, pack_starts, pack_weights, unpack_weights
from .taps import RowTaps, clipped_pad, factor

__all__ = ["PIXELS", "ConvSwar", "lower_conv2d_swar"]

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]
PIXELS = 4
"""Of a column."""


@final
class ConvSwar(StoresSums, RowKernel, opname="k.conv2d_swar"):
    """y[n, i, j, o] = stored(bias[o] + sum of x times weight over the window), x its zero point outside the image."""

    batched: ClassVar[tuple[str, ...]] = ("x", "y")

    x: Value                                # [N, ring, W, C] i8 or u8
    weight: Value                           # [blocks, K, 8] i8: see swar_pack
    starts: Value                           # [blocks * 8, 2] u32
    segments: Value                         # [bytes] u8
    multiplier: Value | None                # [O] i32
    rounding: Value | None                  # [O] i64
    y: Written                              # [N, ring, OW, O]
    columns: Written                        # [words] u32: a column, and the bytes of a window
    kernel: Pair
    stride: Pair
    pad: Quad                               # top, left, bottom, right
    dilation: int                           # of rows
    x_zero: int
    together: int                           # channels that share segments
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
    def taps(self) -> RowTaps:
        return RowTaps(self.height, self.out_height(), self.kernel[0], self.stride[0], self.dilation, self.pad[0])

    @property
    def inputs(self) -> int:
        """Elements of a window."""
        return self.kernel[0] * self.kernel[1] * self.x.shape[3]

    @property
    def pointwise(self) -> bool:
        """Whether output pixel i reads input pixel i and nothing else."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and not any(self.pad)

    def out_height(self) -> int:
        pads = self.pad[0], self.pad[2]
        return window_output_extent(self.height, self.kernel[0], self.stride[0], self.dilation, pads)

    def input_rows(self, rows: Pair) -> Pair:
        return window_input_span(Span(*rows), self.kernel[0], self.stride[0], self.dilation, self.pad[0], self.height)

    def first_row(self) -> str:
        return self.taps.first_row()

    def macs(self) -> int:
        rows = self.rows[1] - self.rows[0]
        return self.x.shape[0] * rows * self.y.shape[2] * self.y.shape[3] * self.inputs

    def reference(self, x: Array, weight: Array, starts: Array, segments: Array, multiplier: Array | None,
                  rounding: Array | None, y: Array, columns: Array) -> None:
        outputs = self.y.shape[3]
        flat = unpack_weights(weight, outputs, self.inputs).astype(np.int64)
        bias = starts[:outputs, 1].astype(np.uint32).view(np.int32).astype(np.int64)
        bias = bias + (self.x_zero - offset_of(self.x)) * flat.sum(axis=1)
        rows, _ = self.read_rows("x", x)
        pad = clipped_pad(self.rows, self.taps, self.pad)
        sums = convolve(rows.astype(np.float64) - self.x_zero, flat.reshape(outputs, *self.kernel, -1).astype(np.float64),
                        self.stride, pad, (self.dilation, 1), 1)
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
        """, pointers=self.pointers(), rows=self.row_parameters(), rest=self._rest_text(),
                    body=self._run_text() if self.pointwise else self._window_text())

    @property
    def _steps(self) -> int:
        """Inputs of a column, in whole steps."""
        return int(self.weight.shape[1])

    def _rest_text(self) -> str:
        """Inputs that fill up the last step."""
        return "\n".join(f"columns[{word}] = 0;" for word in range(2 * self.inputs, 2 * self._steps))

    def _block_text(self, out: str) -> str:
        """The results of a column with `filled` pixels, at `out`."""
        outputs = self.y.shape[3]
        count = str(BLOCK) if outputs % BLOCK == 0 else f"({outputs} - o < {BLOCK} ? {outputs} - o : {BLOCK})"
        return fill("""
            const uint8_t *segment = segments;
            for (int32_t o = 0; o < {outputs}; o += {block}) {
                int32_t sums[{pixels} * {block}];
                const int32_t channels = {count};
                segment = tc_swar_sums_{together}(columns, weight + o * {steps}, starts + 2 * o, segment, channels, sums);
                for (int32_t lane = 0; lane < channels; lane++) {
                    for (int32_t i = 0; i < filled; i++) {
                        {out}[i * {outputs} + o + lane] = {stored};
                    }
                }
            }
        """, outputs=outputs, block=BLOCK, pixels=PIXELS, count=count, together=self.together, steps=self._steps,
                    out=out, stored=self.store(f"sums[{PIXELS} * lane + i]", "o + lane"))

    @property
    def _spread(self) -> str:
        return f"tc_swar_spread_{self.x.type.dtype}"

    def _run_text(self) -> str:
        width, inputs, outputs = self.x.shape[2], self.x.shape[3], self.y.shape[3]
        return row_runs(cast(Any, self), width, (inputs, outputs), fill("""
            for (int32_t pixel = 0; pixel < count; pixel += {pixels}) {
                const int32_t filled = count - pixel < {pixels} ? count - pixel : {pixels};
                for (int32_t i = 0; i < filled; i++) {
                    (void){spread}(in + (pixel + i) * {inputs}, {inputs}, columns + i / 2, i & 1);
                }
                {yt} *out = out_row + pixel * {outputs};
                {block}
            }
        """, pixels=PIXELS, spread=self._spread, inputs=inputs, outputs=outputs, block=self._block_text("out"),
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
                for (int32_t pixel = 0; pixel < {width}; pixel++) {
                    {gather}
                    filled++;
                    left--;
                    if (filled == {pixels} || left == 0) {
                        {block}
                        out += filled * {outputs};
                        filled = 0;
                    }
                }
            }
        """, setup=self.row_setup(), lines=self._lines_text(), width=width, gather=self._gather_text(),
                    whole_start="" if parted else start, row_start=start if parted else "", pixels=PIXELS,
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
        """The window of `pixel` into its half of the column."""
        channels = self.x.shape[3]
        length, limit = self.kernel[1] * channels, self.x.shape[2] * channels
        edges = self.taps.clipped_above or self.taps.clipped_below or self.pad[1] or self._beyond()
        call = f"tc_swar_window_{self.x.type.dtype}(lines[ky], first, {length}, {limit}, to, filled & 1, {self.x_zero})" \
            if edges else f"{self._spread}(lines[ky] + first, {length}, to, filled & 1)"
        return fill("""
            const int32_t first = pixel * {step} - {pad};
            uint32_t *to = columns + filled / 2;
            for (int32_t ky = 0; ky < {kernel}; ky++) {
                to = {call};
            }
        """, step=self.stride[1] * channels, pad=self.pad[1] * channels, kernel=self.kernel[0], call=call)

    def _beyond(self) -> bool:
        """Whether some window reaches over the right end of a row."""
        return (self.y.shape[2] - 1) * self.stride[1] - self.pad[1] + self.kernel[1] > self.x.shape[2]


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
    packed = pack_weights(flat)
    found = pack_segments(packed, together)
    if found is None:
        return False
    segments, counts = found
    zero = quant_of(op.x).zero_point
    stored = stored_from_sums(op, (op.x, op.weight), op.clamp, sum_range(op.x.type.dtype, zero, flat, bias), low)
    folded = (0 if bias is None else bias.astype(np.int64)) \
        - (zero - offset_of(op.x)) * flat.astype(np.int64).sum(axis=1)
    name = op.weight.name
    low.emit(ConvSwar(
        low.buffer(op.x), low.const(name, packed), low.const(f"{name}.starts", pack_starts(folded, counts, together)),
        low.const(f"{name}.segments", segments), y=low.result(op.out),
        columns=low.scratch(BufferType((2 * packed.shape[1],), U32), f"{op.out.name}.columns"),
        kernel=op.kernel, stride=op.stride, pad=op.pad, dilation=op.dilation[0], x_zero=zero, together=together,
        rows=(0, op.out.shape[1]), height=op.x.shape[1], **sum_fields(stored)))
    return True
