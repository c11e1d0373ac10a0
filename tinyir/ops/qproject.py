"""A 1x1 convolution on top of sums that another one has made of other channels.

    %s = qnn.conv2d(%a, @w1, @b) : tensor<1x8x8x16xi32, q<axis 3, @scales:0>>     45 of 240 channels
    %y = qnn.project(%c, @w2, %s) : tensor<1x8x8x16xi8, q<0.02:-5>>               the other 195

is the convolution of all 240 channels: the sums of both are added in int32, then rounded once.
"""

from __future__ import annotations

from typing import final

import numpy as np

from ..arith import output_multiplier, requantize
from ..geometry import Axis, Span
from ..ir import Array, Value
from ..types import I32, TensorType
from .base import Spatial
from .quant import quant_of, require_quant

__all__ = ["QProject"]


@final
class QProject(Spatial, opname="qnn.project"):
    """y = stored(sums + sum over c of (x - x zero point) * (weight - weight zero point)); see `qnn.conv2d`."""

    x: Value                                # [N, H, W, C]
    weight: Value                           # [O, 1, 1, C], one scale or one for each of O
    sums: Value                             # [N, H, W, O] i32, in units of the scales of x and weight
    result: TensorType
    clamp: tuple[int, int] | None = None

    def infer(self) -> TensorType:
        self.require_rank(self.x, 4, "x", "N, H, W, C")
        self.require_rank(self.weight, 4, "weight", "O, 1, 1, C")
        outputs, kernel, inputs = self.weight.shape[0], self.weight.shape[1:3], self.weight.shape[3]
        self.require(kernel == (1, 1) and inputs == self.x.shape[3], "the weight is {}, expected a 1x1 window for {} "
                     "channels", self.weight.type, self.x.shape[3])
        shape = (*self.x.shape[:3], outputs)
        self.require(self.sums.type.dtype == I32 and self.sums.shape == shape, "sums are {}, expected {} of i32",
                     self.sums.type, "x".join(map(str, shape)))
        require_quant(self, self.x, "x")
        quant = require_quant(self, self.weight, "weight", per_tensor=False)
        self.require(quant.axis in (None, 0), "weight is quantised along axis {}, expected 0", quant.axis)
        good = self.result.shape == shape and self.result.quant is not None
        self.require(good, "the result is {}, expected a quantised type of {}", self.result, "x".join(map(str, shape)))
        return self.result

    def reference(self, x: Array, weight: Array, sums: Array) -> Array:
        flat = weight.reshape(len(weight), -1).astype(np.float64) - self._weight_zeros()
        products = (x.astype(np.float64) - quant_of(self.x).zero_point) @ flat.T
        accumulator = (products.astype(np.int64) + sums).astype(np.int32)
        quant = quant_of(self.out)
        multiplier = output_multiplier(quant_of(self.x), quant_of(self.weight), quant)
        stored = requantize(accumulator, multiplier, quant.zero_point, self.out.type.dtype)
        return stored if self.clamp is None else np.clip(stored, *self.clamp).astype(stored.dtype)

    def _weight_zeros(self) -> Array:
        """The zero point of each weight, [O or 1, 1]."""
        return np.asarray(quant_of(self.weight).zero_points, np.float64).reshape(-1, 1)

    def macs(self) -> int:
        return self.out.type.elements * self.x.shape[3]

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        return out
