"""Layers: the ops with weights, a bias and an activation, seen as one family by the passes that fold into them.

| layer                  | weight                | axis of outputs | axis of inputs |
|------------------------|-----------------------|-----------------|----------------|
| nn.conv2d              | [O, KH, KW, C/groups] | 0               | 3              |
| nn.depthwise_conv2d    | [KH, KW, C*M]         | 2               | 2 (c = o // M) |
| nn.conv_transpose2d    | [O, KH, KW, C/groups] | 0               | 3              |
| nn.dense               | [O, K]                | 0               | 1              |
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from tinyir.ir import Array, Value
from tinyir.opdef import Op
from tinyir.ops import Conv2D, ConvTranspose2D, Dense, DepthwiseConv2D, QDense
from tinyir.rewrite import Rewriter

from ._values import stem, tensor_type

Layer = Conv2D | DepthwiseConv2D | ConvTranspose2D | Dense
LAYERS = (Conv2D, DepthwiseConv2D, ConvTranspose2D, Dense)


def layer_of(op: Op | None) -> Layer | None:
    """`op` if it is a layer whose weights and bias are known."""
    if not isinstance(op, LAYERS) or op.weight.data is None or (op.bias is not None and op.bias.data is None):
        return None
    return op


def as_layer(value: Value) -> Layer | None:
    """The layer that makes `value`, if it may be changed: without an activation, and read by one op only."""
    layer = layer_of(value.op)
    return layer if layer is not None and layer.act == "none" and len(value.uses) == 1 else None


def why_not(value: Value) -> str:
    """Why nothing can be folded into what makes `value`, for a remark."""
    op = value.op
    if not isinstance(op, LAYERS):
        return f"{'an input' if op is None else op.opname} before it has no weights"
    if len(value.uses) > 1:
        return f"%{value.name} has {len(value.uses)} readers"
    if op.act != "none":
        return f"{op.opname} before it applies {op.act}"
    return f"the weights of {op.opname} are not known"


def outputs(layer: Layer) -> int:
    """Output channels."""
    return layer.out.shape[-1]


def scaled(layer: Layer, gain: Array, offset: Array, rw: Rewriter) -> Layer:
    """A new layer that computes layer(x) * gain + offset; both [O], float64."""
    weight, bias = _arrays(layer)
    gains = gain if isinstance(layer, DepthwiseConv2D) else gain.reshape(-1, *[1] * (weight.ndim - 1))
    return with_weights(layer, layer.x, weight * gains, bias * gain + offset, rw)


def scaled_input(layer: Layer, x: Value, gain: Array, rw: Rewriter) -> Layer:
    """A new layer that computes layer(x * gain); gain is [C], float64. Exact at the border too, where x is zero."""
    weight, bias = _arrays(layer)
    return with_weights(layer, x, weight * _per_weight(layer, gain), bias if layer.bias is not None else None, rw)


def shifted_input(layer: Layer, x: Value, offset: Array, rw: Rewriter) -> Layer:
    """A new layer that computes layer(x + offset); offset is [C], float64. Only for layers that pad nothing."""
    weight, bias = _arrays(layer)
    products = weight * _per_weight(layer, offset)
    axes = (0, 1) if isinstance(layer, DepthwiseConv2D) else tuple(range(1, weight.ndim))
    return with_weights(layer, x, weight, bias + products.sum(axis=axes), rw)


def _per_weight(layer: Layer, channels: Array) -> Array:
    """`channels` [C], one number an input channel, in a shape that broadcasts to the weight."""
    if isinstance(layer, DepthwiseConv2D):
        return np.repeat(channels, layer.multiplier)
    if isinstance(layer, Dense):
        return channels
    grouped = channels.reshape(layer.groups, -1)
    return np.repeat(grouped, outputs(layer) // layer.groups, axis=0)[:, None, None, :]


def _arrays(layer: Layer) -> tuple[Array, Array]:
    """Weight, and bias or zeros, in float64."""
    weight, bias = layer.weight.data, None if layer.bias is None else layer.bias.data
    assert weight is not None  # layer_of has looked
    wide = np.zeros(outputs(layer)) if bias is None else bias.astype(np.float64)
    return weight.astype(np.float64), wide


def with_weights(layer: Layer, x: Value, weight: Array, bias: Array | None, rw: Rewriter) -> Layer:
    """A new layer like `layer` that reads x, with these weights rounded to its element type."""
    dtype = layer.x.type.dtype.numpy
    new_weight = rw.const(weight.astype(dtype), stem(layer.weight), layer.weight.loc)
    new_bias = None
    if bias is not None:
        name = f"{stem(layer.weight)}.bias" if layer.bias is None else stem(layer.bias)
        new_bias = rw.const(bias.astype(dtype), name, layer.weight.loc)
    made: Any = type(layer)(x, new_weight, new_bias, **layer.attrs)
    return cast(Layer, made)


def with_columns(layer: Dense | QDense, x: Value, weight: Array, rw: Rewriter) -> Op:
    """A new dense layer that reads x with a weight [O, K] in another order of columns."""
    columns = rw.const(weight, stem(layer.weight), layer.weight.loc, tensor_type(layer.weight))
    return type(layer).build([[x], [columns], [layer.bias]], layer.attrs, [layer.out.type_], (), layer.loc)
