"""Layers of floats for a part of their channels at a time: their weights are packed anew, part by part.

    k.conv2d_f32(%x, @w, @b) -> (%e)                  @w [15, 1, 1, 40, 16]: 240 channels, 16 a block
        ->
    %w_part = mem.part(@w_1) {axis = 0}               @w_1 [30, 1, 1, 40, 8]: 8 channels a part, one block each
    k.conv2d_f32(%x, %w_part, %b_part) -> (%e)
"""

from __future__ import annotations

import numpy as np

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, part_form
from tinyir.opdef import Op

from .blocking import pack_channels, pack_weights, packed_block, unpack_weights
from .channels import scalar_lanes
from .conv import ConvF32, pixels_for
from .dense import DenseF32, blocks_of_dense
from .depthwise import DepthwiseF32, channel_block
from .sums import add_f32


def _data(value: Value) -> Array:
    assert value.data is not None
    return value.data


def _packed(weight: Array, bias: Array, block: int, kernel: Op, low: Lowering) -> None:
    """Let `kernel` have the part of `weight` [O, ...] and `bias` [O], packed in blocks of `block` channels."""
    parts = low.part_count
    blocks = [pack_weights(part, 1, block) for part in np.split(weight, parts)]
    biases = [pack_channels(part, 1, len(part), block) for part in np.split(bias, parts)]
    for position, stacked in ((1, blocks), (2, biases)):
        const = kernel.operands[position]
        assert const is not None
        kernel.replace_operand(position, low.part_of(low.const(const.name, np.concatenate(stacked)), 0))


@part_form(ConvF32)
def conv_part(kernel: ConvF32, low: Lowering) -> list[Op]:
    if low.is_cut(low.source.reads[0]):
        return add_f32(kernel, low)
    outputs = kernel.y.shape[3]
    total = outputs * low.part_count
    block = packed_block(outputs, kernel.form, low.target.float_registers)
    weight = unpack_weights(_data(kernel.weight), 1, total)
    _packed(weight, _data(kernel.bias)[:total], block, kernel, low)
    kernel.__dict__["pixels"] = pixels_for(kernel, scalar_lanes(block), low.target.float_registers)
    return [kernel]


@part_form(DenseF32)
def dense_part(kernel: DenseF32, low: Lowering) -> list[Op]:
    if low.is_cut(low.source.reads[0]):
        return add_f32(kernel, low)
    batch, outputs = kernel.y.shape
    total = outputs * low.part_count
    block, lanes, pixels = blocks_of_dense(batch, outputs, low.target)
    weight = unpack_weights(_data(kernel.weight), 1, total)
    _packed(weight, _data(kernel.bias)[:total], block, kernel, low)
    kernel.__dict__.update(lanes=lanes, pixels=pixels)
    return [kernel]


@part_form(DepthwiseF32)
def depthwise_part(kernel: DepthwiseF32, low: Lowering) -> list[Op]:
    outputs = kernel.y.shape[3]
    plain = unpack_weights(_data(kernel.weight), 1, outputs * low.part_count)
    block = channel_block(kernel.x.shape[3], kernel.multiplier, kernel.form)
    _packed(plain, _data(kernel.bias), block, kernel, low)
    return [kernel]
