"""Apply activations where their argument is computed, instead of in a pass over memory of their own.

    %c = nn.conv2d(%x, @w, @b) : tensor<1x8x8x16xf32>
    %y = nn.relu(%c) : tensor<1x8x8x16xf32>
        ->
    %y = nn.conv2d(%x, @w, @b) {act = relu} : tensor<1x8x8x16xf32>

Into nn.conv2d, nn.depthwise_conv2d, nn.conv_transpose2d, nn.dense, nn.add, nn.sub and nn.mul. An activation behind a
max pool moves in front of it if it never decreases (the greatest stays the greatest), one behind a concat moves into
the parts if each of them can take it. A relu or clip on top of a relu or clip that is fused already merges with it.
"""

from __future__ import annotations

import math
from typing import ClassVar

from tinyir.ir import Level, Module, Value
from tinyir.opdef import Op
from tinyir.ops import (
    Activation,
    Add,
    Clip,
    Concat,
    Conv2D,
    ConvTranspose2D,
    Dense,
    DepthwiseConv2D,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    MaxPool,
    Mul,
    Relu,
    Sub,
    activation_of,
)
from tinyir.pass_manager import Context, Pass
from tinyir.rewrite import Rewriter, rewrites

from ._values import rounded, with_attrs

Act = tuple[Activation, tuple[float, ...]]
_PRODUCERS = (Conv2D, DepthwiseConv2D, ConvTranspose2D, Dense, Add, Sub, Mul)
_INF = math.inf


class FuseActivation(Pass):
    """Let layers and sums apply the activation behind them."""

    name = "fuse-activation"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")

    def run(self, module: Module, ctx: Context) -> None:
        super().run(module, ctx)
        rewriter = self.rewriter(module, ctx)
        for op in module.walk():
            before = op.operands[0] if activation_of(op) is not None else None
            if before is not None and isinstance(before.op, _PRODUCERS):
                shared = len(before.uses) > 1
                reason = f"%{before.name} has {len(before.uses)} readers" if shared else f"it applies {before.op.act}"
                rewriter.remark(op, f"{op.opname} stays behind {before.op.opname}: {reason}")

    @rewrites(Relu, Clip, LeakyRelu, HardSwish, HardSigmoid)
    def fuse(self, op: Relu | Clip | LeakyRelu | HardSwish | HardSigmoid, rw: Rewriter) -> None:
        """Into the op before, or through a max pool or a concat to where that is possible."""
        found = activation_of(op)
        if found is None or not op.x.type.dtype.is_float:
            return
        act: Act = (found[0], tuple(rounded(number, op.x) for number in found[1]))
        combined = _combined(op.x, act)
        if combined is not None:
            rw.replace(op, _with_act(op.x, combined))
        elif not _above_max_pool(op, act, rw):
            _above_concat(op, act, rw)


def _combined(value: Value, act: Act) -> Act | None:
    """What the op that makes `value` has to apply instead of what it applies now, if it can take `act` on."""
    op = value.op
    if not isinstance(op, _PRODUCERS) or len(value.uses) != 1:
        return None
    if op.act == "none":
        return act
    inner, outer = _bounds((op.act, op.act_args)), _bounds(act)
    if inner is None or outer is None or inner[0] > inner[1] or outer[0] > outer[1]:
        return None
    low, high = (min(max(bound, outer[0]), outer[1]) for bound in inner)
    return ("relu", ()) if (low, high) == (0, _INF) else ("clip", (low, high))


def _bounds(act: Act) -> tuple[float, float] | None:
    """The range of a relu or clip."""
    if act[0] == "relu":
        return 0.0, _INF
    return (act[1][0], act[1][1]) if act[0] == "clip" else None


def _with_act(value: Value, act: Act) -> Op:
    """A new op like the one that makes `value`, that applies `act`."""
    op = value.op
    assert op is not None
    return with_attrs(op, act=act[0], act_args=act[1])


def _never_decreases(act: Act) -> bool:
    name, args = act
    return name in ("relu", "clip") or (name == "leaky_relu" and args[0] >= 0) or \
        (name == "hard_sigmoid" and args[0] >= 0)


def _above_max_pool(op: Op, act: Act, rw: Rewriter) -> bool:
    """act(max_pool(layer)) is max_pool(act(layer))."""
    pool = op.operands[0].defining(MaxPool) if op.operands[0] is not None else None
    if pool is None or len(pool.out.uses) != 1 or not _never_decreases(act):
        return False
    combined = _combined(pool.x, act)
    if combined is None:
        return False
    layer = rw.insert_before(op, _with_act(pool.x, combined), name=pool.x.name)
    rw.replace(op, MaxPool(layer.out, **pool.attrs))
    return True


def _above_concat(op: Op, act: Act, rw: Rewriter) -> bool:
    """act(concat(a, b)) is concat(act(a), act(b)), done where a and b both take act on."""
    concat = op.operands[0].defining(Concat) if op.operands[0] is not None else None
    if concat is None or len(concat.out.uses) != 1:
        return False
    combined = [_combined(part, act) for part in concat.inputs]
    if any(c is None for c in combined):
        return False
    parts = [rw.insert_before(op, _with_act(part, c), name=part.name).out
             for part, c in zip(concat.inputs, combined, strict=True) if c is not None]
    rw.replace(op, Concat(tuple(parts), axis=concat.axis))
    return True
