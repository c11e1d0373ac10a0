"""Matrix products.

    %y = nn.dense(%x, @w, @b) {act = relu} : tensor<1x10xf32>
"""

from __future__ import annotations

from typing import final

import numpy as np

from ..ir import Array, Value
from ..types import Shape, TensorType
from .activation import Activation, apply_activation, require_activation
from .base import NnOp

__all__ = ["Dense", "MatMul"]


@final
class Dense(NnOp, opname="nn.dense"):
    """y[n, o] = act(bias[o] + sum over k of x[n, k] * weight[o, k]). ONNX: Gemm with constant B."""

    x: Value                                # [N, K]
    weight: Value                           # [O, K]
    bias: Value | None = None               # [O]
    act: Activation = "none"
    act_args: tuple[float, ...] = ()

    def infer(self) -> TensorType:
        self.require_rank(self.x, 2, "x", "N, K")
        self.require_rank(self.weight, 2, "weight", "O, K")
        self.require_float(self.x)
        self.require_same_dtype(self.x, self.weight, ("x", "weight"))
        (batch, inputs), (outputs, expected) = self.x.shape, self.weight.shape
        self.require(inputs == expected, "x has {} columns, weight expects {}", inputs, expected)
        self._check_bias(outputs)
        return self.result_of((batch, outputs), self.x.type.dtype)

    def _check_bias(self, outputs: int) -> None:
        if self.bias is None:
            return
        self.require_same_dtype(self.x, self.bias, ("x", "bias"))
        self.require_vector(self.bias, "bias", outputs, "outputs")

    def verify(self) -> None:
        require_activation(self, self.act, self.act_args)

    def reference(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        sums = x @ weight.T
        return apply_activation(sums if bias is None else sums + bias, self.act, self.act_args)

    def macs(self) -> int:
        return self.x.type.elements * self.weight.shape[0]


@final
class MatMul(NnOp, opname="nn.matmul"):
    """y[..., i, j] = sum over k of a[..., i, k] * b[..., k, j]; leading dimensions broadcast, a vector is a row (as a)
    or a column (as b) whose dimension is dropped again. ONNX: MatMul.
    """

    a: Value                                # [..., I, K] or [K]
    b: Value                                # [..., K, J] or [K]

    def infer(self) -> TensorType:
        self.require(self.a.type.rank >= 1 and self.b.type.rank >= 1, "a and b need at least one dimension each")
        self.require_number(self.a, "a")
        self.require_same_dtype(self.a, self.b, ("a", "b"))
        left, right = _as_matrix(self.a.shape, 0), _as_matrix(self.b.shape, -1)
        self.require(left[-1] == right[-2], "a has {} columns, b has {} rows", left[-1], right[-2])
        return self.result_of((*self._batch(left[:-2], right[:-2]), *self._matrix()), self.a.type.dtype)

    def _batch(self, left: Shape, right: Shape) -> Shape:
        try:
            return tuple(np.broadcast_shapes(left, right))
        except ValueError:
            raise self.error(f"leading dimensions {list(left)} and {list(right)} do not broadcast") from None

    def _matrix(self) -> Shape:
        """The last dimensions of the result: those of a and b that are not summed over."""
        rows = self.a.shape[-2:-1] if self.a.type.rank > 1 else ()
        columns = self.b.shape[-1:] if self.b.type.rank > 1 else ()
        return rows + columns

    def reference(self, a: Array, b: Array) -> Array:
        return np.asarray(np.matmul(a, b))

    def macs(self) -> int:
        return self.out.type.elements * self.a.shape[-1]


def _as_matrix(shape: Shape, missing: int) -> Shape:
    if len(shape) > 1:
        return shape
    return (1, *shape) if missing == 0 else (*shape, 1)
