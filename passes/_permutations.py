"""Permutations of axes: how transposes compose, and what they do to the attributes of ops that they pass through.

A transposed value is y = transpose(x, perm): axis i of y is axis perm[i] of x.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinyir.opdef import Op
from tinyir.ops import (
    ArgMax,
    ArgMin,
    Binary,
    BroadcastTo,
    Cast,
    Concat,
    Dequantize,
    Gather,
    LogSoftmax,
    Lookup,
    Pad,
    PRelu,
    QAdd,
    QMul,
    QReduceMean,
    QSoftmax,
    Quantize,
    Reduce,
    Reinterpret,
    Slice,
    Softmax,
    Tile,
    Unary,
)
from tinyir.types import Quant, Shape, TensorType

Perm = tuple[int, ...]


def identity(rank: int) -> Perm:
    return tuple(range(rank))


def inverse(perm: Perm) -> Perm:
    """The permutation that undoes `perm`."""
    return tuple(perm.index(axis) for axis in range(len(perm)))


def compose(first: Perm, second: Perm) -> Perm:
    """The permutation of transpose(transpose(x, first), second)."""
    return tuple(first[axis] for axis in second)


def permuted(shape: Shape, perm: Perm) -> Shape:
    """The shape of transpose(x, perm) where x has `shape`."""
    return tuple(shape[axis] for axis in perm)


def moves_nothing(shape: Shape, perm: Perm) -> bool:
    """Whether transposing `shape` by `perm` leaves all elements in place: only axes of extent 1 change position."""
    moved = [axis for axis in perm if shape[axis] != 1]
    return moved == sorted(moved)


def untransposed(type_: TensorType, perm: Perm) -> TensorType:
    """The type of x where transpose(x, perm) has `type_`."""
    quant = type_.quant
    if quant is not None and quant.axis is not None:
        quant = Quant(quant.scales, quant.zero_points, perm[quant.axis])
    return TensorType(permuted(type_.shape, inverse(perm)), type_.dtype, quant)


def with_shape(type_: TensorType, shape: Shape) -> TensorType:
    """The type of a reshape to `shape`, which has dimensions of 1 in front that `type_` has not."""
    quant = type_.quant
    if quant is not None and quant.axis is not None:
        quant = Quant(quant.scales, quant.zero_points, quant.axis + len(shape) - type_.rank)
    return TensorType(shape, type_.dtype, quant)


# -- ops that can work on transposed operands ------------------------------------------------------------------------

_ANY_ORDER = (Binary, Cast, Concat, Dequantize, LogSoftmax, Lookup, Pad, PRelu, QAdd, QMul, QSoftmax, Quantize,
              Reinterpret, Slice, Softmax, Tile, Unary)


def is_agnostic(op: Op) -> bool:
    """Whether op(transpose(x)) can be computed as transpose(op'(x)): nothing in it depends on the order of axes."""
    if not op.results or op.out.type.rank < 2:
        return False
    if isinstance(op, (Reduce, ArgMax, ArgMin, QReduceMean)):
        return op.keepdims
    if isinstance(op, Gather):
        return op.indices.type.rank == 1
    if isinstance(op, BroadcastTo):
        return op.x.type.rank == op.result.rank
    return isinstance(op, _ANY_ORDER)


def data_operands(op: Op) -> range:
    """The operands that are transposed with the op; the others (indices, tables) stay."""
    return range(1) if isinstance(op, (Gather, Lookup)) else range(len(op.operands))


def _axis(value: int, perm: Perm) -> int:
    return perm[value % len(perm)]


def _axes(value: tuple[int, ...], perm: Perm) -> tuple[int, ...]:
    return tuple(sorted(_axis(axis, perm) for axis in value))


def _per_axis(value: tuple[int, ...], perm: Perm) -> tuple[int, ...]:
    return permuted(value, inverse(perm))


_ATTRS: dict[str, Callable[[Any, Perm], Any]] = {
    "axis": _axis, "axes": _axes, "before": _per_axis, "after": _per_axis, "begin": _per_axis, "step": _per_axis,
    "repeats": _per_axis,
}


def attrs_below(op: Op, perm: Perm) -> dict[str, Any]:
    """The attributes with which `op` works on x where it now works on transpose(x, perm)."""
    return {name: _ATTRS[name](value, perm) if name in _ATTRS else value for name, value in op.attrs.items()}
