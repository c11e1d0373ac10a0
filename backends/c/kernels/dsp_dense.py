"""Dense layers of stored 8-bit integers on Cortex-M with DSP.

    k.dense_dsp(%x, @w.stream) -> (%y, %column) {coding = paired, shift = 12, ...}

The inputs become a column of 16-bit values in scratch memory, which is multiplied with four outputs at a time
(`dsp_columns`). The zero point of x is in the biases.
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering
from tinyir.opdef import Written
from tinyir.ops.qconv import QDense
from tinyir.ops.quant import quant_of
from tinyir.types import U32, BufferType

from ..text import c_type, fill
from .base import Kernel
from .dsp_pack import GUARDS, offset_of, pack_stream, plan_layer, stored_values, unpack_stream
from .dsp_text import Coding

__all__ = ["DenseDsp", "lower_dense_dsp"]


@final
class DenseDsp(Kernel, opname="k.dense_dsp"):
    """y[n, o] = stored(bias[o] + sum over k of x[n, k] * weight[o, k])."""

    x: Value                                # [N, K] i8 or u8
    stream: Value                           # [fours of outputs, words] u32: see dsp_pack
    y: Written                              # [N, O] i8 or u8
    column: Written                         # [words] u32: the inputs, and bytes that fill them up
    y_zero: int
    coding: Coding
    shift: int

    def stem(self) -> str:
        return f"dense_dsp_{self.x.type.dtype}"

    def macs(self) -> int:
        return self.y.type.elements * self.x.shape[1]

    def reference(self, x: Array, stream: Array, y: Array, column: Array) -> None:
        shape = self.y.shape[1], self.x.shape[1]
        weight, bias, scalings = unpack_stream(stream, 4, shape, self.coding)
        sums = ((x.astype(np.float64) - offset_of(self.x)) @ weight.astype(np.float64).T).astype(np.int64) + bias
        y[...] = stored_values(sums, scalings, (self.y_zero, self.y.type.dtype), self.shift, GUARDS[self.coding])

    def source(self) -> str:
        (batch, inputs), outputs = self.x.shape, self.y.shape[1]
        whole, left = inputs // 4, inputs % 4
        kind = f"{self.coding}_{self.x.type.dtype}"
        rest = fill("""
            uint8_t *rest = (uint8_t *)(column + {steps2});
            for (int32_t k = 0; k < {left}; k++) {
                rest[k] = (uint8_t)x[{done} + k];
            }
            tc_spread_{kind}(rest, column + {place}, 1, 1);
        """, steps2=2 * (whole + 1), left=left, done=4 * whole, kind=kind, place=2 * whole) if left else ""
        return fill("""
            static void {name}(const {xt} *restrict x, const uint32_t *restrict stream, {yt} *restrict y,
                uint32_t *restrict column)
            {
                {opening}
                    tc_spread_{kind}(x, column, {whole}, 1);
                    {rest}
                    tc_vector_{variant}(stream, column, y, {outputs}, {steps});
                {closing}
            }
        """, xt=c_type(self.x.type.dtype), yt=c_type(self.y.type.dtype), kind=kind, whole=whole, rest=rest,
                    variant=f"{self.coding}_{self.y.type.dtype}_{self.shift}", outputs=outputs,
                    steps=-(-inputs // 4),
                    opening=f"for (int32_t n = 0; n < {batch}; n++, x += {inputs}, y += {outputs}) {{"
                    if batch > 1 else "{", closing="}")


def lower_dense_dsp(op: QDense, weight: Array, bias: Array | None, low: Lowering) -> bool:
    """Compute `op` with `weight` [O, K] (differences from the zero point) and `bias` [O], if the target has the
    instructions and they do; whether it did.
    """
    plan = plan_layer(op, (op.x, op.weight), weight, bias, low) if weight.size and not low.is_cut(op.x) else None
    if plan is None:
        return False
    start = plan.bias - (quant_of(op.x).zero_point - offset_of(op.x)) * plan.weight.astype(np.int64).sum(axis=1)
    stream = pack_stream(plan.weight, start, plan.scalings, plan.coding, 4)
    words = 2 * -(-weight.shape[1] // 4) + (1 if weight.shape[1] % 4 else 0)
    low.emit(DenseDsp(
        low.buffer(op.x), low.const(f"{op.weight.name}.stream", stream),
        low.result(op.out), low.scratch(BufferType((words,), U32), f"{op.out.name}.column"),
        y_zero=quant_of(op.out).zero_point, coding=plan.coding, shift=plan.shift))
    return True
