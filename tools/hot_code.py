"""How much code a layer's hot loop is made of: the bytes that a small instruction cache in front of flash has to hold.

    hot_bytes(blocks, "arm")      {0: 412, 1: 1290, ...}: layer 1 does not fit into 1 KB

Flash of a microcontroller has some wait states and a cache of about 1 KB (an STM32L4: 32 lines of 32 bytes; others
64 lines of 16). Straight code that is larger runs at the speed of the flash in each round.
"""

from __future__ import annotations

from collections.abc import Sequence

from .blocks import Block, instruction_offsets
from .cores import Family

__all__ = ["CACHE_BYTES", "hot_bytes"]

CACHE_BYTES = 1024
_SHARE = 0.95
"""Of the instructions of a layer; the rest is set-up, edges and the ends of rows."""


def hot_bytes(blocks: Sequence[Block], family: Family) -> dict[int | None, int]:
    """For each layer the bytes of the fewest blocks that make up nearly all of its instructions. Blocks overlap where a
    loop is entered in its middle; each byte counts once.
    """
    layers: dict[int | None, dict[tuple[int, int], int]] = {}
    for block in blocks:
        executed = block.count * len(instruction_offsets(block.code, family))
        counts = layers.setdefault(block.layer, {})
        place = (block.address, len(block.code))
        counts[place] = counts.get(place, 0) + executed
    return {layer: _hot(counts) for layer, counts in layers.items()}


def _hot(counts: dict[tuple[int, int], int]) -> int:
    wanted = _SHARE * sum(counts.values())
    total, hot = 0, set[int]()
    for (address, length), executed in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if total >= wanted:
            break
        total += executed
        hot.update(range(address, address + length))
    return len(hot)
