"""The memory plan of a module at mem level as facts: what is where when, and what activations alone would need.

    plan = memory_plan(module, target)
    plan.arena_bytes          18,160       sizeof(arena)
    plan.activation_bytes     16,000       the least arena for everything but the kernels' scratch, placed anew
    plan.scratch_bytes         2,160       what scratch adds to that
    plan.slots[0]             %conv1 at 0, 8,000 bytes, from call 0 to call 1

Scratch is what a single kernel uses and what holds nothing from one call of it to the next: columns of a convolution,
rows in flight of a depthwise one. Tensors, rings and sums that a fold carries along are activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyir.clone import clone_module
from tinyir.ir import Func, Module, Value
from tinyir.loops import base_of, bases_of, slot_lives
from tinyir.opdef import Op
from tinyir.ops.mem import Loop, Slot
from tinyir.pass_manager import Context
from tinyir.registry import PASSES
from tinyir.target import Target

__all__ = ["LoopSpan", "MemoryPlan", "PlannedSlot", "memory_plan"]


@dataclass(frozen=True)
class PlannedSlot:
    """One slot: where it is, and the numbers of the first and the last kernel call between which it is needed."""

    name: str
    arena: str
    offset: int
    bytes: int
    first: int
    last: int
    scratch: bool


@dataclass(frozen=True)
class LoopSpan:
    """The calls of a loop, first and last."""

    first: int
    last: int
    steps: int


@dataclass(frozen=True)
class MemoryPlan:
    """All of it; sizes in bytes."""

    arena_bytes: int
    activation_bytes: int
    calls: tuple[str, ...]
    """The kernels that are called, in order."""
    slots: tuple[PlannedSlot, ...]
    loops: tuple[LoopSpan, ...]

    @property
    def scratch_bytes(self) -> int:
        """What the kernels' scratch adds to the arena."""
        return self.arena_bytes - self.activation_bytes


def memory_plan(module: Module, target: Target) -> MemoryPlan:
    """The plan of a module whose slots are placed."""
    arena_bytes = sum(arena.size or 0 for arena in module.arenas.values())
    slots: list[PlannedSlot] = []
    calls: list[str] = []
    loops: list[LoopSpan] = []
    for func in module.funcs.values():
        numbers = _call_numbers(func, len(calls))
        slots += _slots(func, numbers)
        loops += _loops(func, numbers)
        calls += [op.opname for op in func.block.walk() if op.writes]
    # What is placed without scratch can only be worse by the limits of the search.
    activations = min(_activation_bytes(module, target), arena_bytes) if arena_bytes else 0
    return MemoryPlan(arena_bytes, activations, tuple(calls), tuple(slots), tuple(loops))


def _activation_bytes(module: Module, target: Target) -> int:
    """The least bytes for the slots that are no scratch: those of scratch go into an arena of their own, in a copy."""
    copy, _ = clone_module(module)
    kept = list(copy.arenas.values())
    others = {arena: copy.add_arena(f"{arena.name}_scratch", arena.align) for arena in kept}
    for slot in [op for op in copy.walk() if isinstance(op, Slot)]:
        if slot.arena in others and _is_scratch(slot):
            slot.replace_operand(0, others[slot.arena])
        slot.__dict__["offset"] = None
    for arena in copy.arenas.values():
        arena.size = None
    pass_ = PASSES.get("plan-arena")()
    pass_.run(copy, Context(target, current_pass=pass_.name))
    return sum(arena.size or 0 for arena in kept)


def _is_scratch(slot: Slot) -> bool:
    """Whether a single kernel writes and reads the slot, and leaves nothing in it for its next call."""
    users = _kernels_of(slot.out)
    if len(users) != 1:
        return False
    held = [getattr(users[0], name) for name in getattr(users[0], "held", ())]
    return all(slot.out not in bases_of(value) for value in (*users[0].reads, *held))


def _kernels_of(value: Value) -> list[Op]:
    """The kernels that use a buffer, through whatever views of it."""
    found: dict[Op, None] = {}
    for user in value.users:
        aliases = [result for result in user.results if value in (base_of(result), *bases_of(result))]
        for op in [user] if user.writes else [op for alias in aliases for op in _kernels_of(alias)]:
            found[op] = None
    return list(found)


def _call_numbers(func: Func, begin: int) -> list[int]:
    """For each op of the function the number of the first call that is not before it."""
    numbers, calls = [], begin
    for op in func.block.walk():
        numbers.append(calls)
        calls += bool(op.writes)
    return numbers


def _slots(func: Func, numbers: Sequence[int]) -> list[PlannedSlot]:
    ops = list(func.block.walk())
    found = []
    for slot, (first, last) in slot_lives(func.block).items():
        if slot.offset is None:
            continue
        ends = max((numbers[i] for i in range(first, last + 1) if ops[i].writes), default=numbers[first])
        found.append(PlannedSlot(slot.out.name, slot.arena.name, slot.offset, slot.out.type.size_bytes,
                                 numbers[first], ends, _is_scratch(slot)))
    return sorted(found, key=lambda s: (s.first, s.offset, s.name))


def _loops(func: Func, numbers: Sequence[int]) -> list[LoopSpan]:
    found = []
    for place_, op in enumerate(func.block.walk()):
        if isinstance(op, Loop):
            calls = sum(1 for region in op.regions for inner in region.walk() if inner.writes)
            found.append(LoopSpan(numbers[place_], numbers[place_] + calls - 1, op.steps))
    return found
