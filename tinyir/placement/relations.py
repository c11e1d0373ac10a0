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
from dataclasses import dataclass, replace

import numpy as np

from ..ir import Array
from .problem import Problem
from .search import Outcome

__all__ = ["MOST_BLOCKS", "RelationSearch"]

MOST_BLOCKS = 250


class _Conflict(Exception):
    """There is no placement under these decisions."""


@dataclass(frozen=True)
class _State:
    """What is known at a node, in units of the alignment. What follows from `may` alone is kept beside it."""

    low: Array    # [N] the lowest offset of each block
    high: Array   # [N] the highest one
    may: Array    # [N, N] bool: block i may lie above block j, which it meets
    under: Array  # [N] how low it may be for all those together that have to be below it
    roof: Array   # [N] how high for those that have to be above it
    begin: int = 0  # all pairs before this one are decided about


class RelationSearch:
    """Looks for offsets within `capacity` bytes; `offsets` has them after "placed", in bytes. A search that stopped
    goes on from there when it is run with more nodes.
    """

    def __init__(self, problem: Problem, capacity: int) -> None:
        self.nodes = 0
        self.offsets: list[int] = []
        self._problem = problem
        count = len(problem.blocks)
        short = int(problem.size.sum()) + capacity < 1 << 28
        kind, self._far = (np.int32, 1 << 30) if short else (np.int64, 1 << 60)  # units that nothing has
        self._size = problem.size.astype(kind)
        above = problem.size + np.zeros((count, 1), np.int64) if problem.above is None else problem.above
        self._above = above.astype(kind)
        self._below = np.minimum(self._above, self._size)  # units of j that are below i
        self._saved = self._at_each_time(self._size[None, :])[0] - problem.load.astype(kind)
        self._highest = np.array([(capacity - block.size) // problem.align for block in problem.blocks], kind)
        self._top = ((capacity + problem.slack) // problem.align).astype(kind)
        first, second = np.nonzero(np.triu(problem.overlaps, 1))
        order = np.lexsort([second, first, -np.minimum(problem.size[first], problem.size[second])])
        self._pairs = first[order] * count + second[order], second[order] * count + first[order]
        self._waiting: list[tuple[_State, int, int]] = []
        self._state: _State | None = None

    def run(self, nodes: int, stop: Callable[[], bool] = lambda: False) -> Outcome:
        """Search until there have been `nodes` nodes, or until `stop` says so."""
        try:
            self._state = self._state or self._start()
        except _Conflict:
            return "impossible"
        while self._state is not None and self.nodes < nodes and not stop():
            self.nodes += 1
            state, pair = self._choose(self._state)
            if pair is None:
                self.offsets = [int(offset) * self._problem.align for offset in state.low]
                return "placed"
            self._waiting.append((state, *pair))
            self._state = self._next(self._decided(state, *pair))
        return "impossible" if self._state is None else "stopped"

    def _start(self) -> _State:
        none = np.zeros_like(self._highest)
        state = _State(none, self._highest, self._problem.overlaps, none, none + self._far)
        return self._infer(state, state.may)

    def _next(self, state: _State | None) -> _State | None:
        """The state, or where it is a conflict the other choice of the last decision that has one left."""
        while state is None and self._waiting:
            before, upper, lower = self._waiting.pop()
            state = self._decided(before, lower, upper)
        return state

    def _decided(self, state: _State, upper: int, lower: int) -> _State | None:
        """The state in which one block lies above another; None if that cannot be."""
        may = state.may.copy()
        may[lower, upper] = False
        try:
            return self._infer(state, may)
        except _Conflict:
            return None

    def _choose(self, state: _State) -> tuple[_State, tuple[int, int] | None]:
        """The blocks to decide about, of those that are open the two of which the smaller one is largest: the upper one
        first, as it seems likelier. And the state, which knows what is decided before them.
        """
        one_way, other_way = (pairs[state.begin:] for pairs in self._pairs)
        still = state.may.take(one_way) & state.may.take(other_way)
        if not still.any():
            return state, None
        place = int(still.argmax())
        one, other = divmod(int(one_way[place]), len(state.low))
        size, above = self._size, self._above
        gains = size[other] - above[one, other], size[one] - above[other, one]
        middles = state.low[one] + state.high[one], state.low[other] + state.high[other]
        first = gains[0] > gains[1] if gains[0] != gains[1] else (middles[0], -size[one]) > (middles[1], -size[other])
        return replace(state, begin=state.begin + place), (one, other) if first else (other, one)

    def _infer(self, known: _State, may: Array) -> _State:
        """Draw conclusions until there are none from what was known, now that fewer blocks `may` lie above others.
        Raises _Conflict.
        """
        low, high, under, roof, before = known.low, known.high, known.under, known.roof, known.may
        apart = np.where(self._problem.overlaps & ~before.T, self._above, -self._far)  # i has to be so far above j
        while True:
            may = may & (low + self._above <= high[:, None])
            closed = (before ^ may).ravel().nonzero()[0]
            if len(closed):
                lower, upper = np.divmod(closed, len(low))
                if not may[upper, lower].all():
                    raise _Conflict
                apart[upper, lower] = self._above[upper, lower]
                before, under, roof = may, self._stacked(under, apart, upper), self._hung(roof, apart, lower)
            raised = np.maximum(np.maximum(low, under), (low + apart).max(axis=1))
            lowered = np.minimum(np.minimum(high, roof), (high[:, None] - apart).min(axis=0))
            if (raised > lowered).any():
                raise _Conflict
            if (raised == low).all() and (lowered == high).all():
                return _State(low, high, may, under, roof, known.begin)
            low, high = raised, lowered

    def _stacked(self, under: Array, apart: Array, blocks: Array) -> Array:
        """`under`, made anew for some blocks: what all those need together that have to be below and are alive at one
        time.
        """
        some, found = np.unique(blocks), under.copy()
        sizes = np.where(apart[some] >= 0, self._below[some], 0)
        found[some] = (self._at_each_time(sizes) - self._saved).max(axis=1)
        return found

    def _hung(self, roof: Array, apart: Array, blocks: Array) -> Array:
        """`roof`, made anew for some blocks: so low that all of those have room that have to be above and are alive at
        one time.
        """
        some, found = np.unique(blocks), roof.copy()
        above = apart[:, some].T
        sizes = self._at_each_time(np.where(above >= 0, self._size, 0)) - self._saved
        found[some] = (self._top - sizes).min(axis=1) - np.where(above >= 0, above, self._far).min(axis=1)
        return found

    def _at_each_time(self, units: Array) -> Array:
        """[K, S] sums over the blocks that are alive in each section, of [K, N] units of each block."""
        found: Array = np.add.reduceat(units[:, self._problem.members], self._problem.member_starts, axis=1)
        return found
