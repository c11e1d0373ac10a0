"""What ops cost on a target, before anything is lowered: modelled instructions, code, constants, scratch.

    model = CostModel(target_named("cortex-m4"))
    model.of(op)                       Cost(instructions=1204112, const_bytes=9472, scratch_bytes=832, ...)
    model.of(op, rows=2)               the same row by row, two rows of the result a step
    model.of(op, rows=2, kept=True)    and its rows are copied to a ring behind each step
    model.module(module)               all of a module at mem level

The op is lowered on its own, as `lower-to-mem` would do it; a backend prices the kernels that come out of it:

    @costs(ConvF32)
    def price(kernel: ConvF32, target: Target) -> Cost: ...

A kernel that nobody prices counts an instruction for each multiply-accumulate and some for each element it writes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from .ir import Block, Module, Value
from .loops import runs_of
from .lowering import KEEP, Lowering
from .opdef import Op
from .ops.mem import Loop, Slot
from .ops.quant import Reinterpret
from .ops.sched import Empty
from .ops.shape import Insert, Reshape
from .pace import Pace
from .registry import COSTS, KEEPS, LOWERINGS, load_plugins
from .target import Target
from .types import BufferType

__all__ = ["Cost", "CostModel", "costs", "kernel_cost"]

OpT = TypeVar("OpT", bound=Op)
_A_WRITE = 8
"""Instructions for an element that a kernel without a price writes."""


@dataclass(frozen=True)
class Cost:
    """What something takes on a target. In a sum, functions that parts share count once."""

    instructions: int = 0
    """Of one inference."""
    const_bytes: int = 0
    """Weights, biases and tables."""
    scratch_bytes: int = 0
    """RAM for a kernel's own use while it runs; the largest of the kernels, not their sum."""
    least_scratch_bytes: int = 0
    """The same where kernels are tiled for the least (`Op.tilings`)."""
    call_bytes: int = 0
    """Machine code of the calls."""
    functions: frozenset[tuple[str, int]] = frozenset()
    """What is called, known by its text: bytes of machine code."""

    @property
    def code_bytes(self) -> int:
        """Machine code of calls and functions."""
        return self.call_bytes + sum(size for _, size in self.functions)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.instructions + other.instructions, self.const_bytes + other.const_bytes,
                    max(self.scratch_bytes, other.scratch_bytes),
                    max(self.least_scratch_bytes, other.least_scratch_bytes), self.call_bytes + other.call_bytes,
                    self.functions | other.functions)


def costs(*kinds: type[OpT]) -> Callable[[Callable[[OpT, Target], Cost]], Callable[[OpT, Target], Cost]]:
    """Register the decorated function as the one that prices these kernel ops: `price(kernel, target)`, where a kernel
    with a pace computes its rows step by step.
    """

    def register(price: Callable[[OpT, Target], Cost]) -> Callable[[OpT, Target], Cost]:
        for kind in kinds:
            COSTS.add(kind.opname, price)
        return price

    return register


def kernel_cost(kernel: Op, target: Target) -> Cost:
    """What a kernel op takes, by the rule that is registered for it."""
    price = COSTS.find(kernel.opname)
    if price is not None:
        return price(kernel, target)
    return Cost(kernel.macs() + _A_WRITE * sum(v.type.elements for v in kernel.writes))


@dataclass(frozen=True)
class _Lowered:
    """An op on its own at mem level."""

    kernels: list[Op]
    const_bytes: int
    scratch_bytes: int
    least_scratch_bytes: int


class CostModel:
    """Prices ops for one target; each op is lowered once for each way to run it.

    `attrs` are those of the module that the ops belong to (`requant`).
    """

    def __init__(self, target: Target, attrs: Mapping[str, Any] | None = None) -> None:
        load_plugins()
        self.target = target
        self._attrs = dict(attrs or {})
        self._known: dict[tuple[Op, int | None, bool, bool], Cost] = {}
        self._kernels: dict[tuple[Op, int | None, bool], _Lowered] = {}
        self._memo: dict[Hashable, Any] = {}

    def of(self, op: Op, rows: int | None = None, kept: bool = False, parts: bool = False) -> Cost:
        """What an op of a level above mem takes: on whole tensors, or `rows` rows of its result (of its operand, if it
        folds rows) a step. `kept`: the rows of a step are copied to a ring behind it. `parts`: by kernels that can
        compute some channels at a time.
        """
        key = op, rows, kept, parts
        if key not in self._known:
            self._known[key] = self._price(*key)
        return self._known[key]

    def module(self, module: Module) -> Cost:
        """What a module at mem level takes; constants that kernels share are counted once."""
        total = Cost()
        for op in module.walk():
            total += Cost() if _is_frame(op) else self._in_loops(op)
        return total + Cost(const_bytes=sum(c.type.size_bytes for c in module.consts.values() if c.uses))

    def _in_loops(self, kernel: Op) -> Cost:
        """What a kernel takes, as often as it runs."""
        cost = kernel_cost(kernel, self.target)
        return replace(cost, instructions=cost.instructions * runs_of(kernel))

    def _price(self, op: Op, rows: int | None, kept: bool, parts: bool) -> Cost:
        if isinstance(op, (Empty, Insert, Reshape, Reinterpret)) or op.terminator:
            return Cost()
        if op.regions:  # something has been decided before: as it would be op by op
            return sum((self.of(inner) for region in op.regions for inner in region.ops), Cost())
        if (op, rows, parts) not in self._kernels:
            self._kernels[op, rows, parts] = self._lower(op, rows, parts)
        lowered = self._kernels[op, rows, parts]
        total = Cost(0, lowered.const_bytes, lowered.scratch_bytes, lowered.least_scratch_bytes)
        for kernel in lowered.kernels:
            total += kernel_cost(kernel, self.target)
        return total + kernel_cost(_keep(op, rows), self.target) if rows is not None and kept else total

    def _lower(self, op: Op, rows: int | None, parts: bool) -> _Lowered:
        """The op alone at mem level."""
        module, block = Module("cost", "mem", self._attrs), Block()
        low = Lowering(module, block, self.target, module.add_arena("arena", self.target.align))
        low.for_parts, low.memo = parts, self._memo
        low.begin(op)
        places = [low.buffer(v) for v in (*op.reads, *op.results) if v.data is None]
        if rows is None:
            LOWERINGS.get(op.opname)(op, low)
        else:
            with low.loop(1):
                low.in_rows(op, Pace(rows, 1, 0), op.out.shape[1] if op.out.type.rank == 4 else 1)
                LOWERINGS.get(op.opname)(op, low)
        kernels = [o for o in block.walk() if not _is_frame(o)]
        slots = [o.out for o in block.walk() if isinstance(o, Slot) and o.out not in places]
        least = scratch = {slot: slot.type.size_bytes for slot in slots}
        for kernel in kernels:
            for tiling in kernel.tilings()[-1:]:
                slot = getattr(kernel, tiling.operand)
                if slot in scratch:
                    least = {**least, slot: BufferType((tiling.elements,), slot.type.dtype).size_bytes}
        constants = sum(c.type.size_bytes for c in module.consts.values())
        return _Lowered(kernels, constants, sum(scratch.values()), sum(least.values()))


def _is_frame(op: Op) -> bool:
    """Whether the op is no kernel: a slot, a view, a loop, the end of something."""
    return op.terminator or op.opname.startswith("mem.") or isinstance(op, Loop)


def _keep(op: Op, rows: int) -> Op:
    type_ = op.out.type
    place = BufferType((1, rows, *type_.shape[2:]), type_.dtype)
    return KEEPS.get(KEEP)(Value(place, "fresh"), Value(place, "ring"), Pace(rows, 1, 0), (1, 0), type_.shape[1])
