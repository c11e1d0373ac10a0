"""Compute what an op that works in place turns into an output where that output is wanted: in the caller's buffer.

    %all = mem.slot(@arena) : buffer<1x4420x2xi8>
    %a = mem.window(%all) {begin = [0, 0, 0]} : buffer<1x3600x2xi8>         ... %a and the others are computed ...
    k.softmax_s8(%all, @exponentials) -> (%scores) {...}
        ->
    %a = mem.window(%scores) {begin = [0, 0, 0]} : buffer<1x3600x2xi8>
    k.softmax_s8(%scores, @exponentials) -> (%scores) {...}

Nothing else may touch the output before, nor read the operand behind; and the kernel has to be one that can do so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from tinyir.ir import Argument, Block, Value
from tinyir.loops import bases_of
from tinyir.opdef import Op
from tinyir.ops import Join, Part, Slot, View, Window

__all__ = ["use_outputs"]


def use_outputs(block: Block, wanted: Collection[Value]) -> None:
    """Replace slots of a mem-level function, those in `wanted`, by outputs where that can be done."""
    place = {op: number for number, top in enumerate(block.ops) for op in _inside(top)}
    for op in reversed(list(block.ops)):
        output = _whole(op.writes[0]) if len(op.writes) == 1 else None
        if not isinstance(output, Argument) or any(place[user] < place[op] for user in _users(output, place)):
            continue
        slots = [_whole(value).defining(Slot) for i in op.reuses() if (value := op.operands[i]) is not None]
        taken = next((slot for slot in slots if slot is not None and slot.out in wanted
                      and _same_layout(slot.out, output)
                      and all(user is op or place[user] < place[op] for user in _users(slot.out, place))), None)
        if taken is not None:
            _replace(taken, output, block)


def _inside(op: Op) -> Iterator[Op]:
    """The op, and those in its regions."""
    yield op
    for region in op.regions:
        yield from region.walk()


def _whole(value: Value) -> Value:
    """The buffer of which `value` is all."""
    while (view := value.defining(View)) is not None:
        value = view.x
    return value


def _users(buffer: Value, ops: Iterable[Op]) -> list[Op]:
    """The ops that read or write a part of the buffer."""
    return [op for op in ops if not isinstance(op, (Join, Part, Slot, View, Window))
            and any(buffer in bases_of(value) for value in (*op.reads, *op.writes))]


def _same_layout(one: Value, other: Value) -> bool:
    return one.type.dtype == other.type.dtype and one.type.elements == other.type.elements


def _replace(slot: Slot, output: Argument, block: Block) -> None:
    """Let all that is done with the slot be done with the output."""
    made: Value = output
    if output.type != slot.out.type:
        view = View(output, slot.result)
        view.loc, view.out.name = slot.loc, slot.out.name
        block.insert(block.ops.index(slot), view)
        made = view.out
    for use in list(slot.out.uses):
        use.op.replace_operand(use.index, made)
    block.ops.remove(slot)
    slot._unlink()
