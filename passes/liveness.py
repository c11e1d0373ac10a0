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

from tinyir.ir import Func, Module, Value
from tinyir.loops import bases_of, slot_spans
from tinyir.ops import Join, Loop, Slot, View
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
    spans: dict[Slot, tuple[int, int]] = {}
    slots: list[Slot] = []
    for number, op in enumerate(func.block.walk()):
        if isinstance(op, Slot):
            slots.append(op)
        if isinstance(op, (Join, Slot, View)):
            continue
        if isinstance(op, Loop):
            for value, (first, last) in slot_spans(op).items():
                _extend(spans, [value], number + 1 + first, number + 1 + last)
        _extend(spans, [*op.reads, *op.writes], number, number)
    return [Interval(slot, func.name, *spans[slot], slot.out.type.size_bytes) for slot in slots if slot in spans]


def _extend(spans: dict[Slot, tuple[int, int]], used: list[Value], first: int, last: int) -> None:
    """Let the slots among `used` be live from `first` to `last` too."""
    for value in used:
        for base in (b.op for b in bases_of(value)):
            if isinstance(base, Slot):
                begin, end = spans.get(base, (first, last))
                spans[base] = (min(begin, first), max(end, last))
