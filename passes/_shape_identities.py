"""The part of canonicalize about shapes: ops that move elements, reductions, pools over the whole image.

    %p = nn.avg_pool(%x) {kernel = [8, 8]} : tensor<1x1x1x64xf32>       // %x: 1x8x8x64
    %s = nn.slice(%p) {begin = [0, 0, 0, 0], step = [1, 1, 1, 1]} : tensor<1x1x1x64xf32>
        ->
    %p = nn.reduce_mean(%x) {axes = [1, 2]} : tensor<1x1x1x64xf32>
"""

from __future__ import annotations

import numpy as np

from tinyir.ir import Array, Value
from tinyir.ops import (
    Add,
    ArgMax,
    ArgMin,
    AvgPool,
    Binary,
    BroadcastTo,
    Concat,
    Div,
    Gather,
    Maximum,
    MaxPool,
    Minimum,
    Mul,
    Pad,
    Pow,
    QReduceMean,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
    Reshape,
    Slice,
    Sub,
    Tile,
    Transpose,
)
from tinyir.rewrite import Rewriter, rewrites
from tinyir.types import TensorType

from ._values import broadcast, tensor_type, used_once

AnyReduce = ReduceMean | ReduceSum | ReduceMax | ReduceMin | ReduceProd


class ShapeIdentities:
    """Rewrites of ops that change shapes only; mixed into Canonicalize."""

    # -- reshape, transpose ----------------------------------------------------------------------------------------

    @rewrites(Reshape)
    def merge_reshapes(self, op: Reshape, rw: Rewriter) -> None:
        """A reshape of a reshape reads the source; one that changes nothing goes."""
        inner = op.x.defining(Reshape)
        if op.out.type == op.x.type:
            rw.replace(op, op.x)
        elif inner is not None:
            rw.replace(op, Reshape(inner.x, result=tensor_type(op.out)))

    @rewrites(Transpose)
    def merge_transposes(self, op: Transpose, rw: Rewriter) -> None:
        """Two transposes are one; one that moves nothing goes."""
        inner = op.x.defining(Transpose)
        if op.perm == tuple(range(len(op.perm))):
            rw.replace(op, op.x)
        elif inner is not None:
            rw.replace(op, Transpose(inner.x, perm=tuple(inner.perm[a] for a in op.perm)))

    # -- pad, slice, concat, repeat ----------------------------------------------------------------------------------

    @rewrites(Pad)
    def simplify_pad(self, op: Pad, rw: Rewriter) -> None:
        """A pad by nothing goes; two pads with one value are one."""
        inner = op.x.defining(Pad)
        if not any(op.before) and not any(op.after):
            rw.replace(op, op.x)
        elif inner is not None and _mergeable_pads(inner, op):
            before = tuple(a + b for a, b in zip(inner.before, op.before, strict=True))
            after = tuple(a + b for a, b in zip(inner.after, op.after, strict=True))
            rw.replace(op, Pad(inner.x, before=before, after=after, mode=op.mode, value=op.value))

    @rewrites(Slice)
    def simplify_slice(self, op: Slice, rw: Rewriter) -> None:
        """A slice of everything goes; a slice of a slice reads the source."""
        inner = op.x.defining(Slice)
        if op.out.type == op.x.type and all(s == 1 or d == 1 for s, d in zip(op.step, op.out.shape, strict=True)):
            rw.replace(op, op.x)
        elif inner is not None:
            begin = tuple(b + s * o for b, s, o in zip(inner.begin, inner.step, op.begin, strict=True))
            step = tuple(s * o for s, o in zip(inner.step, op.step, strict=True))
            rw.replace(op, Slice(inner.x, begin=begin, step=step, result=tensor_type(op.out)))

    @rewrites(Concat)
    def simplify_concat(self, op: Concat, rw: Rewriter) -> None:
        """A concat of one value goes; a concat inside another along the same axis is spread out."""
        if len(op.inputs) == 1:
            rw.replace(op, op.inputs[0])
            return
        axis = op.axis % op.out.type.rank
        spread = tuple(part for value in op.inputs for part in _parts(value, axis))
        if len(spread) > len(op.inputs):
            rw.replace(op, Concat(spread, axis=axis))

    @rewrites(Tile)
    def simplify_tile(self, op: Tile, rw: Rewriter) -> None:
        """A single copy is x."""
        if all(n == 1 for n in op.repeats):
            rw.replace(op, op.x)

    @rewrites(BroadcastTo)
    def simplify_broadcast(self, op: BroadcastTo, rw: Rewriter) -> None:
        """A broadcast that adds only dimensions of 1 is a reshape."""
        if op.out.type == op.x.type:
            rw.replace(op, op.x)
        elif op.out.type.elements == op.x.type.elements:
            rw.replace(op, Reshape(op.x, result=tensor_type(op.out)))

    @rewrites(Add, Sub, Mul, Div, Pow, Minimum, Maximum)
    def broadcast_inside(self, op: Binary, rw: Rewriter) -> None:
        """A binary op broadcasts by itself: it can read what was broadcast."""
        for index, value in enumerate((op.a, op.b)):
            inner = value.defining(BroadcastTo)
            other = op.b if index == 0 else op.a
            if inner is not None and broadcast(inner.x.shape, other.shape) == op.out.shape:
                rw.set_operand(op, index, inner.x)
                if not value.uses:
                    rw.erase(inner)
                return

    @rewrites(Gather)
    def gather_in_steps(self, op: Gather, rw: Rewriter) -> None:
        """Indices in even steps are a slice."""
        indices = op.indices.data
        if indices is None or indices.ndim > 1 or indices.size == 0:
            return
        axis, extent = op.axis % op.x.type.rank, op.x.shape[op.axis]
        places = _from_front(indices, extent)
        steps = set(np.diff(places).tolist())
        if len(steps) > 1 or 0 in steps:
            return
        rank = op.x.type.rank
        begin, step, shape = [0] * rank, [1] * rank, list(op.x.shape)
        begin[axis], step[axis], shape[axis] = int(places[0]), int(next(iter(steps), 1)), len(places)
        result = TensorType(tuple(shape), op.x.type.dtype, op.x.type.quant)
        cut = Slice(op.x, begin=tuple(begin), step=tuple(step), result=result)
        if indices.ndim == 1:
            rw.replace(op, cut)
            return
        rw.insert_before(op, cut)
        rw.replace(op, Reshape(cut.out, result=tensor_type(op.out)))

    # -- reductions and pools ----------------------------------------------------------------------------------------

    @rewrites(QReduceMean)
    def keep_mean_dims(self, op: QReduceMean, rw: Rewriter) -> None:
        """Dimensions are dropped by a reshape."""
        if not op.keepdims:
            axes = tuple(a % op.x.type.rank for a in op.axes)
            shape = tuple(1 if a in axes else d for a, d in enumerate(op.x.shape))
            result = TensorType(shape, op.out.type.dtype, op.out.type.quant)
            kept = rw.insert_before(op, QReduceMean(op.x, result, axes=axes, rule=op.rule))
            rw.replace(op, Reshape(kept.out, result=tensor_type(op.out)))

    @rewrites(ReduceMean, ReduceSum, ReduceMax, ReduceMin, ReduceProd)
    def simplify_reduction(self, op: AnyReduce, rw: Rewriter) -> None:
        """Folding axes of extent 1 does nothing; dimensions are dropped by a reshape."""
        if all(op.x.shape[a] == 1 for a in op.axes):
            rw.replace(op, Reshape(op.x, result=tensor_type(op.out)))
        elif not op.keepdims:
            kept = rw.insert_before(op, type(op)(op.x, axes=op.folded))
            rw.replace(op, Reshape(kept.out, result=tensor_type(op.out)))

    @rewrites(ArgMax, ArgMin)
    def keep_position_dims(self, op: ArgMax | ArgMin, rw: Rewriter) -> None:
        """Dimensions are dropped by a reshape."""
        if not op.keepdims:
            kept = rw.insert_before(op, type(op)(op.x, axis=op.axis, select_last=op.select_last))
            rw.replace(op, Reshape(kept.out, result=tensor_type(op.out)))

    @rewrites(AvgPool)
    def simplify_average(self, op: AvgPool, rw: Rewriter) -> None:
        """A mean over the whole image is a reduction, one over single pixels is x."""
        if any(op.pad) or any(op.ceil_pad):
            return
        if op.kernel == (1, 1) and op.stride == (1, 1):
            rw.replace(op, op.x)
        elif _whole_image(op):
            rw.replace(op, ReduceMean(op.x, axes=(1, 2)))

    @rewrites(MaxPool)
    def simplify_maximum(self, op: MaxPool, rw: Rewriter) -> None:
        """A maximum over the whole image is a reduction, one over single pixels is x."""
        if op.kernel == (1, 1) and op.stride == (1, 1) and not any(op.pad):
            rw.replace(op, op.x)
        elif _whole_image(op) and op.x.type.quant is None:
            rw.replace(op, ReduceMax(op.x, axes=(1, 2)))


def _whole_image(op: AvgPool | MaxPool) -> bool:
    """Whether the only window covers the image."""
    windows = op.out.shape[1:3]
    return op.kernel == op.x.shape[1:3] and windows == (1, 1) and op.dilation == (1, 1) and not any(op.pad)


def _mergeable_pads(inner: Pad, outer: Pad) -> bool:
    """Both fill with one value, and nothing is cropped that was padded."""
    amounts = (*inner.before, *inner.after, *outer.before, *outer.after)
    return inner.mode == outer.mode == "constant" and inner.value == outer.value and min(amounts) >= 0


def _parts(value: Value, axis: int) -> tuple[Value, ...]:
    """What `value` is concatenated of along `axis`, if nobody else needs it whole."""
    inner = value.defining(Concat)
    if inner is None or inner.axis % value.type.rank != axis or not used_once(value):
        return (value,)
    return inner.inputs


def _from_front(indices: Array, extent: int) -> Array:
    flat = indices.reshape(-1)
    return np.where(flat < 0, flat + extent, flat)


