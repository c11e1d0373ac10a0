"""Let a concat of stored integers change the scale of its inputs itself.

    %t = qnn.lookup(%b, @table) : tensor<1x8x8x8xi8, q<0.04:-3>>          @table: from that of %b to this one
    %y = nn.concat(%a, %t) {axis = 3} : tensor<1x8x8x24xi8, q<0.04:-3>>
        ->
    %y = qnn.concat(%a, %b) : tensor<1x8x8x24xi8, q<0.04:-3>>

Where %b is read by others too, as the skip connections of a U-Net are, its copy under the other scale needs no memory
of its own then, and no pass over it.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tinyir.ir import Level, Module, Value
from tinyir.ops import Concat, Lookup, QConcat
from tinyir.ops.qconcat import rescaled
from tinyir.pass_manager import Context, Pass
from tinyir.rewrite import Rewriter, rewrites
from tinyir.types import TensorType

from ._values import tensor_type


class FuseConcat(Pass):
    """Fold changes of scale into the concats behind them."""

    name = "fuse-concat"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")

    def run(self, module: Module, ctx: Context) -> None:
        super().run(module, ctx)
        module.drop_unused_consts()

    @rewrites(Concat)
    def fuse(self, op: Concat, rw: Rewriter) -> None:
        """Read what has another scale elsewhere from there."""
        type_ = tensor_type(op.out)
        if type_.rank != 4 or op.axis % 4 != 3 or type_.quant is None or type_.dtype.bits != 8:
            return
        sources = [_source(value, type_) for value in op.inputs]
        if any(source is not value for source, value in zip(sources, op.inputs, strict=True)):
            rw.replace(op, QConcat(tuple(sources), type_))


def _source(value: Value, type_: TensorType) -> Value:
    """What others read too, and a table for this reader alone brings to the quantisation of `type_`; else `value`."""
    lookup = value.defining(Lookup)
    if lookup is None or len(value.uses) != 1 or len(lookup.x.uses) == 1 or lookup.table.data is None:
        return value
    dtype, quant = lookup.x.type.dtype, lookup.x.type.quant
    if quant is None or quant.axis is not None or type_.quant is None:
        return value
    table = rescaled(dtype, quant, type_.dtype, type_.quant)
    return lookup.x if np.array_equal(table, lookup.table.data) else value
