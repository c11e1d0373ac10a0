"""Exact search: offsets within a capacity, or the proof that there are none.

The search knows *canonical* placements only (Moffitt, "MiniMalloc: A Lightweight Memory Allocator for
Hardware-Accelerated Machine Learning", ASPLOS 2023): every block lies on the ground or on top of another; pushing
blocks down makes any placement canonical. So it builds from the ground up. For every block that is still free it knows
the lowest offset that those placed leave, and a step decides about the lowest of them:

    either   block b lies exactly there       every free neighbour moves up to the top of b
    or       it does not: b is *banned*       then b lies on top of a free neighbour, the lowest of which lifts it

A step is wrong when a block must lie above the capacity, or when what is free in a section does not fit above the
lowest of its members (the spatial inference of that paper). A block whose neighbours all lie higher than its top is
placed at once: nothing is gained by having it elsewhere (dominance, there in a weaker form).

"On top of b" is as far above the beginning of b as the pair needs (`distances`), which may be less than b is long. Of
blocks that may begin at one address those go first that others may lie on there.

New here is *conflict-directed backjumping*: every fact knows the decisions that it rests on, as the bits of an integer.
A failure that does not rest on the last decision is no business of its alternative: the search goes back to the last
decision that it does rest on. So parts of a network that have little to do with each other do not multiply their work.

Which of several lowest blocks goes first decides whether a solution is found at once; see `Ordering`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..ir import Array
from .problem import Problem

__all__ = ["Ordering", "Outcome", "Search"]

Outcome = Literal["placed", "impossible", "stopped"]
_PLACED = 1 << 60  # stands in `low` for blocks that have their place
_ROUNDS = 2  # of lifting: more finds next to nothing


@dataclass(frozen=True)
class Ordering:
    """Which block is tried first among those with the lowest offset.

    `rank` has one number for each block, the lowest goes first. With `follow`, blocks in the section that needs the
    most for its free blocks go before all others, and `rank` breaks ties.
    """

    rank: Array
    follow: bool


@dataclass
class _State:
    """What is known at a node. A child works on its own copy."""

    low: Array              # [N] lowest offset of each free block, in units of the alignment; `_PLACED` for the others
    support: Array          # [N] the placed block that `low` is the top of, -1 for the ground
    free: Array             # [S] units that free blocks need in each section
    banned: dict[int, int]  # blocks that are not at `low`, each with the decisions that this rests on
    lifted: list[Array]     # `low`, and what each round of lifting banned blocks made of it; the last is the best


@dataclass
class _Decision:
    """`block` lies at its lowest offset; `given` are the decisions that make "there or higher" the only choices."""

    state: _State
    block: int
    given: int


class _Conflict(Exception):
    """There is no placement under these decisions (a bit for each level)."""

    def __init__(self, decisions: int) -> None:
        self.decisions = decisions


class Search:
    """Looks for offsets within `capacity` bytes, of the lowest blocks the one first that `ordering` says. A search that
    stopped goes on from there when it is run with more nodes.
    """

    def __init__(self, problem: Problem, capacity: int, ordering: Ordering) -> None:
        self.problem = problem
        self.nodes = 0
        self.offsets: list[int] = []
        count = len(problem.blocks)
        self._ordering = ordering
        self._highest = np.array([(capacity - block.size) // problem.align for block in problem.blocks])
        self._ceiling = (capacity + problem.slack) // problem.align
        self._places = [-1] * count
        self._reason = [0] * count  # of each placed block: the decisions that put it there
        self._decisions: list[_Decision] = []
        self._state = self._start()

    def run(self, nodes: int, stop: Callable[[], bool] = lambda: False) -> Outcome:
        """Search until there have been `nodes` nodes, or until `stop` says so. After "placed", `offsets` are in bytes.
        """
        decisions, state = self._decisions, self._state
        while self.nodes < nodes and not stop():
            self.nodes += 1
            try:
                self._infer(state)
                block = self._choose(state, self._ordering)
                if block is None:
                    self.offsets = [place * self.problem.align for place in self._places]
                    return "placed"
                decisions.append(_Decision(state, block, self._why_not_below(state, block)))
                state = replace(state, banned=dict(state.banned))
                self._put(state, block, 1 << (len(decisions) - 1))
            except _Conflict as conflict:
                back = _go_back(decisions, conflict.decisions)
                if back is None:
                    return "impossible"
                state = back
        self._state = state
        return "stopped"

    def _start(self) -> _State:
        count = len(self.problem.blocks)
        return _State(np.zeros(count, np.int64), np.full(count, -1), self.problem.load, {}, [])

    def _put(self, state: _State, block: int, reason: int) -> None:
        """Place `block` at its lowest offset. Arrays of `state` are replaced, never written to: others hold them."""
        problem, place = self.problem, int(state.low[block])
        tops = place + problem.tops[block]
        raised = tops > state.low
        state.low = np.maximum(state.low, tops)
        state.low[block] = _PLACED
        state.support = np.where(raised, block, state.support)
        state.free = state.free.copy()
        state.free[problem.begin[block]:problem.end[block]] -= problem.size[block]
        for other, units in problem.shared.get(block, ()):
            if state.low[other] < _PLACED:
                begin, end = (problem.begin[b] for b in (block, other)), (problem.end[b] for b in (block, other))
                state.free[max(begin):min(end)] += units
        state.banned = {b: why for b, why in state.banned.items() if not raised[b]}
        self._places[block], self._reason[block] = place, reason

    def _choose(self, state: _State, ordering: Ordering) -> int | None:
        """The block to decide about, or None when all have their places."""
        eligible = state.low.copy()
        eligible[list(state.banned)] = _PLACED
        lowest = eligible.min()
        if lowest == _PLACED:
            if state.banned:
                raise _Conflict(self._why_all(state))
            return None
        candidates = (eligible == lowest).nonzero()[0]
        if self.problem.above is not None and len(candidates) > 1:
            candidates = _undermost(candidates, self.problem.above)
        if ordering.follow and len(candidates) > 1:
            needs = self.problem.busiest(state.free)[candidates]
            candidates = candidates[needs == needs.max()]
        return int(candidates[ordering.rank[candidates].argmin()])

    # -- inference ---------------------------------------------------------------------------------------------------

    def _infer(self, state: _State) -> None:
        """Lift what is banned, see whether all still fits, place what is out of the way of everything."""
        while True:
            state.lifted = self._lift(state)
            floors = self._check(state)
            pockets = self._pockets(state, floors)
            if not pockets:
                return
            for block, reason in pockets:
                self._put(state, block, reason)

    def _lift(self, state: _State) -> list[Array]:
        """A banned block lies on top of a free neighbour, so on top of the lowest such top at least."""
        lifted = [state.low]
        if not state.banned:
            return lifted
        blocks = np.array(list(state.banned))
        feet = self.problem.feet[blocks]
        for _ in range(_ROUNDS):
            tops = (lifted[-1] + feet).min(axis=1, initial=_PLACED)
            if not (tops > lifted[-1][blocks]).any():
                break
            new = lifted[-1].copy()
            new[blocks] = np.maximum(new[blocks], tops)
            lifted.append(new)
        return lifted

    def _check(self, state: _State) -> Array:
        """The lowest offset of a free block in each section. Raises _Conflict if something does not fit."""
        problem, lows = self.problem, state.lifted[-1]
        too_high = (lows > self._highest) & (state.low < _PLACED)
        if too_high.any():
            raise _Conflict(self._why(state, np.flatnonzero(too_high)[:1], {}))
        floors: Array = np.minimum.reduceat(lows[problem.members], problem.member_starts)
        too_full = (floors + state.free > self._ceiling) & (state.free > 0)
        if too_full.any():
            members = problem.members_of(int(too_full.argmax()))
            raise _Conflict(self._why(state, members, {}))
        return floors

    def _pockets(self, state: _State, floors: Array) -> list[tuple[int, int]]:
        """Free blocks whose neighbours all lie higher than their tops, with the decisions that this rests on.

        Raises _Conflict if one is banned: with it there, or lower, every placement would be as good or better.
        """
        problem, lows = self.problem, state.lifted[-1]
        least = np.minimum.reduceat(floors[problem.spans], problem.span_starts)
        alone = ((least >= state.low) & (state.low < _PLACED)).nonzero()[0]
        found = []
        for block in alone[(lows - problem.tops[alone]).min(axis=1) >= state.low[alone]].tolist():
            reason = self._why(state, problem.neighbours[block], {})
            reason |= self._reasons(state.support[[block]])
            if block in state.banned:
                raise _Conflict(reason | state.banned[block])
            found.append((block, reason))
        return found

    # -- reasons -----------------------------------------------------------------------------------------------------

    def _why(self, state: _State, blocks: Array, known: dict[tuple[int, int], int], rounds: int | None = None) -> int:
        """The decisions that placed blocks lie where they do, and that free ones have their (lifted) lowest offset."""
        rounds = len(state.lifted) - 1 if rounds is None else rounds
        lows, low = state.lifted[rounds][blocks], state.low[blocks]
        placed = low == _PLACED
        reason = self._reasons(np.where(placed, blocks, state.support[blocks]))
        for block in blocks[lows > low].tolist():
            reason |= self._why_lifted(state, block, known, rounds)
        return reason

    def _why_lifted(self, state: _State, block: int, known: dict[tuple[int, int], int], rounds: int) -> int:
        while state.lifted[rounds - 1][block] == state.lifted[rounds][block]:
            rounds -= 1
        if (block, rounds) not in known:
            neighbours = self.problem.neighbours[block]
            known[block, rounds] = state.banned[block] | self._why(state, neighbours, known, rounds - 1)
        return known[block, rounds]

    def _reasons(self, placed: Array) -> int:
        """The decisions that `placed` rest on (-1: the ground, which rests on none)."""
        reason = 0
        for block in set(placed.tolist()):
            if block >= 0:
                reason |= self._reason[block]
        return reason

    def _why_not_below(self, state: _State, block: int) -> int:
        """The decisions that keep `block` and its free neighbours from lying below the lowest offset of `block`."""
        place, feet = state.low[block], self.problem.feet[block]
        others = (feet <= place) & (state.low < _PLACED)
        short = others & (state.low + feet <= place)  # only a ban keeps these up
        reason = self._reasons(state.support[others & ~short]) | self._reasons(state.support[[block]])
        return reason | self._why(state, short.nonzero()[0], {})

    def _why_all(self, state: _State) -> int:
        """All decisions that any fact rests on."""
        reason = self._reasons(np.flatnonzero(state.low == _PLACED))
        for why in state.banned.values():
            reason |= why
        return reason


def _undermost(blocks: Array, above: Array) -> Array:
    """Of `blocks`, which may begin at one address, those that none of the others has to lie below."""
    found: Array = blocks[(above[np.ix_(blocks, blocks)] > 0).all(axis=1)]
    return found


def _go_back(decisions: list[_Decision], conflict: int) -> _State | None:
    """Undo decisions down to the last one that `conflict` rests on, and ban what it placed; None if there is none."""
    while decisions:
        last = decisions.pop()
        bit = 1 << len(decisions)
        if conflict & bit:
            last.state.banned[last.block] = conflict & ~bit | last.given
            return last.state
    return None
