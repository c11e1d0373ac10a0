"""The two ends of a quantised stretch: what a dequantize gives to moving ops, and what stands before a quantize.

    %d = qnn.dequantize(%x)            %t = nn.transpose(%x)
    %t = nn.transpose(%d)        ->    %d = qnn.dequantize(%t)

    %y = nn.conv2d(..)                 a Chain: base nn.conv2d, clamped by the relu, moved by the transpose
    %r = nn.relu(%y)             ->
    %t = nn.transpose(%r)
    %q = qnn.quantize(%t)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from tinyir.arith import dequantize, quantize
from tinyir.ir import Value
from tinyir.opdef import Op
from tinyir.ops import (
    BroadcastTo,
    Clip,
    Dequantize,
    Gather,
    MaxPool,
    Pad,
    Relu,
    Reshape,
    Resize,
    Slice,
    Tile,
    Transpose,
    Unary,
)
from tinyir.types import Quant, TensorType

MOVERS = (Reshape, Transpose, Slice, BroadcastTo, Tile, Pad, Resize, MaxPool, Gather)
"""Ops whose result consists of elements of their first operand (or of one fill value)."""


@dataclass(frozen=True)
class Chain:
    """What stands before a quantize, from its operand upwards.

    `movers` in the order in which they are applied; `unaries` too: functions of one value, which commute with them.
    `fills` is what a pad among the movers writes, after the unaries behind it.
    """

    base: Value
    movers: tuple[Op, ...]
    unaries: tuple[Op, ...]
    fills: dict[Op, float] = field(default_factory=dict)

    def bounds(self) -> tuple[float, float] | None:
        """The interval that relus and clips leave, or None if another function is among the unaries."""
        low, high = -math.inf, math.inf
        for op in self.unaries:
            if isinstance(op, Relu):
                low, high = max(low, 0.0), max(high, 0.0)
            elif isinstance(op, Clip):
                low, high = (min(max(bound, op.low), op.high) for bound in (low, high))
            else:
                return None
        return low, high


def chain_before(value: Value) -> Chain:
    """Walk up from `value` as long as each op is used once and moves or maps single elements."""
    movers: list[Op] = []
    unaries: list[Op] = []
    fills: dict[Op, float] = {}
    while (op := value.op) is not None and len(value.uses) == 1:
        operand = op.operands[0] if op.operands else None
        if operand is None or not (isinstance(op, Unary) or _moves(op)):
            break
        if isinstance(op, Pad):
            fills[op] = _after(op.value, unaries)
        (unaries if isinstance(op, Unary) else movers).append(op)
        value = operand
    return Chain(value, tuple(reversed(movers)), tuple(reversed(unaries)), fills)


def _after(fill: float, unaries: list[Op]) -> float:
    """`fill` after functions of one value, given from the last to the first."""
    real = np.asarray([fill], np.float32)
    for op in reversed(unaries):
        real = np.asarray(op.reference(real))
    return float(real[0])


def _moves(op: Op) -> bool:
    """Whether `op` only moves elements."""
    return isinstance(op, MOVERS) and not (isinstance(op, Resize) and op.mode == "linear")


def moved(op: Op, x: Value, fill: float | None = None) -> Op | None:
    """The moving op `op` on the stored integers `x` instead of their real values, or None where that is not exact.

    What a pad writes has to be the real value of a stored integer; `fill`, if it is given, is rounded to one.
    """
    quant = x.type.quant
    if isinstance(op, Resize) and op.mode == "linear":
        return None
    attrs: dict[str, Any] = dict(op.attrs)
    if isinstance(op, Pad) and op.mode == "constant":
        stored = _stored_exactly(op.value, x) if fill is None else _rounded(fill, x)
        if stored is None:
            return None
        attrs["value"] = float(stored)
    if quant is not None and quant.axis is not None and not isinstance(op, Transpose):
        return None
    if op.schema.result_field is not None:
        attrs[op.schema.result_field] = TensorType(op.results[0].shape, x.type.dtype, quant)
    made: Op = cast(Any, type(op))(x, *op.operands[1:], **attrs)
    return made


def _stored_exactly(value: float, x: Value) -> int | None:
    """The stored integer whose real value is `value`, if there is one."""
    quant, dtype = x.type.quant, x.type.dtype
    if quant is None or quant.axis is not None:
        return None
    stored = quantize(np.asarray([value], np.float32), quant, dtype)
    return int(stored[0]) if float(dequantize(stored, quant)[0]) == value else None


def _rounded(value: float, x: Value) -> int:
    """The stored integer that a quantize to the type of `x` makes of `value`."""
    return int(quantize(np.asarray([value], np.float32), cast(Quant, x.type.quant), x.type.dtype)[0])


def stored_bounds(bounds: tuple[float, float], type_: TensorType) -> tuple[int, int] | None:
    """The clamp that real `bounds` are in stored integers of `type_`, or None if the type's own range implies it."""
    quant = cast(Quant, type_.quant)
    low, high = type_.dtype.range
    ends = [int(np.clip(np.rint(np.float32(b) / np.float32(quant.scale)) + quant.zero_point, low, high))
            if math.isfinite(b) else (low if b < 0 else high) for b in bounds]
    return None if (ends[0], ends[1]) == (low, high) else (ends[0], ends[1])


def stored_source(value: Value | None) -> Value | None:
    """The stored integers that `value` is the dequantization of, or None."""
    op = None if value is None else value.defining(Dequantize)
    return None if op is None else op.x
