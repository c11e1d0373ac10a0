"""Compares what the C computes with what onnxruntime computes, value by value.

A float output value c passes where `|c - ort| <= 1e-5 * max|ort output| + 1e-4 * |ort|`; integers must be equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyir.ir import Array

from .program import Sample

__all__ = ["ABSOLUTE", "RELATIVE", "Difference", "argmax_agreement", "argmax_hits", "compare_arrays", "merge"]

ABSOLUTE = 1e-5
RELATIVE = 1e-4


@dataclass(frozen=True)
class Difference:
    """How far one tensor is from another: counts, and the largest errors."""

    values: int = 0
    mismatches: int = 0
    max_abs_error: float = 0.0
    max_rel_error: float = 0.0
    """Largest |c - ort| / max|ort output|."""
    worst: float = 0.0
    """Largest error as a multiple of what is allowed."""

    @property
    def ok(self) -> bool:
        return self.mismatches == 0


def merge(parts: Sequence[Difference]) -> Difference:
    """The differences of several tensors as one."""
    return Difference(sum(p.values for p in parts), sum(p.mismatches for p in parts),
                      max((p.max_abs_error for p in parts), default=0.0),
                      max((p.max_rel_error for p in parts), default=0.0), max((p.worst for p in parts), default=0.0))


def compare_arrays(ours: Array, reference: Array) -> Difference:
    """Compare one output of one sample; the shapes must have the same number of elements."""
    if ours.size != reference.size:
        return Difference(max(ours.size, reference.size), max(ours.size, reference.size), np.inf, np.inf, np.inf)
    if ours.size == 0:
        return Difference()
    if not np.issubdtype(reference.dtype, np.floating):
        return _compare_exact(ours, reference)
    a = ours.reshape(-1).astype(np.float64)
    b = reference.reshape(-1).astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(a - b))
    error = np.where(np.isnan(error), np.inf, error)
    finite = np.abs(b[np.isfinite(b)])
    peak = float(finite.max()) if finite.size else 0.0
    allowed = ABSOLUTE * peak + RELATIVE * np.where(np.isfinite(b), np.abs(b), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(error == 0, 0.0, error / allowed)
    largest = float(error.max())
    relative = 0.0 if largest == 0 else largest / peak if peak else np.inf
    return Difference(a.size, int(np.count_nonzero(error > allowed)), largest, relative, float(ratio.max()))


def _compare_exact(ours: Array, reference: Array) -> Difference:
    a, b = ours.reshape(-1).astype(object), reference.reshape(-1).astype(object)
    wrong = int(np.count_nonzero(a != b))
    largest = float(max(abs(int(x) - int(y)) for x, y in zip(a, b, strict=True))) if wrong else 0.0
    return Difference(ours.size, wrong, largest, np.inf if wrong else 0.0, np.inf if wrong else 0.0)


def argmax_agreement(ours: Sequence[Sample], reference: Sequence[Sample]) -> float | None:
    """The share of samples whose first output has its largest value at the same place; None without samples."""
    if not ours or not reference[0]:
        return None
    hits = [int(np.argmax(a[0]) == np.argmax(b[0])) for a, b in zip(ours, reference, strict=True)]
    return sum(hits) / len(hits)


def argmax_hits(outputs: Sequence[Sample], labels: Array) -> float:
    """The share of samples whose first output has its largest value at the label."""
    hits = [int(np.argmax(row[0])) == int(label) for row, label in zip(outputs, labels, strict=True)]
    return sum(hits) / len(hits)
