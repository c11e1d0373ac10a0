"""Inputs that do not come as pointers: rows that the application fills one by one when they are due, and what it has
written into the arena before.

    k.pull_rows(%image) -> (%ring) {rows = [0, 96], height = 96, pace = [1, 1, 0]}

        pull_rows_i8(row, user, ring, row_0, end_0, slot_0);        calls row(user, r, address of row r)
"""

from __future__ import annotations

from typing import ClassVar, final

from tinyir import ops
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers, streams
from tinyir.opdef import Written

from ..text import c_type, fill
from .base import Argument, Kernel, RowKernel
from .eltwise import row_length

__all__ = ["HoldInput", "PullRows"]


@final
class PullRows(RowKernel, opname="k.pull_rows"):
    """Rows of y are those of the image x, a parameter. In the C that is no pointer: it is a function that fills a row,
    and the pointer that the application wants to be passed to it.
    """

    rings: ClassVar[tuple[str, ...]] = ("y",)

    x: Value                               # the whole image, in any shape
    y: Written                             # [1, ring, W, C]
    rows: tuple[int, int]
    height: int
    y_base: int = 0

    def stem(self) -> str:
        return f"{super().stem()}_{self.y.type.dtype}"

    def reference(self, x: Array, y: Array) -> None:
        image = x.reshape(1, self.height, *y.shape[2:])
        self.write_rows("y", y, image[:, slice(*self.rows)])

    def source(self) -> str:
        return fill("""
            static void {name}(void (*fill)(void *user, int32_t row, {kind} *to), void *user, {kind} *y,
                {rows})
            {
                for (int32_t row = row_begin; row < row_end; row++) {
                    fill(user, row, y + {y_slot} * {length});
                }
            }
        """, kind=c_type(self.y.type.dtype), rows=self.row_parameters(), y_slot=self.slot("y", "row"),
            length=row_length(self.y))


@lowers(ops.Pull)
def lower_pull(op: ops.Pull, low: Lowering) -> None:
    height = op.out.shape[1]
    low.emit(PullRows(low.buffer(op.x), low.result(op.out), (0, height), height))


streams(ops.Pull)


@final
class HoldInput(Kernel, opname="k.hold_input"):
    """y is where the application has written x, a parameter, before: no code."""

    x: Value
    y: Written

    def reference(self, x: Array, y: Array) -> None:
        y[...] = x.reshape(y.shape)

    def source(self) -> str:
        return ""

    def arguments(self) -> tuple[Argument, ...]:
        return ()


@lowers(ops.Hold)
def lower_hold(op: ops.Hold, low: Lowering) -> None:
    low.emit(HoldInput(low.buffer(op.x), low.result(op.out)))
