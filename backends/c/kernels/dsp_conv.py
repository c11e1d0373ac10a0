"""Convolutions of stored 8-bit integers on Cortex-M with DSP.

    k.conv2d_dsp(%x, @w.stream) -> (%y, %columns) {kernel = [3, 3], coding = paired, shift = 12, ...}

Four output pixels at a time: their windows become a column of 16-bit values in scratch memory, which is multiplied with
all output channels (`dsp_columns`). Columns go on from one row of the image to the next. Outside the image values are
the zero point of x, whose part in the sums is in the biases. Fewer pixels, at the end, have columns of their own where
runs are short, so that it pays; else they are computed as four, beside the result, and copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, final

import numpy as np

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering
from tinyir.opdef import Tiling, Written
from tinyir.ops.conv import convolve
from tinyir.ops.qconv import QConv2D
from tinyir.ops.quant import quant_of
from tinyir.types import U32, BufferType

from ..library import family
from ..text import c_type, fill
from .dsp_pack import GUARDS, offset_of, pack_stream, plan_layer, stored_values, unpack_stream
from .dsp_text import Coding
from .qruns import row_runs
from .taps import clipped_pad, factor
from .window import ConvKernel

__all__ = ["ConvDsp", "lower_conv2d_dsp"]

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]
_LONG_RUN = 64
"""Pixels of a run that ends with four, whether or not they are needed."""


@final
class ConvDsp(ConvKernel, opname="k.conv2d_dsp"):
    """y[n, i, j, o] = stored(bias[o] + sum of x times weight over the window), x its zero point outside the image."""

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
    sizes: tuple[int, ...]                  # pixels of the columns that there are, the most first
    rows: Pair
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return f"conv2d_dsp_{self.x.type.dtype}"

    def dimensions(self) -> dict[str, int]:
        if not self.pointwise or not (self.in_runs("x") or self.in_runs("y")):
            return {}  # a call of tc_run: to pass on what is passed takes as much
        found = {"ring": self.ring("x")} if self.ring("x") == self.ring("y") else {}
        found |= {"length": self.pitch("x")} if self.pitch("x") == self.pitch("y") else {}
        return {**found, "width": self.x.shape[2], "inputs": self.x.shape[3], "outputs": self.y.shape[3],
                "in_length": self.pitch("x"), "out_length": self.pitch("y"), "in_ring": self.ring("x"),
                "out_ring": self.ring("y")}

    @property
    def row_dilation(self) -> int:
        return self.dilation

    @property
    def kinds(self) -> dict[str, str]:
        """The C types of the elements of x and y, to fill into texts."""
        return {"xt": c_type(self.x.type.dtype), "yt": c_type(self.y.type.dtype)}

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
        call = f"tc_run_{self.x.type.dtype}_{self._variant}_{self._digits}({arguments});\n"
        return row_runs(cast(Any, self), width, (inputs, outputs), call)

    @property
    def _digits(self) -> str:
        return "".join(map(str, self.sizes))

    # -- a window ----------------------------------------------------------------------------------------------------

    def _window_text(self) -> str:
        width, length = self.y.shape[2], self.pitch("y")
        place = f"{{yt}} *out = y + {{slot}} * {length};\nint32_t left = {{rows}}{width};"
        parted = self.is_parted("y")
        row = "row" if parted else "row_begin"
        start = fill(place, slot=factor(self.slot("y", row)), rows="" if parted else "(row_end - row_begin) * ",
                     **self.kinds)
        return fill("""
            {setup}
            {window}
            {whole_start}
            int32_t filled = 0, pixels = 0;
            for (int32_t row = row_begin; row < row_end; row++) {
                {lines}
                {row_start}
                for (int32_t pixel = 0; pixel < {width}; pixel++) {
                    if (filled == 0) {
                        pixels = {pixels};
                    }
                    {gather}
                    filled++;
                    if (filled == pixels) {
                        tc_block_{variant}_{digits}(stream, columns, out, {outputs}, {steps}, pixels);
                        out += pixels * {outputs};
                        left -= pixels;
                        filled = 0;
                    }
                }
            }
        """, setup=self.row_setup(), lines=self._lines_text(), width=width, gather=self._gather_text(),
                    window="" if self._whole_words else f"uint8_t *window = (uint8_t *)(columns + {self._window_at});",
                    whole_start="" if parted else start, row_start=start if parted else "",
                    pixels=_pixels(self.sizes, "left"), variant=self._variant, digits=self._digits,
                    outputs=self.y.shape[3], steps=self.steps)

    @property
    def _whole_words(self) -> bool:
        """Whether the rows of a window are whole words."""
        return self.x.shape[3] % 4 == 0

    @property
    def _window_at(self) -> int:
        """Where in `columns` the bytes of a window are gathered: behind a column and spare results."""
        return columns_words(self.sizes, self.steps, self.y.shape[3], self.y.shape[2])

    def scratch_words(self, sizes: tuple[int, ...] | None = None) -> int:
        """Words of scratch: a column, spare results, a window."""
        columns = columns_words(sizes or self.sizes, self.steps, self.y.shape[3], self.y.shape[2])
        return columns + (0 if self._whole_words or self.pointwise else self.steps)

    def tilings(self) -> tuple[Tiling, ...]:
        return tuple(Tiling({"sizes": sizes}, "columns", self.scratch_words(sizes))
                     for sizes in (self.sizes, *smaller_sizes(self.y.shape[2], self.sizes[0])))

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
        kind, byte, apart = f"{self.coding}_{self.x.type.dtype}", self.x_zero & 0xFF, _apart(self.sizes)
        values = {"rows": self.kernel[0], "kind": kind, "length": length, "limit": limit, "apart": apart}
        if self._whole_words:
            words, zero = _times(length // 2, apart), f"0x{byte * 0x01010101:08X}u"
            return f"const int32_t first = {first};\n" + self._where_inside(fill("""
                for (int32_t ky = 0; ky < {rows}; ky++) {
                    tc_spread_{kind}(lines[ky] + first, columns + filled + ky * {words}, {count}, {apart});
                }
            """, count=length // 4, words=words, **values), fill("""
                for (int32_t ky = 0; ky < {rows}; ky++) {
                    tc_spread_window_{kind}(lines[ky], first, {length}, {limit}, columns + filled + ky * {words},
                        {apart}, {zero});
                }
            """, words=words, zero=zero, **values))
        return f"const int32_t first = {first};\n" + self._where_inside(fill("""
            for (int32_t ky = 0; ky < {rows}; ky++) {
                __builtin_memcpy(window + ky * {length}, lines[ky] + first, {length});
            }
        """, **values), fill("""
            for (int32_t ky = 0; ky < {rows}; ky++) {
                tc_window_row(lines[ky], first, {length}, {limit}, window + ky * {length}, {zero});
            }
        """, zero=byte, **values)) + fill("tc_spread_{kind}(window, columns + filled, {steps}, {apart});",
                                          steps=self.steps, **values)

    def _where_inside(self, inside: str, border: str) -> str:
        """C for windows that lie inside of the image, and for others."""
        channels = self.x.shape[3]
        last = (self.x.shape[2] - self.kernel[1]) * channels
        if last < 0:
            return border
        condition = " && ".join([f"first >= 0 && first <= {last}", *self._lines_inside()])
        return fill("if ({condition}) {\n    {inside}\n} else {\n    {border}\n}", condition=condition, inside=inside,
                    border=border)

    def _lines_inside(self) -> list[str]:
        """C conditions for all rows of a window to be inside the image."""
        taps = self.taps
        return ["lines[0] != NULL"] * taps.clipped_above + [f"lines[{taps.kernel - 1}] != NULL"] * taps.clipped_below

    @property
    def steps(self) -> int:
        """Words of weights of an output channel."""
        return -(-self.inputs // 4)


def column_sizes(run: int, width: int) -> tuple[int, ...]:
    """How many pixels columns have, for runs of `run` pixels, which rings may cut behind any row of `width`: four, or
    what rows can be divided into, if to compute four at the ends would be more than a few percent of a run.
    """
    if run >= _LONG_RUN or width % 4 == 0:
        return (4,)
    if width % 3 == 0 or width < 3:
        return (3,) if width % 3 == 0 else (4,) if run % 4 == 0 else (min(run, 3),)
    return (3, 2) if width == 5 else (4, 3)


def smaller_sizes(width: int, most: int) -> list[tuple[int, ...]]:
    """Pixels of columns that take less scratch than those of `most`, for rows of `width` pixels."""
    sizes = [(3,) if width % 3 == 0 else (3, 2), (2,) if width % 2 == 0 else (2, 1), (1,)]
    return [some for some in sizes if some[0] < most]


def columns_words(sizes: Sequence[int], steps: int, outputs: int, width: int) -> int:
    """Words of scratch for columns of these pixels, and for results that are copied, where runs of rows of `width`
    pixels may end with fewer.
    """
    least = sizes[-1]
    divides = width % least == 0 if len(sizes) == 1 else least == 1 or width > sum(sizes) - 2
    return 2 * steps * sizes[0] + (0 if divides else -(-outputs * least // 4))


def _pixels(sizes: Sequence[int], left: str) -> str:
    """C expression for the pixels of the next column where `left` are left, 1 at least."""
    most, least = sizes[0], sizes[-1]
    if most == 1:
        return "1"
    if len(sizes) == 1 or least == 1:
        return f"{left} < {most} ? {left} : {most}"
    first = f"{left} % 4 == 0" if most == 4 else f"{left} == 3 || {left} > 4"
    return f"{first} ? {most} : {left} < {least} ? {left} : {least}"


def _times(number: int, apart: str) -> str:
    return str(number * int(apart)) if apart.isdigit() else f"({number} * {factor(apart)})"


def _apart(sizes: Sequence[int]) -> str:
    """C expression for how many pixels the column that takes `pixels` has."""
    return str(sizes[0]) if len(sizes) == 1 else f"(pixels == {sizes[0]} ? {sizes[0]} : {sizes[1]})"


@family(r"block_((?:paired|plain)_(i8|u8)_\d+)_([4321]+)")
def block_text(name: str, variant: str, dtype: str, digits: str) -> str:
    """The C of tc_block_<variant of tc_columns>_<pixels of columns>."""
    sizes = [int(digit) for digit in digits]
    cases = [fill("""
        if (pixels == {size}) {
            tc_columns_{variant}_of{size}(stream, columns, out, outputs, steps);
            return;
        }
    """, size=size, variant=variant) for size in sizes]
    spare = "" if 1 in sizes else fill("""
        {kind} *spare = ({kind} *)(columns + {words} * steps);
        tc_columns_{variant}_of{least}(stream, columns, spare, outputs, steps);
        for (int32_t i = 0; i < pixels * outputs; i++) {
            out[i] = spare[i];
        }
    """, kind="int8_t" if dtype == "i8" else "uint8_t", words=2 * sizes[0], variant=variant, least=sizes[-1])
    return fill("""
        /* tc_columns for `pixels` pixels; those for which it is not made are computed behind the columns and copied. */
        static __attribute__((noinline, unused)) void tc_{name}(const uint32_t *stream, uint32_t *columns, {kind} *out,
            int32_t outputs, int32_t steps, int32_t pixels)
        {
            {cases}
            {spare}
        }
    """, name=name, kind="int8_t" if dtype == "i8" else "uint8_t", cases="".join(cases), spare=spare)


@family(r"run_(i8|u8)_((paired|plain)_(i8|u8)_\d+)_([4321]+)")
def run_text(name: str, source: str, variant: str, coding: str, dtype: str, digits: str) -> str:
    """The C of tc_run_<element type of x>_<variant of tc_columns>_<pixels of columns>."""
    sizes = [int(digit) for digit in digits]
    return fill("""
        /* A 1x1 convolution of `count` pixels that lie behind each other. Where `inputs` is not a multiple of 4 the
         * last word of a pixel reaches into the next one; that of the last pixel is copied first. */
        static __attribute__((noinline, unused)) void tc_{name}(const {xt} *x, int32_t inputs, const uint32_t *stream,
            uint32_t *columns, {yt} *y, int32_t outputs, int32_t count)
        {
            const int32_t whole = inputs / 4;
            const int32_t steps = (inputs + 3) / 4;
            while (count > 0) {
                const int32_t pixels = {pixels};
                for (int32_t pixel = 0; pixel < pixels; pixel++, x += inputs) {
                    const int32_t words = pixel == count - 1 ? whole : steps;
                    tc_spread_{kind}(x, columns + pixel, words, {apart});
                    if (words < steps) {
                        uint32_t last = 0;
                        for (int32_t k = inputs; k-- > 4 * whole;) {
                            last = last << 8 | (uint8_t)x[k];
                        }
                        tc_spread_{kind}(&last, columns + pixel + 2 * whole * {apart}, 1, {apart});
                    }
                }
                tc_block_{variant}_{digits}(stream, columns, y, outputs, steps, pixels);
                y += pixels * outputs;
                count -= pixels;
            }
        }
    """, name=name, variant=variant, kind=f"{coding}_{source}", xt="int8_t" if source == "i8" else "uint8_t",
                yt="int8_t" if dtype == "i8" else "uint8_t", digits=digits, pixels=_pixels(sizes, "count"),
                apart=_apart(sizes))


def lower_conv2d_dsp(op: QConv2D, weight: Array, bias: Array | None, low: Lowering) -> bool:
    """Compute `op` with `weight` [O, KH, KW, C] (differences from the zero point) and `bias` [O], if the target has the
    instructions and they do; whether it did.
    """
    outputs = len(weight)
    flat = weight.reshape(outputs, -1)
    if op.groups != 1 or op.dilation[1] != 1 or not weight.size or low.is_cut(op.x):
        return False
    height, width = op.out.shape[1:3]
    plan = plan_layer(op, (op.x, op.weight), flat, bias, low, once=height * width == 1)
    if plan is None:
        return False
    zero = quant_of(op.x).zero_point
    start = plan.bias - (zero - offset_of(op.x)) * plan.weight.astype(np.int64).sum(axis=1)
    steps = -(-flat.shape[1] // 4)
    sizes = column_sizes(width * low.rows_of_call(height), width)
    pointwise = op.kernel == (1, 1) and op.stride == (1, 1) and not any(op.pad)
    words = columns_words(sizes, steps, outputs, width) + (0 if op.x.shape[3] % 4 == 0 or pointwise else steps)
    stream = pack_stream(plan.weight, start, plan.scalings, plan.coding, 2)
    low.emit(ConvDsp(
        low.buffer(op.x), low.const(f"{op.weight.name}.stream", stream),
        low.result(op.out), low.scratch(BufferType((words,), U32), f"{op.out.name}.columns"),
        kernel=op.kernel, stride=op.stride, pad=op.pad, dilation=op.dilation[0], x_zero=zero,
        y_zero=quant_of(op.out).zero_point, coding=plan.coding, shift=plan.shift, sizes=sizes, rows=(0, height),
        height=op.x.shape[1]))
    return True
