"""Blocks as arrays, in units of the alignment: what the search works on.

Time is cut into *sections* at every moment where a block begins or ends; within a section the same blocks are alive.

    blocks        0: [0, 3)   1: [3, 9)   2: [0, 9)         sections  [0, 3)  [3, 9)
    members       section 0: 0, 2     section 1: 1, 2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..ir import Array
from .block import Block, rounded
from .distances import Distances, Pairs

__all__ = ["FAR", "Problem", "split"]

FAR = 1 << 60
"""Units that nothing has."""


@dataclass(frozen=True)
class Problem:
    """Blocks that hang together in time, so that no section is empty.

    Index arrays that differ in length stand one behind the other; `..._starts` says where each begins.
    """

    blocks: tuple[Block, ...]
    align: int
    size: Array         # [N] bytes rounded up, in units of `align`
    load: Array         # [S] units that the blocks of a section need together
    slack: Array        # [S] bytes that rounding wastes at most on top of a section
    overlaps: Array     # [N, N] bool: needed at the same time; a block does not overlap itself
    begin: list[int]    # [N] first section
    end: list[int]      # [N] section behind the last
    members: Array      # the blocks of every section
    member_starts: Array  # [S]
    member_counts: list[int]  # [S]
    spans: Array        # the sections of every block
    span_starts: Array  # [N]
    above: Array | None = None
    """[N, N] units that block i begins above the beginning of block j at least; None: as many as j has, always."""
    shared: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """The blocks that a block slides over, or under, and how many units the two have in common at most."""

    @classmethod
    def of(cls, blocks: Sequence[Block], align: int, pairs: Pairs | None = None) -> Problem:
        """`blocks` have sizes above zero."""
        times = sorted({b.lower for b in blocks} | {b.upper for b in blocks})
        section = {time: number for number, time in enumerate(times)}
        begin, end = [section[b.lower] for b in blocks], [section[b.upper] for b in blocks]
        first, last = np.array(begin), np.array(end)
        overlaps = (first[:, None] < last[None, :]) & (first[None, :] < last[:, None])
        np.fill_diagonal(overlaps, False)
        alive = [np.flatnonzero((first <= s) & (s < last)) for s in range(len(times) - 1)]
        waste = np.array([rounded(b.size, align) - b.size for b in blocks])
        members, member_starts = _joined(alive)
        spans, span_starts = _joined([np.arange(b, e) for b, e in zip(begin, end, strict=True)])
        size = np.array([rounded(b.size, align) // align for b in blocks])
        load, shared = np.array([size[a].sum() for a in alive]), dict[int, list[tuple[int, int]]]()
        distances = Distances(blocks, pairs or {}, align)
        for one, other, units in distances.savings():
            shared.setdefault(one, []).append((other, units))
            shared.setdefault(other, []).append((one, units))
            load[max(begin[one], begin[other]):min(end[one], end[other])] -= units
        return cls(tuple(blocks), align, size, load,
                   np.array([waste[a].max(initial=0) for a in alive]), overlaps, begin, end,
                   members, member_starts, [len(a) for a in alive], spans, span_starts,
                   distances.matrix() if distances else None, shared)

    @cached_property
    def feet(self) -> Array:
        """[N, N] units that block i begins above the beginning of block j, if it lies on top of it; `FAR` for blocks
        that never meet.
        """
        return np.where(self.overlaps, self.size if self.above is None else self.above, FAR)

    @cached_property
    def tops(self) -> Array:
        """[N, N] the same the other way round: block j on top of block i; -`FAR` for blocks that never meet."""
        feet = np.ascontiguousarray(self.feet.T)
        return np.where(feet < FAR, feet, -FAR)

    @cached_property
    def neighbours(self) -> list[Array]:
        """The blocks that meet each block."""
        return [row.nonzero()[0] for row in self.overlaps]

    def members_of(self, section: int) -> Array:
        """The blocks that are alive in `section`."""
        found: Array = self.members[self.member_starts[section]:][:self.member_counts[section]]
        return found

    def busiest(self, needs: Array) -> Array:
        """For each block the most that any of its sections needs; `needs` has a number for each section."""
        most: Array = np.maximum.reduceat(needs[self.spans], self.span_starts)
        return most


def _joined(parts: Sequence[Array]) -> tuple[Array, Array]:
    """All parts one behind the other, and where each begins."""
    starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
    return np.concatenate(parts), starts


def split(blocks: Sequence[Block]) -> list[list[int]]:
    """The blocks in groups that have nothing to do with each other: no block is needed across the border of two."""
    groups: list[list[int]] = []
    reach = min((block.lower for block in blocks), default=0)
    for number in sorted(range(len(blocks)), key=lambda i: (blocks[i].lower, blocks[i].upper, i)):
        if not groups or blocks[number].lower >= reach:
            groups.append([])
        groups[-1].append(number)
        reach = max(reach, blocks[number].upper)
    return groups
