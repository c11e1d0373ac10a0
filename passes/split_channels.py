"""Execute a chain of ops for some channels at a time, so that of what lies between them only these are in memory.

    %e = qnn.conv2d(%x, @w1, @b1) : tensor<1x28x28x240xi8, q<0.02:-128>>
    %d = qnn.depthwise_conv2d(%e, @w2, @b2) {pad = [2, 2, 2, 2]} : tensor<1x28x28x240xi8, q<0.01:-128>>
        ->  split{first=e, last=d, size=8}
    %d = sched.split() {parts = 30} : tensor<1x28x28x240xi8, q<0.01:-128>> {
      %e = qnn.conv2d(%x, @w1, @b1) : tensor<1x28x28x240xi8, q<0.02:-128>>
      %d_1 = qnn.depthwise_conv2d(%e, @w2, @b2) {pad = [2, 2, 2, 2]} : tensor<1x28x28x240xi8, q<0.01:-128>>
      %d_2 = sched.place(%d_1) : tensor<1x28x28x240xi8, q<0.01:-128>>
      sched.yield(%d_2)
    }

Nothing is computed twice. The ops from `first` to `last` follow each other; see `tinyir.ops.split` for what they may
be. `rows` of 1 or more lets each part run row by row, so that of its channels there are a few rows only. A layer that
sums over all channels keeps int32 sums of its result; a float one adds to the result itself, part by part, so that its
sums are rounded in another order.
"""

from __future__ import annotations

from typing import ClassVar

from tinyir.diag import did_you_mean, error
from tinyir.ir import Func, Level, Module
from tinyir.opdef import Op
from tinyir.pass_manager import Context, Pass, option
from tinyir.registry import load_plugins
from tinyir.row_schedule import schedule_rows

from ._split import put_in_split, split_roles
from ._split_ways import chain_of
from ._stored import Memory
from ._stream_ways import can_stream
from ._ways import Scene


class SplitChannels(Pass):
    """Execute a chain of ops for some channels at a time."""

    name = "split"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant", "sched")
    to_level: ClassVar[Level] = "sched"
    first: str = option("", "the value that the chain begins with")
    last: str = option("", "the value that it ends with")
    parts: int = option(0, "parts of the channels")
    size: int = option(0, "channels of a part of what the chain begins with, instead of `parts`")
    rows: int = option(0, "rows that a part computes a step; 0: whole images")

    def run(self, module: Module, ctx: Context) -> None:
        load_plugins()
        func = module.main
        chain = _chain(func, self.first, self.last)
        channels = chain[0].out.shape[-1]
        parts = self._parts(channels)
        if self.rows < 0:
            raise error(f"split: rows should be at least 0, not {self.rows}")
        _check(chain, parts, self.rows > 0)
        scene = Scene(func, module, ctx.target, Memory(func, ctx.target.align))
        first = scene.memory.place[chain[0]]
        found = chain_of(scene, first, first + len(chain))
        if found is not None and found.kept:
            schedule = schedule_rows(found.ops, set(found.kept), self.rows) if self.rows else None
            put_in_split(parts, schedule, chain, func, module)
        ctx.stat("parts", parts)
        ctx.stat("split-ops", len(chain))

    def _parts(self, channels: int) -> int:
        if (self.parts > 0) == (self.size > 0):
            raise error("split: either parts or size should be 1 or more")
        if self.size and channels % self.size:
            raise error(f"split: %{self.first} has {channels} channels, which are no parts of {self.size}",
                        help="sizes that fit are " + ", ".join(str(d) for d in range(1, channels) if channels % d == 0))
        return self.parts or channels // self.size


def _chain(func: Func, first: str, last: str) -> list[Op]:
    """The ops between those that make the values called `first` and `last`, these included."""
    by_name = {result.name: op for op in func.ops for result in op.results}
    for name in (first, last):
        if name not in by_name:
            raise error(f"split: there is no value %{name}", help=did_you_mean(name, by_name))
    begin, end = func.ops.index(by_name[first]), func.ops.index(by_name[last])
    if begin > end:
        raise error(f"split: %{last} is computed before %{first}", loc=by_name[last].loc)
    return func.ops[begin:end + 1]


def _check(chain: list[Op], parts: int, by_rows: bool) -> None:
    """Raise an error that names the op that cannot be computed part by part, or row by row."""
    for op, role in split_roles(chain).items():
        if role is None:
            raise op.error("cannot be computed for a part of the channels",
                           help="a chain has layers of groups = 1 that read what was stored before it, depthwise "
                                "layers, element-wise functions and pools behind them, at its end a 1x1 convolution")
        if role != "sums" and op.out.shape[-1] % parts:
            raise op.error(f"{op.out.shape[-1]} channels are not {parts} equal parts")
        if by_rows and not can_stream(op):
            raise op.error("cannot run row by row", help="rows = 0 computes whole images")
