"""Turn sched.patch into the ops of its tiles, one after the other.

    %d = sched.patch() {grid = [1, 2]} : tensor<1x8x8x16xf32> {
      %c = nn.conv2d(%x, @w1, none) {pad = [1, 1, 1, 1]} : tensor<1x8x8x16xf32>
      %d_1 = nn.conv2d(%c, @w2, none) {pad = [1, 1, 1, 1]} : tensor<1x8x8x16xf32>
      sched.yield(%d_1)
    }
        ->
    %d = sched.empty() : tensor<1x8x8x16xf32>
    %x_t0_0 = nn.slice(%x) {begin = [0, 0, 0, 0], step = [1, 1, 1, 1]} : tensor<1x8x6x4xf32>
    %c_t0_0 = nn.conv2d(%x_t0_0, @w1, none) {pad = [1, 1, 1, 0]} : tensor<1x8x5x16xf32>
    %d_t0_0 = nn.conv2d(%c_t0_0, @w2, none) {pad = [1, 1, 1, 0]} : tensor<1x8x4x16xf32>
    %d_1 = nn.insert(%d, %d_t0_0) {begin = [0, 0, 0, 0]} : tensor<1x8x8x16xf32>
    ... the same for columns 4 to 7 of %d ...

The slices and insertions cost nothing where kernels can read and write rows that are apart (`_windows`). Tiles of the
same shape and border share the C functions of their kernels, and all tiles share their constants. With `rows`, the ops
of a tile become a sched.stream.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar, TypeVar

from tinyir.diag import UNKNOWN
from tinyir.geometry import Box
from tinyir.ir import Func, Level, Module, Value
from tinyir.opdef import Op
from tinyir.ops import Empty, Insert, Patch, Slice, Transpose
from tinyir.pace import Keep, Pace
from tinyir.pass_manager import Context, Pass
from tinyir.row_schedule import RowSchedule
from tinyir.tiles import boxes_of, tile_spans, turns_out
from tinyir.types import TensorType

from ._stream_ways import put_in_stream
from ._tile_ops import TileOps

OpT = TypeVar("OpT", bound=Op)
_EACH: Keep = (1, 0)


class ExpandPatches(Pass):
    """Write out the tiles of sched.patch."""

    name = "expand-patches"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant", "sched")

    def run(self, module: Module, ctx: Context) -> None:
        tiles = recomputed = 0
        for func in module.funcs.values():
            for op in [op for op in func.ops if isinstance(op, Patch)]:
                tiles += op.grid[0] * op.grid[1]
                recomputed += op.macs()
                _Expansion(op, func, module).run()
        if tiles:
            ctx.stat("tiles", tiles)
            ctx.stat("recomputed-macs", recomputed)
            module.version += 1


class _Expansion:
    """The tiles of one patch, in the block where it stood."""

    def __init__(self, patch: Patch, func: Func, module: Module) -> None:
        self.patch, self.func, self.module = patch, func, module
        self.body, self.yielded = patch.body, patch.yielded
        self.wholes = [self._add(Empty(_tensor(result)), result.name).out for result in patch.results]

    def run(self) -> None:
        rows = tile_spans(self.body, self.yielded, self.patch.grid[0], "rows", self.patch.rows > 0)
        columns = tile_spans(self.body, self.yielded, self.patch.grid[1], "columns")
        schedule = self.patch.schedule if self.patch.rows else None
        for (r, down), (c, across) in itertools.product(enumerate(rows), enumerate(columns)):
            self._tile(boxes_of(down, across), f"_t{r}_{c}", schedule)
        for result, whole in zip(self.patch.results, self.wholes, strict=True):
            for use in list(result.uses):
                use.op.replace_operand(use.index, whole)
        for op in (*self.patch.regions[0].ops, self.patch):
            op._unlink()
        self.func.block.ops.remove(self.patch)

    def _tile(self, boxes: dict[Value, Box], suffix: str, schedule: RowSchedule | None) -> None:
        outer: list[Op] = []
        inner: list[Op] = []
        tile = TileOps(self.module, boxes, suffix, outer.append, inner.append, schedule is not None)
        tile.build(self.body)
        for op in (*outer, *inner):
            self._add(op)
        for index, value in enumerate(self.yielded):
            insert = Insert(self.wholes[index], tile.values[value], _place(value, boxes[value], self.body))
            self.wholes[index] = self._add(insert, self.patch.results[index].name).out
        if schedule is not None:
            numbers = {tile.values[op.out]: number for number, op in enumerate(self.body) if op.out in tile.values}
            put_in_stream(_with_slices(schedule, inner, numbers), inner, self.func, self.module)

    def _add(self, op: OpT, name: str = "") -> OpT:
        """Put an op in front of the patch."""
        block = self.func.block
        if op.loc is UNKNOWN:
            op.loc = self.patch.loc
        if name:
            op.out.name = name
        block.insert(block.ops.index(self.patch), op)
        return op


def _place(value: Value, box: Box, body: Sequence[Op]) -> tuple[int, ...]:
    """Where a part of a result begins."""
    place, op = (0, box.rows.begin, box.columns.begin, 0), value.op
    return tuple(place[axis] for axis in op.perm) if isinstance(op, Transpose) and turns_out(op, body) else place


def _tensor(value: Value) -> TensorType:
    assert isinstance(value.type, TensorType)
    return value.type


def _with_slices(schedule: RowSchedule, made: list[Op], numbers: dict[Value, int]) -> RowSchedule:
    """The schedule for the ops of a tile, which have the `numbers` that they have in the patch; slices between them
    have no rows of their own.
    """
    lines: list[tuple[Pace, int, int, Keep]] = []
    for op in made:
        number = numbers[op.x if isinstance(op, Slice) else op.results[0]]
        places = schedule.rings[number], schedule.fresh[number], schedule.keeps[number]
        lines.append((schedule.paces[number], *((0, 0, _EACH) if isinstance(op, Slice) else places)))
    paces, rings, fresh, keeps = zip(*lines, strict=True)
    return RowSchedule(schedule.steps, paces, rings, fresh, keeps)
