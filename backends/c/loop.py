"""The C of a mem.loop: one `for` over its steps, in which each call computes the rows that are due.

    int32_t row_3 = 0;      call 3 goes on with this row ...
    int32_t slot_3 = 0;     ... which belongs into this slot of the ring that it writes
    for (int32_t step = 0; step < 49; step++) {
        const int32_t end_3 = tc_due(step - 1, 24);
        if (row_3 < end_3) {
            depthwise_conv2d_s8(ring_2, w, b, ring_3, row_3, end_3, tc_back(slot_2 - row_2 + row_3, 3), slot_3);
            slot_3 = tc_wrap(slot_3 + end_3 - row_3, 2);
            row_3 = end_3;
        }
    }

The slot of the first row that a call reads is counted back from the slot that the writer of the ring goes on with.
A loop over parts of channels is one `for` as well; what belongs to a part is so many elements behind that of the part
before:

    for (int32_t part = 0; part < 30; part++) {
        conv2d_s8(x, w + part * 320, b + part * 8, e);
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from tinyir.ir import Value
from tinyir.opdef import Op
from tinyir.ops.mem import Loop
from tinyir.pace import Pace

from .kernels.base import RowKernel
from .program import Call, Program, offset_of, root_of

__all__ = ["Around", "loop_lines", "pace_text"]


@dataclass(frozen=True)
class Around:
    """What the emitter writes around calls, as lines of C."""

    comment: Callable[[Call], list[str]]
    declare: Callable[[Op], list[str]]
    """Declarations in front of a statement: a call, or a loop."""
    mark: Callable[[Call], list[str]]
    """What profiling builds want right in front of a call."""
    statement: Callable[[Program, Call], list[str]]
    """A call on its own, outside of loops over rows."""


def loop_lines(program: Program, loop: Loop, around: Around) -> list[str]:
    """The statements of `loop`."""
    if loop.over == "rows":
        return _row_loop(program, loop, around)
    calls = {call.op: call for call in program.calls}
    numbers = [calls[op].number for op in loop.regions[0].walk() if op in calls]
    lines = [f"/* Calls {numbers[0]} to {numbers[-1]}, for {loop.steps} parts of their channels. */",
             f"for (int32_t part = 0; part < {loop.steps}; part++) {{"]
    for op in loop.body:
        if isinstance(op, Loop):
            inner = (*around.declare(op), *_row_loop(program, op, around)[:-1])
            lines += [f"    {line}" if line else "" for line in inner]
        elif op in calls:
            call = calls[op]
            inner = (*around.comment(call), *around.declare(op), *around.mark(call), *around.statement(program, call))
            lines += [f"    {line}" for line in inner]
    return [*lines, "}", ""]


def _row_loop(program: Program, loop: Loop, around: Around) -> list[str]:
    inside = set(loop.body)
    calls = [call for call in program.calls if call.op in inside]
    text = _LoopText(program, {root_of(v): call for call in calls for v in call.op.writes},
                     {root_of(call.op.reads[0]): call for call in calls if _row_kernel(call).fresh == ("x",)})
    lines = [*_row_loop_comment(calls, loop).splitlines(), "{"]
    lines += [f"    {line}" for call in calls for line in text.counters(call)]
    lines.append(f"    for (int32_t step = 0; step < {loop.steps}; step++) {{")
    for call in calls:
        inner = (*around.comment(call), *around.declare(call.op), *text.statement(call, around.mark(call)))
        lines += [f"        {line}" for line in inner]
    return [*lines, "    }", "}", ""]


def _row_loop_comment(calls: list[Call], loop: Loop) -> str:
    text = f"Calls {calls[0].number} to {calls[-1].number}, row by row, in {loop.steps} steps. In each, call N " \
        "computes the rows from row_N up to end_N, if any are due."
    if any(call.op.is_ring(name) for call in calls if isinstance(call.op, RowKernel) for name in call.op.rings):
        text += " What goes into a ring goes there from slot_N on (0 where it has room for one row), around its end."
    return "/* " + "\n * ".join(textwrap.wrap(text, 108)) + " */"


@dataclass(frozen=True)
class _LoopText:
    program: Program
    writers: dict[Value, Call]
    keepers: dict[Value, Call]
    """The call that takes the rows of a step from there to the ring, by their place."""

    def counters(self, call: Call) -> list[str]:
        """Declarations of what a call keeps from step to step."""
        names = [f"row_{call.number} = 0", *([f"slot_{call.number} = 0"] if self._written_ring(call) > 1 else [])]
        return [f"int32_t {', '.join(names)};"]

    def statement(self, call: Call, mark: list[str]) -> list[str]:
        """The call, if rows are due, and what follows from it; `mark` stands right in front of it."""
        kernel, number = _row_kernel(call), call.number
        row, end = f"row_{number}", f"end_{number}"
        pointers = kernel.arguments()[:-len(kernel.row_arguments())]
        joined = [part for name in kernel.rings for part in self._fresh(kernel, name)]
        passed = [a if isinstance(a, str) else str(a) if isinstance(a, int) else self.program.address(a)
                  for a in (*pointers, row, end, *self._bases(call), *joined, *call.dimensions)]
        line = textwrap.wrap(f"{call.function}({', '.join(passed)});", 100, subsequent_indent="    ",
                             break_long_words=False, break_on_hyphens=False)
        ring = self._written_ring(call)
        moved = f"tc_wrap(slot_{number} + {end} - {row}, {ring})"
        keeping = kernel.fresh == ("x",)
        if keeping and kernel.ring("x") > ring:
            moved = f"tc_wrap({moved}, {ring})"
        after = [f"slot_{number} = {moved};"] if ring > 1 else []
        every, phase = kernel.keep
        when = f"step % {every} == {phase} && " if keeping and every > 1 else ""
        return [f"const int32_t {end} = tc_due({_due(kernel)}, {kernel.rows[1]});", f"if ({when}{row} < {end}) {{",
                *(f"    {part}" for part in (*mark, *line, *after, f"{row} = {end};")), "}"]

    def _written_ring(self, call: Call) -> int:
        """Rows of the ring that the call writes; 0 if it writes a whole tensor."""
        kernel = _row_kernel(call)
        written = [name for name in kernel.rings
                   if getattr(kernel, name) in kernel.writes and kernel.is_ring(name) and name not in kernel.fresh]
        return kernel.ring(written[0]) if written else 0

    def _bases(self, call: Call) -> list[str]:
        """The slot of the first row of each ring that the call reads or writes, in the order of the C parameters."""
        kernel = _row_kernel(call)
        bases = []
        for name in kernel.rings:
            if not kernel.is_ring(name):
                continue
            value: Value = getattr(kernel, name)
            if kernel.ring(name) == 1 and name not in kernel.fresh:
                bases.append("0")
            elif name in kernel.fresh:
                waits = value in kernel.writes and kernel.keep[0] > 1
                bases.append(f"row_{call.number} - row_{self.keepers[root_of(value)].number}" if waits else "0")
            elif value in kernel.writes:
                bases.append(f"slot_{call.number}")
            else:
                writer = self.writers[root_of(value)].number
                first = self._first_row(call)
                bases.append(f"tc_back(slot_{writer} - row_{writer} + {first}, {kernel.ring(name)})")
        return bases

    def _fresh(self, kernel: RowKernel, name: str) -> list[str]:
        """For an operand that is joined of two buffers: the number of the first fresh row, and where they are."""
        join = kernel.join(name)
        if join is None:
            return []
        offset = offset_of(getattr(kernel, name))
        place = self.program.address(join.fresh) + (f" + {offset}" if offset else "")
        return [f"row_{self.writers[root_of(join.ring)].number}", place]

    def _first_row(self, call: Call) -> str:
        """C expression for the first row that the call reads."""
        kernel = _row_kernel(call)
        tables = {f.name: getattr(kernel, f.name) for f in type(kernel).schema.operands if not f.variadic}

        def name_outside(match: re.Match[str]) -> str:
            word = match[0]
            if word == "row_begin":
                return f"row_{call.number}"
            return self.program.address(tables[word]) if tables.get(word) is not None else word

        text = re.sub(r"[A-Za-z_]\w*", name_outside, kernel.first_row())
        return text if re.fullmatch(r"\w+", text) else f"({text})"


def pace_text(kernel: RowKernel) -> str:
    """When the rows of a kernel are due, in words: `48 rows, 1 every 2 steps`."""
    pace = Pace(*(kernel.pace or (1, 1, 0)))
    often = "a step" if pace.steps == 1 else f"every {pace.steps} steps"
    return f"{kernel.rows[1]} rows, {pace.rows} {often}"


def _row_kernel(call: Call) -> RowKernel:
    assert isinstance(call.op, RowKernel)
    return call.op


def _due(kernel: RowKernel) -> str:
    """C expression for the rows that are done behind this step, before they are clipped to the tensor."""
    pace = Pace(*(kernel.pace or (1, 1, 0)))
    shift = pace.shift + pace.rows
    text = "step" if pace.rows == 1 else f"step * {pace.rows}"
    text += f" {'+' if shift > 0 else '-'} {abs(shift)}" if shift else ""
    if pace.steps == 1:
        return text
    return f"{text} / {pace.steps}" if text == "step" else f"({text}) / {pace.steps}"
