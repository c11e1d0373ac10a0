"""The memory plan as the C shows it: a table in a comment, and where each slot's pointer is declared.

    /* Memory plan: 3776 bytes. ...
     *
     *   slot               bytes    offset      calls  holds
     *
     *   Calls 0 to 5, row by row:
     *   conv_0_row           320      3136       0..2  1 new row of 25, 5x64 i8
     *   conv_0               640      1856       0..2  a ring of 2 rows of 25, 5x64 i8
     *   conv_0_columns       160       960       0..0  scratch, 40 u32
"""

from __future__ import annotations

from tinyir.loops import bases_of
from tinyir.opdef import Op
from tinyir.ops.mem import Loop

from .kernels.base import RowKernel
from .program import Call, PlacedSlot, Program
from .text import describe

__all__ = ["plan_text", "slots_by_statement"]


def plan_text(program: Program) -> str:
    """Where each slot is, between which calls its bytes count, and what it holds."""
    if not program.slots:
        return ""
    width = max(4, *(len(s.name) for s in program.slots))
    lines = [f"/* Memory plan: {program.arena_bytes} bytes. {_introduction(program)}",
             " *", f" *   {'slot':<{width}}     bytes    offset      calls  holds"]
    headings = _headings(program)
    for slot in program.slots:
        if slot in headings:
            lines += [" *", f" *   {headings[slot]}:"]
        calls = f"{slot.first}..{slot.last}"
        lines.append(f" *   {slot.name:<{width}}  {slot.value.type.size_bytes:>8}  {slot.offset:>8}  {calls:>9}  "
                     f"{_holds(program, slot)}")
    return "\n".join([*lines, " */"])


def _introduction(program: Program) -> str:
    text = "A slot's bytes count from its first call to its last."
    if any(a.offset < b.offset + b.value.type.size_bytes and b.offset < a.offset + a.value.type.size_bytes
           and a.first <= b.last and b.first <= a.last and a.arena is b.arena
           for i, a in enumerate(program.slots) for b in program.slots[:i]):
        text += "\n * Of slots that share bytes in the same calls, one is written where the other is needed no more."
    return text


def _headings(program: Program) -> dict[PlacedSlot, str]:
    """What to write in front of a slot: which loop it is the first of, or that what follows is in none."""
    loops = [(min(numbers), max(numbers), loop.over) for loop in program.module.main.ops if isinstance(loop, Loop)
             if (numbers := [c.number for c in program.calls if c.op in set(loop.regions[0].walk())])]
    found: dict[PlacedSlot, str] = {}
    current: tuple[int, int, str] | None = None
    for slot in program.slots:
        mine = next((loop for loop in loops if loop[0] <= slot.first <= loop[1]), None)
        if mine is not current and mine is not None:
            how = "row by row" if mine[2] == "rows" else "part by part"
            found[slot] = f"Calls {mine[0]} to {mine[1]}, {how}"
        elif mine is not current:
            found[slot] = "One call after the other"
        current = mine
    return found


def _holds(program: Program, slot: PlacedSlot) -> str:
    """`a ring of 2 of 48 rows, 48x8 i8`."""
    shape, dtype = slot.value.shape, slot.value.type.dtype
    call, name = _writer(program, slot)
    kernel = None if call is None else call.op
    if kernel is None or name is None:
        return describe(shape, dtype)
    if isinstance(kernel, RowKernel) and name in kernel.rings:
        rows, height = shape[1], kernel.true_height(name)
        if name in kernel.fresh:
            return f"{rows} new row{'s' if rows > 1 else ''} of {height}, {describe(shape[2:], dtype)}"
        if rows < height:
            kept = "1 row" if rows == 1 else f"a ring of {rows} rows"
            return f"{kept} of {height}, {describe(shape[2:], dtype)}"
        return describe(shape, dtype)
    held = isinstance(kernel, RowKernel) and name in kernel.held
    scratch = kernel.writes.index(getattr(kernel, name)) > 0 and not held
    return f"scratch, {describe(shape, dtype)}" if scratch else describe(shape, dtype)


def _writer(program: Program, slot: PlacedSlot) -> tuple[Call | None, str | None]:
    """The first call that writes to the slot, and the operand of it that does."""
    for call in program.calls[slot.first:slot.last + 1]:
        for field in type(call.op).schema.operands:
            value = getattr(call.op, field.name)
            if field.written and not field.variadic and value is not None and slot.value in bases_of(value):
                return call, field.name
    return None, None


def slots_by_statement(program: Program, *, at_top: bool) -> dict[Op, list[PlacedSlot]]:
    """Which slots' pointers are declared in front of which statement: as near to their use as the blocks of C allow, so
    that what is named is in use. With `at_top` all are declared outside of loops.
    """
    chains: dict[PlacedSlot, list[list[Op]]] = {slot: [] for slot in program.slots}
    by_value = {slot.value: slot for slot in program.slots}
    for call in program.calls if at_top else (c for c in program.calls if c.function):
        for base in dict.fromkeys(b for v in (*call.op.reads, *call.op.writes) for b in bases_of(v)):
            if base in by_value:
                chains[by_value[base]].append(_chain(call.op))
    found: dict[Op, list[PlacedSlot]] = {}
    for slot, uses in chains.items():
        depth = 0
        while not at_top and len({chain[depth] for chain in uses}) == 1 and isinstance(uses[0][depth], Loop):
            depth += 1
        if uses:
            found.setdefault(uses[0][depth], []).append(slot)
    return found


def _chain(op: Op) -> list[Op]:
    """The loops that the op is in, outermost first, and the op."""
    chain = [op]
    while chain[0].block is not None and isinstance(parent := chain[0].block.parent, Op):
        chain.insert(0, parent)
    return chain
