"""Integer forms of the quantised sum and product, proved over every pair of inputs.

A sum of two 8-bit values has 65,536 input pairs, so an integer form can simply be compared with the reference on all
of them. The form tried first rounds half up, the second half to even (for scales whose ratio is a power of two, where
ties are frequent):

    t = a * a_multiplier + b * b_multiplier + offset          32 bits
    y = clamp(t >> shift)                                     or, to even: clamp((t - ((t >> shift) & 1)) >> shift)

The zero points and the rounding constant are in the offset. A product depends on p = (a - za) * (b - zb) alone and
never decreases with it, so the forms of `requant` serve it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .arith import qlinear_add, saturate
from .ir import Array
from .types import DType, Quant

__all__ = ["SumForm", "apply_sum", "prove_sum", "solve_sum"]

_REACH = 6
"""Multipliers tried on each side of the nearest one, for each of the two inputs."""


@dataclass(frozen=True)
class SumForm:
    """An integer form of a quantised sum; `wide` needs a 64-bit t."""

    a_multiplier: int
    b_multiplier: int
    offset: int
    shift: int
    to_even: bool
    wide: bool


def apply_sum(form: SumForm, a: Array, b: Array, dtype: DType) -> Array:
    """Results of the integer form for stored values `a` and `b`."""
    t = a.astype(np.int64) * form.a_multiplier + b.astype(np.int64) * form.b_multiplier + form.offset
    if form.to_even:
        t = t - ((t >> form.shift) & 1)
    return saturate(t >> form.shift, dtype)


def prove_sum(form: SumForm, qa: Quant, qb: Quant, qc: Quant, da: DType, db: DType, dc: DType) -> bool:
    """Whether the form equals the reference on every pair of inputs and no intermediate value leaves its width."""
    a, b = _all_pairs(da, db)
    reach = 2**31 if not form.wide else 2**63
    t = a.astype(np.int64) * form.a_multiplier + b.astype(np.int64) * form.b_multiplier + form.offset
    partial = b.astype(np.int64) * form.b_multiplier + form.offset
    if max(np.abs(t).max(), np.abs(partial).max()) >= reach - 2:
        return False
    return bool(np.array_equal(apply_sum(form, a, b, dc), qlinear_add(a, b, qa, qb, qc, dc)))


def _all_pairs(da: DType, db: DType) -> tuple[Array, Array]:
    a = np.arange(da.range[0], da.range[1] + 1)[:, None]
    b = np.arange(db.range[0], db.range[1] + 1)[None, :]
    return np.broadcast_arrays(a, b)  # type: ignore[return-value]


@lru_cache(maxsize=1024)
def solve_sum(qa: Quant, qb: Quant, qc: Quant, da: DType, db: DType, dc: DType) -> SumForm | None:
    """A proved integer form of QLinearAdd, the cheapest that was found, or None."""
    a, b = _all_pairs(da, db)
    expected = qlinear_add(a, b, qa, qb, qc, dc).astype(np.int64)
    ra, rb = qa.scale / qc.scale, qb.scale / qc.scale
    bound = 256.0 * (ra + rb) + 512.0
    narrow = int(np.floor(30 - np.log2(bound)))
    middle = min(int(np.floor(30.9 - np.log2(max(ra, rb)))), 31)  # multipliers of 32 bits
    for wide, shift in ((False, narrow), (True, middle), (True, min(narrow + 20, 44))):
        if shift < 1:
            continue
        for to_even in (False, True):
            form = _to_even(qa, qb, qc, shift, wide) if to_even else _half_up(a, b, expected, (ra, rb), shift, wide, dc)
            if form is not None and prove_sum(form, qa, qb, qc, da, db, dc):
                return form
    return None


def _to_even(qa: Quant, qb: Quant, qc: Quant, shift: int, wide: bool) -> SumForm:
    ma, mb = (round(q.scale / qc.scale * 2.0**shift) for q in (qa, qb))
    return SumForm(ma, mb, _offset_to_even(qa, qb, qc, (ma, mb), shift), shift, True, wide)


def _half_up(a: Array, b: Array, expected: Array, ratios: tuple[float, float], shift: int, wide: bool, dtype: DType) \
        -> SumForm | None:
    nominal_a, nominal_b = (round(r * 2.0**shift) for r in ratios)
    wide_a, wide_b = a.astype(np.int64), b.astype(np.int64)
    steps = sorted(((i, j) for i in range(-_REACH, _REACH + 1) for j in range(-_REACH, _REACH + 1)),
                   key=lambda s: (abs(s[0]) + abs(s[1]), s))
    for i, j in steps:
        ma, mb = nominal_a + i, nominal_b + j
        t = wide_a * ma + wide_b * mb
        offset = _offset_half_up(t, expected, shift, dtype)
        if offset is not None:
            return SumForm(ma, mb, offset, shift, False, wide)
    return None


def _offset_half_up(t: Array, expected: Array, shift: int, dtype: DType) -> int | None:
    """An offset with which (t + offset) >> shift is right for every pair, or None."""
    low, high = dtype.range
    least = np.max(np.where(expected > low, (expected << shift) - t, np.iinfo(np.int64).min))
    most = np.min(np.where(expected < high, ((expected + 1) << shift) - t - 1, np.iinfo(np.int64).max))
    return int((int(least) + int(most)) // 2) if least <= most else None


def _offset_to_even(qa: Quant, qb: Quant, qc: Quant, multipliers: tuple[int, int], shift: int) -> int:
    """The offset with ties to even: the zero points exactly, and half a step."""
    zeros = (qc.zero_point << shift) - qa.zero_point * multipliers[0] - qb.zero_point * multipliers[1]
    return zeros + (1 << (shift - 1))
