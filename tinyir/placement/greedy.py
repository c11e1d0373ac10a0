"""First answers: one block after the other, each at the lowest offset that is free over its whole lifetime.

The order decides. Largest first (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020,
section 4.2) is best for most networks; the others win now and then, and all of them together cost little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .block import Block
from .distances import Pairs

__all__ = ["peak_of", "place_greedily"]

_ORDERS: tuple[Callable[[Block], tuple[int, ...]], ...] = (
    lambda b: (-b.size, b.lower, b.upper),
    lambda b: (-b.size, b.upper - b.lower, -b.lower),
    lambda b: (-b.size, b.lower - b.upper, b.lower),
    lambda b: (-b.size * (b.upper - b.lower), b.lower),
    lambda b: (b.lower, -b.size),
    lambda b: (-b.upper, -b.size),
    lambda b: (b.lower - b.upper, -b.size, b.lower),
)


def place_greedily(blocks: Sequence[Block], align: int, enough: int, pairs: Pairs) -> list[int]:
    """An offset for each block: the best of several orders, or the first whose peak is `enough` or less."""
    best: list[int] = []
    for key in _ORDERS:
        offsets = _place_in_order(blocks, sorted(range(len(blocks)), key=lambda i: key(blocks[i])), align, pairs)
        if not best or peak_of(blocks, offsets) < peak_of(blocks, best):
            best = offsets
        if peak_of(blocks, best) <= enough:
            break
    return best


def peak_of(blocks: Sequence[Block], offsets: Sequence[int]) -> int:
    """Where the last byte ends."""
    return max((offset + block.size for block, offset in zip(blocks, offsets, strict=True)), default=0)


def _place_in_order(blocks: Sequence[Block], order: Sequence[int], align: int, pairs: Pairs) -> list[int]:
    offsets = [0] * len(blocks)
    placed: list[int] = []
    for number in order:
        block = blocks[number]
        taken = sorted((offsets[p] - pairs.get((p, number), block.size),
                        offsets[p] + pairs.get((number, p), blocks[p].size))
                       for p in placed if block.meets(blocks[p]))
        offsets[number] = _lowest_gap(taken, align)
        placed.append(number)
    return offsets


def _lowest_gap(taken: Sequence[tuple[int, int]], align: int) -> int:
    """The lowest multiple of `align` that lies between the ends of none of `taken`, which is sorted."""
    offset = 0
    for below, above in taken:
        if offset <= below:
            return offset
        offset = max(offset, -(-above // align) * align)
    return offset
