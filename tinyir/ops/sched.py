"""Ops of the sched level: decisions about how a group of ops is executed, which do not change what it computes.

    %d = sched.stream() {steps = 49, paces = [[1, 1, 0], [1, 1, -1]], rings = [2, 48], fresh = [1, 0]}
            : tensor<1x48x48x8xf32> {
      %c = nn.conv2d(%x, @w1, @b1) {pad = [1, 1, 1, 1]} : tensor<1x48x48x8xf32>
      %d_1 = nn.depthwise_conv2d(%c, @w2, @b2) {pad = [1, 1, 1, 1]} : tensor<1x48x48x8xf32>
      sched.yield(%d_1)
    }

is both ops as if they stood alone. It is executed row by row: in step t the first computes row t, the second row t - 1;
of %c two rows are kept in a ring buffer, and the fresh one lies beside it until the second op has read it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from ..ir import Array, Value
from ..opdef import Op
from ..pace import Pace
from ..types import Type
from .shape import Transpose

if TYPE_CHECKING:
    from ..row_schedule import RowSchedule

__all__ = ["Stream", "Yield"]


@final
class Yield(Op, opname="sched.yield"):
    """The end of a region: what of it is used outside."""

    pure = False
    terminator = True

    values: tuple[Value, ...]

    def infer(self) -> tuple[Type, ...]:
        return ()


@final
class Stream(Op, opname="sched.stream"):
    """The ops of its region, executed row by row in `steps` steps; see `tinyir.row_schedule`.

    In step t, op number i computes rows floor((r * t + c) / s), ..., floor((r * (t + 1) + c) / s) - 1 of its result,
    clipped to it, where [r, s, c] is `paces[i]`; an op that folds rows takes in as many. `rings[i]` rows of its result
    are kept, row n in slot n mod `rings[i]`; results that are yielded are kept whole. Where `fresh[i]` is not 0, the
    rows of a step lie in a place of that many rows until their last reader has run, and then go there: in each step
    that leaves the remainder p when divided by e, where [e, p] is `keeps[i]`.
    """

    steps: int
    paces: tuple[tuple[int, int, int], ...]
    rings: tuple[int, ...]
    fresh: tuple[int, ...] = ()             # empty: all 0
    keeps: tuple[tuple[int, int], ...] = ()  # empty: all [1, 0]

    @property
    def body(self) -> list[Op]:
        """The ops of the region, without its terminator."""
        return [op for op in self.regions[0].ops if not op.terminator] if self.regions else []

    @property
    def yielded(self) -> list[Value]:
        """The values of the region that are its results, in order."""
        ends = self.regions[0].ops[-1] if self.regions and self.regions[0].ops else None
        return list(ends.values) if isinstance(ends, Yield) else []

    @property
    def schedule(self) -> RowSchedule:
        from ..row_schedule import RowSchedule  # it needs the other ops

        return RowSchedule(self.steps, tuple(Pace(*p) for p in self.paces), self.rings,
                           self.fresh or (0,) * len(self.rings), self.keeps or ((1, 0),) * len(self.rings))

    def infer(self) -> tuple[Type, ...]:
        return tuple(value.type for value in self.yielded)

    def verify(self) -> None:
        from ..row_schedule import check_rows, folds_rows, in_rows

        body = self.body
        self.require(bool(self.yielded), "its region ends without sched.yield")
        self.require(len(self.paces) == len(body) == len(self.rings), "{} paces and {} rings for {} ops",
                     len(self.paces), len(self.rings), len(body))
        self.require(len(self.fresh) in (0, len(body)) and len(self.keeps) in (0, len(body)),
                     "{} places for fresh rows and {} keeps for {} ops", len(self.fresh), len(self.keeps), len(body))
        self.require(all(every >= 1 for every, _ in self.keeps), "rows are kept every 1 or more steps")
        self.require(all(r >= 1 and s >= 1 for r, s, _ in self.paces), "a pace is [rows >= 1, steps >= 1, shift]")
        for op in body:
            self.require(folds_rows(op) or in_rows(op), "{} cannot be computed row by row", op.opname)
            whole = isinstance(op, Transpose) and not folds_rows(op) and op.x.op in body
            self.require(not whole, "%{} is transposed before all of it is there", op.out.name)
        problem = check_rows(body, self.schedule, self.yielded)
        self.require(problem is None, "{}", problem)

    def reference(self, body: Callable[..., list[Any]]) -> list[Array]:
        return body()

    def macs(self) -> int:
        return 0  # its ops are counted on their own
