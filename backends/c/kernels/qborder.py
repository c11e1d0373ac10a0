"""What the zero point of x adds to the sums of a convolution, and how that is folded into the bias.

A sum over (x - zero) * w is the sum over x * w, and a constant: -zero times the weights of the taps that lie inside the
image. So with a bias that has that constant in it the kernel multiplies stored values, and skips the taps outside; but
a pixel at the border needs another constant than one inside. `border_bias` has one row of biases for each case:

    a 3x3 window, one row and column of padding:  3 cases of rows x 3 cases of columns

    case of a row = taps missing above + taps missing below * (most that are missing above + 1)

Where the rows of biases would take too much memory the kernel subtracts the zero point instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyir.ir import Array

from .blocking import Columns
from .taps import RowTaps

__all__ = ["Cases", "border_bias", "cases_of", "worth_folding"]

Reach = tuple[int, int]
_WORTH = 8  # rows of biases may take up to 1/8 of what the weights take


@dataclass(frozen=True)
class Cases:
    """Which taps [begin, end) lie inside, for each case of a row and for each case of a column.

    `rows` is indexed as the C does it, with None where no row of the image has that case; `most_above` is the greatest
    number of taps missing above.
    """

    rows: tuple[Reach | None, ...]
    columns: tuple[Reach, ...]
    most_above: int

    @property
    def count(self) -> int:
        """Rows of biases."""
        return len(self.rows) * len(self.columns)

    def row_index(self, taps: RowTaps) -> str:
        """C expression for the case of the row that `taps.declare()` is about."""
        terms = [taps.begin] if taps.clipped_above else []
        if taps.clipped_below:
            factor = self.most_above + 1
            missing = f"({taps.kernel} - {taps.end})"
            terms.append(f"{missing} * {factor}" if factor > 1 else missing)
        return " + ".join(terms) or "0"

    def column(self, columns: Columns, column: int) -> int:
        """The case of an output column."""
        return self.columns.index(_column_reach(columns, column))


def cases_of(taps: RowTaps, columns: Columns) -> Cases:
    """All cases of a window."""
    reaches = [row_reach(taps, row) for row in range(taps.outputs)]
    most_above = max(begin for begin, _ in reaches)
    rows: dict[int, Reach] = {}
    for begin, end in reaches:
        rows[begin + (taps.kernel - end) * (most_above + 1)] = (begin, end)
    found = dict.fromkeys(_column_reach(columns, column) for column in range(columns.outputs))
    return Cases(tuple(rows.get(i) for i in range(max(rows) + 1)), tuple(found), most_above)


def row_reach(taps: RowTaps, row: int) -> Reach:
    """The taps [begin, end) of output row `row` that lie inside the image."""
    top = row * taps.stride - taps.pad
    begin = max(0, -(top // taps.dilation))
    end = min(taps.kernel, max(0, -((top - taps.extent) // taps.dilation)))
    return begin, end


def _column_reach(columns: Columns, column: int) -> Reach:
    inside = [t for t in range(columns.kernel) if 0 <= columns.source(t, column) < columns.extent]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def worth_folding(cases: Cases, zero: int, weight: Array) -> bool:
    """Whether the zero point belongs into the bias: there is one case, or the rows of biases are small beside the
    weights ([O, KH, KW, C]).
    """
    if zero == 0 or cases.count == 1:
        return True
    valid = all(reach is None or reach[0] <= reach[1] for reach in cases.rows)
    return valid and (cases.count - 1) * 4 * _WORTH <= weight[0].size * weight.itemsize


def border_bias(weight: Array, bias: Array | None, zero: int, cases: Cases) -> Array:
    """Biases with the zero point in them, [cases of rows * cases of columns, O] i64, from `weight` [O, KH, KW, C]."""
    taps = weight.astype(np.int64).sum(axis=3)  # [O, KH, KW]
    start = np.zeros(len(weight), np.int64) if bias is None else bias.astype(np.int64)
    rows = [_folded(taps, start, zero, row, column) for row in cases.rows for column in cases.columns]
    return np.stack(rows)


def _folded(taps: Array, start: Array, zero: int, row: Reach | None, column: Sequence[int]) -> Array:
    if row is None:
        return np.zeros_like(start)
    inside = taps[:, row[0]:row[1], column[0]:column[1]]
    return np.asarray(start - zero * inside.sum(axis=(1, 2)))
