"""Move scale between neighbouring layers so that all channels in between use the integers' range alike.

    %a = nn.relu(nn.conv2d(%x, @v, @b))        channel 0 reaches 0.5, channel 1 reaches 8
    %y = nn.conv2d(%a, @w)
        ->
    %a = nn.relu(nn.conv2d(%x, @v', @b'))      both reach 2: @v' = @v / s, @b' = @b / s
    %y = nn.conv2d(%a, @w')                    @w' = @w * s, channel by channel: the result is the same

Where one scale serves all channels of an activation, a channel with a small range has few of its steps. What stands
between the layers must let a positive factor through: relu, leaky relu, pools, moves. The factor of a channel balances
its greatest activation over the calibration samples against the greatest weight that reads it.
Sources: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019 (the method);
Xiao et al., "SmoothQuant", 2022 (activations against weights, for weights that have a scale per channel anyway).
"""

from __future__ import annotations

from typing import ClassVar, cast

import numpy as np

from tinyir.interp import run
from tinyir.ir import Array, Level, Module, Value
from tinyir.opdef import Op
from tinyir.ops import AvgPool, Dense, DepthwiseConv2D, LeakyRelu, MaxPool, Pad, ReduceMean, Relu, Resize
from tinyir.pass_manager import Context, Pass, option

from ._calibration import samples
from ._layers import Layer, as_layer, layer_of, scaled, scaled_input

_PASSING = (Relu, LeakyRelu, MaxPool, AvgPool)
_LEAST, _MOST = 1 / 16, 16.0


class EqualizeLayers(Pass):
    """Balance the ranges of channels between layers."""

    name = "equalize-layers"
    level: ClassVar[Level] = "graph"

    samples: int = option(32, "how many samples to look at")

    def run(self, module: Module, ctx: Context) -> None:
        rewriter = self.rewriter(module, ctx)
        readers = [op for op in module.main.ops if _pair(op) is not None]
        peaks = _peaks(module, [cast(Layer, op).x for op in readers], ctx, self.samples)
        greatest = [peaks[cast(Layer, op).x] for op in readers]
        for op, peak in zip(readers, greatest, strict=True):
            first, second = cast("tuple[Layer, Layer]", _pair(op))
            factors = _factors(peak, second)
            rewriter.replace(first, scaled(first, 1 / factors, np.zeros(factors.shape), rewriter))
            rewriter.replace(second, scaled_input(second, second.x, factors, rewriter))
        module.drop_unused_consts()
        ctx.stat("pairs", len(readers))


def _pair(op: Op) -> tuple[Layer, Layer] | None:
    """The layer that `op`, a layer, reads through ops that let a factor pass; nobody else reads in between."""
    second = layer_of(op)
    value = None if second is None else second.x
    while value is not None and len(value.uses) == 1 and value.op is not None and _passes(value.op):
        value = value.op.operands[0]
    first = None if value is None else as_layer(value)
    if first is None or second is None or first.out.shape[-1] != second.x.shape[-1]:
        return None
    return first, second


def _passes(op: Op) -> bool:
    """Whether op(f * x) is f * op(x) for positive f, one a channel of the last axis."""
    if isinstance(op, Pad):
        return op.mode != "constant" or op.value == 0
    if isinstance(op, ReduceMean):
        return op.keepdims and op.x.type.rank - 1 not in op.folded
    return isinstance(op, _PASSING) or isinstance(op, Resize)


def _peaks(module: Module, values: list[Value], ctx: Context, limit: int) -> dict[Value, Array]:
    """The greatest magnitude of each channel over the samples."""
    peaks = {value: np.zeros(value.shape[-1]) for value in values}

    def observe(op: Op, results: list[Array]) -> None:
        for value, array in zip(op.results, results, strict=True):
            if value in peaks:
                found = np.abs(array).reshape(-1, array.shape[-1]).max(axis=0)
                peaks[value] = np.maximum(peaks[value], found)

    for sample in samples(module, ctx, limit):
        run(module, sample, observe)
    return peaks


def _factors(peaks: Array, second: Layer) -> Array:
    """What each channel of the first layer is divided by, and `second` multiplies with: powers of 2^(1/4) around 1.

    sqrt(peak / weight) balances the two; a depthwise layer has a scale for each channel, so there peaks alone count.
    """
    raw = peaks if isinstance(second, DepthwiseConv2D) else np.sqrt(peaks / np.maximum(_greatest_reading(second), 1e-9))
    factors = np.ones(peaks.shape)
    alive = peaks > 0
    if alive.any():
        factors[alive] = np.clip(raw[alive] / np.exp(np.log(raw[alive]).mean()), _LEAST, _MOST)
    return np.asarray(np.exp2(np.round(np.log2(factors) * 4) / 4))


def _greatest_reading(layer: Layer) -> Array:
    """For each input channel the greatest weight, relative to the greatest of its output channel. [C]

    Output channels have scales of their own, so only this ratio costs steps.
    """
    weight = np.abs(cast(Array, layer.weight.data).astype(np.float64))
    rows = weight.reshape(weight.shape[0], -1, weight.shape[-1]).max(axis=1)  # [O, C / groups]
    relative = rows / np.maximum(rows.max(axis=1, keepdims=True), 1e-30)
    groups = 1 if isinstance(layer, (Dense, DepthwiseConv2D)) else layer.groups
    return np.asarray(relative.reshape(groups, -1, rows.shape[1]).max(axis=1).reshape(-1))
