"""The numpy twins of runtime/exp.c and runtime/log.c: the same single-precision operations in the same order.

Kernels whose bytes are compared with the interpreter take their reference from here, so that it does not matter how a
numpy build computes its own exponentials. Equal as long as the C compiler fuses no multiplication with an addition.
"""

from __future__ import annotations

import numpy as np

from tinyir.ir import Array

__all__ = ["exp32", "log32"]

_F = np.float32


def _from_bits(bits: Array) -> Array:
    return np.asarray(bits, np.int64).astype(np.uint32).view(np.float32)


def exp32(x: Array) -> Array:
    """e to the power x, f32, as `tc_exp` has it."""
    v = np.maximum(np.where(x < _F(89), x, _F(89)), _F(-104))
    n = np.trunc(v * _F(1.44269504) + np.where(v < 0, _F(-0.5), _F(0.5))).astype(np.int32)
    whole = n.astype(np.float32)
    r = (v - whole * _F(0.693359375)) - whole * _F(-2.12194440e-4)
    q = _F(0.5) + r * (_F(0.16666515) + r * (_F(0.041666195) + r * (_F(0.008369284) + r * _F(0.0013951119))))
    power = _F(1) + (r + r * r * q)
    half = (n / 2).astype(np.int32)  # towards zero, as in C
    first, second = (_from_bits((part.astype(np.int64) + 127) << 23) for part in (half, n - half))
    scaled = power * first * second
    return np.asarray(np.where(np.isnan(x), x, scaled))


_LOG = (0.33333313, -0.2500001, 0.20002125, -0.16668023, 0.14219461, -0.12405127, 0.118883185, -0.11678142, 0.067491904)


def log32(x: Array) -> Array:
    """Natural logarithm of positive finite numbers, f32, as `tc_log` has it."""
    tiny = x < _F(1.17549435e-38)
    bits = np.ascontiguousarray(np.where(tiny, x * _F(16777216), x), np.float32).view(np.uint32).astype(np.int64)
    e = (bits - 0x3F3504F3) >> 23
    f = _from_bits(bits - (e << 23)) - _F(1)
    n = np.where(tiny, e - 24, e).astype(np.float32)
    q = np.asarray(_F(_LOG[-1]))
    for factor in reversed(_LOG[:-1]):
        q = _F(factor) + f * q
    tail = f * f * (f * q) + n * _F(-2.12194440e-4)
    return np.asarray(n * _F(0.693359375) + (f + (tail - _F(0.5) * f * f)))
