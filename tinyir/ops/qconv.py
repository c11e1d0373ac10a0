"""Convolutions and matrix products of stored integers: int32 accumulators, then one requantisation.

    %y = qnn.conv2d(%x, @w, @b) {pad = [1, 1, 1, 1]}
            : tensor<1x8x8x16xi8, q<0.02:-5>>

The accumulator is bias + sum of (x - x zero point) * (w - w zero point); the result, as onnxruntime computes it (see
`arith`), is saturate(rint(f32(f32(accumulator) * f32(f32(xs * ws) / ys))) + zero point). Outside the image x is its
zero point. A clamp between convolution and quantisation is `clamp`, in stored values. A result of type i32 is the
accumulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from ..arith import output_multiplier, requantize
from ..geometry import Axis, Box, Span
from ..ir import Array, Value
from ..types import I32, Shape, TensorType
from .base import NnOp, Spatial
from .conv import Pair, Quad, convolve, convolve_depthwise, require_groups, window_pads, window_shape, window_span
from .quant import quant_of, require_accumulator, require_quant

__all__ = ["QConv2D", "QDense", "QDepthwiseConv2D", "QMatMul"]

Clamp = tuple[int, int] | None


def _differences(stored: Array, value: Value) -> Array:
    """stored - zero point, in float64: sums of products of them are exact there."""
    quant = quant_of(value)
    zero = np.asarray(quant.zero_points, np.float64)
    if quant.axis is not None and zero.size > 1:
        shape = [1] * stored.ndim
        shape[quant.axis] = -1
        zero = zero.reshape(shape)
    return np.asarray(stored.astype(np.float64) - zero)


def _finish(op: NnOp, sums: Array, bias: Array | None, operands: tuple[Value, Value], clamp: Clamp) -> Array:
    """Stored result from sums [..., O] of products."""
    accumulator = (sums if bias is None else sums + bias).astype(np.int64).astype(np.int32)
    type_ = op.out.type
    if type_.dtype == I32:
        return accumulator
    x, weight = operands
    multiplier = output_multiplier(quant_of(x), quant_of(weight), quant_of(op.out))
    stored = requantize(accumulator, multiplier, quant_of(op.out).zero_point, type_.dtype)
    return stored if clamp is None else np.clip(stored, *clamp).astype(stored.dtype)


def _require_dot(op: NnOp, x: Value, weight: Value, axis: int, result: TensorType, shape: Shape) -> None:
    """Checks that all these ops share; `axis` is the weight's axis of output channels."""
    require_quant(op, x, "x")
    quant = require_quant(op, weight, "weight", per_tensor=False)
    op.require(quant.axis in (None, axis), "weight is quantised along axis {}, expected {}", quant.axis, axis)
    op.require(result.shape == shape, "the result is declared as {}, its shape should be {}", result,
               "x".join(map(str, shape)))
    op.require(result.quant is not None, "the result is {}, expected a quantised type", result)


@final
class QConv2D(Spatial, opname="qnn.conv2d"):
    """`nn.conv2d` on stored integers. ONNX: QLinearConv, ConvInteger."""

    x: Value                                # [N, H, W, C]
    weight: Value                           # [O, KH, KW, C / groups], one scale or one for each of O
    bias: Value | None                      # [O] i32
    result: TensorType
    stride: Pair = (1, 1)
    pad: Quad = (0, 0, 0, 0)                # top, left, bottom, right
    dilation: Pair = (1, 1)
    groups: int = 1
    clamp: Clamp = None

    @property
    def kernel(self) -> Pair:
        """Height and width of the window."""
        return self.weight.shape[1], self.weight.shape[2]

    def infer(self) -> TensorType:
        self.require_rank(self.x, 4, "x", "N, H, W, C")
        self.require_rank(self.weight, 4, "weight", "O, KH, KW, C / groups")
        outputs = self.weight.shape[0]
        require_groups(self, self.groups, self.x.shape[3], outputs, self.weight.shape[3])
        require_accumulator(self, self.bias, outputs)
        shape = window_shape(self, self.x, outputs, self.kernel, self.stride, self.pad, self.dilation)
        _require_dot(self, self.x, self.weight, 0, self.result, shape)
        return self.result

    def reference(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        sums = convolve(_differences(x, self.x), _differences(weight, self.weight), self.stride, self.pad,
                        self.dilation, self.groups)
        return _finish(self, sums, bias, (self.x, self.weight), self.clamp)

    def macs(self) -> int:
        return self.out.type.elements * int(np.prod(self.weight.shape[1:]))

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        return window_span(out, axis, self.x, self.kernel, self.stride, self.pad, self.dilation)

    def part_attrs(self, out: Box, given: Sequence[Box]) -> dict[str, Any] | None:
        return {"pad": window_pads(out, given[0], self.kernel, self.stride, self.pad, self.dilation)}


@final
class QDepthwiseConv2D(Spatial, opname="qnn.depthwise_conv2d"):
    """`nn.depthwise_conv2d` on stored integers. ONNX: QLinearConv with group = C."""

    x: Value                                # [N, H, W, C]
    weight: Value                           # [KH, KW, C * M], one scale or one for each of C * M
    bias: Value | None                      # [C * M] i32
    result: TensorType
    stride: Pair = (1, 1)
    pad: Quad = (0, 0, 0, 0)                # top, left, bottom, right
    dilation: Pair = (1, 1)
    clamp: Clamp = None

    @property
    def kernel(self) -> Pair:
        """Height and width of the window."""
        return self.weight.shape[0], self.weight.shape[1]

    def infer(self) -> TensorType:
        self.require_rank(self.x, 4, "x", "N, H, W, C")
        self.require_rank(self.weight, 3, "weight", "KH, KW, C * multiplier")
        channels, outputs = self.x.shape[3], self.weight.shape[2]
        self.require(outputs % channels == 0, "weight has {} channels, expected a multiple of the {} of x", outputs,
                     channels)
        require_accumulator(self, self.bias, outputs)
        shape = window_shape(self, self.x, outputs, self.kernel, self.stride, self.pad, self.dilation)
        _require_dot(self, self.x, self.weight, 2, self.result, shape)
        return self.result

    def reference(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        sums = convolve_depthwise(_differences(x, self.x), _differences(weight, self.weight), self.stride, self.pad,
                                  self.dilation)
        return _finish(self, sums, bias, (self.x, self.weight), self.clamp)

    def macs(self) -> int:
        return self.out.type.elements * self.kernel[0] * self.kernel[1]

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        return window_span(out, axis, self.x, self.kernel, self.stride, self.pad, self.dilation)

    def part_attrs(self, out: Box, given: Sequence[Box]) -> dict[str, Any] | None:
        return {"pad": window_pads(out, given[0], self.kernel, self.stride, self.pad, self.dilation)}


@final
class QDense(NnOp, opname="qnn.dense"):
    """`nn.dense` on stored integers. ONNX: com.microsoft.QGemm, QLinearMatMul with constant weights."""

    x: Value                                # [N, K]
    weight: Value                           # [O, K], one scale or one for each of O
    bias: Value | None                      # [O] i32
    result: TensorType
    clamp: Clamp = None

    def infer(self) -> TensorType:
        self.require_rank(self.x, 2, "x", "N, K")
        self.require_rank(self.weight, 2, "weight", "O, K")
        (batch, inputs), (outputs, expected) = self.x.shape, self.weight.shape
        self.require(inputs == expected, "x has {} columns, weight expects {}", inputs, expected)
        require_accumulator(self, self.bias, outputs)
        _require_dot(self, self.x, self.weight, 0, self.result, (batch, outputs))
        return self.result

    def reference(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        sums = _differences(x, self.x) @ _differences(weight, self.weight).T
        return _finish(self, sums, bias, (self.x, self.weight), self.clamp)

    def macs(self) -> int:
        return self.out.type.elements * self.x.shape[1]


@final
class QMatMul(NnOp, opname="qnn.matmul"):
    """`nn.matmul` of two activations in stored integers. ONNX: QLinearMatMul, MatMulInteger."""

    a: Value                                # [..., M, K]
    b: Value                                # [..., K, N]
    result: TensorType

    def infer(self) -> TensorType:
        self.require(self.a.type.rank >= 2 and self.b.type.rank >= 2, "a and b need at least two dimensions")
        (rows, inner), (expected, columns) = self.a.shape[-2:], self.b.shape[-2:]
        self.require(inner == expected, "a has {} columns, b {} rows", inner, expected)
        require_quant(self, self.b, "b")
        outer = np.broadcast_shapes(self.a.shape[:-2], self.b.shape[:-2])
        _require_dot(self, self.a, self.b, -1, self.result, (*outer, rows, columns))
        return self.result

    def reference(self, a: Array, b: Array) -> Array:
        return _finish(self, _differences(a, self.a) @ _differences(b, self.b), None, (self.a, self.b), None)

    def macs(self) -> int:
        return self.out.type.elements * self.a.shape[-1]
