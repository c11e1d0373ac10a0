"""Correct the biases of quantised layers for the mean error that rounding and clipping make.

    @b = [120, -77]  ->  [118, -77]            each channel has the mean that it has in the float network

Layer by layer: both networks run side by side over calibration samples, each layer sees what the corrected ones before
it compute. Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019,
section 4.2 (here with data).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tinyir.ir import Array, Level, Module
from tinyir.pass_manager import Context, Pass, option

from ._lockstep import Lockstep
from ._stored_layers import StoredLayer


class CorrectBias(Pass):
    """Shift biases so that the mean of each channel is that of the float network."""

    name = "correct-bias"
    level: ClassVar[Level] = "graph"
    changes_results = True

    samples: int = option(192, "how many samples to look at")

    def run(self, module: Module, ctx: Context) -> None:
        rewriter = self.rewriter(module, ctx)
        both = Lockstep(module, ctx, self.samples)
        count = 0
        for layer in both.layers():
            stored = StoredLayer(layer, rewriter)
            real_weight = stored.real_weight
            found = [layer.reference(x, real_weight, stored.bias) for x in both.inputs(layer)]
            error = _channel_mean(both.wanted(layer)) - _channel_mean(found)
            stored.set_bias((0.0 if stored.bias is None else stored.bias) + error)
            count += 1
        module.drop_unused_consts()
        ctx.stat("layers", count)


def _channel_mean(arrays: list[Array]) -> Array:
    """Mean over all but the last axis and over samples, f64."""
    return np.asarray(np.mean([a.reshape(-1, a.shape[-1]).mean(axis=0, dtype=np.float64) for a in arrays], axis=0))
