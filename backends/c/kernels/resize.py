"""Resizing of NHWC images, a span of rows, rings on both sides: k.resize_nearest and k.resize_linear.

Where an output row or column lies in the input is worked out at compile time, by the graph op: literal arithmetic where
pixels repeat a whole number of times (`row / 2`), else tables among the constants.
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir import ops
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.types import I32

from ..text import c_type, fill
from .base import RowKernel

__all__ = ["ResizeLinear", "ResizeNearest"]


class _Resize(RowKernel):
    """What the two have in common."""

    batched = ("x", "y")

    def stem(self) -> str:
        return f"{super().stem()}_{self.reads[0].type.dtype}"

    def pitches(self) -> dict[str, int]:
        """Literals of the C text."""
        x, y = self.reads[0].shape, self.writes[0].shape
        return {"out_pitch": self.pitch("y"), "columns": x[2], "out_columns": y[2], "channels": x[3]}


@final
class ResizeNearest(_Resize, opname="k.resize_nearest"):
    """y[row, column] = x[row_source[row], column_source[column]]; without a table, sources are row / row_repeat."""

    x: Value                               # [N, ring, W, C]
    row_source: Value | None               # [H'] i32
    column_source: Value | None            # [W'] i32
    y: Written                             # [N, ring, W', C]
    rows: tuple[int, int]
    height: int
    out_rows: int
    row_repeat: int = 1
    column_repeat: int = 1
    x_base: int = 0
    y_base: int = 0

    def out_height(self) -> int:
        return self.out_rows

    def _sources(self) -> tuple[Array, Array]:
        return (_table(self.row_source, self.out_rows, self.row_repeat),
                _table(self.column_source, self.y.shape[2], self.column_repeat))

    def input_rows(self, rows: tuple[int, int]) -> tuple[int, int]:
        sources = self._sources()[0][slice(*rows)]
        return int(sources[0]), int(sources[-1]) + 1

    def first_row(self) -> str:
        return _source("row", "row_begin", self.row_source, self.row_repeat)

    def reference(self, x: Array, row_source: Array | None, column_source: Array | None, y: Array) -> None:
        seen, first = self.read_rows("x", x)
        rows, columns = self._sources()
        self.write_rows("y", y, seen[:, rows[slice(*self.rows)] - first][:, :, columns])

    def source(self) -> str:
        tables = [f"const int32_t *restrict {name}_source" for name in ("row", "column")
                  if getattr(self, f"{name}_source") is not None]
        return fill("""
            static void {name}({parameters})
            {
                {ring}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const {kind} *line = {x_row};
                    {kind} *out = y + {y_slot} * {out_pitch};
                    for (int32_t column = 0; column < {out_columns}; column++) {
                        const {kind} *in = line + {column} * {channels};
                        for (int32_t c = 0; c < {channels}; c++) {
                            out[c] = in[c];
                        }
                        out += {channels};
                    }
                }
            }
        """, parameters=", ".join([f"const {c_type(self.x.type.dtype)} *restrict x", *tables,
                                   f"{c_type(self.x.type.dtype)} *restrict y", self.row_parameters()]),
            kind=c_type(self.x.type.dtype), ring=self.row_setup(), y_slot=self.slot("y", "row"),
            x_row=self.address("x", f"({_source('row', 'row', self.row_source, self.row_repeat)})"),
            column=f"({_source('column', 'column', self.column_source, self.column_repeat)})", **self.pitches())


def _table(source: Value | None, count: int, repeat: int) -> Array:
    if source is not None and source.data is not None:
        return source.data
    return np.asarray(np.arange(count) // repeat)


def _source(table: str, at: str, source: Value | None, repeat: int) -> str:
    """C expression for the input row (column) of output row `at`."""
    if source is not None:
        return f"{table}_source[{at}]"
    return at if repeat == 1 else f"{at} / {repeat}"


@final
class ResizeLinear(_Resize, opname="k.resize_linear"):
    """y = the weighted mean of four pixels: rows row_first and the next, columns alike; the weights are the next's."""

    x: Value                               # [N, ring, W, C]
    row_first: Value                       # [H'] i32
    row_weight: Value                      # [H'] f32
    column_first: Value                    # [W'] i32
    column_weight: Value                   # [W'] f32
    y: Written                             # [N, ring, W', C]
    rows: tuple[int, int]
    height: int
    x_base: int = 0
    y_base: int = 0

    def out_height(self) -> int:
        return int(self.row_first.shape[0])

    def input_rows(self, rows: tuple[int, int]) -> tuple[int, int]:
        first, weight = self.row_first.data, self.row_weight.data
        assert first is not None
        assert weight is not None
        last = int(first[rows[1] - 1]) + (2 if weight[rows[1] - 1] else 1)
        return int(first[rows[0]]), min(last, self.height)

    def first_row(self) -> str:
        return "row_first[row_begin]"

    def reference(self, x: Array, row_first: Array, row_weight: Array, column_first: Array, column_weight: Array,
                  y: Array) -> None:
        seen, first = self.read_rows("x", x)
        span = slice(*self.rows)
        rows = _mix(seen, 1, row_first[span] - first, row_weight[span])
        self.write_rows("y", y, _mix(rows, 2, column_first, column_weight))

    def source(self) -> str:
        if self.x.type.dtype.name != "f32":
            raise self.unsupported("linear resizing", self.x)
        return fill("""
            static void {name}(const float *restrict x, const int32_t *restrict row_first,
                const float *restrict row_weight, const int32_t *restrict column_first,
                const float *restrict column_weight, float *restrict y, {rows})
            {
                {ring}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const int32_t above = row_first[row];
                    const float down = row_weight[row];
                    const int32_t below = above < {last_row} && down > 0.0f ? above + 1 : above;
                    const float *line0 = {upper};
                    const float *line1 = {lower};
                    float *out = y + {y_slot} * {out_pitch};
                    for (int32_t column = 0; column < {out_columns}; column++) {
                        const int32_t left = column_first[column] * {channels};
                        const int32_t right = left < {last_column} ? left + {channels} : left;
                        const float across = column_weight[column];
                        for (int32_t c = 0; c < {channels}; c++) {
                            const float upper = line0[left + c] * (1.0f - across) + line0[right + c] * across;
                            const float lower = line1[left + c] * (1.0f - across) + line1[right + c] * across;
                            out[c] = upper * (1.0f - down) + lower * down;
                        }
                        out += {channels};
                    }
                }
            }
        """, rows=self.row_parameters(), ring=self.row_setup(), upper=self.address("x", "above"),
            lower=self.address("x", "below"), y_slot=self.slot("y", "row"), last_row=self.height - 1,
            last_column=(self.x.shape[2] - 1) * self.x.shape[3], **self.pitches())


def _mix(x: Array, axis: int, first: Array, weight: Array) -> Array:
    second = np.minimum(first + (weight > 0), x.shape[axis] - 1)
    w = weight.reshape([-1 if a == axis else 1 for a in range(4)])
    return np.asarray(np.take(x, first, axis) * (1 - w) + np.take(x, second, axis) * w)


@lowers(ops.Resize)
def lower_resize(op: ops.Resize, low: Lowering) -> None:
    x, y, name = low.buffer(op.x), low.result(op.out), op.out.name
    rows, height = (0, op.out.shape[1]), op.x.shape[1]
    if op.mode == "nearest":
        (row_table, row_repeat), (column_table, column_repeat) = (
            _nearest(op.nearest_sources(axis), low, f"{name}.{axis}") for axis in ("rows", "columns"))
        low.emit(ResizeNearest(x, row_table, column_table, y, rows, height, rows[1], row_repeat, column_repeat))
        return
    tables = []
    for axis in ("rows", "columns"):
        first, _, weight = op.linear_sources(axis)
        tables.append((low.const(f"{name}.{axis}.first", first.astype(I32.numpy)),
                       low.const(f"{name}.{axis}.weight", weight.astype(np.float32))))
    (row_first, row_weight), (column_first, column_weight) = tables
    low.emit(ResizeLinear(x, row_first, row_weight, column_first, column_weight, y, rows, height))


def _nearest(sources: Array, low: Lowering, name: str) -> tuple[Value | None, int]:
    """A table, or none and how often each pixel repeats."""
    repeat = int(np.count_nonzero(sources == sources[0]))
    if np.array_equal(sources, np.arange(len(sources)) // repeat):
        return None, repeat
    return low.const(name, sources.astype(I32.numpy)), 1
