"""Ops of the mem level: where buffers lie. What computes there are kernel ops (`k.*`), which belong to a backend.

    %y = mem.slot(@arena) {offset = 1024} : buffer<1x8x8x16xf32>
    %f = mem.view(%y) : buffer<1x1024xf32>
    mem.return()

A loop runs its ops once a step; each computes the rows that are due then (`pace`, see `tinyir.pace`).

    mem.loop() {steps = 9} {
      k.relu_rows(%x) -> (%ring) {rows = [0, 8], height = 8, pace = [1, 1, 0]}
      k.conv2d_f32(%ring, @w, @b) -> (%y) {rows = [0, 8], height = 8, ..., pace = [1, 1, -1]}
      mem.next()
    }

A loop over parts runs them once for each part of some channels (`sched.split`); a loop over rows may stand in it.

    mem.loop() {steps = 30, over = parts} {
      %w_part = mem.part(@w) {axis = 0} : buffer<8x1x1x40xi8>
      k.conv2d_s8(%x, %w_part, ...) -> (%y) {...}
      mem.next()
    }
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal, final

import numpy as np

from ..ir import Arena, Array, Value
from ..opdef import Op
from ..pace import Pace
from ..types import BufferType, Type

__all__ = ["Join", "Loop", "MemReturn", "Next", "Part", "Slot", "View", "Window"]
_UNWRITTEN = 0xA5


@final
class Slot(Op, opname="mem.slot"):
    """`size_bytes` bytes of `arena` from `offset` on, seen as an array. Without an offset it is not placed yet: memory
    of its own, filled with 0xA5.
    """

    pure = False  # each slot is another piece of memory, however alike

    arena: Value
    result: BufferType
    offset: int | None = None               # bytes from the beginning of the arena

    def infer(self) -> BufferType:
        text = "x".join(map(str, self.result.shape))
        good = all(d >= 1 for d in self.result.shape)
        self.require(good, "the slot would be {}, every dimension must be at least 1", text)
        return self.result

    def verify(self) -> None:
        self.require(isinstance(self.arena, Arena), "%{} is not an arena", self.arena.name)
        if self.offset is None:
            return
        width = max(self.result.dtype.bits // 8, 1)
        self.require(self.offset >= 0 and self.offset % width == 0, "offset is {}, expected a multiple of {} from 0 on",
                     self.offset, width)
        size = self.arena.size if isinstance(self.arena, Arena) else None
        end = self.offset + self.result.size_bytes
        self.require(size is None or end <= size, "the slot ends at byte {}, the arena at {}", end, size)

    def reference(self, arena: Array) -> Array:
        numpy_type, elements = self.result.dtype.numpy, self.result.elements
        size = elements * numpy_type.itemsize
        if self.offset is None:
            place = np.full(size, _UNWRITTEN, np.uint8)
        else:
            self.require(size == self.result.size_bytes, "packed {} elements cannot be run", self.result.dtype)
            place = arena[self.offset:self.offset + size]
        return place.view(numpy_type).reshape(self.result.shape)


@final
class View(Op, opname="mem.view"):
    """The bytes of x under another shape; no code."""

    x: Value
    result: BufferType

    def infer(self) -> BufferType:
        found, expected = self.result, self.x.type
        same = found.dtype == expected.dtype and found.elements == expected.elements
        self.require(same, "the view is {}, expected {} elements of {}", found, expected.elements, expected.dtype)
        return found

    def reference(self, x: Array) -> Array:
        return x.reshape(self.result.shape)  # buffers are dense: never a copy


@final
class Window(Op, opname="mem.window"):
    """A part of x, where it lies: the elements from `begin` on. Its rows are as far apart as those of x; no code.

    In a loop x may be a ring, or a join: then it is all rows that are there.
    """

    x: Value
    begin: tuple[int, ...]                  # one entry an axis
    result: BufferType

    def infer(self) -> BufferType:
        found, x = self.result, self.x.type
        self.require(len(self.begin) == x.rank == found.rank, "begin has {} entries, expected {}", len(self.begin),
                     x.rank)
        inside = all(0 <= b and b + d <= e for b, d, e in zip(self.begin, found.shape, x.shape, strict=True))
        self.require(inside and found.dtype == x.dtype, "the window is {} from {} on, expected a part of {}", found,
                     list(self.begin), x)
        return found

    @property
    def offset(self) -> int:
        """Elements in front of its first one."""
        strides = np.cumprod([1, *self.x.shape[:0:-1]])[::-1]
        return int(np.dot(self.begin, strides))

    def reference(self, x: Array) -> Array:
        return x[tuple(slice(b, b + d) for b, d in zip(self.begin, self.result.shape, strict=True))]


@final
class Loop(Op, opname="mem.loop"):
    """`steps` times the ops of its region, from step 0 on; a step is due rows of each, or the whole of each for a part.
    """

    pure = False

    steps: int
    over: Literal["rows", "parts"] = "rows"

    @property
    def body(self) -> list[Op]:
        """The ops of the region, without its terminator."""
        return [op for region in self.regions for op in region.ops if not op.terminator]

    def infer(self) -> tuple[Type, ...]:
        return ()

    def verify(self) -> None:
        self.require(self.steps >= 1, "{} steps, expected at least 1", self.steps)

    def reference(self, body: Callable[..., list[Any]]) -> None:
        for step in range(self.steps):
            body(step=step)

    def times(self) -> int:
        """How often what is in it does all of its work."""
        return self.steps if self.over == "parts" else 1


@final
class Part(Op, opname="mem.part"):
    """The part of x that belongs to the step of a loop over parts: of equal slices along `axis`, the one with the
    number of the step. No code. Where x has more than one index in front of `axis`, what follows them is as far apart
    as in x.
    """

    x: Value
    axis: int
    result: BufferType
    step = 0

    @property
    def parts(self) -> int:
        return self.x.shape[self.axis] // self.result.shape[self.axis]

    @property
    def elements(self) -> int:
        """From the first element of a part to that of the next."""
        return self.result.shape[self.axis] * int(np.prod(self.x.shape[self.axis + 1:]))

    @property
    def dense(self) -> bool:
        """Whether the elements of a part lie behind each other."""
        return all(extent == 1 for extent in self.x.shape[:self.axis])

    def infer(self) -> BufferType:
        found, axis = self.result, self.axis
        whole = list(self.x.shape)
        good = found.rank == len(whole) and 0 <= axis < len(whole) and whole[axis] % max(found.shape[axis], 1) == 0
        self.require(good, "{} are no equal parts of axis {} of {}", found, axis, self.x.type)
        whole[axis] = found.shape[axis]
        self.require(found.shape == tuple(whole) and found.dtype == self.x.type.dtype,
                     "{} are no equal parts of axis {} of {}", found, axis, self.x.type)
        return found

    def verify(self) -> None:
        block = self.block
        loop = None if block is None else block.parent
        steps = loop.steps if isinstance(loop, Loop) and loop.over == "parts" else 0
        self.require(steps == self.parts, "{} parts in a loop over {}", self.parts, steps)

    def at_step(self, step: int) -> Part:
        made = copy.copy(self)
        made.__dict__["step"] = step
        return made

    def reference(self, x: Array) -> Array:
        size = self.result.shape[self.axis]
        place = [slice(None)] * self.axis
        return x[(*place, slice(self.step * size, (self.step + 1) * size))]


@final
class Next(Op, opname="mem.next"):
    """The end of a step."""

    pure = False
    terminator = True

    def infer(self) -> tuple[Type, ...]:
        return ()


@final
class Join(Op, opname="mem.join"):
    """In a loop, what is there of a tensor: the rows that a ring has kept of the steps before, and those of this step.

    `pace` and `height` are those of the op that writes the fresh rows, `keep` says in which steps they go to the ring.
    No code: readers take two addresses.
    """

    ring: Value                             # [1, kept, W, C]; row r in slot r mod kept
    fresh: Value                            # [1, rows of a step, W, C]
    height: int
    pace: tuple[int, int, int]
    keep: tuple[int, int] = (1, 0)

    def infer(self) -> BufferType:
        ring, fresh = self.ring.type, self.fresh.type
        same = ring.shape[2:] == fresh.shape[2:] and ring.dtype == fresh.dtype and ring.rank == 4
        self.require(same, "the rows of the two buffers differ")
        return BufferType((1, ring.shape[1] + fresh.shape[1], *ring.shape[2:]), ring.dtype, ring.quant)

    def first_fresh(self, step: int) -> int:
        """The first row that is not in the ring, in a step."""
        return Pace(*self.pace).kept(step, self.height, self.keep)

    def reference(self, ring: Array, fresh: Array) -> Array:
        return np.concatenate([ring, fresh], axis=1)


@final
class MemReturn(Op, opname="mem.return"):
    """The end of a function at mem level; its outputs are buffers among its arguments."""

    pure = False
    terminator = True

    def infer(self) -> tuple[Type, ...]:
        return ()

    def reference(self) -> None:
        return None
