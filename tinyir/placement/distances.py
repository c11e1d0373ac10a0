"""Pairs of blocks that may share bytes although both are needed at the same time: one slides over the other.

    block 0  rows that are consumed one after the other      [1000 bytes]
    block 1  rows that are made of them meanwhile            [1000 bytes]
    {(0, 1): 40}      block 0 may begin as little as 40 bytes above the beginning of block 1

            1111111111111111111111111
             0000000000000000000000000       40 bytes to the right

All other pairs are as far apart as the lower one is long. A distance is 0 or more: at 0 both may begin at one address.
A block that may begin where a lower one does is not itself the lower one of such a pair (it would be 1 there).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..diag import error
from ..ir import Array
from .block import Block, rounded

__all__ = ["Distances", "Pairs", "check_pairs", "part_of", "without_chains"]

Pairs = Mapping[tuple[int, int], int]
"""(upper, lower) block: the least offset of the upper minus offset of the lower, bytes, if that is less than usual."""


def check_pairs(blocks: Sequence[Block], pairs: Pairs) -> None:
    """Raises CompileError on a distance that is negative or longer than the lower block, and on chains of distance 0.
    """
    for (upper, lower), distance in sorted(pairs.items()):
        if not 0 <= distance <= blocks[lower].size or upper == lower:
            raise error(f"blocks {upper} and {lower} have the distance {distance}",
                        help=f"expected 0 to {blocks[lower].size}, the size of block {lower}")
    same = [pair for pair, distance in pairs.items() if distance == 0]
    middle = {upper for upper, _ in same} & {lower for _, lower in same}
    if middle:
        raise error(f"block {min(middle)} has the distance 0 to one block above it and to one below it",
                    help="one of the two distances should be 1 at least")


def without_chains(pairs: Pairs) -> dict[tuple[int, int], int]:
    """The pairs, with a distance of 1 for 0 where the lower block is the upper one of another pair of distance 0."""
    uppers = {upper for (upper, _), distance in pairs.items() if distance == 0}
    return {(upper, lower): 1 if distance == 0 and lower in uppers else distance
            for (upper, lower), distance in pairs.items()}


def part_of(pairs: Pairs, numbers: Sequence[int]) -> dict[tuple[int, int], int]:
    """The pairs among blocks `numbers`, which are counted from 0 now."""
    place = {number: index for index, number in enumerate(numbers)}
    return {(place[a], place[b]): d for (a, b), d in pairs.items() if a in place and b in place}


class Distances:
    """The pairs among some blocks, in units of the alignment, and how many of them each pair saves at most."""

    def __init__(self, blocks: Sequence[Block], pairs: Pairs, align: int) -> None:
        self._size = [rounded(block.size, align) // align for block in blocks]
        self._pairs = {pair: -(-distance // align) for pair, distance in sorted(pairs.items())
                       if blocks[pair[0]].meets(blocks[pair[1]])}
        self._blocks = blocks

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def matrix(self) -> Array:
        """[N, N] units that block i begins above the beginning of block j at least, if it is the upper one."""
        count = len(self._size)
        above = np.tile(np.array(self._size, np.int64), (count, 1))
        for (upper, lower), distance in self._pairs.items():
            above[upper, lower] = distance
        return above

    def steps(self) -> list[set[int]]:
        """For each block, how many units above its beginning others may begin."""
        steps = [{size} for size in self._size]
        for (_, lower), distance in self._pairs.items():
            steps[lower].add(distance)
        return steps

    def savings(self) -> Iterator[tuple[int, int, int]]:
        """Pairs of blocks, and the units that they can have in common at most."""
        for one, other in sorted({(min(pair), max(pair)) for pair in self._pairs}):
            common = max(self._common(one, other), self._common(other, one))
            if common > 0:
                yield one, other, common

    def saved_at(self, moment: int) -> int:
        """The units that blocks needed at that time can have in common: no more than the sum over all pairs."""
        return sum(common for one, other, common in self.savings()
                   if all(self._blocks[b].lower <= moment < self._blocks[b].upper for b in (one, other)))

    def _common(self, upper: int, lower: int) -> int:
        """Units that both have, if the one lies above the other as low as it may."""
        distance = self._pairs.get((upper, lower), self._size[lower])
        return min(self._size[lower] - distance, self._size[upper])
