"""Dense layers of stored 8-bit integers.

    k.dense_s8(%x, @w, @b, @w.multiplier, @w.rounding) -> (%y) {shift = 38, ...}

The zero point of x is in the bias: sum over (x - zero) * w = sum over x * w - zero * sum over w.
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.ops.qconv import QDense
from tinyir.ops.quant import quant_of

from ..text import fill
from .dsp_dense import lower_dense_dsp
from .mve_dense import lower_dense_mve
from .qconv import choose_lanes
from .qrequant import stored_from_sums, sum_range
from .qruns import lane_loops, pixel_blocks
from .qsums import StoresSums, differences, elements, packed, sum_fields, wraps_around
from .qtile import SumTile

__all__ = ["DenseS8"]


@final
class DenseS8(StoresSums, opname="k.dense_s8"):
    """y[n, o] = stored(bias[o] + sum over k of x[n, k] * weight[o, k])."""

    x: Value                                # [N, K] i8 or u8
    weight: Value                           # [O, K] i8, or i16 where zero points ask for it
    bias: Value                             # [O] i32
    multiplier: Value | None                # [O] i32
    rounding: Value | None                  # [O] i64
    y: Written                              # [N, O]
    common: tuple[int, int]
    shift: int
    zero: int
    clamp: tuple[int, int] | None
    emulated: bool
    wraps: bool
    lanes: int                              # outputs of a block

    def macs(self) -> int:
        return self.y.type.elements * self.x.shape[1]

    def reference(self, x: Array, weight: Array, bias: Array, multiplier: Array | None, rounding: Array | None,
                  y: Array) -> None:
        sums = (x.astype(np.float64) @ weight.astype(np.float64).T).astype(np.int64) + bias
        y[...] = self.finish(sums, multiplier, rounding)

    def source(self) -> str:
        (batch, inputs), outputs = self.x.shape, self.y.shape[1]

        def block(lanes: int) -> str:
            tile = SumTile(min(batch, 2), lanes, inputs, self.x.type.dtype, wraps=self.wraps)
            return pixel_blocks(self, tile, str(batch), batch, (inputs, outputs))

        return fill("""
            static void {name}({pointers})
            {
                const {xt} *in = x;
                {yt} *out_row = y;
                {loops}
            }
        """, pointers=self.pointers(), loops=lane_loops(outputs, self.lanes, "", block), **self.kinds)


@lowers(QDense)
def lower_dense(op: QDense, low: Lowering) -> None:
    """Fold the zero point and prove the requantisation."""
    weight = differences(op.weight, op)
    bias = None if op.bias is None else elements(op.bias, op)
    if lower_dense_mve(op, weight, bias, low) or lower_dense_dsp(op, weight, bias, low):
        return
    zero = quant_of(op.x).zero_point
    stored = stored_from_sums(op, (op.x, op.weight), op.clamp, sum_range(op.x.type.dtype, zero, weight, bias), low)
    folded = np.asarray((0 if bias is None else bias.astype(np.int64)) - zero * weight.astype(np.int64).sum(axis=1))
    low.emit(DenseS8(
        low.buffer(op.x), *packed(op.weight.name, weight, folded, low),
        y=low.result(op.out), wraps=wraps_around(op.x, weight, folded), lanes=choose_lanes(op.out.shape[1]),
        **sum_fields(stored)))
