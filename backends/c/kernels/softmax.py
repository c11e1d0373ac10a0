"""Softmax and its logarithm along any axis: three passes over each line, safe in place and against overflow.

    k.softmax(%x) -> (%y) {axis = 3}
    k.softmax_rows(%x) -> (%ring) {axis = 3, rows = [0, 48], height = 48}      for a span of rows, along another axis
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir import ops
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers, row_form, streams
from tinyir.opdef import Op, Written

from ..elementary import exp32, log32
from ..text import fill
from .base import RowKernel, evaluate
from .eltwise import Pointwise

__all__ = ["Softmax", "SoftmaxRows"]

_POWERS = """
    float sum = 0.0f;
    for (int32_t k = 0; k < {extent}; k++) {
        const float power = tc_exp(from[{k}] - most);
        to[{k}] = power;
        sum += power;
    }
    const float scale = 1.0f / sum;
    for (int32_t k = 0; k < {extent}; k++) {
        to[{k}] *= scale;
    }
"""
_LOGARITHMS = """
    float sum = 0.0f;
    for (int32_t k = 0; k < {extent}; k++) {
        sum += tc_exp(from[{k}] - most);
    }
    const float log_sum = tc_log(sum);
    for (int32_t k = 0; k < {extent}; k++) {
        to[{k}] = from[{k}] - most - log_sum;
    }
"""


def _softmax(x: Array, axis: int, logarithm: bool) -> Array:
    """The function of float32, summed in the order of the C."""
    shifted = x - x.max(axis=axis, keepdims=True)
    powers = exp32(shifted)
    # cumsum adds one element after the other, as the C does; sum would add in pairs
    total = np.take(np.cumsum(powers, axis=axis, dtype=np.float32), [-1], axis=axis)
    return np.asarray(shifted - log32(total) if logarithm else powers * (np.float32(1) / total))


def _line(x: str, y: str, start: str, extent: int, step: int, logarithm: bool) -> str:
    """C statements for the line of `extent` elements of x, `step` apart, from the element `start` on."""
    text = fill("""
        const float *from = {x} + {start};
        float *to = {y} + {start};
        float most = from[0];
        for (int32_t k = 1; k < {extent}; k++) {
            most = from[{k}] > most ? from[{k}] : most;
        }
        {passes}
    """, x=x, y=y, start=start, passes=fill(_LOGARITHMS if logarithm else _POWERS))
    return fill(text, extent=extent, k="k" if step == 1 else f"k * {step}")


@final
class Softmax(Pointwise, opname="k.softmax"):
    """y = exp(x) / sum(exp(x)) along `axis`, or its logarithm."""

    x: Value
    y: Written
    axis: int                              # counted from the front
    logarithm: bool = False

    def stem(self) -> str:
        return f"{'log_' if self.logarithm else ''}softmax_{self.x.type.dtype}"

    def reuses(self) -> tuple[int, ...]:
        return (0,)

    def reference(self, x: Array, y: Array) -> None:
        if x.dtype != np.float32:
            y[...] = evaluate(ops.LogSoftmax if self.logarithm else ops.Softmax, x, axis=self.axis)
            return
        y[...] = _softmax(x, self.axis, self.logarithm)

    def source(self) -> str:
        if self.x.type.dtype.name != "f32":
            raise self.unsupported("softmax", self.x)
        shape = self.x.shape
        inner, extent = int(np.prod(shape[self.axis + 1:])), shape[self.axis]
        start = f"outer * {extent}" if inner == 1 else f"outer * {extent * inner} + i"
        line = _line(self.element("x"), "y", start, extent, inner, self.logarithm)
        if inner > 1:
            line = fill("for (int32_t i = 0; i < {inner}; i++) {\n    {line}\n}", inner=inner, line=line)
        outer = int(np.prod(shape[:self.axis]))
        return fill("""
            static void {name}({pointers})
            {
                for (int32_t outer = 0; outer < {outer}; outer++) {
                    {line}
                }
            }
        """, pointers=self.pointers(), outer=outer, line=line)


@final
class SoftmaxRows(RowKernel, opname="k.softmax_rows"):
    """k.softmax for a span of rows, along the columns or the channels."""

    x: Value                               # [1, ring, W, C]
    y: Written                             # [1, ring, W, C]
    axis: int                              # 2 or 3
    logarithm: bool
    rows: tuple[int, int]
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return f"{'log_' if self.logarithm else ''}softmax_rows_{self.x.type.dtype}"

    def reuses(self) -> tuple[int, ...]:
        return (0,)

    def reference(self, x: Array, y: Array) -> None:
        self.write_rows("y", y, _softmax(self.read_rows("x", x)[0], self.axis, self.logarithm))

    def source(self) -> str:
        width, channels = self.y.shape[2:]
        extent, step, lines = (channels, 1, width) if self.axis == 3 else (width, channels, channels)
        start = f"line * {channels}" if self.axis == 3 else "line"
        return fill("""
            static void {name}(const float *x, float *y, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const float *x_row = {x_row};
                    float *y_row = y + {y_slot} * {pitch};
                    for (int32_t line = 0; line < {lines}; line++) {
                        {line}
                    }
                }
            }
        """, rows=self.row_parameters(), setup=self.row_setup(), x_row=self.address("x", "row"),
            y_slot=self.slot("y", "row"), pitch=self.pitch("y"), lines=lines,
            line=_line("x_row", "y_row", start, extent, step, self.logarithm))


@row_form(Softmax)
def softmax_rows(kernel: Softmax, low: Lowering) -> list[Op]:
    height = low.source.out.shape[1]
    return SoftmaxRows(kernel.x, kernel.y, kernel.axis, kernel.logarithm, (0, height), height).paced(low.pace)


streams(ops.Softmax, ops.LogSoftmax, where=lambda op: op.out.type.dtype.name == "f32")


@lowers(ops.Softmax)
def lower_softmax(op: ops.Softmax, low: Lowering) -> None:
    low.emit(Softmax(low.buffer(op.x), low.result(op.out), op.axis % op.x.type.rank))


@lowers(ops.LogSoftmax)
def lower_log_softmax(op: ops.LogSoftmax, low: Lowering) -> None:
    low.emit(Softmax(low.buffer(op.x), low.result(op.out), op.axis % op.x.type.rank, True))
