"""What runs for a part of some channels at a time: the part forms of kernels, and what puts parts together.

    k.conv2d_s8(%x, @w, @b, @m, @r) -> (%e) {lanes = 4, ...}                    all 240 channels
        ->
    %w_part = mem.part(@w) {axis = 0} : buffer<8x1x1x40xi8>
    ...
    k.conv2d_s8(%x, %w_part, %b_part, %m_part, %r_part) -> (%e) {lanes = 4, ...}     the 8 of a part

A kernel is made for all channels first: what it has in common for them (shifts, forms of requantisation, how zero
points are folded) serves every part, and the C function is one for all. Then its constants are cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers, part_form, streams
from tinyir.opdef import Op, Written
from tinyir.ops.mem import Part
from tinyir.ops.split import Place

from ..text import c_type, fill
from .base import RowKernel
from .eltwise import Map, MapRows
from .folds import MeanColumnsS8, MeanRowsF32, MeanRowsS8
from .pool import AvgPool, MaxPool
from .qdepthwise import DepthwiseS8
from .qeltwise import LookupRows, LookupS8
from .qpool import AvgPoolS8
from .qreduce import MeanS8
from .reduce import Reduce

__all__ = ["PlaceRows", "channel_parts"]


@final
class PlaceRows(RowKernel, opname="k.place_rows"):
    """Rows of a part of the channels go to where these are in the whole: y has them further apart than x."""

    x: Value                               # [1, ring, W, channels of a part]
    y: Written                             # [1, H, W, channels of a part]
    rows: tuple[int, int]
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return f"{super().stem()}_{self.x.type.dtype}"

    def reference(self, x: Array, y: Array) -> None:
        self.write_rows("y", y, self.read_rows("x", x)[0])

    def source(self) -> str:
        width, channels = self.x.shape[2], self.x.shape[3]
        part = self.y.defining(Part)
        pitch = channels if part is None else part.x.shape[3]
        return fill("""
            static void {name}(const {kind} *restrict x, {kind} *restrict y, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const {kind} *from = {x_row};
                    {kind} *to = y + {y_slot} * {y_pitch};
                    for (int32_t column = 0; column < {width}; column++) {
                        for (int32_t c = 0; c < {channels}; c++) {
                            to[column * {pitch} + c] = from[column * {channels} + c];
                        }
                    }
                }
            }
        """, kind=c_type(self.x.type.dtype), rows=self.row_parameters(), setup=self.row_setup(), width=width,
            x_row=self.address("x", "row"), y_slot=self.slot("y", "row"), y_pitch=width * pitch, channels=channels,
            pitch=pitch)


@lowers(Place)
def lower_place(op: Place, low: Lowering) -> None:
    height = op.out.shape[1]
    low.emit(PlaceRows(low.buffer(op.x), low.result(op.out), (0, height), height))


streams(Place)


def channel_parts(kernel: Op, axes: Mapping[str, int], low: Lowering, **attrs: Any) -> Op:
    """`kernel` with the part of each constant operand in `axes`, cut along that axis, and other attributes."""
    for name, axis in axes.items():
        const = getattr(kernel, name)
        if const is not None:
            position = next(i for i, v in enumerate(kernel.operands) if v is const)
            kernel.replace_operand(position, low.part_of(const, axis))
    kernel.__dict__.update(attrs)
    return kernel


def same(kernel: Op, low: Lowering) -> list[Op]:
    """The part form of a kernel that treats all channels alike: itself."""
    return [kernel]


for _kind in (AvgPool, AvgPoolS8, LookupRows, LookupS8, Map, MapRows, MaxPool, MeanColumnsS8, MeanRowsF32, MeanRowsS8,
              MeanS8, PlaceRows, Reduce):
    part_form(_kind)(same)


@part_form(DepthwiseS8)
def depthwise_part(kernel: DepthwiseS8, low: Lowering) -> list[Op]:
    return [channel_parts(kernel, {"weight": 2, "bias": 0, "multiplier": 0, "rounding": 0}, low)]
