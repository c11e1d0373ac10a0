"""A group of ops computed for some channels at a time, one part of them after the other.

    %d, %m = sched.split() {parts = 30} : (tensor<1x28x28x240xi8>, tensor<1x1x1x240xi8>) {
      %e = qnn.conv2d(%x, @w1, @b1) : tensor<1x28x28x240xi8>            makes channels of its own
      %f = qnn.depthwise_conv2d(%e, @w2, @b2) {...} : tensor<1x28x28x240xi8>     channel for channel
      %p = sched.place(%f) : tensor<1x28x28x240xi8>                     the parts, put together
      %n = qnn.reduce_mean(%f) {axes = [1, 2]} : tensor<1x1x1x240xi8>
      sched.yield(%p, %n)
    }

is these ops as if they stood alone. They are executed for 8 of the 240 channels, then for the next 8, and so on, so
that %e and %f hold 8 channels only. Nothing is computed twice. Inside there may be a `sched.stream` of them, which then
runs once for each part.

What is used outside is put together from its parts by `sched.place`, is one pixel (all of its channels lie behind each
other), or is the result of an op that sums over all channels, a 1x1 convolution or a dense layer: it ends the region,
and its sums are kept while the parts go by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, final

from ..ir import Array, Const, Value
from ..opdef import Op
from ..types import TensorType, Type
from .base import Elementwise
from .conv import Conv2D, DepthwiseConv2D
from .eltwise import Unary
from .linear import Dense
from .pool import AvgPool, MaxPool
from .qconv import QConv2D, QDense, QDepthwiseConv2D
from .qeltwise import QAvgPool, QReduceMean
from .quant import Lookup
from .reduce import ReduceMean
from .sched import Stream, Yield

__all__ = ["ChannelRole", "Place", "Split", "channel_role"]

ChannelRole = Literal["makes", "follows", "sums"]
"""What an op is in a group that is computed part by part: it makes channels from a stored tensor; it computes each
channel from the same one of its operand; it sums over all channels of its operand."""

_FOLLOWERS = (DepthwiseConv2D, QDepthwiseConv2D, Unary, Lookup, MaxPool, AvgPool, QAvgPool, ReduceMean, QReduceMean)

_LAYERS = (Conv2D, QConv2D, Dense, QDense)


@final
class Place(Elementwise, opname="sched.place"):
    """x; in a `sched.split` the whole tensor, put together from its parts."""

    x: Value

    def infer(self) -> Type:
        image = self.x.type.rank == 4 and self.x.shape[0] == 1
        self.require(image, "x is {}, expected one image, [1, H, W, C]", self.x.type)
        return self.x.type

    def reference(self, x: Array) -> Array:
        return x


@final
class Split(Op, opname="sched.split"):
    """The ops of its region, executed for one of `parts` equal parts of their channels after the other."""

    parts: int

    @property
    def body(self) -> list[Op]:
        """The ops of the region, without its terminator."""
        return [op for op in self.regions[0].ops if not op.terminator] if self.regions else []

    @property
    def ops(self) -> list[Op]:
        """What is computed: the ops of the region and of the streams in it."""
        return [inner for op in self.body for inner in (op.body if isinstance(op, Stream) else [op])]

    @property
    def yielded(self) -> list[Value]:
        """The values of the region that are its results, in order."""
        ends = self.regions[0].ops[-1] if self.regions and self.regions[0].ops else None
        return list(ends.values) if isinstance(ends, Yield) else []

    def root(self, value: Value) -> Value:
        """The value that `value`, which may be the result of a stream in the region, is."""
        stream = value.op
        if not isinstance(stream, Stream) or stream not in self.body:
            return value
        return stream.yielded[stream.results.index(value)]  # type: ignore[arg-type]

    def roles(self) -> dict[Op, ChannelRole | None]:
        """What each op of the region and of the streams in it is."""
        inside: set[Value] = set()
        found: dict[Op, ChannelRole | None] = {}
        for op in self.body:
            for inner in op.body if isinstance(op, Stream) else [op]:
                found[inner] = channel_role(inner, inside)
                inside.update(inner.results)
            inside.update(op.results)
        return found

    def infer(self) -> tuple[Type, ...]:
        return tuple(value.type for value in self.yielded)

    def verify(self) -> None:
        self.require(bool(self.yielded), "its region ends without sched.yield")
        self.require(self.parts >= 1, "{} parts, expected at least 1", self.parts)
        roles = self.roles()
        for op, role in roles.items():
            self.require(role is not None, "{} cannot be computed part by part", op.opname)
            if role == "sums":
                used = any(not user.terminator for user in self._readers(op.out))
                self.require(not used, "%{} is used inside, before all parts are summed", op.out.name)
                continue
            channels = op.out.shape[-1]
            self.require(channels % self.parts == 0, "%{} has {} channels, which are not {} equal parts", op.out.name,
                         channels, self.parts)
        for value in self.yielded:
            maker = self.root(value).op
            whole = isinstance(maker, Place) or (maker is not None and roles.get(maker) == "sums")
            self.require(whole or _is_pixel(value), "%{} is used outside, but its parts are not put together",
                         value.name)

    def _readers(self, value: Value) -> list[Op]:
        """The ops that use a value of the region, or what it is behind its stream."""
        users = list(value.users)
        for stream in (op for op in self.body if isinstance(op, Stream)):
            users += [u for v, r in zip(stream.yielded, stream.results, strict=True) if v is value for u in r.users]
        return users

    def reference(self, body: Callable[..., list[Any]]) -> list[Array]:
        return body()

    def macs(self) -> int:
        return 0  # its ops are counted on their own


def channel_role(op: Op, inside: set[Value]) -> ChannelRole | None:
    """What `op` can be in a group that is computed part by part, if the group makes the values `inside`; None: nothing.
    """
    if len(op.results) != 1 or not isinstance(op.out.type, TensorType):
        return None
    made = [v for v in op.reads if v in inside]
    constant = all(isinstance(v, Const) for v in op.reads[1:])
    if isinstance(op, _LAYERS):
        if not constant or getattr(op, "groups", 1) != 1:
            return None
        return "makes" if not made else "sums" if _is_pointwise(op) else None
    if not made or made[0] is not op.reads[0]:
        return None
    if isinstance(op, Place):
        return "follows"
    follows = isinstance(op, _FOLLOWERS) and constant and _keeps_channels(op)
    return "follows" if follows else None


def _is_pointwise(op: Op) -> bool:
    if isinstance(op, (Dense, QDense)):
        return True
    assert isinstance(op, (Conv2D, QConv2D))
    return op.kernel == (1, 1) and op.stride == (1, 1) and not any(op.pad)


def _keeps_channels(op: Op) -> bool:
    """Whether each channel of the result comes from the same one of the operand (or from one, for depthwise layers)."""
    if not isinstance(op, (ReduceMean, QReduceMean)):
        return True
    last = op.x.type.rank - 1
    return bool(op.axes) and all(axis % op.x.type.rank != last for axis in op.axes)


def _is_pixel(value: Value) -> bool:
    """Whether the parts of a value lie behind each other."""
    return value.type.elements == value.shape[-1]
