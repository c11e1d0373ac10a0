"""Resizing of images: nearest neighbour and bilinear, with ONNX's rules for where an output pixel lies in the input.

    %y = nn.resize(%x) {mode = nearest, coordinates = asymmetric, scales = [2.0, 2.0]} : tensor<1x16x16x8xf32>

Source: the ONNX operator specification, Resize (opset 19). Positions are computed in float32, as onnxruntime does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np

from ..geometry import Axis, Box, Span, axis_index
from ..ir import Array, Value
from ..types import TensorType
from .base import Spatial

__all__ = ["Coordinates", "NearestRounding", "Resampling", "Resize"]

Coordinates = Literal["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric", "align_corners"]
NearestRounding = Literal["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
_HALF, _ONE = np.float32(0.5), np.float32(1)
_ROUNDINGS: dict[NearestRounding, Callable[[Array], Array]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda position: np.asarray(np.ceil(position - _HALF)),
    "round_prefer_ceil": lambda position: np.asarray(np.floor(position + _HALF)),
}


class Resampling(Spatial):
    """What ops share that mix or copy the pixels around a position in x for each pixel of the result."""

    if TYPE_CHECKING:
        @property
        def x(self) -> Value: ...
        @property
        def coordinates(self) -> Coordinates: ...
        @property
        def scales(self) -> tuple[float, float]: ...
        @property
        def part(self) -> tuple[int, ...]: ...

    @property
    def taps(self) -> int:
        """How many rows (and columns) a pixel is made of."""
        return 2

    def verify(self) -> None:
        self.require(len(self.scales) == 2 and min(self.scales) > 0, "scales is {}, expected two positive numbers",
                     list(self.scales))
        self.require(len(self.part) in (0, 8), "part has {} entries, expected 8", len(self.part))
        for axis, scale in enumerate(self.scales):
            _, _, after, before = self._place(axis)
            # A model that gives sizes has a scale of their ratio, rounded; one with scales has floor of the product.
            near = abs(before * scale - after) < 1.001
            self.require(near, "a scale of {} makes {} out of {}, the result has {}", scale, int(before * scale),
                         before, after)

    def _place(self, axis: int) -> tuple[int, int, int, int]:
        """Along rows (0) or columns (1): where the result and x begin, and how large they are as a whole."""
        begin, first, after, before = self.part[axis::2] or (0, 0, self.out.shape[axis + 1], self.x.shape[axis + 1])
        return begin, first, after, before

    def positions(self, axis: Axis) -> Array:
        """For each output row (or column) where it lies in the whole x: float32, not yet clipped."""
        a = axis_index(axis)
        begin, _, count, extent = self._place(a - 1)
        return self._whole_positions(count, extent, np.float32(self.scales[a - 1]))[begin:begin + self.out.shape[a]]

    def _whole_positions(self, count: int, extent: int, scale: np.float32) -> Array:
        place = np.arange(count, dtype=np.float32)
        if scale == 1 and extent == count:
            return place
        if self.coordinates == "asymmetric":
            return place / scale
        if self.coordinates == "align_corners":
            return place * np.float32(extent - 1) / np.float32(max(count - 1, 1))
        if self.coordinates == "pytorch_half_pixel" and count == 1:
            return place
        if self.coordinates == "half_pixel_symmetric":
            adjustment = np.float32(count) / (scale * np.float32(extent))
            offset = np.float32(extent / 2) * (_ONE - adjustment)
            centre = (place.astype(np.float64) + 0.5) / np.float64(scale)  # in double precision, as onnxruntime's
            return np.asarray(np.float64(offset) + centre - 0.5, np.float32)
        return np.asarray((place + _HALF) / scale - _HALF)

    def linear_sources(self, axis: Axis) -> tuple[Array, Array, Array]:
        """For each output row (or column) the two input rows that mode linear mixes, and the weight of the second.

        Where a position lies on a row, that row is both, and the weight 0.
        """
        _, begin, _, extent = self._place(axis_index(axis) - 1)
        position = np.clip(self.positions(axis), np.float32(0), np.float32(extent - 1))
        first = position.astype(np.int64)
        return first - begin, np.ceil(position).astype(np.int64) - begin, position - first.astype(np.float32)

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        if not out.extent:
            return Span(0, 0)
        first, second, _ = self.linear_sources(axis)
        return Span(int(first[out.begin]), int(second[out.end - 1]) + 1)

    def part_attrs(self, out: Box, given: Sequence[Box]) -> dict[str, Any] | None:
        begin, first, after, before = zip(*(self._place(axis) for axis in (0, 1)), strict=True)
        places = [span.begin + begun for span, begun in zip((*out, *given[0]), (*begin, *first), strict=True)]
        return {"part": (*places, *after, *before)}


@final
class Resize(Resampling, opname="nn.resize"):
    """y[n, i, j, c] = x at the position that output row i and column j correspond to: the nearest pixel, or the
    weighted mean of the four around it; positions outside x are moved to its edge. With s the scale of the axis
    (`scales`, as the model gives it), I and O its input and output extents, output position o corresponds to

    | coordinates          | position                                                        |
    |----------------------|-----------------------------------------------------------------|
    | half_pixel           | (o + 0.5) / s - 0.5                                             |
    | half_pixel_symmetric | I/2 * (1 - O/(s*I)) + (o + 0.5) / s - 0.5                       |
    | pytorch_half_pixel   | (o + 0.5) / s - 0.5, or 0 if O is 1                             |
    | asymmetric           | o / s                                                           |
    | align_corners        | o * (I - 1) / (O - 1), or 0 if O is 1                           |

    ONNX: Resize in mode nearest or linear over H and W, Upsample.
    """

    x: Value                                # [N, H, W, C]
    mode: Literal["nearest", "linear"]
    coordinates: Coordinates
    scales: tuple[float, float]             # rows, columns; output / input
    result: TensorType                      # [N, H', W', C]
    nearest: NearestRounding = "round_prefer_floor"
    part: tuple[int, ...] = ()              # the first row and column of the result, and of x, if both are parts; then
                                            # rows and columns of the whole result, and of the whole x

    def infer(self) -> TensorType:
        self.require_rank(self.x, 4, "x", "N, H, W, C")
        self.require_number(self.x)
        self.require(self.mode == "nearest" or self.x.type.dtype.is_float, "x is {}, expected floats in mode linear",
                     self.x.type.dtype)
        shape, quant = self.x.shape, self.x.type.quant
        rows, columns = self.result.shape[1:3] if self.result.rank == 4 else (0, 0)
        expected = self.result_of((shape[0], rows, columns, shape[3]), self.x.type.dtype, quant)
        self.require(self.result == expected, "the result is declared as {}, expected {}", self.result, expected)
        return self.result

    @property
    def taps(self) -> int:
        return 2 if self.mode == "linear" else 1

    def nearest_sources(self, axis: Axis) -> Array:
        """For each output row (or column) the input row (or column) that mode nearest copies."""
        position = self.positions(axis)
        rounded = _ROUNDINGS[self.nearest](position)
        _, first, _, extent = self._place(axis_index(axis) - 1)
        return np.clip(rounded.astype(np.int64), 0, extent - 1) - first

    def reference(self, x: Array) -> Array:
        if self.mode == "nearest":
            return np.take(np.take(x, self.nearest_sources("rows"), 1), self.nearest_sources("columns"), 2)
        return self._mix(self._mix(x, "columns"), "rows")

    def _mix(self, x: Array, axis: Axis) -> Array:
        a = axis_index(axis)
        first, second, weight = self.linear_sources(axis)
        w = weight.astype(x.dtype).reshape([-1 if d == a else 1 for d in range(4)])
        return np.asarray(np.take(x, first, a) * (1 - w) + np.take(x, second, a) * w)

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        if self.mode == "linear" or not out.extent:
            return super().input_span(out, axis, operand)
        sources = self.nearest_sources(axis)
        return Span(int(sources[out.begin]), int(sources[out.end - 1]) + 1)
