"""The schedule of a group of ops that run row by row.

They advance together, step by step; in each step every op computes the rows that its pace says (`tinyir.pace`).
`schedule_rows` finds the paces of a group of ops (strides, upsampling and several branches included) such that no row
is computed before the rows that it needs, as late as its readers allow; and for each result the number of rows that a
ring buffer has to keep. Rows of a result are computed once, in order. All of it is exact, from the ops' `input_span`.

Cost: O(edges * rows), vectorised over rows.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from .geometry import Span
from .ir import Array, Const, Value
from .opdef import Op
from .ops.base import AlongAxis, Elementwise, Spatial, normal_axis
from .ops.conv import ConvTranspose2D
from .ops.qconcat import QConcat
from .ops.qeltwise import QReduceMean
from .ops.reduce import Reduce
from .ops.resize import Resampling
from .ops.shape import Concat, Slice, Transpose
from .pace import Keep, Pace
from .tiles import TURNS, is_column_slice, is_stored_input

__all__ = ["Needs", "RowNeeds", "RowSchedule", "check_rows", "folds_rows", "has_rows", "in_rows",
           "schedule_rows", "work_rows"]


_ROW_FOR_ROW = (Concat, QConcat, Reduce, QReduceMean)
"""Ops of which row i needs row i of each operand, whether it is a row of the result or one that is folded."""


_EACH: Keep = (1, 0)
_MOST_STEPS = 16
"""Rows do not wait longer than that."""
_MOST_TRIED = 12
"""Shifts of an op that are tried."""


@dataclass(frozen=True)
class RowSchedule:
    """What to do with a group of ops: `steps` steps; for each op its pace and the rows of the ring that keeps its
    result (all of them where it is stored whole). Where `fresh` is not 0, that many rows, those of a step, have a
    place of their own, and go into the ring behind their last reader: it keeps only what is needed in later steps.
    They do so every so many steps (`keeps`), which is when a reader of lower resolution runs.
    """

    steps: int
    paces: tuple[Pace, ...]
    rings: tuple[int, ...]
    fresh: tuple[int, ...]
    keeps: tuple[Keep, ...]


class Needs(NamedTuple):
    """For each row of a result: it needs the rows from `first` to `end - 1` of an operand."""

    first: Array
    end: Array


def has_rows(value: Value) -> bool:
    """Whether the value is one image, [1, H, W, C]."""
    return value.type.rank == 4 and value.shape[0] == 1


def folds_rows(op: Op) -> bool:
    """Whether the op takes in the rows of its only operand one after the other, and has its result behind the last.

    A transposition from NHWC (or NWHC) to NCHW is one, or between these two: each row goes to places all over the
    result.
    """
    if isinstance(op, Transpose):
        return op.perm in TURNS and has_rows(op.x) and not is_stored_input(op.x)
    if not isinstance(op, (Reduce, QReduceMean)) or not has_rows(op.x):
        return False
    axes = {axis % 4 for axis in op.axes}
    return axes == {1, 2} or (axes == {1} and op.x.shape[2] == 1)


def in_rows(op: Op) -> bool:
    """Whether rows of the result can be computed one after the other, from the rows of its operands that they need.

    A transposition is one of an argument, or of a part of it, which is there as a whole from the beginning.
    """
    if len(op.results) != 1 or not has_rows(op.out):
        return False
    columns = isinstance(op, (Reduce, QReduceMean)) and has_rows(op.x) and {axis % 4 for axis in op.axes} == {2}
    if isinstance(op, Transpose):
        return is_stored_input(op.x) and op.perm[0] == 0
    if isinstance(op, AlongAxis):
        return normal_axis(op.axis, 4) > 1
    return columns or isinstance(op, (Spatial, Concat))


def work_rows(op: Op) -> int:
    """Rows that the op goes through: those of its result, or those that it folds."""
    value = op.operands[0] if folds_rows(op) else op.out
    assert value is not None
    return value.shape[1]


@dataclass
class RowNeeds:
    """Which rows of which operand each row of a result needs, and what follows from that: computed once.

    Schedules of groups that have ops in common ask the same of them, but for a shift in time; `memo` knows the answers.
    """

    memo: dict[tuple[Hashable, ...], Any] = field(default_factory=dict)
    _known: dict[tuple[Op, int], Needs | None] = field(default_factory=dict)
    _ratios: dict[tuple[Op, int], Fraction | None] = field(default_factory=dict)

    def of(self, op: Op, operand: int) -> Needs | None:
        """The needs of `op` for operand number `operand`; None for one that has no rows (a constant, a vector)."""
        key = op, operand
        if key not in self._known:
            self._known[key] = _needs(op, operand)
        return self._known[key]

    def ratio(self, op: Op, operand: int) -> Fraction | None:
        """Rows of the result for each row of an operand, in the long run; None where there is no fixed ratio."""
        key = op, operand
        if key not in self._ratios:
            value = op.operands[operand]
            self._ratios[key] = None if value is None else _ratio(op, value)
        return self._ratios[key]


def _needs(op: Op, operand: int) -> Needs | None:
    value = op.operands[operand]
    if value is None or isinstance(value, Const):
        return None
    rows = np.arange(work_rows(op))
    producer = value.op
    if isinstance(op, Transpose) and not folds_rows(op):
        return None
    if producer is not None and folds_rows(producer):
        return Needs(np.zeros_like(rows), np.full_like(rows, work_rows(producer)))
    if not has_rows(value):
        return None
    if isinstance(op, _ROW_FOR_ROW) or folds_rows(op):
        return Needs(rows, rows + 1)
    assert isinstance(op, Spatial)
    spans = [op.input_span(Span(row, row + 1), "rows", operand) for row in range(len(rows))]
    end = np.maximum.accumulate(np.asarray([s.end for s in spans]))
    first = np.minimum.accumulate(np.asarray([s.begin if s.extent else e for s, e in
                                              zip(spans, end, strict=True)])[::-1])[::-1]
    return Needs(first, end)


def _ratio(op: Op, value: Value) -> Fraction | None:
    """Rows of the result for each row of the operand, in the long run; None where there is no fixed ratio."""
    producer = value.op
    if not has_rows(value) or (producer is not None and folds_rows(producer)):
        return None
    if isinstance(op, _ROW_FOR_ROW) or folds_rows(op):
        return Fraction(1)
    if isinstance(op, Elementwise):
        return Fraction(1) if value.shape[1] == op.out.shape[1] else None
    if isinstance(op, Resampling):
        return _scale(value.shape[1], op.out.shape[1])
    stride = int(getattr(op, "stride", (1, 1))[0])
    return Fraction(stride) if isinstance(op, ConvTranspose2D) else Fraction(1, stride)


def _scale(before: int, after: int) -> Fraction:
    """after / before, or the whole number (or its reciprocal) that it is but for one incomplete row at the end."""
    if after < before:
        return 1 / _scale(after, before)
    whole = max(1, round(after / before))
    return Fraction(whole) if abs(whole * before - after) < whole else Fraction(after, before)


@dataclass
class _Group:
    """The edges inside a group of ops."""

    ops: Sequence[Op]
    needs: RowNeeds

    def __post_init__(self) -> None:
        self.place = {op: i for i, op in enumerate(self.ops)}
        self.sources: list[list[tuple[int, Needs]]] = [self._sources(op) for op in self.ops]
        self.readers: list[list[tuple[int, Needs]]] = [[] for _ in self.ops]
        for reader, edges in enumerate(self.sources):
            for source, needs in edges:
                self.readers[source].append((reader, needs))

    def _sources(self, op: Op) -> list[tuple[int, Needs]]:
        found = []
        for index, value in enumerate(op.operands if not is_column_slice(op) else []):
            producer = None if value is None else self._producer(value)
            if producer is None:
                continue
            needs = self.needs.of(op, index)
            assert needs is not None
            found.append((self.place[producer], needs))
        return found

    def _producer(self, value: Value) -> Op | None:
        """The op of the group that computes the rows of `value`; those of a slice of columns are not its own."""
        producer = value.op
        while producer in self.place and isinstance(producer, Slice):
            producer = producer.x.op
        return producer if producer in self.place else None

    def source_of_slice(self, op: Op) -> int | None:
        """For a slice of columns of a value of the group: the number of the op that computes the rows."""
        source = self._producer(op.out) if is_column_slice(op) else None
        return None if source is None else self.place[source]

    def rates(self) -> list[Fraction]:
        """Rows of each op for a step, such that the fastest of those that depend on each other has one."""
        rates: dict[int, Fraction] = {}
        neighbours = self._neighbours()
        for start in reversed(range(len(self.ops))):
            if start in rates:
                continue
            found, work = {start: (1, 1)}, [start]  # as numbers of rows and of steps: fractions take their time
            while work:
                here = work.pop()
                rows, steps = found[here]
                for there, more, fewer in neighbours[here]:
                    if there not in found:
                        common = gcd(rows * more, steps * fewer)
                        found[there] = rows * more // common, steps * fewer // common
                        work.append(there)
            exact = {rate: Fraction(*rate) for rate in set(found.values())}
            fastest = max(exact.values())
            exact = {rate: one / fastest for rate, one in exact.items()}
            rates.update((member, exact[rate]) for member, rate in found.items())
        return [rates[index] for index in range(len(self.ops))]

    def _neighbours(self) -> list[list[tuple[int, int, int]]]:
        """For each op those whose rate follows from its own, and by what that is multiplied and divided."""
        neighbours: list[list[tuple[int, int, int]]] = [[] for _ in self.ops]
        for reader, op in enumerate(self.ops):
            for operand, value in enumerate(op.operands):
                source = None if value is None or value.op is None else self.place.get(value.op)
                ratio = None if source is None else self.needs.ratio(op, operand)
                if source is not None and ratio is not None:
                    more, fewer = ratio.numerator, ratio.denominator
                    neighbours[source].append((reader, more, fewer))
                    neighbours[reader].append((source, fewer, more))
        return neighbours


def schedule_rows(ops: Sequence[Op], kept: Collection[Value] = (), rows: int = 1, needs: RowNeeds | None = None,
                  split: bool = True, waits: Collection[Op] = ()) -> RowSchedule:
    """Paces and rings for `ops`, in execution order; the fastest computes `rows` rows a step.

    Results in `kept` are stored whole; rows of a step may get places of their own if `split`, and those of the ops in
    `waits` may stay there until a reader of lower resolution runs. What the ops read from outside is there before the
    first step. Every op has one result and `in_rows` or `folds_rows`.
    """
    group, heights, paces = _timed(ops, rows, needs or RowNeeds())
    steps = max(int(pace.step_behind(np.asarray(h - 1))) for pace, h in zip(paces, heights, strict=True))
    places = [(0, 0, _EACH) if group.source_of_slice(op) is not None
              else (h, 0, _EACH) if op.out in kept or folds_rows(op)
              else _places(i, group, paces, heights, split, op in waits)
              for i, (op, h) in enumerate(zip(ops, heights, strict=True))]
    rings, fresh, keeps = zip(*places, strict=True)
    return RowSchedule(steps, tuple(paces), rings, fresh, keeps)


def _timed(ops: Sequence[Op], rows: int, needs: RowNeeds) -> tuple[_Group, list[int], list[Pace]]:
    """The edges of the group, the rows of each op, and its pace: the same whatever is stored whole, or waits."""
    key = ("group", *ops)
    if key not in needs.memo:
        made = _Group(ops, needs)
        needs.memo[key] = made, made.rates(), [work_rows(op) for op in ops], dict[int, list[Pace]]()
    group, rates, heights, known = needs.memo[key]
    if rows not in known:
        known[rows] = _paces(group, [rate * rows for rate in rates], heights)
    return group, heights, known[rows]


def _paces(group: _Group, rates: Sequence[Fraction], heights: list[int]) -> list[Pace]:
    """The pace of each op, as late as its readers allow; the first row is computed in step 0."""
    ops, paces = group.ops, list[Pace]()
    for index, rate in enumerate(rates):
        paces.append(_earliest(index, rate, group, paces, heights))
    for index in reversed(range(len(ops))):
        if group.readers[index]:
            paces[index] = _latest(index, group, paces, heights)
    _advance(group, rates, paces, heights)
    for index, op in enumerate(ops):
        source = group.source_of_slice(op)
        if source is not None:
            paces[index] = paces[source]
    wait = min(pace.start for pace in paces) - 1
    return [pace.earlier(wait) for pace in paces]


def _key(what: str, index: int, group: _Group, edges: list[tuple[int, Needs]], paces: list[Pace]) \
        -> tuple[Hashable, ...]:
    """What the answer to a question about an op and its neighbours depends on, but for a shift in time."""
    wait, parts = paces[0].start, list[Hashable]((what, group.ops[index]))
    for other, needs in edges:
        parts += group.ops[other], id(needs)
    for rows, steps, shift in paces:
        parts += rows, steps, shift + rows * wait
    return tuple(parts)


def _earliest(index: int, rate: Fraction, group: _Group, paces: list[Pace], heights: list[int]) -> Pace:
    """The pace of that rate at which an op computes each row as soon as what it needs is there."""
    edges, rows, steps = group.sources[index], rate.numerator, rate.denominator
    if not edges:
        return Pace(rows, steps, steps - 1)
    sources = [paces[source] for source, _ in edges]
    key = *_key("earliest", index, group, edges, sources), rate
    if key not in group.needs.memo:
        ready = [pace.step_behind(needs.end - 1) for pace, (_, needs) in zip(sources, edges, strict=True)]
        needed = np.max(ready, axis=0) - sources[0].start
        shift = int((steps * np.arange(1, heights[index] + 1) - rows * (needed - 1)).min()) - 1
        group.needs.memo[key] = Pace(rows, steps, shift)
    found: Pace = group.needs.memo[key]
    return found.earlier(-sources[0].start)


def _latest(index: int, group: _Group, paces: list[Pace], heights: list[int]) -> Pace:
    """The pace of the same rate at which an op computes each row only just in time for its readers."""
    pace, edges, row = paces[index], group.readers[index], np.arange(heights[index])
    readers = [paces[reader] for reader, _ in edges]
    key = *_key("latest", index, group, edges, readers), pace.rows, pace.steps
    if key not in group.needs.memo:
        shifts: list[int] = []
        for reader, (_, needs) in zip(readers, edges, strict=True):
            first = np.searchsorted(needs.end, row, side="right")  # the first row of the reader that needs it
            used = first < len(needs.end)
            limits = reader.step_behind(first[used]) - readers[0].start
            shifts += (pace.steps * (row[used] + 1) - pace.rows * limits).tolist()
        group.needs.memo[key] = max(shifts) if shifts else None
    shift: int | None = group.needs.memo[key]
    return pace if shift is None else pace._replace(shift=min(shift - pace.rows * readers[0].start, pace.shift))


def _advance(group: _Group, rates: Sequence[Fraction], paces: list[Pace], heights: list[int]) -> None:
    """Let ops of short branches run earlier, where that keeps fewer bytes: their operands may be larger.

    One op after the other, from the first on, each time by the bytes of what it reads and of its result. Tried are the
    earliest time that there is, the latest, and those between.
    """
    for index, op in enumerate(group.ops):
        sources = sorted({source for source, _ in group.sources[index]})
        if not sources or folds_rows(op) or (len(sources) == 1 and len(group.readers[sources[0]]) == 1):
            continue  # in a chain, late is early
        late = paces[index]
        early = _earliest(index, rates[index], group, paces, heights)
        affected = [index, *sources]
        best = sum(_bytes(i, group, paces, heights) for i in affected)
        chosen = late
        for shift in _between(late.shift, early.shift):
            paces[index] = late._replace(shift=shift)
            found = sum(_bytes(i, group, paces, heights) for i in affected)
            if found < best:
                best, chosen = found, paces[index]
        paces[index] = chosen


def _between(first: int, last: int) -> list[int]:
    """Whole numbers behind `first` up to `last`: all, or as many as are tried, at equal distances."""
    step = max(1, -(-(last - first) // _MOST_TRIED))
    return sorted({*range(last, first, -step)})


def _bytes(index: int, group: _Group, paces: list[Pace], heights: list[int]) -> int:
    """What the rows of a result need, between steps and in one."""
    value = group.ops[index].out
    if folds_rows(group.ops[index]) or not group.readers[index]:
        return 0
    alive = _alive(index, group, paces, heights)
    return (alive.between * 4 + alive.fresh) * (value.type.size_bytes // value.shape[1])


class _Alive(NamedTuple):
    """Rows of a result that are still needed, at most at one time and between two steps; rows computed in a step."""

    most: int
    between: int
    fresh: int


def _alive(index: int, group: _Group, paces: Sequence[Pace], heights: Sequence[int]) -> _Alive:
    """The rows of the result of op number `index` that are alive."""
    edges = group.readers[index]
    key = _key("alive", index, group, edges, [paces[index], *(paces[reader] for reader, _ in edges)])
    if key not in group.needs.memo:
        group.needs.memo[key] = _count_alive(index, group, paces, heights)
    found: _Alive = group.needs.memo[key]
    return found


def _count_alive(index: int, group: _Group, paces: Sequence[Pace], heights: Sequence[int]) -> _Alive:
    pace, height = paces[index], heights[index]
    behind = pace.step_behind(np.arange(height))
    fresh = int(np.max(pace.done_array(behind, height) - pace.done_array(behind - 1, height)))
    most, between = fresh, 0
    for reader, needs in group.readers[index]:
        step = paces[reader].step_behind(np.arange(heights[reader]))
        most = max(most, int(np.max(pace.done_array(step, height) - needs.first)))
        between = max(between, int(np.max(pace.done_array(step - 1, height) - needs.first)))
    return _Alive(most if group.readers[index] else height, between, fresh)


def _places(index: int, group: _Group, paces: Sequence[Pace], heights: Sequence[int], split: bool, wait: bool) \
        -> tuple[int, int, Keep]:
    """Rows of the ring, and of the place for fresh rows (0: they go to the ring at once), and when they go there."""
    alive, height = _alive(index, group, paces, heights), heights[index]
    best = (alive.between, alive.fresh, _EACH)
    for reader in sorted({reader for reader, _ in group.readers[index]}) if split and wait else ():
        rows, steps, _ = paces[reader]
        if rows == 1 and paces[index].steps < steps * paces[index].rows <= _MOST_STEPS * paces[index].rows:
            keep = steps, (paces[reader].start - 1) % steps
            ring, fresh = _waiting(index, group, paces, heights, keep)
            if 0 < ring < best[0] and ring + fresh <= best[0] + best[1] and fresh <= 2 * ring:
                best = ring, fresh, keep
    worth = best[1] <= 2 * best[0] and 0 < best[0] < alive.most and best[0] + best[1] < height
    return best if split and worth else (min(alive.most, height), 0, _EACH)


def _waiting(index: int, group: _Group, paces: Sequence[Pace], heights: Sequence[int], keep: Keep) -> tuple[int, int]:
    """Rows that the ring needs, and that wait to go there, if they do so in the steps that `keep` says."""
    pace, height = paces[index], heights[index]

    def kept(step: Array) -> Array:
        return pace.done_array(step - (step - 1 - keep[1]) % keep[0], height)

    behind = pace.step_behind(np.arange(height))
    fresh, ring = int(np.max(pace.done_array(behind, height) - kept(behind - 1))), 0
    for reader, needs in group.readers[index]:
        step = paces[reader].step_behind(np.arange(heights[reader])) - 1
        ring = max(ring, int(np.max(kept(step) - needs.first)))
    return ring, fresh


def check_rows(ops: Sequence[Op], schedule: RowSchedule, kept: Collection[Value] = ()) -> str | None:
    """What is wrong with the schedule, or None: rows needed before they are there, rings too small, steps too few."""
    group = _Group(ops, RowNeeds())
    heights = [work_rows(op) for op in ops]
    for index, (op, pace) in enumerate(zip(ops, schedule.paces, strict=True)):
        steps = pace.step_behind(np.arange(heights[index]))
        if steps[0] < 1 or steps[-1] > schedule.steps:
            return f"%{op.out.name} is computed from step {steps[0] - 1} to {steps[-1] - 1} of {schedule.steps}"
        for source, needs in group.sources[index]:
            late = schedule.paces[source].step_behind(needs.end - 1) > steps
            if late.any():
                row = int(np.argmax(late))
                return f"row {row} of %{op.out.name} is computed before row {needs.end[row] - 1} of " \
                       f"%{ops[source].out.name} is there"
        if group.source_of_slice(op) is not None:
            continue
        alive = _alive(index, group, schedule.paces, heights)
        fresh = schedule.fresh[index]
        waiting = _waiting(index, group, schedule.paces, heights, schedule.keeps[index])
        whole = op.out in kept or folds_rows(op)
        least = heights[index] if whole else waiting[0] if fresh else min(alive.most, heights[index])
        if schedule.rings[index] < least:
            return f"%{op.out.name} keeps {schedule.rings[index]} rows, its readers need {least}"
        if fresh and not waiting[1] <= fresh <= 2 * schedule.rings[index]:
            return f"%{op.out.name} has a place for {fresh} fresh rows, needed are {waiting[1]}, and no more than " \
                   f"twice what the ring has"
    return None
