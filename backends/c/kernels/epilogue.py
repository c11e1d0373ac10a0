"""What is done to a sum before it is stored: the fused activation, as a C expression.

    activation("a0", "clip", (0.0, 6.0))                 ->  tc_clip(a0, 0.0f, 6.0f)
    activation("a0", "relu", (), "tc_vec8")              ->  tc_relu_vec8(a0)
"""

from __future__ import annotations

from tinyir.ops.activation import Activation

from ..text import c_float

__all__ = ["activation"]


def activation(value: str, act: Activation, act_args: tuple[float, ...], kind: str = "float") -> str:
    """The C expression for act(value), where `value` is of the C type `kind` (float or tc_vec<n>)."""
    if act == "none":
        return value
    suffix = "" if kind == "float" else f"_{kind.removeprefix('tc_')}"
    arguments = ", ".join([value, *(c_float(a) for a in act_args)])
    return f"tc_{act}{suffix}({arguments})"
