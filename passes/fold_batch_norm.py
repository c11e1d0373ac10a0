"""Fold batch normalisation into the weights and the bias of the layer before it.

    %c = nn.conv2d(%x, @w, @b) : tensor<1x8x8x16xf32>
    %y = nn.batch_norm(%c, @scale, @shift, @mean, @variance) : tensor<1x8x8x16xf32>
        ->
    %y = nn.conv2d(%x, @w_folded, @b_folded) : tensor<1x8x8x16xf32>

with gain = scale / sqrt(variance + epsilon), w_folded = w * gain per output channel, and b_folded = (b - mean) * gain
+ shift (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2018, section 3.2). A normalisation behind a concat of channels is divided among the parts if that folds all of them.
One that has no such layer before it becomes a multiplication and an addition, which fold-scale may take into the layer
behind.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tinyir.ir import Array, Const, Level, Module, Value
from tinyir.ops import Add, BatchNorm, Concat, Mul
from tinyir.pass_manager import Context, Pass
from tinyir.rewrite import Rewriter, rewrites

from ._layers import as_layer, scaled, why_not
from ._values import stem


class FoldBatchNorm(Pass):
    """Fold batch normalisation into the layer before it."""

    name = "fold-batch-norm"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")

    def run(self, module: Module, ctx: Context) -> None:
        super().run(module, ctx)
        module.drop_unused_consts()

    @rewrites(BatchNorm)
    def fold(self, op: BatchNorm, rw: Rewriter) -> None:
        """Into the layer before, the layers before a concat, or else into constants of a mul and an add."""
        factors = _factors(op)
        if factors is None:
            rw.remark(op, "not folded: the statistics are not constant")
            return
        gain, offset = factors
        layer = as_layer(op.x)
        if layer is not None:
            rw.replace(op, scaled(layer, gain, offset, rw))
        elif not _push_above_concat(op, rw):
            rw.remark(op, f"becomes a product and a sum: {why_not(op.x)}")
            _multiply_and_add(op, gain, offset, rw)


def _factors(op: BatchNorm) -> tuple[Array, Array] | None:
    """gain and offset [C] in float64 such that y = x * gain + offset."""
    values = [v.data for v in (op.scale, op.shift, op.mean, op.variance)]
    scale, shift, mean, variance = values
    if scale is None or shift is None or mean is None or variance is None:
        return None
    gain = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + op.epsilon)
    return gain, shift - mean * gain


def _push_above_concat(op: BatchNorm, rw: Rewriter) -> bool:
    """Normalise each part of a concat along the channels, where that is a layer."""
    concat = op.x.defining(Concat)
    if concat is None or concat.axis % op.x.type.rank != op.x.type.rank - 1 or len(op.x.uses) != 1:
        return False
    if any(as_layer(part) is None for part in concat.inputs):
        return False
    parts, start = [], 0
    for part in concat.inputs:
        stop = start + part.shape[-1]
        scale, shift, mean, variance = (_cut(v, start, stop, rw) for v in (op.scale, op.shift, op.mean, op.variance))
        normalised = BatchNorm(part, scale, shift, mean, variance, epsilon=op.epsilon)
        parts.append(rw.insert_before(op, normalised, name=part.name).out)
        start = stop
    rw.replace(op, Concat(tuple(parts), axis=concat.axis))
    return True


def _cut(value: Value, start: int, stop: int, rw: Rewriter) -> Const:
    data = value.data
    assert data is not None  # _factors has looked
    return rw.const(data[start:stop], stem(value))


def _multiply_and_add(op: BatchNorm, gain: Array, offset: Array, rw: Rewriter) -> None:
    dtype = op.x.type.dtype.numpy
    product = rw.insert_before(op, Mul(op.x, rw.const(gain.astype(dtype), f"{stem(op.scale)}.gain")))
    rw.replace(op, Add(product.out, rw.const(offset.astype(dtype), f"{stem(op.shift)}.offset")))
