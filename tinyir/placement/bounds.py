"""What no placement can beat: the load of the busiest moment, lifted to the next height that stacks of blocks can have.

Some placement of least peak has every block on the ground or on top of another one. Its peak is then the height of a
stack: a sum of sizes (each rounded up to the alignment, but for the topmost). Loads of 10 with blocks of 4 and 6 only
leave 10, 12, 14, ... as peaks to think about; a search that refutes 10 has proved 12.

Blocks that slide over each other (`distances`) need together no less than the sum of their sizes without what each pair
can have in common; and what lies on top of such a block begins at one of several heights above its beginning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from .block import Block, rounded
from .distances import Distances, Pairs

__all__ = ["Heights", "busiest_moment", "load"]


def load(blocks: Sequence[Block], align: int = 1, pairs: Pairs | None = None) -> int:
    """The most bytes that are needed at one time, with what alignment wastes between blocks: a lower bound."""
    return busiest_moment(blocks, align, pairs)[1]


def busiest_moment(blocks: Sequence[Block], align: int = 1, pairs: Pairs | None = None) -> tuple[int, int]:
    """The first time at which most bytes are needed, and how many."""
    distances = Distances(blocks, pairs or {}, align)
    moments = sorted({block.lower for block in blocks})
    loads = [(moment, _load_at([b for b in blocks if b.lower <= moment < b.upper], align)
              - distances.saved_at(moment) * align) for moment in moments]
    return max(loads, key=lambda found: found[1], default=(0, 0))


def _load_at(alive: Sequence[Block], align: int) -> int:
    """Every block but the topmost wastes the bytes up to the next multiple of `align`."""
    return sum(rounded(b.size, align) for b in alive) - max(rounded(b.size, align) - b.size for b in alive)


class Heights:
    """The heights up to `limit` bytes that stacks of some of `blocks` can have."""

    _MOST_UNITS = 1 << 22  # beyond that, what is gained is less than what the sums cost

    def __init__(self, blocks: Sequence[Block], align: int, limit: int, pairs: Pairs | None = None) -> None:
        self._sizes = sorted({block.size for block in blocks})
        steps = Distances(blocks, pairs or {}, align).steps()
        unit = math.gcd(*(step for several in steps for step in several))
        self._unit = unit * align
        units = limit // self._unit + 1
        reached = ((step // unit for step in several) for several in steps)
        self._sums = -1 if units > self._MOST_UNITS else _sums(reached, units)

    def at_least(self, height: int) -> int:
        """The lowest height from `height` on, or `height` itself when there is none up to the limit."""
        found = [base + size for size in self._sizes if (base := self._sum_from(height - size)) is not None]
        return min(found, default=height)

    def _sum_from(self, height: int) -> int | None:
        """The least sum from `height` on."""
        first = -(-max(height, 0) // self._unit)
        above = self._sums >> first
        if not above:
            return None
        return (first + (above & -above).bit_length() - 1) * self._unit


def _sums(steps: Iterable[Iterable[int]], units: int) -> int:
    """A number whose bit k says that k is a sum of steps, at most one from each of `steps`, for k up to `units`."""
    sums, mask = 1, (1 << (units + 1)) - 1
    for several in steps:
        before = sums
        for step in several:
            sums |= (before << step) & mask
    return sums
