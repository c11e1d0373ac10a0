"""Dense layers: every output is a weighted sum of all inputs.

    k.dense_f32(%x, @w, @b) -> (%y) {act = relu, form = scalar, ...}

A block of outputs keeps its sums in registers while the inputs stream by, so that each input is loaded once for the
block; the weights of a block lie side by side.
"""

from __future__ import annotations

from typing import final

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.ops.activation import Activation
from tinyir.ops.linear import Dense
from tinyir.target import Target

from ..text import fill
from .base import Kernel, evaluate
from .blocking import Form, SizesOf, choose_pixels, form_of, packed_block, run_sizes, unpack_weights
from .channels import Packed, Place, by_form, channel_loops, pixel_run, scalar_lanes, vector_tile
from .tile import Tile
from .weights import packed_bias, packed_weights, require_f32

__all__ = ["DenseF32", "blocks_of_dense"]


@final
class DenseF32(Kernel, opname="k.dense_f32"):
    """y[n, o] = act(bias[o] + sum over k of x[n, k] * weight[o, k])."""

    x: Value                                # [N, K]
    weight: Value                           # [blocks, K, block]
    bias: Value                             # [blocks * block]
    y: Written                              # [N, O]
    act: Activation
    act_args: tuple[float, ...]
    form: Form
    pixels: int                             # rows of x in a block of scalars
    lanes: int                              # outputs in a block of scalars
    fma: bool

    @property
    def packed(self) -> Packed:
        return Packed(self.y.shape[1], self.weight.shape[2], self.weight.shape[1])

    def macs(self) -> int:
        return self.y.type.elements * self.packed.size

    def reference(self, x: Array, weight: Array, bias: Array, y: Array) -> None:
        outputs = y.shape[1]
        y[...] = evaluate(Dense, x, unpack_weights(weight, 1, outputs), bias[:outputs], act=self.act,
                          act_args=self.act_args)

    def source(self) -> str:
        return by_form(self.form, self._text)

    def _text(self, vector: bool) -> str:
        batch, inputs = self.x.shape
        tile = vector_tile(self.packed, _sizes(batch)) if vector else \
            Tile(self.pixels, self.lanes, self.packed.block, fma=self.fma)

        def body(place: Place) -> str:
            return pixel_run(tile, batch, str(batch), inputs, self.y.shape[1], self.act, self.act_args, place)

        act = "" if self.act == "none" else f", {self.act}"
        return fill("""
            /* {inputs} inputs to {outputs} outputs{act}: {tile} at a time. */
            static void {name}(const float *restrict x, const float *restrict weight, const float *restrict bias,
                float *restrict y)
            {
                const float *in = x;
                {loops}
            }
        """, inputs=inputs, outputs=self.y.shape[1], act=act, tile=tile.describe("rows"),
                    loops=channel_loops(self.packed, tile, Place("weight", "bias", "y"), body))


def _sizes(batch: int) -> SizesOf:
    return lambda pixels: run_sizes(batch, 1, pixels)


def _scalar_block(outputs: int, registers: int) -> int:
    """Outputs of a block of scalars for one row of x: many, since each weight is used once."""
    most = max(registers // 4, 2)
    return next((b for b in range(most, 3, -1) if outputs % b == 0), min(outputs, max(most // 2, 2)))


def blocks_of_dense(batch: int, outputs: int, target: Target) -> tuple[int, int, int]:
    """Outputs of a packed block; outputs and rows of x of a block of scalars."""
    form, registers = form_of(target), target.float_registers
    if form == "scalar" and batch == 1:
        block = _scalar_block(outputs, registers)
        return block, block, 1
    block = packed_block(outputs, form, registers)
    lanes = scalar_lanes(block)
    return block, lanes, choose_pixels(_sizes(batch), lanes, registers)


@lowers(Dense)
def lower_dense(op: Dense, low: Lowering) -> None:
    """Pack the weights for the target."""
    require_f32(op)
    batch, outputs = op.out.shape
    block, lanes, pixels = blocks_of_dense(batch, outputs, low.target)
    low.emit(DenseF32(
        low.buffer(op.x), packed_weights(op.weight, 1, block, low),
        packed_bias(op.bias, 1, outputs, block, op.weight.name, low), low.result(op.out), act=op.act,
        act_args=op.act_args, form=form_of(low.target), pixels=pixels, lanes=lanes, fma=low.target.fma))
