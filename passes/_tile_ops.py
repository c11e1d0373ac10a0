"""The ops that compute one tile of a group of ops: the same ops, narrowed to what the tile needs.

    %y = qnn.depthwise_conv2d(%x, @w, @b) {pad = [1, 1, 1, 1]} : tensor<1x8x12x16xi8>
        columns 4 ... 7 of %y ->
    %x_t0_1 = nn.slice(%x) {begin = [0, 0, 3, 0], step = [1, 1, 1, 1]} : tensor<1x8x6x16xi8>
    %y_t0_1 = qnn.depthwise_conv2d(%x_t0_1, @w, @b) {pad = [1, 0, 1, 0]} : tensor<1x8x4x16xi8>

Padding stays where the tile is at the border. Where several ops read a value, it is computed as far as any of them
needs it, and the others read a slice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tinyir.geometry import Box
from tinyir.ir import Const, Module, Value
from tinyir.opdef import Op
from tinyir.ops import Concat, Elementwise, Slice, Spatial, Transpose
from tinyir.tiles import is_image, needed_box, whole_box
from tinyir.types import Shape, TensorType

__all__ = ["TileOps", "part_type"]


def part_type(value: Value, box: Box) -> TensorType:
    """The type of a part of an image."""
    type_ = value.type
    assert isinstance(type_, TensorType)
    return TensorType((1, box.rows.extent, box.columns.extent, type_.shape[3]), type_.dtype, type_.quant)


@dataclass
class TileOps:
    """Builds the ops of one tile; `boxes` says what is computed of each value, and `suffix` ends the names. What only
    takes a part of a value that is there before goes to `outer`, everything else to `inner`.
    """

    module: Module
    boxes: Mapping[Value, Box]
    suffix: str
    outer: Callable[[Op], None]
    inner: Callable[[Op], None]
    strip: bool = False
    """Whether all rows are there of everything, and are read."""
    values: dict[Value, Value] = field(default_factory=dict)
    """For each value of the group, what stands for it in the tile."""
    _slices: dict[tuple[Value, Shape, Shape], Value] = field(default_factory=dict)

    def build(self, body: Sequence[Op]) -> None:
        """Make the ops for those of `body`, in order."""
        for op in body:
            if op.out in self.boxes:
                self._build(op)

    def _build(self, op: Op) -> None:
        box = self.boxes[op.out]
        made = self._transposed(op, box) if isinstance(op, Transpose) else self._narrowed(op, box)
        made.loc = op.loc
        made.results[0].name = op.out.name + self.suffix
        self.values[op.out] = made.results[0]
        self.inner(made)

    def _transposed(self, op: Transpose, box: Box) -> Op:
        """A transposition of what the tile needs of a stored value, where rows and columns lie along other axes; or of
        what it computes, to where they do.
        """
        if op.x in self.values:
            x = self._operand(op, op.x, box)
            assert x is not None
            return Transpose(x, op.perm)
        begin, shape = [0] * 4, list(op.x.shape)
        for axis, span in zip((1, 2), box, strict=True):
            begin[op.perm[axis]], shape[op.perm[axis]] = span.begin, span.extent
        type_ = op.x.type
        assert isinstance(type_, TensorType)
        x = self._slice(op.x, tuple(begin), TensorType(tuple(shape), type_.dtype, type_.quant), op)
        return Transpose(x, op.perm)

    def _narrowed(self, op: Op, box: Box) -> Op:
        assert isinstance(op, Spatial)
        given = [self._needed(op, box, i) for i in range(len(op.operands))]
        attrs = op.part_attrs(box, given)
        assert attrs is not None
        operands = [self._operand(op, v, part) for v, part in zip(op.operands, given, strict=True)
                    if part.area or not isinstance(op, Concat)]
        following = iter(operands)
        groups = [operands] if isinstance(op, Concat) else [[next(following) for _ in g] for g in op.operand_groups]
        return type(op).build(groups, {**op.attrs, **attrs}, [part_type(op.out, box)], (), op.loc)

    def _needed(self, op: Op, box: Box, operand: int) -> Box:
        """What a part of the result needs of an operand."""
        value = op.operands[operand]
        if value is None or not is_image(value):
            return box
        need = needed_box(op, box, operand)
        return Box(whole_box(value).rows, need.columns) if self.strip else need

    def _operand(self, op: Op, value: Value | None, need: Box) -> Value | None:
        """What the op of the tile reads in place of `value`, of which it needs `need`."""
        if isinstance(value, Const):
            return self._const(value, need) if isinstance(op, (Concat, Elementwise)) else value
        if value is None or not is_image(value):
            return value
        have = self.boxes[value] if value in self.values else whole_box(value)
        base = self.values.get(value, value)
        begin = (0, need.rows.begin - have.rows.begin, need.columns.begin - have.columns.begin, 0)
        return self._slice(base, begin, part_type(value, need), op)

    def _slice(self, base: Value, begin: tuple[int, ...], type_: TensorType, op: Op) -> Value:
        if type_ == base.type:
            return base
        key = base, begin, type_.shape
        if key not in self._slices:
            made = Slice(base, begin, (1,) * 4, type_)
            made.loc = op.loc
            inside = base in self.values.values()
            made.out.name = base.name + ("_part" if inside else self.suffix)
            (self.inner if inside else self.outer)(made)
            self._slices[key] = made.out
        return self._slices[key]

    def _const(self, value: Const, need: Box) -> Value:
        """The part of a constant image, or of what is one but for its first axes."""
        data, type_ = value.data, value.type
        assert data is not None
        assert isinstance(type_, TensorType)
        place = [slice(None)] * data.ndim
        for axis, span in zip((-3, -2), need, strict=True):
            if data.ndim + axis >= 0 and data.shape[axis] > 1:
                place[axis] = slice(span.begin, span.end)
        part = data[tuple(place)]
        if part.shape == data.shape:
            return value
        return self.module.add_const(value.name + self.suffix, np.ascontiguousarray(part), value.loc,
                                     TensorType(part.shape, type_.dtype, type_.quant))
