"""Kernels for Cortex-M with DSP for a part of the channels at a time: their streams of constants are packed part by
part.

    k.conv2d_dsp(%x, @w.stream) -> (%e, %columns)     @w.stream [120, 26]: pairs of output channels
        ->
    %w.stream_part = mem.part(@w.stream) {axis = 0}   [4, 26]
    k.conv2d_dsp(%x, %w.stream_part) -> (%e, %columns)

Layers that sum over channels which come part by part are left to the portable kernels, and depthwise layers of parts
with fewer than four channels.
"""

from __future__ import annotations

import numpy as np

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, part_form
from tinyir.opdef import Op
from tinyir.types import U32, BufferType

from .dsp_conv import ConvDsp
from .dsp_dense import DenseDsp
from .dsp_depthwise import DepthwiseDsp
from .dsp_pack import Scalings, pack_stream, unpack_stream
from .parts import channel_parts


def _repacked(kernel: ConvDsp | DenseDsp, lanes: int, inputs: int, low: Lowering) -> Value:
    """The part of the stream of `kernel`, which has `lanes` output channels a group and `inputs` weights for each."""
    outputs, parts, data = kernel.y.shape[-1], low.part_count, kernel.stream.data
    assert data is not None
    weight, bias, scalings = unpack_stream(data, lanes, (outputs * parts, inputs), kernel.coding)

    def stream(part: int) -> Array:
        some = slice(part * outputs, (part + 1) * outputs)
        pairs = Scalings(scalings.multiplier[some], scalings.rounding[some])
        return pack_stream(weight[some], bias[some], pairs, kernel.coding, lanes)

    stacked = np.concatenate([stream(part) for part in range(parts)])
    return low.part_of(low.const(kernel.stream.name, stacked), 0)


@part_form(ConvDsp)
def conv_part(kernel: ConvDsp, low: Lowering) -> list[Op]:
    kernel.replace_operand(1, _repacked(kernel, 2, kernel.inputs, low))
    kernel.replace_operand(3, low.scratch_instead(kernel.columns, BufferType((kernel.scratch_words(),), U32)))
    return [kernel]


@part_form(DenseDsp)
def dense_part(kernel: DenseDsp, low: Lowering) -> list[Op]:
    kernel.replace_operand(1, _repacked(kernel, 4, kernel.x.shape[1], low))
    return [kernel]


@part_form(DepthwiseDsp)
def depthwise_part(kernel: DepthwiseDsp, low: Lowering) -> list[Op]:
    return [channel_parts(kernel, {"stream": 0}, low)]
