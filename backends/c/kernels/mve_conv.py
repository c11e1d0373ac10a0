"""Convolutions of stored 8-bit integers with vectors of 16 bytes (MVE).

    k.conv2d_mve(%x, @w.stream) -> (%y, %windows) {kernel = [3, 3], ...}

Pixels are multiplied with all output channels, four at a time (`mve_run`). Those of a 1x1 convolution are read where
they are; windows are copied behind each other first, four of them (or fewer, where memory is short), from one row of
the image to the next. Outside the image values are the zero point of x, whose part in the sums is in the biases.
"""

from __future__ import annotations

from typing import Any, cast, final

import numpy as np

from tinyir.arith import requantize
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering
from tinyir.opdef import Tiling, Written
from tinyir.ops.conv import convolve
from tinyir.ops.qconv import QConv2D
from tinyir.ops.quant import quant_of
from tinyir.types import I8, BufferType

from ..text import fill
from .mve_pack import pack_groups, plan_mve, unpack_groups
from .mve_run import run_shape, unrolled
from .qruns import row_runs
from .taps import clipped_pad, factor
from .window import ConvKernel

__all__ = ["ConvMve", "lower_conv2d_mve"]

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]
_MOST_OUTPUTS = 16384
"""Offsets of results of four pixels have 16 bits."""


@final
class ConvMve(ConvKernel, opname="k.conv2d_mve"):
    """y[n, i, j, o] = stored(bias[o] + sum of x times weight over the window), x its zero point outside the image."""

    x: Value                                # [N, ring, W, C] i8
    stream: Value                           # [pairs of output channels, words] u32: see mve_pack
    y: Written                              # [N, ring, OW, O] i8
    windows: Written | None                 # [some windows] i8, where windows are more than a pixel
    kernel: Pair
    stride: Pair
    pad: Quad                               # top, left, bottom, right
    dilation: int                           # of rows
    x_zero: int
    y_zero: int
    pixels: int                             # windows that there is room for
    rows: Pair
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return "conv2d_mve"

    @property
    def row_dilation(self) -> int:
        return self.dilation

    @property
    def kinds(self) -> dict[str, str]:
        """The C types of the elements of x and y, to fill into texts."""
        return {"xt": "int8_t", "yt": "int8_t"}

    @property
    def pointwise(self) -> bool:
        """Whether output pixel i reads input pixel i and nothing else."""
        return self.windows is None

    def reference(self, x: Array, stream: Array, y: Array, windows: Array | None) -> None:
        outputs = self.y.shape[3]
        coded = unpack_groups(stream, 2, (outputs, self.inputs))
        weight = coded.weight.reshape(outputs, *self.kernel, -1)
        bias = coded.bias + self.x_zero * coded.weight.astype(np.int64).sum(axis=1)
        rows, _ = self.read_rows("x", x)
        pad = clipped_pad(self.rows, self.taps, self.pad)
        sums = convolve(rows.astype(np.float64) - self.x_zero, weight.astype(np.float64), self.stride, pad,
                        (self.dilation, 1), 1)
        self.write_rows("y", y, requantize(sums.astype(np.int64) + bias, coded.scale, self.y_zero, I8))

    def tilings(self) -> tuple[Tiling, ...]:
        sizes = [] if self.pointwise else [size for size in (4, 2, 1) if size <= self.pixels]
        return tuple(Tiling({"pixels": size}, "windows", size * self.inputs) for size in sizes)

    def source(self) -> str:
        windows = "" if self.windows is None else ", int8_t *restrict windows"
        return fill("""
            static void {name}(const int8_t *restrict x, const uint32_t *restrict stream,
                int8_t *restrict y{windows}, {rows})
            {
                static const int32_t shape[6] = {shape};
                {body}
            }
        """, windows=windows, rows=self.row_parameters(), shape=self._shape(),
                    body=self._run_text() if self.pointwise else self._window_text())

    def _shape(self) -> str:
        return run_shape(self.inputs, self.inputs, self.y.shape[3], self.y_zero)

    @property
    def _run(self) -> str:
        return f"tc_mve_run_{unrolled(self.inputs)}"

    def _run_text(self) -> str:
        call = f"{self._run}(in, stream, out_row, shape, count);\n"
        return row_runs(cast(Any, self), self.x.shape[2], (self.x.shape[3], self.y.shape[3]), call)

    # -- windows -----------------------------------------------------------------------------------------------------

    def _window_text(self) -> str:
        channels, outputs = self.x.shape[3], self.y.shape[3]
        parted = self.is_parted("y")
        start = fill("int8_t *out = y + {slot} * {length};", length=self.pitch("y"),
                     slot=factor(self.slot("y", "row" if parted else "row_begin")))
        rest = fill("""
            if (filled > 0) {
                {run}(windows, stream, out, shape, filled);
                filled = 0;
            }
        """, run=self._run)
        return fill("""
            static const int32_t window[5] = {{kernel}, {line}, {limit}, {zero}, {step}};
            {setup}
            {whole_start}
            int32_t filled = 0;
            for (int32_t row = row_begin; row < row_end; row++) {
                {lines}
                {row_start}
                for (int32_t pixel = 0, count; pixel < {width}; pixel += count) {
                    count = {width} - pixel < {pixels} - filled ? {width} - pixel : {pixels} - filled;
                    tc_mve_windows(lines, pixel * {step} - {before}, windows + filled * {inputs}, window, count,
                        {inside});
                    filled += count;
                    if (filled == {pixels}) {
                        {run}(windows, stream, out, shape, {pixels});
                        out += {block};
                        filled = 0;
                    }
                }
                {row_rest}
            }
            {whole_rest}
        """, kernel=self.kernel[0], line=self.kernel[1] * channels, limit=self.x.shape[2] * channels,
                    zero=self.x_zero, setup=self.row_setup(), lines=self._lines_text(), width=self.y.shape[2],
                    step=self.stride[1] * channels, before=self.pad[1] * channels, inputs=self.inputs, run=self._run,
                    pixels=self.pixels, block=self.pixels * outputs, whole_start="" if parted else start,
                    row_start=start if parted else "",
                    row_rest=rest if parted else "", whole_rest="" if parted else rest,
                    inside=" && ".join(self._lines_inside()) or "1")

    def _lines_inside(self) -> list[str]:
        """C conditions for all lines to be inside the image."""
        taps = self.taps
        return ["lines[0] != NULL"] * taps.clipped_above + [f"lines[{taps.kernel - 1}] != NULL"] * taps.clipped_below

    def _lines_text(self) -> str:
        """`lines`: the input rows of the taps, NULL outside the image."""
        taps = self.taps
        inside = " && ".join(["line >= 0"] * taps.clipped_above + [f"line < {taps.extent}"] * taps.clipped_below)
        place = self.address("x", "line")
        return fill("""
            const int8_t *lines[{kernel}];
            for (int32_t ky = 0; ky < {kernel}; ky++) {
                const int32_t line = {top} - {pad} + ky * {dilation};
                lines[ky] = {place};
            }
        """, kernel=taps.kernel, top=f"row * {taps.stride}" if taps.stride > 1 else "row", pad=taps.pad,
                    dilation=taps.dilation, place=f"{inside} ? {place} : NULL" if inside else place)


def lower_conv2d_mve(op: QConv2D, weight: Array, bias: Array | None, low: Lowering) -> bool:
    """Compute `op` with `weight` [O, KH, KW, C] (differences from the zero point) and `bias` [O], if the target has the
    instructions and they do; whether it did.
    """
    outputs = len(weight)
    flat = weight.reshape(outputs, -1)
    if op.groups != 1 or op.dilation[1] != 1 or not 2 <= outputs <= _MOST_OUTPUTS:
        return False
    coded = plan_mve(op, (op.x, op.weight), flat, bias, low)
    if coded is None:
        return False
    pointwise = op.kernel == (1, 1) and op.stride == (1, 1) and not any(op.pad)
    stream = low.const(f"{op.weight.name}.stream", pack_groups(coded, 2))
    result = low.result(op.out)
    windows = None if pointwise else low.scratch(BufferType((4 * flat.shape[1],), I8), f"{op.out.name}.windows")
    low.emit(ConvMve(
        low.buffer(op.x), stream, result, windows, kernel=op.kernel, stride=op.stride, pad=op.pad,
        dilation=op.dilation[0], x_zero=quant_of(op.x).zero_point, y_zero=quant_of(op.out).zero_point, pixels=4,
        rows=(0, op.out.shape[1]), height=op.x.shape[1]))
    return True
