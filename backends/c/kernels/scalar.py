"""What one element becomes, as C expressions: unary functions, binary functions, activations, by element type.

    unary_expression("clip", "x[i]", (0.0, 6.0), F32)       tc_clip(x[i], 0.0f, 6.0f)
    binary_expression("add", "a[i]", "b[i]", I8)            (int8_t)(a[i] + b[i])

Integers wrap; the arithmetic is done on unsigned operands, where wrapping is defined. Each function returns None where
the function has no C for the type.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tinyir.types import DType

from ..text import c_type, c_value

__all__ = ["activated", "binary_expression", "unary_expression"]

_INLINE = frozenset({"neg", "reciprocal", "softsign"})
_BINARY_SIGNS = {"add": "+", "sub": "-", "mul": "*"}


def unary_expression(function: str, x: str, args: Sequence[float], dtype: DType) -> str | None:
    """C expression for function(x); x is a plain element, evaluated as often as the expression needs it."""
    if dtype.name == "f32" and function not in _INLINE:
        return f"tc_{function}({', '.join([x, *(c_value(a, dtype) for a in args)])})"
    zero = c_value(0, dtype)
    simple = {
        "neg": f"-{x}" if dtype.is_float else _wrapped(f"0u - {_unsigned(x, dtype)}", dtype),
        "relu": f"{x} < {zero} ? {zero} : {x}" if dtype.is_signed else x,
        "abs": f"{x} < {zero} ? {_negated(x, dtype)} : {x}" if dtype.is_signed else x,
        "sign": f"({c_type(dtype)})({f'({x} > {zero}) - ({x} < {zero})' if dtype.is_signed else f'{x} > {zero}'})",
        "clip": _clip(x, args, dtype) if function == "clip" else "",
        "leaky_relu": f"{x} < {zero} ? {c_value(args[0], dtype)} * {x} : {x}" if function == "leaky_relu" else "",
    }
    if dtype.is_float:
        one = c_value(1, dtype)
        simple["reciprocal"] = f"{one} / {x}"
        simple["softsign"] = f"{x} / ({one} + ({x} < {zero} ? -{x} : {x}))"
    return simple.get(function)


def binary_expression(function: str, a: str, b: str, dtype: DType) -> str | None:
    """C expression for function(a, b)."""
    zero = c_value(0, dtype)
    if function in ("min", "max"):
        return f"{a} {'<' if function == 'min' else '>'} {b} ? {a} : {b}"
    if dtype.is_float:
        plain = {**{word: f"{a} {sign} {b}" for word, sign in _BINARY_SIGNS.items()}, "div": f"{a} / {b}",
                 "prelu": f"{a} < {zero} ? {b} * {a} : {a}"}
        return f"tc_pow({a}, {b})" if function == "pow" and dtype.name == "f32" else plain.get(function)
    if function in _BINARY_SIGNS:
        return _wrapped(f"{_unsigned(a, dtype)} {_BINARY_SIGNS[function]} {_unsigned(b, dtype)}", dtype)
    return _quotient(a, b, dtype) if function == "div" else None


def activated(value: str, act: str, args: Sequence[float], dtype: DType) -> str | None:
    """C expression for the activation of `value`, a variable; None where the type has none."""
    return value if act == "none" else unary_expression(act, value, args, dtype)


def _quotient(a: str, b: str, dtype: DType) -> str:
    """Rounded toward zero; x / 0 is 0, and the least integer over -1 wraps."""
    kind = c_type(dtype)
    if not dtype.is_signed:
        return f"{b} == 0 ? 0 : ({kind})({a} / {b})"
    return f"{b} == 0 ? 0 : {b} == -1 ? {_negated(a, dtype)} : ({kind})({a} / {b})"


def _negated(x: str, dtype: DType) -> str:
    return f"-{x}" if dtype.is_float else _wrapped(f"0u - {_unsigned(x, dtype)}", dtype)


def _clip(x: str, args: Sequence[float], dtype: DType) -> str:
    low, high = args
    least, greatest = dtype.range if dtype.is_integer else (-math.inf, math.inf)
    text = x
    if high < greatest:
        top = c_value(max(high, least), dtype)
        text = f"{x} > {top} ? {top} : {text}"
    if low > least:  # the lower bound is applied first: where the bounds cross, the upper one wins
        bottom = c_value(min(low, high, greatest), dtype)
        text = f"{x} < {bottom} ? {bottom} : {text}"
    return text


def _unsigned(x: str, dtype: DType) -> str:
    return f"(uint64_t){x}" if dtype.bits == 64 else f"(uint32_t){x}"


def _wrapped(expression: str, dtype: DType) -> str:
    return f"({c_type(dtype)})({expression})"
