"""Sums, products, means and softmax of stored integers, each with the rounding that onnxruntime's kernel has.

    %y = qnn.add(%a, %b) : tensor<1x8x8x16xi8, q<0.04:-3>>
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, final

import numpy as np

from ..arith import qlinear_add, qlinear_average, qlinear_global_average, qlinear_mul, qlinear_softmax, saturate
from ..geometry import Axis, Box, Span, window_input_span
from ..ir import Array, Value
from ..types import Quant, TensorType
from .base import AlongAxis, Elementwise, NnOp, Spatial, normal_axis
from .conv import Pair, Quad, window_pads, window_shape, window_span
from .quant import quant_of, require_quant
from .reduce import reduced_shape
from .window import pad_rows_columns, windows

__all__ = ["QAdd", "QAvgPool", "QMul", "QReduceMean", "QSoftmax"]


class _Binary(Elementwise):
    """Two quantised operands that broadcast."""

    def _infer(self, a: Value, b: Value, result: TensorType) -> TensorType:
        require_quant(self, a, "a")
        require_quant(self, b, "b")
        shape = self.broadcast(a, b)
        self.require(result.shape == shape, "the result is declared as {}", result)
        self.require(result.quant is not None, "the result is {}, expected a quantised type", result)
        return result


@final
class QAdd(_Binary, opname="qnn.add"):
    """The sum of the real values. ONNX: com.microsoft.QLinearAdd."""

    a: Value
    b: Value
    result: TensorType

    def infer(self) -> TensorType:
        return self._infer(self.a, self.b, self.result)

    def reference(self, a: Array, b: Array) -> Array:
        return qlinear_add(a, b, quant_of(self.a), quant_of(self.b), quant_of(self.out), self.out.type.dtype)


@final
class QMul(_Binary, opname="qnn.mul"):
    """The product of the real values. ONNX: com.microsoft.QLinearMul."""

    a: Value
    b: Value
    result: TensorType

    def infer(self) -> TensorType:
        return self._infer(self.a, self.b, self.result)

    def reference(self, a: Array, b: Array) -> Array:
        return qlinear_mul(a, b, quant_of(self.a), quant_of(self.b), quant_of(self.out), self.out.type.dtype)


@final
class QAvgPool(Spatial, opname="qnn.avg_pool"):
    """The mean over windows smaller than the image: single-precision sums in raster order, as onnxruntime's.

    ONNX: com.microsoft.QLinearAveragePool. A window as large as the image is `qnn.reduce_mean`.
    """

    x: Value                                # [N, H, W, C]
    result: TensorType
    kernel: Pair
    stride: Pair = (1, 1)
    pad: Quad = (0, 0, 0, 0)                # top, left, bottom, right
    count_include_pad: bool = False

    def infer(self) -> TensorType:
        self.require_rank(self.x, 4, "x", "N, H, W, C")
        require_quant(self, self.x, "x")
        shape = window_shape(self, self.x, self.x.shape[3], self.kernel, self.stride, self.pad, (1, 1))
        self.require(self.result.shape == shape and self.result.quant is not None, "the result is declared as {}",
                     self.result)
        return self.result

    def counts(self) -> Array:
        """The divisor of each window, [OH, OW]."""
        kh, kw = self.kernel
        if self.count_include_pad:
            return np.full(self.out.shape[1:3], kh * kw)
        rows, columns = (self._inside(axis) for axis in (0, 1))
        return np.asarray(rows[:, None] * columns[None, :])

    def _inside(self, axis: int) -> Array:
        spans = [window_input_span(Span(i, i + 1), self.kernel[axis], self.stride[axis], 1, self.pad[axis],
                                   self.x.shape[axis + 1]) for i in range(self.out.shape[axis + 1])]
        return np.asarray([s.end - s.begin for s in spans])

    def reference(self, x: Array) -> Array:
        quant = quant_of(self.x)
        padded = pad_rows_columns(x, self.pad, quant.zero_point)
        view = windows(padded, self.kernel, self.stride, (1, 1))  # [N, OH, OW, C, KH, KW]
        counts = np.broadcast_to(self.counts()[None, :, :, None], view.shape[:4])
        flat = view.reshape(*view.shape[:4], -1)
        return qlinear_average(flat, counts, quant, quant_of(self.out), self.out.type.dtype)

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        return window_span(out, axis, self.x, self.kernel, self.stride, self.pad, (1, 1))

    def part_attrs(self, out: Box, given: Sequence[Box]) -> dict[str, Any] | None:
        return {"pad": window_pads(out, given[0], self.kernel, self.stride, self.pad, (1, 1))}


@final
class QReduceMean(NnOp, opname="qnn.reduce_mean"):
    """The mean over `axes`, from an exact integer sum.

    Rule `single`: one f32 factor for scales and count, as com.microsoft.QLinearGlobalAveragePool. Rule `exact`: the
    real value sum * xs / (count * ys), correctly rounded, for means that onnxruntime has no integer kernel for.
    """

    x: Value
    result: TensorType
    axes: tuple[int, ...]
    keepdims: bool = True
    rule: Literal["single", "exact"] = "single"

    def infer(self) -> TensorType:
        require_quant(self, self.x, "x")
        shape = reduced_shape(self, self.x, self.axes, self.keepdims)
        self.require(self.result.shape == shape and self.result.quant is not None, "the result is declared as {}",
                     self.result)
        return self.result

    @property
    def count(self) -> int:
        """Elements that go into each mean."""
        return self.x.type.elements // self.out.type.elements

    def reference(self, x: Array) -> Array:
        qx, qy = quant_of(self.x), quant_of(self.out)
        axes = tuple(normal_axis(a, x.ndim) for a in self.axes)
        total = (x.astype(np.int64) - qx.zero_point).sum(axis=axes, keepdims=self.keepdims)
        if self.rule == "single":
            return qlinear_global_average(total, self.count, qx, qy, self.out.type.dtype)
        return exact_mean(total, self.count, qx, qy, self.out)


def exact_mean(total: Array, count: int, qx: Quant, qy: Quant, out: Value) -> Array:
    """saturate(rint(total * xs / (count * ys)) + zero point) in rational arithmetic, ties to even."""
    factor = Fraction(float(np.float32(qx.scale))) / (count * Fraction(float(np.float32(qy.scale))))
    distinct, place = np.unique(total, return_inverse=True)
    rounded = np.asarray([round(int(t) * factor) for t in distinct], np.float64)
    return saturate(rounded[place].reshape(total.shape) + qy.zero_point, out.type.dtype)


@final
class QSoftmax(AlongAxis, opname="qnn.softmax"):
    """Softmax over one axis, from a table of 256 exponentials. ONNX: com.microsoft.QLinearSoftmax."""

    x: Value
    result: TensorType
    axis: int = -1

    def infer(self) -> TensorType:
        require_quant(self, self.x, "x")
        self.require_axis(self.axis, self.x.type.rank)
        self.require(self.result.shape == self.x.shape and self.result.quant is not None,
                     "the result is declared as {}", self.result)
        return self.result

    def reference(self, x: Array) -> Array:
        moved = np.moveaxis(x, self.axis, -1)
        return np.moveaxis(qlinear_softmax(moved, quant_of(self.x), quant_of(self.out), self.out.type.dtype), -1,
                           self.axis)
