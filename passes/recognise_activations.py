"""Recognise activation functions that a model spells out in arithmetic.

    %a = nn.add(%x, @three) : tensor<1x8x8x16xf32>
    %b = nn.clip(%a) {low = 0.0, high = 6.0} : tensor<1x8x8x16xf32>
    %c = nn.mul(%x, %b) : tensor<1x8x8x16xf32>
    %y = nn.mul(%c, @sixth) : tensor<1x8x8x16xf32>
        ->
    %y = nn.hard_swish(%x) : tensor<1x8x8x16xf32>

| found, in any order of the factors                         | becomes                    | written so by          |
|------------------------------------------------------------|----------------------------|------------------------|
| clip(x + b, 0, h) / h                                      | hard_sigmoid(1/h, b/h)     | Paddle, Keras          |
| x * clip(x + 3, 0, 6) / 6, x * hard_sigmoid(1/6, 1/2)      | hard_swish                 | Paddle, PyTorch, Keras |
| x / 2 * (1 + erf(x / sqrt(2)))                             | gelu                       | PyTorch                |
| x / 2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x**3)))     | gelu {approximate = tanh}  | Keras, PyTorch         |
| max(x, a * x) with 0 <= a <= 1                             | leaky_relu                 | TensorFlow             |

Runs behind canonicalize, which has turned divisions by constants into products and put constants second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from tinyir.ir import Level, Value
from tinyir.opdef import Op
from tinyir.ops import Add, Clip, Erf, Gelu, HardSigmoid, HardSwish, LeakyRelu, Maximum, Mul, Pow, Tanh
from tinyir.pass_manager import Pass
from tinyir.rewrite import Rewriter, rewrites

from ._values import rounded, uniform, used_once


class RecogniseActivations(Pass):
    """Replace arithmetic that spells out an activation function by that function."""

    name = "recognise-activations"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")

    @rewrites(Mul)
    def from_product(self, op: Mul, rw: Rewriter) -> None:
        """Products: hard_sigmoid, hard_swish and gelu."""
        if op.act != "none":
            return
        product = _flatten(op)
        made = _hard_sigmoid(product) or _hard_swish(product) or _gelu(product)
        if made is None:
            return
        if made.x.shape != op.out.shape:
            return
        if _close(made.factor, 1):
            rw.replace(op, made.build())
        elif not _is_scaled(op.out):  # else the product around this one matches
            function = rw.insert_before(op, made.build())
            factor = rw.const(np.full((), made.factor, op.out.type.dtype.numpy), f"{op.out.name}.factor")
            rw.replace(op, Mul(function.out, factor))

    @rewrites(Maximum)
    def leaky_relu(self, op: Maximum, rw: Rewriter) -> None:
        """max(x, a * x)."""
        for x, scaled in ((op.a, op.b), (op.b, op.a)):
            alpha = _multiple_of(scaled, x)
            if alpha is not None and 0 <= alpha <= 1 and scaled.shape == x.shape:
                rw.replace(op, LeakyRelu(x, alpha=alpha))
                return


@dataclass(frozen=True)
class _Found:
    """`factor` times the function that `build` makes an op of, applied to x."""

    x: Value
    build: Callable[[], Op]
    factor: float = 1.0


@dataclass(frozen=True)
class _Product:
    """`factor` times all of `values`: a tree of multiplications, flat."""

    factor: float
    values: tuple[Value, ...]


def _flatten(op: Mul) -> _Product:
    """The factors of a product; products inside that others read as well, and ones with an activation, stay whole."""
    factor = 1.0
    values: list[Value] = []
    for value in (op.a, op.b):
        number, inner = uniform(value), value.defining(Mul)
        if number is not None and value.type.elements == 1:
            factor *= number
        elif inner is not None and inner.act == "none" and used_once(value):
            product = _flatten(inner)
            factor *= product.factor
            values.extend(product.values)
        else:
            values.append(value)
    return _Product(factor, tuple(values))


def _is_scaled(value: Value) -> bool:
    """Whether the only reader of `value` multiplies it with a number."""
    user = value.only_user(Mul)
    return user is not None and user.act == "none" and uniform(user.b) is not None and user.b.type.elements == 1


def _close(found: float, expected: float) -> bool:
    """Equal but for the rounding of constants to f32."""
    return math.isclose(found, expected, rel_tol=1e-5, abs_tol=1e-12)


def _multiple_of(value: Value, x: Value) -> float | None:
    """k if `value` is k * x, for a number k."""
    op = value.defining(Mul)
    if op is None or op.act != "none":
        return None
    product = _flatten(op)
    return product.factor if product.values == (x,) else None


def _plus_constant(value: Value) -> tuple[Value, float] | None:
    """(x, b) if `value` is x + b."""
    op = value.defining(Add)
    number = None if op is None or op.act != "none" else uniform(op.b)
    return None if op is None or number is None or op.out.shape != op.a.shape else (op.a, number)


def _clipped_ramp(value: Value) -> tuple[Value, float, float] | None:
    """(x, b, h) if `value` is clip(x + b, 0, h)."""
    clip = value.defining(Clip)
    if clip is None or clip.low != 0 or not 0 < clip.high < math.inf:
        return None
    shifted = _plus_constant(clip.x)
    return None if shifted is None else (*shifted, clip.high)


def _hard_sigmoid(product: _Product) -> _Found | None:
    if len(product.values) != 1:
        return None
    ramp = _clipped_ramp(product.values[0])
    if ramp is None or not _close(product.factor * ramp[2], 1):
        return None
    x, shift, high = ramp
    return _Found(x, partial(HardSigmoid, x, alpha=rounded(1 / high, x), beta=rounded(shift / high, x)))


def _hard_swish(product: _Product) -> _Found | None:
    """x * clip(x + 3, 0, 6) is 6 * hard_swish(x); x * hard_sigmoid(x) with slope 1/6 is hard_swish(x)."""
    for x, other in _pairs(product):
        ramp = _clipped_ramp(other)
        if ramp is not None and ramp[0] is x and _close(ramp[1], 3) and _close(ramp[2], 6):
            return _Found(x, partial(HardSwish, x), product.factor * 6)
        sigmoid = other.defining(HardSigmoid)
        if sigmoid is not None and sigmoid.x is x and _close(sigmoid.alpha, 1 / 6) and _close(sigmoid.beta, 0.5):
            return _Found(x, partial(HardSwish, x), product.factor)
    return None


def _gelu(product: _Product) -> _Found | None:
    """x * (1 + erf(x / sqrt(2))) is 2 * gelu(x); the same with tanh."""
    for x, other in _pairs(product):
        bend = _plus_constant(other)
        if bend is None or not _close(bend[1], 1):
            continue
        erf, tanh = bend[0].defining(Erf), bend[0].defining(Tanh)
        if erf is not None and _close(_multiple_of(erf.x, x) or 0, math.sqrt(0.5)):
            return _Found(x, partial(Gelu, x), product.factor * 2)
        if tanh is not None and _is_tanh_argument(tanh.x, x):
            return _Found(x, partial(Gelu, x, approximate="tanh"), product.factor * 2)
    return None


def _is_tanh_argument(value: Value, x: Value) -> bool:
    """Whether `value` is sqrt(2/pi) * (x + 0.044715 * x**3)."""
    op = value.defining(Mul)
    product = None if op is None else _flatten(op)
    if product is None or len(product.values) != 1 or not _close(product.factor, math.sqrt(2 / math.pi)):
        return False
    total = product.values[0].defining(Add)
    if total is None or total.act != "none":
        return False
    return any(first is x and _is_cube(second, x) for first, second in ((total.a, total.b), (total.b, total.a)))


def _is_cube(value: Value, x: Value) -> bool:
    """Whether `value` is 0.044715 * x**3, as a power or as a product."""
    op = value.defining(Mul)
    product = None if op is None else _flatten(op)
    if product is None or not _close(product.factor, 0.044715):
        return False
    if product.values == (x, x, x):
        return True
    power = product.values[0].defining(Pow) if len(product.values) == 1 else None
    return power is not None and power.a is x and uniform(power.b) == 3


def _pairs(product: _Product) -> tuple[tuple[Value, Value], ...]:
    """Both orders of a product of two values."""
    if len(product.values) != 2:
        return ()
    first, second = product.values
    return (first, second), (second, first)
