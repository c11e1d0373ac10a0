"""Which ops can run row by row: by what they compute, and because their kernels know how."""

from __future__ import annotations

from tinyir.opdef import Op
from tinyir.registry import STREAMS
from tinyir.row_schedule import folds_rows, in_rows

__all__ = ["can_stream"]


def can_stream(op: Op) -> bool:
    """Whether the op can run row by row: by what it computes, and because its kernels know how."""
    where = STREAMS.find(op.opname)
    return where is not None and where(op) and (folds_rows(op) or in_rows(op))
