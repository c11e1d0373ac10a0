"""Which values of a function are stored when, in bytes: what runs op by op needs, and what lives behind other things.

    %a = nn.relu(%x) : tensor<1x4x4x8xf32>        512 bytes, stored until the last op that reads it has run
    %b = nn.reshape(%a) : tensor<1x128xf32>       the same bytes
    nn.return(%y)                                 %y lies in the caller's buffer, as %x does: 0 bytes

The same of some ops alone, seen as a part of the whole: `Memory.around` says what is there besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from tinyir.clone import stand_in
from tinyir.ir import Argument, Const, Func, Value
from tinyir.opdef import Op
from tinyir.ops import Reinterpret, Reshape, Return

from ._joined import joined_parts, overwritten

__all__ = ["Around", "Memory"]


class Around(NamedTuple):
    """What is there besides the ops of a function that are copied: values that others have stored and they read; of
    these the names of values that lie elsewhere; values in the caller's buffers, and others, that are needed behind
    them; and the bytes of all that lives on and that they do not read.
    """

    given: Sequence[Value] = ()
    root: Mapping[Value, Value] = {}
    outputs: Sequence[Value] = ()
    behind: Sequence[Value] = ()
    beside: int = 0


class Memory:
    """Which values of a function are stored when, in bytes. Of a function that is a part of another one `around` says
    what else is there; it returns the values that are needed behind it, those in the caller's buffers first.
    """

    def __init__(self, func: Func, align: int, around: Around | None = None) -> None:
        self.align = align
        self._around = around or Around()
        self._sizes: dict[tuple[Value, int | None], int] = {}
        self._live: dict[int, dict[Value, int]] = {}
        self.ops = [op for op in func.ops if not isinstance(op, Return)]
        self.place = {op: i for i, op in enumerate(self.ops)}
        self.root: dict[Value, Value] = dict(self._around.root)
        for op in self.ops:
            if isinstance(op, (Reshape, Reinterpret)):
                self.root[op.out] = self.root.get(op.x, op.x)
        results = [self.root.get(v, v) for v in func.results]
        self.outputs = set(results if around is None else results[:len(around.outputs)])
        if around is None:
            self.outputs.update(overwritten(self.ops, func.results, self.root))
            self.outputs.update(joined_parts(self.ops, func.results, self.root))
        self.last: dict[Value, int] = {}
        for op in self.ops:
            for value in op.reads:
                self.last[self.root.get(value, value)] = self.place[op]
        if around is not None:
            self.last.update((value, len(self.ops)) for value in results[len(around.outputs):])

    @cached_property
    def before(self) -> list[int]:
        """For each op: the bytes of what was computed before it and is read by it or later."""
        change = [self._around.beside] + [0] * (len(self.ops) + 1)
        for place, value in self._stored():
            if (last := self.last.get(value, -1)) > place:
                change[place + 1] += self.size(value)
                change[last + 1] -= self.size(value)
        return list(accumulate(change[:len(self.ops)]))

    def _stored(self) -> list[tuple[int, Value]]:
        """The values that are stored, and the number of the op that computes each; -1 for what is there before."""
        return [*((-1, value) for value in self._around.given),
                *((place, result) for place, op in enumerate(self.ops) for result in op.results)]

    def single(self, index: int) -> int:
        """Bytes while op number `index` runs on whole tensors, in place if it can."""
        return self.before[index] + sum(self.size(r) for r in self.ops[index].results) - self._taken_over(index)

    def _taken_over(self, index: int) -> int:
        """Bytes of the result of an op that lie where an operand lay that dies with it."""
        op = self.ops[index]
        return self.size(op.out) if any(self.last[v] == index for v in self.reusable(op)) else 0

    def reusable(self, op: Op) -> list[Value]:
        """The stored values whose bytes the result of an op may take over, if nobody else needs them any more."""
        values = [self.root.get(v, v) for v in (op.operands[i] for i in op.reuses()) if v is not None]
        return [v for v in values if self.size(v) == self.size(op.out) > 0]

    def size(self, value: Value, rows: int | None = None) -> int:
        """Bytes of a value, or of that many rows of it; 0 for what others store."""
        key = value, rows
        if key not in self._sizes:
            self._sizes[key] = self._size(value, rows)
        return self._sizes[key]

    def _size(self, value: Value, rows: int | None) -> int:
        if isinstance(value, (Argument, Const)) or value in self.outputs or value in self.root:
            return 0
        elements = value.type.size_bytes
        if rows is not None and value.type.rank == 4:
            elements = elements // value.shape[1] * rows
        return self.aligned(elements)

    def aligned(self, size: int) -> int:
        """`size` up to the next multiple of the alignment."""
        return -(-size // self.align) * self.align

    def live_in(self, first: int) -> dict[Value, int]:
        """What was computed before op number `first` and is read by it or later: the last reader."""
        if first not in self._live:
            self._live[first] = {value: last for place, value in self._stored()
                                 if place < first <= (last := self.last.get(value, -1))}
        return self._live[first]

    def needed_behind(self, value: Value, end: int) -> bool:
        """Whether an op from number `end` on reads the value, or the function returns it."""
        return self.last.get(value, -1) >= end or value in self.outputs

    def around(self, first: int, end: int, same: Mapping[Value, Value]) -> Around:
        """What is there besides ops first ... end - 1; `same` has their values in a copy of them."""
        made = [result for op in self.ops[first:end] for result in op.results]
        read = {self.root.get(value, value): None for value in same if value not in made}
        inner = {value: same.get(value) or stand_in(value)
                 for value in (*read, *made) if value not in self.root and not isinstance(value, Const)}
        given = [value for value in inner if value not in made and not isinstance(value, Argument)]
        outputs = [new for value, new in inner.items() if value in self.outputs]
        behind = [new for value, new in inner.items() if value not in self.outputs and self.last.get(value, -1) >= end]
        root = {new: inner.get(self.root[value], self.root[value]) for value, new in same.items()
                if value not in made and value in self.root}
        beside = self.before[first] - sum(self.size(value) for value in given)
        return Around([inner[value] for value in given], root, outputs, behind, beside)
