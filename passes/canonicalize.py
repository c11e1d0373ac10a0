"""Bring the graph to the one form that other passes expect: no dead code, nothing twice, no op that does nothing.

    %a = nn.div(%x, @four) : tensor<1x8xf32>                     // @four = splat<4.0>
    %b = nn.reshape(%a) : tensor<8x1xf32>
    %c = nn.reshape(%b) : tensor<2x4xf32>
    %d = nn.relu(%c) : tensor<2x4xf32>
    %e = nn.relu(%d) : tensor<2x4xf32>
        ->
    %a = nn.mul(%x, @quarter) : tensor<1x8xf32>                  // @quarter = splat<0.25>
    %c = nn.reshape(%a) : tensor<2x4xf32>
    %d = nn.relu(%c) : tensor<2x4xf32>

Normal forms: constants are the second operand of add and mul; a constant is not subtracted or divided by but added or
multiplied with; reductions keep their dimensions and a reshape drops them; a pool over the whole image is a reduction;
a matrix product with a constant matrix is nn.dense; a convolution with one input channel a group is depthwise.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from tinyir.ir import Array, Block, Const, Module, Value
from tinyir.opdef import Op
from tinyir.ops import (
    Abs,
    Add,
    Cast,
    Clip,
    Div,
    LeakyRelu,
    Maximum,
    Minimum,
    Mul,
    Neg,
    Pow,
    PRelu,
    Reciprocal,
    Relu,
    Sqrt,
    Sub,
)
from tinyir.pass_manager import Context, Pass
from tinyir.rewrite import Rewriter, rewrites

from ._linear_identities import LinearIdentities
from ._shape_identities import ShapeIdentities
from ._values import broadcast, is_constant, is_float, is_nonnegative, stem, uniform, used_once

_INF = float("inf")


class Canonicalize(ShapeIdentities, LinearIdentities, Pass):
    """Drop what has no effect, merge what is equal, bring ops to one form."""

    name = "canonicalize"

    def run(self, module: Module, ctx: Context) -> None:
        version = -1
        while version != module.version:
            version = module.version
            super().run(module, ctx)
            rewriter = self.rewriter(module, ctx)
            _merge_equal_consts(module, rewriter)
            for func in module.funcs.values():
                _merge_equal_ops(func.block, rewriter)
                _drop_dead(func.block, rewriter)
            module.drop_unused_consts()

    # -- neutral elements, order of operands ---------------------------------------------------------------------------

    @rewrites(Add, Sub)
    def drop_zero(self, op: Add | Sub, rw: Rewriter) -> None:
        """x + 0 and x - 0."""
        if uniform(op.b) == 0 and op.act == "none" and op.out.type == op.a.type:
            rw.replace(op, op.a)

    @rewrites(Mul)
    def drop_one(self, op: Mul, rw: Rewriter) -> None:
        """x * 1."""
        if uniform(op.b) == 1 and op.act == "none" and op.out.type == op.a.type:
            rw.replace(op, op.a)

    @rewrites(Div)
    def drop_division_by_one(self, op: Div, rw: Rewriter) -> None:
        """x / 1."""
        if uniform(op.b) == 1 and op.out.type == op.a.type:
            rw.replace(op, op.a)

    @rewrites(Add, Mul)
    def constant_second(self, op: Add | Mul, rw: Rewriter) -> None:
        """c + x is x + c."""
        if is_constant(op.a) and not is_constant(op.b):
            rw.replace(op, type(op)(op.b, op.a, act=op.act, act_args=op.act_args))

    @rewrites(Sub)
    def subtract_by_adding(self, op: Sub, rw: Rewriter) -> None:
        """x - c is x + (-c), exactly."""
        data = op.b.data
        if data is not None and is_float(op.b):
            rw.replace(op, Add(op.a, rw.const(-data, stem(op.b), op.b.loc), act=op.act, act_args=op.act_args))

    @rewrites(Div)
    def divide_by_multiplying(self, op: Div, rw: Rewriter) -> None:
        """x / c is x * (1/c), within one more rounding."""
        data = op.b.data
        if data is None or not is_float(op.b) or np.any(data == 0):
            return
        inverse = (1 / data.astype(np.float64)).astype(data.dtype)
        tiny = np.finfo(data.dtype).tiny
        if np.all(np.isfinite(inverse)) and np.all(np.abs(inverse) >= tiny):
            rw.replace(op, Mul(op.a, rw.const(inverse, stem(op.b), op.b.loc)))

    @rewrites(Add, Mul)
    def merge_constants(self, op: Add | Mul, rw: Rewriter) -> None:
        """(x + c) + d is x + (c + d); the same for products."""
        kind = type(op)
        inner = op.a.defining(kind)
        if inner is None or inner.act != "none" or not used_once(inner.out) or not is_float(op.a):
            return
        first, second = inner.b.data, op.b.data
        if first is None or second is None:
            return
        data: Array = first + second if kind is Add else first * second
        if data.size > max(first.size, second.size) or broadcast(inner.a.shape, data.shape) != op.out.shape:
            return
        rw.replace(op, kind(inner.a, rw.const(data, stem(inner.b), op.b.loc), act=op.act, act_args=op.act_args))

    @rewrites(Pow)
    def known_exponent(self, op: Pow, rw: Rewriter) -> None:
        """x ** 1, 2, 0.5 and -1 have ops of their own."""
        exponent = uniform(op.b)
        if exponent is None or not is_float(op.a) or op.out.type != op.a.type:
            return
        if exponent == 1:
            rw.replace(op, op.a)
        elif exponent == 2:
            rw.replace(op, Mul(op.a, op.a))
        elif exponent == 0.5:
            rw.replace(op, Sqrt(op.a))
        elif exponent == -1:
            rw.replace(op, Reciprocal(op.a))

    # -- twice the same, and clamps ------------------------------------------------------------------------------------

    @rewrites(Neg)
    def drop_double_negation(self, op: Neg, rw: Rewriter) -> None:
        """-(-x)."""
        inner = op.x.defining(Neg)
        if inner is not None:
            rw.replace(op, inner.x)

    @rewrites(Abs, Relu)
    def drop_sign_test(self, op: Abs | Relu, rw: Rewriter) -> None:
        """|x| and relu(x) of what is not negative."""
        if is_nonnegative(op.x):
            rw.replace(op, op.x)

    @rewrites(Cast)
    def drop_cast(self, op: Cast, rw: Rewriter) -> None:
        """A cast to the type that x has."""
        if op.out.type == op.x.type:
            rw.replace(op, op.x)

    @rewrites(Clip)
    def simplify_clip(self, op: Clip, rw: Rewriter) -> None:
        """A clip that cannot bind goes, one from zero up is relu, one of a clip or relu merges with it."""
        low, high = op.low, op.high
        if high == _INF and (low == -_INF or (low <= 0 and is_nonnegative(op.x))):
            rw.replace(op, op.x)
        elif low == 0 and high == _INF and is_float(op.x):
            rw.replace(op, Relu(op.x))
        elif (bounds := _clamped(op.x)) is not None and bounds[0] <= bounds[1] and low <= high:
            source, merged = op.x.op, (min(max(bounds[0], low), high), min(max(bounds[1], low), high))
            assert isinstance(source, (Clip, Relu))
            rw.replace(op, Clip(source.x, low=merged[0], high=merged[1]))

    @rewrites(Maximum, Minimum)
    def clip_by_constant(self, op: Maximum | Minimum, rw: Rewriter) -> None:
        """max(x, 3) and min(x, 3) are clips."""
        for value, bound in ((op.a, uniform(op.b)), (op.b, uniform(op.a))):
            if bound is not None and is_float(value) and value.type == op.out.type:
                limits = {"low": bound} if isinstance(op, Maximum) else {"high": bound}
                rw.replace(op, Clip(value, **limits))
                return

    @rewrites(LeakyRelu)
    def simplify_leaky_relu(self, op: LeakyRelu, rw: Rewriter) -> None:
        """Slope 1 does nothing, slope 0 is relu."""
        if op.alpha == 1:
            rw.replace(op, op.x)
        elif op.alpha == 0:
            rw.replace(op, Relu(op.x))

    @rewrites(PRelu)
    def uniform_slope(self, op: PRelu, rw: Rewriter) -> None:
        """prelu with one slope is leaky relu."""
        slope = uniform(op.slope)
        if slope is not None and op.out.type == op.x.type:
            rw.replace(op, LeakyRelu(op.x, alpha=slope))


def _clamped(value: Value) -> tuple[float, float] | None:
    """The bounds that the clip or relu which makes `value` puts on it."""
    clip = value.defining(Clip)
    if clip is not None:
        return clip.low, clip.high
    return (0.0, _INF) if value.defining(Relu) is not None else None


# -- the whole block -----------------------------------------------------------------------------------------------


def _merge_equal_consts(module: Module, rw: Rewriter) -> None:
    """Constants with equal elements become one."""
    seen: dict[tuple[Any, bytes], Const] = {}
    for const in list(module.consts.values()):
        data = const.data
        if data is None:
            continue
        key = (const.type, hashlib.sha256(np.ascontiguousarray(data).tobytes()).digest())
        first = seen.setdefault(key, const)
        if first is not const and const.uses:
            rw.replace_uses(const, first)


def _merge_equal_ops(block: Block, rw: Rewriter) -> None:
    """Of pure ops with the same operands and attributes the first one serves all (common subexpressions)."""
    seen: dict[tuple[Any, ...], Op] = {}
    for op in list(block.ops):
        if not op.pure or op.regions or not op.results:
            continue
        key = (type(op), tuple(op.operands), tuple(op.attrs.items()), tuple(r.type_ for r in op.results),
               tuple(len(group) for group in op.operand_groups))
        first = seen.setdefault(key, op)
        if first is not op:
            rw.replace(op, tuple(first.results))


def _drop_dead(block: Block, rw: Rewriter) -> None:
    """Pure ops whose results nobody reads go, last first."""
    for op in reversed(list(block.ops)):
        if op.block is not None and op.pure and op.results and not any(r.uses for r in op.results):
            rw.erase(op)
