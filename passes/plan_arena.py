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

Greedy by size: the largest slot first, each at the lowest aligned offset that is free over its whole interval
(Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, section 4.2). Reports the size
reached (`peak-bytes`) beside the largest sum of sizes live at one time (`lower-bound-bytes`), which nothing can beat.
"""

from __future__ import annotations

from typing import ClassVar

from tinyir.diag import error
from tinyir.ir import Level, Module
from tinyir.ops import Slot
from tinyir.pass_manager import Context, Pass, option

from .liveness import Interval, Liveness, live_bytes


class PlanArena(Pass):
    """Place all slots in their arenas: largest first, lowest free offset."""

    name = "plan-arena"
    level: ClassVar[Level] = "mem"
    align: int = option(0, "alignment of every offset and of the arena, bytes, a power of two; 0: the target's")

    def run(self, module: Module, ctx: Context) -> None:
        align = self.align or ctx.target.align
        if align & (align - 1):
            raise error(f"plan-arena: the alignment should be a power of two, not {align}")
        intervals = ctx.analysis(Liveness, module)
        rewriter = self.rewriter(module, ctx)
        for arena in module.arenas.values():
            mine = tuple(i for i in intervals if i.slot.arena is arena)
            offsets = place(mine, align)
            for slot, offset in offsets.items():
                rewriter.set_attr(slot, offset=offset)
            arena.align = align
            arena.size = max((i.size + offsets[i.slot] for i in mine), default=0)
        ctx.stat("slots", len(intervals))
        ctx.stat("peak-bytes", sum(arena.size or 0 for arena in module.arenas.values()))
        ctx.stat("lower-bound-bytes", sum(live_bytes(intervals, arena) for arena in module.arenas.values()))


def place(intervals: tuple[Interval, ...], align: int) -> dict[Slot, int]:
    """An offset in bytes for each slot, a multiple of `align`, so that no two that meet overlap."""
    placed: list[tuple[int, Interval]] = []
    by_size = sorted(intervals, key=lambda i: (-i.size, i.func, i.first, i.last))
    for interval in by_size:
        placed.append((_lowest_fit(interval, placed, align), interval))
    return {interval.slot: offset for offset, interval in placed}


def _lowest_fit(interval: Interval, placed: list[tuple[int, Interval]], align: int) -> int:
    """The lowest offset at which `interval` meets none of `placed`."""
    taken = sorted((offset, offset + other.size) for offset, other in placed if interval.meets(other))
    offset = 0
    for begin, end in taken:
        if offset + interval.size <= begin:
            return offset
        offset = max(offset, -(-end // align) * align)
    return offset
