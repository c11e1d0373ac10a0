"""Parts of images as crops, which run row by row, and back.

    %s = nn.slice(%a) {begin = [0, 0, 0, 8], step = [1, 1, 1, 1]} : tensor<1x16x16x8xi8>       %a: 16 x 16 x 16
        <->
    %s = nn.pad(%a) {before = [0, 0, 0, -8], after = [0, 0, 0, 0]} : tensor<1x16x16x8xi8>

A crop of rows that a region computes is made of those that are there. Outside of regions a slice is better: what reads
it may find it where the whole lies.
"""

from __future__ import annotations

from tinyir.ir import Func
from tinyir.ops import Pad, Slice
from tinyir.rewrite import Rewriter
from tinyir.row_schedule import has_rows
from tinyir.tiles import is_stored_input
from tinyir.types import TensorType

from ._streamable import can_stream

__all__ = ["crops_of_slices", "slices_of_crops"]


def crops_of_slices(func: Func, rewriter: Rewriter) -> None:
    """Turn slices of images that can be computed row by row into crops."""
    for op in list(func.ops):
        if not isinstance(op, Slice) or not _is_crop(op):
            continue
        ends = zip(op.x.shape, op.begin, op.out.shape, strict=True)
        before, after = tuple(-b for b in op.begin), tuple(b + count - extent for extent, b, count in ends)
        rewriter.replace(op, Pad(op.x, before, after))


def _is_crop(op: Slice) -> bool:
    """Whether the op takes neighbours of an image, larger than one pixel, whose rows are computed one by one."""
    producer = op.x.op
    if producer is None or is_stored_input(op.x) or not can_stream(producer):
        return False
    return has_rows(op.x) and op.x.shape[1:3] != (1, 1) and set(op.step) == {1}


def slices_of_crops(func: Func, rewriter: Rewriter) -> None:
    """Turn crops that are in no region into slices."""
    for op in list(func.ops):
        type_ = op.results[0].type if op.results else None
        if isinstance(op, Pad) and isinstance(type_, TensorType) and max((*op.before, *op.after)) <= 0:
            begin = tuple(-amount for amount in op.before)
            rewriter.replace(op, Slice(op.x, begin, (1,) * len(begin), type_))
