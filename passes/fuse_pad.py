"""Let convolutions and pools pad by themselves.

    %p = nn.pad(%x) {before = [0, 1, 1, 0], after = [0, 1, 1, 0]} : tensor<1x10x10x3xf32>
    %y = nn.conv2d(%p, @w, @b) : tensor<1x8x8x16xf32>
        ->
    %y = nn.conv2d(%x, @w, @b) {pad = [1, 1, 1, 1]} : tensor<1x8x8x16xf32>

Exact only where what the pad writes is what the op assumes outside of its input:

| op                             | the pad must write                                                          |
|--------------------------------|-----------------------------------------------------------------------------|
| nn.conv2d, nn.depthwise_conv2d | 0                                                                           |
| qnn.conv2d, the depthwise kind | the zero point                                                              |
| nn.max_pool                    | -inf, or 0 where x is never below (behind a relu); less of it than a window |
| nn.avg_pool                    | 0, and padding counts: the pool counts its own, or has none                 |
"""

from __future__ import annotations

import math
from typing import ClassVar

from tinyir.ir import Level
from tinyir.ops import AvgPool, Conv2D, DepthwiseConv2D, MaxPool, Pad, QConv2D, QDepthwiseConv2D
from tinyir.pass_manager import Pass
from tinyir.rewrite import Rewriter, rewrites

from ._values import is_nonnegative, tensor_type

Quad = tuple[int, int, int, int]


class FusePad(Pass):
    """Merge constant padding of rows and columns into the op behind it."""

    name = "fuse-pad"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")

    @rewrites(Conv2D, DepthwiseConv2D)
    def into_convolution(self, op: Conv2D | DepthwiseConv2D, rw: Rewriter) -> None:
        """Zeros around what a convolution reads."""
        pad = op.x.defining(Pad)
        amounts = _border(pad, op.pad)
        if pad is not None and amounts is not None and pad.value == 0:
            rw.replace(op, type(op)(pad.x, op.weight, op.bias, **{**op.attrs, "pad": amounts}))

    @rewrites(QConv2D, QDepthwiseConv2D)
    def into_quantised_convolution(self, op: QConv2D | QDepthwiseConv2D, rw: Rewriter) -> None:
        """The zero point, which is real 0, around what a convolution of stored integers reads."""
        pad, quant = op.x.defining(Pad), op.x.type.quant
        amounts = _border(pad, op.pad)
        if pad is not None and amounts is not None and quant is not None and pad.value == quant.zero_point:
            attrs = {**op.attrs, "pad": amounts, "result": tensor_type(op.out)}
            rw.replace(op, type(op)(pad.x, op.weight, op.bias, **attrs))

    @rewrites(MaxPool)
    def into_max_pool(self, op: MaxPool, rw: Rewriter) -> None:
        """Values that never win."""
        pad = op.x.defining(Pad)
        amounts = _border(pad, op.pad)
        if pad is None or amounts is None or not _windows_see_pixels(op, amounts):
            return
        if pad.value == -math.inf or (pad.value <= 0 and is_nonnegative(pad.x)):
            rw.replace(op, MaxPool(pad.x, **{**op.attrs, "pad": amounts}))

    @rewrites(AvgPool)
    def into_average(self, op: AvgPool, rw: Rewriter) -> None:
        """Zeros that count."""
        pad = op.x.defining(Pad)
        amounts = _border(pad, op.pad)
        if pad is None or amounts is None or pad.value != 0 or not _windows_see_pixels(op, amounts):
            return
        if op.count_include_pad or not any(op.pad):
            rw.replace(op, AvgPool(pad.x, **{**op.attrs, "pad": amounts, "count_include_pad": True}))


def _border(pad: Pad | None, own: Quad) -> Quad | None:
    """Top, left, bottom and right of `pad` and `own` together, if `pad` puts one value around rows and columns only."""
    if pad is None or pad.mode != "constant" or len(pad.before) != 4 or min(*pad.before, *pad.after) < 0:
        return None
    if any(pad.before[a] or pad.after[a] for a in (0, 3)):
        return None
    top, left, bottom, right = own
    return top + pad.before[1], left + pad.before[2], bottom + pad.after[1], right + pad.after[2]


def _windows_see_pixels(op: MaxPool | AvgPool, pad: Quad) -> bool:
    """Whether no window can lie in the padding alone."""
    ceil = op.ceil_pad if isinstance(op, AvgPool) else (0, 0)
    rows, columns = op.kernel
    top, left, bottom, right = pad
    return op.dilation == (1, 1) and max(top, bottom + ceil[0]) < rows and max(left, right + ceil[1]) < columns
