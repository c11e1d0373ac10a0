"""Let ops that only move elements work on stored integers, in front of the dequantize.

    %d = qnn.dequantize(%x)                     %m = nn.max_pool(%x)
    %m = nn.max_pool(%d)                 ->     %d = qnn.dequantize(%m)
    %y = nn.conv2d(%m, ..)                      %y = nn.conv2d(%d, ..)

So each layer reads a dequantize and is read by a quantize: the form that quantised models have as files. A concat of
parts with one quantisation is such an op too. (`fuse-quantized` does this on its way to integer ops.)
"""

from __future__ import annotations

from typing import ClassVar

from tinyir.ir import Level
from tinyir.opdef import Op
from tinyir.ops import BroadcastTo, Concat, MaxPool, Pad, Reinterpret, Reshape, Resize, Slice, Tile, Transpose
from tinyir.pass_manager import Pass
from tinyir.rewrite import Rewriter, rewrites

from .fuse_quantized import FuseQuantized

_FUSE = FuseQuantized()


class MoveStored(Pass):
    """Move stored integers instead of their real values."""

    name = "move-stored"
    level: ClassVar[Level] = "graph"

    @rewrites(Reshape, Transpose, Slice, BroadcastTo, Tile, Pad, Resize, MaxPool)
    def move(self, op: Op, rw: Rewriter) -> None:
        """One operand."""
        _FUSE.move_stored(op, rw)

    @rewrites(Concat)
    def join(self, op: Concat, rw: Rewriter) -> None:
        """Several, all with the same scale and zero point."""
        _FUSE.join_stored(op, rw)

    @rewrites(Reinterpret)
    def name_stored(self, op: Reinterpret, rw: Rewriter) -> None:
        """Integers that come without a quantisation, as arguments do, get it where they come from."""
        _FUSE.name_stored(op, rw)
