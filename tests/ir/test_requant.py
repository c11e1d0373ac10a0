"""Integer requantisation: the proof accepts what is equal, refuses what is not, and the solver finds what it can."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tinyir.arith import qlinear_mul, requantize
from tinyir.ir import Array
from tinyir.requant import Requant, apply, apply_emulated, prove, prove_emulated, solve, thresholds
from tinyir.requant_binary import apply_sum, prove_sum, solve_sum
from tinyir.types import I8, U8, DType, Quant


def random_layer(seed: int, dtype: DType, channels: int) -> tuple[Array, Array, Array, int]:
    """Scale [C], least and greatest accumulator [C], zero point: results that use the whole range of `dtype`."""
    rng = np.random.default_rng(seed)
    reach = np.exp2(rng.uniform(10, 19, channels))
    scale = (rng.uniform(60, 400, channels) / reach).astype(np.float32)
    low = -np.rint(reach * rng.uniform(0.5, 1, channels)).astype(np.int64)
    high = np.rint(reach * rng.uniform(0.5, 1, channels)).astype(np.int64)
    return scale, low, high, int(rng.integers(*dtype.range))


@pytest.mark.parametrize("dtype", [I8, U8])
@pytest.mark.parametrize("seed", range(4))
def test_proved_channels_equal_the_reference_everywhere(dtype: DType, seed: int) -> None:
    scale, low, high, zero = random_layer(seed, dtype, channels=64)
    form = solve(scale, zero, dtype, low, high)
    assert form.proved.mean() > 0.8
    every = np.linspace(low, high, 100_001).astype(np.int64)  # [samples, C]
    expected = requantize(every, scale, zero, dtype)
    assert np.array_equal(apply(form, every)[:, form.proved], expected[:, form.proved])


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_are_where_the_reference_changes(seed: int) -> None:
    scale, _, _, zero = random_layer(seed, I8, channels=8)
    limits = thresholds(scale, zero, I8)  # [C, 255]
    values = np.arange(-127, 128)
    inside = np.abs(limits) < 2**31 - 2
    at = requantize(limits.T, scale, zero, I8).T
    before = requantize(limits.T - 1, scale, zero, I8).T
    assert np.all((at >= values)[inside])
    assert np.all((before < values)[inside])


def least_and_greatest(limits: Array, multiplier: int, shift: int, ends: tuple[int, int], step: int) -> tuple[int, int]:
    """The rounding constants with which each threshold of one channel is right, one by one: multiples of `step`."""
    low, high = ends
    least, most = -(1 << 62), 1 << 62
    for value, limit in enumerate(limits.tolist(), -127):
        if limit <= high:
            least = max(least, (value << shift) - max(limit, low) * multiplier)
        if limit > low:
            most = min(most, (value << shift) - 1 - min(limit - 1, high) * multiplier)
    return -(-least // step) * step, most // step * step


@pytest.mark.parametrize(("step", "shift"), [(1, None), (1 << 32, 41)])
def test_the_nearest_multiplier_is_found(step: int, shift: int | None) -> None:
    """Beside all that there are: for ranges of which some are too wide for any."""
    channels, zero = 24, -5
    scale = np.linspace(3e-4, 6e-4, channels).astype(np.float32)
    reach = np.rint(np.exp2(np.linspace(16, 30, channels))).astype(np.int64)
    form, limits = solve(scale, zero, I8, -reach, reach, step=step, shift=shift), thresholds(scale, zero, I8)
    distances = sorted(range(-64, 65), key=lambda d: (abs(d), -d))
    found = 0
    for c, bits in enumerate(form.shift.tolist()):
        nominal, ends = round(float(scale[c]) * 2.0**bits), (-int(reach[c]), int(reach[c]))
        rooms = {d: least_and_greatest(limits[c], nominal + d, bits, ends, step) for d in distances}
        nearest = next((d for d in distances if rooms[d][0] <= rooms[d][1]), None)
        if nearest is not None:
            found += 1
            assert form.multiplier[c] == nominal + nearest
            assert rooms[nearest][0] <= form.rounding[c] <= rooms[nearest][1]
        assert form.proved[c] == (nearest is not None)
    assert 0 < found < channels


def test_a_broken_multiplier_is_not_proved() -> None:
    scale, low, high, zero = random_layer(1, I8, channels=64)
    form = solve(scale, zero, I8, low, high)
    broken = form.multiplier.copy()
    broken[form.proved] += 1 << 22
    assert not prove(replace(form, multiplier=broken), low, high)[form.proved].any()


def test_a_broken_rounding_constant_is_not_proved() -> None:
    scale, low, high, zero = random_layer(2, I8, channels=64)
    form = solve(scale, zero, I8, low, high)
    moved = replace(form, rounding=form.rounding + (np.int64(1) << form.shift))
    assert not prove(moved, low, high)[form.proved].any()


@pytest.mark.parametrize("zero_first", [False, True])
def test_the_emulated_product_is_exact(zero_first: bool) -> None:
    rng = np.random.default_rng(5)
    scale = np.exp2(rng.uniform(-20, 0, 256)).astype(np.float32)
    scale[:32] = np.exp2(rng.integers(-20, 0, 32)).astype(np.float32)  # ties everywhere
    empty = np.zeros(256, np.int64)
    form = Requant(empty, empty, empty, empty.astype(bool), scale, -3, I8, zero_first)
    reach = 2**16 if zero_first else 2**31 - 1
    centre = np.rint((rng.integers(-128, 128, (4000, 256)) + 0.5) / scale)
    accumulator = np.clip(centre + rng.integers(-2, 3, centre.shape), -reach, reach).astype(np.int64)
    expected = requantize(accumulator, scale, -3, I8, zero_first=zero_first)
    assert np.array_equal(apply_emulated(form, accumulator), expected)
    low, high = np.full(256, -reach), np.full(256, reach)
    assert prove_emulated(form, low, high).all()


@pytest.mark.parametrize("scales", [(0.05, 0.031, 0.077), (0.5, 0.25, 0.5), (0.25, 0.25, 1.0), (0.02, 0.01, 0.02)])
@pytest.mark.parametrize("dtype", [I8, U8])
def test_sums_are_proved_over_all_pairs(scales: tuple[float, float, float], dtype: DType) -> None:
    zeros = (3, -7, 12) if dtype is I8 else (120, 7, 0)
    qa, qb, qc = (Quant((float(np.float32(s)),), (z,)) for s, z in zip(scales, zeros, strict=True))
    form = solve_sum(qa, qb, qc, dtype, dtype, dtype)
    assert form is not None
    assert prove_sum(form, qa, qb, qc, dtype, dtype, dtype)
    assert not prove_sum(replace(form, offset=form.offset + (1 << form.shift)), qa, qb, qc, dtype, dtype, dtype)
    assert apply_sum(form, np.asarray([1]), np.asarray([2]), dtype).dtype == dtype.numpy


def test_products_are_proved_over_all_pairs() -> None:
    qa, qb, qc = Quant((0.013,), (-5,)), Quant((0.004,), (-128,)), Quant((0.011,), (9,))
    scale = np.float32(np.float32(0.013) * np.float32(0.004)) / np.float32(0.011)
    form = solve(np.asarray([scale]), 9, I8, np.asarray([-65025]), np.asarray([65025]), zero_first=True)
    assert form.proved.all()
    a, b = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij")
    product = ((a + 5) * (b + 128))[..., None]
    assert np.array_equal(apply(form, product)[..., 0], qlinear_mul(a, b, qa, qb, qc, I8))
