"""The scale and zero point of each value with a range, with what neighbours want of each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np

from tinyir.arith import dequantize
from tinyir.ir import Array, Value
from tinyir.opdef import Op
from tinyir.ops import Concat, Range, Resize
from tinyir.requant_mean import is_steady
from tinyir.types import I8, Quant

from ._points import moves
from ._quant_chains import chain_before
from ._quantised_values import activation_quant

_TRIES = 64
_NUDGE = 2.0**-14
_TABLE_MARGIN = 5e-4
"""How far from a tie a table's function stays, in steps."""

_Steady = Callable[[Quant], bool]
"""Whether nothing that is rounded to a quantisation comes close to a tie."""


def scales_of(ranges: list[Range]) -> dict[Range, Quant]:
    """The quantisation of each value with a range; what only a concat reads takes on that of the concat."""
    leader = {op: op for op in ranges}
    for joined in reversed(ranges):
        concat = joined.x.defining(Concat)
        for part in () if concat is None else concat.inputs:
            source = _range_of(part)
            if source in leader and source.x.op is not None:
                leader[source] = leader[joined]
    quants: dict[Range, Quant] = {}
    for op in ranges:
        if op not in quants:
            first = leader[op]
            group = [member for member in ranges if leader[member] is first]
            quant = _steady(activation_quant(first.low, first.high, first.x.op), group, quants)
            quants.update(dict.fromkeys(group, quant))
    return quants


def _range_of(value: Value) -> Range | None:
    """The range that `value` comes from by moves that nobody else reads."""
    while len(value.uses) == 1 and value.op is not None:
        if isinstance(value.op, Range):
            return value.op
        if not moves(value.op):
            return None
        value = cast(Value, value.op.operands[0])
    return None


def _steady(quant: Quant, group: list[Range], quants: dict[Range, Quant]) -> Quant:
    """`quant`, its scale moved a little until nothing that is rounded to one of `group` comes close to a tie.

    So a table does not depend on the last bit of anyone's exponential function, nor a mean on the order of its sum.
    """
    critical = [found for op in group if (found := _table_before(op, quants) or _mix_before(op, quants)) is not None]
    if quant.scale == 1 / 256:
        return quant
    for number in range(_TRIES):
        moved = Quant((float(np.float32(quant.scale * (1 + number * _NUDGE))),), quant.zero_points)
        if all(steady(moved) for steady in critical):
            return moved
    return quant


def _table_before(op: Range, quants: dict[Range, Quant]) -> _Steady | None:
    """The 256 real values that functions of one stored value make of it, where such a table makes op.x."""
    chain = chain_before(op.x)
    source = chain.base.op
    if not chain.unaries or not isinstance(source, Range) or source not in quants:
        return None
    values = dequantize(np.arange(I8.range[0], I8.range[1] + 1), quants[source])
    for unary in chain.unaries:
        values = np.asarray(unary.reference(values))
    return lambda quant: _distance_to_tie(values, quant.scale) > _TABLE_MARGIN


def _mix_before(op: Range, quants: dict[Range, Quant]) -> _Steady | None:
    """Whether the sums of a bilinear resize keep their distance, where that makes op.x with weights of few parts."""
    resize = op.x.defining(Resize)
    source = None if resize is None or resize.mode != "linear" else _origin(resize.x)
    if resize is None or not isinstance(source, Range) or source not in quants:
        return None
    down, across = (resize.linear_sources(axis)[2] for axis in ("rows", "columns"))
    before = quants[source]
    return lambda quant: is_steady(down, across, (before, quant), (I8, I8)) is not False


def _origin(value: Value) -> Op | None:
    """What makes `value`, moves aside."""
    while value.op is not None and moves(value.op):
        value = cast(Value, value.op.operands[0])
    return value.op


def _distance_to_tie(values: Array, scale: float) -> float:
    """How close the values come to the middle between two steps."""
    steps = np.abs(values.astype(np.float64) / scale)
    steps = steps[steps < 256]
    return float(np.abs(steps - np.floor(steps) - 0.5).min(initial=0.5))
