"""The part of layout-nhwc that looks at one reshape or transpose at a time.

    %t = nn.transpose(%x) {perm = [0, 3, 1, 2]} : tensor<1x16x8x8xf32>
    %f = nn.reshape(%t) : tensor<1x1024xf32>
    %y = nn.dense(%f, @w, @b) : tensor<1x10xf32>
        ->
    %f = nn.reshape(%x) : tensor<1x1024xf32>
    %y = nn.dense(%f, @w_columns_permuted, @b) : tensor<1x10xf32>

Transposes sink below reshapes, and reshapes below element-wise ops, so that transposes meet and cancel and layers stand
next to what can be fused into them. Only where it adds dimensions of 1 does a reshape rise, above pads and concats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyir.ir import Array, Const, Value
from tinyir.opdef import Op
from tinyir.ops import (
    BatchNorm,
    Binary,
    Cast,
    Concat,
    Dense,
    Dequantize,
    Lookup,
    Pad,
    QAdd,
    QDense,
    QMul,
    Quantize,
    Reinterpret,
    Reshape,
    Slice,
    Transpose,
    Unary,
)
from tinyir.rewrite import Rewriter
from tinyir.types import Shape, TensorType

from ._layers import with_columns
from ._layout_regions import absorbs
from ._permutations import Perm, attrs_below, compose, identity, inverse, moves_nothing, permuted, untransposed
from ._values import stem, tensor_type


def merge_transposes(op: Transpose, rw: Rewriter) -> None:
    """Two transposes are one, one that moves nothing goes, one of a constant is done now."""
    inner, data = op.x.defining(Transpose), op.x.data
    if op.perm == identity(len(op.perm)):
        rw.replace(op, op.x)
    elif inner is not None:
        rw.replace(op, Transpose(inner.x, perm=compose(inner.perm, op.perm)))
    elif data is not None:
        rw.replace(op, rw.const(np.ascontiguousarray(data.transpose(op.perm)), stem(op.x), op.loc, op.out.type))


def merge_reshapes(op: Reshape, rw: Rewriter) -> None:
    """A reshape of a reshape reads the source; one that changes nothing goes."""
    inner = op.x.defining(Reshape)
    if op.out.type == op.x.type:
        rw.replace(op, op.x)
    elif inner is not None:
        rw.replace(op, Reshape(inner.x, result=tensor_type(op.out)))


def reshape_instead(op: Transpose, rw: Rewriter) -> None:
    """A transpose that moves only axes of extent 1 is a reshape."""
    if moves_nothing(op.x.shape, op.perm):
        rw.replace(op, Reshape(op.x, result=tensor_type(op.out)))


def share_transpose(op: Transpose, rw: Rewriter) -> None:
    """Of equal transposes of one value the first serves all."""
    block = op.block
    for other in op.x.users:
        if isinstance(other, Transpose) and other is not op and other.perm == op.perm and block is not None \
                and other.block is block and block.ops.index(other) < block.ops.index(op):
            rw.replace(op, other.out)
            return


def hoist_transpose(op: Transpose, rw: Rewriter) -> None:
    """A transpose behind a pad has fewer elements to move in front of it; the pad may merge into what follows."""
    pad = op.x.defining(Pad)
    if pad is None or len(op.x.uses) != 1 or pad.x.type.elements >= op.x.type.elements or \
            moves_nothing(op.x.shape, op.perm) or all(map(absorbs, op.out.users)):
        return
    if any(isinstance(user, Transpose) for user in op.out.users):
        return  # the two merge first
    first = rw.insert_before(op, Transpose(pad.x, perm=op.perm), name=pad.x.name)
    below = attrs_below(pad, inverse(op.perm))
    rw.replace(op, Pad(first.out, **below))


def hop_quantize(op: Quantize, rw: Rewriter) -> None:
    """A transpose in front of a quantize goes behind it, where elements are smaller."""
    inner = op.x.defining(Transpose)
    if inner is None or not all(isinstance(user, Quantize) for user in inner.out.users):
        return
    first = Quantize(inner.x, untransposed(tensor_type(op.out), inner.perm))
    rw.insert_before(op, first)
    rw.replace(op, Transpose(first.out, perm=inner.perm))


def hop_dequantize(op: Transpose, rw: Rewriter) -> None:
    """A transpose behind a dequantize goes in front of it, where elements are smaller."""
    inner = op.x.defining(Dequantize)
    if inner is None or len(op.x.uses) != 1:
        return
    first = rw.insert_before(op, Transpose(inner.x, perm=op.perm), name=op.out.name)
    rw.replace(op, Dequantize(first.out))


# -- transposes below reshapes ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    """Axes [begin, end) of the shape before a reshape that become axes [new_begin, new_end) of the shape after it."""

    begin: int
    end: int
    new_begin: int
    new_end: int


def _groups(before: Shape, after: Shape) -> list[_Group]:
    """The finest way to cut two shapes of as many elements into runs of axes with equal products."""
    groups, i, j = [], 0, 0
    while i < len(before) or j < len(after):
        start, new_start = i, j
        product = new_product = 1
        if i < len(before):
            product, i = before[i], i + 1
        if j < len(after):
            new_product, j = after[j], j + 1
        while product != new_product:
            if product < new_product:
                product, i = product * before[i], i + 1
            else:
                new_product, j = new_product * after[j], j + 1
        groups.append(_Group(start, i, new_start, j))
    return groups


def sink_transpose(op: Reshape, rw: Rewriter) -> None:
    """reshape(transpose(x)) is transpose(reshape(x)), where the reshape keeps apart what the transpose moves.

    Where it does so only in part (a channel shuffle), the part that it keeps apart sinks if it then cancels.
    """
    inner = op.x.defining(Transpose)
    quant = op.x.type.quant
    if inner is None or (quant is not None and quant.axis is not None):
        return
    plan = _reshape_first(inner.x.shape, inner.perm, op.out.shape)
    if plan is None or not _worth_it(op, plan):
        return
    x = inner.x
    if plan.within != identity(len(plan.within)):
        x = rw.insert_before(op, Transpose(x, perm=plan.within), name=op.x.name).out
    first = Reshape(x, result=TensorType(plan.shape, op.out.type.dtype, op.out.type.quant))
    if plan.perm == identity(len(plan.perm)):
        rw.replace(op, first)
        return
    rw.insert_before(op, first)
    rw.replace(op, Transpose(first.out, perm=plan.perm))


@dataclass(frozen=True)
class _Plan:
    """reshape(transpose(x, ..), ..) is transpose(reshape(transpose(x, within), shape), perm)."""

    within: Perm
    shape: Shape
    perm: Perm


def _worth_it(op: Reshape, plan: _Plan) -> bool:
    """Whether no more elements are moved afterwards than before, given that the readers' transposes merge."""
    cancels = all(isinstance(user, Transpose) and moves_nothing(plan.shape, compose(plan.perm, user.perm))
                  for user in op.out.users)
    if cancels or plan.within != identity(len(plan.within)):
        return cancels
    return len(op.x.uses) == 1 or moves_nothing(plan.shape, plan.perm)


def _reshape_first(source: Shape, perm: Perm, after: Shape) -> _Plan | None:
    order: list[tuple[float, _Group, list[int]]] = []
    key = -1.0
    for group in _groups(permuted(source, perm), after):
        axes = [axis for axis in perm[group.begin:group.end] if source[axis] != 1]
        between = [axis for axis in range(min(axes), max(axes) + 1) if source[axis] != 1] if axes else []
        if sorted(axes) != between:
            return None  # mixes axes that do not lie side by side in x
        key = float(min(axes)) if axes else key + 1e-3  # axes of extent 1 stay behind what they stood behind
        order.append((key, group, axes))
    order.sort(key=lambda item: item[0])
    moved = iter([axis for _, _, axes in order for axis in axes])
    within = tuple(axis if source[axis] == 1 else next(moved) for axis in range(len(source)))
    places = [place for _, group, _ in order for place in range(group.new_begin, group.new_end)]
    return _Plan(within, tuple(after[place] for place in places), tuple(map(places.index, range(len(after)))))


def permute_columns(op: Dense | QDense, rw: Rewriter) -> None:
    """A dense layer on a flattened transpose reads x itself, with the columns of its weight in the order of x."""
    flat = op.x.defining(Reshape)
    inner = None if flat is None else flat.x.defining(Transpose)
    weight = op.weight.data
    if flat is None or inner is None or weight is None:
        return
    source, rows = inner.x.shape, op.x.shape[0]
    if rows != 1 and (inner.perm[0] != 0 or source[0] != rows):
        return
    inside = source if rows == 1 else (1, *source[1:])
    places = np.arange(weight.shape[1]).reshape(inside).transpose(inner.perm).reshape(-1)
    columns = np.empty_like(weight)
    columns[:, places] = weight
    x = rw.insert_before(op, Reshape(inner.x, result=tensor_type(op.x)), name=op.x.name)
    rw.replace(op, with_columns(op, x.out, columns, rw))


# -- reshapes below element-wise ops ---------------------------------------------------------------------------------


def sink_reshape(op: Unary | Cast | BatchNorm | Quantize | Dequantize | Reinterpret | Lookup, rw: Rewriter) -> None:
    """f(reshape(x)) is reshape(f(x)); a batch normalisation needs the same last axis."""
    inner = op.x.defining(Reshape)
    if inner is None or (isinstance(op, BatchNorm) and inner.x.shape[-1:] != op.x.shape[-1:]):
        return
    quants = (op.x.type.quant, op.out.type.quant)
    if any(quant is not None and quant.axis is not None for quant in quants):
        return
    groups: list[list[Value | None]] = [[inner.x], *op.operand_groups[1:]]
    result = TensorType(inner.x.shape, op.out.type.dtype, op.out.type.quant)
    _replace_below(op, type(op).build(groups, op.attrs, [result], (), op.loc), rw)


def sink_reshapes(op: Binary | QAdd | QMul, rw: Rewriter) -> None:
    """f(reshape(a), reshape(b)) is reshape(f(a, b)), if a and b have one shape; also where one of them is constant."""
    first, second = op.a.defining(Reshape), op.b.defining(Reshape)
    shape = next((r.x.shape for r in (first, second) if r is not None), None)
    if shape is None:
        return
    after = op.out.shape
    operands = [_operand_below(value, shape, after, rw) for value in (op.a, op.b)]
    if operands[0] is None or operands[1] is None:
        return
    result = TensorType(shape, op.out.type.dtype, op.out.type.quant)
    _replace_below(op, type(op).build([[operands[0]], [operands[1]]], op.attrs, [result], (), op.loc), rw)


def hoist_reshape(op: Reshape, rw: Rewriter) -> None:
    """A reshape behind a pad, slice or concat that only adds or drops dimensions of 1 goes in front of it.

    One-dimensional networks pad [N, C, L] and convolve [N, 1, L, C]: the pad has to stand next to the convolution.
    """
    inner = op.x.op
    if not isinstance(inner, (Pad, Slice, Concat)) or len(op.x.uses) != 1:
        return
    places = _unit_places(op.x.shape, op.out.shape)
    if places is None or any(place is None and not _leaves(inner, axis) for axis, place in enumerate(places)):
        return
    rank = op.out.type.rank
    operands: list[list[Value | None]] = [[_reshaped(v, places, rank, op, rw) for v in inner.reads]]
    attrs = {name: _spread(name, value, places, rank) for name, value in inner.attrs.items()}
    rw.replace(op, type(inner).build(operands, attrs, [tensor_type(op.out)], (), inner.loc))


def _unit_places(before: Shape, after: Shape) -> list[int | None] | None:
    """Where each axis of `before` is in `after`, None for an axis of 1 that is gone; None if they differ in more."""
    big = [axis for axis, extent in enumerate(after) if extent != 1]
    if [d for d in before if d != 1] != [after[axis] for axis in big]:
        return None
    rest = iter(big)
    places = [None if extent == 1 else next(rest) for extent in before]
    return places


def _leaves(op: Op, axis: int) -> bool:
    """Whether `op` does nothing along `axis`, so that the axis may go."""
    if isinstance(op, Pad):
        return op.before[axis] == 0 == op.after[axis]
    if isinstance(op, Slice):
        return op.x.shape[axis] == 1
    return isinstance(op, Concat) and op.axis % op.out.type.rank != axis


def _reshaped(value: Value, places: list[int | None], rank: int, anchor: Op, rw: Rewriter) -> Value:
    """`value` with its axes at `places` of `rank`, and 1 elsewhere."""
    shape = [1] * rank
    for extent, place in zip(value.shape, places, strict=True):
        if place is not None:
            shape[place] = extent
    made = Reshape(value, result=TensorType(tuple(shape), value.type.dtype, value.type.quant))
    return rw.insert_before(anchor, made, name=value.name).out


def _spread(name: str, value: Any, places: list[int | None], rank: int) -> Any:
    """An attribute of a pad, slice or concat for an operand whose axes went to `places`."""
    if name == "axis":
        return places[value % len(places)]
    if name not in ("before", "after", "begin", "step"):
        return value
    spread = [1 if name == "step" else 0] * rank
    for number, place in zip(value, places, strict=True):
        if place is not None:
            spread[place] = number
    return tuple(spread)


def _replace_below(op: Op, made: Op, rw: Rewriter) -> None:
    rw.insert_before(op, made)
    rw.replace(op, Reshape(made.out, result=tensor_type(op.out)))


def _operand_below(value: Value, shape: Shape, after: Shape, rw: Rewriter) -> Value | None:
    """What to read instead of `value`, which broadcasts to `after`, when the op works on `shape`."""
    inner = value.defining(Reshape)
    if inner is not None:
        return inner.x if inner.x.shape == shape and value.shape == after else None
    data = value.data
    if not isinstance(value, Const) or data is None:
        return None
    if data.size == 1:
        return value if data.ndim <= len(shape) else _reshaped_const(value, data.reshape(()), rw)
    below = _broadcast_shape_below(data.shape, shape, after)
    return None if below is None else _reshaped_const(value, data.reshape(below), rw)


def _reshaped_const(value: Const, data: Array, rw: Rewriter) -> Const:
    type_ = TensorType(data.shape, value.type.dtype, value.type.quant)
    return rw.const(data, stem(value), value.loc, type_)


def _broadcast_shape_below(constant: Shape, shape: Shape, after: Shape) -> Shape | None:
    """The shape of a constant of shape `constant` that broadcasts to `after`, so that it broadcasts to `shape`."""
    full = (1,) * (len(after) - len(constant)) + constant
    below: list[int] = []
    for group in _groups(shape, after):
        mine = full[group.new_begin:group.new_end]
        here, there = shape[group.begin:group.end], after[group.new_begin:group.new_end]
        if mine == there:
            below += here
        elif all(d == 1 for d in mine):
            below += [1] * len(here)
        else:
            return None
    return tuple(below)
