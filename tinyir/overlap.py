"""Which slots may share bytes although they are needed at the same time, and how far apart they have to be.

In a loop over rows one tensor is consumed from the first row on while another one is made of it. Rows that nobody reads
any more may be overwritten, so the new tensor slides under the old one:

    mem.loop() {steps = 49} {
      k.conv2d_s8(%a, @w1, ...) -> (%ring) {..., pace = [1, 1, 0]}       step t reads rows t - 1 ... t + 1 of %a
      k.conv2d_s8(%ring, @w2, ...) -> (%b) {..., pace = [1, 1, -1]}      step t writes row t - 1 of %b
      mem.next()
    }

    bytes of %b that are written        |bbbbbbbbbb.......|
    bytes of %a that are still read          |.......aaaaaaaaaaaaaaaa|        %a begins `distance` bytes above %b

A ring that is not needed to the end, or not from the beginning, lets others slide likewise.

The distance is the most, over all calls of the loop, of (end of the bytes of %b that are written behind the call) minus
(begin of the bytes of %a that are read in the call or later): a call never writes what it reads itself, in whatever
order it goes. It is exact for calls, from the rows that each of them reads and writes in each step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .ir import Array, Block, Value
from .loops import bases_of
from .opdef import Op
from .ops.mem import Loop, Slot, View, Window
from .waiting import waiting_distances

__all__ = ["SlotPairs", "least_distances"]

SlotPairs = dict[tuple[Slot, Slot], int]
"""(upper, lower) slot: the least offset of the upper minus that of the lower, bytes, if less than the lower is long."""

Lives = Mapping[Slot, tuple[int, int]]
"""By slot: the numbers of the first and of the last op of the function that need it, counted as `Block.walk` does."""


def least_distances(block: Block, lives: Lives) -> SlotPairs:
    """The pairs of slots of a function that slide over each other in one of its loops, and live together only there."""
    found: SlotPairs = {}
    for number, op in enumerate(block.walk()):
        if isinstance(op, Loop) and op.block is block:
            end = number + sum(1 for region in op.regions for _ in region.walk())
            found.update(_distances_in(op, number, end, lives))
            for pair, distance in waiting_distances(op, number, lives):
                found[pair] = min(distance, found.get(pair, distance))
    return found


def _distances_in(loop: Loop, number: int, end: int, lives: Lives) -> Iterator[tuple[tuple[Slot, Slot], int]]:
    """The pairs that live together between ops `number` and `end`, which are those of `loop`, and nowhere else."""
    fronts = {slot: uses.front(before=lives[slot][0] < number, behind=lives[slot][1] > end)
              for slot, uses in _uses(loop).items() if slot in lives}
    for upper, front in fronts.items():
        for lower, other in fronts.items():
            together = max(lives[upper][0], lives[lower][0]), min(lives[upper][1], lives[lower][1])
            inside = number <= together[0] <= together[1] <= end
            distance = max(0, int((other.end - front.begin).max()))
            if upper is not lower and upper.arena is lower.arena and inside and distance < lower.out.type.size_bytes:
                yield (upper, lower), distance


_NEVER = 1 << 48


@dataclass
class _Uses:
    """What the calls of a loop, counted over all steps, read and write of a slot of `size` bytes."""

    size: int
    calls: int
    uses: list[tuple[int, int, int]] = field(default_factory=list)  # call, begin and end of the bytes

    def front(self, before: bool, behind: bool) -> _Front:
        """The bytes that are needed while each call runs: from the call that writes them first, or from the beginning
        if the slot is written `before` the loop, to the last that reads them, or to the end if that is `behind` it.
        """
        marks = sorted({0, self.size, *(mark for use in self.uses for mark in use[1:])})
        place = {mark: index for index, mark in enumerate(marks)}
        count = len(marks) - 1
        first, last = np.full(count, 0 if before else _NEVER), np.full(count, self.calls - 1 if behind else -1)
        for call, begin, end in self.uses:
            part = slice(place[begin], place[end])
            first[part], last[part] = np.minimum(first[part], call), np.maximum(last[part], call)
        front = _Front(np.full(self.calls, _NEVER), np.full(self.calls, -_NEVER))
        for index in np.flatnonzero(first <= last).tolist():
            span = slice(first[index], last[index] + 1)
            front.begin[span] = np.minimum(front.begin[span], marks[index])
            front.end[span] = np.maximum(front.end[span], marks[index + 1])
        return front


class _Front(NamedTuple):
    """For each call of a loop: the bytes of a slot that are needed while it runs, from `begin` to `end` - 1."""

    begin: Array
    end: Array


def _uses(loop: Loop) -> dict[Slot, _Uses]:
    """What the calls of a loop use of slots: rows, where each has the place that it has in the whole tensor; all of a
    slot else, as of rings, from the first call that uses it to the last.
    """
    body = [op for op in loop.body if not op.results]  # those with results are views of some kind, and no calls
    uses: dict[Slot, _Uses] = {}
    others: set[Slot] = set()
    for step in range(loop.steps):
        for place, op in enumerate(body):
            now = op.at_step(step)
            for value, rows in _rows_used(op, now) if now is not None else ():
                bytes_ = None if rows is None else _bytes_of(value, rows)
                whole = [(slot, 0, base.type.size_bytes) for base in bases_of(value)
                         if (slot := base.defining(Slot)) is not None]
                others.update(slot for slot, *_ in whole if bytes_ is None)
                for slot, begin, end in whole if bytes_ is None else [bytes_]:
                    known = uses.setdefault(slot, _Uses(slot.out.type.size_bytes, loop.steps * len(body)))
                    if begin < end:
                        known.uses.append((step * len(body) + place, begin, end))
    for slot in others:
        found = uses[slot].uses
        uses[slot].uses = [(found[0][0], 0, uses[slot].size), (found[-1][0], 0, uses[slot].size)]
    return uses


def _rows_used(op: Op, now: Op) -> Iterator[tuple[Value, tuple[int, int] | None]]:
    """What the op, which is `now` in a step, reads and writes, and which rows of it; None: perhaps all of it."""
    spans = getattr(now, "input_rows", None)
    names: tuple[str, ...] = getattr(now, "rings", ()) if spans is not None and now is not op else ()
    ringed = [getattr(now, name) for name in names]
    rows: tuple[int, int] = now.attrs.get("rows", (0, 0))
    for value in now.writes:
        yield value, rows if value in ringed else None
    for value in now.reads:
        yield value, spans(rows) if spans is not None and value in ringed else None


def _bytes_of(value: Value, rows: tuple[int, int]) -> tuple[Slot, int, int] | None:
    """The slot of which `value` has these rows, and the bytes that they are, or whole rows of which they are a part;
    None if it is a ring, or no slot.
    """
    type_, base = value.type, value
    if (window := value.defining(Window)) is not None and type_.rank == 4:
        above = window.begin[1]
        return _bytes_of(window.x, (rows[0] + above, rows[1] + above)) if rows[1] <= type_.shape[1] else None
    while (view := base.defining(View)) is not None:
        base = view.x
    slot = base.defining(Slot)
    if slot is None or type_.rank != 4 or type_.shape[0] != 1 or rows[1] > type_.shape[1]:
        return None
    pitch = type_.size_bytes // type_.shape[1]
    return (slot, rows[0] * pitch, rows[1] * pitch) if pitch * type_.shape[1] == type_.size_bytes else None
