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
nodes. In a loop, what is made of rows slides under what has those rows (`tinyir.overlap`); element-wise kernels write
where their operand lies, if that makes the arena smaller (`tinyir.in_place`). Reports the size of the arena
(`peak-bytes`) beside what is proved to be the least possible (`lower-bound-bytes`); a remark says "optimal", or the
gap.

Offsets that are there already, given by hand, are checked and kept: all those of an arena, or none.
"""

from __future__ import annotations

from typing import ClassVar

from tinyir.diag import error
from tinyir.ir import Arena, Level, Module
from tinyir.pass_manager import Context, Pass, option
from tinyir.placement import DEFAULT_NODES

from ._slot_places import check_given, place_slots, sharing_of
from .liveness import Interval, Liveness


class PlanArena(Pass):
    """Place all slots in their arenas, which become as small as an exact search can make them."""

    name = "plan-arena"
    level: ClassVar[Level] = "mem"
    align: int = option(0, "least alignment of offsets and of the arena, bytes, a power of two; 0: the target's")
    nodes: int = option(DEFAULT_NODES, "how far the exact search may go where greedy orders are not enough")

    def run(self, module: Module, ctx: Context) -> None:
        align = self.align or ctx.target.align
        if align & (align - 1):
            raise error(f"plan-arena: the alignment should be a power of two, not {align}")
        intervals = ctx.analysis(Liveness, module)
        sharing = sharing_of(module, intervals)
        rewriter = self.rewriter(module, ctx)
        bound = 0
        for arena in module.arenas.values():
            mine = [i for i in intervals if i.slot.arena is arena]
            if _are_given(mine, arena):
                bound += check_given(mine, arena, sharing)
                continue
            aligned = max([align, *(i.slot.out.type.dtype.bits // 8 for i in mine)])
            placement = place_slots(mine, aligned, self.nodes, sharing)
            for interval, offset in zip(mine, placement.offsets, strict=True):
                rewriter.set_attr(interval.slot, offset=offset)
            arena.align, arena.size = aligned, placement.peak
            bound += placement.lower_bound
            ctx.remark(f"plan-arena: {placement} for {len(mine)} slots in @{arena.name}")
        ctx.stat("slots", len(intervals))
        ctx.stat("peak-bytes", sum(arena.size or 0 for arena in module.arenas.values()))
        ctx.stat("lower-bound-bytes", bound)


def _are_given(intervals: list[Interval], arena: Arena) -> bool:
    """Whether the slots have offsets. Raises CompileError if only some of them have."""
    without = [i.slot for i in intervals if i.slot.offset is None]
    if not without or len(without) == len(intervals):
        return bool(intervals) and not without
    raise error(f"plan-arena: slot %{without[0].out.name} of @{arena.name} has no offset, others have",
                loc=without[0].loc, help="give offsets to all slots of an arena, or to none of them")
