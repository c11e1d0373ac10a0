"""Fold products and sums with a constant per channel into the weights and the bias of a layer.

    %s = nn.mul(%x, @scale) : tensor<1x8x8x3xf32>               // @scale: one number, or one for each of 3 channels
    %c = nn.conv2d(%s, @w, none) : tensor<1x8x8x16xf32>
    %y = nn.add(%c, @bias) : tensor<1x8x8x16xf32>
        ->
    %y = nn.conv2d(%x, @w_scaled, @bias) : tensor<1x8x8x16xf32>

Behind a layer both fold always. In front of one a product folds always (zero padding stays zero); a sum only where the
layer pads nothing, since the padding is not shifted. In front, it is folded into all readers or into none: the op has
to go.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tinyir.ir import Level, Module
from tinyir.opdef import Op
from tinyir.ops import Add, Conv2D, Dense, DepthwiseConv2D, Mul
from tinyir.pass_manager import Context, Pass
from tinyir.rewrite import Rewriter, rewrites

from ._layers import Layer, as_layer, layer_of, outputs, scaled, scaled_input, shifted_input
from ._values import per_channel


class FoldScale(Pass):
    """Fold mul and add by constants into the layer before or behind."""

    name = "fold-scale"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")

    def run(self, module: Module, ctx: Context) -> None:
        super().run(module, ctx)
        module.drop_unused_consts()

    @rewrites(Mul, Add)
    def fold(self, op: Mul | Add, rw: Rewriter) -> None:
        """Into the layer before; else into all layers behind."""
        if op.out.shape == op.a.shape and not _into_layer_before(op, rw) and op.act == "none":
            _into_layers_behind(op, rw)


def _into_layer_before(op: Mul | Add, rw: Rewriter) -> bool:
    layer = as_layer(op.a)
    constant = None if layer is None else per_channel(op.b, outputs(layer), op.a.type.rank)
    if layer is None or constant is None:
        return False
    wide = constant.astype(np.float64)
    one, zero = np.ones_like(wide), np.zeros_like(wide)
    new = scaled(layer, wide, zero, rw) if isinstance(op, Mul) else scaled(layer, one, wide, rw)
    rw.replace(op, new)
    if op.act != "none":
        rw.set_attr(new, act=op.act, act_args=op.act_args)
    return True


def _into_layers_behind(op: Mul | Add, rw: Rewriter) -> None:
    readers = [_reader(user, op) for user in op.out.users]
    layers = [layer for layer in readers if layer is not None]
    constant = per_channel(op.b, op.out.shape[-1], op.out.type.rank) if op.out.shape else None
    if constant is None or len(layers) < len(readers):
        return
    fold = scaled_input if isinstance(op, Mul) else shifted_input
    for layer in layers:
        rw.replace(layer, fold(layer, op.a, constant.astype(np.float64), rw))


def _reader(user: Op, op: Mul | Add) -> Layer | None:
    """`user` if it is a layer that reads the result of `op` as its input and can take it on."""
    layer = layer_of(user)
    if layer is None or layer.x is not op.out or any(v is op.out for v in (layer.weight, layer.bias)):
        return None
    return layer if isinstance(op, Mul) or _pads_nothing(layer) else None


def _pads_nothing(layer: Layer) -> bool:
    if isinstance(layer, (Conv2D, DepthwiseConv2D)):
        return not any(layer.pad)
    return isinstance(layer, Dense)
