"""Batch normalisation that could not be folded into a convolution.

    k.scale_shift(%x, @gain, @mean, @shift) -> (%y)      y = (x - mean) * gain + shift, per channel of the last axis

    k.scale_shift_rows                                   the same for a span of rows, with ring buffers

The gain, scale / sqrt(variance + epsilon), is a constant where those two are; else k.batch_gain computes it.
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir import ops
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers, row_form, streams
from tinyir.opdef import Op, Written
from tinyir.types import BufferType

from ..text import c_float, fill
from .base import Argument, Kernel, RowKernel
from .eltwise import Pointwise, row_length

__all__ = ["BatchGain", "ScaleShift", "ScaleShiftRows"]


@final
class ScaleShift(Pointwise, opname="k.scale_shift"):
    """y = (x - mean) * gain + shift, channels last."""

    x: Value                               # [..., C]
    gain: Value                            # [C]
    mean: Value                            # [C]
    shift: Value                           # [C]
    y: Written                             # [..., C]

    def stem(self) -> str:
        return f"scale_shift_{self.x.type.dtype}"

    def reuses(self) -> tuple[int, ...]:
        return (0,)

    def reference(self, x: Array, gain: Array, mean: Array, shift: Array, y: Array) -> None:
        y[...] = (x - mean) * gain + shift

    def source(self) -> str:
        if self.x.type.dtype.name != "f32":
            raise self.unsupported("batch_norm", self.x)
        channels = self.x.shape[-1]
        return fill("""
            static void {name}({pointers})
            {
                for (int32_t pixel = 0; pixel < {pixels}; pixel++) {
                    for (int32_t c = 0; c < {channels}; c++) {
                        y[pixel * {channels} + c] = ({x}[pixel * {channels} + c] - mean[c]) * gain[c] + shift[c];
                    }
                }
            }
        """, pointers=self.pointers(), pixels=self.x.type.elements // channels, channels=channels, x=self.element("x"))


@final
class ScaleShiftRows(RowKernel, opname="k.scale_shift_rows"):
    """k.scale_shift for a span of rows."""

    x: Value                               # [1, ring, W, C]
    gain: Value                            # [C]
    mean: Value                            # [C]
    shift: Value                           # [C]
    y: Written                             # [1, ring, W, C]
    rows: tuple[int, int]
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return f"scale_shift_rows_{self.x.type.dtype}"

    def reuses(self) -> tuple[int, ...]:
        return (0,)

    def reference(self, x: Array, gain: Array, mean: Array, shift: Array, y: Array) -> None:
        self.write_rows("y", y, (self.read_rows("x", x)[0] - mean) * gain + shift)

    def arguments(self) -> tuple[Argument, ...]:
        return (self.x, self.gain, self.mean, self.shift, self.y, *self.row_arguments())

    def source(self) -> str:
        return fill("""
            static void {name}(const float *x, const float *restrict gain, const float *restrict mean,
                const float *restrict shift, float *y, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const float *from = {x_row};
                    float *to = y + {y_slot} * {pitch};
                    for (int32_t i = 0; i < {length}; i += {channels}) {
                        for (int32_t c = 0; c < {channels}; c++) {
                            to[i + c] = (from[i + c] - mean[c]) * gain[c] + shift[c];
                        }
                    }
                }
            }
        """, rows=self.row_parameters(), setup=self.row_setup(), x_row=self.address("x", "row"),
            y_slot=self.slot("y", "row"), pitch=self.pitch("y"), length=row_length(self.y), channels=self.y.shape[3])


@final
class BatchGain(Kernel, opname="k.batch_gain"):
    """y = scale / sqrt(variance + epsilon)."""

    scale: Value                           # [C]
    variance: Value                        # [C]
    y: Written                             # [C]
    epsilon: float

    def stem(self) -> str:
        return f"batch_gain_{self.scale.type.dtype}"

    def reference(self, scale: Array, variance: Array, y: Array) -> None:
        y[...] = scale / np.sqrt(variance + scale.dtype.type(self.epsilon))

    def source(self) -> str:
        if self.scale.type.dtype.name != "f32":
            raise self.unsupported("batch_norm", self.scale)
        return fill("""
            static void {name}(const float *restrict scale, const float *restrict variance, float *restrict y)
            {
                for (int32_t c = 0; c < {channels}; c++) {
                    y[c] = scale[c] / tc_sqrt(variance[c] + {epsilon});
                }
            }
        """, channels=self.scale.shape[0], epsilon=c_float(self.epsilon))


@lowers(ops.BatchNorm)
def lower_batch_norm(op: ops.BatchNorm, low: Lowering) -> None:
    scale, variance = op.scale.data, op.variance.data
    if scale is not None and variance is not None:
        factor = scale / np.sqrt(variance + variance.dtype.type(op.epsilon))
        gain: Value = low.const(f"{op.scale.name}.gain", factor)
    else:
        gain = low.scratch(BufferType(op.scale.shape, op.scale.type.dtype), f"{op.out.name}_gain")
        low.emit(BatchGain(low.buffer(op.scale), low.buffer(op.variance), gain, op.epsilon))
    low.emit(ScaleShift(low.buffer(op.x), gain, low.buffer(op.mean), low.buffer(op.shift), low.result(op.out)))


@row_form(ScaleShift)
def scale_shift_rows(kernel: ScaleShift, low: Lowering) -> list[Op]:
    height = low.source.out.shape[1]
    return ScaleShiftRows(kernel.x, kernel.gain, kernel.mean, kernel.shift, kernel.y, (0, height),
                          height).paced(low.pace)


def _known_gain(op: Op) -> bool:
    """Whether the gain need not be computed first, and there is C for it."""
    return isinstance(op, ops.BatchNorm) and op.out.type.dtype.name == "f32" and \
        all(value.data is not None for value in (op.scale, op.shift, op.mean, op.variance))


streams(ops.BatchNorm, where=_known_gain)
