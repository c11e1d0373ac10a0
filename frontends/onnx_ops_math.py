"""Converters: element-wise arithmetic, activations, casts.

    Clip(x, 0, 6)  ->  %y = nn.clip(%x) {low = 0.0, high = 6.0}
    Mish(x)        ->  %y = nn.mul(%x, nn.tanh(nn.softplus(%x)))
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from tinyir import ops
from tinyir.ir import Value
from tinyir.types import DType, TensorType

from .onnx_node import Node, Produced, converts, element_type

__all__ = ["as_type", "scalar"]

_UNARY: dict[str, type[ops.Unary]] = {
    "Relu": ops.Relu, "Sigmoid": ops.Sigmoid, "Tanh": ops.Tanh, "HardSwish": ops.HardSwish, "Softplus": ops.Softplus,
    "Softsign": ops.Softsign, "Erf": ops.Erf, "Exp": ops.Exp, "Log": ops.Log, "Sqrt": ops.Sqrt, "Neg": ops.Neg,
    "Abs": ops.Abs, "Reciprocal": ops.Reciprocal, "Floor": ops.Floor, "Ceil": ops.Ceil, "Round": ops.Round,
    "Sign": ops.Sign,
}
_BINARY: dict[str, type[ops.Binary]] = {"Add": ops.Add, "Sub": ops.Sub, "Mul": ops.Mul, "Div": ops.Div}
_FOLDS: dict[str, type[ops.Binary]] = {"Sum": ops.Add, "Mean": ops.Add, "Max": ops.Maximum, "Min": ops.Minimum}


@converts(*_UNARY)
def unary(node: Node) -> Produced:
    return node.emit(_UNARY[node.op_type](node.value(0)))


@converts(*_BINARY)
def binary(node: Node) -> Produced:
    return node.emit(_BINARY[node.op_type](node.value(0), node.value(1)))


@converts(*_FOLDS)
def variadic(node: Node) -> Produced:
    """Any number of inputs: one binary op after the other."""
    values = node.values()
    total = values[0]
    for number, value in enumerate(values[1:], 2):
        last = number == len(values) and node.op_type != "Mean"
        total = node.emit(_FOLDS[node.op_type](total, value), None if last else f"{node.base()}_{number}")
    if node.op_type != "Mean" or len(values) == 1:
        return total
    return node.emit(ops.Mul(total, scalar(node, "count", 1 / len(values), total)))


def scalar(node: Node, suffix: str, value: float, like: Value) -> Value:
    """A constant without dimensions, of the element type of `like`."""
    return node.const(suffix, np.asarray(value, like.type.dtype.numpy))


@converts("Pow")
def power(node: Node) -> Produced:
    """The exponent may have another type than the base, which decides that of the result."""
    x, exponent = node.value(0), node.value(1)
    known = node.known(1)
    if not x.type.dtype.is_float:
        if known is None or node.known(0) is None:
            raise node.unsupported(f"of {x.type.dtype}: only floats have powers")
        return np.power(node.array(0, "the base"), known).astype(x.type.dtype.numpy)
    return node.emit(ops.Pow(x, as_type(node, exponent, x.type.dtype)))


def as_type(node: Node, value: Value, dtype: DType) -> Value:
    """`value`, cast if it has another element type."""
    if value.type.dtype == dtype:
        return value
    return node.emit(ops.Cast(value, TensorType(value.shape, dtype)), f"{value.name}_{dtype}")


@converts("Clip")
def clip(node: Node) -> Produced:
    x = node.value(0)
    bounds = [node.known(1), node.known(2)]
    dynamic = any(node.has(i) and node.known(i) is None for i in (1, 2))
    if dynamic or not x.type.dtype.is_float:
        return _clip_by_values(node, x)
    low, high = (default if b is None else float(b.reshape(-1)[0])
                 for b, default in zip(bounds, (-math.inf, math.inf), strict=True))
    return node.emit(ops.Clip(x, low=low, high=high))


def _clip_by_values(node: Node, x: Value) -> Value:
    if node.has(1):
        x = node.emit(ops.Maximum(x, node.value(1)), f"{node.base()}_low" if node.has(2) else None)
    return node.emit(ops.Minimum(x, node.value(2))) if node.has(2) else x


@converts("LeakyRelu")
def leaky_relu(node: Node) -> Produced:
    return node.emit(ops.LeakyRelu(node.value(0), alpha=node.number("alpha", 0.01)))


@converts("PRelu")
def prelu(node: Node) -> Produced:
    """The slope broadcasts as numpy has it; before opset 7, one slope a channel was written [C]."""
    x, slope = node.value(0), node.value(1)
    if slope.type.rank == 1 and x.type.rank > 2 and slope.shape[0] == x.shape[1] != x.shape[-1]:
        per_channel = (slope.shape[0], *[1] * (x.type.rank - 2))
        slope = node.emit(ops.Reshape(slope, TensorType(per_channel, slope.type.dtype)), f"{node.base()}_slope")
    return node.emit(ops.PRelu(x, slope))


@converts("HardSigmoid")
def hard_sigmoid(node: Node) -> Produced:
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    return node.emit(ops.HardSigmoid(node.value(0), alpha=alpha, beta=beta))


@converts("Elu")
def elu(node: Node) -> Produced:
    return node.emit(ops.Elu(node.value(0), alpha=node.number("alpha", 1.0)))


@converts("Selu")
def selu(node: Node) -> Produced:
    """gamma * Elu(x, alpha); nn.selu has the constants of the paper, which are also ONNX's defaults."""
    x = node.value(0)
    default = (1.67326319217681884765625, 1.05070102214813232421875)
    alpha, gamma = node.number("alpha", default[0]), node.number("gamma", default[1])
    if np.float32(alpha) == np.float32(default[0]) and np.float32(gamma) == np.float32(default[1]):
        return node.emit(ops.Selu(x))
    bent = node.emit(ops.Elu(x, alpha=alpha), f"{node.base()}_elu")
    return node.emit(ops.Mul(bent, scalar(node, "gamma", gamma, x)))


@converts("Celu")
def celu(node: Node) -> Produced:
    """alpha * Elu(x / alpha), which for x > 0 is x."""
    x, alpha = node.value(0), node.number("alpha", 1.0)
    if alpha == 1:
        return node.emit(ops.Elu(x))
    scale = scalar(node, "alpha", alpha, x)
    bent = node.emit(ops.Elu(node.emit(ops.Div(x, scale), f"{node.base()}_div")), f"{node.base()}_elu")
    return node.emit(ops.Mul(bent, scale))


@converts("Gelu")
def gelu(node: Node) -> Produced:
    approximate = node.text("approximate", "none")
    if approximate not in ("none", "tanh"):
        raise node.error(f"approximate is {approximate!r}, expected none or tanh")
    return node.emit(ops.Gelu(node.value(0), approximate="tanh" if approximate == "tanh" else "none"))


@converts("Mish")
def mish(node: Node) -> Produced:
    x = node.value(0)
    soft = node.emit(ops.Softplus(x), f"{node.base()}_softplus")
    return node.emit(ops.Mul(x, node.emit(ops.Tanh(soft), f"{node.base()}_tanh")))


@converts("Swish")
def swish(node: Node) -> Produced:
    x, alpha = node.value(0), node.number("alpha", 1.0)
    inner = x if alpha == 1 else node.emit(ops.Mul(x, scalar(node, "alpha", alpha, x)), f"{node.base()}_scaled")
    return node.emit(ops.Mul(x, node.emit(ops.Sigmoid(inner), f"{node.base()}_sigmoid")))


@converts("ThresholdedRelu")
def thresholded_relu(node: Node) -> Produced:
    """x * max(0, sign(x - alpha)): x above alpha, else 0."""
    x = node.value(0)
    above = node.emit(ops.Sub(x, scalar(node, "alpha", node.number("alpha", 1.0), x)), f"{node.base()}_above")
    step = node.emit(ops.Relu(node.emit(ops.Sign(above), f"{node.base()}_sign")), f"{node.base()}_step")
    return node.emit(ops.Mul(x, step))


@converts("Shrink")
def shrink(node: Node) -> Produced:
    """x + bias below -lambd, x - bias above lambd, else 0; with bias = lambd it is x - clip(x, -lambd, lambd)."""
    x, bias, limit = node.value(0), node.number("bias", 0.0), node.number("lambd", 0.5)
    if bias != limit or not x.type.dtype.is_float:
        raise node.unsupported("with a bias other than lambd (hard shrinkage)")
    return node.emit(ops.Sub(x, node.emit(ops.Clip(x, low=-limit, high=limit), f"{node.base()}_clip")))


@converts("Cast")
def cast(node: Node) -> Produced:
    node.integer("saturate", 1)  # about 8-bit floats
    node.text("round_mode", "up")  # likewise
    target = element_type(node.integer("to", onnx.TensorProto.FLOAT), "the result of Cast")
    return _cast(node, target)


@converts("CastLike")
def cast_like(node: Node) -> Produced:
    node.integer("saturate", 1)
    node.text("round_mode", "up")
    return _cast(node, node.dtype(1))


def _cast(node: Node, target: DType) -> Produced:
    if node.dtype(0) == target:
        return node.operand(0)
    known = node.known(0)
    if known is not None:
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(known.astype(target.numpy))
    x = node.value(0)
    return node.emit(ops.Cast(x, TensorType(x.shape, target)))
