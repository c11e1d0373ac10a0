"""Global means, taken while the rows of the image stream by.

    k.mean_rows_s8(%ring, none) -> (%y, %sums) {start = 128, ..., rows = [0, 48], height = 48, pace = [1, 1, -2]}

`rows` are those of the input. The first row starts the sums, the last one finishes the result. Floats are summed in
the result itself, in the order in which k.reduce sums them; integers in int32.
"""

from __future__ import annotations

from typing import ClassVar, final

import numpy as np

from tinyir import ops
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, row_form, streams
from tinyir.opdef import Op, Written
from tinyir.row_schedule import folds_rows
from tinyir.types import I32, BufferType

from ..text import c_type, c_value, fill
from .base import RowKernel
from .qreduce import MeanS8
from .qrequant import Stored, apply_stored, requantized
from .reduce import Reduce

__all__ = ["MeanRowsF32", "MeanRowsS8"]


@final
class MeanRowsF32(RowKernel, opname="k.mean_rows_f32"):
    """y = the mean of x over rows and columns."""

    rings: ClassVar[tuple[str, ...]] = ("x",)
    held: ClassVar[tuple[str, ...]] = ("y",)

    x: Value                               # [1, ring, W, C]
    y: Written                             # [C]
    rows: tuple[int, int]                  # of x
    height: int
    x_base: int = 0

    def reference(self, x: Array, y: Array) -> None:
        values, _ = self.read_rows("x", x)
        flat = y.reshape(-1)
        if self.rows[0] == 0:
            flat[:] = 0
        flat += values.sum(axis=(0, 1, 2), dtype=y.dtype)
        if self.rows[1] == self.height:
            flat /= y.dtype.type(self.height * x.shape[2])

    def source(self) -> str:
        width, channels = self.x.shape[2], self.x.shape[3]
        return fill("""
            static void {name}(const float *restrict x, float *restrict y, {rows})
            {
                {setup}
                for (int32_t c = 0; c < {channels} && row_begin == 0; c++) {
                    y[c] = 0.0f;
                }
                for (int32_t row = row_begin; row < row_end; row++) {
                    const float *in = {x_row};
                    for (int32_t column = 0; column < {width}; column++, in += {channels}) {
                        for (int32_t c = 0; c < {channels}; c++) {
                            y[c] += in[c];
                        }
                    }
                }
                for (int32_t c = 0; c < {channels} && row_end == {height}; c++) {
                    y[c] = y[c] / {count};
                }
            }
        """, rows=self.row_parameters(), setup=self.row_setup(), x_row=self.address("x", "row"),
            width=width, channels=channels, height=self.height,
            count=c_value(self.height * width, self.x.type.dtype))


@final
class MeanRowsS8(RowKernel, opname="k.mean_rows_s8"):
    """y = stored(start + sum of x over rows and columns); with `limits`, least value + how many the sum reaches."""

    rings: ClassVar[tuple[str, ...]] = ("x",)
    held: ClassVar[tuple[str, ...]] = ("sums", "y")

    x: Value                               # [1, ring, W, C] i8 or u8
    limits: Value | None                   # [255] i32
    y: Written                             # [C]
    sums: Written                          # [C] i32
    start: int
    common: tuple[int, int]
    shift: int
    zero: int
    clamp: tuple[int, int]
    emulated: bool
    rows: tuple[int, int]                  # of x
    height: int
    x_base: int = 0

    def stem(self) -> str:
        return f"mean_rows_s8_{self.x.type.dtype}"

    def dimensions(self) -> dict[str, int]:
        return _sizes(self)

    @property
    def stored(self) -> Stored:
        return Stored(None, None, self.common, self.shift, self.zero, self.clamp, self.emulated)

    def reference(self, x: Array, limits: Array | None, y: Array, sums: Array) -> None:
        values, _ = self.read_rows("x", x)
        if self.rows[0] == 0:
            sums[:] = self.start
        sums += values.sum(axis=(0, 1, 2), dtype=np.int32)
        if self.rows[1] < self.height:
            return
        if limits is not None:
            found = self.clamp[0] + np.searchsorted(limits, sums, side="right")
        else:
            found = apply_stored(self.stored, sums.reshape(-1, 1), None, None, self.y.type.dtype)
        y[...] = np.asarray(found).reshape(y.shape)

    def source(self) -> str:
        width, channels = self.x.shape[2], self.x.shape[3]
        return fill("""
            static void {name}(const {xt} *restrict x, {limits}{yt} *restrict y, int32_t *restrict sums, {rows})
            {
                {setup}
                for (int32_t c = 0; c < {channels} && row_begin == 0; c++) {
                    sums[c] = {start};
                }
                for (int32_t row = row_begin; row < row_end; row++) {
                    const {xt} *in = {x_row};
                    for (int32_t column = 0; column < {width}; column++, in += {channels}) {
                        for (int32_t c = 0; c < {channels}; c++) {
                            sums[c] += in[c];
                        }
                    }
                }
                for (int32_t c = 0; c < {channels} && row_end == {height}; c++) {
                    y[c] = ({yt}){value};
                }
            }
        """, xt=c_type(self.x.type.dtype), yt=c_type(self.y.type.dtype), rows=self.row_parameters(),
            limits="const int32_t *restrict limits, " if self.limits is not None else "", start=self.start,
            setup=self.row_setup(), x_row=self.address("x", "row"), width=width,
            channels=channels, height=self.height,
            value=_stored_value(self.stored, self.limits, self.clamp, "sums[c]"))


@final
class MeanColumnsS8(RowKernel, opname="k.mean_columns_s8"):
    """y = stored(start + sum over the columns of x), for a span of rows; `limits` as in k.mean_rows_s8."""

    x: Value                               # [1, ring, W, C] i8 or u8
    limits: Value | None                   # [255] i32
    y: Written                             # [1, ring, 1, C]
    start: int
    common: tuple[int, int]
    shift: int
    zero: int
    clamp: tuple[int, int]
    emulated: bool
    rows: tuple[int, int]
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return f"mean_columns_s8_{self.x.type.dtype}"

    def dimensions(self) -> dict[str, int]:
        return _sizes(self)

    @property
    def stored(self) -> Stored:
        return Stored(None, None, self.common, self.shift, self.zero, self.clamp, self.emulated)

    def reference(self, x: Array, limits: Array | None, y: Array) -> None:
        sums = self.start + self.read_rows("x", x)[0].sum(axis=2, keepdims=True, dtype=np.int64)
        if limits is not None:
            found = (self.clamp[0] + np.searchsorted(limits, sums, side="right")).astype(y.dtype)
        else:
            found = apply_stored(self.stored, sums.reshape(-1, 1), None, None, self.y.type.dtype).reshape(sums.shape)
        self.write_rows("y", y, found)

    def source(self) -> str:
        width, channels = self.x.shape[2], self.x.shape[3]
        return fill("""
            static void {name}(const {xt} *restrict x, {limits}{yt} *restrict y, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const {xt} *in = {x_row};
                    {yt} *out = y + {y_slot} * {pitch};
                    for (int32_t c = 0; c < {channels}; c++) {
                        int32_t total = {start};
                        for (int32_t column = 0; column < {width}; column++) {
                            total += in[column * {channels} + c];
                        }
                        out[c] = ({yt}){value};
                    }
                }
            }
        """, xt=c_type(self.x.type.dtype), yt=c_type(self.y.type.dtype), rows=self.row_parameters(),
            limits="const int32_t *restrict limits, " if self.limits is not None else "", start=self.start,
            setup=self.row_setup(), x_row=self.address("x", "row"), y_slot=self.slot("y", "row"),
            width=width, channels=channels, pitch=self.pitch("y"),
            value=_stored_value(self.stored, self.limits, self.clamp, "total"))


def _sizes(kernel: MeanRowsS8 | MeanColumnsS8) -> dict[str, int]:
    return {"channels": kernel.x.shape[3], "width": kernel.x.shape[2], "height": kernel.height,
            "length": kernel.pitch("x"), "ring": kernel.ring("x"), "start": kernel.start}


def _stored_value(stored: Stored, limits: Value | None, clamp: tuple[int, int], total: str) -> str:
    """C expression for the mean with that sum."""
    if limits is None:
        return requantized(stored, total, "0")
    return f"({clamp[0]} + tc_count_reached(limits, {clamp[1] - clamp[0]}, {total}))"


def _height(op: Op) -> int:
    return op.reads[0].shape[1]


@row_form(Reduce)
def mean_rows(kernel: Reduce, low: Lowering) -> list[Op]:
    height = _height(low.source)
    return MeanRowsF32(kernel.x, kernel.y, (0, height), height).paced(low.pace)


@row_form(MeanS8)
def mean_rows_s8(kernel: MeanS8, low: Lowering) -> list[Op]:
    height, channels = _height(low.source), kernel.y.type.elements
    if not folds_rows(low.source):
        return MeanColumnsS8(kernel.x, kernel.limits, kernel.y, kernel.start, kernel.common, kernel.shift, kernel.zero,
                             kernel.clamp, kernel.emulated, (0, height), height).paced(low.pace)
    sums = low.scratch(BufferType((channels,), I32), f"{kernel.y.name}_sums")
    return MeanRowsS8(kernel.x, kernel.limits, kernel.y, sums, kernel.start, kernel.common, kernel.shift, kernel.zero,
                       kernel.clamp, kernel.emulated, (0, height), height).paced(low.pace)


streams(ops.ReduceMean, where=lambda op: folds_rows(op) and op.reads[0].type.dtype.name == "f32")
streams(ops.QReduceMean)
