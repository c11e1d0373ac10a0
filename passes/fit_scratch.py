"""Give each kernel as much scratch memory as there is beside what lives while it runs.

    %c = mem.slot(@arena) : buffer<1152xu32>                             4,608 bytes for columns of four pixels
    k.conv2d_dsp(%x, @w.stream) -> (%y, %c) {sizes = [4], ...}           4,096 bytes more live here, 9,024 elsewhere
        ->
    %c = mem.slot(@arena) : buffer<1152xu32>                             stays: 8,704 bytes fit
    ...
    %d = mem.slot(@arena) : buffer<288xu32>
    k.conv2d_dsp(%x, @w.stream) -> (%y, %d) {sizes = [4], ...}           where 9,024 bytes live
        ->
    %d = mem.slot(@arena) : buffer<144xu32>
    k.conv2d_dsp(%x, @w.stream) -> (%y, %d) {sizes = [2], ...}

Kernels say how they can be tiled (`Op.tilings`), the fastest way first. Everything but the scratch that can be chosen
is placed; `percent` more than that, or `limit` bytes if there is one, is what the arena may take. A kernel gets the
fastest tiling whose scratch fits beside the bytes that are in use while it runs, or the smallest where none fits.

The module's attribute `scratch`, where `schedule` has left one, says what counts: `full`, and all stays as it is; a
number of bytes that the arena may take; or `least`, as if there were none.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tinyir.ir import Arena, Level, Module
from tinyir.opdef import Op, Tiling
from tinyir.ops import Slot
from tinyir.pass_manager import Context, Pass, option
from tinyir.rewrite import Rewriter
from tinyir.types import BufferType

from ._slot_places import place_slots, sharing_of
from .liveness import Interval, Liveness

_NODES = 2000
"""How far the search for places goes, which are only an estimate here."""


class FitScratch(Pass):
    """Choose how kernels are tiled by the memory that is left beside what lives."""

    name = "fit-scratch"
    level: ClassVar[Level] = "mem"
    percent: int = option(12, "what scratch may add to the arena, in percent")
    limit: int = option(0, "bytes that the arena may have, if that is more; 0: no limit")

    def run(self, module: Module, ctx: Context) -> None:
        if module.attrs.get("scratch") == "full":
            return
        intervals = ctx.analysis(Liveness, module)
        rewriter = self.rewriter(module, ctx)
        for arena in module.arenas.values():
            mine = [i for i in intervals if i.slot.arena is arena]
            tiled = {slot: op for func in module.funcs.values() for op in func.block.walk()
                     if (slot := _scratch_of(op)) is not None and slot.arena is arena}
            if tiled and all(i.slot.offset is None for i in mine):
                self._fit(arena, mine, tiled, rewriter)

    def _fit(self, arena: Arena, intervals: list[Interval], tiled: dict[Slot, Op], rewriter: Rewriter) -> None:
        align = rewriter.ctx.target.align
        kept = [i for i in intervals if i.slot not in tiled]
        offsets, peak = _placed(kept, align, rewriter.module)
        given = rewriter.module.attrs.get("scratch")
        budget = given if isinstance(given, int) else max(peak * (100 + self.percent) // 100, self.limit)
        for interval in intervals:
            op = tiled.get(interval.slot)
            if op is None:
                continue
            used = _bytes_in_use(interval, kept, offsets, peak)
            room = (budget - used) // align * align
            tilings = op.tilings()
            choice = next((t for t in tilings if _size(interval.slot, t) <= room), tilings[-1])
            if choice != tilings[0]:
                rewriter.remark(op, f"{choice.elements} of {tilings[0].elements} elements of scratch, where {used:,} "
                                    "bytes are in use")
            _take(op, choice, interval.slot, rewriter)


def _scratch_of(op: Op) -> Slot | None:
    """The slot that the tilings of an op are about."""
    tilings = op.tilings()
    if len(tilings) < 2:
        return None
    value = getattr(op, tilings[0].operand)
    slot = value.defining(Slot)
    return slot if slot is not None and len(value.uses) == 1 else None


def _placed(intervals: list[Interval], align: int, module: Module) -> tuple[list[int], int]:
    """Where the slots of the intervals would lie, and the bytes that they need."""
    if not intervals:
        return [], 0
    placement = place_slots(intervals, align, _NODES, sharing_of(module, intervals))
    return list(placement.offsets), placement.peak


def _bytes_in_use(scratch: Interval, others: list[Interval], offsets: list[int], peak: int) -> int:
    """How many of `peak` bytes are in use at some time while `scratch` is."""
    used = np.zeros(peak, bool)
    for interval, offset in zip(others, offsets, strict=True):
        if interval.meets(scratch):
            used[offset:offset + interval.size] = True
    return int(used.sum())


def _size(slot: Slot, tiling: Tiling) -> int:
    return BufferType((tiling.elements,), slot.result.dtype).size_bytes


def _take(op: Op, tiling: Tiling, slot: Slot, rewriter: Rewriter) -> None:
    rewriter.set_attr(op, **tiling.attrs)
    if tiling.elements != slot.result.elements:
        made = Slot(slot.arena, result=BufferType((tiling.elements,), slot.result.dtype))
        rewriter.insert_before(slot, made, name=slot.out.name)
        rewriter.replace(slot, made.out)
