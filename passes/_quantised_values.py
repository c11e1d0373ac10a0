"""Scales and zero points: of activations from ranges, of weights from their elements, of biases from both."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tinyir.arith import dequantize, quantize
from tinyir.ir import Array, Value
from tinyir.opdef import Op
from tinyir.ops import DepthwiseConv2D, Dequantize, Sigmoid, Softmax
from tinyir.types import I8, I32, Quant, TensorType

from ._points import Layer, moves

WeightRange = Literal["minmax", "mse"]

_LOW, _HIGH = I8.range
_STEPS = _HIGH - _LOW
_SHRINKS = np.linspace(1.0, 0.6, 41)
_MOST_BIAS = 2.0**30
"""A stored bias stays below this, so that the accumulator has room for the products."""


def activation_quant(low: float, high: float, maker: Op | None) -> Quant:
    """Asymmetric, zero exact. Results of `maker` that lie between 0 and 1 by nature have scale 1/256.

    onnxruntime's softmax multiplies with floor(1 / scale), which is exact there.
    """
    if isinstance(maker, (Softmax, Sigmoid)):
        return Quant((1 / 256,), (_LOW,))
    if low >= high:
        return Quant((1.0,), (_LOW,))
    scale = np.float32((high - low) / _STEPS)
    zero = int(np.clip(np.rint(_LOW - low / float(scale)), _LOW, _HIGH))
    return Quant((float(scale),), (zero,))


def output_axis(layer: Layer) -> int:
    """The axis of a layer's weight that counts its output channels."""
    return 2 if isinstance(layer, DepthwiseConv2D) else 0


def per_output(channels: Array, layer: Layer) -> Array:
    """`channels` [O] in a shape that broadcasts to the weight of `layer`."""
    shape = [1] * layer.weight.type.rank
    shape[output_axis(layer)] = -1
    return channels.reshape(shape)


def weight_scales(layer: Layer, weight: Array, bias: Array | None, x_scale: float, method: WeightRange) -> Array:
    """A symmetric scale for each output channel, f32 [O]; large enough for the bias to fit its 32 bits."""
    rows = np.moveaxis(weight.astype(np.float64), output_axis(layer), 0).reshape(layer.out.shape[-1], -1)
    scales = np.abs(rows).max(axis=1) / _HIGH
    if method == "mse":
        scales = scales * _best_shrink(rows, scales)
    if bias is not None:
        scales = np.maximum(scales, np.abs(bias.astype(np.float64)) / (x_scale * _MOST_BIAS))
    used = scales[scales > 0]
    floor = max(float(used.max(initial=0)) * 1e-6, 1e-12)
    return np.asarray(np.maximum(scales, floor).astype(np.float32))


def _best_shrink(rows: Array, scales: Array) -> Array:
    """For each row the factor on its scale with the least squared error of rounding and clipping."""
    losses = []
    for shrink in _SHRINKS:
        step = np.maximum(scales * shrink, 1e-30)[:, None]
        losses.append(((np.clip(np.rint(rows / step), -_HIGH, _HIGH) * step - rows) ** 2).sum(axis=1))
    return np.asarray(_SHRINKS[np.argmin(losses, axis=0)])


def weight_type(layer: Layer, scales: Array) -> TensorType:
    """The type of the stored weight: one scale a channel, zero points 0."""
    count = scales.size
    axis = output_axis(layer) if count > 1 else None
    return TensorType(layer.weight.shape, I8, Quant(tuple(float(s) for s in scales), (0,) * count, axis))


def bias_type(x: Quant, weight: Quant) -> TensorType:
    """The type of the stored bias: in units of the accumulator, f32(x scale * weight scale)."""
    scales = np.float32(x.scale) * np.asarray(weight.scales, np.float32)
    axis = 0 if scales.size > 1 else None
    return TensorType(scales.shape, I32, Quant(tuple(float(s) for s in scales), (0,) * scales.size, axis))


def stored_weight(layer: Layer, weight: Array, scales: Array) -> Array:
    """Rounded to nearest, within [-127, 127]."""
    steps = np.rint(weight.astype(np.float64) / per_output(scales.astype(np.float64), layer))
    return np.asarray(np.clip(steps, -_HIGH, _HIGH), np.int8)


def stored_bias(bias: Array, type_: TensorType) -> Array:
    """`bias` in steps of `type_`."""
    assert type_.quant is not None
    steps = np.rint(bias.astype(np.float64) / np.asarray(type_.quant.scales))
    return np.asarray(np.clip(steps, *I32.range), np.int32)


def stored_constant(data: Array, quant: Quant | None = None) -> tuple[Array, TensorType]:
    """An operand that is known, stored with `quant` or over its own range."""
    quant = quant or activation_quant(min(float(data.min()), 0.0), max(float(data.max()), 0.0), None)
    return quantize(data, quant, I8), TensorType(data.shape, I8, quant)


def stored_quant(value: Value) -> Quant | None:
    """The quantisation of what `value` is the dequantization of, also where moving ops stand behind that."""
    op = value.op
    while op is not None and moves(op):
        assert op.operands[0] is not None
        op = op.operands[0].op
    return op.x.type.quant if isinstance(op, Dequantize) else None


def real(data: Array, type_: TensorType) -> Array:
    """The real values of stored `data`."""
    assert type_.quant is not None
    return np.asarray(dequantize(data, type_.quant))
