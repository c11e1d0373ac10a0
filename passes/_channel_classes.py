"""Which channels have to stay or go together, and which of them anybody needs: the analysis behind dead-channels.

A channel is an index of the last axis of a value. Ops that work on each channel by itself (sums, tables, pools,
depthwise convolutions, ...) and ops that only move whole channels (concats, flattens) tie channels of operands and
results into classes: all of a class go, or none. A class is live if

- an op that is not known here reads one of its channels (the function's return among them), or
- a convolution or dense layer has a weight other than zero between one of its channels and a live output channel,
  and cannot fold the channel into its bias: it is not constant, or it is not the zero point and a window that reaches
  into the padding, where the zero point is read, would tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from tinyir.ir import Array, Const, Func, Value
from tinyir.opdef import Op
from tinyir.ops import (
    Concat,
    Lookup,
    MaxPool,
    Pad,
    QAdd,
    QAvgPool,
    QConv2D,
    QDense,
    QDepthwiseConv2D,
    QMul,
    QReduceMean,
    QResize,
    QSoftmax,
    Reinterpret,
    Reshape,
    Resize,
    Slice,
    Transpose,
)
from tinyir.stored_ranges import Interval, tap_visits, weight_differences

ReadingLayer = QConv2D | QDense


def channels_of(value: Value) -> int:
    """The extent of the last axis; 0 for a scalar."""
    return value.shape[-1] if value.shape else 0


@dataclass(frozen=True, eq=False)
class Tie:
    """Channels `places` of the operand `value` are what channels `channels` of the op's result are made of."""

    value: Value
    places: Array
    channels: Array


@dataclass
class Classes:
    """Union-find over the channels of all values of a function."""

    parent: list[int] = field(default_factory=list)
    first: dict[Value, int] = field(default_factory=dict)

    def add(self, value: Value) -> None:
        self.first[value] = len(self.parent)
        self.parent.extend(range(len(self.parent), len(self.parent) + channels_of(value)))

    def find(self, node: int) -> int:
        root = node
        while self.parent[root] != root:
            root = self.parent[root]
        while self.parent[node] != root:
            self.parent[node], node = root, self.parent[node]
        return root

    def tie(self, tie: Tie, result: Value) -> None:
        """Let channels of an operand and of the result go together."""
        for place, channel in zip(tie.places, tie.channels, strict=True):
            self.parent[self.find(self.first[result] + int(channel))] = self.find(self.first[tie.value] + int(place))

    def classes(self, value: Value) -> list[int]:
        """The class of each channel."""
        return [self.find(self.first[value] + channel) for channel in range(channels_of(value))]


@dataclass(frozen=True)
class Liveness:
    """The answer: for every value of the function which channels have to stay; and the layers that read channels."""

    kept: Mapping[Value, Array]             # [C] bool each
    readers: Mapping[Op, Reader]

    def of(self, value: Value) -> Array:
        """The channels of `value` to keep; all of them for constants."""
        return self.kept.get(value, np.ones(channels_of(value), bool))


def live_channels(func: Func, ranges: Mapping[Value, Interval]) -> Liveness:
    """Which channels of the values of `func` anybody needs, given the values that they can take."""
    return _Analysis(func, ranges).run()


class _Analysis:
    def __init__(self, func: Func, ranges: Mapping[Value, Interval]) -> None:
        self.func = func
        self.ranges = ranges
        self.classes = Classes()
        self.live: set[int] = set()
        self.readers = [Reader(op, ranges[op.x]) for op in func.ops
                        if isinstance(op, (QConv2D, QDense)) and reads_channels(op)]

    def run(self) -> Liveness:
        for value in self._values():
            self.classes.add(value)
        for op in self.func.ops:
            self._tie(op)
        for op in self.func.ops:
            for value in _read_whole(op):
                self._need(value, np.ones(channels_of(value), bool))
        for argument in self.func.args:
            self._need(argument, np.ones(channels_of(argument), bool))
        self._spread()
        while self._keep_one_of_each():
            self._spread()
        kept = {value: self._alive(value) for value in self._values()}
        return Liveness(kept, {reader.op: reader for reader in self.readers})

    def _values(self) -> Iterator[Value]:
        yield from self.func.args
        for op in self.func.ops:
            yield from op.results

    def _tie(self, op: Op) -> None:
        for tie in ties(op):
            self.classes.tie(tie, op.out)

    def _need(self, value: Value, channels: Array) -> None:
        if value in self.classes.first:
            classes = self.classes.classes(value)
            self.live.update(c for c, needed in zip(classes, channels, strict=True) if needed)

    def _alive(self, value: Value) -> Array:
        return np.array([c in self.live for c in self.classes.classes(value)], bool)

    def _spread(self) -> None:
        """From live outputs of layers to the inputs that they read, until nothing changes."""
        found = -1
        while found != len(self.live):
            found = len(self.live)
            for reader in reversed(self.readers):
                self._need(reader.op.x, reader.needs(self._alive(reader.op.out)))

    def _keep_one_of_each(self) -> bool:
        """A value needs one channel at least; says whether one was added."""
        for value in self._values():
            if channels_of(value) and not self._alive(value).any():
                self._need(value, np.arange(channels_of(value)) == 0)
                return True
        return False


# -- what ops do with channels ---------------------------------------------------------------------------------------

_SAME = (Lookup, MaxPool, QAvgPool, QResize, Reinterpret)
"""Ops that work on each channel of their first operand by itself."""


def ties(op: Op) -> list[Tie]:
    """What goes together at an op; empty where the op is not known to work on each channel by itself."""
    if isinstance(op, QDepthwiseConv2D):
        alone = is_known(op) and channels_of(op.x) == channels_of(op.out)
        return [_tie(op.x, op.out)] if alone else []
    if isinstance(op, _SAME) or _leaves_channels(op):
        value = op.operands[0]
        return [] if value is None or isinstance(value, Const) else [_tie(value, op.out)]
    if isinstance(op, (QAdd, QMul)):
        return [_tie(v, op.out) for v in (op.a, op.b) if not isinstance(v, Const) and _has_channels(v, op.out)]
    if isinstance(op, Concat):
        return _concat_ties(op)
    if isinstance(op, Reshape) and flattens(op):
        every = np.arange(channels_of(op.out))
        return [Tie(op.x, every % channels_of(op.x), every)]
    return []


def _tie(value: Value, result: Value) -> Tie:
    every = np.arange(channels_of(result))
    return Tie(value, every, every)


def _concat_ties(op: Concat) -> list[Tie]:
    if op.axis % op.out.type.rank != op.out.type.rank - 1:
        return [_tie(value, op.out) for value in op.inputs if not isinstance(value, Const)]
    found, start = [], 0
    for value in op.inputs:
        places = np.arange(channels_of(value))
        if not isinstance(value, Const):
            found.append(Tie(value, places, places + start))
        start += channels_of(value)
    return found


def _has_channels(value: Value, like: Value) -> bool:
    """Whether an operand has the channels of the result, and not one for all of them."""
    return channels_of(value) == channels_of(like)


def _leaves_channels(op: Op) -> bool:
    """Whether the op moves or folds along other axes than the last one only."""
    last = op.operands[0].type.rank - 1 if op.operands and op.operands[0] is not None else 0
    if isinstance(op, Transpose):
        return op.perm[last] == last
    if isinstance(op, Slice):
        return op.begin[last] == 0 and op.step[last] == 1 and channels_of(op.out) == channels_of(op.x)
    if isinstance(op, Pad):
        return op.mode == "constant" and op.before[last] == op.after[last] == 0
    if isinstance(op, QReduceMean):
        return all(a % (last + 1) != last for a in op.axes)
    if isinstance(op, QSoftmax):
        return op.axis % (last + 1) != last
    return isinstance(op, Resize) and op.mode == "nearest"


def flattens(op: Reshape) -> bool:
    """Whether whole channels stay side by side: the last axis of x is the last one, or the fastest part of it."""
    return bool(op.out.shape) and bool(op.x.shape) and not isinstance(op.x, Const) \
        and channels_of(op.out) % channels_of(op.x) == 0


def reads_channels(op: Op) -> bool:
    """Whether the op is a layer that can do without some of its input channels."""
    if isinstance(op, QDense):
        return is_known(op)
    return isinstance(op, QConv2D) and op.groups == 1 and is_known(op)


def is_known(op: QConv2D | QDense | QDepthwiseConv2D) -> bool:
    """Whether weights and bias are constants."""
    return op.weight.data is not None and (op.bias is None or op.bias.data is not None)


def _read_whole(op: Op) -> list[Value]:
    """The values that have to keep all their channels because `op` reads or makes them."""
    if reads_channels(op):
        return []
    tied = ties(op)
    values = [tie.value for tie in tied]
    return [v for v in op.reads if v not in values] + ([] if tied else list(op.results))


# -- layers ----------------------------------------------------------------------------------------------------------


class Reader:
    """A layer that reads channels: on which of them each output depends."""

    def __init__(self, op: ReadingLayer, x: Interval) -> None:
        quant = op.x.type.quant
        assert quant is not None  # the verifier has looked
        self.op = op
        self.x = x
        self.zero = quant.zero_point
        self.weights = weight_differences(op)  # [O, T, C]
        inside, outside = (np.ones(1, bool), np.zeros(1, bool)) if isinstance(op, QDense) else \
            (visits.reshape(-1) for visits in tap_visits(op))
        self.taps = self.weights[:, inside].sum(axis=1)  # [O, C]: what a constant channel counts for inside
        self.used = (self.weights != 0).any(axis=1)
        self.at_border = (self.weights[:, outside] != 0).any(axis=1)

    def needs(self, outputs: Array) -> Array:
        """The input channels [C] that the `outputs` [O] depend on and that their biases cannot take on."""
        border = self.at_border[outputs].any(axis=0)
        foldable = self.x.constant & ((self.x.low == self.zero) | ~border)
        return np.asarray(self.used[outputs].any(axis=0) & ~foldable)

    def folded(self, gone: Array) -> Array:
        """What the constant channels `gone` [C] add to each sum, [O]."""
        constant = gone & self.x.constant
        return np.asarray((self.taps[:, constant] * (self.x.low[constant] - self.zero)).sum(axis=1))
