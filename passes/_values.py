"""What the passes ask about values: known constants, signs, who else reads them."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import numpy as np

from tinyir.ir import Array, Const, Value
from tinyir.opdef import Op
from tinyir.ops import (
    Abs,
    AvgPool,
    Clip,
    Concat,
    Exp,
    HardSigmoid,
    MaxPool,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    Relu,
    Reshape,
    Resize,
    Sigmoid,
    Slice,
    Softmax,
    Sqrt,
    Transpose,
)
from tinyir.types import Shape, TensorType

OpT = TypeVar("OpT", bound=Op)
_POSITIVE = (Abs, Exp, HardSigmoid, Relu, Sigmoid, Softmax, Sqrt)
_KEEP_SIGN = (AvgPool, Concat, MaxPool, ReduceMax, ReduceMean, ReduceMin, Reshape, Resize, Slice, Transpose)


def tensor_type(value: Value) -> TensorType:
    """The type of a value above mem level."""
    return cast(TensorType, value.type)


def is_float(value: Value) -> bool:
    """Whether the elements are floating-point numbers."""
    return value.type.dtype.is_float


def uniform(value: Value | None) -> float | None:
    """The number that every element of a constant equals, or None."""
    data = None if value is None else value.data
    if data is None or data.size == 0:
        return None
    first = data.flat[0]
    return float(first) if bool(np.all(data == first)) else None


def per_channel(value: Value, channels: int, rank: int) -> Array | None:
    """`value` as one number for each index of the last axis [channels], or None if it is not constant or varies more.

    `rank` is that of the tensor that it is combined with; `value` may have lower rank, or one element.
    """
    data = value.data
    if data is None or data.ndim > rank or not value.type.dtype.is_float:
        return None
    if data.size == 1:
        return np.full(channels, data.reshape(()), data.dtype)
    if data.shape[-1] != channels or data.size != channels:
        return None
    return data.reshape(channels)


def with_attrs(op: OpT, **attrs: Any) -> OpT:
    """A new op like `op` with other attributes, which its result types do not depend on."""
    made = type(op).build(op.operand_groups, {**op.attrs, **attrs}, [r.type_ for r in op.results], (), op.loc)
    return cast(OpT, made)


def stem(value: Value) -> str:
    """The name to give to a constant that replaces `value`: when `value` goes, the new one takes the name over."""
    return value.stem if isinstance(value, Const) else value.name


def rounded(number: float, value: Value) -> float:
    """`number` as the element type of `value` holds it."""
    return float(value.type.dtype.numpy.type(number))


def used_once(value: Value) -> bool:
    """Whether just one operand of one op reads the value."""
    return len(value.uses) == 1


def is_constant(value: Value) -> bool:
    """Whether it is a constant whose elements are known."""
    return isinstance(value, Const) and value.known


def is_nonnegative(value: Value) -> bool:
    """Whether no element can be below zero, as far as the ops right before tell."""
    data = value.data
    if data is not None:
        return bool(np.all(data >= 0))
    op = value.op
    if op is None:
        return False
    if isinstance(op, _POSITIVE) or _clamped_at_zero(op):
        return True
    return isinstance(op, _KEEP_SIGN) and all(is_nonnegative(v) for v in op.reads)


def _clamped_at_zero(op: Op) -> bool:
    if isinstance(op, Clip):
        return op.low >= 0
    attrs = op.attrs
    act, args = attrs.get("act"), attrs.get("act_args", ())
    return act in ("relu", "hard_sigmoid") or (act == "clip" and args[0] >= 0)


def broadcast(*shapes: Shape) -> Shape | None:
    """The shape that `shapes` combine to by numpy's rules, or None if they do not."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None
