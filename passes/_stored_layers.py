"""Look at and change the integers of a layer between dequantize and quantize."""

from __future__ import annotations

from typing import cast

import numpy as np

from tinyir.ir import Array, Const
from tinyir.ops import Dequantize
from tinyir.rewrite import Rewriter
from tinyir.types import Quant, TensorType

from ._points import Layer
from ._quantised_values import bias_type, real, stored_bias, stored_quant, weight_type
from ._values import stem, tensor_type


class StoredLayer:
    """The stored weight and bias of a layer, and what they stand for."""

    def __init__(self, layer: Layer, rw: Rewriter) -> None:
        self.layer = layer
        self.rw = rw
        self._weight = cast(Dequantize, layer.weight.op)

    @property
    def x(self) -> Quant:
        """The quantisation of the input."""
        quant = stored_quant(self.layer.x)
        assert quant is not None
        return quant

    @property
    def y(self) -> tuple[Quant, TensorType] | None:
        """The quantisation of the result, if it is quantised right away."""
        users = [user for user in self.layer.out.users if user.opname == "qnn.quantize"]
        type_ = tensor_type(users[0].results[0]) if len(users) == len(self.layer.out.uses) == 1 else None
        return None if type_ is None or type_.quant is None else (type_.quant, type_)

    @property
    def weight(self) -> Array:
        """Stored integers."""
        return cast(Array, self._weight.x.data)

    @property
    def real_weight(self) -> Array:
        """What the stored integers stand for."""
        return real(self.weight, tensor_type(self._weight.x))

    @property
    def scales(self) -> Array:
        """The scale of each output channel, f32 [O]."""
        quant = cast(Quant, self._weight.x.type.quant)
        return np.broadcast_to(np.asarray(quant.scales, np.float32), (self.layer.out.shape[-1],))

    @property
    def bias(self) -> Array | None:
        """Real values, or None for a layer without one."""
        found = None if self.layer.bias is None else self.layer.bias.defining(Dequantize)
        return None if found is None else real(cast(Array, found.x.data), tensor_type(found.x))

    @property
    def stored_bias(self) -> Array:
        """Stored integers, i64 [O]; zeros for a layer without a bias."""
        found = None if self.layer.bias is None else self.layer.bias.defining(Dequantize)
        count = self.layer.out.shape[-1]
        return np.zeros(count, np.int64) if found is None else cast(Array, found.x.data).astype(np.int64)

    def set_weight(self, weight: Array, scales: Array | None = None) -> None:
        """Other integers, and perhaps other scales; the bias keeps its real values."""
        bias = self.bias
        type_ = tensor_type(self._weight.x) if scales is None else weight_type(self.layer, scales)
        self._set(self._weight, weight.astype(np.int8), type_)
        if bias is not None and scales is not None:
            self.set_bias(bias)

    def set_bias(self, bias: Array) -> None:
        """Another bias, given as real values."""
        type_ = bias_type(self.x, cast(Quant, self._weight.x.type.quant))
        if type_.shape != bias.shape:  # one weight scale for several channels
            type_ = TensorType(bias.shape, type_.dtype, type_.quant)
        data = stored_bias(bias, type_)
        found = None if self.layer.bias is None else self.layer.bias.defining(Dequantize)
        if found is not None:
            self._set(found, data, type_)
            return
        made = self.rw.const(data, f"{stem(self._weight.x)}.bias", self.layer.loc, type_)
        self.rw.set_operand(self.layer, 2, self.rw.insert_before(self.layer, Dequantize(made), name=made.name).out)

    def _set(self, dequantize: Dequantize, data: Array, type_: TensorType) -> None:
        old = cast(Const, dequantize.x)
        self.rw.set_operand(dequantize, 0, self.rw.const(data, stem(old), old.loc, type_))
