"""The least peak: greedy answers, then exact searches for one capacity after the other, within a budget of nodes.

Between the proved lower bound and the best placement known, capacities are tried from the bottom: a placement there is
the end, a refutation moves the bound up. Where a search gives up, halving what is left improves the placement; what
remains between the two is the gap.

Each capacity is tried with several orderings in turn, in a first round on few nodes, then on twice as many: the time to
a solution varies by orders of magnitude from one ordering to the next, and rarely all of them are slow. Where blocks
slide over each other, half of the nodes go to another kind of search first (`relations`).

The budget counts nodes, not seconds: the same blocks get the same offsets on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..diag import error
from ..ir import Array
from .block import Block, Placement
from .bounds import Heights, load
from .distances import Pairs, check_pairs, part_of
from .greedy import peak_of, place_greedily
from .problem import Problem, split
from .relations import MOST_BLOCKS, RelationSearch
from .search import Ordering, Outcome, Search

__all__ = ["DEFAULT_NODES", "place"]

DEFAULT_NODES = 20_000  # one or two seconds where all of them are needed, which is rare
_FIRST_EFFORT = 4000   # nodes for one capacity in the first round, for all orderings together
_MOST_KEPT = 2         # searches that stopped, for so many capacities: each has a state for every decision
_RELATION = 10         # a decision about two blocks takes as long as so many nodes


def place(blocks: Sequence[Block], align: int = 1, *, pairs: Pairs | None = None, capacity: int | None = None,
          nodes: int = DEFAULT_NODES, stop: Callable[[], bool] = lambda: False) -> Placement:
    """Offsets for `blocks`, multiples of `align` bytes, whose peak is as low as `nodes` nodes of search can make it.

    Blocks in `pairs` may slide over each other (`distances`). With `capacity` any peak of at most so many bytes will
    do. `stop` is asked before each node whether to give up. Blocks of size 0 lie at 0. Raises CompileError on blocks
    with a negative size or without any lifetime, and on pairs that make no sense.
    """
    _check(blocks)
    check_pairs(blocks, pairs or {})
    real = [number for number, block in enumerate(blocks) if block.size]
    minimiser = _Minimiser([blocks[n] for n in real], part_of(pairs or {}, real), align, capacity or 0, nodes, stop)
    minimiser.run()
    offsets = [0] * len(blocks)
    for number, offset in zip(real, minimiser.offsets, strict=True):
        offsets[number] = offset
    return Placement(tuple(offsets), minimiser.peak, minimiser.bound, minimiser.nodes)


def _check(blocks: Sequence[Block]) -> None:
    for number, block in enumerate(blocks):
        if block.size < 0 or block.lower >= block.upper:
            raise error(f"block {number} has size {block.size} and lives over [{block.lower}, {block.upper})",
                        help="sizes are not negative, and lower < upper")


class _Minimiser:
    """The state of `place`: `bound` <= the least peak <= `peak`, which is that of `offsets`."""

    def __init__(self, blocks: Sequence[Block], pairs: Pairs, align: int, enough: int, nodes: int,
                 stop: Callable[[], bool]) -> None:
        self._blocks, self._align, self._enough, self._budget, self._stop = blocks, align, enough, nodes, stop
        self._pairs = pairs
        self.nodes = 0
        self.bound = load(blocks, align, pairs)
        self.offsets = place_greedily(blocks, align, max(self.bound, enough), pairs)
        self.peak = peak_of(blocks, self.offsets)
        self._groups = [] if self._done else [_Group(part, blocks, align, pairs) for part in split(blocks)]

    def run(self) -> None:
        """Bring `bound` and `peak` together, as far as the budget goes."""
        if self._done:
            return
        self._heights = Heights(self._blocks, self._align, self.peak, self._pairs)
        self.bound = min(self._heights.at_least(self.bound), self.peak)
        effort = _FIRST_EFFORT
        while not self._finished:
            self._round(effort)
            effort *= 2

    @property
    def _done(self) -> bool:
        return self.peak <= max(self.bound, self._enough)

    @property
    def _finished(self) -> bool:
        """Whether there is nothing left to do, or nothing to do it with."""
        refuted = 0 < self._enough < self.bound
        return self._done or refuted or self.nodes >= self._budget or self._stop()

    def _round(self, effort: int) -> None:
        """Try the lowest capacity; where `effort` nodes do not decide it, halve what is between it and the peak."""
        low = self.bound  # what is below is refuted, or was too hard in this round
        while low < self.peak and not self._finished:
            target = low if low == self.bound else self._heights.at_least((low + self.peak - 1) // 2)
            target = min(max(target, self._enough), self.peak - 1)
            outcome = self._reach(target, min(effort, self._budget - self.nodes))
            if outcome == "impossible":
                self.bound = min(self._heights.at_least(target + 1), self.peak)
            low = max(self.bound, target + 1) if outcome != "placed" else low
            if self._enough and outcome == "stopped":
                return

    def _reach(self, target: int, effort: int) -> Outcome:
        """Look for offsets whose peak is at most `target`, in each group of blocks that has none yet."""
        for group in self._groups:
            if peak_of(group.blocks, [self.offsets[number] for number in group.numbers]) <= target:
                continue
            outcome, offsets, nodes = group.search(target, effort, self._stop)
            self.nodes += nodes
            if outcome != "placed":
                return outcome
            for number, offset in zip(group.numbers, offsets, strict=True):
                self.offsets[number] = offset
        self.peak = peak_of(self._blocks, self.offsets)
        return "placed"


class _Group:
    """Blocks that have nothing to do with others, and the searches for their places that have not come to an end: a
    round with more nodes goes on where the one before it stopped.
    """

    def __init__(self, numbers: Sequence[int], blocks: Sequence[Block], align: int, pairs: Pairs) -> None:
        self.numbers = numbers
        self.blocks = [blocks[number] for number in numbers]
        self._pairs = part_of(pairs, numbers)
        self._problem = Problem.of(self.blocks, align, self._pairs)
        self._orderings = _orderings(self._problem)
        self._relations: dict[int, RelationSearch] = {}
        self._searches: dict[int, list[Search]] = {}

    def search(self, target: int, effort: int, stop: Callable[[], bool]) -> tuple[Outcome, list[int], int]:
        """The outcome for a capacity of `target` bytes, the offsets after "placed", and the nodes that it took, those
        of rounds before included, as if it had begun anew.
        """
        for kept in (self._relations, self._searches):
            while len(kept) > _MOST_KEPT and target not in kept:
                del kept[next(iter(kept))]  # begun anew it comes to the same
        outcome: Outcome = "stopped"
        nodes = 0
        if self._pairs and len(self.blocks) <= MOST_BLOCKS:
            limit = effort // (2 * _RELATION) + 1
            if target not in self._relations:
                self._relations[target] = RelationSearch(self._problem, target)
            relations = self._relations[target]
            outcome = relations.run(limit, stop)
            nodes = min(relations.nodes, limit) * _RELATION
            if outcome != "stopped":
                return outcome, relations.offsets, nodes
        limit = effort // len(self._orderings) + 1
        if target not in self._searches:
            self._searches[target] = [Search(self._problem, target, ordering) for ordering in self._orderings]
        for search in self._searches[target]:
            outcome = search.run(limit, stop)
            nodes += min(search.nodes, limit)
            if outcome != "stopped":
                return outcome, search.offsets, nodes
        return outcome, [], nodes


def _orderings(problem: Problem) -> list[Ordering]:
    """Longest-lived first, largest area first, ...: each is the best on some instances and hopeless on others."""
    lower = np.array([block.lower for block in problem.blocks])
    upper = np.array([block.upper for block in problem.blocks])
    length, size, busiest = upper - lower, problem.size, problem.busiest(problem.load)
    area, sections = length * size, np.array(problem.end) - np.array(problem.begin)
    neighbours = problem.overlaps.sum(axis=1)
    return [Ordering(_rank(length, area), follow=True),
            Ordering(_rank(area, length), follow=True),
            Ordering(_rank(neighbours, area), follow=True),
            Ordering(_rank(busiest, length, area), follow=False),
            Ordering(_rank(busiest, sections, area), follow=False),
            Ordering(_rank(upper, busiest, size), follow=False),
            Ordering(_rank(upper, -lower, area), follow=False),
            Ordering(_rank(-lower, busiest, size), follow=False)]


def _rank(*keys: Array) -> Array:
    """The place of each block when sorted by `keys`, the first is the most important, each largest first."""
    rank = np.empty(len(keys[0]), np.int64)
    rank[np.lexsort([-key for key in reversed(keys)])] = np.arange(len(rank))
    return rank
