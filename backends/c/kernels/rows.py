"""What runs row by row: the ops whose kernels can, and the row forms of kernels that work on whole images otherwise.

    k.map(%x) -> (%y) {function = sigmoid}
        ->
    k.map_rows(%x) -> (%ring) {function = sigmoid, rows = [0, 48], height = 48, pace = [1, 1, -2]}

A concat becomes one kernel for each of its inputs.
"""

from __future__ import annotations

from typing import ClassVar, Literal, final

import numpy as np

from tinyir import ops
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, keeps, row_form, streams
from tinyir.opdef import Op, Written
from tinyir.pace import Keep, Pace
from tinyir.row_schedule import folds_rows, has_rows, work_rows

from ..text import c_type, fill
from .base import RowKernel
from .eltwise import Binary, BinaryRows, Map, MapRows, row_length
from .loops import row_major
from .move import Concat, Transpose
from .mve_lookup import pixel_text
from .mve_move import row_text
from .qboundary import Boundary
from .qeltwise import LookupRows, LookupS8, PairRowsS8, PairS8

__all__ = ["BoundaryRows", "ConcatRows", "ImageRows", "KeepRows", "PlaneRows"]


@final
class ConcatRows(RowKernel, opname="k.concat_rows"):
    """The channels of y from `channel` on are those of x, for a span of rows: one operand of a concat."""

    batched: ClassVar[tuple[str, ...]] = ("x", "y")

    x: Value                               # [N, ring, W, C]
    tables: Value | None                   # [256 for each], by the byte of x: what becomes of elements
    y: Written                             # [1, ring, W, channels of all]
    channel: int
    rows: tuple[int, int]
    height: int
    x_base: int = 0
    y_base: int = 0
    table: int = 0                         # number of the table
    vector: bool = False                   # whether the core has the instructions of mve_lookup

    def stem(self) -> str:
        return f"{super().stem()}_{self.x.type.dtype}"

    def reference(self, x: Array, tables: Array | None, y: Array) -> None:
        values, _ = self.read_rows("x", x)
        if tables is not None:
            values = tables[256 * self.table + np.ascontiguousarray(values).view(np.uint8).astype(np.int32)]
        slots = [(self.y_base + i) % y.shape[1] for i in range(values.shape[1])] if self.is_ring("y") \
            else list(range(*self.rows))
        y[:, slots, :, self.channel:self.channel + x.shape[3]] = values

    def source(self) -> str:
        width, inputs, outputs = self.x.shape[2], self.x.shape[3], self.y.shape[3]
        kinds = self.x.type.dtype, self.y.type.dtype
        table = None if self.tables is None else f"tables + {256 * self.table}" if self.table else "tables"
        pixel = pixel_text(kinds, (f"from + column * {inputs}", table, f"to + column * {outputs}"), inputs, self.vector)
        return fill("""
            static void {name}(const {xt} *restrict x, {tables}{yt} *restrict y, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const {xt} *from = {x_row};
                    {yt} *to = y + {y_slot} * {y_pitch}{channel};
                    for (int32_t column = 0; column < {width}; column++) {
                        {pixel}
                    }
                }
            }
        """, xt=c_type(kinds[0]), yt=c_type(kinds[1]), pixel=pixel,
            tables="" if self.tables is None else f"const {c_type(kinds[1])} *restrict tables, ",
            rows=self.row_parameters(), setup=self.row_setup(), width=width, x_row=self.address("x", "row"),
            y_slot=self.slot("y", "row"), y_pitch=self.pitch("y"),
            channel=f" + {self.channel}" if self.channel else "")


@final
class ImageRows(RowKernel, opname="k.image_rows"):
    """Rows of an image from one with its axes in another order, which is there as a whole."""

    rings: ClassVar[tuple[str, ...]] = ("y",)

    x: Value                               # such as [1, C, H, W]
    y: Written                             # [1, ring, W, C]
    perm: tuple[int, int, int, int]        # axis i of y is axis perm[i] of x; perm[0] is 0
    rows: tuple[int, int]
    height: int
    vector: bool = False                   # whether the core has the instructions of mve_move
    y_base: int = 0

    def stem(self) -> str:
        return f"{super().stem()}_{self.x.type.dtype}"

    def reference(self, x: Array, y: Array) -> None:
        self.write_rows("y", y, x.transpose(self.perm)[:, slice(*self.rows)])

    def source(self) -> str:
        width, channels = self.y.shape[2:]
        window = self.lies_in("x")
        strides = row_major((self.x if window is None else window.x).shape)
        by_row, by_column, by_channel = (strides[axis] for axis in self.perm[1:])
        loops = fill("""
            for (int32_t column = 0; column < {width}; column++) {
                for (int32_t c = 0; c < {channels}; c++) {
                    to[column * {channels} + c] = x[row * {by_row} + column * {by_column} + c * {by_channel}];
                }
            }
        """, width=width, channels=channels, by_row=by_row, by_column=by_column, by_channel=by_channel)
        if self.vector and self.x.type.dtype.bits == 8:
            loops = row_text(channels, width, (f"x + row * {by_row}", "to"), (by_column, by_channel), loops)
        return fill("""
            static void {name}(const {kind} *restrict x, {kind} *restrict y, {rows})
            {
                for (int32_t row = row_begin; row < row_end; row++) {
                    {kind} *to = y + {y_slot} * {pitch};
                    {loops}
                }
            }
        """, kind=c_type(self.x.type.dtype), rows=self.row_parameters(), y_slot=self.slot("y", "row"),
            pitch=self.pitch("y"), loops=loops)


@final
class PlaneRows(RowKernel, opname="k.plane_rows"):
    """Rows of an image into one with its axes in another order, which is stored as a whole."""

    rings: ClassVar[tuple[str, ...]] = ("x",)
    held: ClassVar[tuple[str, ...]] = ("y",)

    x: Value                               # [1, ring, W, C]
    y: Written                             # such as [1, C, H, W]
    perm: tuple[int, int, int, int]        # axis i of y is axis perm[i] of x; perm[0] is 0
    rows: tuple[int, int]
    height: int
    x_base: int = 0

    def stem(self) -> str:
        return f"{super().stem()}_{self.x.type.dtype}"

    def reference(self, x: Array, y: Array) -> None:
        order = np.argsort(self.perm)
        y.transpose(order)[:, slice(*self.rows)] = self.read_rows("x", x)[0]

    def source(self) -> str:
        width, channels = self.x.shape[2:]
        window = self.lies_in("y")
        strides = row_major((self.y if window is None else window.x).shape)
        by_row, by_column, by_channel = (strides[self.perm.index(axis)] for axis in (1, 2, 3))
        return fill("""
            static void {name}(const {kind} *restrict x, {kind} *restrict y, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const {kind} *from = {x_row};
                    for (int32_t column = 0; column < {width}; column++) {
                        for (int32_t c = 0; c < {channels}; c++) {
                            y[row * {by_row} + column * {by_column} + c * {by_channel}] = from[column * {channels} + c];
                        }
                    }
                }
            }
        """, kind=c_type(self.x.type.dtype), rows=self.row_parameters(), setup=self.row_setup(),
            x_row=self.address("x", "row"), width=width, channels=channels, by_row=by_row, by_column=by_column,
            by_channel=by_channel)


@final
class KeepRows(RowKernel, opname="k.keep_rows"):
    """The rows of a step, which lie in a place of their own, go into the ring that keeps them."""

    x: Value                               # [1, rows of a step, W, C]
    y: Written                             # [1, ring, W, C], at least half as many rows
    rows: tuple[int, int]
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return f"{super().stem()}_{self.x.type.dtype}"

    def due(self, step: int) -> tuple[int, int]:
        end = super().due(step)[1]
        every, phase = self.keep
        return (Pace(*(self.pace or (1, 1, 0))).kept(step, self.rows[1], self.keep), end) if step % every == phase \
            else (end, end)

    def reference(self, x: Array, y: Array) -> None:
        self.write_rows("y", y, self.read_rows("x", x)[0])

    def slot(self, operand: str, row: str) -> str:
        slot = super().slot(operand, row)
        return f"tc_wrap({slot}, {self.ring('y')})" if operand == "y" and self.ring("x") > self.ring("y") else slot

    def source(self) -> str:
        ring, length, dtype = self.ring("y"), row_length(self.y), self.x.type.dtype
        size = length * dtype.numpy.itemsize
        # Of more rows than the ring has only the last ones stay.
        first = f"row_end - row_begin > {ring} ? row_end - {ring} : row_begin" if self.ring("x") > ring else "row_begin"
        return fill("""
            static void {name}(const {kind} *restrict x, {kind} *restrict y, {rows})
            {
                {setup}
                for (int32_t row = {first}; row < row_end; row++) {
                    tc_copy_{unit}({x_row}, y + {y_slot} * {length}, {size});
                }
            }
        """, kind=c_type(dtype), rows=self.row_parameters(), setup=self.row_setup(), first=first,
            unit="bytes" if size % 4 else "words", x_row=self.address("x", "row"), y_slot=self.slot("y", "row"),
            length=length, size=size)


@keeps
def keep_rows(fresh: Value, ring: Value, pace: Pace, keep: Keep, height: int) -> Op:
    kernel = KeepRows(fresh, ring, (0, height), height)
    kernel.__dict__.update({"fresh": ("x",), "keep": keep})
    return kernel.paced(pace)[0]


@row_form(Map)
def map_rows(kernel: Map, low: Lowering) -> list[Op]:
    height = low.source.out.shape[1]
    return MapRows(kernel.x, kernel.y, kernel.function, (0, height), height, kernel.args).paced(low.pace)


@row_form(LookupS8)
def lookup_rows(kernel: LookupS8, low: Lowering) -> list[Op]:
    height = low.source.out.shape[1]
    return LookupRows(kernel.x, kernel.table, kernel.y, (0, height), height, vector=kernel.vector).paced(low.pace)


def _follow(op: Op) -> tuple[bool, bool]:
    """Which of the two operands have a row for each row of the result."""
    a, b = (v.type.rank == 4 and v.shape[1] == op.out.shape[1] for v in op.reads[:2])
    return a, b


@row_form(Binary)
def binary_rows(kernel: Binary, low: Lowering) -> list[Op]:
    height = low.source.out.shape[1]
    return BinaryRows(kernel.a, kernel.b, kernel.y, kernel.function, (0, height), height, _follow(low.source),
                      kernel.act, kernel.act_args).paced(low.pace)


@row_form(PairS8)
def pair_rows(kernel: PairS8, low: Lowering) -> list[Op]:
    height = low.source.out.shape[1]
    return PairRowsS8(kernel.a, kernel.b, kernel.table, kernel.y, kernel.function, kernel.form, (0, height), height,
                       _follow(low.source), kernel.dsp, kernel.vector).paced(low.pace)


@row_form(Concat)
def concat_rows(kernel: Concat, low: Lowering) -> list[Op]:
    made: list[Op] = []
    channel, height = 0, low.source.out.shape[1]
    for value in kernel.inputs:
        made += ConcatRows(value, None, kernel.y, channel, (0, height), height).paced(low.pace)
        channel += value.shape[3]
    return made


@final
class BoundaryRows(RowKernel, opname="k.boundary_rows"):
    """k.boundary with one scale, for a span of rows."""

    x: Value                               # [1, ring, W, C]
    y: Written                             # [1, ring, W, C]
    function: Literal["quantize", "dequantize"]
    scale: float
    zero: int
    rows: tuple[int, int]
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return f"{self.function}_rows_{(self.y if self.function == 'quantize' else self.x).type.dtype}"

    def _whole(self) -> Boundary:
        """The kernel that does the same to all elements."""
        return Boundary(Value(self.x.type), None, None, Value(self.y.type), self.function, self.scale, self.zero)

    def reference(self, x: Array, y: Array) -> None:
        values, _ = self.read_rows("x", x)
        found = np.empty(values.shape, y.dtype)
        self._whole().reference(values, None, None, found)
        self.write_rows("y", y, found)

    def source(self) -> str:
        length = row_length(self.y)
        return fill("""
            static void {name}(const {xt} *restrict x, {yt} *restrict y, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const {xt} *from = {x_row};
                    {yt} *to = y + {y_slot} * {pitch};
                    {loop}
                }
            }
        """, xt=c_type(self.x.type.dtype), yt=c_type(self.y.type.dtype), rows=self.row_parameters(),
            setup=self.row_setup(), x_row=self.address("x", "row"), y_slot=self.slot("y", "row"), pitch=self.pitch("y"),
            loop=self._whole().loop(str(length), "from[i]", "to[i]"))


@row_form(Boundary)
def boundary_rows(kernel: Boundary, low: Lowering) -> list[Op]:
    height = low.source.out.shape[1]
    return BoundaryRows(kernel.x, kernel.y, kernel.function, kernel.scale, kernel.zero, (0, height),
                        height).paced(low.pace)


def _one_scale(op: Op) -> bool:
    return all(v.type.quant is None or v.type.quant.axis is None for v in (op.reads[0], op.out)) and _images(op)


@row_form(Transpose)
def image_rows(kernel: Transpose, low: Lowering) -> list[Op]:
    source = low.source
    height, perm = work_rows(source), source.attrs["perm"]
    if folds_rows(source):
        return PlaneRows(kernel.x, kernel.y, perm, (0, height), height).paced(low.pace)
    return ImageRows(kernel.x, kernel.y, perm, (0, height), height, kernel.vector).paced(low.pace)


def _joins_channels(op: Op) -> bool:
    return isinstance(op, ops.Concat) and op.axis % 4 == 3


def _images(op: Op) -> bool:
    """Whether the operands that are not constants are images or vectors along the channels."""
    return all(has_rows(v) or v.type.rank <= 1 for v in op.reads if v.data is None)


streams(ops.Conv2D, ops.DepthwiseConv2D, ops.ConvTranspose2D, ops.MaxPool, ops.AvgPool, ops.Resize,
        ops.QConv2D, ops.QDepthwiseConv2D, ops.QAvgPool, ops.QResize, ops.QConcat, where=_images)
streams(ops.Relu, ops.Clip, ops.LeakyRelu, ops.Sigmoid, ops.Tanh, ops.HardSigmoid, ops.HardSwish, ops.Elu, ops.Selu,
        ops.Softplus, ops.Softsign, ops.Gelu, ops.Erf, ops.Exp, ops.Log, ops.Sqrt, ops.Neg, ops.Abs, ops.Reciprocal,
        ops.Floor, ops.Ceil, ops.Round, ops.Sign, ops.Lookup, where=_images)
streams(ops.Add, ops.Sub, ops.Mul, ops.Div, ops.Minimum, ops.Maximum, ops.PRelu, ops.QAdd, ops.QMul, where=_images)
streams(ops.Concat, where=_joins_channels)
streams(ops.Transpose)
streams(ops.Quantize, ops.Dequantize, where=_one_scale)
