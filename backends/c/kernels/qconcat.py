"""Images of stored 8-bit integers side by side, each under the scale of the result.

    k.concat_s8(@tables, %a, %b) -> (%y) {which = [-1, 0]}              %a as it is, %b through the first table
    k.concat_rows(%b, @tables) -> (%y) {channel = 16, ...}              the same for a span of rows of one of them
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers, row_form
from tinyir.opdef import Op, Written
from tinyir.ops.qconcat import QConcat

from ..text import c_type, fill
from .base import Kernel
from .mve_lookup import pixel_text
from .rows import ConcatRows

__all__ = ["ConcatS8"]


@final
class ConcatS8(Kernel, opname="k.concat_s8"):
    """The channels of the inputs one behind the other, through tables where `which` names one."""

    tables: Value | None                   # [256 for each], by the byte of the input
    inputs: tuple[Value, ...]              # [N, H, W, C0], ...
    y: Written
    which: tuple[int, ...]                 # the number of the table of each input, or -1
    vector: bool = False                   # whether the core has the instructions of mve_lookup

    def stem(self) -> str:
        return f"{super().stem()}_{self.y.type.dtype}"

    def reference(self, tables: Array | None, inputs: list[Array], y: Array) -> None:
        parts = []
        for x, table in zip(inputs, self.which, strict=True):
            place = np.ascontiguousarray(x).view(np.uint8).astype(np.int32)
            parts.append(x if table < 0 or tables is None else tables[256 * table + place])
        np.concatenate(parts, axis=3, out=y)

    def source(self) -> str:
        kind = c_type(self.y.type.dtype)
        pointers = [f"const {c_type(v.type.dtype)} *restrict x{i}" for i, v in enumerate(self.inputs)]
        if self.tables is not None:
            pointers.insert(0, f"const {kind} *restrict tables")
        return fill("""
            static void {name}({pointers})
            {
                for (int32_t i = 0; i < {pixels}; i++) {
                    {parts}
                }
            }
        """, pointers=", ".join([*pointers, f"{kind} *restrict y"]), parts="".join(self._parts()),
            pixels=self.y.type.elements // self.y.shape[3])

    def _parts(self) -> list[str]:
        parts, channel, outputs = [], 0, self.y.shape[3]
        for i, (value, table) in enumerate(zip(self.inputs, self.which, strict=True)):
            count, where = value.shape[3], f" + {channel}" if channel else ""
            source = None if table < 0 else f"tables + {256 * table}" if table else "tables"
            parts.append(pixel_text((value.type.dtype, self.y.type.dtype),
                                    (f"x{i} + i * {count}", source, f"y + i * {outputs}{where}"), count, self.vector))
            channel += count
        return parts


@lowers(QConcat)
def lower_concat(op: QConcat, low: Lowering) -> None:
    """The tables in the order of unsigned bytes."""
    which: list[int] = []
    tables: list[Array] = []
    for operand, value in enumerate(op.inputs):
        table = op.table(operand)
        which.append(-1 if table is None else len(tables))
        if table is not None:
            order = np.arange(256).astype(np.uint8).view(value.type.dtype.numpy).astype(np.int64)
            tables.append(table[order - value.type.dtype.range[0]])
    const = low.const(f"{op.out.name}.tables", np.concatenate(tables)) if tables else None
    low.emit(ConcatS8(const, tuple(low.buffer(v) for v in op.inputs), low.result(op.out), tuple(which), low.target.mve))


@row_form(ConcatS8)
def concat_rows(kernel: ConcatS8, low: Lowering) -> list[Op]:
    """One kernel for each input."""
    made: list[Op] = []
    channel, height = 0, low.source.out.shape[1]
    for value, table in zip(kernel.inputs, kernel.which, strict=True):
        tables = None if table < 0 else kernel.tables
        made += ConcatRows(value, tables, kernel.y, channel, (0, height), height, table=max(table, 0),
                           vector=kernel.vector).paced(low.pace)
        channel += value.shape[3]
    return made
