"""Ops that fold one or more axes: sums, means, extremes, positions of extremes, softmax.

    %y = nn.reduce_mean(%x) {axes = [1, 2]} : tensor<1x1x1x16xf32>      (ONNX's GlobalAveragePool)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from ..ir import Array, Value
from ..types import I64, Shape, TensorType
from .base import AlongAxis, NnOp, normal_axis

__all__ = ["ArgMax", "ArgMin", "LogSoftmax", "Reduce", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
           "ReduceSum", "Softmax", "reduced_shape"]


class Reduce(NnOp):
    """Folds `axes` (negative ones count from the end) with one function; they stay as 1 if `keepdims`."""

    x: Value
    axes: tuple[int, ...]
    keepdims: bool = True

    @property
    def folded(self) -> tuple[int, ...]:
        """The axes, counted from the front and in order."""
        return tuple(sorted(normal_axis(a, self.x.type.rank) for a in self.axes))

    def infer(self) -> TensorType:
        self.require_number(self.x)
        return self.result_of(reduced_shape(self, self.x, self.axes, self.keepdims), self.x.type.dtype)


def reduced_shape(op: NnOp, x: Value, axes: Sequence[int], keepdims: bool) -> Shape:
    """The shape of x with `axes` folded. Raises CompileError for an axis that x does not have, or has been named."""
    op.require(len(axes) > 0, "axes is empty, expected the axes to fold")
    folded = tuple(op.require_axis(a, x.type.rank) for a in axes)
    op.require(len(set(folded)) == len(folded), "axes {} name one axis twice", list(axes))
    return _folded_shape(x.shape, folded, keepdims)


def _folded_shape(shape: Shape, axes: tuple[int, ...], keepdims: bool) -> Shape:
    if keepdims:
        return tuple(1 if a in axes else d for a, d in enumerate(shape))
    return tuple(d for a, d in enumerate(shape) if a not in axes)


@final
class ReduceMean(Reduce, opname="nn.reduce_mean"):
    """y = sum of x over `axes`, divided by how many were added. ONNX: ReduceMean, GlobalAveragePool."""

    def verify(self) -> None:
        self.require_float(self.x)

    def reference(self, x: Array) -> Array:
        return np.asarray(np.mean(x, axis=self.folded, keepdims=self.keepdims, dtype=x.dtype))


@final
class ReduceSum(Reduce, opname="nn.reduce_sum"):
    """y = sum of x over `axes`; integers wrap. ONNX: ReduceSum."""

    def reference(self, x: Array) -> Array:
        return np.asarray(np.sum(x, axis=self.folded, keepdims=self.keepdims, dtype=x.dtype))


@final
class ReduceMax(Reduce, opname="nn.reduce_max"):
    """y = greatest x over `axes`. ONNX: ReduceMax, GlobalMaxPool."""

    def reference(self, x: Array) -> Array:
        return np.asarray(np.max(x, axis=self.folded, keepdims=self.keepdims))


@final
class ReduceMin(Reduce, opname="nn.reduce_min"):
    """y = least x over `axes`. ONNX: ReduceMin."""

    def reference(self, x: Array) -> Array:
        return np.asarray(np.min(x, axis=self.folded, keepdims=self.keepdims))


@final
class ReduceProd(Reduce, opname="nn.reduce_prod"):
    """y = product of x over `axes`; integers wrap. ONNX: ReduceProd."""

    def reference(self, x: Array) -> Array:
        return np.asarray(np.prod(x, axis=self.folded, keepdims=self.keepdims, dtype=x.dtype))


class _ArgExtreme(NnOp):
    """Positions (i64) of an extreme along `axis`; of equal ones the first, or the last if `select_last`."""

    x: Value
    axis: int
    keepdims: bool = True
    select_last: bool = False

    def infer(self) -> TensorType:
        self.require_number(self.x)
        axis = self.require_axis(self.axis, self.x.type.rank)
        return self.result_of(_folded_shape(self.x.shape, (axis,), self.keepdims), I64)

    def _position(self, x: Array, greatest: bool) -> Array:
        values = np.flip(x, self.axis) if self.select_last else x
        find = np.argmax if greatest else np.argmin
        index = find(values, axis=self.axis, keepdims=self.keepdims)
        if self.select_last:
            index = x.shape[self.axis] - 1 - index
        return np.asarray(index, np.int64)


@final
class ArgMax(_ArgExtreme, opname="nn.arg_max"):
    """y = position of the greatest x along `axis`. ONNX: ArgMax."""

    def reference(self, x: Array) -> Array:
        return self._position(x, True)


@final
class ArgMin(_ArgExtreme, opname="nn.arg_min"):
    """y = position of the least x along `axis`. ONNX: ArgMin."""

    def reference(self, x: Array) -> Array:
        return self._position(x, False)


class _SoftmaxFamily(AlongAxis):
    """Normalises along one axis; the result has the shape of x."""

    x: Value
    axis: int = -1

    def infer(self) -> TensorType:
        self.require_float(self.x)
        self.require_axis(self.axis, self.x.type.rank)
        return self.result_of(self.x.shape, self.x.type.dtype)

    def _shifted(self, x: Array) -> Array:
        return np.asarray(x - x.max(axis=self.axis, keepdims=True))


@final
class Softmax(_SoftmaxFamily, opname="nn.softmax"):
    """y = exp(x - m) / sum of exp(x - m) along `axis`, where m is the greatest x there. ONNX: Softmax (opset 13)."""

    def reference(self, x: Array) -> Array:
        powers = np.exp(self._shifted(x))
        return np.asarray(powers / powers.sum(axis=self.axis, keepdims=True))


@final
class LogSoftmax(_SoftmaxFamily, opname="nn.log_softmax"):
    """y = (x - m) - log(sum of exp(x - m)) along `axis`, m the greatest x there. ONNX: LogSoftmax (opset 13)."""

    def reference(self, x: Array) -> Array:
        shifted = self._shifted(x)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=self.axis, keepdims=True)))
