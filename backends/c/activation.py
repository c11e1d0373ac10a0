"""Activation functions in C, for the kernels that apply one to their result.

    activate("sum", "clip", (0.0, 6.0))      tc_clip(sum, 0.0f, 6.0f)
"""

from __future__ import annotations

from collections.abc import Sequence

from .text import c_float

__all__ = ["activate"]


def activate(value: str, act: str, act_args: Sequence[float] = ()) -> str:
    """C expression for f(value), f32; `act` and `act_args` as in `tinyir.ops.activation`. `value` is evaluated once."""
    if act == "none":
        return value
    return f"tc_{act}({', '.join([value, *(c_float(a) for a in act_args)])})"
