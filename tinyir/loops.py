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

from dataclasses import dataclass, field

from .ir import Block, Value
from .opdef import Op
from .ops.mem import Join, Loop, Part, Slot, View, Window

__all__ = ["base_of", "bases_of", "runs_of", "slot_lives", "slot_spans"]


def base_of(value: Value) -> Value:
    """The buffer whose bytes `value` is a view, a window or a part of, or `value` itself."""
    while (view := value.defining(View) or value.defining(Window) or value.defining(Part)) is not None:
        value = view.x
    return value


def bases_of(value: Value) -> tuple[Value, ...]:
    """The buffers whose bytes `value` stands for: one, or the ring and the fresh rows of a join."""
    base = base_of(value)
    join = base.defining(Join)
    return (base,) if join is None else (base_of(join.ring), base_of(join.fresh))


def runs_of(op: Op) -> int:
    """How often an op does all of its work: once, or for each part in a loop over parts."""
    runs, block = 1, op.block
    while block is not None and isinstance(loop := block.parent, Loop):
        runs, block = runs * loop.times(), loop.block
    return runs


def slot_lives(block: Block) -> dict[Slot, tuple[int, int]]:
    """For each slot used in `block`, the numbers of the first and the last op between which it holds something that is
    needed, ops counted as `block.walk()` does. Declarations are no uses.
    """
    number = {op: index for index, op in enumerate(block.walk())}
    lives: dict[Slot, tuple[int, int]] = {}
    for op, index in number.items():
        if isinstance(op, (Join, Part, Slot, View, Window)):
            continue
        for value in (*op.reads, *op.writes):
            _extend(lives, value, index, index)
        if isinstance(op, Loop) and op.over == "rows":
            for value, (first, last) in slot_spans(op).items():
                _extend(lives, value, index + 1 + first, index + 1 + last)
        elif isinstance(op, Loop):
            for value in _needed_throughout(op):
                _extend(lives, value, index, max(number[inner] for inner in op.regions[0].walk()))
    return lives


def _extend(lives: dict[Slot, tuple[int, int]], used: Value, first: int, last: int) -> None:
    for base in (b.op for b in bases_of(used)):
        if isinstance(base, Slot):
            begin, end = lives.get(base, (first, last))
            lives[base] = (min(begin, first), max(end, last))


def _needed_throughout(loop: Loop) -> list[Value]:
    """The slots that hold something from one part to the next, or may: those used outside of the loop as well, those of
    which ops use parts, and those that are read before they are written.
    """
    inside = set(loop.regions[0].walk())
    first: dict[Value, Op] = {}
    found: dict[Value, None] = {}
    for op in loop.regions[0].walk():
        if isinstance(op, Part):
            found[base_of(op.x)] = None
        for base in (b for v in (*op.reads, *op.writes) for b in bases_of(v)):
            user = first.setdefault(base, op)
            read = user is op and any(base in bases_of(v) for v in op.reads)
            if read or not _only(base, inside):
                found[base] = None
    return list(found)


@dataclass
class _Lives:
    """What has been seen of a loop so far: when rows were written, and which ops ran in each step."""

    body: list[Op]
    spans: dict[Value, tuple[int, int]] = field(default_factory=dict)
    written: dict[tuple[Value, int], tuple[int, int]] = field(default_factory=dict)
    ran: list[tuple[int, int]] = field(default_factory=list)

    def extend(self, base: Value, first: int, last: int) -> None:
        begin, end = self.spans.get(base, (first, last))
        self.spans[base] = min(begin, first), max(end, last)

    def write(self, base: Value, row: int, step: int, place: int) -> None:
        self.written[base, row] = step, place
        self.extend(base, place, place)

    def read(self, base: Value, row: int, step: int, place: int) -> None:
        """A row is read; its place is taken from the op that wrote it to here, as far as ops run meanwhile."""
        if (base, row) not in self.written:
            self.extend(base, 0, len(self.body) - 1)
            return
        since, writer = self.written[base, row]
        if since == step:
            self.extend(base, writer, place)
            return
        self.extend(base, writer, self.ran[since][1])
        for between in range(since + 1, step):
            self.extend(base, *self.ran[between])
        self.extend(base, self.ran[step][0], place)


def slot_spans(loop: Loop) -> dict[Value, tuple[int, int]]:
    """For each slot used in `loop`, from which to which op of its body (by position) it holds something that is needed,
    in whatever step. A slot that is used outside too is needed all the time.

    Ops tell their rows by `rows`, `input_rows(rows)` and `rings` (the operands that have rows), as row kernels do; what
    other ops use is needed all the time. What else they write is scratch, unless it is in `held`.
    """
    lives = _Lives(loop.body)
    inside = {op for op in lives.body if not isinstance(op, (Join, Window))}
    used = {base for op in inside for v in (*op.reads, *op.writes) for base in bases_of(v) if base.defining(Slot)}
    for step in range(loop.steps):
        lives.ran.append((len(lives.body) - 1, 0))
        for place, op in enumerate(lives.body):
            now = op.at_step(step) if op in inside else None
            if now is not None:
                first, last = lives.ran[step]
                lives.ran[step] = min(first, place), max(last, place)
                _note(op, now, step, place, lives)
    whole = 0, len(lives.body) - 1
    return {base: lives.spans[base] if _only(base, inside) else whole for base in used}


def _only(base: Value, inside: set[Op]) -> bool:
    """Whether nothing but ops of the loop uses the buffer."""
    return all(user in inside or (isinstance(user, (Join, View, Window)) and _only(user.out, inside))
               for user in base.users)


def _note(op: Op, now: Op, step: int, place: int, lives: _Lives) -> None:
    """Which rows the op, which is `now` in this step, reads and writes."""
    names: tuple[str, ...] = getattr(now, "rings", ())
    spans = getattr(now, "input_rows", None)
    ringed = [] if spans is None or now is op else [getattr(now, name) for name in names]
    held = [getattr(now, name) for name in getattr(now, "held", ())]
    for value in (*now.reads, *now.writes):
        scratch = ringed and value in now.writes and value not in held
        span = (place, place) if scratch else (0, len(lives.body) - 1)
        for base in bases_of(value) if value not in ringed else ():
            lives.extend(base, *span)
    rows: tuple[int, int] = now.attrs.get("rows", (0, 0))
    for value in ringed:
        if value in now.writes:
            for row in range(*rows):
                lives.write(base_of(value), row, step, place)
        elif spans is not None:
            join = base_of(value).defining(Join)
            split = 0 if join is None else join.first_fresh(step)
            for row in range(*spans(rows)):
                lives.read(bases_of(value)[join is not None and row >= split], row, step, place)
