"""What is still needed in a loop from one step to the next.

    mem.loop() {steps = 49} {
      k.conv2d_f32(%x, @w, @b) -> (%c) {..., pace = [1, 1, 0]}             %c: rows of the steps before are read
      k.depthwise_conv2d_f32(%c, @w2, @b2) -> (%d) {..., pace = [1, 1, -1]}
      k.conv2d_f32(%d, @w3, @b3) -> (%y) {..., pace = [1, 1, -1]}          %d: read in the step that writes it
      mem.next()
    }

%d holds nothing between steps, so its bytes are free for others while the rest of the loop runs.
"""

from __future__ import annotations

from .ir import Value
from .opdef import Op
from .ops.mem import Join, Loop, Slot, View

__all__ = ["base_of", "bases_of", "carried_slots"]


def base_of(value: Value) -> Value:
    """The buffer whose bytes `value` is a view of, or `value` itself."""
    while (view := value.defining(View)) is not None:
        value = view.x
    return value


def bases_of(value: Value) -> tuple[Value, ...]:
    """The buffers whose bytes `value` stands for: one, or the ring and the fresh rows of a join."""
    base = base_of(value)
    join = base.defining(Join)
    return (base,) if join is None else (base_of(join.ring), base_of(join.fresh))


def carried_slots(loop: Loop) -> set[Value]:
    """The slots used in `loop` that hold something between its steps, or before or after it.

    Ops tell their rows by `rows`, `input_rows(rows)` and `rings` (the operands that have rows), as row kernels do;
    what other ops use counts as held.
    """
    inside = {op for op in loop.body if not isinstance(op, Join)}
    free = {base for op in inside for base in map(base_of, op.writes) if base.defining(Slot) and _only(base, inside)}
    fresh: dict[Value, tuple[int, int]] = {}
    for step in range(loop.steps):
        for op in (op for op in loop.body if op in inside):
            free -= _held(op, step, fresh, free)
    used = {base for op in inside for v in (*op.reads, *op.writes) for base in bases_of(v)}
    return {v for v in used if v.defining(Slot)} - free


def _only(base: Value, inside: set[Op]) -> bool:
    """Whether nothing but ops of the loop uses the buffer."""
    return all(user in inside or (isinstance(user, (Join, View)) and _only(user.out, inside)) for user in base.users)


def _held(op: Op, step: int, fresh: dict[Value, tuple[int, int]], free: set[Value]) -> set[Value]:
    """The buffers of which `op` reads, in this step, rows that were not written in it. `fresh` has for each buffer the
    step in which it was last written, and the first row that was.
    """
    now = op.at_step(step)
    if now is None:
        return set()
    names, spans = getattr(now, "rings", ()), getattr(now, "input_rows", None)
    ringed = {base for name in names for base in bases_of(getattr(now, name))}
    if spans is None or op.at_step(step) is op:
        return {base for v in (*op.reads, *op.writes) for base in bases_of(v)}
    held = {base for v in (*now.reads, *now.writes) for base in bases_of(v)} - ringed
    rows: tuple[int, int] = now.attrs["rows"]
    for value in now.reads:
        base, *own = bases_of(value)
        written, first = fresh.get(base, (-1, 0))
        if base in free and base in ringed and (own or written != step or spans(rows)[0] < first):
            held.add(base)
    for value in now.writes:
        fresh[base_of(value)] = step, rows[0]
    return held
