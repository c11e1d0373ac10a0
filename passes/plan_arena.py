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

Greedy: one slot after the other, each at the lowest aligned offset that is free over its whole interval; the largest
first (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, section 4.2), then in a few
other orders unless that is optimal; the smallest arena wins. Reports its size (`peak-bytes`) beside the largest sum of
sizes live at one time (`lower-bound-bytes`), which nothing can beat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from tinyir.diag import error
from tinyir.ir import Level, Module
from tinyir.ops import Slot
from tinyir.pass_manager import Context, Pass, option

from .liveness import Interval, Liveness, live_bytes


class PlanArena(Pass):
    """Place all slots in their arenas, greedily: each at the lowest free offset, the largest first."""

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
            arena.align, arena.size = align, _extent(mine, offsets)
        ctx.stat("slots", len(intervals))
        ctx.stat("peak-bytes", sum(arena.size or 0 for arena in module.arenas.values()))
        ctx.stat("lower-bound-bytes", sum(live_bytes(intervals, arena) for arena in module.arenas.values()))


def place(intervals: tuple[Interval, ...], align: int) -> dict[Slot, int]:
    """An offset in bytes for each slot, a multiple of `align`, so that no two that meet overlap."""
    bound = live_bytes(intervals)
    best: dict[Slot, int] = {}
    for key in _ORDERS:
        offsets = _place_in_order(sorted(intervals, key=key), align)
        if not best or _extent(intervals, offsets) < _extent(intervals, best):
            best = offsets
        if _extent(intervals, best) <= bound:
            break
    return best


_ORDERS: tuple[Callable[[Interval], tuple[int, ...]], ...] = (
    lambda i: (-i.size, i.first, i.last),
    lambda i: (-i.size, i.last - i.first, -i.first),
    lambda i: (-i.size, i.first - i.last, i.first),
    lambda i: (-i.size * (i.last - i.first + 1), i.first),
    lambda i: (i.first, -i.size),
    lambda i: (-i.last, -i.size),
    lambda i: (i.first - i.last, -i.size, i.first),
)


def _extent(intervals: tuple[Interval, ...], offsets: dict[Slot, int]) -> int:
    """Where the last byte ends."""
    return max((i.size + offsets[i.slot] for i in intervals), default=0)


def _place_in_order(intervals: list[Interval], align: int) -> dict[Slot, int]:
    placed: list[tuple[int, Interval]] = []
    for interval in intervals:
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
