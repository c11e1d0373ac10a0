"""Pooling with a window: k.max_pool and k.avg_pool, a span of rows of an NHWC image, rings on both sides.

The window is clipped to the image first, so that the loops over its taps need no test; the innermost loops run over the
channels, which are neighbours in memory. Where every tap lies inside, all bounds are literals and the compiler unrolls.
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir import ops
from tinyir.geometry import Span, dilated, window_input_span
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.types import DType

from ..text import c_type, c_value, fill
from .base import RowKernel, evaluate

__all__ = ["AvgPool", "MaxPool"]

_UNROLLED = 16  # taps of a window that may be written out


class _Pool(RowKernel):
    """What the two have in common. `_window` gives kernel, stride, dilation, pad (top, left, bottom, right)."""

    batched = ("x", "y")

    def window(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
        """Kernel, stride, dilation, all padding."""
        raise NotImplementedError

    def image(self) -> tuple[int, int, int]:
        """Columns of x, columns of y, channels."""
        x, y = self.reads[0].shape, self.writes[0].shape
        return x[2], y[2], x[3]

    def out_height(self) -> int:
        kernel, stride, dilation, pad = self.window()
        return (self.height + pad[0] + pad[2] - dilated(kernel[0], dilation[0])) // stride[0] + 1

    def input_rows(self, rows: tuple[int, int]) -> tuple[int, int]:
        kernel, stride, dilation, pad = self.window()
        return window_input_span(Span(*rows), kernel[0], stride[0], dilation[0], pad[0], self.height)

    def first_row(self) -> str:
        _, stride, _, pad = self.window()
        if pad[0] == 0:
            return f"row_begin * {stride[0]}"
        return f"row_begin * {stride[0]} > {pad[0]} ? row_begin * {stride[0]} - {pad[0]} : 0"

    def local_pad(self) -> tuple[int, int, int, int]:
        """The padding that the span sees when the rows that it reads are taken for a whole image."""
        kernel, stride, dilation, pad = self.window()
        first, last = self.input_rows(self.rows)
        begin = self.rows[0] * stride[0] - pad[0]
        end = (self.rows[1] - 1) * stride[0] - pad[0] + dilated(kernel[0], dilation[0])
        return first - begin, pad[1], end - last, pad[3]

    def stem(self) -> str:
        kernel = self.window()[0]
        return f"{super().stem()}_{kernel[0]}x{kernel[1]}_{self.reads[0].type.dtype}"

    def taps(self, axis: int, at: str, extent: int, name: str) -> list[str]:
        """C declarations of the taps inside the image along an axis: `{name}_origin`, `{name}_first`, `{name}_end`.

        Tap k reads position origin + k * dilation; those from first to end - 1 lie inside.
        """
        kernel, stride, dilation, pad = (w[axis] for w in self.window())
        outputs = self.out_height() if axis == 0 else self.image()[1]
        last = (outputs - 1) * stride - pad + (kernel - 1) * dilation
        first = "0" if pad == 0 else _at_least_zero(f"(-{name}_origin + {dilation - 1}) / {dilation}" if dilation > 1
                                                    else f"-{name}_origin", f"{name}_origin < 0")
        end = str(kernel)
        if last >= extent:
            room = f"({extent - 1} - {name}_origin) / {dilation} + 1" if dilation > 1 else f"{extent} - {name}_origin"
            end = f"{name}_origin + {(kernel - 1) * dilation} >= {extent} ? {room} : {kernel}"
        origin = f"{at} * {stride}" + (f" - {pad}" if pad else "")
        return [f"const int32_t {name}_origin = {origin};", f"const int32_t {name}_first = {first};",
                f"const int32_t {name}_end = {end};"]

    def inside(self) -> bool:
        """Whether no window reaches over the edge of the image."""
        kernel, stride, dilation, pad = self.window()
        ends = [(count - 1) * stride[a] - pad[a] + dilated(kernel[a], dilation[a])
                for a, count in ((0, self.out_height()), (1, self.image()[1]))]
        return pad[:2] == (0, 0) and ends[0] <= self.height and ends[1] <= self.image()[0]

    def unrolled_source(self, step: str, finish: str) -> str:
        """The function for small windows that stay inside: every tap is an operand of its own. `step` takes `{x}` into
        `value`, which starts as the first tap, `finish` is the expression of the result.
        """
        kernel, stride, dilation, _ = self.window()
        _, out_columns, channels = self.image()
        kind = c_type(self.reads[0].type.dtype)
        lines = []
        for ky in range(kernel[0]):
            at = f"(row * {stride[0]} + {ky * dilation[0]})" if ky else f"row * {stride[0]}"
            lines.append(f"const {kind} *in{ky} = {self.address('x', at)};")
        taps = [f"in{ky}[c + {kx * dilation[1] * channels}]" if kx else f"in{ky}[c]"
                for ky in range(kernel[0]) for kx in range(kernel[1])]
        return fill("""
            static void {name}(const {kind} *restrict x, {kind} *restrict y, {rows})
            {
                {ring}
                for (int32_t row = row_begin; row < row_end; row++) {
                    {lines}
                    {kind} *out = y + {y_slot} * {out_pitch};
                    for (int32_t column = 0; column < {out_columns}; column++) {
                        for (int32_t c = 0; c < {channels}; c++) {
                            {kind} value = {first};
                            {steps}
                            out[c] = {finish};
                        }
                        {advance}
                        out += {channels};
                    }
                }
            }
        """, kind=kind, rows=self.row_parameters(), ring=self.row_setup(), lines="\n".join(lines), first=taps[0],
            y_slot=self.slot("y", "row"), out_pitch=self.pitch("y"), out_columns=out_columns, channels=channels,
            steps="\n".join(step.replace("{x}", tap) for tap in taps[1:]), finish=finish,
            advance="\n".join(f"in{ky} += {stride[1] * channels};" for ky in range(kernel[0])))

    def pool_source(self, start: str, step: str, finish: str, setup: str = "") -> str:
        """The function for any window: `start` sets `out[c]` before the taps, `step` takes in `in[c]`, `finish` is the
        last word on `out[c]`. `setup` goes in front of a pixel's loops.
        """
        _, _, dilation, _ = self.window()
        columns, out_columns, channels = self.image()
        kind = c_type(self.reads[0].type.dtype)
        return fill("""
            static void {name}(const {kind} *restrict x, {kind} *restrict y, {rows})
            {
                {ring}
                for (int32_t row = row_begin; row < row_end; row++) {
                    {row_taps}
                    {kind} *restrict out = y + {y_slot} * {out_pitch};
                    for (int32_t column = 0; column < {out_columns}; column++) {
                        {column_taps}
                        {setup}
                        {start}
                        for (int32_t ky = ky_first; ky < ky_end; ky++) {
                            const {kind} *line = {x_row};
                            for (int32_t kx = kx_first; kx < kx_end; kx++) {
                                const {kind} *restrict in = line + (kx_origin + kx * {dilation}) * {channels};
                                for (int32_t c = 0; c < {channels}; c++) {
                                    {step}
                                }
                            }
                        }
                        {finish}
                        out += {channels};
                    }
                }
            }
        """, kind=kind, rows=self.row_parameters(), ring=self.row_setup(), setup=setup, channels=channels,
            row_taps="\n".join(self.taps(0, "row", self.height, "ky")), y_slot=self.slot("y", "row"),
            column_taps="\n".join(self.taps(1, "column", columns, "kx")), dilation=dilation[1], step=step,
            x_row=self.address("x", f"(ky_origin + ky * {dilation[0]})"),
            out_columns=out_columns, out_pitch=self.pitch("y"), start=_each(start, channels),
            finish=_each(finish, channels))


def _at_least_zero(value: str, condition: str) -> str:
    return f"{condition} ? {value} : 0"


def _each(statement: str, channels: int) -> str:
    if not statement:
        return ""
    return f"for (int32_t c = 0; c < {channels}; c++) {{\n    {statement}\n}}"


@final
class MaxPool(_Pool, opname="k.max_pool"):
    """y = the greatest x under each window; padding never wins."""

    x: Value                               # [N, ring, W, C]
    y: Written                             # [N, ring, W', C]
    kernel: tuple[int, int]
    rows: tuple[int, int]
    height: int
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    x_base: int = 0
    y_base: int = 0

    def window(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
        return self.kernel, self.stride, self.dilation, self.pad

    def reference(self, x: Array, y: Array) -> None:
        seen, _ = self.read_rows("x", x)
        self.write_rows("y", y, evaluate(ops.MaxPool, seen, kernel=self.kernel, stride=self.stride,
                                         pad=self.local_pad(), dilation=self.dilation))

    def source(self) -> str:
        if self.inside() and self.kernel[0] * self.kernel[1] <= _UNROLLED:
            return self.unrolled_source("value = {x} > value ? {x} : value;", "value")
        lowest = _lowest(self.x.type.dtype)
        return self.pool_source(f"out[c] = {lowest};", "out[c] = in[c] > out[c] ? in[c] : out[c];", "")


def _lowest(dtype: DType) -> str:
    return c_value(-np.inf if dtype.is_float else dtype.range[0], dtype)


@final
class AvgPool(_Pool, opname="k.avg_pool"):
    """y = the mean of x under each window, over the taps that `nn.avg_pool` counts."""

    x: Value                               # [N, ring, W, C]
    y: Written                             # [N, ring, W', C]
    kernel: tuple[int, int]
    rows: tuple[int, int]
    height: int
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    count_include_pad: bool = False
    ceil_pad: tuple[int, int] = (0, 0)
    x_base: int = 0
    y_base: int = 0

    def window(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
        top, left, bottom, right = self.pad
        return self.kernel, self.stride, self.dilation, (top, left, bottom + self.ceil_pad[0], right + self.ceil_pad[1])

    def reference(self, x: Array, y: Array) -> None:
        whole = np.zeros((x.shape[0], self.height, *x.shape[2:]), x.dtype)
        seen, first = self.read_rows("x", x)
        whole[:, first:first + seen.shape[1]] = seen
        result = evaluate(ops.AvgPool, whole, kernel=self.kernel, stride=self.stride, pad=self.pad,
                          dilation=self.dilation, count_include_pad=self.count_include_pad, ceil_pad=self.ceil_pad)
        self.write_rows("y", y, result[:, self.rows[0]:self.rows[1]])

    def source(self) -> str:
        area = self.kernel[0] * self.kernel[1]
        if self.inside() and area <= _UNROLLED:
            return self.unrolled_source("value += {x};", f"value / {c_value(area, self.x.type.dtype)}")
        return self.pool_source("out[c] = 0;", "out[c] += in[c];", "out[c] *= scale;", self._scale())

    def _scale(self) -> str:
        """C declaration of 1 / number of taps counted."""
        kind, one = c_type(self.x.type.dtype), c_value(1, self.x.type.dtype)
        rows, columns = self._counted(0), self._counted(1)
        if rows.isdigit() and columns.isdigit():
            return f"const {kind} scale = {one} / {c_value(int(rows) * int(columns), self.x.type.dtype)};"
        return f"const {kind} scale = {one} / ({kind})(({rows}) * ({columns}));"

    def _counted(self, axis: int) -> str:
        """C expression for how many taps count along an axis."""
        name = ("ky", "kx")[axis]
        if not self.count_include_pad:
            return f"{name}_end - {name}_first" if any(self.window()[3][axis::2]) else str(self.kernel[axis])
        if self.ceil_pad[axis] == 0:
            return str(self.kernel[axis])
        limit = (self.height, self.image()[0])[axis] + self.pad[axis + 2]
        reach = (self.kernel[axis] - 1) * self.dilation[axis]
        room = f"({limit - 1} - {name}_origin) / {self.dilation[axis]} + 1"
        return f"{name}_origin + {reach} >= {limit} ? {room} : {self.kernel[axis]}"


@lowers(ops.MaxPool)
def lower_max_pool(op: ops.MaxPool, low: Lowering) -> None:
    low.emit(MaxPool(low.buffer(op.x), low.result(op.out), op.kernel, (0, op.out.shape[1]), op.x.shape[1], op.stride,
                     op.pad, op.dilation))


@lowers(ops.AvgPool)
def lower_avg_pool(op: ops.AvgPool, low: Lowering) -> None:
    low.emit(AvgPool(low.buffer(op.x), low.result(op.out), op.kernel, (0, op.out.shape[1]), op.x.shape[1], op.stride,
                     op.pad, op.dilation, op.count_include_pad, op.ceil_pad))
