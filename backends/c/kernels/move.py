"""Kernels that move elements: transpose, slice, pad, concat, tile, broadcast, gather.

All but gather are strided copies: boxes of the result, each a walk over an operand with fixed strides (zero where it
repeats, negative where it reverses) or filled with one value. Axes merge where they can, so that the innermost loop
runs over as many neighbouring elements as possible:

    k.pad(%x) -> (%y) {before = [0, 1, 0, 0], after = [0, 1, 0, 0]}      two boxes of zeros, one copy
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from tinyir import ops
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.ops import PadMode
from tinyir.types import I32, Shape

from ..text import c_type, c_value, fill
from .base import Kernel, evaluate
from .loops import Strides, broadcast_strides, nest, row_major
from .mve_move import transpose_text

__all__ = ["BroadcastTo", "Concat", "Gather", "Insert", "Pad", "Slice", "Tile", "Transpose"]


@dataclass(frozen=True)
class Box:
    """A part of the result: `shape` elements, from `y_offset` on in steps of `y_strides`, that come from operand number
    `source` in steps of `strides` from `offset` on, or are all the fill value (`source` None).
    """

    shape: Shape
    y_strides: Strides
    y_offset: int = 0
    source: int | None = 0
    strides: Strides = ()
    offset: int = 0


class Mover(Kernel):
    """A kernel made of strided copies."""

    def boxes(self) -> list[Box]:
        """The parts of the result; they cover it without overlap."""
        raise NotImplementedError

    def filling(self) -> float:
        """The value of the boxes that have no source."""
        return 0.0

    def stem(self) -> str:
        return f"{super().stem()}_{self.writes[0].type.dtype}"

    def source(self) -> str:
        kind = c_type(self.writes[0].type.dtype)
        names = ["x"] if len(self.reads) == 1 else [f"x{i}" for i in range(len(self.reads))]
        used = {box.source for box in self.boxes()}
        pointers = [f"const {kind} *restrict {name}" for name in names]
        ignored = [f"(void){name};" for i, name in enumerate(names) if i not in used]
        loops = [self._loops(box, names) for box in self.boxes()]
        return fill("static void {name}({pointers}, {kind} *restrict y)\n{\n    {body}\n}", kind=kind,
                    pointers=", ".join(pointers), body="\n".join([*ignored, *loops]))

    def _loops(self, box: Box, names: Sequence[str]) -> str:
        if box.source is None:
            value = c_value(self.filling(), self.writes[0].type.dtype)
            return nest(box.shape, {"y": box.y_strides}, f"{{y}} = {value};", {"y": box.y_offset})
        name = names[box.source]
        strides, offsets = {"y": box.y_strides, name: box.strides}, {"y": box.y_offset, name: box.offset}
        return nest(box.shape, strides, f"{{y}} = {{{name}}};", offsets)


@final
class Transpose(Mover, opname="k.transpose"):
    """Axis i of y is axis perm[i] of x."""

    x: Value
    y: Written
    perm: tuple[int, ...]
    vector: bool = False                   # whether the core has the instructions of mve_move

    def reference(self, x: Array, y: Array) -> None:
        y[...] = x.transpose(self.perm)

    def _loops(self, box: Box, names: Sequence[str]) -> str:
        loops = super()._loops(box, names)
        if not self.vector or self.x.type.dtype.bits != 8:
            return loops
        return transpose_text(box.shape, box.y_strides, box.strides, loops)

    def boxes(self) -> list[Box]:
        dense = row_major(self.x.shape)
        return [Box(self.y.shape, row_major(self.y.shape), strides=tuple(dense[a] for a in self.perm))]


@final
class Slice(Mover, opname="k.slice"):
    """y[i...] = x[begin + i * step, ...] along every axis."""

    x: Value
    y: Written
    begin: tuple[int, ...]
    step: tuple[int, ...]

    def reference(self, x: Array, y: Array) -> None:
        places = [b + s * np.arange(d) for b, s, d in zip(self.begin, self.step, y.shape, strict=True)]
        y[...] = x[np.ix_(*places)] if places else x

    def boxes(self) -> list[Box]:
        dense = row_major(self.x.shape)
        strides = tuple(d * s for d, s in zip(dense, self.step, strict=True))
        offset = sum(d * b for d, b in zip(dense, self.begin, strict=True))
        return [Box(self.y.shape, row_major(self.y.shape), strides=strides, offset=offset)]


@final
class Insert(Mover, opname="k.insert"):
    """y[begin + i...] = x[i...] along every axis; the rest of y stays."""

    x: Value
    y: Written
    begin: tuple[int, ...]

    def reference(self, x: Array, y: Array) -> None:
        y[tuple(slice(b, b + d) for b, d in zip(self.begin, x.shape, strict=True))] = x

    def boxes(self) -> list[Box]:
        dense = row_major(self.y.shape)
        return [Box(self.x.shape, dense, sum(d * b for d, b in zip(dense, self.begin, strict=True)),
                    strides=row_major(self.x.shape))]


@final
class BroadcastTo(Mover, opname="k.broadcast_to"):
    """x repeated, numpy-style, until it has the shape of y."""

    x: Value
    y: Written

    def reference(self, x: Array, y: Array) -> None:
        y[...] = x

    def boxes(self) -> list[Box]:
        return [Box(self.y.shape, row_major(self.y.shape), strides=broadcast_strides(self.x.shape, self.y.shape))]


@final
class Tile(Mover, opname="k.tile"):
    """x repeated repeats[i] times along axis i."""

    x: Value
    y: Written
    repeats: tuple[int, ...]

    def reference(self, x: Array, y: Array) -> None:
        y[...] = np.tile(x, self.repeats)

    def boxes(self) -> list[Box]:
        pairs = list(zip(self.repeats, self.x.shape, row_major(self.x.shape), strict=True))
        shape = tuple(extent for repeats, dim, _ in pairs for extent in (repeats, dim))
        strides = tuple(step for _, _, stride in pairs for step in (0, stride))
        return [Box(shape, row_major(shape), strides=strides)]


@final
class Concat(Mover, opname="k.concat"):
    """The inputs one behind the other along `axis`."""

    inputs: tuple[Value, ...]
    y: Written
    axis: int

    def reference(self, inputs: list[Array], y: Array) -> None:
        np.concatenate(inputs, axis=self.axis, out=y)

    def boxes(self) -> list[Box]:
        dense = row_major(self.y.shape)
        boxes, begin = [], 0
        for position, value in enumerate(self.inputs):
            boxes.append(Box(value.shape, dense, begin * dense[self.axis], position, row_major(value.shape)))
            begin += value.shape[self.axis]
        return boxes


@dataclass(frozen=True)
class Run:
    """`length` neighbours of the result that come from x in equal steps, or are filled (`step` None)."""

    begin: int
    length: int
    source: int
    step: int | None


def runs(sources: Array) -> list[Run]:
    """The positions in x (-1: fill) of all results along an axis, as few runs as a walk from left to right gives."""
    found: list[Run] = []
    begin, count = 0, len(sources)
    while begin < count:
        end = begin + 1
        filled = bool(sources[begin] < 0)
        step = 0 if filled or end == count or sources[end] < 0 else int(sources[end] - sources[begin])
        while end < count and (sources[end] < 0) == filled and (filled or sources[end] - sources[end - 1] == step):
            end += 1
        found.append(Run(begin, end - begin, int(sources[begin]), None if filled else step))
        begin = end
    return found


@final
class Pad(Mover, opname="k.pad"):
    """x with `before` and `after` elements around each axis; negative numbers crop."""

    x: Value
    y: Written
    before: tuple[int, ...]
    after: tuple[int, ...]
    mode: PadMode = "constant"
    value: float = 0.0

    def reference(self, x: Array, y: Array) -> None:
        y[...] = evaluate(ops.Pad, x, before=self.before, after=self.after, mode=self.mode, value=self.value)

    def filling(self) -> float:
        return self.value

    def boxes(self) -> list[Box]:
        pad = ops.Pad(Value(self.x.type), self.before, self.after, self.mode, self.value)
        return list(self._boxes([runs(pad.sources(axis)) for axis in range(len(self.before))], []))

    def _boxes(self, by_axis: list[list[Run]], outer: list[Run]) -> Iterator[Box]:
        """Walk the axes from the first; a filled run is a box over all of the axes behind."""
        axis = len(outer)
        if axis == len(by_axis):
            yield self._copied(outer)
            return
        for run in by_axis[axis]:
            if run.step is None:
                yield self._filled([*outer, run])
            else:
                yield from self._boxes(by_axis, [*outer, run])

    def _copied(self, chosen: list[Run]) -> Box:
        x, y = row_major(self.x.shape), row_major(self.y.shape)
        strides = tuple((run.step or 0) * stride for run, stride in zip(chosen, x, strict=True))
        offset = sum(run.source * stride for run, stride in zip(chosen, x, strict=True))
        begin = sum(run.begin * stride for run, stride in zip(chosen, y, strict=True))
        return Box(tuple(run.length for run in chosen), y, begin, 0, strides, offset)

    def _filled(self, chosen: list[Run]) -> Box:
        y = row_major(self.y.shape)
        begin = sum(run.begin * stride for run, stride in zip(chosen, y, strict=False))
        return Box((*(run.length for run in chosen), *self.y.shape[len(chosen):]), y, begin, None)


@final
class Gather(Kernel, opname="k.gather"):
    """y[a..., i..., b...] = x[a..., indices[i...], b...]; indices that the C computes are kept inside x."""

    x: Value
    indices: Value
    y: Written
    axis: int

    def stem(self) -> str:
        return f"gather_{self.x.type.dtype}"

    def reference(self, x: Array, indices: Array, y: Array) -> None:
        y[...] = np.take(x, indices, axis=self.axis)

    def source(self) -> str:
        shape = self.x.shape
        return fill("""
            static void {name}(const {kind} *restrict x, const {index} *restrict indices, {kind} *restrict y)
            {
                for (int32_t outer = 0; outer < {outer}; outer++) {
                    for (int32_t i = 0; i < {count}; i++) {
                        {check}
                        const {kind} *from = x + (outer * {extent} + (int32_t)at) * {inner};
                        {kind} *to = y + (outer * {count} + i) * {inner};
                        for (int32_t k = 0; k < {inner}; k++) {
                            to[k] = from[k];
                        }
                    }
                }
            }
        """, kind=c_type(self.x.type.dtype), index=c_type(self.indices.type.dtype), check=self._index(),
            outer=int(np.prod(shape[:self.axis])), count=self.indices.type.elements, extent=shape[self.axis],
            inner=int(np.prod(shape[self.axis + 1:])))

    def _index(self) -> str:
        """Statements that define `at`, the index; those of a constant have been checked before."""
        dtype, extent = self.indices.type.dtype, self.x.shape[self.axis]
        if self.indices.data is not None:
            return f"const {c_type(dtype)} at = indices[i];"
        return fill("""
            int64_t at = (int64_t)indices[i];
            at = at < 0 ? at + {extent} : at;
            at = at < 0 ? 0 : at >= {extent} ? {extent} - 1 : at;
        """, extent=extent)


@lowers(ops.Transpose)
def lower_transpose(op: ops.Transpose, low: Lowering) -> None:
    low.emit(Transpose(low.buffer(op.x), low.result(op.out), op.perm, low.target.mve))


@lowers(ops.Slice)
def lower_slice(op: ops.Slice, low: Lowering) -> None:
    low.emit(Slice(low.buffer(op.x), low.result(op.out), op.begin, op.step))


@lowers(ops.Insert)
def lower_insert(op: ops.Insert, low: Lowering) -> None:
    low.emit(Insert(low.buffer(op.part), low.result(op.out), op.begin))


@lowers(ops.BroadcastTo)
def lower_broadcast_to(op: ops.BroadcastTo, low: Lowering) -> None:
    low.emit(BroadcastTo(low.buffer(op.x), low.result(op.out)))


@lowers(ops.Tile)
def lower_tile(op: ops.Tile, low: Lowering) -> None:
    low.emit(Tile(low.buffer(op.x), low.result(op.out), op.repeats))


@lowers(ops.Concat)
def lower_concat(op: ops.Concat, low: Lowering) -> None:
    inputs = tuple(low.buffer(value) for value in op.inputs)
    low.emit(Concat(inputs, low.result(op.out), op.axis % op.out.type.rank))


@lowers(ops.Pad)
def lower_pad(op: ops.Pad, low: Lowering) -> None:
    low.emit(Pad(low.buffer(op.x), low.result(op.out), op.before, op.after, op.mode, op.value))


@lowers(ops.Gather)
def lower_gather(op: ops.Gather, low: Lowering) -> None:
    axis = op.axis % op.x.type.rank
    known = op.indices.data
    if known is None:
        indices = low.buffer(op.indices)
    else:
        counted = np.where(known < 0, known + op.x.shape[axis], known)
        indices = low.const(op.indices.name, counted.astype(I32.numpy))
    low.emit(Gather(low.buffer(op.x), indices, low.result(op.out), axis))
