"""The best ways through the whole order of execution: a Pareto front by dynamic programming over cuts.

    ops          conv  dw  pw | dw  pw | mean  dense
    front[j]     for the first j ops: peak bytes, multiply-accumulates computed again, instructions, bytes of code;
                 from front[i] and the ways to run ops i ... j - 1: the peaks' maximum, the sums of the others

Points that another one beats in all four are dropped; bytes of code count in steps of 2 % of what the ops alone have.
Peaks below the least that all ops together can reach are equal; among points whose sums agree within a small part of
the whole network's (0.2 % at first, more where many points remain) the one with the least peak is kept. So the least
peak at +0 % is exact, given the segments looked at, and what lies between is as good as the steps are fine.

Cost: O(n s w k) for n ops, segments of at most s ops, w ways each, and k <= 48 points at a cut. A segment whose rings
alone hold more than what is known to suffice for all ops up to its end ends the search for longer ones, so that s does
not grow with the depth of a chain, and the whole grows linearly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tinyir.ir import Array, Func, Module

from ._stored import Memory
from ._ways import Provider, Scene, Way

__all__ = ["Point", "apply_ways", "front_of", "ways_of"]

_MOST = 48
_PART = 1 / 512
_CODE = 1 / 50


@dataclass(frozen=True)
class Point:
    """A way through all ops: what it costs, and the ways of its segments in order."""

    peak: int
    macs: int
    instructions: int
    flash: int
    ways: tuple[Way, ...]

    @property
    def worst(self) -> Way:
        """The first segment that needs as much as the whole."""
        return max(self.ways, key=lambda way: (way.peak, -way.first))


class _Label(NamedTuple):
    """A way through the first ops; `way` is its last segment, and `before` what led there."""

    peak: int
    macs: int
    instructions: int
    flash: int
    way: Way | None = None
    before: _Label | None = None


def ways_of(scene: Scene, providers: Sequence[Provider]) -> list[list[Way]]:
    """For each op, the ways of the segments that end with it, those that others beat left out."""
    count = len(scene.ops)
    least, lowest = [0] * (count + 1), [0] * (count + 1)
    single: list[int] = []
    found: list[list[Way]] = []
    for end in range(1, count + 1):
        here = [way for provider in providers[:1] for way in provider(scene, end - 1, end) or ()]
        single.append(min(way.peak for way in here))
        least[end], lowest[end] = max(least[end - 1], single[-1]), max(lowest[end - 1], single[-1])
        for provider in providers[1:]:
            here += _ask(provider, scene, end, (least, lowest), single)
            lowest[end] = min([lowest[end], *(max(lowest[way.first], way.peak) for way in here)])
        found.append(_undominated(here))
    return found


def _ask(provider: Provider, scene: Scene, end: int, bounds: tuple[list[int], list[int]], single: list[int]) \
        -> list[Way]:
    """The ways of one provider for segments that end there; `least` is kept up to date by what computes nothing twice.

    Segments of ops that need no more on their own than others need anyway are left out.
    """
    least, lowest = bounds
    found: list[Way] = []
    alone = 0
    for first in range(end - 1, -1, -1):
        alone = max(alone, single[first])
        scene.enough = lowest[first]  # what is in front of them needs as much
        answer = provider(scene, first, end) if alone > scene.enough else []
        if answer is None:
            break
        ways = list(answer)
        found += ways
        for way in ways:
            if way.macs == 0:
                least[end] = min(least[end], max(least[first], way.peak))
        held = min((way.held for way in ways), default=0)
        if held >= least[end] and held > least[first]:
            break
    return found


def _undominated(ways: Iterable[Way]) -> list[Way]:
    """Of the ways of each segment those that no other one beats in everything."""
    kept: dict[int, list[Way]] = {}
    for way in sorted(ways, key=lambda w: (w.first, w.peak, w.macs, w.instructions, w.flash)):
        others = kept.setdefault(way.first, [])
        if not any(o.macs <= way.macs and o.instructions <= way.instructions and o.flash <= way.flash for o in others):
            others.append(way)
    return [way for others in kept.values() for way in others]


def front_of(scene: Scene, providers: Sequence[Provider], most_macs: int = 0) -> list[Point]:
    """The points that no other one beats, least peak first; at most `most_macs` multiply-accumulates computed again.

    The first provider has ways to run single ops as they stand, so that there always is a point.
    """
    ways = ways_of(scene, providers)
    asked: set[Way] = set()
    best = _Labels(scene, most_macs)
    while True:
        scene.enough = _least_peak(ways, most_macs)
        labels = best.of(ways)
        smallest = _smallest(ways, most_macs)
        used = {way for here in labels for label in here if (way := label.way) is not None and way.variants is not None}
        used |= {way for way in smallest.ways if way.variants is not None}
        if used <= asked:
            points = [_point(label) for label in sorted(labels[-1], key=lambda label: label[:4])]
            points = [smallest, *points] if smallest.peak < points[0].peak else points
            return [_apart(points[0], ways), *points[1:]] if scene.tight else points
        for way in sorted(used - asked, key=lambda way: (way.end, way.first, way.peak)):
            ways[way.end - 1] += way.variants() if way.variants is not None else []
        ways = [_undominated(here) for here in ways]
        asked |= used


def _apart(point: Point, ways: Sequence[Sequence[Way]]) -> Point:
    """The point with ways that need the least where it counts on tensors that slide under each other: distances that
    are longer than they have to be add up where one slides under the next.
    """
    found = []
    for way in point.ways:
        others = [w for w in ways[way.end - 1] if w.first == way.first and w.macs <= way.macs] or [way]
        tense = way.saved and way.peak + way.saved > point.peak
        found.append(min([way, *others], key=lambda w: (w.peak, w.instructions)) if tense else way)
    return _along(tuple(found))


@dataclass
class _Labels:
    """For each number of first ops the best ways through them, within `most_macs`. They are kept as far as the ways are
    those that they were asked for before.
    """

    scene: Scene
    most_macs: int
    _start: tuple[_Scale, int] | None = None
    _ways: Sequence[Sequence[Way]] = ()
    _found: list[list[_Label]] = field(default_factory=list)
    _tables: list[Array] = field(default_factory=list)

    def of(self, ways: Sequence[Sequence[Way]]) -> list[list[_Label]]:
        """The labels for these ways, which end with each op."""
        start, known = (_Scale.of(self.scene, ways), _least_peak(ways, self.most_macs)), 0
        if start == self._start:
            pairs = enumerate(zip(self._ways, ways, strict=True))
            known = next((place for place, (before, now) in pairs if before != now), len(ways))
        else:
            self._found = [[_Label(start[1], 0, 0, 0)]]
            self._tables = [_table(self._found[0])]
        del self._found[known + 1:], self._tables[known + 1:]
        for here in ways[known:]:
            grown = _Grown.of(here, self._tables, self.most_macs)
            self._found.append(grown.some(_thinned(grown, start[0]), self._found))
            self._tables.append(_table(self._found[-1]))
        self._start, self._ways = start, [list(here) for here in ways]
        return self._found


def _table(labels: Sequence[_Label]) -> Array:
    """[labels, 4] what each costs."""
    return np.asarray([label[:4] for label in labels], np.int64)


class _Grown(NamedTuple):
    """The ways through some first ops, best first: what they cost, and which segment behind which label they are."""

    costs: Array  # [N, 4] peak, multiply-accumulates, instructions, bytes of code
    numbers: Array  # [N] among all labels in front of the first segment, in front of the second, ...
    ends: Array  # [segments] where those of the next segment begin
    segments: Sequence[Way]

    @staticmethod
    def of(here: Sequence[Way], tables: Sequence[Array], most_macs: int) -> _Grown:
        """Each of the ways behind each label where it begins, within the limit of `most_macs`."""
        counts = [len(tables[way.first]) for way in here]
        own = np.asarray([(way.peak, way.macs, way.instructions, way.flash) for way in here], np.int64)
        own, costs = own.repeat(counts, axis=0), np.concatenate([tables[way.first] for way in here])
        peaks = np.maximum(costs[:, 0], own[:, 0])
        costs = costs + own
        costs[:, 0] = peaks
        order = np.lexsort(costs.T[::-1])
        order = order[costs[order, 1] <= most_macs]
        return _Grown(costs[order], order, np.cumsum(counts), here)

    def some(self, chosen: Sequence[int], labels: Sequence[Sequence[_Label]]) -> list[_Label]:
        """The chosen ones; `labels` are those for each number of first ops."""
        numbers = self.numbers[chosen]
        which = np.searchsorted(self.ends, numbers, side="right")
        from_end = numbers - self.ends[which]  # -1: the last of the labels in front of the segment
        rows = zip(*self.costs[chosen].T.tolist(), which.tolist(), from_end.tolist(), strict=True)
        return [_Label(peak, macs, instructions, flash, way := self.segments[i], labels[way.first][j])
                for peak, macs, instructions, flash, i, j in rows]


def _smallest(ways: Sequence[Sequence[Way]], most_macs: int) -> Point:
    """The point with the least peak within the limit of `most_macs`; exact, where labels are rounded."""
    peaks = sorted({way.peak for here in ways for way in here}) or [0]  # a network may have no op
    low, high = 0, len(peaks) - 1
    while low < high:
        middle = (low + high) // 2
        found = _cheapest(ways, peaks[middle])
        low, high = (low, middle) if found is not None and found.macs <= most_macs else (middle + 1, high)
    found = _cheapest(ways, peaks[low])
    assert found is not None  # every op can run on its own
    return found


def _cheapest(ways: Sequence[Sequence[Way]], most: int) -> Point | None:
    """The point within `most` bytes that computes the least again, and of those the fastest; None if there is none."""
    best: list[_Label | None] = [_Label(0, 0, 0, 0)]
    for here in ways:
        grown = [_Label(max(before.peak, way.peak), before.macs + way.macs, before.instructions + way.instructions,
                        before.flash + way.flash, way, before)
                 for way in here if way.peak <= most and (before := best[way.first]) is not None]
        best.append(min(grown, key=lambda label: (label.macs, label.instructions, label.peak, label.flash),
                        default=None))
    return None if best[-1] is None else _point(best[-1])


def _least_peak(ways: Sequence[Sequence[Way]], most_macs: int) -> int:
    """The least peak with which all ops can run, each way by itself within the limit of `most_macs`."""
    least = [0]
    for here in ways:
        least.append(min(max(least[way.first], way.peak) for way in here if way.macs <= most_macs))
    return least[-1]


class _Scale(NamedTuple):
    """What the whole network costs op by op."""

    instructions: int
    macs: int
    flash: int

    @staticmethod
    def of(scene: Scene, ways: Iterable[Iterable[Way]]) -> _Scale:
        alone = [way for here in ways for way in here if way.end - way.first == 1]
        return _Scale(sum(way.instructions for way in alone), sum(op.macs() for op in scene.ops),
                      sum(way.flash for way in alone))


def _thinned(grown: _Grown, scale: _Scale) -> list[int]:
    """The numbers of at most 48 labels, best first: of those that cost about the same the one with the least peak."""
    codes = (grown.costs[:, 3] // max(1.0, scale.flash * _CODE)).astype(np.int64)
    part = _PART
    while True:
        kept = _pareto(grown.costs, codes, _rounded(grown.costs, codes, scale, part))
        if len(kept) <= _MOST:
            found: list[int] = kept.tolist()
            return found
        part *= 2


def _rounded(costs: Array, codes: Array, scale: _Scale, part: float) -> Array:
    """The numbers of the best labels, of which all are sorted, each of those that cost about the same."""
    instructions, macs = max(1.0, scale.instructions * part), max(1.0, scale.macs * part / 2)
    keys = np.stack([costs[:, 2] // instructions, -costs[:, 1] // macs, codes]).astype(np.int64)
    keys -= keys.min(axis=1, keepdims=True)
    _, best = np.unique(np.ravel_multi_index(tuple(keys), tuple(keys.max(axis=1) + 1)), return_index=True)
    return np.sort(best)


def _pareto(costs: Array, codes: Array, numbers: Array) -> Array:
    """Of the labels with these numbers, the best first, those that no other one beats."""
    beaten = np.ones((len(numbers), len(numbers)), bool)
    for column in (costs[numbers, 1], costs[numbers, 2], codes[numbers]):
        beaten &= column[:, None] <= column
    return np.asarray(numbers[~np.triu(beaten, 1).any(axis=0)])


def _point(label: _Label) -> Point:
    ways: list[Way] = []
    here: _Label | None = label
    while here is not None and here.way is not None:
        ways.append(here.way)
        here = here.before
    return _along(tuple(reversed(ways)))


def apply_ways(ways: Iterable[Way], func: Func, module: Module) -> None:
    """Put the ops of `func`, a copy of the function that the ways were found for, into the regions that run them so."""
    ops = Memory(func, 1).ops
    for way in ways:
        if way.apply is not None:
            way.apply(ops[way.first:way.end], func, module)


def _along(ways: tuple[Way, ...]) -> Point:
    return Point(max((way.peak for way in ways), default=0), sum(way.macs for way in ways),
                 sum(way.instructions for way in ways), sum(way.flash for way in ways), ways)
