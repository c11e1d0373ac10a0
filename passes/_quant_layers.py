"""Convolutions and dense layers of stored integers: their biases, and the op itself."""

from __future__ import annotations

import numpy as np

from tinyir.arith import dequantize
from tinyir.ir import Array, Value
from tinyir.opdef import Op
from tinyir.ops import Conv2D, Dense, DepthwiseConv2D, QConv2D, QDense, QDepthwiseConv2D
from tinyir.rewrite import Rewriter
from tinyir.types import I32, Quant, TensorType

from ._quant_chains import stored_source

Layer = Conv2D | DepthwiseConv2D | Dense
LAYERS = (Conv2D, DepthwiseConv2D, Dense)
Clamp = tuple[int, int] | None
_LIMIT = 2**31


def quantised_layer(op: Layer, x: Value, weight: Value, bias: Value | None, type_: TensorType, clamp: Clamp) -> Op:
    """The layer on stored integers, with a result of `type_`."""
    if isinstance(op, Dense):
        return QDense(x, weight, bias, type_, clamp)
    if isinstance(op, Conv2D):
        return QConv2D(x, weight, bias, type_, stride=op.stride, pad=op.pad, dilation=op.dilation, groups=op.groups,
                       clamp=clamp)
    return QDepthwiseConv2D(x, weight, bias, type_, stride=op.stride, pad=op.pad, dilation=op.dilation, clamp=clamp)


def accumulator_units(x: Value, weight: Value) -> Array | None:
    """What one unit of the accumulator is worth, f32(input scale * weight scale): one number, or one a channel."""
    qx, qw = x.type.quant, weight.type.quant
    if qx is None or qw is None or qx.axis is not None:
        return None
    units: Array = np.float32(qx.scale) * np.asarray(qw.scales, np.float32)
    return units


def accumulator_bias(op: Layer, x: Value, weight: Value, rw: Rewriter) -> Value | None:
    """The constant bias as int32 in units of the accumulator; None where there is none, or it does not fit.

    Stored integers in these units, within the percent that onnxruntime allows, are taken as they are; others, and
    floats, are rounded to them, as onnxruntime rounds floats.
    """
    units = accumulator_units(x, weight)
    if op.bias is None or units is None:
        return None
    stored = exact_bias(op, units)
    if stored is not None:
        return stored
    source = stored_source(op.bias)
    real = op.bias.data if source is None else _real_data(source)
    if real is None:
        return None
    whole = np.rint(real.astype(np.float32) / units)
    if not (np.abs(whole) < _LIMIT).all():
        rw.remark(op, "the layer stays in float: its bias does not fit in 32 bits in units of the accumulator")
        return None
    quant = unit_quant(units, 0)
    return rw.const(whole.astype(np.int32), f"{op.out.name}.bias", op.loc, TensorType(real.shape, I32, quant))


def exact_bias(op: Layer, units: Array) -> Value | None:
    """The bias as it is stored, if that is in units of the accumulator."""
    stored = stored_source(op.bias)
    quant = None if stored is None else stored.type.quant
    if stored is None or quant is None or stored.type.dtype != I32 or stored.data is None or any(quant.zero_points):
        return None
    return stored if np.allclose(np.asarray(quant.scales, np.float32), units, rtol=1e-2, atol=0) else None


def unit_quant(units: Array, axis: int) -> Quant:
    """The quantisation of accumulators whose channels lie along `axis`."""
    return Quant(tuple(float(u) for u in units), (0,) * units.size, axis if units.size > 1 else None)


def _real_data(stored: Value) -> Array | None:
    data, quant = stored.data, stored.type.quant
    return None if data is None or quant is None else dequantize(data, quant)


def accumulator_fits(x: Value, weight: Value, bias: Value | None, axis: int) -> bool:
    """Whether no input makes the accumulator overflow; `axis` is the weight's axis of output channels."""
    data, qx, qw = weight.data, x.type.quant, weight.type.quant
    if data is None or qx is None or qw is None:
        return False
    low, high = x.type.dtype.range
    shape = [1] * data.ndim
    shape[axis] = -1
    weights = np.abs(data.astype(np.int64) - np.asarray(qw.zero_points).reshape(shape))
    sums = weights.sum(axis=tuple(a for a in range(data.ndim) if a != axis))
    worst = sums * max(qx.zero_point - low, high - qx.zero_point)
    offsets = 0 if bias is None or bias.data is None else np.abs(bias.data.astype(np.int64))
    return bool((worst + offsets < _LIMIT).all())
