"""What overlap saves in a stream, told from its schedule before anything is lowered (see `overlap` for what it is).

    forecast = StreamOverlap(ops, schedule, needs)
    forecast.distance(a, b)                   %a has to begin 64 bytes above %b at least, or not below its end
    forecast.saved([(a, 768)], [(b, 768)])    704 of the 1536 bytes of both

The group reads %a, which is stored whole and dies in it, and computes %b, which is stored whole. Cost: O(rows) for each
op that reads %a.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .ir import Array, Value
from .opdef import Op
from .ops.shape import Slice
from .row_schedule import RowNeeds, RowSchedule, folds_rows, has_rows, work_rows

__all__ = ["StreamOverlap", "least_height"]

_DEAD = 1 << 48
_MOST = 5
"""So many stored values are put in every order; of more only the best two slide over each other."""

Stored = Sequence[tuple[Value, int]]
"""Values that are stored whole, and the bytes of each."""


@dataclass(frozen=True)
class StreamOverlap:
    """A group of ops that run row by row by `schedule`; `needs` says which rows need which."""

    ops: Sequence[Op]
    schedule: RowSchedule
    needs: RowNeeds

    def distance(self, consumed: Value, produced: Value) -> int | None:
        """How many bytes `consumed`, which no op behind the group reads, has to begin above `produced`, which an op of
        the group computes; less than 0 if it may begin below. None if they are needed in full at the same time.
        """
        writer = next((i for i, op in enumerate(self.ops) if op.out is produced), None)
        if writer is None or folds_rows(self.ops[writer]) or not (_is_image(produced) and _is_image(consumed)):
            return None
        readers = [place for place, op in enumerate(self.ops) if consumed in op.reads]
        wait, known = self.schedule.paces[writer].start, self.needs.memo
        key = ("distance", consumed, produced, *((self.ops[place], place < writer, self.schedule.paces[place].earlier(
            wait)) for place in (writer, *readers)))
        if key not in known:
            known[key] = self._distance(consumed, produced, writer)
        found: int | None = known[key]
        return found

    def _distance(self, consumed: Value, produced: Value, writer: int) -> int | None:
        pace, height = self.schedule.paces[writer], produced.shape[1]
        steps = np.arange(self.schedule.steps)
        done, needed = pace.done_array(steps + 1, height), self._first_needed(consumed, writer, steps)
        if needed is None:
            return None
        writes = (done > pace.done_array(steps, height)) & (needed < _DEAD)
        above = (done * _pitch(produced) - needed * _pitch(consumed))[writes]
        return int(above.max()) if len(above) else 0

    def _first_needed(self, value: Value, writer: int, steps: Array) -> Array | None:
        """For each step, the first row of `value` that is read when op number `writer` runs in it, or later."""
        first = np.full(len(steps), _DEAD)
        readers = [(place, op) for place, op in enumerate(self.ops) if value in op.reads]
        for place, op in readers:
            for operand in (i for i, v in enumerate(op.operands) if v is value):
                needs = self.needs.of(op, operand)
                if needs is None or isinstance(op, Slice):  # that is no kernel: others read where it lies
                    return None
                next_row = self.schedule.paces[place].done_array(steps + (place < writer), work_rows(op))
                first = np.minimum(first, np.append(needs.first, _DEAD)[next_row])
        return first if readers else None  # something reads it under another shape

    def saved(self, consumed: Stored, produced: Stored, align: int = 1) -> int:
        """Of the bytes of all these values those that overlap saves, with offsets that are multiples of `align`."""
        pairs: dict[tuple[int, int], int] = {}
        for i, (upper, _) in enumerate(consumed):
            for j, (lower, size) in enumerate(produced, len(consumed)):
                distance = self.distance(upper, lower) if size else None
                if distance is not None and distance < size:
                    pairs[i, j] = -(-max(0, distance) // align) * align
        sizes = [size for _, size in (*consumed, *produced)]
        return sum(sizes) - least_height(sizes, pairs) if pairs else 0


def least_height(sizes: Sequence[int], pairs: dict[tuple[int, int], int]) -> int:
    """The bytes that blocks need that are all there at one time; for a pair (upper, lower), block `upper` may begin so
    many bytes above the beginning of `lower`, or else behind its end.
    """
    if len(sizes) > _MOST:
        return sum(sizes) - max((min(sizes[j] - distance, sizes[i]) for (i, j), distance in pairs.items()), default=0)
    sliding = sorted({block for pair in pairs for block in pair})  # the others are best put below them
    number = {block: index for index, block in enumerate(sliding)}
    some = tuple(sizes[block] for block in sliding)
    inner = tuple((number[upper], number[lower], distance) for (upper, lower), distance in sorted(pairs.items()))
    return sum(sizes) - sum(some) + _height(some, inner)


@lru_cache(maxsize=4096)
def _height(sizes: tuple[int, ...], pairs: tuple[tuple[int, int, int], ...]) -> int:
    """The same for a few blocks; remembered, since segments that begin or end alike ask for the same."""
    return _lowest(sizes, {(upper, lower): distance for upper, lower, distance in pairs}, {}, 0, sum(sizes))


def _lowest(sizes: Sequence[int], pairs: dict[tuple[int, int], int], begin: dict[int, int], height: int, best: int) \
        -> int:
    """The least height, below `best`, of all orders that go on from blocks that `begin` there, each block as low as
    those before it allow; `best` where there is none.
    """
    if len(begin) == len(sizes):
        return height
    for block in range(len(sizes)):
        if block not in begin:
            at = max((low + pairs.get((block, other), sizes[other]) for other, low in begin.items()), default=0)
            if (top := max(height, at + sizes[block])) < best:
                best = _lowest(sizes, pairs, {**begin, block: at}, top, best)
    return best


def _is_image(value: Value) -> bool:
    return has_rows(value) and value.shape[1] > 1


def _pitch(value: Value) -> int:
    return value.type.size_bytes // value.shape[1]
