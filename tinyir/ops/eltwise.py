"""Element-wise ops: one operand, two operands that broadcast, and the change of element type.

    %y = nn.clip(%x) {low = 0.0, high = 6.0} : tensor<1x8x8x16xf32>
    %z = nn.add(%y, @bias) {act = relu} : tensor<1x8x8x16xf32>

Results have the element type of the operands and are computed in it.
"""

from __future__ import annotations

import math
from typing import Literal, final

import numpy as np

from ..ir import Array, Value
from ..types import TensorType
from .activation import Activation, apply_activation, hard_sigmoid, require_activation
from .base import Elementwise

__all__ = [
    "Abs", "Add", "Binary", "Cast", "Ceil", "Clip", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
    "HardSwish", "LeakyRelu", "Log", "Maximum", "Minimum", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Round",
    "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Sub", "Tanh", "Unary",
]


class Unary(Elementwise):
    """y = f(x), element by element, of floats unless the class says otherwise."""

    x: Value

    def infer(self) -> TensorType:
        self.require_float(self.x)
        return self.result_of(self.x.shape, self.x.type.dtype)


class _NumberUnary(Unary):
    """A unary op that takes integers too."""

    def infer(self) -> TensorType:
        self.require_number(self.x)
        return self.result_of(self.x.shape, self.x.type.dtype)


class _SignedUnary(Unary):
    """A unary op that takes signed integers too."""

    def infer(self) -> TensorType:
        self.require(self.x.type.dtype.is_signed, "x is {}, expected a signed type", self.x.type.dtype)
        return self.result_of(self.x.shape, self.x.type.dtype)


@final
class Relu(_NumberUnary, opname="nn.relu"):
    """y = max(x, 0). ONNX: Relu."""

    def reference(self, x: Array) -> Array:
        return apply_activation(x, "relu")


@final
class Clip(_NumberUnary, opname="nn.clip"):
    """y = min(max(x, low), high), the bounds as the element type has them. ONNX: Clip."""

    low: float = -math.inf
    high: float = math.inf

    def reference(self, x: Array) -> Array:
        return apply_activation(x, "clip", (self.low, self.high))


@final
class LeakyRelu(Unary, opname="nn.leaky_relu"):
    """y = x if x >= 0 else alpha * x. ONNX: LeakyRelu."""

    alpha: float = 0.01

    def reference(self, x: Array) -> Array:
        return apply_activation(x, "leaky_relu", (self.alpha,))


@final
class Sigmoid(Unary, opname="nn.sigmoid"):
    """y = 1 / (1 + exp(-x)). ONNX: Sigmoid."""

    def reference(self, x: Array) -> Array:
        power = np.exp(-np.abs(x))  # never overflows
        return np.where(x >= 0, 1 / (1 + power), power / (1 + power))


@final
class Tanh(Unary, opname="nn.tanh"):
    """y = tanh(x). ONNX: Tanh."""

    def reference(self, x: Array) -> Array:
        return np.asarray(np.tanh(x))


@final
class HardSigmoid(Unary, opname="nn.hard_sigmoid"):
    """y = max(0, min(1, alpha * x + beta)). ONNX: HardSigmoid."""

    alpha: float = 0.2
    beta: float = 0.5

    def reference(self, x: Array) -> Array:
        return hard_sigmoid(x, self.alpha, self.beta)


@final
class HardSwish(Unary, opname="nn.hard_swish"):
    """y = x * max(0, min(1, x / 6 + 1/2)). ONNX: HardSwish."""

    def reference(self, x: Array) -> Array:
        return apply_activation(x, "hard_swish")


@final
class Elu(Unary, opname="nn.elu"):
    """y = x if x >= 0 else alpha * (exp(x) - 1). ONNX: Elu."""

    alpha: float = 1.0

    def reference(self, x: Array) -> Array:
        return np.where(x >= 0, x, x.dtype.type(self.alpha) * np.expm1(np.minimum(x, 0)))


@final
class Selu(Unary, opname="nn.selu"):
    """y = gamma * x if x >= 0 else gamma * alpha * (exp(x) - 1), with the constants of the paper that ONNX also takes.
    ONNX: Selu. Source: Klambauer et al., "Self-Normalizing Neural Networks", 2017.
    """

    def reference(self, x: Array) -> Array:
        gamma, alpha = x.dtype.type(1.05070102214813232421875), x.dtype.type(1.67326319217681884765625)
        return np.asarray(gamma * np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))))


@final
class Softplus(Unary, opname="nn.softplus"):
    """y = log(1 + exp(x)). ONNX: Softplus."""

    def reference(self, x: Array) -> Array:
        return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


@final
class Softsign(Unary, opname="nn.softsign"):
    """y = x / (1 + |x|). ONNX: Softsign."""

    def reference(self, x: Array) -> Array:
        return np.asarray(x / (1 + np.abs(x)))


@final
class Gelu(Unary, opname="nn.gelu"):
    """y = x / 2 * (1 + erf(x / sqrt(2))), or x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) if `approximate`
    is tanh. ONNX: Gelu (opset 20).
    """

    approximate: Literal["none", "tanh"] = "none"

    def reference(self, x: Array) -> Array:
        wide = x.astype(np.float64)
        if self.approximate == "tanh":
            bend = np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3))
        else:
            bend = _erf(wide / math.sqrt(2))
        return np.asarray(wide / 2 * (1 + bend), x.dtype)


@final
class Erf(Unary, opname="nn.erf"):
    """y = 2 / sqrt(pi) * integral of exp(-t*t) from 0 to x. ONNX: Erf."""

    def reference(self, x: Array) -> Array:
        return _erf(x.astype(np.float64)).astype(x.dtype)


_erf_of = np.frompyfunc(math.erf, 1, 1)


def _erf(x: Array) -> Array:
    return np.asarray(_erf_of(x), np.float64)


@final
class Exp(Unary, opname="nn.exp"):
    """y = e**x. ONNX: Exp."""

    def reference(self, x: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(x))


@final
class Log(Unary, opname="nn.log"):
    """y = natural logarithm of x; -inf at 0, nan below. ONNX: Log."""

    def reference(self, x: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.log(x))


@final
class Sqrt(Unary, opname="nn.sqrt"):
    """y = square root of x; nan below 0. ONNX: Sqrt."""

    def reference(self, x: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return np.asarray(np.sqrt(x))


@final
class Neg(_SignedUnary, opname="nn.neg"):
    """y = -x; the least integer stays as it is. ONNX: Neg."""

    def reference(self, x: Array) -> Array:
        return np.asarray(-x)


@final
class Abs(_NumberUnary, opname="nn.abs"):
    """y = |x|; the least integer stays as it is. ONNX: Abs."""

    def reference(self, x: Array) -> Array:
        return np.asarray(np.abs(x))


@final
class Reciprocal(Unary, opname="nn.reciprocal"):
    """y = 1 / x. ONNX: Reciprocal."""

    def reference(self, x: Array) -> Array:
        with np.errstate(divide="ignore"):
            return np.asarray(1 / x)


@final
class Floor(Unary, opname="nn.floor"):
    """y = greatest whole number that is not above x. ONNX: Floor."""

    def reference(self, x: Array) -> Array:
        return np.asarray(np.floor(x))


@final
class Ceil(Unary, opname="nn.ceil"):
    """y = least whole number that is not below x. ONNX: Ceil."""

    def reference(self, x: Array) -> Array:
        return np.asarray(np.ceil(x))


@final
class Round(Unary, opname="nn.round"):
    """y = nearest whole number, halves to the even one. ONNX: Round."""

    def reference(self, x: Array) -> Array:
        return np.asarray(np.rint(x))


@final
class Sign(_NumberUnary, opname="nn.sign"):
    """y = -1, 0 or 1. ONNX: Sign."""

    def reference(self, x: Array) -> Array:
        return np.asarray(np.sign(x))


class Binary(Elementwise):
    """y = f(a, b) after broadcasting; numbers of one element type."""

    a: Value
    b: Value

    def infer(self) -> TensorType:
        self.require_number(self.a, "a")
        self.require_same_dtype(self.a, self.b, ("a", "b"))
        return self.result_of(self.broadcast(self.a, self.b), self.a.type.dtype)


class _Activated(Binary):
    """A binary op that may apply an activation to its result; all but relu and clip need floats."""

    act: Activation = "none"
    act_args: tuple[float, ...] = ()

    def verify(self) -> None:
        require_activation(self, self.act, self.act_args)
        if self.act not in ("none", "relu", "clip"):
            self.require_float(self.a, "a")


@final
class Add(_Activated, opname="nn.add"):
    """y = act(a + b); integers wrap. ONNX: Add."""

    commutative = True

    def reference(self, a: Array, b: Array) -> Array:
        return apply_activation(np.asarray(a + b), self.act, self.act_args)


@final
class Sub(_Activated, opname="nn.sub"):
    """y = act(a - b); integers wrap. ONNX: Sub."""

    def reference(self, a: Array, b: Array) -> Array:
        return apply_activation(np.asarray(a - b), self.act, self.act_args)


@final
class Mul(_Activated, opname="nn.mul"):
    """y = act(a * b); integers wrap. ONNX: Mul."""

    commutative = True

    def reference(self, a: Array, b: Array) -> Array:
        return apply_activation(np.asarray(a * b), self.act, self.act_args)


@final
class Div(Binary, opname="nn.div"):
    """y = a / b; integer quotients are rounded toward zero, and x / 0 is 0 there. ONNX: Div."""

    def reference(self, a: Array, b: Array) -> Array:
        if a.dtype.kind == "f":
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray(a / b)
        divisor = np.where(b == 0, 1, b)
        toward_zero = (a - np.fmod(a, divisor)) // divisor
        return np.where(b == 0, 0, toward_zero).astype(a.dtype)


@final
class Pow(Binary, opname="nn.pow"):
    """y = a**b, floats; nan for a negative base and a broken exponent. ONNX: Pow with operands of one type."""

    def verify(self) -> None:
        self.require_float(self.a, "a")

    def reference(self, a: Array, b: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(np.power(a, b))


@final
class Minimum(Binary, opname="nn.min"):
    """y = the lesser of a and b. ONNX: Min of two."""

    commutative = True

    def reference(self, a: Array, b: Array) -> Array:
        return np.asarray(np.minimum(a, b))


@final
class Maximum(Binary, opname="nn.max"):
    """y = the greater of a and b. ONNX: Max of two."""

    commutative = True

    def reference(self, a: Array, b: Array) -> Array:
        return np.asarray(np.maximum(a, b))


@final
class PRelu(Elementwise, opname="nn.prelu"):
    """y = x if x >= 0 else slope * x; the slope broadcasts to x (one slope a channel is [C]). ONNX: PRelu."""

    x: Value
    slope: Value

    def infer(self) -> TensorType:
        self.require_float(self.x)
        self.require_same_dtype(self.x, self.slope, ("x", "slope"))
        shape = self.broadcast(self.x, self.slope)
        self.require(shape == self.x.shape, "slope {} is larger than x {}", list(self.slope.shape), list(self.x.shape))
        return self.result_of(shape, self.x.type.dtype)

    def reference(self, x: Array, slope: Array) -> Array:
        return np.where(x >= 0, x, x * slope)


@final
class Cast(Elementwise, opname="nn.cast"):
    """y = x as another element type: floats are truncated toward zero (undefined outside the range of the result),
    integers wrap, and bool is x != 0. ONNX: Cast.
    """

    x: Value
    result: TensorType

    def infer(self) -> TensorType:
        found, expected = (list(s) for s in (self.result.shape, self.x.shape))
        self.require(found == expected, "the result has shape {}, expected that of x, {}", found, expected)
        return self.result_of(self.result.shape, self.result.dtype, self.result.quant)

    def reference(self, x: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return x.astype(self.out.type.dtype.numpy)
