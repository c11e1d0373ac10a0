"""Which values of a float network are to be stored as integers: where a range is measured and a quantize will stand.

    %c = nn.conv2d(%x, @w, @b)          no: the relu behind it belongs to the convolution
    %r = nn.relu(%c)                    yes
    %m = nn.max_pool(%r)                no: it moves what is stored already
    %h = nn.hard_swish(%m)              no: two functions of one value are one table
    %t = nn.tanh(%h)                    yes

It is `fuse-quantized` that makes integer ops later; this says what it needs to find.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tinyir.diag import origins
from tinyir.ir import Const, Module, Value
from tinyir.opdef import Op
from tinyir.ops import (
    Add,
    AvgPool,
    BroadcastTo,
    Clip,
    Concat,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    MatMul,
    MaxPool,
    Mul,
    Pad,
    ReduceMean,
    Relu,
    Reshape,
    Resize,
    Return,
    Slice,
    Softmax,
    Tile,
    Transpose,
    Unary,
)
from tinyir.types import F32

Layer = Conv2D | DepthwiseConv2D | Dense
LAYERS = (Conv2D, DepthwiseConv2D, Dense)
MOVERS = (Reshape, Transpose, Slice, BroadcastTo, Tile, MaxPool)


def quantised_layer(op: Op | None) -> Layer | None:
    """`op` if it is a layer that integers can compute: its weights and bias are known."""
    known = isinstance(op, LAYERS) and op.act == "none" and isinstance(op.weight, Const) \
        and (op.bias is None or isinstance(op.bias, Const))
    return op if known and isinstance(op, LAYERS) else None


def moves(op: Op) -> bool:
    """Whether `op` moves stored integers as they are."""
    if isinstance(op, Pad):
        return op.mode != "constant" or op.value == 0
    return isinstance(op, MOVERS) or (isinstance(op, Resize) and op.mode == "nearest")


def is_kept(op: Op, names: Collection[str]) -> bool:
    """Whether the user wants `op` to stay in float: one of `names` is its node, or its result."""
    return any(name in names for name in (*origins(op.loc), *(r.name for r in op.results)))


class Points:
    """The values of one module that are to be stored as integers."""

    def __init__(self, module: Module, keep: Collection[str] = ()) -> None:
        self.module = module
        self.keep = frozenset(keep)

    def __iter__(self) -> Iterator[Value]:
        """All points of @main, in the order in which they are computed."""
        main = self.module.main
        yield from (a for a in main.args if self.is_point(a))
        for op in main.ops:
            yield from (r for r in op.results if self.is_point(r))

    def islands(self) -> list[Op]:
        """The ops that stay in float."""
        return [op for op in self.module.main.ops
                if op.results and not op.terminator and op.results[0].type.dtype == F32 and not self.integer(op)]

    def integer(self, op: Op) -> bool:
        """Whether there is an integer form of `op`."""
        if op.terminator or is_kept(op, self.keep) or any(v.type.dtype != F32 for v in (*op.reads, *op.results)):
            return False
        if isinstance(op, LAYERS):
            return quantised_layer(op) is not None
        if isinstance(op, (Add, Mul)):
            return op.act == "none" and not all(isinstance(v, Const) for v in op.reads)
        if isinstance(op, AvgPool):
            return op.dilation == (1, 1) and not any(op.ceil_pad)
        return moves(op) or isinstance(op, (MatMul, ReduceMean, Softmax, Concat, Unary))

    def is_point(self, value: Value) -> bool:
        """Whether `value` is to be stored as integers."""
        if value.type.dtype != F32 or not value.uses:
            return False
        op = value.op
        if op is None:
            return any(self.integer(user) for user in value.users)
        if not self.integer(op):  # a function right behind it is better computed in float as well
            return value.only_user(Unary) is None and any(self.integer(user) for user in value.users)
        return not moves(op) and not self.absorbed(value)

    def absorbed(self, value: Value) -> bool:
        """Whether the only reader of `value` is a function that is computed with the op that makes it."""
        user = value.only_user(Unary)
        op = value.op
        if user is None or op is None or not self.integer(user) or not self.integer(op) or moves(op):
            return False
        clamps = isinstance(user, (Relu, Clip))
        return clamps if not isinstance(op, Unary) or self._clamps_layer(op) else True

    def _clamps_layer(self, op: Unary) -> bool:
        """Whether `op` is computed by a layer in front of it, not by a table."""
        return self.absorbed(op.x) and (not isinstance(op.x.op, Unary) or self._clamps_layer(op.x.op))

    def returned(self, value: Value) -> bool:
        """Whether the function returns `value`."""
        return any(isinstance(user, Return) for user in value.users)
