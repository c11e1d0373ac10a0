"""Which slots may be one: an element-wise kernel writes its result where an operand lies that nobody reads any more.

    k.map(%a) -> (%b) {function = tanh}                %a dies here, %b begins here: both may have the same offset
    k.binary(%b, %c) -> (%d) {function = add}          %d may lie on %b, or on %c

In a loop the two hold as many rows, and the kernel reads and writes the same places of them in every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .ir import Block, Value
from .opdef import Op
from .ops.mem import Loop, Slot, View

__all__ = ["in_place_pairs"]


def in_place_pairs(block: Block, lives: Mapping[Slot, tuple[int, int]]) -> list[tuple[Slot, Slot]]:
    """Pairs (operand, result) of slots of a function that may have the same offset, in order of execution. `lives` has
    the numbers of the first and of the last op that need a slot, counted as `Block.walk` does.
    """
    found = []
    for number, op in enumerate(block.walk()):
        for operand, result in _candidates(op):
            touch = lives.get(operand, (0, -1))[1] == number == lives.get(result, (-1, 0))[0]
            if touch and operand.arena is result.arena and operand is not result:
                found.append((operand, result))
    return found


def _candidates(op: Op) -> Iterator[tuple[Slot, Slot]]:
    """The slots of an operand and of the result that have the same layout."""
    written = [_slot(value) for value in op.writes]
    if len(written) != 1 or written[0] is None:
        return
    for index in op.reuses():
        value = op.operands[index]
        slot = None if value is None else _slot(value)
        if slot is None or slot.out.type.size_bytes != written[0].out.type.size_bytes:
            continue
        if value is not None and _same_rows(op, value):
            yield slot, written[0]


def _slot(value: Value) -> Slot | None:
    while (view := value.defining(View)) is not None:
        value = view.x
    return value.defining(Slot)


def _same_rows(op: Op, operand: Value) -> bool:
    """Whether an op in a loop reads a row from where it writes that row of the result, in each step."""
    loop = op.block.parent if op.block is not None else None
    names: tuple[str, ...] = getattr(op, "rings", ())
    if not isinstance(loop, Loop) or not names:
        return not isinstance(loop, Loop)
    read = next((name for name in names if getattr(op, name) is operand), None)
    written = next((name for name in names if getattr(op, name) in op.writes), None)
    if read is None or written is None:
        return False
    steps = (op.at_step(step) for step in range(loop.steps))
    return all(now is None or (now is not op and _place(now, read) == _place(now, written)) for now in steps)


def _place(now: Op, name: str) -> tuple[int, int]:
    """Where the first row of a step is in a buffer, and how many rows the buffer has."""
    ring: bool = now.is_ring(name)  # type: ignore[attr-defined]
    rows: tuple[int, int] = now.attrs["rows"]
    return getattr(now, f"{name}_base") if ring else rows[0], getattr(now, name).type.shape[1]
