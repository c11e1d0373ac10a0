"""Ops of the mem level: where buffers lie. What computes there are kernel ops (`k.*`), which belong to a backend.

    %y = mem.slot(@arena) {offset = 1024} : buffer<1x8x8x16xf32>
    %f = mem.view(%y) : buffer<1x1024xf32>
    mem.return()
"""

from __future__ import annotations

from typing import final

import numpy as np

from ..ir import Arena, Array, Value
from ..opdef import Op
from ..types import BufferType, Type

__all__ = ["MemReturn", "Slot", "View"]
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
class MemReturn(Op, opname="mem.return"):
    """The end of a function at mem level; its outputs are buffers among its arguments."""

    pure = False
    terminator = True

    def infer(self) -> tuple[Type, ...]:
        return ()

    def reference(self) -> None:
        return None
