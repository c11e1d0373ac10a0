"""Convolutions with two pixels in a word, for a part of the channels at a time: weights are packed part by part.

    k.conv2d_swar(%x, @w, ...) -> (%e, %columns)          @w [5, 16, 8]: 40 output channels
        ->
    %w_part = mem.part(@w) {axis = 0}                     [1, 16, 8]: the 5 of a part, and zeros
    k.conv2d_swar(%x, %w_part, ...) -> (%e, %columns)

Layers that sum over channels which come part by part are left to the portable kernels.
"""

from __future__ import annotations

from tinyir.ir import Const
from tinyir.lowering import Lowering, part_form
from tinyir.opdef import Op

from .parts import channel_parts
from .swar_conv import ConvSwar, packed_constants
from .swar_pack import pack_layer, stacked, unpack_weights, upper_sums


@part_form(ConvSwar)
def conv_part(kernel: ConvSwar, low: Lowering) -> list[Op]:
    """Weights are packed part by part: blocks of channels end where a part does."""
    outputs, parts = kernel.y.shape[3], low.part_count
    weight, starts = kernel.weight.data, kernel.starts.data
    assert weight is not None
    assert starts is not None
    assert isinstance(kernel.weight, Const)
    flat, bias = unpack_weights(weight, outputs * parts, kernel.inputs), upper_sums(starts)[:outputs * parts]
    packed = [pack_layer(flat[first:first + outputs], bias[first:first + outputs], kernel.together)
              for first in range(0, outputs * parts, outputs)]
    whole = stacked([part for part in packed if part is not None])
    for position, const in enumerate(packed_constants(kernel.weight.name, whole, low), start=1):
        kernel.replace_operand(position, low.part_of(const, 0))
    return [channel_parts(kernel, {"multiplier": 0, "rounding": 0}, low)]
