"""Activation functions that convolutions, dense layers and some binary ops apply to their result.

    nn.conv2d(%x, @w, @b) {act = clip, act_args = [0.0, 6.0]}      = nn.clip of the plain nn.conv2d

| act          | act_args    | f(x)                                          |
|--------------|-------------|-----------------------------------------------|
| none         |             | x                                             |
| relu         |             | max(x, 0)                                     |
| clip         | low, high   | min(max(x, low), high)                        |
| leaky_relu   | alpha       | x if x >= 0 else alpha * x                    |
| hard_sigmoid | alpha, beta | max(0, min(1, alpha * x + beta))              |
| hard_swish   |             | x * max(0, min(1, x / 6 + 1/2))               |
"""

from __future__ import annotations

from typing import Literal, cast

import numpy as np

from ..ir import Array
from ..opdef import Op
from .base import NnOp

__all__ = ["ACTIVATION_ARGS", "Activation", "activation_of", "apply_activation", "require_activation"]

Activation = Literal["none", "relu", "clip", "leaky_relu", "hard_swish", "hard_sigmoid"]
ACTIVATION_ARGS: dict[str, tuple[str, ...]] = {
    "none": (), "relu": (), "clip": ("low", "high"), "leaky_relu": ("alpha",), "hard_swish": (),
    "hard_sigmoid": ("alpha", "beta"),
}


def apply_activation(array: Array, act: Activation, act_args: tuple[float, ...] = ()) -> Array:
    """f of every element, in the element type of `array`."""
    if act == "none":
        return array
    one = array.dtype.type
    if act == "relu":
        return np.asarray(np.maximum(array, one(0)))
    if act == "clip":
        low, high = (one(_representable(value, array)) for value in act_args)
        return np.asarray(np.minimum(np.maximum(array, low), high))
    if act == "leaky_relu":
        return np.asarray(np.where(array >= 0, array, array * one(act_args[0])))
    if act == "hard_sigmoid":
        return hard_sigmoid(array, *act_args)
    return np.asarray(array * hard_sigmoid(array, 1 / 6, 0.5))


def _representable(bound: float, array: Array) -> float:
    """The bound itself for floats, for integers the nearest one of the element type."""
    if array.dtype.kind == "f":
        return bound
    limits = np.iinfo(array.dtype)
    return int(min(max(bound, limits.min), limits.max))


def hard_sigmoid(array: Array, alpha: float, beta: float) -> Array:
    """max(0, min(1, alpha * x + beta)), in the element type of `array`."""
    one = array.dtype.type
    return np.asarray(np.clip(array * one(alpha) + one(beta), one(0), one(1)))


def activation_of(op: Op) -> tuple[Activation, tuple[float, ...]] | None:
    """The activation that `op` is, whether it stands alone (`nn.clip`) or none (None: not an activation op)."""
    name = op.opname.removeprefix("nn.")
    if not op.opname.startswith("nn.") or name == "none" or name not in ACTIVATION_ARGS:
        return None
    return cast("Activation", name), tuple(getattr(op, arg) for arg in ACTIVATION_ARGS[name])


def require_activation(op: NnOp, act: str, act_args: tuple[float, ...]) -> None:
    """Raise CompileError unless `act` is known and has as many arguments as it takes."""
    op.require(act in ACTIVATION_ARGS, "act is {}, expected {}", act, " or ".join(ACTIVATION_ARGS))
    names = ACTIVATION_ARGS[act]
    op.require(len(act_args) == len(names), "act_args of {} has {} entries, expected {}", act, len(act_args),
               f"{len(names)} ({', '.join(names)})" if names else "none")
