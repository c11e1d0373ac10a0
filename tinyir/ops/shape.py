"""Ops that move elements and compute nothing: reshape, transpose, pad, concat, slice, broadcast, tile, gather.

    %y = nn.slice(%x) {begin = [0, 7, 0, 0], step = [1, -1, 1, 1]} : tensor<1x8x8x16xf32>      (rows in reverse)

They take any element type, and a quantisation goes through them unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, final

import numpy as np

from ..geometry import Axis, Box, Span, axis_index
from ..ir import Array, Value
from ..types import Quant, Shape, TensorType
from .base import NnOp, Spatial, normal_axis

__all__ = ["BroadcastTo", "Concat", "Gather", "Insert", "Pad", "PadMode", "Reshape", "Slice", "Tile", "Transpose"]

PadMode = Literal["constant", "reflect", "edge", "wrap"]


class _Moving(NnOp):
    """An op whose result has the element type and the quantisation of one operand."""

    def _like(self, x: Value, shape: Shape, quant_axis: int | None = None) -> TensorType:
        """The result type. A quantisation per axis needs `quant_axis`, where that axis is in the result."""
        quant = x.type.quant
        if quant is not None and quant.axis is not None:
            self.require(quant_axis is not None, "x is quantised per axis, expected one scale")
            quant = Quant(quant.scales, quant.zero_points, quant_axis)
        return self.result_of(shape, x.type.dtype, quant)

    def _declared(self, x: Value, result: TensorType) -> TensorType:
        """The declared result, which must have the element type and the quantisation of x."""
        expected = self._like(x, result.shape)
        self.require(result == expected, "the result is declared as {}, expected {}", result, expected)
        return result


@final
class Pad(_Moving, Spatial, opname="nn.pad"):
    """x with `before` and `after` elements around each axis; negative numbers crop, which is done first. `value` (a
    stored element) is put there in mode constant; reflect mirrors without repeating the edge, edge repeats it, wrap
    starts over.
    ONNX: Pad.
    """

    x: Value
    before: tuple[int, ...]                 # one entry an axis
    after: tuple[int, ...]
    mode: PadMode = "constant"
    value: float = 0.0

    def infer(self) -> TensorType:
        x = self.x.type
        for name, amounts in (("before", self.before), ("after", self.after)):
            count = len(amounts)
            self.require(count == x.rank, "{} has {} entries, expected {}, one an axis", name, count, x.rank)
        shape = tuple(b + d + a for b, d, a in zip(self.before, x.shape, self.after, strict=True))
        result = self._like(self.x, shape)
        for axis in range(x.rank):
            kept, most = self._kept(axis), max(self.before[axis], self.after[axis])
            self.require(kept.extent > 0, "nothing of axis {} is left", axis)
            self.require(self.mode != "reflect" or most < kept.extent, "axis {} has {} elements, too few to reflect {}",
                         axis, kept.extent, most)
        return result

    def _kept(self, axis: int) -> Span:
        """What cropping leaves of x along `axis`."""
        return Span(max(-self.before[axis], 0), self.x.shape[axis] + min(self.after[axis], 0))

    def sources(self, axis: int) -> Array:
        """For each position of the result along `axis` the position in x that it copies, -1 for the fill value."""
        kept = self._kept(axis)
        count = kept.extent
        place = np.arange(self.out.shape[axis]) - max(self.before[axis], 0)
        if self.mode == "constant":
            return np.asarray(np.where((place >= 0) & (place < count), kept.begin + place, -1))
        if self.mode == "edge":
            return np.asarray(kept.begin + np.clip(place, 0, count - 1))
        if self.mode == "wrap":
            return np.asarray(kept.begin + place % count)
        return np.asarray(kept.begin + count - 1 - np.abs(count - 1 - np.abs(place)))

    def reference(self, x: Array) -> Array:
        for axis in range(x.ndim):
            if not self.before[axis] and not self.after[axis]:
                continue
            sources = self.sources(axis)
            x = np.take(x, np.maximum(sources, 0), axis)
            if (sources < 0).any():
                np.moveaxis(x, axis, 0)[sources < 0] = self.value
        return x

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        sources = self.sources(axis_index(axis))[out.begin:out.end]
        inside = sources[sources >= 0]
        return Span(int(inside.min()), int(inside.max()) + 1) if inside.size else Span(0, 0)

    def part_attrs(self, out: Box, given: Sequence[Box]) -> dict[str, Any] | None:
        if self.mode != "constant":
            return None
        before, after = list(self.before), list(self.after)
        for axis, (made, used) in enumerate(zip(out, given[0], strict=True), start=1):
            before[axis] = used.begin - (made.begin - self.before[axis])
            after[axis] = made.end - self.before[axis] - used.end
        return {"before": tuple(before), "after": tuple(after)}


@final
class Reshape(_Moving, opname="nn.reshape"):
    """The same elements in row-major order under another shape. ONNX: Reshape, Flatten, Squeeze, Unsqueeze."""

    x: Value
    result: TensorType

    def infer(self) -> TensorType:
        found, expected = self.result.elements, self.x.type.elements
        self.require(found == expected, "the result has {} elements, expected the {} of x", found, expected)
        return self._declared(self.x, self.result)

    def reference(self, x: Array) -> Array:
        return x.reshape(self.out.shape)

    def reuses(self) -> tuple[int, ...]:
        return (0,)


@final
class Transpose(_Moving, opname="nn.transpose"):
    """Axis i of the result is axis perm[i] of x. ONNX: Transpose."""

    x: Value
    perm: tuple[int, ...]

    def infer(self) -> TensorType:
        x = self.x.type
        self.require(sorted(self.perm) == list(range(x.rank)), "perm is {}, expected each of 0 to {} once",
                     list(self.perm), x.rank - 1)
        quant_axis = x.quant.axis if x.quant is not None else None
        place = None if quant_axis is None else self.perm.index(quant_axis)
        return self._like(self.x, tuple(x.shape[a] for a in self.perm), place)

    def reference(self, x: Array) -> Array:
        return np.ascontiguousarray(x.transpose(self.perm))


@final
class Concat(_Moving, Spatial, opname="nn.concat"):
    """The inputs one behind the other along `axis`; equal in type and in every other axis. ONNX: Concat."""

    inputs: tuple[Value, ...]
    axis: int

    def infer(self) -> TensorType:
        self.require(len(self.inputs) > 0, "there are no inputs, expected at least one")
        first = self.inputs[0].type
        axis = self.require_axis(self.axis, first.rank)
        for position, value in enumerate(self.inputs):
            found = value.type
            expected = TensorType((*first.shape[:axis], *found.shape[axis:axis + 1], *first.shape[axis + 1:]),
                                  first.dtype, first.quant)
            same = (found.shape, found.dtype, found.quant) == (expected.shape, expected.dtype, expected.quant)
            self.require(same, "input {} is {}, expected {}", position, found, expected)
        extent = sum(value.shape[axis] for value in self.inputs)
        return self._like(self.inputs[0], (*first.shape[:axis], extent, *first.shape[axis + 1:]))

    def reference(self, inputs: list[Array]) -> Array:
        return np.concatenate(inputs, axis=self.axis)

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        dimension = normal_axis(self.axis, self.out.type.rank)
        if dimension != axis_index(axis):
            return out
        start = sum(value.shape[dimension] for value in self.inputs[:operand])
        return out.shift(-start).clip(self.inputs[operand].shape[dimension])

    def part_attrs(self, out: Box, given: Sequence[Box]) -> dict[str, Any] | None:
        return {}


@final
class Slice(_Moving, Spatial, opname="nn.slice"):
    """y[i0, i1, ...] = x[begin[0] + i0 * step[0], ...]; `begin` counts from the front, a step may be negative, the size
    is that of the declared result. ONNX: Slice, Split.
    """

    x: Value
    begin: tuple[int, ...]                  # one entry an axis
    step: tuple[int, ...]
    result: TensorType

    def infer(self) -> TensorType:
        x = self.x.type
        counts = {"begin": len(self.begin), "step": len(self.step), "the result": self.result.rank}
        for name, count in counts.items():
            self.require(count == x.rank, "{} has {} entries, expected {}, one an axis", name, count, x.rank)
        result = self._declared(self.x, self.result)
        for axis, (begin, step, size) in enumerate(zip(self.begin, self.step, result.shape, strict=True)):
            last = begin + (size - 1) * step
            inside = step != 0 and 0 <= begin < x.shape[axis] and 0 <= last < x.shape[axis]
            self.require(inside, "axis {} is read from {} to {} in steps of {}, expected to stay in 0 to {}", axis,
                         begin, last, step, x.shape[axis] - 1)
        return result

    def reference(self, x: Array) -> Array:
        pieces = []
        for begin, step, size in zip(self.begin, self.step, self.out.shape, strict=True):
            end = begin + size * step
            pieces.append(slice(begin, end if end >= 0 else None, step))
        return np.ascontiguousarray(x[tuple(pieces)])

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        if not out.extent:
            return Span(0, 0)
        begin, step = self.begin[axis_index(axis)], self.step[axis_index(axis)]
        ends = (begin + out.begin * step, begin + (out.end - 1) * step)
        return Span(min(ends), max(ends) + 1)

    def part_attrs(self, out: Box, given: Sequence[Box]) -> dict[str, Any] | None:
        begin = list(self.begin)
        for axis, (made, used) in enumerate(zip(out, given[0], strict=True), start=1):
            begin[axis] += made.begin * self.step[axis] - used.begin
        return {"begin": tuple(begin)}


@final
class Insert(_Moving, Spatial, opname="nn.insert", levels=("sched",)):
    """whole, with `part` in it from the element `begin` on. Its bytes are those of `whole`, which nobody else uses:
    what is made part by part lies where it belongs.
    """

    whole: Value
    part: Value
    begin: tuple[int, ...]                  # one entry an axis

    def infer(self) -> TensorType:
        whole, part = self.whole.type, self.part.type
        same = len(self.begin) == whole.rank == part.rank and whole.dtype == part.dtype
        self.require(same, "part is {} and begin has {} entries, expected as many dimensions as {}", part,
                     len(self.begin), whole)
        inside = all(0 <= b and b + d <= e for b, d, e in zip(self.begin, part.shape, whole.shape, strict=True))
        self.require(inside, "part is {}, from {} on it does not lie inside {}", part, list(self.begin), whole)
        return self._like(self.whole, whole.shape)

    def verify(self) -> None:
        self.require(len(self.whole.uses) == 1 and self.whole.op is not None, "whole is used by others too")

    def reference(self, whole: Array, part: Array) -> Array:
        made = whole.copy()
        made[tuple(slice(b, b + d) for b, d in zip(self.begin, part.shape, strict=True))] = part
        return made

    def reuses(self) -> tuple[int, ...]:
        return (0,)


@final
class BroadcastTo(_Moving, opname="nn.broadcast_to"):
    """x repeated along axes of extent 1 and new leading axes until it has the declared shape. ONNX: Expand."""

    x: Value
    result: TensorType

    def infer(self) -> TensorType:
        found, wanted = self.x.shape, self.result.shape
        padded = (1,) * (len(wanted) - len(found)) + found
        good = len(padded) == len(wanted) and all(d in (1, w) for d, w in zip(padded, wanted, strict=True))
        self.require(good, "x {} does not broadcast to {}", list(found), list(wanted))
        return self._declared(self.x, self.result)

    def reference(self, x: Array) -> Array:
        return np.ascontiguousarray(np.broadcast_to(x, self.out.shape))


@final
class Tile(_Moving, opname="nn.tile"):
    """x repeated repeats[i] times along axis i. ONNX: Tile."""

    x: Value
    repeats: tuple[int, ...]                # one entry an axis

    def infer(self) -> TensorType:
        x = self.x.type
        self.require(len(self.repeats) == x.rank, "repeats has {} entries, expected {}, one an axis", len(self.repeats),
                     x.rank)
        return self._like(self.x, tuple(d * r for d, r in zip(x.shape, self.repeats, strict=True)))

    def reference(self, x: Array) -> Array:
        return np.tile(x, self.repeats)


@final
class Gather(_Moving, opname="nn.gather"):
    """y[a..., i..., b...] = x[a..., indices[i...], b...], where the index is on `axis`; negative indices count from the
    end. ONNX: Gather.
    """

    x: Value
    indices: Value                          # integers
    axis: int = 0

    def infer(self) -> TensorType:
        x = self.x.type
        self.require(self.indices.type.dtype.is_integer, "indices is {}, expected integers", self.indices.type.dtype)
        axis = self.require_axis(self.axis, x.rank)
        return self._like(self.x, (*x.shape[:axis], *self.indices.shape, *x.shape[axis + 1:]))

    def verify(self) -> None:
        indices, extent = self.indices.data, self.x.shape[self.axis]
        if indices is None or not indices.size:
            return
        low, high = int(indices.min()), int(indices.max())
        self.require(-extent <= low and high < extent, "indices go from {} to {}, expected {} to {}", low, high,
                     -extent, extent - 1)

    def reference(self, x: Array, indices: Array) -> Array:
        return np.asarray(np.take(x, indices, axis=self.axis))
