"""Exact search over who lies above whom: for problems in which many blocks fit tightly, or slide over each other.

    block i meets block j       i lies above j, or j above i: the one or the other, decided for large blocks first
    low, high                   between these each block has its offset: above all that lie below it, and so on

`search` builds placements from the ground up, and decides about small blocks before it knows where the large ones go.
Here a decision is that of two blocks that meet one is the upper one; what follows from it for the offsets of both, and
for others that have no room any more on one side, is drawn until nothing changes (as in job-shop scheduling: Carlier
and Pinson, "An Algorithm for Solving the Job-Shop Problem", 1989). When all is decided the least offsets are a
placement. Each decision costs O(N (N + M)) for N blocks and M members of all sections together, so this is for hundreds
of blocks at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..ir import Array
from .problem import Problem
from .search import Outcome

__all__ = ["MOST_BLOCKS", "RelationSearch"]

MOST_BLOCKS = 250
_FAR = 1 << 40


class _Conflict(Exception):
    """There is no placement under these decisions."""


@dataclass(frozen=True)
class _State:
    """What is known at a node, in units of the alignment."""

    low: Array   # [N] the lowest offset of each block
    high: Array  # [N] the highest one
    may: Array   # [N, N] bool: block i may lie above block j, which it meets


class RelationSearch:
    """Looks for offsets within `capacity` bytes; `offsets` has them after "placed", in bytes."""

    def __init__(self, problem: Problem, capacity: int) -> None:
        self.nodes = 0
        self.offsets: list[int] = []
        self._problem = problem
        count = len(problem.blocks)
        self._above = problem.size + np.zeros((count, 1), np.int64) if problem.above is None else problem.above
        self._saved = self._at_each_time(problem.size[None, :])[0] - problem.load
        self._highest = np.array([(capacity - block.size) // problem.align for block in problem.blocks])
        self._top = (capacity + problem.slack) // problem.align
        self._below = np.minimum(self._above, problem.size)  # units of j that are below i
        pairs = np.triu(problem.overlaps, 1)
        self._first, self._second = np.nonzero(pairs)
        smaller = np.minimum(problem.size[self._first], problem.size[self._second])
        order = np.lexsort([self._second, self._first, -smaller])
        self._first, self._second = self._first[order], self._second[order]

    def run(self, nodes: int, stop: Callable[[], bool] = lambda: False) -> Outcome:
        """Search on at most `nodes` nodes, or until `stop` says so."""
        waiting: list[tuple[_State, int, int]] = []
        try:
            state: _State | None = self._infer(_State(np.zeros(len(self._highest), np.int64), self._highest,
                                                      self._problem.overlaps))
            while state is not None and self.nodes < nodes and not stop():
                self.nodes += 1
                pair = self._choose(state)
                if pair is None:
                    self.offsets = [int(offset) * self._problem.align for offset in state.low]
                    return "placed"
                waiting.append((state, *pair))
                state = self._next(waiting, self._decided(state, *pair))
        except _Conflict:
            return "impossible"
        return "impossible" if state is None else "stopped"

    def _next(self, waiting: list[tuple[_State, int, int]], state: _State | None) -> _State | None:
        """The state, or where it is a conflict the other choice of the last decision that has one left."""
        while state is None and waiting:
            before, upper, lower = waiting.pop()
            state = self._decided(before, lower, upper)
        return state

    def _decided(self, state: _State, upper: int, lower: int) -> _State | None:
        """The state in which one block lies above another; None if that cannot be."""
        may = state.may.copy()
        may[lower, upper] = False
        try:
            return self._infer(_State(state.low, state.high, may))
        except _Conflict:
            return None

    def _choose(self, state: _State) -> tuple[int, int] | None:
        """The blocks to decide about, of those that are open the two of which the smaller one is largest: the upper one
        first, as it seems likelier.
        """
        still = state.may[self._first, self._second] & state.may[self._second, self._first]
        if not still.any():
            return None
        place = int(still.argmax())
        one, other = int(self._first[place]), int(self._second[place])
        size, above = self._problem.size, self._above
        gains = size[other] - above[one, other], size[one] - above[other, one]
        middles = state.low[one] + state.high[one], state.low[other] + state.high[other]
        first = gains[0] > gains[1] if gains[0] != gains[1] else (middles[0], -size[one]) > (middles[1], -size[other])
        return (one, other) if first else (other, one)

    def _infer(self, state: _State) -> _State:
        """Draw conclusions until there are none. Raises _Conflict."""
        low, high, may = state.low, state.high, state.may
        while True:
            may = may & (low + self._above <= high[:, None])
            must = self._problem.overlaps & ~may.T
            if (must & ~may).any():
                raise _Conflict
            raised = np.maximum(low, self._lowest(low, must))
            lowered = np.minimum(high, self._highest_of(high, must))
            if (raised > lowered).any():
                raise _Conflict
            if (raised == low).all() and (lowered == high).all():
                return _State(low, high, may)
            low, high = raised, lowered

    def _lowest(self, low: Array, must: Array) -> Array:
        """Above each block that must be below, and above what all of those need together that are alive at one time."""
        alone = np.where(must, low + self._above, 0).max(axis=1)
        together = (self._at_each_time(must * self._below) - self._saved).max(axis=1)
        found: Array = np.maximum(alone, together)
        return found

    def _highest_of(self, high: Array, must: Array) -> Array:
        """Below each block that must be above, and so low that all of those have room that are alive at one time."""
        alone = np.where(must, high[:, None] - self._above, _FAR).min(axis=0)
        nearest = np.where(must, self._above, _FAR).min(axis=0)
        sizes = self._at_each_time(must.T * self._problem.size) - self._saved
        together = (self._top - sizes).min(axis=1) - nearest
        found: Array = np.minimum(alone, np.where(must.any(axis=0), together, _FAR))
        return found

    def _at_each_time(self, units: Array) -> Array:
        """[K, S] sums over the blocks that are alive in each section, of [K, N] units of each block."""
        found: Array = np.add.reduceat(units[:, self._problem.members], self._problem.member_starts, axis=1)
        return found
