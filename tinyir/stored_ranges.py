"""Interval analysis of quantised values: which stored integers each channel can take, whatever the input is.

    %c = qnn.conv2d(%x, @w, @b) : tensor<1x8x8x2xi8, q<0.05:-128>>
        ->
    %c: channel 0 in [-128, 97], channel 1 in [-128, -128]          (channel 1 is constant)

    ranges = ctx.analysis(StoredRanges, module)
    low, high = ranges[value].low, ranges[value].high               # [C] each, C the extent of the last axis

Channels are the indices of the last axis. Forward, from the whole range of the type at inputs. Outside of an image a
convolution reads the zero point, so that taps that can lie there add an interval that contains 0. What is stored never
decreases as a sum grows, so the bounds of a sum give those of what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arith import output_multiplier, requantize
from .ir import Array, Module, Value
from .opdef import Op
from .ops import (
    BroadcastTo,
    Concat,
    Gather,
    Lookup,
    MaxPool,
    Pad,
    QAdd,
    QAvgPool,
    QConv2D,
    QDense,
    QDepthwiseConv2D,
    QMatMul,
    QMul,
    QReduceMean,
    QResize,
    Reinterpret,
    Reshape,
    Resize,
    Slice,
    Tile,
    Transpose,
)
from .ops.quant import quant_of
from .pass_manager import Analysis, Context
from .types import I32

__all__ = ["Interval", "StoredRanges", "accumulator_range", "stored_ranges", "tap_visits", "weight_differences"]

_INT32 = (-(2**31), 2**31 - 1)
Layer = QConv2D | QDepthwiseConv2D | QDense


@dataclass(frozen=True, eq=False)
class Interval:
    """Least and greatest integer of each index of the last axis, both included."""

    low: Array                              # [C] int64
    high: Array                             # [C] int64

    @property
    def constant(self) -> Array:
        """Which channels have one value only, [C] bool."""
        return np.asarray(self.low == self.high)

    def hull(self) -> tuple[int, int]:
        """One range for all channels."""
        return int(self.low.min()), int(self.high.max())

    def mapped(self, change: Callable[[Array], Array]) -> Interval:
        """Both bounds with their channels selected or repeated."""
        return Interval(change(self.low), change(self.high))

    def union(self, other: Interval) -> Interval:
        return Interval(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


class StoredRanges(Analysis[Mapping[Value, Interval]]):
    """The interval of every integer value of up to 32 bits; values of other types are absent."""

    @classmethod
    def compute(cls, module: Module, ctx: Context) -> Mapping[Value, Interval]:
        return stored_ranges(module)


def stored_ranges(module: Module) -> dict[Value, Interval]:
    """See `StoredRanges`."""
    found: dict[Value, Interval] = {}
    for func in module.funcs.values():
        for argument in func.args:
            _put(found, argument, None)
        for op in func.ops:
            rule = _RULES.get(type(op))
            for result in op.results:
                _put(found, result, None if rule is None or not _known(op, found) else rule(op, _Operands(found)))
    return found


def _has_interval(value: Value) -> bool:
    """Stored values and accumulators; wider integers are no quantised values, and int64 does not hold all of them."""
    return value.type.dtype.is_integer and value.type.dtype.bits <= 32


def _known(op: Op, found: dict[Value, Interval]) -> bool:
    return all(v in found or _const_range(v) is not None for v in op.reads)


def _put(found: dict[Value, Interval], value: Value, interval: Interval | None) -> None:
    dtype = value.type.dtype
    if not _has_interval(value) or not value.shape:
        return
    low, high = dtype.range
    whole = _uniform(low, high, value.shape[-1])
    if interval is not None:
        interval = Interval(np.maximum(interval.low, low), np.minimum(interval.high, high))
    found[value] = whole if interval is None else interval


def _uniform(low: int, high: int, channels: int) -> Interval:
    return Interval(np.full(channels, low, np.int64), np.full(channels, high, np.int64))


def _const_range(value: Value) -> Interval | None:
    data = value.data
    if data is None or not _has_interval(value):
        return None
    rows = data.reshape(-1, data.shape[-1] if data.ndim else 1).astype(np.int64)
    return Interval(rows.min(axis=0), rows.max(axis=0))


class _Operands:
    """What a rule asks for the intervals of the op's operands."""

    def __init__(self, found: Mapping[Value, Interval]) -> None:
        self._found = found

    def __call__(self, value: Value) -> Interval:
        known = self._found.get(value) or _const_range(value)
        assert known is not None  # `_known` has looked
        return known


# -- layers ----------------------------------------------------------------------------------------------------------


def tap_visits(op: QConv2D | QDepthwiseConv2D) -> tuple[Array, Array]:
    """For each tap of the window, [KH, KW]: whether some output reads it inside of the image, and outside."""
    inside: list[Array] = []
    outside: list[Array] = []
    for axis in (0, 1):
        extent, kernel = op.x.shape[axis + 1], op.kernel[axis]
        rows = np.arange(op.out.shape[axis + 1])[:, None] * op.stride[axis] - op.pad[axis]
        taps = rows + np.arange(kernel) * op.dilation[axis]
        within = (taps >= 0) & (taps < extent)
        inside.append(np.asarray(within.any(axis=0)))
        outside.append(np.asarray((~within).any(axis=0)))
    return inside[0][:, None] & inside[1], outside[0][:, None] | outside[1]


def weight_differences(op: Layer) -> Array:
    """Stored weight - zero point as [O, taps, inputs of one group], int64. Raises ValueError if it is not constant."""
    data = op.weight.data
    if data is None:
        raise ValueError("the weight is not constant")
    zeros = np.asarray(quant_of(op.weight).zero_points, np.int64)
    if isinstance(op, QDepthwiseConv2D):
        return (data.astype(np.int64) - zeros).reshape(-1, data.shape[2]).T[:, :, None]
    wide = data.astype(np.int64).reshape(data.shape[0], -1, data.shape[-1])
    return np.asarray(wide - zeros.reshape(-1, 1, 1))


def accumulator_range(op: Layer, x: Interval) -> Interval:
    """The range of the int32 sums of each output channel, the bias included. Not wrapped: it may exceed 32 bits."""
    weights = weight_differences(op)  # [O, T, I]
    zero = quant_of(op.x).zero_point
    low, high = (_inputs_of(op, bound - zero) for bound in (x.low, x.high))  # [O or 1, 1, I]
    ends = weights * low, weights * high
    least, most = np.minimum(*ends).sum(axis=2), np.maximum(*ends).sum(axis=2)
    if not isinstance(op, QDense):
        inside, outside = (visits.reshape(-1) for visits in tap_visits(op))
        least, most = np.where(inside, least, 0), np.where(inside, most, 0)
        least = np.where(outside, np.minimum(least, 0), least)
        most = np.where(outside, np.maximum(most, 0), most)
    bias = 0 if op.bias is None else _bias(op.bias)
    return Interval(least.sum(axis=1) + bias, most.sum(axis=1) + bias)


def _inputs_of(op: Layer, channels: Array) -> Array:
    """A bound of each input channel [C], as the output channels read them: [O or 1, 1, inputs of one group]."""
    outputs = op.out.shape[-1]
    groups = op.groups if isinstance(op, QConv2D) else len(channels) if isinstance(op, QDepthwiseConv2D) else 1
    grouped = channels.reshape(groups, 1, -1)
    return grouped if groups == 1 else np.repeat(grouped, outputs // groups, axis=0)


def _bias(bias: Value) -> Array:
    if bias.data is None:
        raise ValueError("the bias is not constant")
    return bias.data.astype(np.int64)


def _layer(op: Any, of: _Operands) -> Interval | None:
    if op.weight.data is None or (op.bias is not None and op.bias.data is None):
        return None
    return _stored(op, accumulator_range(op, of(op.x)), (op.x, op.weight), op.clamp)


def _stored(op: Op, sums: Interval, operands: tuple[Value, Value], clamp: tuple[int, int] | None) -> Interval | None:
    """Stored results for the range of the sums; everything where they may wrap."""
    if sums.low.min() < _INT32[0] or sums.high.max() > _INT32[1]:
        return None
    type_ = op.out.type
    if type_.dtype == I32:
        return sums
    quant = quant_of(op.out)
    multiplier = output_multiplier(quant_of(operands[0]), quant_of(operands[1]), quant)
    ends = [requantize(bound, multiplier, quant.zero_point, type_.dtype).astype(np.int64)
            for bound in (sums.low, sums.high)]
    if clamp is not None:
        ends = [np.clip(end, *clamp) for end in ends]
    return Interval(ends[0], ends[1])


def _matmul(op: Any, of: _Operands) -> Interval | None:
    a, b = of(op.a), of(op.b)
    za, zb = quant_of(op.a).zero_point, quant_of(op.b).zero_point
    products = [np.multiply.outer(x - za, y - zb) for x in (a.low, a.high) for y in (b.low, b.high)]
    least, most = np.min(products, axis=0).sum(axis=0), np.max(products, axis=0).sum(axis=0)
    return _stored(op, Interval(least, most), (op.a, op.b), None)


# -- functions that never decrease, and others ------------------------------------------------------------------------


def _ends(op: Op, *corners: tuple[Array, ...]) -> Interval:
    """The range of what the op's reference makes of `corners`, tuples of bounds of the operands [C]."""
    found = [np.asarray(op.reference(*corner)).astype(np.int64) for corner in corners]
    return Interval(np.min(found, axis=0), np.max(found, axis=0))


def _typed(value: Value, bound: Array) -> Array:
    return bound.astype(value.type.dtype.numpy)


def _add(op: Any, of: _Operands) -> Interval:
    a, b = of(op.a), of(op.b)
    return _ends(op, *((_typed(op.a, x), _typed(op.b, y)) for x, y in ((a.low, b.low), (a.high, b.high))))


def _mul(op: Any, of: _Operands) -> Interval:
    a, b = of(op.a), of(op.b)
    return _ends(op, *((_typed(op.a, x), _typed(op.b, y)) for x in (a.low, a.high) for y in (b.low, b.high)))


def _lookup(op: Any, of: _Operands) -> Interval | None:
    table = op.table.data
    if table is None:
        return None
    x, first = of(op.x), op.x.type.dtype.range[0]
    parts = [table[low - first:high - first + 1] for low, high in zip(x.low, x.high, strict=True)]
    return Interval(np.array([int(p.min()) for p in parts]), np.array([int(p.max()) for p in parts]))


def _mean(op: Any, of: _Operands) -> Interval:
    """A mean of equal values bounds all means: images of the least and of the greatest value of each channel."""
    x = of(op.x)
    images = [np.broadcast_to(_typed(op.x, bound), op.x.shape) for bound in (x.low, x.high)]
    ends = [_channels(np.asarray(op.reference(image)).astype(np.int64)) for image in images]
    return Interval(ends[0].min(axis=0), ends[1].max(axis=0))


def _channels(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1] if array.ndim else 1)


# -- moves -----------------------------------------------------------------------------------------------------------


def _same(op: Any, of: _Operands) -> Interval:
    return of(op.x)


def _everywhere(op: Any, of: _Operands) -> Interval:
    """The hull of all channels, for each channel of the result."""
    low, high = of(op.operands[0]).hull()
    return _uniform(low, high, op.out.shape[-1] if op.out.shape else 1)


def _reshape(op: Any, of: _Operands) -> Interval:
    x, channels = of(op.x), op.out.shape[-1] if op.out.shape else 1
    before = len(x.low)
    if channels % before == 0:
        return x.mapped(lambda bound: np.tile(bound, channels // before))
    if before % channels == 0:
        return Interval(x.low.reshape(-1, channels).min(axis=0), x.high.reshape(-1, channels).max(axis=0))
    return _everywhere(op, of)


def _transpose(op: Any, of: _Operands) -> Interval:
    return of(op.x) if op.perm[-1] == len(op.perm) - 1 else _everywhere(op, of)


def _concat(op: Any, of: _Operands) -> Interval:
    parts = [of(value) for value in op.inputs]
    if op.axis % op.out.type.rank == op.out.type.rank - 1:
        return Interval(np.concatenate([p.low for p in parts]), np.concatenate([p.high for p in parts]))
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.union(part)
    return whole


def _slice(op: Any, of: _Operands) -> Interval:
    places = op.begin[-1] + np.arange(op.out.shape[-1]) * op.step[-1]
    return of(op.x).mapped(lambda bound: bound[places])


def _pad(op: Any, of: _Operands) -> Interval:
    x, before, after = of(op.x), op.before[-1], op.after[-1]
    if op.mode != "constant":
        return x if before == after == 0 else _everywhere(op, of)
    fill = int(op.value)
    if any(n > 0 for n in (*op.before[:-1], *op.after[:-1])):
        x = x.union(_uniform(fill, fill, len(x.low)))
    x = x.mapped(lambda bound: bound[max(-before, 0):len(bound) - max(-after, 0)])
    return x.mapped(lambda bound: np.pad(bound, (max(before, 0), max(after, 0)), constant_values=fill))


def _broadcast(op: Any, of: _Operands) -> Interval:
    return of(op.x).mapped(lambda bound: np.broadcast_to(bound, (op.out.shape[-1],)))


def _tile(op: Any, of: _Operands) -> Interval:
    return of(op.x).mapped(lambda bound: np.tile(bound, op.repeats[-1]))


def _gather(op: Any, of: _Operands) -> Interval:
    if op.axis % op.x.type.rank != op.x.type.rank - 1:
        return of(op.x)
    return _everywhere(op, of)


def _resize(op: Any, of: _Operands) -> Interval | None:
    return of(op.x) if op.mode == "nearest" else None


_RULES: dict[type[Op], Callable[[Any, _Operands], Interval | None]] = {
    QConv2D: _layer, QDepthwiseConv2D: _layer, QDense: _layer, QMatMul: _matmul, QAdd: _add, QMul: _mul,
    Lookup: _lookup, QReduceMean: _mean, QAvgPool: _mean, QResize: _mean, MaxPool: _same, Reinterpret: _same,
    Reshape: _reshape, Transpose: _transpose, Concat: _concat, Slice: _slice, Pad: _pad, BroadcastTo: _broadcast,
    Tile: _tile, Gather: _gather, Resize: _resize,
}
