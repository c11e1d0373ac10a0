"""Converters: operators that move elements. What is known is moved at once, also where it has no elements (the shapes
that exporters compute may be empty in between, which no tensor of the IR is).

    Split(x) {axis = 1}  ->  one nn.slice for each output
    DepthToSpace(x)      ->  reshape, transpose, reshape
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from tinyir import ops
from tinyir.ir import Value
from tinyir.types import Shape, TensorType

from .onnx_node import Node, Operand, Produced, converts
from .onnx_ops_linear import reshaped

__all__: list[str] = []


@converts("Identity")
def identity(node: Node) -> Produced:
    return node.operand(0)


@converts("Dropout")
def dropout(node: Node) -> Produced:
    """Nothing, outside training; the mask then keeps everything."""
    node.number("ratio", 0.5)
    node.integer("seed", 0)
    training = node.optional_array(2, "training_mode")
    if training is not None and bool(training):
        raise node.unsupported("in training mode; export the model in evaluation mode")
    return (node.operand(0), np.ones(node.shape(0), np.bool_)) if node.wants(1) else node.operand(0)


def _as_shape(node: Node, shape: Sequence[int]) -> Operand:
    """Input 0 under another shape."""
    wanted = tuple(int(d) for d in shape)
    known = node.known(0)
    if math.prod(wanted) != math.prod(node.shape(0)):
        raise node.error(f"{list(node.shape(0))} cannot become {list(wanted)}: the numbers of elements differ")
    return known.reshape(wanted) if known is not None else reshaped(node, node.value(0), wanted)


@converts("Reshape")
def reshape(node: Node) -> Produced:
    """A 0 keeps a dimension (unless allowzero), one -1 takes what is left."""
    wanted = list(node.integers(1, "the shape") or ())
    if not node.integer("allowzero", 0):
        zeros = [axis for axis, d in enumerate(wanted) if d == 0]
        if any(axis >= node.rank() for axis in zeros):
            raise node.error(f"the shape {wanted} keeps a dimension that {list(node.shape())} does not have")
        wanted = [node.shape()[axis] if d == 0 else d for axis, d in enumerate(wanted)]
    open_axes = [axis for axis, d in enumerate(wanted) if d < 0]
    if len(open_axes) > 1:
        raise node.error(f"the shape {wanted} leaves more than one dimension open")
    if open_axes:
        rest = math.prod(d for d in wanted if d >= 0)
        wanted[open_axes[0]] = math.prod(node.shape()) // rest if rest else 0
    return _as_shape(node, wanted)


@converts("Flatten")
def flatten(node: Node) -> Produced:
    axis = node.integer("axis", 1)
    if not -node.rank() <= axis <= node.rank():
        raise node.error(f"axis {axis} does not exist in a tensor of rank {node.rank()}")
    axis = axis + node.rank() if axis < 0 else axis
    return _as_shape(node, (math.prod(node.shape()[:axis]), math.prod(node.shape()[axis:])))


def _axes(node: Node) -> tuple[int, ...] | None:
    """The attribute `axes`, or input 1 since opset 13."""
    return node.ints("axes") if "axes" in node.given_attributes() else node.integers(1, "axes")


@converts("Squeeze")
def squeeze(node: Node) -> Produced:
    given, shape = _axes(node), node.shape()
    if given is None:
        return _as_shape(node, [d for d in shape if d != 1])
    axes = {node.axis(a, len(shape)) for a in given}
    if any(shape[a] != 1 for a in axes):
        raise node.error(f"axes {sorted(axes)} of {list(shape)} are not all 1")
    return _as_shape(node, [d for a, d in enumerate(shape) if a not in axes])


@converts("Unsqueeze")
def unsqueeze(node: Node) -> Produced:
    given = _axes(node) or ()
    rank = node.rank() + len(given)
    axes = {node.axis(a, rank) for a in given}
    if len(axes) != len(given):
        raise node.error(f"axes {list(given)} name one axis twice")
    dims = iter(node.shape())
    return _as_shape(node, [1 if a in axes else next(dims) for a in range(rank)])


@converts("Transpose")
def transpose(node: Node) -> Produced:
    perm = node.ints("perm") or tuple(reversed(range(node.rank())))
    known = node.known(0)
    if sorted(perm) != list(range(node.rank())):
        raise node.error(f"perm is {list(perm)}, expected each of 0 to {node.rank() - 1} once")
    if known is not None:
        return np.ascontiguousarray(known.transpose(perm))
    return node.operand(0) if node.rank() == 0 else node.emit(ops.Transpose(node.value(0), perm))


@converts("Concat")
def concat(node: Node) -> Produced:
    axis = node.axis(node.integer("axis", 0), node.rank())
    arrays = [node.known(i) for i in range(len(node.inputs))]
    if all(a is not None for a in arrays):
        return np.concatenate([a for a in arrays if a is not None], axis=axis)
    kept = [i for i in range(len(node.inputs)) if 0 not in node.shape(i)]
    if len(kept) == 1:
        return node.operand(kept[0])
    return node.emit(ops.Concat(tuple(node.value(i) for i in kept), axis=axis))


# -- slices ------------------------------------------------------------------------------------------------------------


def _slice(node: Node, begin: Sequence[int], step: Sequence[int], shape: Shape, index: int = 0) -> Operand:
    known = node.known(0)
    if 0 in shape:
        return np.zeros(shape, node.dtype().numpy)  # nothing: known, whatever x is
    if known is not None:
        ends = [b + n * s for b, s, n in zip(begin, step, shape, strict=True)]
        pieces = [slice(b, e if e >= 0 else None, s) for b, e, s in zip(begin, ends, step, strict=True)]
        return np.ascontiguousarray(known[tuple(pieces)]).reshape(shape)
    x = node.value(0)
    if shape == x.shape and all(s == 1 for s in step):
        return x
    result = TensorType(shape, x.type.dtype, x.type.quant)
    return node.emit(ops.Slice(x, tuple(begin), tuple(step), result), index=index)


@converts("Slice")
def slices(node: Node) -> Produced:
    """Python's slices: negative positions count from the end, out-of-range ones are moved to it."""
    starts, ends = (node.integers(i, what) or () for i, what in ((1, "starts"), (2, "ends")))
    axes = node.integers(3, "axes") or tuple(range(len(starts)))
    steps = node.integers(4, "steps") or (1,) * len(starts)
    begin, step, shape = [0] * node.rank(), [1] * node.rank(), list(node.shape())
    for first, last, axis, stride in zip(starts, ends, axes, steps, strict=True):
        a = node.axis(axis, node.rank())
        if stride == 0:
            raise node.error("a step is 0")
        places = range(node.shape()[a])[slice(first, last, stride)]
        begin[a], step[a], shape[a] = places.start, stride, len(places)
    return _slice(node, begin, step, tuple(shape))


@converts("Split")
def split(node: Node) -> Produced:
    axis, count = node.axis(node.integer("axis", 0), node.rank()), len(node.proto.output)
    extent = node.shape()[axis]
    sizes = node.ints("split") if "split" in node.given_attributes() else node.integers(1, "split")
    parts = node.integer("num_outputs", count)
    if sizes is None:
        each = -(-extent // parts)  # the last one is smaller where they are not equal
        sizes = tuple(max(min(each, extent - i * each), 0) for i in range(parts))
    if len(sizes) != count or sum(sizes) != extent:
        raise node.error(f"sizes {list(sizes)} do not divide {extent} into {count} outputs")
    return [_part(node, axis, sum(sizes[:i]), size, i) for i, size in enumerate(sizes)]


def _part(node: Node, axis: int, begin: int, size: int, index: int) -> Operand:
    start = [begin if a == axis else 0 for a in range(node.rank())]
    shape = tuple(size if a == axis else d for a, d in enumerate(node.shape()))
    return _slice(node, start, [1] * node.rank(), shape, index)


# -- copies ------------------------------------------------------------------------------------------------------------


@converts("Expand")
def expand(node: Node) -> Produced:
    wanted = node.integers(1, "the shape") or ()
    shape = tuple(int(d) for d in np.broadcast_shapes(node.shape(), wanted))
    node.check_size(shape)
    known = node.known(0)
    if known is not None:
        return np.broadcast_to(known, shape).copy()
    x = node.value(0)
    return x if x.shape == shape else node.emit(ops.BroadcastTo(x, TensorType(shape, x.type.dtype, x.type.quant)))


@converts("Tile")
def tile(node: Node) -> Produced:
    repeats = node.integers(1, "repeats") or ()
    if len(repeats) != node.rank() or min(repeats, default=0) < 0:
        raise node.error(f"repeats is {list(repeats)}, expected one number for each of {node.rank()} dimensions")
    node.check_size(d * r for d, r in zip(node.shape(), repeats, strict=True))
    known = node.known(0)
    return np.tile(known, repeats) if known is not None else node.emit(ops.Tile(node.value(0), repeats))


@converts("Gather")
def gather(node: Node) -> Produced:
    axis = node.axis(node.integer("axis", 0), node.rank())
    known, indices = node.known(0), node.known(1)
    extent = node.shape()[axis]
    if indices is not None and indices.size and not -extent <= indices.min() <= indices.max() < extent:
        raise node.error(f"the indices go from {indices.min()} to {indices.max()}, expected {-extent} to {extent - 1}")
    if known is not None and indices is not None:
        return np.asarray(np.take(known, indices, axis=axis))
    if indices is None:
        return node.emit(ops.Gather(node.value(0), node.value(1), axis=axis))
    positive = np.where(indices < 0, indices + extent, indices).astype(np.int64)
    return node.emit(ops.Gather(node.value(0), node.weight_const(1, positive, f"of {extent}"), axis=axis))


@converts("Pad")
def pad(node: Node) -> Produced:
    """Negative amounts crop. Opset 18 may name the axes that the amounts are for."""
    mode = node.text("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise node.error(f"mode is {mode!r}, expected constant, reflect, edge or wrap")
    amounts = node.integers(1, "pads") or ()
    axes = node.integers(3, "axes") or tuple(range(node.rank()))
    if len(amounts) != 2 * len(axes):
        raise node.error(f"pads has {len(amounts)} entries, expected {2 * len(axes)}")
    before, after = [0] * node.rank(), [0] * node.rank()
    for position, axis in enumerate(axes):
        a = node.axis(axis, node.rank())
        before[a], after[a] = amounts[position], amounts[position + len(axes)]
    fill = node.optional_array(2, "the padding value")
    value = 0.0 if fill is None or not fill.size else float(fill.reshape(-1)[0])
    return node.emit(ops.Pad(node.value(0), tuple(before), tuple(after), cast("ops.PadMode", mode), value))


@converts("DepthToSpace")
def depth_to_space(node: Node) -> Produced:
    """Channels become blocks of pixels; the block's position is the slow (DCR) or the fast (CRD) part of a channel."""
    block, mode = node.integer("blocksize", 1), node.text("mode", "DCR")
    n, c, h, w = node.shape()
    if mode not in ("DCR", "CRD") or c % (block * block):
        raise node.error(f"{c} channels do not make blocks of {block}x{block} (mode {mode})")
    depth = c // (block * block)
    split_shape = (n, block, block, depth, h, w) if mode == "DCR" else (n, depth, block, block, h, w)
    perm = (0, 3, 4, 1, 5, 2) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
    return _shuffle(node, split_shape, perm, (n, depth, h * block, w * block))


@converts("SpaceToDepth")
def space_to_depth(node: Node) -> Produced:
    """Blocks of pixels become channels, the block's position the slow part (DCR) or the fast part (CRD)."""
    block, mode = node.integer("blocksize", 1), node.text("mode", "DCR")
    n, c, h, w = node.shape()
    if mode not in ("DCR", "CRD") or h % block or w % block:
        raise node.error(f"{h}x{w} does not divide into blocks of {block}x{block} (mode {mode})")
    perm = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return _shuffle(node, (n, c, h // block, block, w // block, block), perm,
                    (n, c * block * block, h // block, w // block))


def _shuffle(node: Node, shape: Shape, perm: Shape, result: Shape) -> Value:
    parts = reshaped(node, node.value(0), shape, f"{node.base()}_parts")
    moved = node.emit(ops.Transpose(parts, perm), f"{node.base()}_moved")
    return reshaped(node, moved, result)
