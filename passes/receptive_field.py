"""Receptive field: for each value, how much of the input one position of it sees, and how far apart positions are.

    %a = nn.conv2d(%x, @w, none) {stride = [2, 2], ...}      // 3x3 of %x, 2x2 apart
    %b = nn.depthwise_conv2d(%a, @v, none) {...}             // 7x7 of %x, 2x2 apart
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyir.ir import Module, Value
from tinyir.pass_manager import Analysis, Context
from tinyir.receptive_field import Field, fields


@dataclass(frozen=True)
class Fields:
    """Along rows and along columns."""

    rows: Field
    columns: Field


class ReceptiveField(Analysis[dict[Value, Fields]]):
    """The receptive field of every value of the functions of a module above mem level."""

    @classmethod
    def compute(cls, module: Module, ctx: Context) -> dict[Value, Fields]:
        found: dict[Value, Fields] = {}
        for func in module.funcs.values():
            rows, columns = fields(func, "rows"), fields(func, "columns")
            found.update({value: Fields(rows[value], columns[value]) for value in rows})
        return found
