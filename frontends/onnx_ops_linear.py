"""Converters: matrix products, reductions, softmax, arg max.

    Gemm(x, W, b) {transB = 1}         ->  %y = nn.dense(%x, @W, @b)
    MatMul(x, W) of [1, 16, 64], [64, 10]  ->  reshape to [16, 64], nn.dense with W transposed, reshape to [1, 16, 10]
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tinyir import ops
from tinyir.ir import Value
from tinyir.types import BOOL, U8, Shape, TensorType

from .onnx_node import Node, Produced, converts
from .onnx_ops_math import as_type, scalar

__all__ = ["reshaped"]


def reshaped(node: Node, x: Value, shape: Shape, name: str | None = None) -> Value:
    """`x` under another shape; no op if it has that already."""
    if x.shape == shape:
        return x
    return node.emit(ops.Reshape(x, TensorType(shape, x.type.dtype, x.type.quant)), name)


# -- products ----------------------------------------------------------------------------------------------------------


@converts("Gemm")
def gemm(node: Node) -> Produced:
    """alpha * A' * B' + beta * C."""
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    turn_a, turn_b = node.integer("transA", 0), node.integer("transB", 0)
    if node.rank(0) != 2 or node.rank(1) != 2:
        raise node.error(f"A is {list(node.shape(0))} and B {list(node.shape(1))}, expected two dimensions each")
    a = node.value(0)
    if turn_a:
        a = node.emit(ops.Transpose(a, (1, 0)), f"{a.name}_t")
    if node.known(1) is None or not a.type.dtype.is_float:
        return _add_matrix(node, _product(node, a, turn_b, alpha), beta)
    weight = node.weight(1, "the weight", scaled=alpha)
    rows = weight if turn_b else weight.T
    kind = f"dense {turn_b} {alpha}"
    bias = _vector(node, rows.shape[0], beta)
    if bias is not None or not node.has(2):
        return node.emit(ops.Dense(a, node.weight_const(1, rows, kind), bias))
    return _add_matrix(node, node.emit(ops.Dense(a, node.weight_const(1, rows, kind)), f"{node.base()}_product"), beta)


def _product(node: Node, a: Value, turn_b: int, alpha: float) -> Value:
    b = node.value(1)
    if turn_b:
        b = node.emit(ops.Transpose(b, (1, 0)), f"{b.name}_t")
    plain = alpha == 1
    product = node.emit(ops.MatMul(a, b), node.base() if plain and not node.has(2) else f"{node.base()}_product")
    if plain:
        return product
    return node.emit(ops.Mul(product, scalar(node, "alpha", alpha, product)), f"{node.base()}_scaled")


def _vector(node: Node, outputs: int, beta: float) -> Value | None:
    """The constant C of a Gemm as the bias of a dense layer, if it is the same in every row."""
    if not node.has(2) or node.known(2) is None or math.prod(node.shape(2)[:-1]) != 1:
        return None
    bias = node.weight(2, "the bias", scaled=beta)
    if bias.size not in (1, outputs):
        raise node.error(f"C is {list(bias.shape)}, expected {outputs} entries")
    row = np.broadcast_to(bias.reshape(-1), (outputs,))
    return node.weight_const(2, row, f"bias {outputs} {beta}")


def _add_matrix(node: Node, product: Value, beta: float) -> Value:
    if not node.has(2):
        return product
    c = node.value(2)
    if beta != 1:
        c = node.emit(ops.Mul(c, scalar(node, "beta", beta, c)), f"{node.base()}_c")
    return node.emit(ops.Add(product, c))


@converts("MatMul")
def matmul(node: Node) -> Produced:
    """A constant matrix on the right makes a dense layer over all rows of A; else nn.matmul."""
    a = node.value(0)
    if node.known(1) is None or node.rank(1) > 2 or node.rank(0) < 1 or not a.type.dtype.is_float:
        return node.emit(ops.MatMul(a, node.value(1)))
    weight = node.weight(1, "the weight")
    matrix = weight if weight.ndim == 2 else weight.reshape(-1, 1)
    if a.shape[-1] != matrix.shape[0]:
        raise node.error(f"A is {list(a.shape)} and B {list(weight.shape)}: they do not fit")
    rows = reshaped(node, a, (math.prod(a.shape[:-1]), a.shape[-1]), f"{a.name}_rows")
    result = a.shape[:-1] + (weight.shape[1:] if weight.ndim == 2 else ())
    flat = (rows.shape[0], matrix.shape[1])
    product = node.emit(ops.Dense(rows, node.weight_const(1, matrix.T, "dense 0 1.0")),
                        node.base() if flat == result else f"{node.base()}_rows")
    return reshaped(node, product, result)


# -- reductions --------------------------------------------------------------------------------------------------------

_PLAIN: dict[str, type[ops.Reduce]] = {
    "ReduceMean": ops.ReduceMean, "ReduceSum": ops.ReduceSum, "ReduceMax": ops.ReduceMax, "ReduceMin": ops.ReduceMin,
    "ReduceProd": ops.ReduceProd,
}


class _Reduction:
    """Axes and keepdims of a reduce node, however its opset writes them."""

    def __init__(self, node: Node) -> None:
        self.node = node
        axes = node.ints("axes") if "axes" in node.given_attributes() else node.integers(1, "axes")
        nothing = bool(node.integer("noop_with_empty_axes", 0)) and not axes
        rank = node.rank(0)
        self.axes = () if nothing else tuple(sorted({node.axis(a, rank) for a in axes or range(rank)}))
        self.keepdims = bool(node.integer("keepdims", 1))

    def apply(self, kind: type[ops.Reduce], x: Value, name: str | None = None, keepdims: bool | None = None) -> Value:
        """`x` folded; `x` itself where there is nothing to fold."""
        if not self.axes:
            return x
        kept = self.keepdims if keepdims is None else keepdims
        return self.node.emit(kind(x, axes=self.axes, keepdims=kept), name)


@converts(*_PLAIN)
def reduce(node: Node) -> Produced:
    x, fold, kind = node.value(0), _Reduction(node), _PLAIN[node.op_type]
    if node.op_type == "ReduceMean" and not x.type.dtype.is_float:
        raise node.unsupported(f"of {x.type.dtype}: only floats have a mean")
    if x.type.dtype != BOOL:
        return fold.apply(kind, x)
    folded = fold.apply(kind, as_type(node, x, U8), f"{node.base()}_u8")  # Max is "any", Min is "all"
    return node.emit(ops.Cast(folded, TensorType(folded.shape, BOOL)))


@converts("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum")
def reduce_sum_of(node: Node) -> Produced:
    """A sum with something element-wise before or behind it."""
    x, fold, base = node.value(0), _Reduction(node), node.base()
    if node.op_type == "ReduceL1":
        return fold.apply(ops.ReduceSum, node.emit(ops.Abs(x), f"{base}_abs"))
    if node.op_type == "ReduceSumSquare":
        return fold.apply(ops.ReduceSum, node.emit(ops.Mul(x, x), f"{base}_square"))
    if not x.type.dtype.is_float:
        raise node.unsupported(f"of {x.type.dtype}: only floats have logarithms and roots")
    if node.op_type == "ReduceLogSum":
        return node.emit(ops.Log(fold.apply(ops.ReduceSum, x, f"{base}_sum")))
    squares = node.emit(ops.Mul(x, x), f"{base}_square")
    return node.emit(ops.Sqrt(fold.apply(ops.ReduceSum, squares, f"{base}_sum")))


@converts("ReduceLogSumExp")
def reduce_log_sum_exp(node: Node) -> Produced:
    """m + log(sum of exp(x - m)) with m the greatest x, which cannot overflow."""
    x, fold, base = node.value(0), _Reduction(node), node.base()
    if not x.type.dtype.is_float:
        raise node.unsupported(f"of {x.type.dtype}: only floats have logarithms")
    if not fold.axes:
        return x
    greatest = fold.apply(ops.ReduceMax, x, f"{base}_max", keepdims=True)
    powers = node.emit(ops.Exp(node.emit(ops.Sub(x, greatest), f"{base}_shifted")), f"{base}_exp")
    sums = node.emit(ops.Log(fold.apply(ops.ReduceSum, powers, f"{base}_sum")), f"{base}_log")
    return node.emit(ops.Add(sums, reshaped(node, greatest, sums.shape, f"{base}_top")))


@converts("InstanceNormalization")
def instance_normalization(node: Node) -> Produced:
    """scale * (x - mean) / sqrt(variance + epsilon) + shift, with mean and variance of each channel of each image."""
    x, base, rank = node.value(0), node.base(), node.rank()
    axes, per_channel = tuple(range(2, rank)), (-1, *[1] * (rank - 2))
    scale = node.weight_const(1, node.weight(1, "the scale").reshape(per_channel), "channels")
    shift = node.weight_const(2, node.weight(2, "the shift").reshape(per_channel), "channels")
    mean = node.emit(ops.ReduceMean(x, axes=axes), f"{base}_mean")
    centred = node.emit(ops.Sub(x, mean), f"{base}_centred")
    square = node.emit(ops.Mul(centred, centred), f"{base}_square")
    variance = node.emit(ops.ReduceMean(square, axes=axes), f"{base}_variance")
    epsilon = scalar(node, "epsilon", node.number("epsilon", 1e-5), x)
    deviation = node.emit(ops.Sqrt(node.emit(ops.Add(variance, epsilon), f"{base}_more")), f"{base}_deviation")
    normal = node.emit(ops.Div(centred, deviation), f"{base}_normal")
    return node.emit(ops.Add(node.emit(ops.Mul(normal, scale), f"{base}_scaled"), shift))


@converts("ArgMax", "ArgMin")
def arg_extreme(node: Node) -> Produced:
    kind = ops.ArgMax if node.op_type == "ArgMax" else ops.ArgMin
    axis = node.axis(node.integer("axis", 0), node.rank(0))
    keepdims, last = bool(node.integer("keepdims", 1)), bool(node.integer("select_last_index", 0))
    return node.emit(kind(node.value(0), axis=axis, keepdims=keepdims, select_last=last))


# -- softmax -----------------------------------------------------------------------------------------------------------


@converts("Softmax", "LogSoftmax")
def softmax(node: Node) -> Produced:
    """Opset 13 normalises along one axis; before, over all axes from `axis` on, as if they were one."""
    kind: Callable[..., ops.Softmax | ops.LogSoftmax] = ops.Softmax if node.op_type == "Softmax" else ops.LogSoftmax
    x, one_axis = node.value(0), node.opset >= 13
    axis = node.axis(node.integer("axis", -1 if one_axis else 1), max(x.type.rank, 1))
    if one_axis or axis == x.type.rank - 1:
        return node.emit(kind(x, axis=axis))
    flat = (math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    rows = reshaped(node, x, flat, f"{x.name}_rows")
    return reshaped(node, node.emit(kind(rows, axis=-1), f"{node.base()}_rows"), x.shape)


