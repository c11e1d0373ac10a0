"""How the elements of one value are distributed, in bounded memory, and which range to quantise them over.

A histogram has a fixed number of bins over [-reach, reach]; where an element lies outside, the reach doubles and pairs
of bins merge. So data can stream by in one pass.

| method     | range                                                                                             |
|------------|---------------------------------------------------------------------------------------------------|
| minmax     | all that was seen                                                                                 |
| percentile | without the outermost elements                                                                    |
| entropy    | least Kullback-Leibler divergence between histogram and its quantisation (Migacz, "8-bit inference |
|            | with TensorRT", 2017)                                                                             |
| mse        | least expected squared error: rounding inside plus clipping outside                               |
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from tinyir.ir import Array

Method = Literal["minmax", "percentile", "entropy", "mse"]

_BINS = 4096
_LEVELS = 256
_SHRINKS = np.linspace(1.0, 0.2, 81)


class Histogram:
    """The elements seen so far: least, greatest, and how many in each bin; exact zeros apart (they cost no error)."""

    def __init__(self) -> None:
        self.low = 0.0
        self.high = 0.0
        self.zeros = 0
        self.count = 0
        self.reach = 0.0
        self.bins = np.zeros(_BINS, np.int64)

    def add(self, array: Array) -> None:
        """Count the elements of `array`, which are finite."""
        self.count += array.size
        values = array[array != 0]
        self.zeros += array.size - values.size
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._grow(max(-low, high))
        places = ((values.astype(np.float64) / self.reach + 1) * (_BINS / 2)).astype(np.int64)
        self.bins += np.bincount(np.clip(places.reshape(-1), 0, _BINS - 1), minlength=_BINS)

    def _grow(self, needed: float) -> None:
        if self.reach == 0:
            self.reach = needed
        while self.reach < needed:
            merged = self.bins.reshape(-1, 2).sum(axis=1)
            self.bins = np.concatenate([np.zeros(_BINS // 4, np.int64), merged, np.zeros(_BINS // 4, np.int64)])
            self.reach *= 2

    @property
    def centres(self) -> Array:
        """The middle of each bin."""
        return (np.arange(_BINS) + 0.5 - _BINS / 2) * (2 * self.reach / _BINS)

    def range(self, method: Method, percentile: float = 99.99) -> tuple[float, float]:
        """The range to quantise over: low <= 0 <= high. (0, 0) where nothing but zeros was seen."""
        if self.reach == 0 or method == "minmax":
            return self.low, self.high
        if method == "percentile":
            return self._percentile(percentile)
        return self._mse() if method == "mse" else self._entropy()

    def _clip(self, low: float, high: float) -> tuple[float, float]:
        return max(self.low, min(low, 0.0)), min(self.high, max(high, 0.0))

    def _percentile(self, percentile: float) -> tuple[float, float]:
        """Both tails together hold at most 100 - percentile percent of the elements."""
        bins = self.bins.copy()
        bins[_BINS // 2] += self.zeros
        share = np.cumsum(bins) / self.count
        tail = (1 - percentile / 100) / 2
        edges = (np.arange(_BINS + 1) - _BINS / 2) * (2 * self.reach / _BINS)
        below, above = np.searchsorted(share, tail, "right"), np.searchsorted(share, 1 - tail, "left")
        return self._clip(float(edges[below]), float(edges[above + 1]))

    def _mse(self) -> tuple[float, float]:
        """Both ends shrink on their own; all pairs are tried at once."""
        lows, highs = (end * _SHRINKS if end else np.zeros(1) for end in (self.low, self.high))
        step = (highs[None, :] - lows[:, None]) / (_LEVELS - 1)
        centres, weights = self.centres, self.bins.astype(np.float64)
        below = (np.maximum(lows[:, None] - centres, 0) ** 2) @ weights
        above = (np.maximum(centres - highs[:, None], 0) ** 2) @ weights
        inside = np.concatenate([[0.0], np.cumsum(weights)])
        first, last = np.searchsorted(centres, lows), np.searchsorted(centres, highs)
        count = np.maximum(inside[last][None, :] - inside[first][:, None], 0)
        loss = below[:, None] + above[None, :] + count * step**2 / 12
        row, column = np.unravel_index(int(np.argmin(loss)), loss.shape)
        return self._clip(float(lows[row]), float(highs[column]))

    def _entropy(self) -> tuple[float, float]:
        """One threshold for both signs."""
        half = _BINS // 2
        magnitudes = (self.bins[half:] + self.bins[:half][::-1]).astype(np.float64)
        levels = _LEVELS // 2 if self.low < 0 < self.high else _LEVELS
        starts = range(levels, half + 1, max(1, (half - levels) // 96))
        losses = [_divergence(magnitudes, cut, levels) for cut in starts]
        best = starts[int(np.argmin(losses))] if losses else half
        bound = best * self.reach / half
        return self._clip(-bound, bound)


def _divergence(magnitudes: Array, cut: int, levels: int) -> float:
    """KL divergence of the first `cut` bins, the rest added to the last, from themselves in `levels` steps."""
    wanted = magnitudes[:cut].copy()
    wanted[-1] += magnitudes[cut:].sum()
    groups = np.minimum(np.arange(cut) * levels // cut, levels - 1)
    filled = (magnitudes[:cut] > 0).astype(np.float64)
    totals, counts = (np.bincount(groups, w, minlength=levels) for w in (magnitudes[:cut], filled))
    found = filled * (totals / np.maximum(counts, 1))[groups]
    total, kept = wanted.sum(), found.sum()
    if not total or not kept:
        return float("inf")
    p, q = wanted / total, np.maximum(found / kept, 1e-9)
    inside = p > 0
    return float(np.sum(p[inside] * np.log(p[inside] / q[inside])))
