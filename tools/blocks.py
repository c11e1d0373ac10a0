"""What an emulated core executed: straight pieces of code, how often each ran, and for which layer.

    Block(address=0x1A0, code=b"...", layer=3, taken=True, count=1024)
    sum(b.count * len(instruction_offsets(b.code, "arm")) for b in blocks)       instructions

Layers are told apart by marks: labels in the machine code (they cost nothing) where the call of a layer begins.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .cores import Family

__all__ = ["MARK_HEADER", "MARK_PREFIX", "Block", "Mark", "instruction_offsets", "instructions_by_layer",
           "split_at_marks"]

MARK_PREFIX = "tinyc_layer_"
MARK_HEADER = f"""\
#define TINYC_LAYER(number) __asm volatile("{MARK_PREFIX}" #number "_%=:" : : : "memory")
""".encode()
"""What a profiling build puts in front of the C: each call of a layer gets a label, and no instruction."""


@dataclass(frozen=True, order=True)
class Mark:
    """From this address on, code works for `layer`."""

    address: int
    layer: int


@dataclass(frozen=True)
class Block:
    """A piece of code without branches into or out of its middle, as it ran for one layer (None: between layers).

    `taken` says that it was entered by a branch, not by falling through from the block before.
    """

    address: int
    code: bytes
    layer: int | None
    taken: bool
    count: int


def instruction_offsets(code: bytes, family: Family) -> list[int]:
    """Where the instructions of `code` begin. A Thumb instruction has four bytes if its first halfword begins with
    0b11101, 0b11110 or 0b11111; a RISC-V one if its two lowest bits are set; else two."""
    offsets = []
    at = 0
    while at < len(code):
        offsets.append(at)
        wide = code[at + 1] >= 0xE8 if family == "arm" else code[at] & 3 == 3
        at += 4 if wide else 2
    return offsets


def split_at_marks(address: int, size: int, layer: int | None, taken: bool, count: int, marks: Sequence[Mark],
                   read: Callable[[int, int], bytes]) -> Iterator[Block]:
    """The pieces of an executed block that belong to one layer each. `marks` are sorted."""
    first, last = bisect_left(marks, address, key=_address), bisect_right(marks, address + size - 1, key=_address)
    start = address
    for mark in marks[first:last]:
        if mark.address > start:
            yield Block(start, read(start, mark.address - start), layer, taken, count)
            start, taken = mark.address, False
        layer = mark.layer
    yield Block(start, read(start, address + size - start), layer, taken, count)


def _address(mark: Mark) -> int:
    return mark.address


def instructions_by_layer(blocks: Sequence[Block], family: Family) -> dict[int | None, int]:
    """Executed instructions of each layer. What an IT block skips counts as executed, as QEMU counts it."""
    found: dict[int | None, int] = {}
    for block in blocks:
        executed = block.count * len(instruction_offsets(block.code, family))
        found[block.layer] = found.get(block.layer, 0) + executed
    return found
