"""Known tensors that the file keeps as integers with a scale: weights behind a DequantizeLinear.

Converters turn and slice weights with numpy. So that this works on the stored integers and on their scales at once, a
stored weight is handed to them as a structured array: every element carries its integer, its scale and its zero point.
"""

from __future__ import annotations

import numpy as np

from tinyir.arith import dequantize
from tinyir.ir import Array
from tinyir.types import Quant, TensorType, dtype_of

__all__ = ["Dequantized", "is_stored_form", "stored_parts"]


class Dequantized(np.ndarray[tuple[int, ...], np.dtype[np.float32]]):
    """The real values of a known tensor; `elements` is what stands behind them, None on views and copies."""

    elements: Array | None

    def __array_finalize__(self, source: object) -> None:
        self.elements = None

    @classmethod
    def of(cls, stored: Array, quant: Quant) -> Dequantized:
        """The real values of `stored`."""
        real = dequantize(stored, quant).view(cls)
        form = np.zeros(stored.shape, np.dtype([("stored", stored.dtype), ("scale", "f4"), ("zero", "i8")]))
        shape = [1] * stored.ndim
        if quant.axis is not None:
            shape[quant.axis] = -1
        form["stored"] = stored
        form["scale"] = np.asarray(quant.scales, np.float32).reshape(shape)
        form["zero"] = np.asarray(quant.zero_points, np.int64).reshape(shape)
        real.elements = form
        return real


def is_stored_form(array: Array) -> bool:
    """Whether `array` is the structured form of a stored tensor."""
    return array.dtype.names is not None


def stored_parts(form: Array) -> tuple[Array, TensorType]:
    """The stored integers of a structured form and their type, with the axis along which the scales differ now."""
    stored, scale, zero = (np.ascontiguousarray(form[name]) for name in ("stored", "scale", "zero"))
    kind = dtype_of(stored.dtype)
    if (scale == scale.flat[0]).all() and (zero == zero.flat[0]).all():
        return stored, TensorType(form.shape, kind, Quant((float(scale.flat[0]),), (int(zero.flat[0]),)))
    for axis in range(form.ndim):
        scales, zeros = (np.moveaxis(a, axis, 0).reshape(form.shape[axis], -1) for a in (scale, zero))
        if (scales == scales[:, :1]).all() and (zeros == zeros[:, :1]).all():
            quant = Quant(tuple(float(s) for s in scales[:, 0]), tuple(int(z) for z in zeros[:, 0]), axis)
            return stored, TensorType(form.shape, kind, quant)
    raise ValueError("the scales differ along more than one axis")
