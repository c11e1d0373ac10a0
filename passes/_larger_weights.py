"""Weights in a form that takes more room, and is faster: which layers may have them.

    module.attrs["larger_weights"] = 33152     kernels may store weights in such a form, where their lowering rules have
                                               one, of layers for which it takes no more than these bytes

On Cortex-M with DSP these are 3x3 convolutions with stride 1: weights that are transformed as Winograd's algorithm has
it take 32/9 of the room, and half the instructions. Layers of few channels gain the most for a byte, so that the bytes
of a layer are what to limit.
"""

from __future__ import annotations

from tinyir.costs import CostModel
from tinyir.ir import Func, Module
from tinyir.ops import QConv2D
from tinyir.target import Target

__all__ = ["allow_larger_weights", "has_larger_weights", "sizes_that_pay"]

_NAME = "larger_weights"
_NO_LIMIT = 1 << 30


def has_larger_weights(module: Module) -> bool:
    """Whether kernels of `module` may store weights in a larger form."""
    return _NAME in module.attrs


def allow_larger_weights(module: Module, most: int) -> None:
    """Let kernels of `module` store weights in a larger form, `most` bytes for a layer, where that is faster."""
    module.attrs[_NAME] = most


def sizes_that_pay(module: Module, func: Func, target: Target) -> list[int]:
    """The bytes of larger weights of each layer of `func` that is faster with them, by modelled instructions; each
    number once, ascending.
    """
    plain, larger = (CostModel(target, {**module.attrs, **form}) for form in ({}, {_NAME: _NO_LIMIT}))
    layers = [op for op in func.block.walk() if isinstance(op, QConv2D) and op.kernel != (1, 1)]
    return sorted({larger.of(op).const_bytes for op in layers
                   if larger.of(op).instructions < plain.of(op).instructions})
