"""Whether weights in a form that takes more room, and is faster, are worth a look.

    module.attrs["weights"] = "fast"       kernels may store weights in such a form, where their lowering rules have one

On Cortex-M with DSP these are 3x3 convolutions with stride 1: weights that are transformed as Winograd's algorithm has
it take 32/9 of the room, and half the instructions.
"""

from __future__ import annotations

from tinyir.costs import CostModel
from tinyir.ir import Func, Module
from tinyir.ops import QConv2D
from tinyir.target import Target

__all__ = ["allow_fast_weights", "fast_weights_pay", "has_fast_weights"]

_NAME, _VALUE = "weights", "fast"


def has_fast_weights(module: Module) -> bool:
    """Whether kernels of `module` may store weights in a larger form."""
    return module.attrs.get(_NAME) == _VALUE


def allow_fast_weights(module: Module) -> None:
    """Let kernels of `module` store weights in a larger form, where that is faster."""
    module.attrs[_NAME] = _VALUE


def fast_weights_pay(module: Module, func: Func, target: Target) -> bool:
    """Whether that makes any layer of `func` faster, by modelled instructions."""
    plain, fast = (CostModel(target, {**module.attrs, **form}) for form in ({}, {_NAME: _VALUE}))
    layers = [op for op in func.block.walk() if isinstance(op, QConv2D) and op.kernel != (1, 1)]
    return any(fast.of(op).instructions < plain.of(op).instructions for op in layers)
