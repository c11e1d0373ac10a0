"""Bilinear resizing of stored 8-bit integers: what onnxruntime computes between a dequantize and a quantize.

    %y = qnn.resize(%x) {coordinates = half_pixel, scales = [2.0, 2.0]} : tensor<1x16x16x8xi8, q<0.04:-3>>
"""

from __future__ import annotations

from typing import final

import numpy as np

from ..arith import qlinear_mix
from ..geometry import Axis, axis_index
from ..ir import Array, Value
from ..types import TensorType
from .quant import quant_of, require_quant
from .resize import Coordinates, Resampling

__all__ = ["QResize"]


@final
class QResize(Resampling, opname="qnn.resize"):
    """The weighted mean of the real values of the four pixels around a position, quantised.

    Positions as for `nn.resize`. The weights and the terms of the sum are rounded to single precision one by one, in
    onnxruntime's order: the left pixel above, the right one, then those below. As there, two halves of the last row are
    added up where a position lies on it, so too for columns. ONNX: Resize in mode linear between DequantizeLinear and
    QuantizeLinear.
    """

    x: Value                                # [N, H, W, C]
    coordinates: Coordinates
    scales: tuple[float, float]             # rows, columns; output / input
    result: TensorType                      # [N, H', W', C]
    turned: bool = False                    # rows here are the columns of the model: sums are in the order of the model
    part: tuple[int, ...] = ()              # as nn.resize has it

    def infer(self) -> TensorType:
        self.require_rank(self.x, 4, "x", "N, H, W, C")
        require_quant(self, self.x, "x")
        shape, result = self.x.shape, self.result
        fits = result.rank == 4 and (result.shape[0], result.shape[3]) == (shape[0], shape[3])
        self.require(fits and result.quant is not None, "the result is declared as {}", result)
        return result

    def halved_weights(self, axis: Axis) -> Array:
        """The weights of the second rows (or columns), f32; a half where both are the last one of the whole x."""
        first, _, weight = self.linear_sources(axis)
        _, begin, _, extent = self._place(axis_index(axis) - 1)
        return np.where(first + begin == extent - 1, np.float32(0.5), weight.astype(np.float32))

    def reference(self, x: Array) -> Array:
        (above, below, _), down = self.linear_sources("rows"), self.halved_weights("rows")
        (left, right, _), across = self.linear_sources("columns"), self.halved_weights("columns")
        corners = [x[:, rows][:, :, columns] for rows in (above, below) for columns in (left, right)]
        weights = corner_weights(down, across)
        order = (0, 2, 1, 3) if self.turned else (0, 1, 2, 3)
        return qlinear_mix([corners[i] for i in order], [weights[i] for i in order], quant_of(self.x),
                           quant_of(self.out), self.out.type.dtype)


def corner_weights(down: Array, across: Array) -> list[Array]:
    """The weights of the pixels above (left, right) and below, each [rows, columns, 1] f32, from those of the second
    row of each row and of the second column of each column."""
    one = np.float32(1)
    return [np.asarray(v[:, None, None] * u[None, :, None], np.float32)
            for v in (one - down, down) for u in (one - across, across)]
