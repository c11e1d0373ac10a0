"""Shifts that the layers of a network share: functions of Cortex-M with DSP have it as a literal, so that each shift is
a function of its own.

    scales of layers     2^-6   2^-8   2^-9.5  2^-12.3        a shift of 12 or 13 serves the first three and 19 to 13
    greatest shift         13     15       16       19        the fourth: 13 all of them

A layer of scale s takes shifts up to 7 - log2(s) with sums that are kept times 2^8, or its multipliers would not fit
into 31 bits; with few bits less nearly as many of its channels are proved. These are intervals, and the fewest numbers
that lie in all of them are found from the one that ends first.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from tinyir.arith import output_multiplier
from tinyir.ir import Array, Block
from tinyir.opdef import Op
from tinyir.ops import QConv2D, QDense, QDepthwiseConv2D
from tinyir.ops.quant import quant_of

__all__ = ["greatest_shift", "shared_shift"]

_GUARD = 8
"""Sums are kept times two to this power where they have room."""
_LESS = 6
"""Bits below the greatest shift with which still nearly as many channels are proved."""
_MOST_SHIFT = 20
_OUTLIERS = 16
"""One channel in so many may have too great a scale for the shift: it gets a product in single precision."""

_greatest: WeakKeyDictionary[Op, int] = WeakKeyDictionary()


def greatest_shift(scale: Array, guard: int) -> int:
    """The greatest shift with which the multipliers of all channels stay below 2^31, at most 20; for f32 scales [O]
    above 0, and sums that are kept times 2^guard. Not above 0 if there is none.
    """
    exponent = int(np.frexp(scale.astype(np.float64))[1].max())
    return min(31 - exponent - 32 + guard, _MOST_SHIFT)


def shared_shift(op: Op, memo: dict[Hashable, Any]) -> int:
    """The shift that `op` is to share with other layers of its function, of which `memo` keeps what was found."""
    most, block = _greatest_of(op), _function_of(op)
    key = "greatest shifts", block
    if key not in memo:
        memo[key] = {_greatest_of(layer) for layer in _layers(block)}
    return max(point for point in _points(memo[key] | {most}) if point <= most)


def _points(greatest: set[int]) -> list[int]:
    """The fewest shifts, one at least in `_LESS` below each of the greatest ones and these."""
    points: list[int] = []
    for most in sorted(greatest):
        if not points or most - _LESS > points[-1]:
            points.append(most)
    return points


def _function_of(op: Op) -> Block | None:
    """The outermost block that `op` is in."""
    block = op.block
    while block is not None and isinstance(block.parent, Op) and block.parent.block is not None:
        block = block.parent.block
    return block


def _layers(block: Block | None) -> list[Op]:
    kinds = QConv2D, QDense, QDepthwiseConv2D
    return [] if block is None else [op for op in block.walk() if isinstance(op, kinds)]


def _greatest_of(op: Op) -> int:
    """The greatest shift for all channels of a layer but outliers."""
    if op not in _greatest:
        x, weight = op.reads[:2]
        scale = np.sort(output_multiplier(quant_of(x), quant_of(weight), quant_of(op.out)).reshape(-1))
        typical = scale[:len(scale) - len(scale) // _OUTLIERS]
        _greatest[op] = greatest_shift(np.maximum(typical, np.float32(2.0**-38)), _GUARD)
    return _greatest[op]
