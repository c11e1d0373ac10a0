"""Pooling with a window. Pooling over the whole image is nn.reduce_mean or nn.reduce_max over the axes 1 and 2.

    %y = nn.max_pool(%x) {kernel = [2, 2], stride = [2, 2]} : tensor<1x8x8x16xf32>
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from ..geometry import Axis, Box, Span, axis_index, window_input_span, window_output_extent
from ..ir import Array, Value
from ..types import TensorType
from .base import Spatial
from .conv import window_pads
from .window import axis_pads, pad_rows_columns, tap_slices

__all__ = ["AvgPool", "MaxPool"]


class _Pool(Spatial):
    """What the two have in common; the window attributes are theirs, since their order belongs to each schema."""

    def _result(self) -> TensorType:
        x, kernel, stride, dilation = self._window()
        self.require_rank(x, 4, "x", "N, H, W, C")
        self.require_number(x)
        for name, value in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
            self.require_pair(name, value)
        self.require_pair("pad", self._pads(), 0, 4)
        out = [window_output_extent(x.shape[a + 1], kernel[a], stride[a], dilation[a], axis_pads(self._pads(), a))
               for a in (0, 1)]
        result = self.result_of((x.shape[0], *out, x.shape[3]), x.type.dtype, x.type.quant)
        for a, name in ((0, "rows"), (1, "columns")):
            counts = _taps_inside(out[a], kernel[a], stride[a], dilation[a], self._pads()[a], (0, x.shape[a + 1]))
            least = int(counts.argmin())
            self.require(int(counts[least]) > 0, "window {} of the {} sees nothing but padding", least, name)
        return result

    def _window(self) -> tuple[Value, tuple[int, int], tuple[int, int], tuple[int, int]]:
        """x, kernel, stride, dilation."""
        raise NotImplementedError

    def _pads(self) -> tuple[int, int, int, int]:
        """All padding: top, left, bottom, right."""
        raise NotImplementedError

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        a = axis_index(axis) - 1
        x, kernel, stride, dilation = self._window()
        return window_input_span(out, kernel[a], stride[a], dilation[a], self._pads()[a], x.shape[a + 1])


def _taps_inside(outputs: int, kernel: int, stride: int, dilation: int, pad: int, inside: tuple[int, int]) -> Array:
    """For each window along one axis, how many of its taps lie in the half-open range `inside` of input rows."""
    rows = np.arange(outputs)[:, None] * stride - pad + np.arange(kernel) * dilation
    return np.asarray(((rows >= inside[0]) & (rows < inside[1])).sum(axis=1))


@final
class MaxPool(_Pool, opname="nn.max_pool"):
    """y[n, i, j, c] = max over ky, kx of x[n, i*sy + ky*dy - top, j*sx + kx*dx - left, c]; padding never wins.
    ONNX: MaxPool with one output.
    """

    x: Value                                # [N, H, W, C]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)   # top, left, bottom, right
    dilation: tuple[int, int] = (1, 1)

    def infer(self) -> TensorType:
        return self._result()

    def _window(self) -> tuple[Value, tuple[int, int], tuple[int, int], tuple[int, int]]:
        return self.x, self.kernel, self.stride, self.dilation

    def _pads(self) -> tuple[int, int, int, int]:
        return self.pad

    def part_attrs(self, out: Box, given: Sequence[Box]) -> dict[str, Any] | None:
        return {"pad": window_pads(out, given[0], self.kernel, self.stride, self.pad, self.dilation)}

    def reference(self, x: Array) -> Array:
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        padded = pad_rows_columns(x, self.pad, lowest)
        best: Array | None = None
        for _, _, piece in tap_slices(padded, self.kernel, self.stride, self.dilation):
            best = piece.copy() if best is None else np.maximum(best, piece, out=best)
        assert best is not None
        return best


@final
class AvgPool(_Pool, opname="nn.avg_pool"):
    """y[n, i, j, c] = (sum over ky, kx of x[n, i*sy + ky*dy - top, j*sx + kx*dx - left, c]) / count, where count is
    the number of taps inside x, or inside x and `pad` if count_include_pad. `ceil_pad` adds rows below and columns to
    the right that are never counted: ONNX's ceil_mode. ONNX: AveragePool.
    """

    x: Value                                # [N, H, W, C]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)   # top, left, bottom, right
    dilation: tuple[int, int] = (1, 1)
    count_include_pad: bool = False
    ceil_pad: tuple[int, int] = (0, 0)

    def infer(self) -> TensorType:
        self.require_float(self.x)
        self.require_pair("ceil_pad", self.ceil_pad, 0)
        self.require_pair("pad", self.pad, 0, 4)
        return self._result()

    def _window(self) -> tuple[Value, tuple[int, int], tuple[int, int], tuple[int, int]]:
        return self.x, self.kernel, self.stride, self.dilation

    def _pads(self) -> tuple[int, int, int, int]:
        top, left, bottom, right = self.pad
        return top, left, bottom + self.ceil_pad[0], right + self.ceil_pad[1]

    def part_attrs(self, out: Box, given: Sequence[Box]) -> dict[str, Any] | None:
        top, left, bottom, right = window_pads(out, given[0], self.kernel, self.stride, self.pad, self.dilation)
        counted = min(bottom, self.pad[2]), min(right, self.pad[3])
        return {"pad": (top, left, *counted), "ceil_pad": (bottom - counted[0], right - counted[1])}

    def counts(self, axis: Axis) -> Array:
        """For each output row (or column) how many taps along that axis are counted; the divisor is the product."""
        a = axis_index(axis) - 1
        extent, (before, after) = self.x.shape[a + 1], axis_pads(self.pad, a)
        inside = (-before, extent + after) if self.count_include_pad else (0, extent)
        return _taps_inside(self.out.shape[a + 1], self.kernel[a], self.stride[a], self.dilation[a], before, inside)

    def reference(self, x: Array) -> Array:
        padded = pad_rows_columns(x, self._pads(), 0)
        sums: Array | None = None
        for _, _, piece in tap_slices(padded, self.kernel, self.stride, self.dilation):
            sums = piece.copy() if sums is None else np.add(sums, piece, out=sums)
        assert sums is not None
        counts = self.counts("rows")[:, None, None] * self.counts("columns")[:, None]
        return np.asarray(sums / counts.astype(x.dtype))
