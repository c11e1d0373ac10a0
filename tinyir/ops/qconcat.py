"""Images of stored 8-bit integers side by side, each brought to the quantisation of the result.

    %y = qnn.concat(%a, %b) : tensor<1x8x8x24xi8, q<0.04:-3>>
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from ..arith import dequantize, quantize
from ..geometry import Axis, Box, Span
from ..ir import Array, Value
from ..types import DType, Quant, TensorType
from .base import Spatial
from .quant import quant_of, require_quant

__all__ = ["QConcat", "rescaled"]


@final
class QConcat(Spatial, opname="qnn.concat"):
    """The channels of the inputs one behind the other; what has another scale or zero point is quantised anew.

    ONNX: com.microsoft.QLinearConcat along the channels.
    """

    inputs: tuple[Value, ...]               # [N, H, W, C0], [N, H, W, C1], ...
    result: TensorType                      # [N, H, W, C0 + C1 + ...]

    def infer(self) -> TensorType:
        self.require(len(self.inputs) > 0, "there are no inputs, expected at least one")
        for position, value in enumerate(self.inputs):
            self.require_rank(value, 4, f"input {position}", "N, H, W, C")
            require_quant(self, value, f"input {position}")
            found, first = value.shape[:3], self.inputs[0].shape[:3]
            self.require(found == first, "input {} is {}, expected the rows and columns of input 0", position,
                         value.type)
        shape = (*self.inputs[0].shape[:3], sum(value.shape[3] for value in self.inputs))
        self.require(self.result.shape == shape and self.result.quant is not None, "the result is declared as {}",
                     self.result)
        return self.result

    def table(self, operand: int) -> Array | None:
        """What becomes of each stored value of an input, the least one first; None if it stays what it is. [256]"""
        value = self.inputs[operand]
        if (value.type.quant, value.type.dtype) == (self.out.type.quant, self.out.type.dtype):
            return None
        return rescaled(value.type.dtype, quant_of(value), self.out.type.dtype, quant_of(self.out))

    def reference(self, inputs: list[Array]) -> Array:
        parts = []
        for operand, x in enumerate(inputs):
            table, least = self.table(operand), self.inputs[operand].type.dtype.range[0]
            parts.append(x if table is None else table[x.astype(np.int32) - least])
        return np.concatenate(parts, axis=3)

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        return out

    def part_attrs(self, out: Box, given: Sequence[Box]) -> dict[str, Any] | None:
        return {}


def rescaled(dtype: DType, quant: Quant, result: DType, result_quant: Quant) -> Array:
    """What becomes of each stored value of `dtype` under `quant`, the least one first, as `result`. [256]"""
    every = np.arange(dtype.range[0], dtype.range[1] + 1).astype(dtype.numpy)
    return quantize(dequantize(every, quant), result_quant, result)
