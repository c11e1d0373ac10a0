"""Builds ops anew with fewer channels: weights, biases, types and shapes are sliced along the last axis.

    %y = qnn.conv2d(%x, @w, @b) : tensor<1x8x8x16xi8, q<0.05:-128>>          // 5 of 8 channels of %x, 9 of 16 of %y
        ->
    %y = qnn.conv2d(%x, @w, @b) : tensor<1x8x8x9xi8, q<0.05:-128>>           // @w: 9x3x3x5 instead of 16x3x3x8
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyir.ir import Array, Const, Value
from tinyir.opdef import Op
from tinyir.ops import QConv2D, QDense, QDepthwiseConv2D
from tinyir.rewrite import Rewriter
from tinyir.types import I32, Quant, TensorType

from ._channel_classes import Liveness, channels_of
from ._values import stem, tensor_type

Layer = QConv2D | QDense | QDepthwiseConv2D


class Slicer:
    """Rebuilds the ops of a function, in order, with the channels that are kept."""

    def __init__(self, liveness: Liveness, rw: Rewriter) -> None:
        self._liveness = liveness
        self._rw = rw
        self._new: dict[Value, Value] = {}

    def rebuild(self, op: Op) -> bool:
        """Put a smaller op in front of `op` where channels of what it reads or makes go; says whether it did."""
        if not any(not self._kept(v).all() for v in (*op.reads, *op.results)):
            return False
        groups = self._layer_operands(op) if isinstance(op, (QConv2D, QDense, QDepthwiseConv2D)) else \
            [self._operands(group, op) for group in op.operand_groups]
        types = [sliced_type(tensor_type(result), self._kept(result)) for result in op.results]
        made = type(op).build(groups, op.attrs, types, (), op.loc)
        self._rw.insert_before(op, made)
        for old, new in zip(op.results, made.results, strict=True):
            new.name = old.name
            self._new[old] = new
            if self._kept(old).all():
                self._rw.replace_uses(old, new)
        return True

    def _kept(self, value: Value) -> Array:
        return self._liveness.of(value)

    def _operands(self, group: list[Value | None], op: Op) -> list[Value | None]:
        """The operands; a constant part of a concat may lose all its channels, and goes then."""
        made = [self._operand(value, op) for value in group]
        return [v for v in made if v is None or not v.shape or channels_of(v)]

    def _operand(self, value: Value | None, op: Op) -> Value | None:
        """The operand with the channels that are kept; constants that are combined with them are sliced."""
        if value is None or not isinstance(value, Const):
            return value if value is None else self._new.get(value, value)
        data, kept = value.data, self._const_channels(value, op)
        if kept is None or data is None or kept.all():
            return value
        return self._const(value, data[..., kept], sliced_type(tensor_type(value), kept))

    def _const_channels(self, value: Const, op: Op) -> Array | None:
        """Which channels of a constant operand to keep: those of the result that they stand beside."""
        kept = self._kept(op.out)
        inputs = getattr(op, "inputs", None)
        if inputs is None or op.attrs["axis"] % op.out.type.rank != op.out.type.rank - 1:
            shares = op.opname in ("qnn.add", "qnn.mul") or inputs is not None
            return kept if shares and channels_of(value) == len(kept) else None
        start = sum(channels_of(v) for v in inputs[:list(inputs).index(value)])
        return kept[start:start + channels_of(value)]

    def _const(self, old: Value, data: Array, type_: TensorType) -> Const:
        return self._rw.const(np.ascontiguousarray(data), stem(old), old.loc, type_)

    # -- layers ------------------------------------------------------------------------------------------------------

    def _layer_operands(self, op: Layer) -> list[list[Value | None]]:
        outputs, inputs = self._kept(op.out), self._kept(op.x)
        return [[self._new.get(op.x, op.x)], [self._weight(op, outputs, inputs)],
                [self._bias(op, outputs, inputs)]]

    def _weight(self, op: Layer, outputs: Array, inputs: Array) -> Value:
        data = op.weight.data
        assert data is not None  # else all channels are kept
        if isinstance(op, QDepthwiseConv2D):
            sliced = data[:, :, outputs]
        else:
            sliced = data[outputs][..., inputs] if inputs.size == data.shape[-1] else data[outputs]
        quant = _sliced_quant(op.weight.type.quant, outputs)
        return self._const(op.weight, sliced, TensorType(sliced.shape, op.weight.type.dtype, quant))

    def _bias(self, op: Layer, outputs: Array, inputs: Array) -> Value | None:
        """The bias of the outputs that stay, with what the inputs that go add to them."""
        reader = self._liveness.readers.get(op)
        more = np.zeros(len(outputs), np.int64) if reader is None else reader.folded(~inputs)
        if op.bias is None and not more[outputs].any():
            return None
        old = None if op.bias is None else op.bias.data
        sums = (more if old is None else old.astype(np.int64) + more)[outputs].astype(np.int32)
        quant = None if op.bias is None else _sliced_quant(op.bias.type.quant, outputs)
        name = op.weight if op.bias is None else op.bias
        suffix = ".bias" if op.bias is None else ""
        return self._rw.const(sums, f"{stem(name)}{suffix}", name.loc, TensorType(sums.shape, I32, quant))


def sliced_type(type_: TensorType, kept: Array) -> TensorType:
    """The type without the channels that go."""
    if kept.all():
        return type_
    quant: Any = type_.quant
    if quant is not None and quant.axis == type_.rank - 1:
        quant = _sliced_quant(quant, kept)
    return TensorType((*type_.shape[:-1], int(kept.sum())), type_.dtype, quant)


def _sliced_quant(quant: Quant | None, kept: Array) -> Quant | None:
    """A quantisation along the axis of the channels, of those that stay."""
    if quant is None or quant.axis is None:
        return quant
    places = np.flatnonzero(kept)
    zeros = quant.zero_points if len(quant.zero_points) == len(quant.scales) else quant.zero_points * len(quant.scales)
    return Quant(tuple(quant.scales[i] for i in places), tuple(zeros[i] for i in places), quant.axis)
