"""Known tensors that the file keeps as integers with a scale: weights behind a DequantizeLinear.

Converters turn and slice weights with numpy. So that this works on the stored integers and on their scales at once, a
stored weight is handed to them as a structured array: every element carries its integer, its scale and its zero point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tinyir.arith import dequantize
from tinyir.ir import Array
from tinyir.types import Quant, TensorType, dtype_of

__all__ = ["MOVING", "Dequantized", "is_stored_form", "moved_parts", "stored_parts"]

_FIELDS = ("stored", "scale", "zero")
MOVING = ("Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose",
          "Unsqueeze")
"""ONNX operators whose results consist of elements of their first input."""


class Dequantized(np.ndarray[tuple[int, ...], np.dtype[np.float32]]):
    """The real values of a known tensor; `elements` is what stands behind them, None on views and copies."""

    elements: Array | None

    def __array_finalize__(self, source: object) -> None:
        self.elements = None

    @classmethod
    def of(cls, stored: Array, quant: Quant) -> Dequantized:
        """The real values of `stored`."""
        real = np.asarray(dequantize(stored, quant)).view(cls)
        form = np.zeros(stored.shape, np.dtype([("stored", stored.dtype), ("scale", "f4"), ("zero", "i8")]))
        shape = [1] * stored.ndim
        if quant.axis is not None:
            shape[quant.axis] = -1
        form["stored"] = stored
        form["scale"] = np.asarray(quant.scales, np.float32).reshape(shape)
        form["zero"] = np.asarray(quant.zero_points, np.int64).reshape(shape)
        real.elements = form
        return real

    @classmethod
    def of_form(cls, form: Array) -> Dequantized:
        """The real values of the structured form of a stored tensor."""
        difference = (form["stored"].astype(np.int64) - form["zero"]).astype(np.float32)
        real = np.asarray(difference * form["scale"]).view(cls)
        real.elements = form
        return real


def moved_parts(moved: Callable[[Array], Sequence[Array]], x: object) -> list[Dequantized] | None:
    """What a moving operator makes of the stored weight `x`, where `moved` does it to plain arrays; or None."""
    if not isinstance(x, Dequantized) or x.elements is None:
        return None
    made = []
    for stored, scale, zero in zip(*(moved(np.ascontiguousarray(x.elements[name])) for name in _FIELDS), strict=True):
        form = np.zeros(stored.shape, x.elements.dtype)
        form["stored"], form["scale"], form["zero"] = stored, scale, zero
        made.append(Dequantized.of_form(form))
    return made


def is_stored_form(array: Array) -> bool:
    """Whether `array` is the structured form of a stored tensor."""
    return array.dtype.names is not None


def stored_parts(form: Array) -> tuple[Array, TensorType]:
    """The stored integers of a structured form and their type, with the axis along which the scales differ now."""
    stored, scale, zero = (np.ascontiguousarray(form[name]).reshape(form.shape) for name in _FIELDS)
    kind = dtype_of(stored.dtype)
    if (scale == scale.flat[0]).all() and (zero == zero.flat[0]).all():
        return stored, TensorType(form.shape, kind, Quant((float(scale.flat[0]),), (int(zero.flat[0]),)))
    for axis in range(form.ndim):
        scales, zeros = (np.moveaxis(a, axis, 0).reshape(form.shape[axis], -1) for a in (scale, zero))
        if (scales == scales[:, :1]).all() and (zeros == zeros[:, :1]).all():
            quant = Quant(tuple(float(s) for s in scales[:, 0]), tuple(int(z) for z in zeros[:, 0]), axis)
            return stored, TensorType(form.shape, kind, quant)
    raise ValueError("the scales differ along more than one axis")
