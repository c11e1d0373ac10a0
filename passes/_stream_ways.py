"""Segments that run row by row: what they need, and what they cost, with 1, 2, 4 or 8 rows a step.

The bytes while a segment runs: what is stored whole and lives then (it was computed before and is still needed, or it
is the segment's and needed behind it), the rings that hold rows between steps, and the most that is in flight at one
time within a step. What dies in it shares bytes with what is made of it and needed behind it (`tinyir.overlap`). What
lies in the caller's buffers, the network's inputs and outputs, counts nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import numpy as np

from tinyir.diag import fuse
from tinyir.ir import Array, Block, Func, Module, Result, Value
from tinyir.opdef import Op
from tinyir.ops import Stream, Transpose, Yield
from tinyir.pace import Pace
from tinyir.row_schedule import RowSchedule, folds_rows, schedule_rows, work_rows
from tinyir.stream_overlap import StreamOverlap
from tinyir.waiting import rows_there

from ._kept_rows import kept_behind
from ._streamable import can_stream
from ._ways import Scene, Way, provides

__all__ = ["RowBytes", "Stay", "all_stream", "can_stream", "may_wait", "patient_rows", "put_in_region",
           "put_in_stream", "row_bytes", "row_schedule", "row_stays", "row_way", "scratch_of"]

OpT = TypeVar("OpT", bound=Op)
_INT32 = 4
STEP = 8
"""Instructions a step to find out whether an op has rows to compute."""
_STEP_BYTES = 40
"""Machine code that does."""


def all_stream(scene: Scene, first: int, end: int) -> bool:
    """Whether ops first ... end - 1 can all run row by row."""
    if "streams" not in scene.memo:
        scene.memo["streams"] = [0, *accumulate(can_stream(op) for op in scene.ops)]
    return bool(scene.memo["streams"][end] - scene.memo["streams"][first] == end - first)


@dataclass(frozen=True)
class RowBytes:
    """The bytes while a segment runs, of these what its rings and stored results hold between steps, and those that it
    does without because stored tensors overlap."""

    peak: int
    held: int
    saved: int = 0


def row_schedule(scene: Scene, first: int, end: int, rows: int = 1, waits: Collection[Op] = ()) -> RowSchedule:
    """The schedule of ops that run row by row; rows of results in `waits` wait for slower readers."""
    known: dict[tuple[int, int, int, frozenset[Op]], RowSchedule] = scene.memo.setdefault("rows", {})
    key = first, end, rows, frozenset(waits)  # strips ask for it too
    if key not in known:
        ops = scene.ops[first:end]
        kept = {op.out for op in ops if scene.memory.needed_behind(op.out, end)}
        known[key] = schedule_rows(ops, kept, rows, scene.needs, waits=waits)
    return known[key]


def row_bytes(scene: Scene, first: int, end: int, schedule: RowSchedule) -> RowBytes:
    """Bytes while ops run row by row."""
    known: dict[tuple[int, int, int, RowSchedule], tuple[int, int]] = scene.memo.setdefault("row bytes", {})
    key = scene.spare, first, end, schedule
    if key not in known:
        known[key] = _peak_and_held(scene, first, end, schedule)
    peak, held = known[key]
    saved = 0 if peak <= scene.enough else _overlap(scene, first, end, schedule)
    return RowBytes(peak - saved, held, saved)


def _peak_and_held(scene: Scene, first: int, end: int, schedule: RowSchedule) -> tuple[int, int]:
    """The bytes if stored tensors do not overlap."""
    memory, ops = scene.memory, scene.ops[first:end]
    kept = {op.out for op in ops if memory.needed_behind(op.out, end)}
    held, flight = sum(memory.size(v) for v in kept), [0] * len(ops)
    for op, stay in zip(ops, row_stays(scene, first, end, schedule), strict=True):
        if folds_rows(op):
            held += (0 if op.out in kept else memory.size(op.out)) + memory.aligned(sums_of(op))
        elif op.out not in kept:
            held += memory.size(op.out, stay.held)
            for rows, begin, last in stay.moving:
                size = memory.size(op.out, rows)
                for place in range(begin, last + 1):
                    flight[place] += size
    stored = memory.before[first] + held
    peak = max(scene.needed(stored + moving, scratch_of(scene, op, rate(schedule, index)))
               for index, (op, moving) in enumerate(zip(ops, flight, strict=True)))
    return peak, held


@dataclass(frozen=True)
class Stay:
    """Rows of a result: so many are held from one step to the next; `moving` has others, which lie there within a step:
    (rows, begin, last), from the op with the number `begin` to that with the number `last`.
    """

    held: int = 0
    moving: tuple[tuple[int, int, int], ...] = ()


def row_stays(scene: Scene, first: int, end: int, schedule: RowSchedule) -> list[Stay]:
    """How long rows of the result of each op are there; no rows of what is stored whole, or folds rows."""
    known: dict[tuple[int, int, RowSchedule], list[Stay]] = scene.memo.setdefault("stays", {})
    if (first, end, schedule) not in known:
        known[first, end, schedule] = _row_stays(scene, first, end, schedule)
    return known[first, end, schedule]


def _row_stays(scene: Scene, first: int, end: int, schedule: RowSchedule) -> list[Stay]:
    memory, ops = scene.memory, scene.ops[first:end]
    kept, found = kept_behind(ops, schedule, scene.needs), []
    for index, op in enumerate(ops):
        if folds_rows(op) or memory.needed_behind(op.out, end):
            found.append(Stay())
            continue
        ring, fresh = schedule.rings[index], schedule.fresh[index]
        readers = [memory.place[user] - first for user in op.out.users if user in memory.place]
        last = kept.get(op, max(readers, default=index))
        held = bool(fresh) or is_held(scene, index, readers, ops, schedule)
        moving = [(fresh if held else ring, index, last)]
        if schedule.keeps[index][0] > 1:
            moving = _waiting_rows(index, last, ops, schedule)
        found.append(Stay(ring if held else 0, tuple(moving)))
    return found


def _waiting_rows(index: int, last: int, ops: Sequence[Op], schedule: RowSchedule) -> list[tuple[int, int, int]]:
    """The rows of op number `index` that wait for their ring, or are read by up to op number `last`, as runs of ops
    while which there are as many.
    """
    def runs(place: int) -> Array:
        done, rows = schedule.paces[place].done_array, work_rows(ops[place])
        return np.flatnonzero(done(steps + 1, rows) > done(steps, rows))

    steps = np.arange(schedule.steps)
    there = rows_there(schedule.paces[index], work_rows(ops[index]), schedule.keeps[index], index, last, runs, len(ops))
    marks = [0, *(place for place in range(1, len(ops)) if there[place] != there[place - 1]), len(ops)]
    return [(there[begin], begin, end - 1) for begin, end in pairwise(marks) if there[begin]]


def scratch_of(scene: Scene, op: Op, rows: Fraction | None) -> int:
    """Bytes that the kernels of the op use while they run; the sums of a mean by rows stay there between them."""
    found = scene.work(op, rows).scratch
    return max(0, found - sums_of(op)) if folds_rows(op) and rows is not None else found


def _overlap(scene: Scene, first: int, end: int, schedule: RowSchedule) -> int:
    """Bytes that stored values which die in the segment share with those that it computes."""
    memory, ops = scene.memory, scene.ops[first:end]
    dying = [v for v, last in memory.live_in(first).items() if last < end]
    made = [op.out for op in ops if memory.needed_behind(op.out, end)]
    consumed, produced = ([(v, memory.size(v)) for v in values if memory.size(v)] for values in (dying, made))
    if not consumed or not produced:
        return 0
    return StreamOverlap(ops, schedule, scene.needs).saved(consumed, produced, memory.align)


def rate(schedule: RowSchedule, index: int) -> Fraction:
    """Rows a step of op number `index`."""
    return _fraction(*schedule.paces[index][:2])


@lru_cache
def _fraction(rows: int, steps: int) -> Fraction:
    return Fraction(rows, steps)


def is_held(scene: Scene, index: int, readers: list[int], ops: Sequence[Op], schedule: RowSchedule) -> bool:
    """Whether rows of the result of op number `index` are needed in a later step than the one that makes them."""
    op, pace, known = ops[index], schedule.paces[index], scene.needs.memo
    key = ("held", op, pace[:2], *((ops[r], *schedule.paces[r].earlier(pace.start)) for r in readers), pace.shift
           + pace.rows * pace.start)
    if key not in known:
        known[key] = _is_held(scene, op, readers, ops, schedule, pace)
    found: bool = known[key]
    return found


def _is_held(scene: Scene, op: Op, readers: list[int], ops: Sequence[Op], schedule: RowSchedule, pace: Pace) -> bool:
    for reader in readers:
        for operand, value in enumerate(ops[reader].operands):
            needs = scene.needs.of(ops[reader], operand) if value is op.out else None
            if needs is None:
                continue
            steps = schedule.paces[reader].step_behind(np.arange(len(needs.first)))
            if bool((needs.first < pace.done_array(steps - 1, op.out.shape[1])).any()):
                return True
    return False


def sums_of(op: Op) -> int:
    """Bytes of the int32 sums of an integer mean; floats are summed in the result, and what is turned is no sum."""
    return 0 if op.out.type.dtype.is_float or isinstance(op, Transpose) else op.out.type.elements * _INT32


@provides("rows")
def rows(scene: Scene, first: int, end: int) -> Iterable[Way] | None:
    """Two ops or more, row by row; a single one if its result then slides under an operand that dies."""
    if not all_stream(scene, first, end):
        return None
    if end - first < 2 and not _overlap(scene, first, end, row_schedule(scene, first, end)):
        return []
    return [row_way(scene, first, end, scene.rows[0])]


def row_way(scene: Scene, first: int, end: int, rows: int, schedule: RowSchedule | None = None) -> Way:
    """Ops first ... end - 1 row by row, `rows` rows of the fastest a step; by `schedule` if there is one."""
    made = schedule or row_schedule(scene, first, end, rows)
    found = row_bytes(scene, first, end, made)
    ops = scene.ops[first:end]
    works = [scene.work(op, rate(made, i), kept=made.fresh[i] > 0) for i, op in enumerate(ops)]
    instructions = sum(w.instructions for w in works) + made.steps * len(ops) * STEP
    return Way(first, end, found.peak, found.held, instructions,
               flash=sum(w.flash for w in works) + len(ops) * _STEP_BYTES, saved=found.saved, text=f"rows {rows}",
               apply=partial(put_in_stream, made),
               variants=None if schedule else partial(_variants, scene, first, end, rows))


def _variants(scene: Scene, first: int, end: int, rows: int) -> list[Way]:
    """The same number of rows a step, but patient; and more rows a step."""
    more = scene.rows[1:] if rows == scene.rows[0] else ()
    highest = max(work_rows(op) for op in scene.ops[first:end])
    patient = patient_rows(scene, first, end, rows)
    counts = [count for count in more if count < highest]
    return [*([] if patient == row_schedule(scene, first, end, rows) else [row_way(scene, first, end, rows, patient)]),
            *(row_way(scene, first, end, count) for count in counts)]


def patient_rows(scene: Scene, first: int, end: int, rows: int) -> RowSchedule:
    """The schedule of a segment in which rows wait for slower readers where that needs fewer bytes, tried op by op."""
    waits: set[Op] = set()
    best = row_schedule(scene, first, end, rows)
    need = row_bytes(scene, first, end, best)
    for op in may_wait(scene, first, end, rows):
        trial = row_schedule(scene, first, end, rows, waits | {op})
        found = row_bytes(scene, first, end, trial)
        if (found.peak, found.held) < (need.peak, need.held):
            waits, best, need = waits | {op}, trial, found
    return best


def may_wait(scene: Scene, first: int, end: int, rows: int) -> list[Op]:
    """The ops whose rows go to other places if they wait: each by itself, whatever others do."""
    ops = scene.ops[first:end]
    soon, late = row_schedule(scene, first, end, rows), row_schedule(scene, first, end, rows, ops)
    kinds = [zip(one.rings, one.fresh, one.keeps, strict=True) for one in (soon, late)]
    return [op for op, one, other in zip(ops, *kinds, strict=True) if one != other]


def put_in_stream(schedule: RowSchedule, group: list[Op], func: Func, module: Module) -> None:
    """Move the ops of `group`, which follow each other, into a region that runs row by row."""
    put_in_region(Stream, {
        "steps": schedule.steps, "paces": tuple(tuple(p) for p in schedule.paces), "rings": schedule.rings,
        "fresh": schedule.fresh if any(schedule.fresh) else (),
        "keeps": schedule.keeps if any(every > 1 for every, _ in schedule.keeps) else ()}, group, func, module)


def put_in_region(kind: type[OpT], attrs: dict[str, Any], group: list[Op], func: Func, module: Module) -> OpT | None:
    """Move the ops of `group`, which follow each other, into the region of a `kind` with these attributes; None if
    nobody uses what they compute.
    """
    inside = set(group)
    kept: list[Value] = [r for op in group for r in op.results if any(user not in inside for user in r.users)]
    if not kept:
        return None
    block, place = func.block, func.ops.index(group[0])
    body = Block()
    for op in group:
        block.ops.remove(op)
        body.append(op)
    body.append(Yield(tuple(kept)))
    made = kind.build([], attrs, [v.type for v in kept], [body],
                      fuse(kind.opname.partition(".")[2], [op.loc for op in group]))
    block.insert(place, made)
    for value, result in zip(kept, made.results, strict=True):
        result.name = value.name
        _use_outside(value, result, inside | {body.ops[-1]})
    module.version += 1
    assert isinstance(made, kind)
    return made


def _use_outside(value: Value, result: Result, inside: set[Op]) -> None:
    for use in list(value.uses):
        if use.op not in inside:
            use.op.replace_operand(use.index, result)
