"""Prices of the C kernels: modelled instructions and code bytes on a target.

    instructions = sum of coefficient * quantity        k.conv2d_dsp: 40 calls + 19 blocks + 2.1 words ...

The quantities of a kernel (`Work`) are what its loops run over; the coefficients of each kernel on each target are
fitted to instructions counted on emulated cores (tests/bench/costs.py) and written down in `cost_table`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyir.costs import Cost, costs
from tinyir.opdef import Op
from tinyir.pace import Pace
from tinyir.registry import OPS
from tinyir.target import Target

from . import kernels as _kernels  # noqa: F401  (registers kernels)
from .cost_table import CODE, COEFFICIENTS
from .kernels.base import Kernel, RowKernel

__all__ = ["QUANTITIES", "Work", "coefficients_of", "work_of"]

QUANTITIES = ("calls", "rows", "pixels", "reads", "writes", "macs")


@dataclass(frozen=True)
class Work:
    """What the loops of a kernel run over in one inference."""

    calls: int
    rows: int
    """Rows that are computed (or folded), one call's beginning and end being in `calls`."""
    pixels: int
    """Of these rows; with kernels that compute several pixels at a time, what they compute."""
    reads: int
    """Elements that are gathered from the operand."""
    writes: int
    """Elements of the result, in whole blocks."""
    macs: int
    """Multiply-accumulates, in whole blocks."""

    @property
    def quantities(self) -> tuple[int, ...]:
        """In the order of `QUANTITIES`."""
        return self.calls, self.rows, self.pixels, self.reads, self.writes, self.macs


def work_of(kernel: Kernel) -> Work:
    """The work of a kernel op; with a pace, that of all its steps."""
    y = kernel.writes[0].type
    if not isinstance(kernel, RowKernel):
        x = kernel.reads[0].type if kernel.reads else y
        return Work(kernel.batch(), 1, 1, x.elements, y.elements, kernel.macs())
    batch, height = kernel.batch(), kernel.rows[1] - kernel.rows[0]
    calls, width = _calls(kernel), y.shape[2] if y.rank == 4 else 1
    a_row = int(np.prod(y.shape[2:])) if y.rank == 4 else y.elements
    x = kernel.reads[0].type
    x_row = int(np.prod(x.shape[2:])) if x.rank == 4 else x.elements
    return Work(batch * calls, batch * height, batch * height * width, batch * height * x_row, batch * height * a_row,
                kernel.macs())


def _calls(kernel: RowKernel) -> int:
    """In how many steps rows are due."""
    if kernel.pace is None:
        return 1
    pace, rows = Pace(*kernel.pace), kernel.rows[1] - kernel.rows[0]
    return -(-rows * pace.steps // pace.rows) if pace.rows >= pace.steps else rows


def coefficients_of(kernel: Op, target: Target) -> tuple[float, ...]:
    """Instructions for one of each of `QUANTITIES`."""
    known: dict[str, Any] = COEFFICIENTS.get(target.core, COEFFICIENTS["cortex-m4"])
    found: tuple[float, ...] = known.get(kernel.opname, known["other"])
    return found


def _price(kernel: Kernel, target: Target) -> Cost:
    pairs = zip(coefficients_of(kernel, target), work_of(kernel).quantities, strict=True)
    return Cost(round(sum(c * q for c, q in pairs)), round(CODE[0]))


costs(*(kind for _, kind in sorted(OPS.items()) if issubclass(kind, Kernel)))(_price)
