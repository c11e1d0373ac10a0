"""Places for the slots of an arena: as a problem of placement, and as a check of offsets that are given.

    slots that live at the same time      apart, but for
    pairs that slide over each other      at the least distance (`tinyir.overlap`)
    an operand and a result               at one place, if an element-wise kernel may work there (`tinyir.in_place`)

Kernels work in place where that makes the arena smaller: all that may, or, as two slots that become one block are
harder to place, only those without which more would be needed than is possible. Loops that are no harder to place than
another one, as strips are, take its places (`_twin_loops`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from tinyir.diag import CompileError, Diagnostic
from tinyir.in_place import in_place_pairs
from tinyir.ir import Arena, Module
from tinyir.ops import Slot
from tinyir.overlap import SlotPairs, least_distances
from tinyir.placement import DEFAULT_NODES, Block, Pairs, Placement, load, part_of, place, without_chains

from ._twin_loops import twins_of
from .liveness import Interval

__all__ = ["Sharing", "check_given", "place_slots", "sharing_of"]


@dataclass(frozen=True)
class Sharing:
    """Pairs of slots that may have bytes in common though they meet: (upper, lower) with a distance, (operand, result).
    And slots that may lie where another one does, whose places are harder to find.
    """

    distances: SlotPairs = field(default_factory=dict)
    in_place: Sequence[tuple[Slot, Slot]] = ()
    twins: Mapping[Slot, Slot] = field(default_factory=dict)


def sharing_of(module: Module, intervals: Sequence[Interval]) -> Sharing:
    """What the slots of a module may share."""
    distances: SlotPairs = {}
    in_place: list[tuple[Slot, Slot]] = []
    twins: dict[Slot, Slot] = {}
    for name, func in module.funcs.items():
        mine = [i for i in intervals if i.func == name]
        lives = {i.slot: (i.first, i.last) for i in mine}
        slide, same = least_distances(func.block, lives), in_place_pairs(func.block, lives)
        distances.update(slide)
        in_place += same
        for arena in module.arenas.values():
            twins.update(twins_of(func.block, [i for i in mine if i.slot.arena is arena], slide, same))
    return Sharing(distances, in_place, twins)


def place_slots(intervals: Sequence[Interval], align: int, nodes: int = DEFAULT_NODES,
                sharing: Sharing | None = None) -> Placement:
    """An offset in bytes for the slot of each interval. Functions of a module never run at the same time."""
    sharing = sharing or Sharing()
    searched = [i for i in intervals if i.slot not in sharing.twins]
    found = _placed(searched, align, nodes, sharing)
    offset = {i.slot: place for i, place in zip(searched, found.offsets, strict=True)}
    return replace(found, offsets=tuple(offset[sharing.twins.get(i.slot, i.slot)] for i in intervals))


def _placed(intervals: Sequence[Interval], align: int, nodes: int, sharing: Sharing) -> Placement:
    apart = _Problem.of(intervals, sharing, {})
    leader = _merged(intervals, sharing)
    if not leader:
        return apart.place(align, nodes)
    bound = apart.bound(align, sharing)
    needed = {slot for slot in leader if apart.load_at(slot, align) > bound}
    found = [apart.place(align, 0)]
    for chosen, effort in ((set(leader), nodes), (needed, nodes // 2)):
        if min(placement.peak for placement in found) > bound:
            merged = _merged(intervals, sharing, chosen)
            found.append(_Problem.of(intervals, sharing, merged).place(align, effort))
    best = min(found, key=lambda placement: placement.peak)
    return replace(best, lower_bound=bound, nodes=sum(placement.nodes for placement in found))


@dataclass(frozen=True)
class _Problem:
    """Blocks, the slots of each, and which blocks slide over each other."""

    intervals: Sequence[Interval]
    number: Mapping[Slot, int]
    blocks: Sequence[Block]
    pairs: Pairs

    @classmethod
    def of(cls, intervals: Sequence[Interval], sharing: Sharing, leader: Mapping[Slot, Slot]) -> _Problem:
        """Each slot has a block of its own, or that of its leader."""
        start = _starts(intervals)
        groups: dict[Slot, list[Interval]] = {}
        for interval in intervals:
            groups.setdefault(leader.get(interval.slot, interval.slot), []).append(interval)
        blocks = [Block(min(start[i.func] + i.first for i in group), max(start[i.func] + i.last + 1 for i in group),
                        max(i.size for i in group)) for group in groups.values()]
        number = {i.slot: n for n, group in enumerate(groups.values()) for i in group}
        return cls(intervals, number, blocks, _pairs(list(groups.values()), number, sharing.distances))

    def place(self, align: int, nodes: int) -> Placement:
        placement = _remembered(tuple(self.blocks), align, tuple(sorted(self.pairs.items())), nodes)
        return replace(placement, offsets=tuple(placement.offsets[self.number[i.slot]] for i in self.intervals))

    def load_at(self, slot: Slot, align: int) -> int:
        """The bytes that are needed when the op runs that is the first to need `slot`, if it does not work in place."""
        moment = self.blocks[self.number[slot]].lower
        alive = [n for n, block in enumerate(self.blocks) if block.lower <= moment < block.upper]
        return load([Block(0, 1, self.blocks[n].size) for n in alive], align, part_of(self.pairs, alive))

    def bound(self, align: int, sharing: Sharing) -> int:
        """What no placement beats, whichever kernels work in place."""
        same = {(self.number[a], self.number[b]): 0 for a, b in sharing.in_place if a in self.number}
        return load(self.blocks, align, {**self.pairs, **same})


@lru_cache(maxsize=64)
def _remembered(blocks: tuple[Block, ...], align: int, pairs: tuple[tuple[tuple[int, int], int], ...], nodes: int) \
        -> Placement:
    """`place`, remembered: schedules are placed when one is chosen, and the one that is taken once more."""
    return place(blocks, align, pairs=dict(pairs), nodes=nodes)


def _starts(intervals: Sequence[Interval]) -> dict[str, int]:
    """When each function begins, on a common time line."""
    start: dict[str, int] = {}
    end = 0
    for name in dict.fromkeys(i.func for i in intervals):
        start[name] = end
        end += 1 + max(i.last for i in intervals if i.func == name)
    return start


def _pairs(groups: Sequence[Sequence[Interval]], number: Mapping[Slot, int], distances: SlotPairs) \
        -> Pairs:
    """The distances of blocks: the most that any two of their slots need that meet. Where the smaller block would have
    less than half of its bytes in common with the other one, both stay apart: such pairs are many, and gain little.
    """
    found: dict[tuple[int, int], int] = {}
    for upper, lower in sorted({(number[a], number[b]) for a, b in distances if a in number and b in number}):
        needed = [distances.get((a.slot, b.slot), b.size) for a in groups[upper] for b in groups[lower] if a.meets(b)]
        sizes = [max(i.size for i in group) for group in (groups[upper], groups[lower])]
        if needed and 2 * min(sizes[0], sizes[1] - max(needed)) >= min(sizes):
            found[upper, lower] = max(needed)
    return without_chains(found)


def _merged(intervals: Sequence[Interval], sharing: Sharing, chosen: Collection[Slot] | None = None) \
        -> dict[Slot, Slot]:
    """For slots (those in `chosen`, or all) that take over the place of another: the first that had it. Of two operands
    the one that is taken that slides over nothing, or has been there for longer.
    """
    begin = {i.slot: i.first for i in intervals}
    sliding = {slot for pair in sharing.distances for slot in pair}
    leader: dict[Slot, Slot] = {}
    candidates = [(operand, result) for operand, result in sharing.in_place
                  if operand in begin and result in begin and (chosen is None or result in chosen)]
    for operand, result in sorted(candidates, key=lambda p: (begin[p[1]], p[0] in sliding, begin[p[0]])):
        leader.setdefault(result, leader.get(operand, operand))
    return leader


def check_given(intervals: Sequence[Interval], arena: Arena, sharing: Sharing) -> int:
    """See that offsets given by hand are right; the bytes that they use. Raises CompileError that names each pair of
    slots that share bytes while both are needed.
    """
    offsets = [(interval, interval.slot.offset or 0) for interval in intervals]
    problems = [text for index, one in enumerate(offsets) for other in offsets[:index]
                if (text := _shared(*other, *one, sharing))]
    if problems:
        raise CompileError((Diagnostic("error", f"plan-arena: slots of @{arena.name} overlap", notes=tuple(problems)),))
    arena.size = max(max(offset + interval.size for interval, offset in offsets), arena.size or 0)
    return arena.size


def _shared(one: Interval, here: int, other: Interval, there: int, sharing: Sharing) -> str:
    """What is wrong with the places of two slots, if anything is."""
    above = sharing.distances.get((one.slot, other.slot), other.size)
    below = sharing.distances.get((other.slot, one.slot), one.size)
    in_place = here == there and {(one.slot, other.slot), (other.slot, one.slot)} & set(sharing.in_place)
    if not one.meets(other) or here - there >= above or there - here >= below or in_place:
        return ""
    first, second = (f"%{interval.slot.out.name}" for interval in (one, other))
    return f"{first} begins at byte {here} and {second} at byte {there}, and both are needed at the same time:" \
           f" expected {first} at least {above} bytes above {second}, or {second} at least {below} above {first}"
