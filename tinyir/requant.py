"""Integer requantisation that is proved equal to onnxruntime's single-precision one.

The reference maps an accumulator to sat(rint(f32(f32(acc) * m)) + zp). It never decreases, and an 8-bit result takes at
most 256 values, so it is described completely by its at most 255 thresholds: the least accumulator that reaches each
value. An integer form

    y = clamp((acc * multiplier + rounding) >> shift)                    one 64-bit multiply, zero point included

never decreases either. So the two are equal for every accumulator of an interval exactly when they are equal at both
its ends and change at the same thresholds in between: a few comparisons prove what no number of samples could. For a
given multiplier each threshold bounds `rounding` from below and from above; `solve` looks for a multiplier near
m * 2^shift for which these bounds leave room. Where there is none (some channels in a hundred) `apply_emulated` says
what the C does: the f32 product itself, in integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .arith import requantize, saturate
from .diag import CompileError, Diagnostic
from .ir import Array
from .types import DType

__all__ = ["Requant", "apply", "apply_emulated", "prove", "prove_emulated", "round_single", "solve", "solve_steps",
           "thresholds"]

_SEARCH = 64
"""Multipliers tried on each side of the nearest one."""
_AT_ONCE = 8
"""So many of them are looked at together."""
_MAX_SHIFT = 54
"""255 << 54 still fits in an int64."""


@dataclass(frozen=True, eq=False)
class Requant:
    """A requantisation for each channel; all arrays are [C].

    Where `proved` is False the integer form could not be shown equal and the f32 product must be emulated.
    """

    multiplier: Array  # i64, below 2^31
    rounding: Array  # i64
    shift: Array  # i64, 0 to 54
    proved: Array  # bool
    scale: Array  # f32: the multiplier of the reference
    zero_point: int
    dtype: DType
    zero_first: bool = False  # the reference adds the zero point before it rounds


def thresholds(scale: Array, zero_point: int, dtype: DType, zero_first: bool = False) -> Array:
    """The least int32 accumulator whose result is at least v, for each v above the least value of `dtype`. [C, 255]

    `scale` [C] is f32, positive and below 2^24. 2^31 stands for "none".
    """
    low, high = dtype.range
    wanted = np.arange(low + 1, high + 1)
    factor = np.asarray(scale, np.float32).reshape(-1, 1)
    exact = (wanted - zero_point - 0.5) / factor.astype(np.float64)
    slack = np.abs(exact) * 2.0**-21 + 4
    below = np.clip(np.floor(exact - slack), -(2.0**31), 2.0**31 - 1).astype(np.int64) - 1
    reached = np.clip(np.ceil(exact + slack), -(2.0**31), 2.0**31).astype(np.int64)
    # Invariant: the result at `below` is less than wanted (or below is under int32), that at `reached` is not.
    while np.any(reached - below > 1):
        middle = (below + reached) >> 1
        result = requantize(np.clip(middle, -(2**31), 2**31 - 1), factor, zero_point, dtype, zero_first=zero_first)
        enough = result.astype(np.int64) >= wanted
        done = reached - below <= 1
        reached = np.where(enough & ~done, middle, reached)
        below = np.where(~enough & ~done, middle, below)
    return np.asarray(reached)


def apply(form: Requant, accumulator: Array) -> Array:
    """Results of the integer form for accumulators [..., C], whether proved or not."""
    wide = accumulator.astype(np.int64) * form.multiplier + form.rounding
    return saturate(wide >> form.shift, form.dtype)


def apply_emulated(form: Requant, accumulator: Array) -> Array:
    """Results of the reference computed with integers only, as the C does for channels without a proved form.

    f32(acc), its product with the 24-bit significand of the scale and rint are each a rounding to even; so is the sum
    with the zero point where that comes first (there |acc| < 2^17, so a shift of 43 or more leaves nothing but it).
    """
    significand, exponent = np.frexp(form.scale.astype(np.float64))
    factor = np.ldexp(significand, 24).astype(np.int64)
    shift = np.clip(24 - exponent, 0, 62).astype(np.int64)
    wide = accumulator.astype(np.int64)
    product = _to_24_bits(_to_24_bits(np.abs(wide)) * factor)
    if not form.zero_first:
        return saturate(np.sign(wide) * _shift_to_even(product, shift) + form.zero_point, form.dtype)
    small = np.minimum(shift, 42)
    total = np.sign(wide) * np.where(shift > 42, 0, product) + (np.int64(form.zero_point) << small)
    return saturate(np.sign(total) * _shift_to_even(_to_24_bits(np.abs(total)), small), form.dtype)


def round_single(total: Array, shift: int) -> Array:
    """rint(f32(total / 2^shift)) of int64 values, computed with integers only."""
    return np.sign(total) * _shift_to_even(_to_24_bits(np.abs(total)), np.asarray(shift))


def _to_24_bits(values: Array) -> Array:
    """Whole numbers rounded to 24 significant bits, ties to even."""
    drop = np.maximum(np.frexp(values.astype(np.float64))[1] - 24, 0).astype(np.int64)
    # frexp may have rounded up to the next power of two; one bit less then still rounds the same way or is exact
    drop = np.where((values >> np.maximum(drop + 23, 0)) == 0, np.maximum(drop - 1, 0), drop)
    return np.asarray(_shift_to_even(values, drop) << drop)


def _shift_to_even(values: Array, shift: Array) -> Array:
    """values / 2^shift rounded to a whole number, ties to even; `values` are not negative."""
    floor = values >> shift
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
    rest = values - (floor << shift)
    up = (rest > half) | ((rest == half) & (half > 0) & (floor & 1 == 1))
    return np.asarray(floor + up)


def prove(form: Requant, low: Array, high: Array) -> Array:
    """Whether each channel's integer form equals the reference for every accumulator in [low, high]. [C], bool

    Both sides never decrease, so it is enough to compare both ends and, for every threshold in between, the accumulator
    there and the one before.
    """
    return _agrees(form, low, high, apply, _limits(form)) & (form.multiplier >= 0)


def prove_emulated(form: Requant, low: Array, high: Array) -> Array:
    """The same for the emulated product, which the C uses where no integer form is proved. [C], bool"""
    return _agrees(form, low, high, apply_emulated, _limits(form))


def _limits(form: Requant) -> Array:
    return thresholds(form.scale, form.zero_point, form.dtype, form.zero_first)


def _part(form: Requant, channels: Array) -> Requant:
    """The form of some of the channels."""
    return replace(form, multiplier=form.multiplier[channels], rounding=form.rounding[channels],
                   shift=form.shift[channels], proved=form.proved[channels], scale=form.scale[channels])


def _agrees(form: Requant, low: Array, high: Array, compute: Callable[[Requant, Array], Array], limits: Array) -> Array:
    """Whether `compute` has the reference's results at both ends and around every threshold of `limits` [C, 255],
    channel by channel.
    """
    low, high = np.asarray(low, np.int64), np.asarray(high, np.int64)
    points = np.concatenate([limits, limits - 1, low[:, None], high[:, None]], axis=1).T  # [512, C]
    points = np.clip(points, low, high)
    expected = requantize(points, form.scale, form.zero_point, form.dtype, zero_first=form.zero_first)
    return np.asarray(np.all(compute(form, points) == expected, axis=0))


def solve(scale: Array, zero_point: int, dtype: DType, low: Array, high: Array, *, zero_first: bool = False,
          shift: int | None = None, step: int = 1) -> Requant:
    """The integer form of each channel, and whether it is proved, for accumulators in [low, high] ([C] each).

    `scale` [C] is the f32 multiplier of the reference: positive and below 2^24. Bounds lie within int32. `zero_first`
    as in `arith.requantize`. `shift` is one that all channels are to share, small enough for multipliers below 2^31.
    Rounding constants are multiples of `step`: with 2^32 the low word of the product does not matter. Found forms are
    remembered: layers are lowered several times where their costs are compared.
    """
    scale = np.asarray(scale, np.float32).reshape(-1)
    low, high = np.asarray(low, np.int64), np.asarray(high, np.int64)
    return _solve(scale.tobytes(), zero_point, dtype, low.tobytes(), high.tobytes(), zero_first, shift, step)


@lru_cache(maxsize=4096)
def _solve(scale_bytes: bytes, zero_point: int, dtype: DType, low_bytes: bytes, high_bytes: bytes, zero_first: bool,
           shift: int | None, step: int) -> Requant:
    scale = np.frombuffer(scale_bytes, np.float32)
    low, high = (np.frombuffer(ends, np.int64) for ends in (low_bytes, high_bytes))
    _, exponent = np.frexp(scale.astype(np.float64))
    shifts = np.clip(31 - exponent, 0, _MAX_SHIFT).astype(np.int64)  # multiplier in [2^30, 2^31) where the shift allows
    if shift is not None:
        shifts = np.full(scale.shape, shift, np.int64)
    nominal = np.rint(np.ldexp(scale.astype(np.float64), shifts)).astype(np.int64)
    nominal = np.minimum(nominal, 2**31 - 1)
    limits = thresholds(scale, zero_point, dtype, zero_first)
    multiplier, rounding = _search(nominal, shifts, limits, zero_point, dtype, low, high, step)
    form = Requant(multiplier, rounding, shifts, np.zeros(scale.shape, bool), scale, zero_point, dtype, zero_first)
    proved = _agrees(form, low, high, apply, limits) & (form.multiplier >= 0)
    rest = ~proved
    if not _agrees(_part(form, rest), low[rest], high[rest], apply_emulated, limits[rest]).all():
        raise CompileError((Diagnostic("internal", "a requantisation is proved with no form"),))
    return replace(form, proved=proved)


def solve_steps(limits: Array, factor: float, zero_point: int, dtype: DType, low: int, high: int) -> Requant:
    """A form for any function that never decreases, given by its thresholds `limits` [255] as `thresholds` has them.

    `factor` is about its slope. Proved if it equals that function on every accumulator in [low, high]. Remembered, as
    what `solve` finds.
    """
    return _solve_steps(np.asarray(limits, np.int64).tobytes(), factor, zero_point, dtype, low, high)


@lru_cache(maxsize=256)
def _solve_steps(limit_bytes: bytes, factor: float, zero_point: int, dtype: DType, low: int, high: int) -> Requant:
    limits = np.frombuffer(limit_bytes, np.int64)
    shift = np.clip(31 - np.frexp(np.asarray([factor]))[1], 0, _MAX_SHIFT).astype(np.int64)
    nominal = np.minimum(np.rint(np.ldexp(np.asarray([factor]), shift)).astype(np.int64), 2**31 - 1)
    ends = np.asarray([low], np.int64), np.asarray([high], np.int64)
    multiplier, rounding = _search(nominal, shift, limits[None], zero_point, dtype, *ends)
    form = Requant(multiplier, rounding, shift, np.zeros(1, bool), np.asarray([factor], np.float32), zero_point, dtype)
    points = np.clip(np.concatenate([limits, limits - 1, *ends]), low, high)
    expected = dtype.range[0] + np.searchsorted(limits, points, side="right")
    equal = np.array_equal(apply(form, points[:, None])[:, 0], expected)
    return replace(form, proved=np.asarray([equal and multiplier[0] >= 0]))


def _search(nominal: Array, shift: Array, limits: Array, zero_point: int, dtype: DType, low: Array, high: Array,
            step: int = 1) -> tuple[Array, Array]:
    """For each channel the multiplier nearest to `nominal` that has a rounding constant, and that constant."""
    best, rounding = nominal.copy(), _default_rounding(shift, zero_point)
    bounds = _Bounds.of(shift, limits, dtype, low, high)
    first, last = bounds.interval(np.maximum(nominal - _SEARCH, 0), np.minimum(nominal + _SEARCH, 2**31 - 1))
    left = np.flatnonzero(first <= last)  # the channels without one that have a chance
    for distances in _nearest_first(_SEARCH):
        candidates = nominal[left, None] + distances
        inside = (first[left, None] <= candidates) & (candidates <= last[left, None])
        channel, _ = np.nonzero(inside)
        least, most, _ = bounds.part(left[channel]).for_multiplier(candidates[inside])
        least, most = -(-least // step) * step, most // step * step
        suits = np.flatnonzero(least <= most)
        channel, nearest = np.unique(channel[suits], return_index=True)
        found, nearest = left[channel], suits[nearest]
        best[found] = candidates[inside][nearest]
        rounding[found] = np.clip(rounding[found], least[nearest], most[nearest])
        left = np.delete(left, channel)
        if not left.size:
            break
    return best, rounding


def _nearest_first(reach: int) -> list[Array]:
    """The distances in both directions, 0 alone and then some at a time."""
    every = np.asarray([0, *(sign * distance for distance in range(1, reach + 1) for sign in (1, -1))])
    return np.split(every, range(1, len(every), _AT_ONCE))


def _default_rounding(shift: Array, zero_point: int) -> Array:
    """Half a step, and the zero point."""
    return np.asarray((np.int64(zero_point) << shift) + np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0))


class _Bounds(NamedTuple):
    """What bounds rounding constants: (T*M + R) >> s >= v and ((T-1)*M + R) >> s < v for every threshold T, on both
    sides. One outside (low, high] does so on one side only, by the end of the interval. All are [C, 255].
    """

    at_least: Array
    reached: Array  # the accumulator that must reach v
    at_most: Array
    before: Array   # the one that must not

    @staticmethod
    def of(shift: Array, limits: Array, dtype: DType, low: Array, high: Array) -> _Bounds:
        least_value, most_value = dtype.range
        values = np.arange(least_value + 1, most_value + 1, dtype=np.int64) << shift[:, None]
        reached, before = np.maximum(limits, low[:, None]), np.minimum(limits - 1, high[:, None])
        below, above, none = limits <= high[:, None], limits > low[:, None], np.iinfo(np.int64)
        return _Bounds(np.where(below, values, none.min // 2), np.where(below, reached, 0),
                       np.where(above, values - 1, none.max // 2), np.where(above, before, 0))

    def part(self, channels: Array) -> _Bounds:
        """Those of some channels."""
        return _Bounds(*(array[channels] for array in self))

    def for_multiplier(self, multiplier: Array) -> tuple[Array, Array, Array]:
        """Least and greatest rounding constant [C] with which every threshold is right. The least is a maximum of
        linear functions of the multiplier, the greatest a minimum: the third is the slope of how far they are apart.
        """
        factor, channels = multiplier[:, None], np.arange(len(multiplier))
        least, most = self.at_least - self.reached * factor, self.at_most - self.before * factor
        highest, lowest = (channels, least.argmax(axis=1)), (channels, most.argmin(axis=1))
        return least[highest], most[lowest], self.before[lowest] - self.reached[highest]

    def interval(self, low: Array, high: Array) -> tuple[Array, Array]:
        """First and last multiplier [C] in [low, high] for which there is a rounding constant; the first one is beyond
        the last where there is none. What the least is above the greatest is convex: where that is positive its slope
        says on which side to look, so that both ends are found by bisection.
        """
        return self._end(low, high, False), self._end(low, high, True)

    def _end(self, low: Array, high: Array, last: bool) -> Array:
        low, high = low.copy(), high.copy()
        found = low - 1 if last else high + 1
        while (open_ := np.flatnonzero(low <= high)).size:
            middle = (low[open_] + high[open_]) >> 1
            least, most, slope = self.part(open_).for_multiplier(middle)
            suits = least <= most
            found[open_[suits]] = middle[suits]
            above = np.where(suits, last, slope < 0)
            low[open_] = np.where(above, middle + 1, low[open_])
            high[open_] = np.where(above, high[open_], middle - 1)
        return found
