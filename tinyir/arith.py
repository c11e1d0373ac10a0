"""Quantised arithmetic, bit for bit as onnxruntime's integer kernels compute it (x86 with AVX2 and VNNI).

Notation: f32(x) is one rounding to single precision, rint rounds half to even, sat clamps to the element type. The
formulas were found by comparing every tensor of real models and hold for every byte; each function states its own.
Source of the scheme (affine quantisation, int32 accumulation): Jacob et al., arXiv:1712.05877; of the operators: the
QLinear* and com.microsoft operator specifications.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .ir import Array
from .types import DType, Quant

__all__ = [
    "dequantize", "fused_multiply_add", "output_multiplier", "qlinear_add", "qlinear_average", "qlinear_global_average",
    "qlinear_mix", "qlinear_mul", "qlinear_softmax", "quantize", "requantize", "round_to_odd_sum", "saturate",
    "softmax_table",
]

_F32 = np.float32


def saturate(values: Array, dtype: DType) -> Array:
    """`values` (whole numbers of any type) clamped to the range of `dtype` and stored as it."""
    low, high = dtype.range
    return np.clip(values, low, high).astype(dtype.numpy)


def quantize(x: Array, quant: Quant, dtype: DType) -> Array:
    """QuantizeLinear: sat(rint(f32(x / scale)) + zero_point); NaN becomes the least stored value."""
    scale, zero = _along_axis(quant, x.ndim)
    whole = np.fmax(np.rint(x.astype(_F32) / scale).astype(np.float64), -np.inf)
    return saturate(whole + zero, dtype)


def dequantize(x: Array, quant: Quant) -> Array:
    """DequantizeLinear: f32(f32(x - zero_point) * scale)."""
    scale, zero = _along_axis(quant, x.ndim)
    return (x.astype(np.int64) - zero).astype(_F32) * scale


def _along_axis(quant: Quant, rank: int) -> tuple[Array, Array]:
    """Scale (f32) and zero point (i64), shaped so that they broadcast against a tensor of `rank` dimensions."""
    scale, zero = np.asarray(quant.scales, _F32), np.asarray(quant.zero_points, np.int64)
    if quant.axis is None:
        return scale.reshape(()), zero.reshape(())
    shape = [1] * rank
    shape[quant.axis] = -1
    return scale.reshape(shape), np.broadcast_to(zero, scale.shape).reshape(shape)


def output_multiplier(x: Quant, weight: Quant, y: Quant) -> Array:
    """f32(f32(xs * ws) / ys): what an int32 accumulator is multiplied with; one a channel, or one."""
    return (_F32(x.scale) * np.asarray(weight.scales, _F32)) / _F32(y.scale)


def requantize(accumulator: Array, multiplier: Array, zero_point: int, dtype: DType, *, zero_first: bool = False) \
        -> Array:
    """QLinearConv, QGemm, QLinearMatMul: sat(rint(f32(f32(acc) * multiplier)) + zero_point).

    `multiplier` is f32, one value or one for each index of the last axis. With `zero_first` the zero point is added, in
    f32, before rounding: sat(rint(f32(f32(f32(acc) * multiplier) + zero_point))), as QLinearMul does.
    """
    scaled = accumulator.astype(_F32) * multiplier
    if zero_first:
        return saturate(np.rint(scaled + _F32(zero_point)), dtype)
    return saturate(np.rint(scaled).astype(np.float64) + zero_point, dtype)


def round_to_odd_sum(a: Array, b: Array) -> Array:
    """a + b in float64, rounded to odd; rounded once more, to f32, that equals the exact sum rounded to f32.

    Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums" (IEEE Transactions on Computers, 2008).
    """
    total = a + b
    back = total - a
    lost = (a - (total - back)) + (b - back)  # TwoSum: total + lost is exact
    bits = np.ascontiguousarray(total).view(np.int64)
    even = (bits & 1) == 0
    towards = np.where(lost > 0, np.inf, -np.inf)
    return np.where((lost != 0) & even, np.nextafter(total, towards), total)


def fused_multiply_add(a: Array, b: Array, c: Array) -> Array:
    """f32(a * b + c) with one rounding; f32 operands. (The product of two f32 is exact in float64.)"""
    product = a.astype(np.float64) * b.astype(np.float64)
    product, addend = np.broadcast_arrays(product, c.astype(np.float64))
    result: Array = round_to_odd_sum(product, addend).astype(_F32)
    return result


def qlinear_add(a: Array, b: Array, qa: Quant, qb: Quant, qc: Quant, dtype: DType) -> Array:
    """QLinearAdd: sat(rint(fma(a, ra, fma(b, rb, fx)))) of the stored values a and b.

    ra = f32(sa/sc), rb = f32(sb/sc), fx = f32(zc - fma(za, ra, f32(rb*zb))): the zero point is added before rounding.
    """
    ra, rb = _F32(qa.scale) / _F32(qc.scale), _F32(qb.scale) / _F32(qc.scale)
    offset = fused_multiply_add(np.asarray(qa.zero_point, _F32), np.asarray(ra), np.asarray(rb * _F32(qb.zero_point)))
    fixed = np.asarray(_F32(qc.zero_point) - offset, _F32)
    inner = fused_multiply_add(b.astype(_F32), np.asarray(rb), fixed)
    return saturate(np.rint(fused_multiply_add(a.astype(_F32), np.asarray(ra), inner)), dtype)


def qlinear_mul(a: Array, b: Array, qa: Quant, qb: Quant, qc: Quant, dtype: DType) -> Array:
    """QLinearMul: sat(rint(f32(f32(f32(p) * f32(f32(sa*sb)/sc)) + zc))), p the product of the differences."""
    multiplier = _F32(_F32(qa.scale) * _F32(qb.scale)) / _F32(qc.scale)
    product = (a.astype(np.int32) - qa.zero_point) * (b.astype(np.int32) - qb.zero_point)
    return requantize(product, np.asarray(multiplier), qc.zero_point, dtype, zero_first=True)


def qlinear_average(windows: Array, counts: Array, qx: Quant, qy: Quant, dtype: DType) -> Array:
    """QLinearAveragePool with a window smaller than the image.

    `windows` [..., n] holds the stored values of each window in raster order, the zero point outside the image;
    `counts` [...] the divisors. An f32 sum of f32(scale * (x - zx)) in that order, / count, / ys, + zy, then rint.
    """
    total = np.zeros(windows.shape[:-1], _F32)
    for i in range(windows.shape[-1]):
        total += _F32(qx.scale) * (windows[..., i].astype(np.int32) - qx.zero_point).astype(_F32)
    mean = total / counts.astype(_F32)
    return saturate(np.rint(mean / _F32(qy.scale) + _F32(qy.zero_point)), dtype)


def qlinear_global_average(total: Array, count: int, qx: Quant, qy: Quant, dtype: DType) -> Array:
    """QLinearGlobalAveragePool: sat(rint(f32(f32(sum) * f32(xs/f32(ys*n)))) + zy).

    QLinearAveragePool does the same where its window is the whole image. `total` is the int32 sum of the differences
    x - zx over the image.
    """
    multiplier = _F32(qx.scale) / _F32(_F32(qy.scale) * _F32(count))
    return requantize(total, np.asarray(multiplier, _F32), qy.zero_point, dtype)


def qlinear_mix(values: Sequence[Array], weights: Sequence[Array], qx: Quant, qy: Quant, dtype: DType) -> Array:
    """Resize in mode linear between DequantizeLinear and QuantizeLinear: a weighted sum of stored `values`, f32.

    sat(rint(f32(sum / ys)) + zy), a sequential f32 sum of f32(weight * f32(scale * (value - zx))).
    """
    terms = (w * dequantize(v, qx) for v, w in zip(values, weights, strict=True))
    total = next(terms)
    for term in terms:
        total = total + term
    return quantize(total, qy, dtype)


def softmax_table(scale: float, size: int) -> Array:
    """The 256 f32 values of QLinearSoftmax for a difference of i - 255 from the maximum, over `size` elements.

    t[i] = f32(exp((i - 255 + B) * scale)), computed in double, with B = max(0, log(FLT_MAX / size) - 5) / scale: as
    large as the sum can bear.
    """
    headroom = max(0.0, np.log(float(np.finfo(_F32).max) / size) - 5.0) / float(_F32(scale))
    exponents = (np.arange(256) - 255 + headroom) * float(_F32(scale))
    table: Array = np.exp(exponents).astype(_F32)
    return table


def qlinear_softmax(x: Array, qx: Quant, qy: Quant, dtype: DType) -> Array:
    """QLinearSoftmax over the last axis: sat(rint(f32(f32(t * floor(1/ys)) / sum)) + zy), a sequential f32 sum.

    The floor is onnxruntime's: with ys = 1/256 it changes nothing, with 1/255 it makes 254 and costs accuracy.
    """
    table = softmax_table(qx.scale, x.shape[-1])
    wide = x.astype(np.int32)
    terms = table[255 - (wide.max(axis=-1, keepdims=True) - wide)]
    total = np.cumsum(terms, axis=-1, dtype=_F32)[..., -1:]
    steps = np.floor(_F32(1.0) / _F32(qy.scale))
    return saturate(np.rint(terms * steps / total).astype(np.float64) + qy.zero_point, dtype)
