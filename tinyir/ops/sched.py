"""Ops of the sched level: decisions about how a group of ops is executed, which do not change what it computes.

    %d = sched.stream() {steps = 49, paces = [[1, 1, 0], [1, 1, -1]], rings = [2, 48], fresh = [1, 0]}
            : tensor<1x48x48x8xf32> {
      %c = nn.conv2d(%x, @w1, @b1) {pad = [1, 1, 1, 1]} : tensor<1x48x48x8xf32>
      %d_1 = nn.depthwise_conv2d(%c, @w2, @b2) {pad = [1, 1, 1, 1]} : tensor<1x48x48x8xf32>
      sched.yield(%d_1)
    }

is both ops as if they stood alone. It is executed row by row: in step t the first computes row t, the second row t - 1;
of %c two rows are kept in a ring buffer, and the fresh one lies beside it until the second op has read it.

    %d = sched.patch() {grid = [1, 3], rows = 1} : tensor<1x48x48x8xf32> { ... }

is executed for 48 x 16 pixels of %d after the other, each time from as much of %x as these need (`tinyir.tiles`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

import numpy as np

from ..ir import Array, Value
from ..opdef import Op
from ..pace import Pace
from ..types import TensorType, Type
from .base import NnOp
from .shape import Transpose

if TYPE_CHECKING:
    from ..row_schedule import RowSchedule

__all__ = ["Empty", "Patch", "Stream", "Yield"]
_UNWRITTEN = 0xA5


@final
class Yield(Op, opname="sched.yield"):
    """The end of a region: what of it is used outside."""

    pure = False
    terminator = True

    values: tuple[Value, ...]

    def infer(self) -> tuple[Type, ...]:
        return ()


class Region(Op):
    """An op that says how those of its region are executed; it is what they are."""

    @property
    def body(self) -> list[Op]:
        """The ops of the region, without its terminator."""
        return [op for op in self.regions[0].ops if not op.terminator] if self.regions else []

    @property
    def yielded(self) -> list[Value]:
        """The values of the region that are its results, in order."""
        ends = self.regions[0].ops[-1] if self.regions and self.regions[0].ops else None
        return list(ends.values) if isinstance(ends, Yield) else []

    def infer(self) -> tuple[Type, ...]:
        return tuple(value.type for value in self.yielded)

    def require_results(self) -> None:
        """Raise CompileError if the region has none."""
        self.require(bool(self.yielded), "its region ends without sched.yield")

    def reference(self, body: Callable[..., list[Any]]) -> list[Array]:
        return body()


@final
class Stream(Region, opname="sched.stream"):
    """The ops of its region, executed row by row in `steps` steps; see `tinyir.row_schedule`.

    In step t, op number i computes rows floor((r * t + c) / s), ..., floor((r * (t + 1) + c) / s) - 1 of its result,
    clipped to it, where [r, s, c] is `paces[i]`; an op that folds rows takes in as many. `rings[i]` rows of its result
    are kept, row n in slot n mod `rings[i]`; results that are yielded are kept whole. A slice of columns has no rows of
    its own (0): its readers find them in the value that it is a part of. Where `fresh[i]` is not 0, the
    rows of a step lie in a place of that many rows until their last reader has run, and then go there: in each step
    that leaves the remainder p when divided by e, where [e, p] is `keeps[i]`.
    """

    steps: int
    paces: tuple[tuple[int, int, int], ...]
    rings: tuple[int, ...]
    fresh: tuple[int, ...] = ()             # empty: all 0
    keeps: tuple[tuple[int, int], ...] = ()  # empty: all [1, 0]

    @property
    def schedule(self) -> RowSchedule:
        from ..row_schedule import RowSchedule  # it needs the other ops

        return RowSchedule(self.steps, tuple(Pace(*p) for p in self.paces), self.rings,
                           self.fresh or (0,) * len(self.rings), self.keeps or ((1, 0),) * len(self.rings))

    def verify(self) -> None:
        from ..row_schedule import check_rows, folds_rows, in_rows

        body = self.body
        self.require_results()
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


@final
class Patch(Region, opname="sched.patch"):
    """The ops of its region, executed for a grid of tiles of its results, rows x columns, one after the other.

    Each tile is computed from as much of what the region reads as it needs; what neighbouring tiles both need is
    computed for each (Lin et al., MCUNetV2, 2021). Within a tile ops run one after the other, or row by row, `rows` of
    the fastest a step, if that is not 0: the tiles are then strips from top to bottom. Rows of the ops with the numbers
    `waits` then wait for slower readers before they go into their ring.
    """

    grid: tuple[int, int]
    rows: int = 0
    waits: tuple[int, ...] = ()

    @property
    def schedule(self) -> RowSchedule:
        """That of the rows of each strip."""
        from ..row_schedule import schedule_rows  # it needs the other ops

        body = self.body
        return schedule_rows(body, set(self.yielded), self.rows, waits={body[number] for number in self.waits})

    def verify(self) -> None:
        from ..tiles import check_tiles  # it needs the other ops

        self.require_results()
        self.require(len(self.grid) == 2 and min(self.grid) >= 1, "grid is {}, expected rows and columns",
                     list(self.grid))
        self.require(self.rows >= 0, "{} rows a step, expected at least 1, or 0 for all", self.rows)
        self.require(self.rows == 0 or self.grid[0] == 1, "strips are as high as the image, expected 1 row of tiles")
        self.require(all(0 <= number < len(self.body) for number in self.waits), "waits names ops that are not there")
        problem = check_tiles(self.body, self.yielded, self.grid)
        self.require(problem is None, "{}", problem)

    def macs(self) -> int:
        """What is computed again: the ops are counted once on their own."""
        from ..tiles import recomputed_macs

        return recomputed_macs(self.body, self.yielded, self.grid, self.rows > 0)


@final
class Empty(NnOp, opname="sched.empty"):
    """Memory for a value whose parts are inserted one after the other."""

    pure = False  # each is other memory, however alike

    result: TensorType

    def infer(self) -> TensorType:
        return self.result_of(self.result.shape, self.result.dtype, self.result.quant)

    def reference(self) -> Array:
        size = self.result.elements * self.result.dtype.numpy.itemsize
        return np.full(size, _UNWRITTEN, np.uint8).view(self.result.dtype.numpy).reshape(self.result.shape)
