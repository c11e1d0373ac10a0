"""Placement: offsets for blocks of memory with known lifetimes, as low as they go, with a proof of how low that is.

    Block(lower=0, upper=3, size=4)             offset 8        time  0 1 2 3 4 5 6 7 8
    Block(lower=3, upper=9, size=4)      ->     offset 8              0 0 0 1 1 1 1 1 1     8..11
    Block(lower=0, upper=9, size=4)             offset 0              2 2 2 2 2 2 2 2 2     0..3

`place` tries greedy orders first, then searches exactly; `Placement` carries the offsets, the peak and a proved lower
bound. The files: `block` the facts, `distances` blocks that slide over each other, `bounds` what no placement can beat,
`greedy` first answers, `problem` a connected part as arrays, `search` the exact search within one capacity, `relations`
another one for blocks that slide, `minimise` the loop over capacities.
"""

from __future__ import annotations

from .block import Block, Placement, verify
from .bounds import busiest_moment, load
from .distances import Pairs, part_of, without_chains
from .minimise import DEFAULT_NODES, place

__all__ = ["DEFAULT_NODES", "Block", "Pairs", "Placement", "busiest_moment", "load", "part_of", "place",
           "verify", "without_chains"]
