"""Weighted means of stored integers from whole weights, proved equal to onnxruntime's single-precision sum.

The weights of a bilinear resize are fractions of few parts in most models: quarters for twice as many pixels. Then the
result is a function of one integer, S = sum of (parts of a pixel * its stored value), and

    y = clamp((S * multiplier + rounding) >> shift)

is right for every input in two cases. Either single precision computes the sum without any rounding (weights and scale
have few digits): then the result is computed for each S. Or it rounds, but by less than the distance of every S from
the middle between two steps: then the sum's own rounding to a step hides all others. Each rounding of a 24-bit float is
by at most 2^-24 of its value, so the error is bounded by the sum of the sizes of the terms, which is at most the
greatest size of an element, times the number of roundings (Higham, "Accuracy and Stability of Numerical Algorithms",
chapter 3), plus what the weights differ from whole parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arith import saturate
from .ir import Array
from .requant import solve_steps
from .types import DType, Quant

__all__ = ["MeanForm", "is_steady", "solve_mean"]

_MOST_PARTS = 16
_NEAR = 2.0**-12
"""How far a weight may be from a whole number of parts; what it is off is part of the error."""
_TERMS = 4
_UNIT = 2.0**-24
_HALVES = 8
"""A pixel at the edge is added up in as many parts as it stands for others."""
_SLACK = 1.001
"""For products of errors, and for the double precision of the bounds."""
_EXPONENTS = (2.0**-60, 2.0**60)
"""Scales for which no product is subnormal or infinite."""


@dataclass(frozen=True, eq=False)
class MeanForm:
    """Whole weights of the second row of each row, and of the second column, and what the sum is stored with."""

    row_parts: int
    rows: Array        # [H'] of row_parts
    column_parts: int
    columns: Array     # [W'] of column_parts
    multiplier: int
    rounding: int
    shift: int


@dataclass(frozen=True, eq=False)
class _Parts:
    """The weights of an axis, f32, and the whole parts that they are close to."""

    weights: Array
    count: int
    whole: Array


def solve_mean(down: Array, across: Array, quants: tuple[Quant, Quant], dtypes: tuple[DType, DType]) -> MeanForm | None:
    """The form of a bilinear resize, or None where none is proved.

    `down` [H'] and `across` [W'] are the f32 weights of the second row and column; `quants` and `dtypes` those of x, y.
    """
    rows, columns = _parts(down), _parts(across)
    if rows is None or columns is None:
        return None
    expected = _expected(rows, columns, quants, dtypes)
    if expected is None:
        return None
    (qx, qy), (dx, dy) = quants, dtypes
    parts = rows.count * columns.count
    low, high = (end * parts for end in dx.range)
    values = np.arange(dy.range[0] + 1, dy.range[1] + 1)
    limits = low + np.searchsorted(expected, values, side="left")
    limits = np.where(limits > high, 2**31, limits)
    factor = qx.scale / qy.scale / parts
    zero = round(qy.zero_point - qx.zero_point * qx.scale / qy.scale)
    form = solve_steps(limits, factor, zero, dy, low, high)
    if not form.proved[0]:
        return None
    return MeanForm(rows.count, rows.whole, columns.count, columns.whole, int(form.multiplier[0]),
                    int(form.rounding[0]), int(form.shift[0]))


def is_steady(down: Array, across: Array, quants: tuple[Quant, Quant], dtypes: tuple[DType, DType],
              terms: int = _TERMS) -> bool | None:
    """Whether the result does not depend on the order and rounding of the sum, which may have more `terms` than pixels;
    None where weights are no whole parts.
    """
    rows, columns = _parts(down), _parts(across)
    return None if rows is None or columns is None else _expected(rows, columns, quants, dtypes, terms) is not None


def _parts(weights: Array) -> _Parts | None:
    wide = weights.astype(np.float64)
    for count in range(1, _MOST_PARTS + 1):
        whole = np.rint(wide * count)
        if np.all(np.abs(wide - whole / count) <= _NEAR):
            return _Parts(weights, count, whole.astype(np.int64))
    return None


def _expected(rows: _Parts, columns: _Parts, quants: tuple[Quant, Quant], dtypes: tuple[DType, DType],
              terms: int = _TERMS) -> Array | None:
    """What onnxruntime stores for each sum of parts * stored values, the least sum first; None if that is not known."""
    (qx, qy), (dx, dy) = quants, dtypes
    if not all(_EXPONENTS[0] < q.scale < _EXPONENTS[1] for q in quants):
        return None
    parts = rows.count * columns.count
    sums = np.arange(dx.range[0] * parts, dx.range[1] * parts + 1) - qx.zero_point * parts
    most = max(abs(end - qx.zero_point) for end in dx.range)
    off, total = _weight_errors(rows, columns)
    reals: Array = sums * (float(np.float32(qx.scale)) / parts)
    steps: Array
    if off == 0 and _is_exact(qx.scale, parts, most):
        steps = (reals.astype(np.float32) / np.float32(qy.scale)).astype(np.float64)
    else:
        steps = reals / float(np.float32(qy.scale))
        size = most * float(np.float32(qx.scale)) / float(np.float32(qy.scale))
        roundings = terms + 2  # its real value, the product, the sums, the quotient by the scale
        if not _is_apart(steps, qy.zero_point, dy, size * (total * roundings * _UNIT + off) * _SLACK):
            return None
    return saturate(np.rint(steps) + qy.zero_point, dy).astype(np.int64)


def _weight_errors(rows: _Parts, columns: _Parts) -> tuple[float, float]:
    """How much the weights of one pixel differ from whole parts in sum, and their sum, at most."""
    one = np.float32(1)
    shape = len(rows.whole), len(columns.whole)
    off: Array = np.zeros(shape)
    total: Array = np.zeros(shape)
    for v, m in ((one - rows.weights, rows.count - rows.whole), (rows.weights, rows.whole)):
        for u, n in ((one - columns.weights, columns.count - columns.whole), (columns.weights, columns.whole)):
            weight = (v[:, None] * u[None, :]).astype(np.float64)
            off += np.abs(weight - m[:, None] * n[None, :] / (rows.count * columns.count))
            total += weight
    return float(off.max()), float(total.max())


def _is_exact(scale: float, parts: int, most: int) -> bool:
    """Whether every sum of products has at most 24 digits: `parts` is a power of two, the scale a whole number of few
    digits times another one."""
    numerator, _ = float(np.float32(scale)).as_integer_ratio()
    digits = numerator // (numerator & -numerator)
    return parts & (parts - 1) == 0 and digits * parts * _HALVES * most < 2**24


def _is_apart(steps: Array, zero: int, dtype: DType, error: float) -> bool:
    """Whether no value is within `error` of a tie, but for those that are stored as an end of the range anyway."""
    low, high = dtype.range
    inner = steps[(steps > low - zero) & (steps < high - zero)]
    distance = np.abs(inner - np.floor(inner) - 0.5)
    # An error below 1/2 keeps what lies at the ends and beyond there.
    return error < 0.5 and bool(distance.min(initial=0.5) > error)
