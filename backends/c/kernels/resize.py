"""Resizing of NHWC images, a span of rows, rings on both sides: k.resize_nearest and k.resize_linear.

Where an output row or column lies in the input is worked out at compile time, by the graph op: literal arithmetic where
pixels repeat a whole number of times (`row / 2`), else tables among the constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import numpy as np

from tinyir import ops
from tinyir.geometry import Axis
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.ops.resize import Resampling
from tinyir.types import I32

from ..text import c_type, fill
from .base import RowKernel

__all__ = ["AXES", "Bilinear", "ResizeLinear", "ResizeNearest", "bilinear_tables"]

AXES: tuple[Axis, Axis] = ("rows", "columns")


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


class Bilinear(_Resize):
    """y from the four pixels around a position: rows row_first and the next, columns alike; the weights are the next's.
    """

    if TYPE_CHECKING:
        @property
        def x(self) -> Value: ...
        @property
        def row_first(self) -> Value: ...
        @property
        def row_weight(self) -> Value: ...
        @property
        def column_first(self) -> Value: ...
        @property
        def y(self) -> Value: ...

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

    def corners(self, x: Array, row_weight: Array, column_weight: Array) -> list[Array]:
        """The pixels above (left, right) and below of each pixel of the rows to compute, [N, rows, W', C] each."""
        seen, begin = self.read_rows("x", x)
        assert self.row_first.data is not None
        assert self.column_first.data is not None
        span = slice(*self.rows)
        rows = _pair(self.row_first.data[span] - begin, row_weight[span], seen.shape[1])
        columns = _pair(self.column_first.data, column_weight, seen.shape[2])
        return [seen[:, row][:, :, column] for row in rows for column in columns]

    def pixels(self, pixel: str, element: str) -> str:
        """The C function: statements for each pixel of y, then for each element `c` of it. They find the pixels in
        line0 (above) and line1 from `left` and `right` on, and the weights `down` and `across`.
        """
        weight = c_type(self.row_weight.type.dtype)
        reals: Value | None = getattr(self, "reals", None)
        table = "" if reals is None else f"const {c_type(reals.type.dtype)} *restrict reals, "
        return fill("""
            static void {name}(const {xt} *restrict x, const int32_t *restrict row_first,
                const {weight} *restrict row_weight, const int32_t *restrict column_first,
                const {weight} *restrict column_weight, {table}{yt} *restrict y, {rows})
            {
                {ring}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const int32_t above = row_first[row];
                    const {weight} down = row_weight[row];
                    const int32_t below = above < {last_row} && down > {none} ? above + 1 : above;
                    const {xt} *line0 = {upper};
                    const {xt} *line1 = {lower};
                    {yt} *out = y + {y_slot} * {out_pitch};
                    for (int32_t column = 0; column < {out_columns}; column++) {
                        const int32_t left = column_first[column] * {channels};
                        const int32_t right = left < {last_column} ? left + {channels} : left;
                        const {weight} across = column_weight[column];
                        {pixel}
                        for (int32_t c = 0; c < {channels}; c++) {
                            {element}
                        }
                        out += {channels};
                    }
                }
            }
        """, xt=c_type(self.x.type.dtype), yt=c_type(self.y.type.dtype), weight=weight, table=table,
            none="0.0f" if weight == "float" else "0", rows=self.row_parameters(), ring=self.row_setup(),
            upper=self.address("x", "above"), lower=self.address("x", "below"), y_slot=self.slot("y", "row"),
            last_row=self.height - 1, last_column=(self.x.shape[2] - 1) * self.x.shape[3], pixel=fill(pixel),
            element=fill(element), **self.pitches())


def _pair(first: Array, weight: Array, extent: int) -> tuple[Array, Array]:
    return first, np.minimum(first + (weight > 0), extent - 1)


@final
class ResizeLinear(Bilinear, opname="k.resize_linear"):
    """y = the weighted mean of the four pixels around a position."""

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

    def reference(self, x: Array, row_first: Array, row_weight: Array, column_first: Array, column_weight: Array,
                  y: Array) -> None:
        upper_left, upper_right, lower_left, lower_right = self.corners(x, row_weight, column_weight)
        down, across = row_weight[slice(*self.rows), None, None], column_weight[None, :, None]
        upper = upper_left * (1 - across) + upper_right * across
        lower = lower_left * (1 - across) + lower_right * across
        self.write_rows("y", y, upper * (1 - down) + lower * down)

    def source(self) -> str:
        if self.x.type.dtype.name != "f32":
            raise self.unsupported("linear resizing", self.x)
        return self.pixels("", """
            const float upper = line0[left + c] * (1.0f - across) + line0[right + c] * across;
            const float lower = line1[left + c] * (1.0f - across) + line1[right + c] * across;
            out[c] = upper * (1.0f - down) + lower * down;
        """)


@lowers(ops.Resize)
def lower_resize(op: ops.Resize, low: Lowering) -> None:
    x, y, name = low.buffer(op.x), low.result(op.out), op.out.name
    rows, height = (0, op.out.shape[1]), op.x.shape[1]
    if op.mode == "nearest":
        (row_table, row_repeat), (column_table, column_repeat) = (
            _nearest(op.nearest_sources(axis), low, f"{name}.{axis}") for axis in AXES)
        low.emit(ResizeNearest(x, row_table, column_table, y, rows, height, rows[1], row_repeat, column_repeat))
        return
    weights = [op.linear_sources(axis)[2] for axis in AXES]
    row_first, row_weight, column_first, column_weight = bilinear_tables(op, weights, low)
    low.emit(ResizeLinear(x, row_first, row_weight, column_first, column_weight, y, rows, height))


def bilinear_tables(op: Resampling, weights: Sequence[Array], low: Lowering) -> list[Value]:
    """Constants: the first row for each row, its `weights`, and the same for columns."""
    tables: list[Value] = []
    for axis, weight in zip(AXES, weights, strict=True):
        first = op.linear_sources(axis)[0]
        tables += [low.const(f"{op.out.name}.{axis}.first", first.astype(I32.numpy)),
                   low.const(f"{op.out.name}.{axis}.weight", weight)]
    return tables


def _nearest(sources: Array, low: Lowering, name: str) -> tuple[Value | None, int]:
    """A table, or none and how often each pixel repeats."""
    repeat = int(np.count_nonzero(sources == sources[0]))
    if np.array_equal(sources, np.arange(len(sources)) // repeat):
        return None, repeat
    return low.const(name, sources.astype(I32.numpy)), 1
