"""Weighted means of stored integers: what is proved holds for every input, in every order; what has ties is refused."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from tinyir.arith import qlinear_mix, saturate
from tinyir.ir import Array
from tinyir.requant_mean import is_steady, solve_mean
from tinyir.types import I8, U8, DType, Quant

QUARTERS = np.float32([0.25, 0.75])
THIRDS = np.float32([1 / 3, 2 / 3])


def per_tensor(scale: float, zero: int) -> Quant:
    return Quant((float(np.float32(scale)),), (zero,))


def near_ties(weights: Array, ratio: float, zero: int, dtype: DType, rng: np.random.Generator) -> Array:
    """Four stored values each, [samples, 4], whose sums with whole `weights` come closest to a tie."""
    low, high = dtype.range
    parts = int(weights.sum())
    sums = np.arange(low * parts, high * parts + 1)
    steps = (sums - zero * parts) * ratio / parts
    closest = sums[np.argsort(np.abs(steps - np.floor(steps) - 0.5))[:200]]
    first = int(weights.argmax())
    others = [i for i in range(4) if i != first]
    values = rng.integers(low, high, (closest.size, 4000, 4), endpoint=True)
    rest = closest[:, None] - values[..., others] @ weights[others]
    values[..., first] = rest // weights[first]
    fits = (rest % weights[first] == 0) & (values[..., first] >= low) & (values[..., first] <= high)
    return np.asarray(values[fits])


@pytest.mark.parametrize("dtype", [I8, U8])
@pytest.mark.parametrize("scales", [(0.031, 0.02731), (0.05, 0.0472), (0.2, 0.31), (0.0125, 0.0125)])
@pytest.mark.parametrize("axis", [QUARTERS, THIRDS, np.float32([0, 0.5])], ids=["quarters", "thirds", "halves"])
def test_proved_forms_hold_near_every_tie(axis: Array, scales: tuple[float, float], dtype: DType) -> None:
    rng = np.random.default_rng(1)
    qx, qy = per_tensor(scales[0], 3), per_tensor(scales[1], 9)
    form = solve_mean(axis, axis, (qx, qy), (dtype, dtype))
    assert (form is not None) or not is_steady(axis, axis, (qx, qy), (dtype, dtype))
    if form is None:
        return
    for m, v in zip(form.rows, axis, strict=True):
        for n, u in zip(form.columns, axis, strict=True):
            whole = np.outer([form.row_parts - m, m], [form.column_parts - n, n]).reshape(-1)
            real = [np.float32(a * b) for a in (1 - v, v) for b in (1 - u, u)]
            values = near_ties(whole, qx.scale / qy.scale, qx.zero_point, dtype, rng)
            total = values @ whole
            mine = saturate((total * form.multiplier + form.rounding) >> form.shift, dtype)
            for order in permutations(range(4)):
                theirs = qlinear_mix([values[:, i] for i in order], [real[i] for i in order], qx, qy, dtype)
                assert np.array_equal(mine, theirs)


def test_some_of_these_are_proved() -> None:
    quants = per_tensor(0.031, 3), per_tensor(0.02731, 9)
    assert solve_mean(THIRDS, THIRDS, quants, (I8, I8)) is not None
    assert solve_mean(np.float32([0, 0.5]), np.float32([0, 0.5]), quants, (I8, I8)) is not None


def test_equal_scales_have_ties() -> None:
    """Halves of stored values: single precision falls on either side, but for scales of few digits."""
    quant = per_tensor(0.0371, 3)
    halves = np.float32([0.5])
    assert is_steady(halves, halves, (quant, quant), (I8, I8)) is False
    assert solve_mean(halves, halves, (quant, quant), (I8, I8)) is None
    power = per_tensor(0.125, 3)
    assert is_steady(halves, halves, (power, power), (I8, I8))


def test_weights_that_are_no_parts_are_not_known() -> None:
    quant = per_tensor(0.0371, 3)
    weights = np.float32([0.1234, 0.7654321])
    assert is_steady(weights, QUARTERS, (quant, quant), (I8, I8)) is None
    assert solve_mean(weights, QUARTERS, (quant, quant), (I8, I8)) is None


def test_more_terms_need_more_distance() -> None:
    """A scale that keeps its distance for four terms need not for more."""
    found = []
    for number in range(200):
        quants = per_tensor(0.05, -128), per_tensor(0.047 * (1 + number * 2.0**-14), -128)
        found.append([is_steady(QUARTERS, QUARTERS, quants, (I8, I8), terms) for terms in (4, 8)])
    steady = np.asarray(found)
    assert not np.any(steady[:, 1] & ~steady[:, 0])
    assert 0 < steady[:, 1].sum() < steady[:, 0].sum() < 200
