"""Round the weights of quantised layers so that the layer's results, not the single weights, come closest.

    @w = [3, -1, 7, 2]  ->  [3, -2, 7, 3]           errors that cancel out on the inputs that occur

For each layer the squared distance between what the float layer makes of calibration samples and what the quantised one
makes of its (quantised) input is a quadratic form in the stored weights, whose matrix is the Gram matrix of the input
windows. Coordinate descent over the integers makes it small, one weight at a time, in all output channels at once; the
bias is free and follows. A small term draws each weight to its float value where the samples say nothing.
Sources: Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", 2020 (the objective); Hubara et
al., "Accurate Post Training Quantization With Small Calibration Sets", 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np

from tinyir.ir import Array, Level, Module
from tinyir.ops import Conv2D, Dense, DepthwiseConv2D
from tinyir.ops.window import pad_rows_columns, windows
from tinyir.pass_manager import Context, Pass, option

from ._lockstep import Lockstep
from ._points import LAYERS, Layer
from ._stored_layers import StoredLayer

_ROWS = 1 << 16
"""Windows of one layer that are looked at."""


class RoundWeights(Pass):
    """Choose the rounding of weights by the error of each layer's results."""

    name = "round-weights"
    level: ClassVar[Level] = "graph"
    changes_results = True

    samples: int = option(192, "how many samples to look at")
    sweeps: int = option(3, "how often each weight is reconsidered")
    damping: float = option(0.1, "how strongly weights are drawn to their float values")

    def run(self, module: Module, ctx: Context) -> None:
        rewriter = self.rewriter(module, ctx)
        both = Lockstep(module, ctx, self.samples)
        moved = total = 0
        for layer in both.layers():
            stored = StoredLayer(layer, rewriter)
            plain = both.float.same[layer.out].op
            assert isinstance(plain, LAYERS)
            moments = _moments(layer, both.inputs(layer), both.wanted(layer))
            scales = _grouped(layer, np.broadcast_to(_per_weight(layer, stored.scales), stored.weight.shape))
            target = _grouped(layer, cast(Array, plain.weight.data)) / scales
            before = _grouped(layer, stored.weight.astype(np.float64))
            after = _descend(moments, before, target, scales, self.sweeps, self.damping)
            moved, total = moved + int((after != before).sum()), total + before.size
            stored.set_weight(_ungrouped(layer, after))
            stored.set_bias(_bias(moments, after * scales).astype(np.float32))
        module.drop_unused_consts()
        ctx.stat("weights", total)
        ctx.stat("rounded-otherwise", moved)


# -- a layer as independent groups of linear maps: weights [G, K, O/G] ------------------------------------------------


@dataclass(frozen=True)
class _Moments:
    """First and second moments over all windows: of inputs [G, K], results [G, P], and what goes with what."""

    x: Array
    y: Array
    xx: Array  # [G, K, K], centred
    xy: Array  # [G, K, P], centred
    count: int
    """How many windows were seen."""


def _groups(layer: Layer) -> int:
    if isinstance(layer, DepthwiseConv2D):
        return layer.x.shape[3]
    return layer.groups if isinstance(layer, Conv2D) else 1


def _grouped(layer: Layer, weight: Array) -> Array:
    """A weight as [G, K, O/G]."""
    groups = _groups(layer)
    if isinstance(layer, DepthwiseConv2D):
        return weight.reshape(-1, groups, weight.shape[2] // groups).transpose(1, 0, 2).astype(np.float64)
    return weight.reshape(groups, weight.shape[0] // groups, -1).transpose(0, 2, 1).astype(np.float64)


def _ungrouped(layer: Layer, weight: Array) -> Array:
    """The inverse of `_grouped`."""
    if isinstance(layer, DepthwiseConv2D):
        return weight.transpose(1, 0, 2).reshape(layer.weight.shape)
    return weight.transpose(0, 2, 1).reshape(layer.weight.shape)


def _per_weight(layer: Layer, channels: Array) -> Array:
    """[O] in a shape that broadcasts to the weight."""
    return channels if isinstance(layer, DepthwiseConv2D) else channels.reshape(-1, *[1] * (layer.weight.type.rank - 1))


def _rows(layer: Layer, x: Array, y: Array, most: int) -> tuple[Array, Array]:
    """Windows [R, G, K] and results [R, G, P] at up to `most` places."""
    groups = _groups(layer)
    if isinstance(layer, Dense):
        return x[:, None, :], y[:, None, :]
    padded = pad_rows_columns(x, layer.pad, 0)
    view = windows(padded, layer.kernel, layer.stride, layer.dilation)  # [N, OH, OW, C, KH, KW]
    places = view.shape[0] * view.shape[1] * view.shape[2]
    chosen = np.unravel_index(np.arange(0, places, -(-places // most)), view.shape[:3])
    taps = view[chosen].transpose(0, 2, 3, 1)  # [R, KH, KW, C]
    count, channels = len(taps), x.shape[3] // groups
    grouped = taps.reshape(count, -1, groups, channels).transpose(0, 2, 1, 3).reshape(count, groups, -1)
    return grouped, y[chosen].reshape(count, groups, -1)


def _moments(layer: Layer, inputs: list[Array], wanted: list[Array]) -> _Moments:
    most = max(1, _ROWS // max(1, len(inputs)))
    pairs = [_rows(layer, x, y, most) for x, y in zip(inputs, wanted, strict=True)]
    x, y = (np.concatenate(parts).astype(np.float64).transpose(1, 0, 2) for parts in zip(*pairs, strict=True))
    mean_x, mean_y = x.mean(axis=1), y.mean(axis=1)
    x -= mean_x[:, None]
    turned = x.transpose(0, 2, 1)
    count = x.shape[1]
    return _Moments(mean_x, mean_y, turned @ x / count, turned @ (y - mean_y[:, None]) / count, count)


def _bias(moments: _Moments, weight: Array) -> Array:
    """The bias that makes the means equal, [O]."""
    return np.asarray(moments.y - np.einsum("gk,gkp->gp", moments.x, weight)).reshape(-1)


def _descend(moments: _Moments, weight: Array, target: Array, scales: Array, sweeps: int, damping: float) -> Array:
    """Stored weights [G, K, P] (whole numbers) of a lower error than `weight`; `target` are the float weights in steps.

    error(w) = w' H w - 2 w' r + pull * mean(diag H) * |w - target|^2, with H and r in steps of each channel. The fewer
    windows there are for each weight, the stronger the pull: what a few samples do not show is not to be relied on.
    """
    weight = weight.copy()
    diagonal = np.einsum("gkk->gk", moments.xx)
    pull = (damping + weight.shape[1] / moments.count) * np.maximum(diagonal.mean(axis=1), 1e-30)[:, None]  # [G, 1]
    # gradient of the first two terms, in real units: xy - xx @ (w * scale)
    rest = moments.xy - moments.xx @ (weight * scales)
    for _ in range(sweeps):
        changed = False
        for k in range(weight.shape[1]):
            slope = rest[:, k] / scales[:, k] + pull * (target[:, k] - weight[:, k])
            best = np.rint(weight[:, k] + slope / (diagonal[:, k, None] + pull))
            best = np.clip(best, np.floor(target[:, k]) - 1, np.ceil(target[:, k]) + 1).clip(-127, 127)
            delta = best - weight[:, k]
            if not delta.any():
                continue
            changed = True
            weight[:, k] = best
            rest -= moments.xx[:, :, k, None] * (delta * scales[:, k])[:, None, :]
        if not changed:
            break
    return weight
