"""Where to cut the order of execution into groups that run row by row: the least memory, by dynamic programming.

    ops                  conv  dw  pw | dw  pw | mean  dense
    best[j]              least peak of the first j ops = min over i of max(best[i], bytes while ops i ... j - 1 run)

The bytes while a group runs: what is stored whole and lives then (it was computed before and is still needed, or it is
the group's and needed behind it), the rings that hold rows between steps, and the most that is in flight at one time
within a step. A group of one op is that op on whole tensors. What lies in the caller's buffers, the network's inputs
and outputs, counts nothing.

Among all ways with the least peak one that streams the fewest ops is taken. O(n^2) groups for n ops; a group that needs
more for its rings alone than the best way known ends the search for longer ones with the same end, so that for chains
the cost grows linearly in depth.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from tinyir.ir import Argument, Const, Func, Value
from tinyir.opdef import Op
from tinyir.ops import Reinterpret, Reshape, Return
from tinyir.row_schedule import RowNeeds, RowSchedule, folds_rows, schedule_rows

__all__ = ["Memory", "best_groups", "planned_bytes", "schedule_groups"]

_INT32 = 4


class Memory:
    """Which values of a function are stored when, in bytes."""

    def __init__(self, func: Func, align: int) -> None:
        self.align = align
        self.ops = [op for op in func.ops if not isinstance(op, Return)]
        self.place = {op: i for i, op in enumerate(self.ops)}
        self.root: dict[Value, Value] = {}
        for op in self.ops:
            if isinstance(op, (Reshape, Reinterpret)):
                self.root[op.out] = self.root.get(op.x, op.x)
        self.outputs = {self.root.get(v, v) for v in func.results}
        self.last: dict[Value, int] = {}
        for op in self.ops:
            for value in op.reads:
                self.last[self.root.get(value, value)] = self.place[op]

    def size(self, value: Value, rows: int | None = None) -> int:
        """Bytes of a value, or of that many rows of it; 0 for what others store."""
        if isinstance(value, (Argument, Const)) or value in self.outputs or value in self.root:
            return 0
        elements = value.type.size_bytes
        if rows is not None and value.type.rank == 4:
            elements = elements // value.shape[1] * rows
        return self.aligned(elements)

    def aligned(self, size: int) -> int:
        return -(-size // self.align) * self.align

    def live_in(self, first: int) -> dict[Value, int]:
        """What was computed before op number `first` and is read by it or later: the last reader."""
        return {r: self.last[r] for op in self.ops[:first] for r in op.results if self.last.get(r, -1) >= first}

    def needed_behind(self, value: Value, end: int) -> bool:
        """Whether an op from number `end` on reads the value, or the function returns it."""
        return self.last.get(value, -1) >= end or value in self.outputs


@dataclass(frozen=True)
class _Group:
    """Ops first ... end - 1 as one group: the bytes while it runs, and of these what its rings hold between steps."""

    peak: int
    held: int


class _Costs:
    def __init__(self, memory: Memory, rows: int) -> None:
        self.memory = memory
        self.rows = rows
        self.needs = RowNeeds()
        self.before = [sum(memory.size(v) for v in memory.live_in(i)) for i in range(len(memory.ops))]

    def single(self, index: int) -> int:
        """Bytes while an op runs on whole tensors."""
        return self.before[index] + sum(self.memory.size(r) for r in self.memory.ops[index].results)

    def schedule(self, first: int, end: int, waits: Collection[Op] = ()) -> RowSchedule:
        """The schedule of ops that run row by row; rows of results in `waits` wait for slower readers."""
        ops = self.memory.ops[first:end]
        kept = {op.out for op in ops if self.memory.needed_behind(op.out, end)}
        return schedule_rows(ops, kept, self.rows, self.needs, waits=waits)

    def group(self, first: int, end: int, schedule: RowSchedule | None = None) -> _Group:
        """Bytes while ops run row by row."""
        memory, schedule = self.memory, schedule or self.schedule(first, end)
        ops = memory.ops[first:end]
        kept = {op.out for op in ops if memory.needed_behind(op.out, end)}
        held, flight = sum(memory.size(v) for v in kept), [0] * len(ops)
        for index, op in enumerate(ops):
            if op.out in kept and not folds_rows(op):
                continue
            size, fresh = (memory.size(op.out, rows) for rows in (schedule.rings[index], schedule.fresh[index]))
            readers = [memory.place[user] - first for user in op.out.users if user in memory.place]
            if folds_rows(op):
                held += (0 if op.out in kept else size) + memory.aligned(_sums(op))
                continue
            if fresh or self._is_held(index, readers, ops, schedule):
                held, size = held + size, fresh
            waits = schedule.keeps[index][0] > 1
            for place in range(0 if waits else index, max(readers, default=index) + 1):
                flight[place] += size
        return _Group(self.before[first] + held + max(flight), held)

    def _is_held(self, index: int, readers: list[int], ops: Sequence[Op], schedule: RowSchedule) -> bool:
        """Whether rows of the result of op number `index` are needed in a later step than the one that makes them."""
        op, pace = ops[index], schedule.paces[index]
        for reader in readers:
            for operand, value in enumerate(ops[reader].operands):
                needs = self.needs.of(ops[reader], operand) if value is op.out else None
                if needs is None:
                    continue
                steps = schedule.paces[reader].step_behind(np.arange(len(needs.first)))
                if bool((needs.first < pace.done_array(steps - 1, op.out.shape[1])).any()):
                    return True
        return False


def _sums(op: Op) -> int:
    """Bytes of the int32 sums of an integer mean; floats are summed in the result."""
    return 0 if op.out.type.dtype.is_float else op.out.type.elements * _INT32


def best_groups(func: Func, runs: Sequence[list[Op]], rows: int, align: int = 16) -> list[list[Op]]:
    """The groups, of at least two ops each, of the runs of ops that can stream, with which memory is least."""
    memory = Memory(func, align)
    costs = _Costs(memory, rows)
    begins = {memory.place[op]: memory.place[run[0]] for run in runs for op in run}
    count = len(memory.ops)
    found: dict[tuple[int, int], int] = {}
    best = [0] * (count + 1)
    for end in range(1, count + 1):
        found[end - 1, end] = costs.single(end - 1)
        best[end] = max(best[end - 1], found[end - 1, end])
        for first in range(end - 2, begins.get(end - 1, end) - 1, -1):
            group = costs.group(first, end)
            found[first, end] = group.peak
            best[end] = min(best[end], max(best[first], group.peak))
            if group.held >= best[end] and group.held > best[first]:
                break
    chosen = _fewest_streamed(found, best[count], count)
    return [memory.ops[first:end] for first, end in chosen if end - first > 1]


def schedule_groups(func: Func, groups: Sequence[list[Op]], rows: int, align: int = 16) -> list[RowSchedule]:
    """A schedule for each group: rows wait for slower readers where that needs fewer bytes, tried op by op."""
    costs = _Costs(Memory(func, align), rows)
    found = []
    for group in groups:
        first = costs.memory.place[group[0]]
        end = first + len(group)
        waits: set[Op] = set()
        best = costs.schedule(first, end)
        for op in group:
            trial = costs.schedule(first, end, waits | {op})
            if trial != best and _better(costs.group(first, end, trial), costs.group(first, end, best)):
                waits, best = waits | {op}, trial
        found.append(best)
    return found


def planned_bytes(func: Func, groups: Sequence[list[Op]], schedules: Sequence[RowSchedule], rows: int,
                  align: int = 16) -> int:
    """The most bytes that are needed at one time, if the groups run by these schedules and all else op by op."""
    costs = _Costs(Memory(func, align), rows)
    peaks = [0]
    inside: set[Op] = set()
    for group, schedule in zip(groups, schedules, strict=True):
        first = costs.memory.place[group[0]]
        peaks.append(costs.group(first, first + len(group), schedule).peak)
        inside.update(group)
    return max(*peaks, *(costs.single(i) for i, op in enumerate(costs.memory.ops) if op not in inside), 0)


def _better(one: _Group, other: _Group) -> bool:
    return (one.peak, one.held) < (other.peak, other.held)


def _fewest_streamed(found: dict[tuple[int, int], int], limit: int, count: int) -> list[tuple[int, int]]:
    """The way through all ops, with no group above `limit` bytes, that streams the fewest ops."""
    steps: list[list[int]] = [[] for _ in range(count + 1)]
    for (first, end), peak in found.items():
        if peak <= limit:
            steps[end].append(first)
    streamed: list[tuple[int, int]] = [(0, -1)]
    for end in range(1, count + 1):
        ways = [(streamed[first][0] + (end - first if end - first > 1 else 0), first) for first in steps[end]
                if streamed[first][0] >= 0]
        streamed.append(min(ways, default=(-1, -1)))
    way: list[tuple[int, int]] = []
    while count > 0:
        way.append((streamed[count][1], count))
        count = streamed[count][1]
    return way[::-1]
