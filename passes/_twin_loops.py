"""Loops of which one is no harder to place than another: its slots lie where those of the other one do.

    mem.loop() {steps = 28} { ... %ring_t0_0 ... }     strip 0: rings of 25 columns
    mem.loop() {steps = 28} { ... %ring_t0_1 ... }     strip 1: rings of 26 columns, and the same calls
        ->
    {%ring_t0_0: %ring_t0_1, ...}                      only those of strip 1 are searched for

Strips are alike, and many: without their twins a problem of placement has a third of its slots. Nothing is lost by it:
loop A has a twin B where the slots of both are needed between the same calls, and each of A has no more bytes than its
twin, meets no slot from outside that its twin does not meet, and slides under and over others, and takes their place,
as its twin does. Any places for the slots of B, and of the rest, are then right for those of A too.

Cost: O(k^2 n m) for k loops with as many calls and n slots each, m of others that live while they run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from tinyir.ir import Block
from tinyir.ops import Slot
from tinyir.ops.mem import Loop
from tinyir.overlap import SlotPairs

from .liveness import Interval

__all__ = ["twins_of"]

InPlace = Collection[tuple[Slot, Slot]]


def twins_of(block: Block, intervals: Sequence[Interval], distances: SlotPairs, in_place: InPlace) -> dict[Slot, Slot]:
    """For the slots of loops that have a twin, those of it, which have none; `intervals` are the slots of a function
    in one arena.
    """
    loops = [_Loop.of(span, intervals, distances, in_place) for span in _spans(block)]
    twin: dict[int, int] = {}
    for number, loop in enumerate(loops):
        others = (n for n, other in enumerate(loops) if n != number and n not in twin and other.covers(loop))
        found = next(others, None) if loop.slots else None
        if found is not None:
            twin[number] = found
    places: dict[Slot, Slot] = {}
    for number in twin:
        last = number
        while last in twin:
            last = twin[last]
        places.update((a.slot, b.slot) for a, b in zip(loops[number].slots, loops[last].slots, strict=True))
    return places


def _spans(block: Block) -> Iterator[tuple[int, int]]:
    """The numbers of the first and of the last op of each outermost loop, counted as `Block.walk` does."""
    for number, op in enumerate(block.walk()):
        if isinstance(op, Loop) and op.block is block:
            yield number, number + sum(1 for region in op.regions for _ in region.walk())


@dataclass(frozen=True)
class _Loop:
    """The slots that nothing but one loop uses, by when they are needed; what they may share, and who else is there."""

    begin: int
    slots: tuple[Interval, ...]
    others: tuple[Interval, ...]
    distances: SlotPairs
    in_place: InPlace

    @staticmethod
    def of(span: tuple[int, int], intervals: Sequence[Interval], distances: SlotPairs, in_place: InPlace) -> _Loop:
        slots = sorted((i for i in intervals if span[0] <= i.first and i.last <= span[1]),
                       key=lambda i: (i.first, i.last))
        mine = {i.slot for i in slots}
        others = [i for i in intervals if i.first <= span[1] and span[0] <= i.last and i.slot not in mine]
        return _Loop(span[0], tuple(slots), tuple(others),
                     {pair: distance for pair, distance in distances.items() if not mine.isdisjoint(pair)},
                     frozenset(pair for pair in in_place if not mine.isdisjoint(pair)))

    @cached_property
    def shape(self) -> tuple[tuple[int, int], ...]:
        """When each slot is needed, from the first op of the loop on."""
        return tuple((i.first - self.begin, i.last - self.begin) for i in self.slots)

    @cached_property
    def met(self) -> tuple[frozenset[Slot], ...]:
        """For each slot those from outside that are needed at the same time."""
        return tuple(frozenset(other.slot for other in self.others if other.meets(i)) for i in self.slots)

    def covers(self, other: _Loop) -> bool:
        """Whether places for the slots of this loop are right for those of the other one."""
        if self.shape != other.shape or any(a.size > b.size for a, b in zip(other.slots, self.slots, strict=True)):
            return False
        if not all(a <= b for a, b in zip(other.met, self.met, strict=True)):
            return False
        same = {b.slot: a.slot for a, b in zip(other.slots, self.slots, strict=True)}

        def moved(pair: tuple[Slot, Slot]) -> tuple[Slot, Slot]:
            return same.get(pair[0], pair[0]), same.get(pair[1], pair[1])

        close = all(other.distances.get(moved(pair), _FAR) <= distance for pair, distance in self.distances.items())
        return close and all(moved(pair) in other.in_place for pair in self.in_place)


_FAR = 1 << 60
