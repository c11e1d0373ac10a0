"""Dense layers of stored 8-bit integers with vectors of 16 bytes (MVE).

    k.dense_mve(%x, @w.stream) -> (%y)

Eight outputs at a time (`tc_mve_vector`); the zero point of x is in the biases.
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir.arith import requantize
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering
from tinyir.opdef import Written
from tinyir.ops.qconv import QDense
from tinyir.ops.quant import quant_of
from tinyir.types import I8

from ..text import fill
from .base import Kernel
from .mve_pack import pack_groups, plan_mve, unpack_groups
from .mve_run import run_shape

__all__ = ["DenseMve", "lower_dense_mve"]


@final
class DenseMve(Kernel, opname="k.dense_mve"):
    """y[n, o] = stored(bias[o] + sum over k of x[n, k] * weight[o, k])."""

    x: Value                                # [N, K] i8
    stream: Value                           # [eights of outputs, words] u32: see mve_pack
    y: Written                              # [N, O] i8
    y_zero: int

    def macs(self) -> int:
        return self.y.type.elements * self.x.shape[1]

    def reference(self, x: Array, stream: Array, y: Array) -> None:
        coded = unpack_groups(stream, 8, (self.y.shape[1], self.x.shape[1]))
        sums = (x.astype(np.float64) @ coded.weight.astype(np.float64).T).astype(np.int64) + coded.bias
        y[...] = requantize(sums, coded.scale, self.y_zero, I8)

    def source(self) -> str:
        (batch, inputs), outputs = self.x.shape, self.y.shape[1]
        return fill("""
            static void {name}(const int8_t *restrict x, const uint32_t *restrict stream, int8_t *restrict y)
            {
                static const int32_t shape[6] = {shape};
                for (int32_t n = 0; n < {batch}; n++) {
                    tc_mve_vector(x + n * {inputs}, stream, y + n * {outputs}, shape);
                }
            }
        """, shape=run_shape(inputs, inputs, outputs, self.y_zero), batch=batch, inputs=inputs, outputs=outputs)


def lower_dense_mve(op: QDense, weight: Array, bias: Array | None, low: Lowering) -> bool:
    """Compute `op` with `weight` [O, K] (differences from the zero point) and `bias` [O], if the target has the
    instructions and they do; whether it did.
    """
    coded = plan_mve(op, (op.x, op.weight), weight, bias, low)
    if coded is None:
        return False
    stream = low.const(f"{op.weight.name}.stream", pack_groups(coded, 8))
    low.emit(DenseMve(low.buffer(op.x), stream, low.result(op.out), y_zero=quant_of(op.out).zero_point))
    return True
