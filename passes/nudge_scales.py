"""Move weight scales by a few units in the last place until the whole layer's requantisation is proved.

    @w : i8, q<axis 0, [0.0031415927, ..]:0>    channel 0: no integer form equals the f32 product at all thresholds
        ->
    @w : i8, q<axis 0, [0.003141594, ..]:0>     channel 0: one does

Whoever owns the quantisation owns the thresholds: a scale that differs in its seventh digit costs no accuracy, and for
some scale nearby there is a multiplier that is right everywhere (see `tinyir.requant`). Wanted is the form of two
instructions, high word of acc * multiplier + rounding and a saturating shift (SMMLA and SSAT on Cortex-M): its rounding
constant is a multiple of 2^32. Where a channel does not reach it, any proved form will do. One shift serves a layer.
The stored weights stay; stored biases are derived anew, as their scale is that of x times that of w.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np

from tinyir.arith import output_multiplier
from tinyir.ir import Array, Level, Module
from tinyir.pass_manager import Context, Pass, option
from tinyir.requant import solve
from tinyir.types import I8, Quant, TensorType

from ._lockstep import stored_layer
from ._quantised_values import bias_type, output_axis, stored_bias, weight_type
from ._stored_layers import StoredLayer

_WORD = 1 << 32
_MOST_SHIFT = 52


class NudgeScales(Pass):
    """Choose weight scales whose requantisation has a proved integer form."""

    name = "nudge-scales"
    level: ClassVar[Level] = "graph"
    changes_results = True

    reach: int = option(100, "how many units in the last place a scale may move")

    def run(self, module: Module, ctx: Context) -> None:
        rewriter = self.rewriter(module, ctx)
        layers = short = proved = 0
        for op in list(module.main.ops):
            layer = stored_layer(op)
            stored = None if layer is None else StoredLayer(layer, rewriter)
            if layer is None or stored is None or stored.y is None:
                continue
            search = _Search(stored)
            search.run(self.reach)
            if (search.scales != stored.scales).any():
                stored.set_weight(stored.weight, search.scales)
            layers, short, proved = layers + 1, short + bool(search.short.all()), proved + bool(search.proved.all())
            count = search.scales.size
            rewriter.remark(layer, f"{layer.opname}: {count} channels: {int(search.short.sum())} proved in two "
                                   f"instructions, {int(search.proved.sum())} in all")
        module.drop_unused_consts()
        for name, value in (("layers", layers), ("layers-in-two-instructions", short), ("layers-proved", proved)):
            ctx.stat(name, value)


@dataclass(frozen=True)
class _Bounds:
    """What the products of a layer's channels can sum up to, without the bias."""

    low: Array
    high: Array

    @classmethod
    def of(cls, stored: StoredLayer) -> _Bounds:
        low, high = (end - stored.x.zero_point for end in I8.range)
        rows = np.moveaxis(stored.weight.astype(np.int64), output_axis(stored.layer), 0)
        rows = rows.reshape(rows.shape[0], -1)
        return cls(np.minimum(rows * low, rows * high).sum(axis=1), np.maximum(rows * low, rows * high).sum(axis=1))


class _Search:
    """The scales of one layer: those that prove in two instructions, else those that prove, else as they were."""

    def __init__(self, stored: StoredLayer) -> None:
        self.stored = stored
        self.before = stored.scales.astype(np.float32)
        self.scales = self.before.copy()
        self.short = np.zeros(self.before.size, bool)
        self.proved = np.zeros(self.before.size, bool)
        self._bounds = _Bounds.of(stored)
        self._bias = stored.bias
        y = cast("tuple[Quant, TensorType]", stored.y)
        self._y, self._dtype = y[0], y[1].dtype
        exponent = np.frexp(self._multipliers(self.before).astype(np.float64))[1]
        self._shift = int(np.clip(31 - exponent, 0, _MOST_SHIFT).min())

    def _multipliers(self, scales: Array) -> Array:
        weight = Quant(tuple(float(s) for s in scales), (0,) * scales.size, 0)
        return np.asarray(output_multiplier(self.stored.x, weight, self._y), np.float32)

    def run(self, reach: int) -> None:
        """Try the scales nearest first; channels that are settled drop out."""
        for distance in [0, *(sign * d for d in range(1, reach + 1) for sign in (1, -1))]:
            channels = np.flatnonzero(~self.short)
            if not channels.size:
                return
            self._try(channels, _moved(self.before, distance), _WORD if self._shift >= 32 else 1)

    def _try(self, channels: Array, scales: Array, step: int) -> None:
        low, high = self._sums(scales)
        multipliers = self._multipliers(scales)
        if np.frexp(multipliers.max())[1] > 31 - self._shift < 31:
            return  # the multiplier would not fit
        short = self._solve(multipliers, low, high, channels, step)
        self._accept(channels[short], scales, self.short)
        self.proved |= self.short
        open_channels = channels[~short & ~self.proved[channels]]
        if open_channels.size:
            found = self._solve(multipliers, low, high, open_channels, 1)
            self._accept(open_channels[found], scales, self.proved)

    def _accept(self, channels: Array, scales: Array, settled: Array) -> None:
        settled[channels] = True
        self.scales[channels] = scales[channels]

    def _solve(self, multipliers: Array, low: Array, high: Array, channels: Array, step: int) -> Array:
        form = solve(multipliers[channels], self._y.zero_point, self._dtype, low[channels], high[channels],
                     shift=self._shift, step=step)
        return form.proved

    def _sums(self, scales: Array) -> tuple[Array, Array]:
        """Bounds of the accumulator with the bias that these scales give."""
        if self._bias is None:
            return self._bounds.low, self._bounds.high
        quant = weight_type(self.stored.layer, scales).quant
        assert quant is not None
        bias = stored_bias(self._bias, bias_type(self.stored.x, quant)).astype(np.int64)
        return self._bounds.low + bias, self._bounds.high + bias


def _moved(scales: Array, distance: int) -> Array:
    """The f32 numbers that many places away."""
    return np.asarray((scales.view(np.int32) + distance).view(np.float32))
