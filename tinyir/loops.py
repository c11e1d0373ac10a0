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
from .ops.mem import Loop, Slot, View

__all__ = ["base_of", "carried_slots"]


def base_of(value: Value) -> Value:
    """The buffer whose bytes `value` is a view of, or `value` itself."""
    while (view := value.defining(View)) is not None:
        value = view.x
    return value


def carried_slots(loop: Loop) -> set[Value]:
    """The slots used in `loop` that hold something between its steps, or before or after it.

    Ops tell their rows by `rows`, `input_rows(rows)` and `rings` (the operands that have rows), as row kernels do;
    what other ops use counts as held.
    """
    inside = set(loop.body)
    free = {base for op in inside for base in map(base_of, op.writes) if base.defining(Slot) and _only(base, inside)}
    fresh: dict[Value, tuple[int, int]] = {}
    for step in range(loop.steps):
        for op in loop.body:
            free -= _held(op, step, fresh, free)
    used = {base_of(v) for op in inside for v in (*op.reads, *op.writes)}
    return {v for v in used if v.defining(Slot)} - free


def _only(base: Value, inside: set[Op]) -> bool:
    """Whether nothing but ops of the loop uses the buffer."""
    return all(user in inside or (isinstance(user, View) and _only(user.out, inside)) for user in base.users)


def _held(op: Op, step: int, fresh: dict[Value, tuple[int, int]], free: set[Value]) -> set[Value]:
    """The buffers of which `op` reads, in this step, rows that were not written in it. `fresh` has for each buffer the
    step in which it was last written, and the first row that was.
    """
    now = op.at_step(step)
    if now is None:
        return set()
    names, spans = getattr(now, "rings", ()), getattr(now, "input_rows", None)
    ringed = {base_of(getattr(now, name)) for name in names}
    if spans is None or op.at_step(step) is op:
        return {base_of(v) for v in (*op.reads, *op.writes)}
    held = {base_of(v) for v in (*now.reads, *now.writes)} - ringed
    rows: tuple[int, int] = now.attrs["rows"]
    for value in now.reads:
        base = base_of(value)
        written, first = fresh.get(base, (-1, 0))
        if base in free and base in ringed and (written != step or spans(rows)[0] < first):
            held.add(base)
    for value in now.writes:
        fresh[base_of(value)] = step, rows[0]
    return held
