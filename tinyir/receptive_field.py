"""Which part of what is upstream a part of a value depends on: exact spans, receptive fields, the cost of patches.

    needed_spans(func, y, Span(0, 4), "rows")     {y: 0..4, conv1: 0..5, x: 0..11}

Spans go back through windows (stride, dilation, padding that is not symmetric), pools, resizing, transposed
convolutions, branches and transpositions, by each op's own `input_span`; clipped to each value, so that they are right
at the borders too. What mixes all rows (a mean, a dense layer, a reshape) needs all of them.

`patch_macs` adds up what the tiles of a grid compute, halos included (Lin et al., MCUNetV2, 2021, section 3.1);
`shrunk` asks the same of a network in which one window were two taps smaller (section 3.2: moving receptive field from
the stages that run by patches to later ones).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction

from .geometry import Axis, Span, axis_index, dilated, window_input_span
from .ir import Const, Func, Value
from .opdef import Op
from .ops.base import Elementwise, Spatial
from .ops.conv import ConvTranspose2D
from .ops.qconcat import QConcat
from .ops.resize import Resampling
from .ops.shape import Concat, Transpose

__all__ = ["Field", "fields", "needed_spans", "patch_macs", "tiles", "window_of"]

Window = tuple[int, int, int, int]
"""Along one axis: kernel, stride, dilation, padding before."""


@dataclass(frozen=True)
class Place:
    """A span along dimension `axis` of a value."""

    axis: int
    span: Span

    def hull(self, other: Place | None) -> Place:
        return self if other is None else Place(self.axis, self.span.hull(other.span))


def window_of(op: Op, axis: Axis) -> Window | None:
    """The window of a convolution or a pool along an axis; None for other ops."""
    kernel, stride, pad = (getattr(op, name, None) for name in ("kernel", "stride", "pad"))
    if isinstance(op, ConvTranspose2D) or not isinstance(op, Spatial) or kernel is None or stride is None:
        return None
    a = axis_index(axis) - 1
    dilation = getattr(op, "dilation", (1, 1))
    return int(kernel[a]), int(stride[a]), int(dilation[a]), int(pad[a]) if pad is not None else 0


def needed_spans(func: Func, value: Value, span: Span, axis: Axis, shrunk: Collection[Op] = ()) -> dict[Value, Span]:
    """For `value` and everything upstream that is not a constant: the rows (or columns) that its span `span` needs.

    The windows of the ops in `shrunk` are taken to be two taps smaller, one at each end.
    """
    places = {value: Place(axis_index(axis), span)}
    for op in reversed(func.ops):
        for result in op.results:
            place = places.get(result)
            if place is None:
                continue
            for index, operand in enumerate(op.operands):
                if operand is not None and not isinstance(operand, Const):
                    found = _operand_place(op, index, operand, place, axis, op in shrunk)
                    places[operand] = found.hull(places.get(operand))
    return {v: place.span for v, place in places.items()}


def _operand_place(op: Op, index: int, operand: Value, place: Place, axis: Axis, shrink: bool) -> Place:
    rank = operand.type.rank
    if isinstance(op, Transpose):
        return Place(op.perm[place.axis], place.span)
    if isinstance(op, Concat):
        return Place(place.axis, _concat_span(op, index, place))
    if isinstance(op, Elementwise) and rank == op.out.type.rank:
        return Place(place.axis, Span(0, 1) if operand.shape[place.axis] == 1 else place.span)
    if isinstance(op, Spatial) and rank == 4 and place.axis == axis_index(axis):
        window = window_of(op, axis)
        if shrink and window is not None:
            kernel, stride, dilation, pad = window
            return Place(place.axis, window_input_span(place.span, kernel - 2, stride, dilation, pad - dilation,
                                                       operand.shape[place.axis]))
        return Place(place.axis, op.input_span(place.span, axis, index))
    dimension = min(axis_index(axis), max(rank - 1, 0))
    return Place(dimension, Span(0, operand.shape[dimension] if rank else 1))


def _concat_span(op: Concat, index: int, place: Place) -> Span:
    if op.axis % op.out.type.rank != place.axis:
        return place.span
    before = sum(value.shape[place.axis] for value in op.inputs[:index])
    return place.span.shift(-before).clip(op.inputs[index].shape[place.axis])


@dataclass(frozen=True)
class Field:
    """Along one axis: input positions that one position of a value sees (not clipped to the input), and input positions
    from one position of the value to the next. `extent` None: all of them.
    """

    extent: Fraction | None
    jump: Fraction


def fields(func: Func, axis: Axis) -> dict[Value, Field]:
    """The receptive field of every value with rows, over the network's inputs: the largest over its paths."""
    found: dict[Value, Field] = {arg: Field(Fraction(1), Fraction(1)) for arg in func.inputs}
    for op in func.ops:
        for result in op.results:
            sources = [found[v] for v in op.operands if v is not None and v in found]
            if sources:
                found[result] = _field(op, sources, axis)
    return found


def _field(op: Op, sources: Sequence[Field], axis: Axis) -> Field:
    extents = [f.extent for f in sources]
    widest = None if None in extents else max(e for e in extents if e is not None)
    jump = max(f.jump for f in sources)
    if widest is None or isinstance(op, (Transpose, Concat, QConcat, Elementwise)):
        return Field(widest, jump)
    window = window_of(op, axis)
    if window is not None:
        kernel, stride, dilation, _ = window
        return Field(widest + (dilated(kernel, dilation) - 1) * jump, jump * stride)
    a = axis_index(axis)
    if isinstance(op, Resampling):
        return Field(widest + (op.taps - 1) * jump, jump * Fraction(op.x.shape[a], op.out.shape[a]))
    if isinstance(op, ConvTranspose2D):
        kernel, stride = dilated(op.kernel[a - 1], op.dilation[a - 1]), op.stride[a - 1]
        return Field(widest + (-(-kernel // stride) - 1) * jump, jump / stride)
    return Field(None, jump)


def tiles(extent: int, count: int) -> list[Span]:
    """`extent` rows in `count` spans, the first ones longer where it does not divide."""
    count = min(count, extent)
    bounds = [-(-extent * i // count) for i in range(count + 1)]
    return [Span(a, b) for a, b in itertools.pairwise(bounds)]


def patch_macs(func: Func, until: Value, grid: tuple[int, int], shrunk: Collection[Op] = ()) -> tuple[int, int]:
    """MACs of everything that `until` needs, computed once, and tile by tile of a grid (rows, columns) of its result.

    MACs of an op are taken to be proportional to the rows and columns that it computes.
    """
    rows = _computed(func, until, grid[0], "rows", shrunk)
    columns = _computed(func, until, grid[1], "columns", shrunk)
    once, tiled = 0, Fraction(0)
    for op in func.ops:
        if not op.results or op.results[0] not in rows:
            continue
        macs = op.macs()
        window = (window_of(op, "rows"), window_of(op, "columns")) if op in shrunk else (None, None)
        for taps in window:
            macs = macs * (taps[0] - 2) // taps[0] if taps is not None else macs
        once += macs
        tiled += macs * rows[op.results[0]] * columns[op.results[0]]
    return once, round(tiled)


def _computed(func: Func, until: Value, count: int, axis: Axis, shrunk: Collection[Op]) -> dict[Value, Fraction]:
    """How often each row of each value is computed, on average."""
    totals: dict[Value, int] = {}
    extents: dict[Value, int] = {}
    for tile in tiles(until.shape[axis_index(axis)], count):
        for value, span in needed_spans(func, until, tile, axis, shrunk).items():
            totals[value] = totals.get(value, 0) + span.extent
    for value in needed_spans(func, until, Span(0, until.shape[axis_index(axis)]), axis, shrunk):
        a = axis_index(axis)
        extents[value] = value.shape[a] if value.type.rank > a else 1
    return {value: Fraction(total, max(extents[value], 1)) for value, total in totals.items()}
