"""From floats to stored integers and back, and stored integers under another scale.

    %r = qnn.range(%x) {low = -0.4, high = 6.1}               what calibration has seen: x, but for rare outliers
    %q = qnn.quantize(%x) : tensor<1x8xi8, q<0.05:3>>        stored = saturate(rint(x / 0.05) + 3)
    %y = qnn.dequantize(%q) : tensor<1x8xf32>                 real = (stored - 3) * 0.05

Scale and zero point live in the types only. An imported quantised model is at graph level a float network between such
pairs; `fuse-quantized` turns `dequantize, op, quantize` into one op on integers.
"""

from __future__ import annotations

from typing import final

import numpy as np

from ..arith import dequantize, quantize
from ..ir import Array, Value
from ..types import F32, I32, Quant, TensorType
from .base import Elementwise, NnOp

__all__ = ["Dequantize", "Lookup", "Quantize", "Range", "Reinterpret", "quant_of", "require_quant"]


def quant_of(value: Value) -> Quant:
    """The quantisation of a value whose op has been verified."""
    quant = value.type.quant
    assert quant is not None
    return quant


def require_quant(op: NnOp, value: Value, name: str, *, per_tensor: bool = True) -> Quant:
    """The quantisation of an operand; an error where it has none, or one per axis where one scale is expected."""
    quant = value.type.quant
    if quant is None:
        raise op.error(f"{name} is {value.type}, expected a quantised type such as tensor<1x8xi8, q<0.05:3>>")
    op.require(not per_tensor or quant.axis is None, "{} has a scale per channel, expected one scale", name)
    op.require(all(np.isfinite(s) and s > 0 for s in quant.scales), "{} has a scale that is not positive", name)
    return quant


@final
class Range(Elementwise, opname="qnn.range", levels=("graph",)):
    """y = x, a value that is to be quantised over [low, high]. Found by calibration; may be edited by hand."""

    x: Value
    low: float                              # at most 0
    high: float                             # at least 0

    def infer(self) -> TensorType:
        self.require_float(self.x)
        return self.result_of(self.x.shape, self.x.type.dtype)

    def verify(self) -> None:
        self.require(-np.inf < self.low <= 0 <= self.high < np.inf,
                     "the range is {} to {}, expected finite bounds around 0", self.low, self.high)

    def reference(self, x: Array) -> Array:
        return x


@final
class Quantize(Elementwise, opname="qnn.quantize", levels=("graph", "quant", "sched")):
    """stored = saturate(rint(x / scale) + zero_point), ties to even. ONNX: QuantizeLinear."""

    x: Value
    result: TensorType

    def infer(self) -> TensorType:
        self.require_float(self.x)
        self.require(self.result.shape == self.x.shape, "the result is declared as {}", self.result)
        self.require(self.result.quant is not None and self.result.dtype.is_integer,
                     "the result is {}, expected a quantised type", self.result)
        return self.result

    def reference(self, x: Array) -> Array:
        return quantize(x, quant_of(self.out), self.out.type.dtype)


@final
class Dequantize(Elementwise, opname="qnn.dequantize", levels=("graph", "quant", "sched")):
    """real = (stored - zero_point) * scale, per tensor or per axis. ONNX: DequantizeLinear."""

    x: Value

    def infer(self) -> TensorType:
        require_quant(self, self.x, "x", per_tensor=False)
        return TensorType(self.x.shape, F32)

    def reference(self, x: Array) -> Array:
        return dequantize(x, quant_of(self.x))


@final
class Reinterpret(Elementwise, opname="qnn.reinterpret", levels=("graph", "quant", "sched")):
    """The same stored integers under the declared quantisation (or none). Costs nothing."""

    x: Value
    result: TensorType

    def infer(self) -> TensorType:
        x = self.x.type
        self.require(self.result.shape == x.shape and self.result.dtype == x.dtype,
                     "the result is {}, expected the shape and element type of x", self.result)
        return self.result

    def reference(self, x: Array) -> Array:
        return x


@final
class Lookup(Elementwise, opname="qnn.lookup"):
    """y = table[stored x - least value of its type]: any function of one 8-bit value, a change of scale included.

    ONNX: QLinearSigmoid, QLinearLeakyRelu, and every unary operator between DequantizeLinear and QuantizeLinear.
    """

    x: Value                                # 8 bits
    table: Value                            # [256], the type of the result
    result: TensorType

    def infer(self) -> TensorType:
        self.require(self.x.type.dtype.is_integer and self.x.type.dtype.bits == 8, "x is {}, expected 8-bit integers",
                     self.x.type.dtype)
        self.require_vector(self.table, "table", 256, "values")
        self.require(self.result.shape == self.x.shape and self.result.dtype == self.table.type.dtype,
                     "the result is declared as {}", self.result)
        return self.result

    def reference(self, x: Array, table: Array) -> Array:
        return np.asarray(table[x.astype(np.int32) - self.x.type.dtype.range[0]])

    def reuses(self) -> tuple[int, ...]:
        return (0,) if self.out.type.size_bytes == self.x.type.size_bytes else ()


def require_accumulator(op: NnOp, bias: Value | None, channels: int) -> None:
    """A bias of quantised ops is int32, in units of the accumulator."""
    if bias is None:
        return
    op.require(bias.type.dtype == I32, "bias is {}, expected i32", bias.type.dtype)
    op.require_vector(bias, "bias", channels, "channels")
