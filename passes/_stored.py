"""Which values of a function are stored when, in bytes: what runs op by op needs, and what lives behind other things.

    %a = nn.relu(%x) : tensor<1x4x4x8xf32>        512 bytes, stored until the last op that reads it has run
    %b = nn.reshape(%a) : tensor<1x128xf32>       the same bytes
    nn.return(%y)                                 %y lies in the caller's buffer, as %x does: 0 bytes
"""

from __future__ import annotations

from functools import cached_property
from itertools import accumulate

from tinyir.ir import Argument, Const, Func, Value
from tinyir.opdef import Op
from tinyir.ops import Reinterpret, Reshape, Return

from ._joined import joined_parts, overwritten

__all__ = ["Memory"]


class Memory:
    """Which values of a function are stored when, in bytes."""

    def __init__(self, func: Func, align: int) -> None:
        self.align = align
        self._sizes: dict[tuple[Value, int | None], int] = {}
        self._live: dict[int, dict[Value, int]] = {}
        self.ops = [op for op in func.ops if not isinstance(op, Return)]
        self.place = {op: i for i, op in enumerate(self.ops)}
        self.root: dict[Value, Value] = {}
        for op in self.ops:
            if isinstance(op, (Reshape, Reinterpret)):
                self.root[op.out] = self.root.get(op.x, op.x)
        self.outputs = {self.root.get(v, v) for v in func.results}
        self.outputs.update(overwritten(self.ops, func.results, self.root))
        self.outputs.update(joined_parts(self.ops, func.results, self.root))
        self.last: dict[Value, int] = {}
        for op in self.ops:
            for value in op.reads:
                self.last[self.root.get(value, value)] = self.place[op]

    @cached_property
    def before(self) -> list[int]:
        """For each op: the bytes of what was computed before it and is read by it or later."""
        change = [0] * (len(self.ops) + 1)
        for place, op in enumerate(self.ops):
            for result in op.results:
                if (last := self.last.get(result, -1)) > place:
                    change[place + 1] += self.size(result)
                    change[last + 1] -= self.size(result)
        return list(accumulate(change[:-1]))

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
            self._live[first] = {r: self.last[r] for op in self.ops[:first] for r in op.results
                                 if self.last.get(r, -1) >= first}
        return self._live[first]

    def needed_behind(self, value: Value, end: int) -> bool:
        """Whether an op from number `end` on reads the value, or the function returns it."""
        return self.last.get(value, -1) >= end or value in self.outputs
