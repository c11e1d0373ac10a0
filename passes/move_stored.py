"""Let ops that only move elements work on stored integers, in front of the dequantize.

    %d = qnn.dequantize(%x)                     %m = nn.max_pool(%x)
    %m = nn.max_pool(%d)                 ->     %d = qnn.dequantize(%m)
    %y = nn.conv2d(%m, ..)                      %y = nn.conv2d(%d, ..)

So each layer reads a dequantize and is read by a quantize: the form that quantised models have as files. A concat of
parts with one quantisation is such an op too. (`fuse-quantized` does this on its way to integer ops.)
"""

from __future__ import annotations

from typing import ClassVar

from tinyir.ir import Level, Value
from tinyir.opdef import Op
from tinyir.ops import BroadcastTo, Concat, Dequantize, MaxPool, Pad, Reshape, Resize, Slice, Tile, Transpose
from tinyir.pass_manager import Pass
from tinyir.rewrite import Rewriter, rewrites

from ._quant_chains import moved, stored_source


class MoveStored(Pass):
    """Move stored integers instead of their real values."""

    name = "move-stored"
    level: ClassVar[Level] = "graph"

    @rewrites(Reshape, Transpose, Slice, BroadcastTo, Tile, Pad, Resize, MaxPool)
    def move(self, op: Op, rw: Rewriter) -> None:
        """One operand."""
        stored = stored_source(op.operands[0])
        made = None if stored is None else moved(op, stored)
        if made is not None:
            inner = rw.insert_before(op, made, name=f"{op.results[0].name}_stored")
            rw.replace(op, Dequantize(inner.results[0]))

    @rewrites(Concat)
    def join(self, op: Concat, rw: Rewriter) -> None:
        """Several, all with the same scale and zero point."""
        parts: list[Value] = [p for v in op.inputs if (p := stored_source(v)) is not None]
        kinds = {(p.type.quant, p.type.dtype) for p in parts}
        quant = parts[0].type.quant if parts else None
        if len(parts) == len(op.inputs) and len(kinds) == 1 and quant is not None and quant.axis is None:
            joined = rw.insert_before(op, Concat(tuple(parts), axis=op.axis), name=f"{op.out.name}_stored")
            rw.replace(op, Dequantize(joined.out))
