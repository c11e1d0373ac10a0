"""Compute layers of single pixels in front of an upsampling, where there are fewer pixels.

    %r = nn.resize(%x) {mode = linear, scales = [2.0, 2.0]} : tensor<1x16x16x32xf32>
    %y = nn.conv2d(%r, @w, @b) : tensor<1x16x16x8xf32>                                @w: 8x1x1x32
        ->
    %p = nn.conv2d(%x, @w, @b) : tensor<1x8x8x8xf32>
    %y = nn.resize(%p) {mode = linear, scales = [2.0, 2.0]} : tensor<1x16x16x8xf32>

A layer of single pixels gives the same for each copy of a pixel, so it moves in front of nearest neighbours, stored
integers and activations included, as any function of one value does. In floats a linear layer moves in front of
weighted means too, since their weights add up to 1. A quarter of the work is left where rows and columns double, and
what is upsampled has the channels of the result. A network that is quantised behind this rounds the layer's result
once more, in front of the means: `means=false` is for those where that matters.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, cast

from tinyir.ir import Level, Value
from tinyir.opdef import Op
from tinyir.ops import Conv2D, Lookup, QConv2D, Resize, Unary
from tinyir.pass_manager import Pass, option
from tinyir.rewrite import Rewriter, rewrites
from tinyir.types import TensorType

from ._values import tensor_type


class SinkResize(Pass):
    """Move pointwise layers and functions in front of an upsampling."""

    name = "sink-resize"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")
    means: bool = option(True, "in front of bilinear upsampling too")

    @rewrites(Resize)
    def swap(self, op: Resize, rw: Rewriter) -> None:
        """Let the only reader read what is resized, and resize its result."""
        reader = op.out.uses[0].op if len(op.out.uses) == 1 else None
        if reader is None or reader.operands[0] is not op.out or not _upsamples(op):
            return
        if not _commutes(reader, op, self.means):
            return
        result = tensor_type(reader.out)
        small = replace(result, shape=(*op.x.shape[:3], result.shape[3]))
        made = rw.insert_before(reader, _on(reader, op.x, small), name=f"{reader.out.name}_before")
        made.loc = reader.loc
        rw.replace(reader, Resize(made.results[0], **{**op.attrs, "result": result}))


def _upsamples(op: Resize) -> bool:
    before, after = (value.shape[1] * value.shape[2] for value in (op.x, op.out))
    return after > before and not op.part


def _commutes(reader: Op, op: Resize, means: bool) -> bool:
    if isinstance(reader, (Unary, Lookup)):
        return op.mode == "nearest"
    if not isinstance(reader, (Conv2D, QConv2D)):
        return False
    alone = reader.weight.shape[1:3] == (1, 1) and reader.stride == (1, 1) and not any(reader.pad)
    linear = means and isinstance(reader, Conv2D) and reader.act == "none"
    return alone and (op.mode == "nearest" or linear)


def _on(op: Op, x: Value, result: TensorType) -> Op:
    """The op on `x` instead of its first operand, with a result of type `result`."""
    attrs: dict[str, Any] = dict(op.attrs)
    if op.schema.result_field is not None:
        attrs[op.schema.result_field] = result
    made: Op = cast(Any, type(op))(x, *op.operands[1:], **attrs)
    return made
