"""Tiles of a group of ops: which part of every value a part of the results needs, and what computing by tiles costs.

    %c = nn.conv2d(%x, @w1, none) {pad = [1, 1, 1, 1]} : tensor<1x8x8x16xf32>        3x3 windows
    %d = nn.conv2d(%c, @w2, none) {pad = [1, 1, 1, 1]} : tensor<1x8x8x16xf32>

    columns 0..4 of %d need columns 0..5 of %c, and these columns 0..6 of %x; columns 4..8 of %d need 3..8 and 2..8

All exact, from the ops' `input_span`: at the borders nothing is needed of what lies outside. A value that several ops
read is computed as far as any of them needs it. Rows and columns do not depend on each other. A result may be turned to
NCHW (`turns_out`); its rows and columns are those of the image.

Source: Lin et al., MCUNetV2: Memory-efficient Patch-based Inference for Tiny Deep Learning, 2021, section 3.1.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import TypeAlias

from .geometry import Axis, Box, Span, axis_index
from .ir import Argument, Const, Value
from .opdef import Op
from .ops.base import Elementwise, Spatial
from .ops.conv import ConvTranspose2D
from .ops.qconcat import QConcat
from .ops.shape import Concat, Slice, Transpose

__all__ = ["TURNS", "Spans", "boxes_of", "check_tiles", "equal_parts", "extent_of", "is_column_slice", "is_image",
           "is_stored_input", "macs_basis", "needed_box", "part_macs", "recomputed_macs", "spans_of", "tile_problem",
           "tile_spans", "turns_out", "whole_box"]

TURNS = ((0, 2, 1, 3), (0, 3, 1, 2), (0, 3, 2, 1))
"""Orders of axes in which an image leaves: each of its rows goes to places all over the result."""

Spans: TypeAlias = dict[Value, Span]
"""Along one axis: for each value of a group, the part that is computed for a tile."""


def is_image(value: Value) -> bool:
    """Whether the value is one image, [1, H, W, C]."""
    return value.type.rank == 4 and value.shape[0] == 1


def whole_box(value: Value) -> Box:
    """All of an image."""
    return Box(Span(0, value.shape[1]), Span(0, value.shape[2]))


def turns_out(op: Op, inside: Collection[Op]) -> bool:
    """Whether the op turns an image that is computed in `inside` to NCHW (or NCWH), or swaps its rows and columns."""
    return isinstance(op, Transpose) and op.x.op in inside and op.perm in TURNS


def extent_of(value: Value, axis: Axis, inside: Collection[Op]) -> int:
    """The rows or columns of an image, turned or not."""
    dimension, op = axis_index(axis), value.op
    if isinstance(op, Transpose) and turns_out(op, inside):
        dimension = op.perm.index(dimension)
    return value.shape[dimension]


def needed_box(op: Op, out: Box, operand: int) -> Box:
    """What the part `out` of the result of `op` needs of an operand that is an image."""
    assert isinstance(op, Spatial)
    return Box(op.input_span(out.rows, "rows", operand), op.input_span(out.columns, "columns", operand))


def spans_of(body: Sequence[Op], results: Spans, axis: Axis) -> Spans:
    """The spans of all values of `body` that the spans `results` of some of them need; of values that it reads too."""
    found, inside = dict(results), set(body)
    for op in reversed(body):
        out = found.get(op.out)
        if out is not None and turns_out(op, inside):
            found[op.reads[0]] = out.hull(found.get(op.reads[0], out))
        if out is None or not isinstance(op, Spatial):
            continue
        for index, value in enumerate(op.operands):
            if value is not None and not isinstance(value, Const) and is_image(value):
                span = op.input_span(out, axis, index)
                found[value] = span if value not in found else span.hull(found[value])
    return found


def tile_spans(body: Sequence[Op], results: Sequence[Value], count: int, axis: Axis, strips: bool = False) \
        -> list[Spans]:
    """The spans for each of `count` parts (`equal_parts`) of the results along an axis.

    Strips have all rows of each value, also those that nobody needs.
    """
    inside = set(body)
    cut = [equal_parts(extent_of(value, axis, inside), count) for value in results]
    found = [spans_of(body, dict(zip(results, spans, strict=True)), axis) for spans in zip(*cut, strict=True)]
    if not strips or axis == "columns":
        return found
    return [{value: Span(0, extent_of(value, axis, inside)) for value in spans} for spans in found]


def equal_parts(extent: int, count: int) -> list[Span]:
    """`extent` rows or columns in `count` spans. Where it does not divide, those at both ends are longer: what they
    need ends at the border on one side.
    """
    least, rest = divmod(extent, count)
    extents = [least + (min(2 * part, 2 * (count - 1 - part) + 1) < rest) for part in range(count)]
    bounds = [0, *itertools.accumulate(extents)]
    return [Span(a, b) for a, b in itertools.pairwise(bounds)]


def boxes_of(rows: Spans, columns: Spans) -> dict[Value, Box]:
    """What is computed for the tile in a row and a column of tiles."""
    return {value: Box(span, columns[value]) for value, span in rows.items()}


def macs_basis(op: Op) -> Value:
    """The image to whose pixels the multiply-accumulates of `op` are proportional."""
    value: Value = op.x if isinstance(op, ConvTranspose2D) else op.out
    return value


def part_macs(op: Op, rows: Spans, columns: Spans) -> int:
    """Multiply-accumulates of the part of `op` that is computed for a tile."""
    if op.out not in rows or not op.macs():
        return 0
    value = macs_basis(op)
    return op.macs() // (value.shape[1] * value.shape[2]) * rows[value].extent * columns[value].extent


def recomputed_macs(body: Sequence[Op], results: Sequence[Value], grid: tuple[int, int], strips: bool = False) -> int:
    """Multiply-accumulates of all tiles of a grid, less those of computing everything once."""
    rows, columns = (tile_spans(body, results, count, axis, strips) for count, axis in zip(grid, _AXES, strict=True))
    tiled = sum(part_macs(op, r, c) for op in body for r in rows for c in columns)
    return tiled - sum(op.macs() for op in body)


_AXES: tuple[Axis, Axis] = ("rows", "columns")


def check_tiles(body: Sequence[Op], results: Sequence[Value], grid: tuple[int, int]) -> str | None:
    """Why the ops cannot be computed for a grid of tiles of the results, or None."""
    inside = set(body)
    problems = [tile_problem(op, inside) for op in body] + [_result_problem(value, inside, grid) for value in results]
    first = next((problem for problem in problems if problem is not None), None)
    if first is not None:
        return first
    for count, axis in zip(grid, _AXES, strict=True):
        for spans in tile_spans(body, results, count, axis):
            empty = next((op for op in body if op.out in spans and _starves(op, spans, axis)), None)
            if empty is not None:
                return f"a tile of %{empty.out.name} would see nothing but padding"
    return None


def _result_problem(value: Value, inside: Collection[Op], grid: tuple[int, int]) -> str | None:
    if value.op not in inside:
        return f"%{value.name} is not a result of the region"
    if not is_image(value):
        return f"%{value.name} is {value.type}, expected one image, [1, H, W, C]"
    for count, axis in zip(grid, _AXES, strict=True):
        if count > extent_of(value, axis, inside):
            return f"%{value.name} has {extent_of(value, axis, inside)} {axis}, too few for {count} tiles"
    return None


def tile_problem(op: Op, inside: Collection[Op]) -> str | None:
    """Why an op cannot be computed for a part of its result, or None; `inside` are the ops that are computed so."""
    if len(op.results) != 1 or not is_image(op.out):
        return f"{op.opname} %{op.results[0].name if op.results else ''} is not one image"
    if isinstance(op, Transpose):
        stored = op.x.op not in inside and op.perm[0] == 0 and op.x.type.rank == 4
        last = turns_out(op, inside) and not any(user in inside for user in op.out.users)
        return None if stored or last else f"%{op.out.name} is transposed before all of it is there"
    images = [whole_box(v) if v is not None and is_image(v) else whole_box(op.out) for v in op.operands]
    if not isinstance(op, Spatial) or op.part_attrs(whole_box(op.out), images) is None:
        return f"{op.opname} %{op.out.name} needs more than a part of its operands for a part of its result"
    if not isinstance(op, (Elementwise, Concat, QConcat)) and any(not isinstance(v, Const) for v in op.reads[1:]):
        return f"{op.opname} %{op.out.name} has weights that are computed"
    for value in op.operands:
        flat = value is None or isinstance(value, Const) or is_image(value) or value.type.elements == value.shape[-1]
        if not flat:
            return f"{op.opname} %{op.out.name} reads %{value.name if value is not None else ''}, which is no image"
    return None


def _starves(op: Op, spans: Spans, axis: Axis) -> bool:
    """Whether a tile of the op needs nothing of all its operands."""
    images = [i for i, v in enumerate(op.operands) if v is not None and not isinstance(v, Const) and is_image(v)]
    needed = [op.input_span(spans[op.out], axis, i).extent for i in images] if isinstance(op, Spatial) else []
    return bool(needed) and not any(needed)


def is_column_slice(op: Op) -> bool:
    """Whether the op is a run of columns of an image, with all rows and channels."""
    if not isinstance(op, Slice) or not is_image(op.x):
        return False
    whole = all(op.out.shape[a] == op.x.shape[a] for a in (1, 3))
    return whole and set(op.step) == {1}


def is_stored_input(value: Value) -> bool:
    """Whether the value is an argument of the function, or a part of one."""
    part = value.defining(Slice)
    return isinstance(value if part is None else part.x, Argument)
