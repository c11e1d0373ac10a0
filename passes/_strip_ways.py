"""Segments that run in strips of columns, one after the other, each of them row by row: what they need and cost.

A strip of the result needs a little more than its share of the columns of what comes before (`tinyir.tiles`): what two
strips need is computed twice, exactly that. In return rows are as long as those of a strip. The schedule of rows is
that of the whole segment, since nothing in it depends on columns; the bytes while a segment runs are what is stored
whole, and the most that any of its strips holds and moves.

Cost: the columns of a segment follow from those of the segment without its first op; what it needs is evaluated for all
strips at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial

import numpy as np

from tinyir.geometry import Box, Span
from tinyir.ir import Array, Const, Func, Module, Value
from tinyir.opdef import Op
from tinyir.ops import Spatial, Transpose
from tinyir.row_schedule import RowSchedule, folds_rows
from tinyir.tiles import equal_parts, is_image, macs_basis, needed_box, tile_problem, whole_box

from ._patches import put_in_patch
from ._stream_ways import STEP, can_stream, may_wait, rate, row_schedule, row_stays, scratch_of
from ._tile_ops import part_type
from ._ways import Scene, Way, provides

__all__ = ["Strips", "strip_bytes", "strips", "strips_of"]

_COUNTS = (2, 3, 4, 5, 6, 8)
"""Numbers of strips that are tried."""
_BEGINS = np.cumsum((0, *_COUNTS[:-1]))
_EMPTY = Span(0, 0)


@dataclass
class Strips:
    """Which columns of each value of ops `first` ... are computed for each of 2, of 3, ... strips: 28 spans. Grows from
    the end. `starved` are the numbers of strips (by index) with one that has nothing to compute, or from nothing;
    `again` are the multiply-accumulates that are computed again, for each number of strips.
    """

    first: int
    spans: dict[Value, list[Span]] = field(default_factory=dict)
    starved: set[int] = field(default_factory=set)
    again: Array = field(default_factory=lambda: np.zeros(len(_COUNTS), np.int64))
    _widths: dict[Value, Array] = field(default_factory=dict)

    def widths(self, value: Value) -> Array:
        """The number of columns that are computed for each strip; 0 for what nobody needs."""
        if value not in self._widths:
            self._widths[value] = np.asarray([span.extent for span in self.spans.get(value, [_EMPTY] * sum(_COUNTS))])
        return self._widths[value]

    def share(self, value: Value) -> Array:
        """Columns that are computed in all strips together, for each number of strips."""
        return np.asarray(np.add.reduceat(self.widths(value), _BEGINS))

    def need(self, value: Value, spans: Sequence[Span]) -> None:
        """These columns of `value` are needed too."""
        known = self.spans.get(value)
        self._widths.pop(value, None)
        self.spans[value] = list(spans) if known is None else [a.hull(b) for a, b in zip(known, spans, strict=True)]

    def starve(self, spans: Sequence[Span]) -> None:
        """Note for which numbers of strips one of `spans` is empty."""
        least = np.minimum.reduceat(np.asarray([span.extent for span in spans]), _BEGINS)
        self.starved.update(int(index) for index in np.flatnonzero(least == 0))


def strips_of(scene: Scene, first: int, end: int) -> Strips | None:
    """The columns of a segment; None if it cannot run in strips. Segments with the same end are to be asked for one
    after the other, longer and longer.
    """
    known: dict[int, Strips | None] = scene.memo.setdefault("strips", {})
    found = known.get(end, Strips(end)) if end - first > 1 else Strips(end)
    if found is not None and found.first < first:
        found = Strips(end)
    while found is not None and found.first > first:
        found = _grown(scene, found, end)
    known[end] = found
    return found


def _grown(scene: Scene, strips: Strips, end: int) -> Strips | None:
    """The segment with one more op in front."""
    first = strips.first - 1
    op = scene.ops[first]
    if not can_stream(op) or not _can_be_cut(op, scene, first, end):
        return None
    if scene.memory.needed_behind(op.out, end):
        own = [span for count in _COUNTS for span in equal_parts(_width(op), count)]
        strips.starve(own)
        strips.need(op.out, own)
    if op.out in strips.spans:
        _need_operands(op, strips)
    macs = op.macs()
    if macs:
        value = macs_basis(op)
        strips.again += macs // value.shape[2] * strips.share(value) - macs
    strips.first = first
    return strips


def _can_be_cut(op: Op, scene: Scene, first: int, end: int) -> bool:
    """Whether the op, the first of a segment, can run in strips: so can the others, if they do not read it."""
    inside = {other for other in scene.ops[first:end] if other in op.out.users or isinstance(other, Transpose)} | {op}
    if isinstance(op, Transpose) and folds_rows(op):
        return not any(user in inside for user in op.out.users)
    turned = all(tile_problem(user, inside) is None for user in inside if isinstance(user, Transpose))
    return turned and not folds_rows(op) and tile_problem(op, inside) is None


def _turns_stored(scene: Scene, first: int, end: int) -> bool:
    """Whether the segment turns an image to NCHW that is computed before it."""
    turned = [op.x.op for op in scene.ops[first:end] if isinstance(op, Transpose) and folds_rows(op)]
    return any(op is None or scene.memory.place[op] < first for op in turned)


def _width(op: Op) -> int:
    """Columns of the image that the op makes, turned or not."""
    return op.x.shape[2] if isinstance(op, Transpose) and folds_rows(op) else op.out.shape[2]


def _need_operands(op: Op, strips: Strips) -> None:
    out = strips.spans[op.out]
    strips.starve(out)
    used: list[Span] | None = None
    if isinstance(op, Transpose) and folds_rows(op):
        strips.need(op.x, out)
    for index, value in enumerate(op.operands if isinstance(op, Spatial) else ()):
        if isinstance(op, Spatial) and value is not None and not isinstance(value, Const) and is_image(value):
            spans = [op.input_span(span, "columns", index) for span in out]
            strips.need(value, spans)
            used = spans if used is None else [a.hull(b) for a, b in zip(used, spans, strict=True)]
    if used is not None:
        strips.starve(used)


@provides("strips")
def strips(scene: Scene, first: int, end: int) -> Iterable[Way] | None:
    """Two ops or more, in 2 to 8 strips of columns, row by row."""
    found = strips_of(scene, first, end) if scene.recompute > 0 else None
    if found is None:
        return None
    if "macs" not in scene.memo:
        scene.memo["macs"] = sum(op.macs() for op in scene.ops)
    most = scene.recompute * scene.memo["macs"]
    if found.again.min() > most:
        return None
    good = [index for index in range(len(_COUNTS)) if found.again[index] <= most and index not in found.starved]
    if end - first < 2 or not good or _turns_stored(scene, first, end):
        return []
    segment = _Segment(scene, (first, end), found, tuple(int(macs) for macs in found.again))
    return _ways(segment, good, row_schedule(scene, first, end, scene.rows[0]), None)


@dataclass(frozen=True)
class _Segment:
    """Ops that can run in strips, and what is computed again for each number of them. `strips` may have grown since."""

    scene: Scene
    span: tuple[int, int]
    strips: Strips
    again: tuple[int, ...]


def _ways(segment: _Segment, good: Sequence[int], schedule: RowSchedule, waits: tuple[int, ...] | None) -> list[Way]:
    """The segment in numbers of strips (by index), rows by `schedule`; without `waits` patient ones are variants."""
    scene, span, strips = segment.scene, segment.span, segment.strips
    ops = scene.ops[slice(*span)]
    peaks, held = strip_bytes(scene, span, strips, schedule)
    works = [scene.work(op, rate(schedule, index)) for index, op in enumerate(ops)]
    widths = [strips.share(op.out) / _width(op) for op in ops]
    copied = [op.out.type.size_bytes // 2 if fresh else 0 for op, fresh in zip(ops, schedule.fresh, strict=True)]
    spent = sum((work.instructions + more) * width for work, more, width in zip(works, copied, widths, strict=True))
    found = []
    for index in good:
        count = _COUNTS[index]
        found.append(Way(
            *span, int(peaks[index]), int(held[index]),
            int(np.asarray(spent)[index]) + count * schedule.steps * len(ops) * STEP,
            macs=max(0, segment.again[index]), flash=min(count, 3) * sum(work.flash for work in works),
            text=f"{count} strips, rows {scene.rows[0]}",
            apply=partial(_apply, count, scene.rows[0], waits or ()),
            variants=partial(_patient_ways, segment, index) if waits is None else None))
    return found


def _patient_ways(segment: _Segment, index: int) -> list[Way]:
    """The same number of strips; rows wait for slower readers where that needs fewer bytes, tried op by op."""
    scene, span = segment.scene, segment.span
    ops = scene.ops[slice(*span)]
    waits: tuple[int, ...] = ()
    best = row_schedule(scene, *span, scene.rows[0])
    need = strip_bytes(scene, span, segment.strips, best)[0][index]
    for number in (ops.index(op) for op in may_wait(scene, *span, scene.rows[0])):
        trial = row_schedule(scene, *span, scene.rows[0], {ops[i] for i in (*waits, number)})
        found = strip_bytes(scene, span, segment.strips, trial)[0][index]
        if found < need:
            waits, best, need = (*waits, number), trial, found
    return _ways(segment, [index], best, waits) if waits else []


def _apply(count: int, rows: int, waits: tuple[int, ...], group: list[Op], func: Func, module: Module) -> None:
    put_in_patch((1, count), rows, waits, group, func, module)


def strip_bytes(scene: Scene, span: tuple[int, int], strips: Strips, schedule: RowSchedule) -> tuple[Array, Array]:
    """For each number of strips the most bytes that are live at one time while they run; and those that are held from
    one step to the next, with what is stored whole.
    """
    memory, ops = scene.memory, scene.ops[slice(*span)]
    whole = sum(memory.size(op.out) for op in ops if memory.needed_behind(op.out, span[1]))
    widths = np.stack([strips.widths(op.out) for op in ops])  # [ops, strips]
    held = np.zeros(len(ops), np.int64)
    flights = []  # of which op, bytes of a column, from which op on, up to which
    for index, (op, stay) in enumerate(zip(ops, row_stays(scene, *span, schedule), strict=True)):
        column = op.out.type.size_bytes // (op.out.shape[1] * op.out.shape[2]) if stay.moving and memory.size(op.out) \
            else 0
        held[index] = stay.held * column
        flights += [(index, rows * column, begin, last + 1) for rows, begin, last in stay.moving if column]
    change = np.zeros((len(ops) + 1, sum(_COUNTS)), np.int64)
    if flights:
        which, columns, begins, ends = np.asarray(flights).T
        moving = _aligned(columns[:, None] * widths[which], memory.align)
        np.add.at(change, begins, moving)
        np.subtract.at(change, ends, moving)
    rings = whole + _aligned(held[:, None] * widths, memory.align).sum(axis=0)
    live = memory.before[span[0]] + rings + np.cumsum(change, axis=0)[:-1]
    scratch = _aligned(_scratch(scene, ops, schedule, widths), memory.align)
    most = np.maximum(live, (live + scratch) * 100 // (100 + scene.spare)).max(axis=0)
    return np.maximum.reduceat(most, _BEGINS), np.maximum.reduceat(rings, _BEGINS)


def _scratch(scene: Scene, ops: Sequence[Op], schedule: RowSchedule, widths: Array) -> Array:
    """Bytes that the kernels of each op use while they compute so many columns of each row: between those for all and
    those for half of them, in proportion.
    """
    known: dict[tuple[Op, int, int], tuple[int, float]] = scene.memo.setdefault("scratch", {})
    found = np.zeros(widths.shape, np.int64)
    for index, op in enumerate(ops):
        key = op, *schedule.paces[index][:2]
        if key not in known:
            known[key] = _scratch_and_slope(scene, op, rate(schedule, index))
        bytes_, slope = known[key]
        if bytes_:
            found[index] = np.maximum(np.ceil(bytes_ - slope * (op.out.shape[2] - widths[index])), 0)
    return found


def _scratch_and_slope(scene: Scene, op: Op, rows: Fraction) -> tuple[int, float]:
    """Bytes for all columns, and for each of them."""
    whole, width = scratch_of(scene, op, rows), op.out.shape[2]
    half = scratch_of(scene, _half(op), rows) if whole and width > 1 else whole
    return whole, (whole - half) / max(1, width - width // 2)


def _half(op: Op) -> Op:
    """The op for the first half of the columns, on its own."""
    assert isinstance(op, Spatial)
    box = Box(whole_box(op.out).rows, Span(0, op.out.shape[2] // 2))
    given = [needed_box(op, box, index) if value is not None and is_image(value) else box
             for index, value in enumerate(op.operands)]
    operands = [value if value is None or isinstance(value, Const) or not is_image(value)
                else Value(part_type(value, part)) for value, part in zip(op.operands, given, strict=True)]
    following = iter(operands)
    groups = [[next(following) for _ in group] for group in op.operand_groups]
    made = type(op).build(groups, {**op.attrs, **(op.part_attrs(box, given) or {})}, [part_type(op.out, box)])
    made._unlink()  # the network is not to know of it: only its price is asked for
    return made


def _aligned(sizes: Array, align: int) -> Array:
    return -(-sizes // align) * align
