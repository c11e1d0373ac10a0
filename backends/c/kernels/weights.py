"""Weights in the order in which the kernels read them: packed at compile time, or by a kernel if they are computed."""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir.ir import Array, Const, Value
from tinyir.lowering import Lowering
from tinyir.opdef import Op, Written
from tinyir.ops.mem import View
from tinyir.types import F32, BufferType

from ..text import fill
from .base import Kernel
from .blocking import pack_channels, pack_weights

__all__ = ["PackF32", "elements", "packed_bias", "packed_weights", "require_f32", "reshaped"]


@final
class PackF32(Kernel, opname="k.pack_f32"):
    """Computed weights into blocks of output channels: [groups * O, ...] -> [groups * blocks, ..., block]."""

    x: Value                                # [groups * O, ...]
    y: Written                              # [groups * blocks, ..., block], the channels of a group filled up with 0
    groups: int

    def reference(self, x: Array, y: Array) -> None:
        block = y.shape[-1]
        y[...] = pack_weights(x.reshape(x.shape[0], -1), self.groups, block).reshape(y.shape)

    def source(self) -> str:
        outputs, block = self.x.shape[0] // self.groups, self.y.shape[-1]
        blocks = self.y.shape[0] // self.groups
        return fill("""
            static void {name}(const float *restrict x, float *restrict y)
            {
                for (int32_t group = 0; group < {groups}; group++) {
                    for (int32_t channel = 0; channel < {filled}; channel++) {
                        const float *from = x + (group * {outputs} + channel) * {size};
                        float *to = y + (group * {blocks} + channel / {block}) * {block_size} + channel % {block};
                        for (int32_t i = 0; i < {size}; i++) {
                            to[i * {block}] = channel < {outputs} ? from[i] : 0.0f;
                        }
                    }
                }
            }
        """, groups=self.groups, filled=blocks * block, outputs=outputs, blocks=blocks, block=block,
                    size=self.x.type.elements // self.x.shape[0],
                    block_size=self.x.type.elements // self.x.shape[0] * block)


def packed_weights(weight: Value, groups: int, block: int, low: Lowering) -> Value:
    """`weight` [O, ...] as [groups * blocks, ..., block]: a constant of its own, or scratch that a kernel fills."""
    if isinstance(weight, Const):
        return low.const(weight.name, pack_weights(elements(weight, low), groups, block))
    return _packed_by_kernel(weight, (*weight.shape[1:], block), groups, block, low)


def packed_bias(bias: Value | None, groups: int, outputs: int, block: int, name: str, low: Lowering) -> Value:
    """`bias` [O] filled up to whole blocks, zeros if there is none: [groups * blocks * block]."""
    if bias is None:
        return low.const(f"{name}.zero", pack_channels(None, groups, outputs, block))
    if isinstance(bias, Const):
        return low.const(bias.name, pack_channels(elements(bias, low), groups, outputs, block))
    if outputs // groups % block == 0:
        return low.buffer(bias)
    packed = _packed_by_kernel(bias, (block,), groups, block, low)
    return reshaped(packed, (packed.type.elements,), low)


def reshaped(buffer: Value, shape: tuple[int, ...], low: Lowering) -> Value:
    """The bytes of `buffer` under another shape."""
    view = View(buffer, result=BufferType(shape, buffer.type.dtype))
    view.out.name = buffer.name
    low.emit(view)
    return view.out


def _packed_by_kernel(value: Value, rest: tuple[int, ...], groups: int, block: int, low: Lowering) -> Value:
    blocks = groups * -(-value.shape[0] // groups // block)
    scratch = low.scratch(BufferType((blocks, *rest), value.type.dtype), f"{value.name}_packed")
    low.emit(PackF32(low.buffer(value), scratch, groups=groups))
    return scratch


def require_f32(op: Op) -> None:
    """Raise CompileError unless all that `op` reads is f32."""
    for value in op.reads:
        if value.type.dtype != F32:
            raise op.error(f"there is no kernel for {value.type.dtype}, only for f32",
                           help="export the model in float32")


def elements(const: Const, low: Lowering) -> Array:
    data = low.buffer(const).data
    assert data is not None  # low.buffer has refused a constant without elements
    return np.asarray(data)
