"""Give every slot its place: offsets such that slots that live at the same time do not overlap.

    arena @arena
    %a = mem.slot(@arena) : buffer<1x16x16x8xf32>                // live [1, 3]
    %b = mem.slot(@arena) : buffer<1x16x16x4xf32>                // live [3, 5]
    %c = mem.slot(@arena) : buffer<1x16x16x8xf32>                // live [5, 7]
        ->
    arena @arena {size = 12288}
    %a = mem.slot(@arena) {offset = 0} : buffer<1x16x16x8xf32>
    %b = mem.slot(@arena) {offset = 8192} : buffer<1x16x16x4xf32>
    %c = mem.slot(@arena) {offset = 0} : buffer<1x16x16x8xf32>

The smallest arena that there is, found by `tinyir.placement`: greedy orders, then an exact search within a budget of
nodes. In a loop, what is made of rows slides under what has those rows (`tinyir.overlap`). Reports the size of the
arena (`peak-bytes`) beside what is proved to be the least possible (`lower-bound-bytes`); a remark says "optimal", or
the gap.

Offsets that are there already, given by hand, are checked and kept: all those of an arena, or none.
"""

from __future__ import annotations

from typing import ClassVar

from tinyir.diag import CompileError, Diagnostic, error
from tinyir.ir import Arena, Level, Module
from tinyir.overlap import SlotPairs, least_distances
from tinyir.pass_manager import Context, Pass, option
from tinyir.placement import DEFAULT_NODES, Block, Placement, place

from .liveness import Interval, Liveness


class PlanArena(Pass):
    """Place all slots in their arenas, which become as small as an exact search can make them."""

    name = "plan-arena"
    level: ClassVar[Level] = "mem"
    align: int = option(0, "alignment of every offset and of the arena, bytes, a power of two; 0: the target's")
    nodes: int = option(DEFAULT_NODES, "how far the exact search may go where greedy orders are not enough")

    def run(self, module: Module, ctx: Context) -> None:
        align = self.align or ctx.target.align
        if align & (align - 1):
            raise error(f"plan-arena: the alignment should be a power of two, not {align}")
        intervals = ctx.analysis(Liveness, module)
        distances: SlotPairs = {}
        for name, func in module.funcs.items():
            distances.update(least_distances(func.block, {i.slot: (i.first, i.last) for i in intervals
                                                          if i.func == name}))
        rewriter = self.rewriter(module, ctx)
        bound = 0
        for arena in module.arenas.values():
            mine = [i for i in intervals if i.slot.arena is arena]
            if _are_given(mine, arena):
                bound += _check_given(mine, arena, distances)
                continue
            placement = place_slots(mine, align, self.nodes, distances)
            for interval, offset in zip(mine, placement.offsets, strict=True):
                rewriter.set_attr(interval.slot, offset=offset)
            arena.align, arena.size = align, placement.peak
            bound += placement.lower_bound
            ctx.remark(f"plan-arena: {placement} for {len(mine)} slots in @{arena.name}")
        ctx.stat("slots", len(intervals))
        ctx.stat("peak-bytes", sum(arena.size or 0 for arena in module.arenas.values()))
        ctx.stat("lower-bound-bytes", bound)


def place_slots(intervals: list[Interval], align: int, nodes: int = DEFAULT_NODES,
                distances: SlotPairs | None = None) -> Placement:
    """An offset in bytes for the slot of each interval. Functions of a module never run at the same time."""
    start: dict[str, int] = {}  # of each function on a common time line
    end = 0
    for name in dict.fromkeys(i.func for i in intervals):
        start[name] = end
        end += 1 + max(i.last for i in intervals if i.func == name)
    blocks = [Block(start[i.func] + i.first, start[i.func] + i.last + 1, i.size) for i in intervals]
    number = {interval.slot: index for index, interval in enumerate(intervals)}
    pairs = {(number[upper], number[lower]): distance for (upper, lower), distance in (distances or {}).items()
             if upper in number and lower in number}
    return place(blocks, align, pairs=pairs, nodes=nodes)


def _are_given(intervals: list[Interval], arena: Arena) -> bool:
    """Whether the slots have offsets. Raises CompileError if only some of them have."""
    without = [i.slot for i in intervals if i.slot.offset is None]
    if not without or len(without) == len(intervals):
        return bool(intervals) and not without
    raise error(f"plan-arena: slot %{without[0].out.name} of @{arena.name} has no offset, others have",
                loc=without[0].loc, help="give offsets to all slots of an arena, or to none of them")


def _check_given(intervals: list[Interval], arena: Arena, distances: SlotPairs) -> int:
    """See that offsets given by hand are right; the bytes that they use. Raises CompileError that names each pair of
    slots that share bytes while both are needed.
    """
    offsets = [(interval, interval.slot.offset or 0) for interval in intervals]
    problems = [text for index, one in enumerate(offsets) for other in offsets[:index]
                if (text := _shared(*other, *one, distances))]
    if problems:
        raise CompileError((Diagnostic("error", f"plan-arena: slots of @{arena.name} overlap", notes=tuple(problems)),))
    end = max(offset + interval.size for interval, offset in offsets)
    arena.size = max(end, arena.size or 0)
    return arena.size


def _shared(one: Interval, here: int, other: Interval, there: int, distances: SlotPairs) -> str:
    """What is wrong with the places of two slots, if anything is."""
    above = distances.get((one.slot, other.slot), other.size)
    below = distances.get((other.slot, one.slot), one.size)
    if not one.meets(other) or here - there >= above or there - here >= below:
        return ""
    first, second = (f"%{interval.slot.out.name}" for interval in (one, other))
    return f"{first} begins at byte {here} and {second} at byte {there}, and both are needed at the same time:" \
           f" expected {first} at least {above} bytes above {second}, or {second} at least {below} above {first}"
