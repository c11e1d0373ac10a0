"""Padding with a constant, row by row: rows of x with something around them, and rows of nothing else.

    k.pad_rows(%x) -> (%ring) {before = [0, 1, 1, 0], after = [0, 1, 1, 0], value = 3.0, rows = [0, 50], height = 48}
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir import ops
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, row_form, streams
from tinyir.opdef import Op, Written
from tinyir.row_schedule import has_rows

from ..text import c_type, c_value, fill
from .base import RowKernel, evaluate
from .eltwise import row_length
from .loops import nest
from .move import Pad, runs

__all__ = ["PadRows"]

_Amounts = tuple[int, int, int, int]


@final
class PadRows(RowKernel, opname="k.pad_rows"):
    """k.pad in mode constant for a span of rows; negative amounts crop."""

    x: Value                               # [1, ring, W, C]
    y: Written                             # [1, ring, W + columns, C + channels]
    before: _Amounts
    after: _Amounts
    value: float
    rows: tuple[int, int]
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return f"{super().stem()}_{self.x.type.dtype}"

    def out_height(self) -> int:
        return self.before[1] + self.height + self.after[1]

    def input_rows(self, rows: tuple[int, int]) -> tuple[int, int]:
        begin, end = (min(max(row - self.before[1], 0), self.height) for row in rows)
        return begin, end

    def first_row(self) -> str:
        above = self.before[1]
        if above <= 0:
            return f"row_begin + {-above}" if above else "row_begin"
        return f"row_begin > {above} ? row_begin - {above} : 0"

    def reference(self, x: Array, y: Array) -> None:
        values, first = self.read_rows("x", x)
        padded = np.full((1, self.rows[1] - self.rows[0], *y.shape[2:]), self.value, y.dtype)
        if values.shape[1]:
            at = first + self.before[1] - self.rows[0]
            padded[:, at:at + values.shape[1]] = evaluate(
                ops.Pad, values, before=(0, 0, *self.before[2:]), after=(0, 0, *self.after[2:]), value=self.value)
        self.write_rows("y", y, padded)

    def source(self) -> str:
        kind, value = c_type(self.x.type.dtype), c_value(self.value, self.x.type.dtype)
        inside, above = self._inside(), self.before[1]
        read = f"(row - {above})" if above > 0 else f"(row + {-above})" if above else "row"
        fill_row = f"for (int32_t i = 0; i < {row_length(self.y)}; i++) {{\n    to[i] = {value};\n}}"
        body = fill("""
            const {kind} *from = {x_row};
            {loops}
        """, kind=kind, x_row=self.address("x", read), loops="\n".join(self._boxes(value)))
        if inside:
            body = fill("if ({inside}) {\n    {body}\n} else {\n    {fill_row}\n}", inside=inside, body=body,
                        fill_row=fill_row)
        return fill("""
            static void {name}(const {kind} *restrict x, {kind} *restrict y, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    {kind} *to = y + {y_slot} * {pitch};
                    {body}
                }
            }
        """, kind=kind, rows=self.row_parameters(), setup=self.row_setup(), y_slot=self.slot("y", "row"),
            pitch=self.pitch("y"), body=body)

    def _inside(self) -> str:
        """C condition for a row that is not all padding; empty where all are."""
        above, below = self.before[1], self.after[1]
        parts = [f"row >= {above}"] * (above > 0) + [f"row < {above + self.height}"] * (below > 0)
        return " && ".join(parts)

    def _boxes(self, value: str) -> list[str]:
        """Loops that copy what is inside of a row, and fill what is not."""
        pad = ops.Pad(Value(self.x.type), (0, 0, *self.before[2:]), (0, 0, *self.after[2:]))
        inputs, outputs = self.x.shape[3], self.y.shape[3]
        found = []
        for columns in runs(pad.sources(2)):
            if columns.step is None:
                found.append(nest((columns.length * outputs,), {"to": (1,)}, f"{{to}} = {value};",
                                  {"to": columns.begin * outputs}))
                continue
            for channels in runs(pad.sources(3)):
                shape, begin = (columns.length, channels.length), columns.begin * outputs + channels.begin
                if channels.step is None:
                    found.append(nest(shape, {"to": (outputs, 1)}, f"{{to}} = {value};", {"to": begin}))
                    continue
                found.append(nest(shape, {"to": (outputs, 1), "from": (inputs, 1)}, "{to} = {from};",
                                  {"to": begin, "from": columns.source * inputs + channels.source}))
        return found


@row_form(Pad)
def pad_rows(kernel: Pad, low: Lowering) -> list[Op]:
    before, after = ((a[0], a[1], a[2], a[3]) for a in (kernel.before, kernel.after))
    height = low.source.reads[0].shape[1]
    return PadRows(kernel.x, kernel.y, before, after, kernel.value, (0, low.source.out.shape[1]),
                   height).paced(low.pace)


def _constant(op: Op) -> bool:
    return isinstance(op, ops.Pad) and op.mode == "constant" and has_rows(op.x) and has_rows(op.out)


streams(ops.Pad, where=_constant)
