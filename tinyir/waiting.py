"""What may lie where fresh rows are to come, while some of them wait for their ring already.

    mem.loop() {steps = 176} {
      k.conv2d_s8(%x) -> (%a) {..., pace = [1, 1, 0]}                               every step
      k.conv2d_s8(%a) -> (%b_row) {..., pace = [1, 1, 0], fresh = y, keep = [2, 1]}  every step, to a place for two rows
      %b = mem.join(%ring, %b_row)
      k.depthwise_conv2d_s8(%b) -> (%c) {..., stride = [2, 2], pace = [1, 2, -1]}    every other step
      k.keep_rows(%b_row) -> (%ring) {...}                                           then, too
      mem.next()
    }

    step 0    %a            row 0 of %b_row is written
    step 1    %a meanwhile row 0 waits; row 1 is written; both are read, and go to the ring

When %a is needed, one row of %b_row is at most. So %a may begin one row above its beginning, where the other row will
be. That is told for each op of the loop: the rows that lie there, at most, while it runs in whatever step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from .ir import Array, Value
from .loops import base_of
from .ops.mem import Join, Loop, Slot
from .pace import Keep, Pace

__all__ = ["rows_there", "waiting_distances"]


def rows_there(pace: Pace, height: int, keep: Keep, writer: int, last: int, runs: Callable[[int], Array], count: int) \
        -> list[int]:
    """For each of `count` ops of a loop, how many fresh rows of `height` lie in their place at most while it runs.

    Op number `writer` computes them at `pace`, `last` is the last that needs them there, which in the steps that `keep`
    says are gone behind it. `runs(n)` are the steps in which op number n runs.
    """
    every, phase = keep

    def there(place: int) -> int:
        steps = runs(place)
        done = pace.done_array(steps + (place >= writer), height)
        kept = pace.done_array(steps - (steps - 1 - phase) % every, height)
        gone = (steps % every == phase) & (place > last)
        return int(np.where(gone, 0, done - kept).max(initial=0))

    return [there(place) for place in range(count)]


def waiting_distances(loop: Loop, number: int, lives: Mapping[Slot, tuple[int, int]]) \
        -> Iterator[tuple[tuple[Slot, Slot], int]]:
    """Pairs (upper, lower) of slots, and the least distance of their offsets in bytes: the lower ones are places for
    fresh rows of which some wait. The loop is op number `number` of the function; `lives` has the numbers of the ops
    between which each slot is needed.
    """
    count = len(loop.body)
    inside = {slot: (first - number - 1, last - number - 1) for slot, (first, last) in lives.items()
              if number < first and last <= number + count}
    for lower, there in _places(loop):
        pitch = lower.out.type.size_bytes // lower.out.type.shape[1]
        for upper, (first, last) in inside.items():
            distance = max(there[first:last + 1]) * pitch
            if upper is not lower and upper.arena is lower.arena and distance < lower.out.type.size_bytes:
                yield (upper, lower), distance


def _places(loop: Loop) -> Iterator[tuple[Slot, list[int]]]:
    """The places for fresh rows that wait, and for each op of the loop the rows that are there while it runs."""
    body = loop.body
    joins = {slot: join for join in body if isinstance(join, Join) and join.keep[0] > 1
             and (slot := base_of(join.fresh).defining(Slot)) is not None}
    known: dict[int, Array] = {}

    def runs(place: int) -> Array:
        if place not in known:
            op = body[place]
            steps = () if op.results else (step for step in range(loop.steps) if op.at_step(step) is not None)
            known[place] = np.asarray(list(steps), np.int64)
        return known[place]

    for slot, join in joins.items():
        writers = [place for place, op in enumerate(body) if _uses(slot, op.writes)]
        takes = [place for place, op in enumerate(body) if _uses(slot, op.reads) and join.ring in op.writes]
        if len(writers) == len(takes) == 1:
            yield slot, rows_there(Pace(*join.pace), join.height, join.keep, writers[0], takes[0], runs, len(body))


def _uses(slot: Slot, values: Sequence[Value]) -> bool:
    return any(base_of(value).defining(Slot) is slot for value in values)
