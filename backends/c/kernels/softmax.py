"""Softmax and its logarithm along any axis: three passes over each line, safe in place and against overflow."""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir import ops
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written

from ..elementary import exp32, log32
from ..text import fill
from .base import evaluate
from .eltwise import Pointwise

__all__ = ["Softmax"]

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
        shifted = x - x.max(axis=self.axis, keepdims=True)
        powers = exp32(shifted)
        # cumsum adds one element after the other, as the C does; sum would add in pairs
        total = np.take(np.cumsum(powers, axis=self.axis, dtype=np.float32), [-1], axis=self.axis)
        y[...] = shifted - log32(total) if self.logarithm else powers * (np.float32(1) / total)

    def source(self) -> str:
        if self.x.type.dtype.name != "f32":
            raise self.unsupported("softmax", self.x)
        shape = self.x.shape
        inner, extent = int(np.prod(shape[self.axis + 1:])), shape[self.axis]
        k = "k" if inner == 1 else f"k * {inner}"
        start = f"outer * {extent}" if inner == 1 else f"outer * {extent * inner} + i"
        line = fill("""
            const float *from = {x} + {start};
            float *to = y + {start};
            float most = from[0];
            for (int32_t k = 1; k < {extent}; k++) {
                most = from[{k}] > most ? from[{k}] : most;
            }
            {passes}
        """, x=self.element("x"), start=start, passes=fill(_LOGARITHMS if self.logarithm else _POWERS))
        line = fill(line, extent=extent, k=k)
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


@lowers(ops.Softmax)
def lower_softmax(op: ops.Softmax, low: Lowering) -> None:
    low.emit(Softmax(low.buffer(op.x), low.result(op.out), op.axis % op.x.type.rank))


@lowers(ops.LogSoftmax)
def lower_log_softmax(op: ops.LogSoftmax, low: Lowering) -> None:
    low.emit(Softmax(low.buffer(op.x), low.result(op.out), op.axis % op.x.type.rank, True))
