"""Liveness: from which to which op of a function each slot holds data that is still needed.

    0  %a = mem.slot(@arena)                %a lives over [1, 3]
    1  k.relu_f32(%x) -> (%a)
    2  %b = mem.view(%a)                    a use of the view is a use of its base
    3  k.dense_f32(%b, @w, none) -> (%y)

A slot is live from the first op that uses it to the last, both included, counted in textual order, which is the
execution order. Declarations (mem.slot, mem.view) are not uses. Ops in loops are counted like all others; what a loop
needs from one step to the next is live over all of it (`tinyir.loops`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyir.ir import Func, Module
from tinyir.loops import slot_lives
from tinyir.ops import Slot
from tinyir.pass_manager import Analysis, Context


@dataclass(frozen=True)
class Interval:
    """`slot` of `size` bytes is live from op number `first` to op number `last`, both included, of `func`."""

    slot: Slot
    func: str
    first: int
    last: int
    size: int

    def meets(self, other: Interval) -> bool:
        """Whether both are live at the same time. Functions of a module never run at the same time."""
        return self.func == other.func and self.first <= other.last and other.first <= self.last


class Liveness(Analysis[tuple[Interval, ...]]):
    """The intervals of all slots of a mem-level module that are used at all, in order of declaration."""

    @classmethod
    def compute(cls, module: Module, ctx: Context) -> tuple[Interval, ...]:
        return tuple(interval for func in module.funcs.values() for interval in _of_function(func))


def _of_function(func: Func) -> list[Interval]:
    lives = slot_lives(func.block)
    slots = [op for op in func.block.walk() if isinstance(op, Slot)]
    return [Interval(slot, func.name, *lives[slot], slot.out.type.size_bytes) for slot in slots if slot in lives]
