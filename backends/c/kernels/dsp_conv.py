"""Convolutions of stored 8-bit integers on Cortex-M with DSP.

    k.conv2d_dsp(%x, @w.stream) -> (%y, %columns) {kernel = [3, 3], coding = paired, shift = 12, ...}

Four output pixels at a time: their windows become a column of 16-bit values in scratch memory, which is multiplied with
all output channels (`dsp_columns`). Columns go on from one row of the image to the next. Outside the image values are
the zero point of x, whose part in the sums is in the biases. Fewer than four pixels, at the end, are computed as four
beside the result, and copied.
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

from ..library import family
from ..text import c_type, fill
from .base import RowKernel
from .dsp_pack import GUARDS, offset_of, pack_stream, plan_layer, stored_values, unpack_stream
from .dsp_text import Coding
from .qruns import row_runs
from .taps import RowTaps, clipped_pad, factor

__all__ = ["ConvDsp", "lower_conv2d_dsp"]

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]


@final
class ConvDsp(RowKernel, opname="k.conv2d_dsp"):
    """y[n, i, j, o] = stored(bias[o] + sum of x times weight over the window), x its zero point outside the image."""

    batched: ClassVar[tuple[str, ...]] = ("x", "y")

    x: Value                                # [N, ring, W, C] i8 or u8
    stream: Value                           # [pairs of output channels, words] u32: see dsp_pack
    y: Written                              # [N, ring, OW, O] i8 or u8
    columns: Written                        # [words] u32: a column, results of four pixels, a window
    kernel: Pair
    stride: Pair
    pad: Quad                               # top, left, bottom, right
    dilation: int                           # of rows
    x_zero: int
    y_zero: int
    coding: Coding
    shift: int
    rows: Pair
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return f"conv2d_dsp_{self.x.type.dtype}"

    @property
    def taps(self) -> RowTaps:
        return RowTaps(self.height, self.out_height(), self.kernel[0], self.stride[0], self.dilation, self.pad[0])

    @property
    def inputs(self) -> int:
        """Elements of a window."""
        return self.kernel[0] * self.kernel[1] * self.x.shape[3]

    @property
    def kinds(self) -> dict[str, str]:
        """The C types of the elements of x and y, to fill into texts."""
        return {"xt": c_type(self.x.type.dtype), "yt": c_type(self.y.type.dtype)}

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

    def reference(self, x: Array, stream: Array, y: Array, columns: Array) -> None:
        outputs = self.y.shape[3]
        weight, bias, scalings = unpack_stream(stream, 2, (outputs, self.inputs), self.coding)
        zero = self.x_zero - offset_of(self.x)
        bias = bias + zero * weight.astype(np.int64).sum(axis=1)
        wide = weight.reshape(outputs, *self.kernel, -1).astype(np.float64)
        rows, _ = self.read_rows("x", x)
        pad = clipped_pad(self.rows, self.taps, self.pad)
        sums = convolve(rows.astype(np.float64) - self.x_zero, wide, self.stride, pad, (self.dilation, 1), 1)
        self.write_rows("y", y, stored_values(sums.astype(np.int64) + bias, scalings,
                                              (self.y_zero, self.y.type.dtype), self.shift, GUARDS[self.coding]))

    def source(self) -> str:
        return fill("""
            static void {name}(const {xt} *restrict x, const uint32_t *restrict stream, {yt} *restrict y,
                uint32_t *restrict columns, {rows})
            {
                {body}
            }
        """, rows=self.row_parameters(), body=self._run_text() if self.pointwise else self._window_text(), **self.kinds)

    @property
    def _variant(self) -> str:
        return f"{self.coding}_{self.y.type.dtype}_{self.shift}"

    def _run_text(self) -> str:
        width, inputs, outputs = self.x.shape[2], self.x.shape[3], self.y.shape[3]
        arguments = f"in, {inputs}, stream, columns, out_row, {outputs}, count"
        call = f"tc_run_{self.x.type.dtype}_{self._variant}({arguments});\n"
        return row_runs(cast(Any, self), width, (inputs, outputs), call)

    # -- a window ----------------------------------------------------------------------------------------------------

    def _window_text(self) -> str:
        length, ring = self.y.shape[2] * self.y.shape[3], self.is_ring("y")
        return fill("""
            {setup}
            {window}
            {start}
            int32_t filled = 0;
            for (int32_t row = row_begin; row < row_end; row++) {
                {lines}
                {slot}
                for (int32_t pixel = 0; pixel < {width}; pixel++) {
                    {gather}
                    filled++;
                    if (filled == 4 || {last}) {
                        tc_block_{variant}(stream, columns, out, {outputs}, {steps}, filled);
                        out += filled * {outputs};
                        filled = 0;
                    }
                }
            }
        """, setup=self.row_setup(), lines=self._lines_text(), width=self.y.shape[2], gather=self._gather_text(),
                    window="" if self._whole_words else f"uint8_t *window = (uint8_t *)(columns + {self._window_at});",
                    start="" if ring else f"{self.kinds['yt']} *out = y + row_begin * {length};",
                    slot=f"{self.kinds['yt']} *out = y + {factor(self.slot('y', 'row'))} * {length};" if ring else "",
                    last=f"pixel == {self.y.shape[2] - 1}" if ring
                    else f"(pixel == {self.y.shape[2] - 1} && row == row_end - 1)", variant=self._variant,
                    outputs=self.y.shape[3], steps=self.steps)

    @property
    def _whole_words(self) -> bool:
        """Whether the rows of a window are whole words."""
        return self.x.shape[3] % 4 == 0

    @property
    def _window_at(self) -> int:
        """Where in `columns` the bytes of a window are gathered: behind a column and the results of four pixels."""
        return 8 * self.steps + self.y.shape[3]

    def _lines_text(self) -> str:
        """`lines`: the input rows of the taps, NULL outside the image."""
        taps = self.taps
        inside = " && ".join(["line >= 0"] * taps.clipped_above + [f"line < {taps.extent}"] * taps.clipped_below)
        place = self.address("x", "line")
        top = f"row * {taps.stride}" if taps.stride > 1 else "row"
        return fill("""
            const {xt} *lines[{kernel}];
            for (int32_t ky = 0; ky < {kernel}; ky++) {
                const int32_t line = {top} - {pad} + ky * {dilation};
                lines[ky] = {place};
            }
        """, kernel=taps.kernel, top=top, pad=taps.pad, dilation=taps.dilation,
                    place=f"{inside} ? {place} : NULL" if inside else place, **self.kinds)

    def _gather_text(self) -> str:
        """The window of `pixel` into the column."""
        channels = self.x.shape[3]
        length, limit = self.kernel[1] * channels, self.x.shape[2] * channels
        first = f"pixel * {self.stride[1] * channels} - {self.pad[1] * channels}"
        kind, byte = f"{self.coding}_{self.x.type.dtype}", self.x_zero & 0xFF
        if self._whole_words:
            return fill("""
                for (int32_t ky = 0; ky < {rows}; ky++) {
                    tc_spread_window_{kind}(lines[ky], {first}, {length}, {limit}, columns + filled + ky * {words},
                        0x{zero:08X}u);
                }
            """.replace("{zero:08X}", f"{byte * 0x01010101:08X}"), rows=self.kernel[0], kind=kind, first=first,
                        length=length, limit=limit, words=2 * length)
        inside = " && ".join([f"first >= 0 && first <= {limit - length}", *self._lines_inside()])
        return fill("""
            const int32_t first = {first};
            if ({inside}) {
                for (int32_t ky = 0; ky < {rows}; ky++) {
                    __builtin_memcpy(window + ky * {length}, lines[ky] + first, {length});
                }
            } else {
                for (int32_t ky = 0; ky < {rows}; ky++) {
                    tc_window_row(lines[ky], first, {length}, {limit}, window + ky * {length}, {zero});
                }
            }
            tc_spread_{kind}_8(window, columns + filled, {steps});
        """, inside=inside, rows=self.kernel[0], kind=kind, first=first, length=length, limit=limit, zero=byte,
                    steps=self.steps)

    def _lines_inside(self) -> list[str]:
        """C conditions for all rows of a window to be inside the image."""
        taps = self.taps
        return ["lines[0] != NULL"] * taps.clipped_above + [f"lines[{taps.kernel - 1}] != NULL"] * taps.clipped_below

    @property
    def steps(self) -> int:
        """Words of weights of an output channel."""
        return -(-self.inputs // 4)


@family(r"block_((?:paired|plain)_(i8|u8)_\d+)")
def block_text(name: str, variant: str, dtype: str) -> str:
    """The C of tc_block_<variant of tc_columns>."""
    return fill("""
        /* tc_columns for fewer than four pixels, too: these are computed behind the columns and copied. */
        static __attribute__((noinline, unused)) void tc_{name}(const uint32_t *stream, uint32_t *columns, {kind} *out,
            int32_t outputs, int32_t steps, int32_t pixels)
        {
            if (pixels == 4) {
                tc_columns_{variant}(stream, columns, out, outputs, steps);
                return;
            }
            {kind} *spare = ({kind} *)(columns + 8 * steps);
            tc_columns_{variant}(stream, columns, spare, outputs, steps);
            for (int32_t i = 0; i < pixels * outputs; i++) {
                out[i] = spare[i];
            }
        }
    """, name=name, variant=variant, kind="int8_t" if dtype == "i8" else "uint8_t")


@family(r"run_(i8|u8)_((paired|plain)_(i8|u8)_\d+)")
def run_text(name: str, source: str, variant: str, coding: str, dtype: str) -> str:
    """The C of tc_run_<element type of x>_<variant of tc_columns>."""
    return fill("""
        /* A 1x1 convolution of `count` pixels that lie behind each other. Where `inputs` is not a multiple of 4 the
         * last word of a pixel reaches into the next one; the last pixel is copied first, behind all else in
         * `columns`. */
        static __attribute__((noinline, unused)) void tc_{name}(const {xt} *x, int32_t inputs, const uint32_t *stream,
            uint32_t *columns, {yt} *y, int32_t outputs, int32_t count)
        {
            const int32_t steps = (inputs + 3) / 4;
            for (; count > 0; count -= 4) {
                const int32_t pixels = count < 4 ? count : 4;
                for (int32_t pixel = 0; pixel < pixels; pixel++, x += inputs) {
                    const void *from = x;
                    if (pixel == count - 1 && inputs % 4 != 0) {
                        {xt} *copy = ({xt} *)(columns + 8 * steps + outputs);
                        for (int32_t k = 0; k < inputs; k++) {
                            copy[k] = x[k];
                        }
                        from = copy;
                    }
                    tc_spread_{coding}_{source}_8(from, columns + pixel, steps);
                }
                tc_block_{variant}(stream, columns, y, outputs, steps, pixels);
                y += 4 * outputs;
            }
        }
    """, name=name, variant=variant, coding=coding, source=source, xt="int8_t" if source == "i8" else "uint8_t",
                yt="int8_t" if dtype == "i8" else "uint8_t")


def lower_conv2d_dsp(op: QConv2D, weight: Array, bias: Array | None, low: Lowering) -> bool:
    """Compute `op` with `weight` [O, KH, KW, C] (differences from the zero point) and `bias` [O], if the target has the
    instructions and they do; whether it did.
    """
    outputs = len(weight)
    flat = weight.reshape(outputs, -1)
    if op.groups != 1 or op.dilation[1] != 1 or not weight.size:
        return False
    plan = plan_layer(op, (op.x, op.weight), flat, bias, low)
    if plan is None:
        return False
    zero = quant_of(op.x).zero_point
    start = plan.bias - (zero - offset_of(op.x)) * plan.weight.astype(np.int64).sum(axis=1)
    steps = -(-flat.shape[1] // 4)
    window = 0 if op.x.shape[3] % 4 == 0 else steps
    stream = pack_stream(plan.weight, start, plan.scalings, plan.coding, 2)
    low.emit(ConvDsp(
        low.buffer(op.x), low.const(f"{op.weight.name}.stream", stream),
        low.result(op.out), low.scratch(BufferType((8 * steps + outputs + window,), U32), f"{op.out.name}.columns"),
        kernel=op.kernel, stride=op.stride, pad=op.pad, dilation=op.dilation[0], x_zero=zero,
        y_zero=quant_of(op.out).zero_point, coding=plan.coding, shift=plan.shift, rows=(0, op.out.shape[1]),
        height=op.x.shape[1]))
    return True
