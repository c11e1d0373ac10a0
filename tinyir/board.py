"""What is around a core: its memories, and what its instructions cost.

    Region("SRAM1", "ram", 192 * 1024, ".sram1")      the arena goes into the linker section .sram1, at most 192 KiB
    Costs(branch=2, load=2)                           cycles, for the timing model of `tinyc-bench`
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Costs", "Kind", "Region", "size_of", "size_text"]

Kind = Literal["ram", "flash"]
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20}


@dataclass(frozen=True)
class Region:
    """One memory of a board. The first of kind `ram` holds the arena, the first of kind `flash` the weights."""

    name: str
    kind: Kind
    size: int
    """Bytes that the model may use."""
    section: str = ""
    """The linker section that puts data there; empty for the toolchain's own choice."""


@dataclass(frozen=True)
class Costs:
    """Cycles of a single-issue core in order, with memory that never waits, and how its code is fetched. The defaults
    are those of a Cortex-M4 with the flash of a common microcontroller.

    Source: Arm Cortex-M4 Technical Reference Manual, section 3.3 (instruction set summary and load/store timings).
    """

    branch: int = 2
    """Added when a branch is taken: the pipeline is filled anew. The manual says 1 to 3."""
    load: int = 2
    load_next: int = 1
    """A load right behind another load whose result its address does not need."""
    store: int = 1
    multiply: int = 1
    long_multiply: int = 1
    divide: int = 8
    """The manual says 2 to 12."""
    address: int = 1
    """Added when the instruction right before has computed the address that is loaded from or stored to."""
    float_use: int = 1
    """Added when the instruction right before has computed a float operand."""
    float_fma: int = 3
    float_divide: int = 14
    fetch_wait: int = 5
    """Wait states of the flash for code that is not in its cache; 0 where there are none. An estimate beside the
    cycles, not part of them."""
    fetch_line: int = 16
    """Bytes of a line of that cache, a power of two."""
    fetch_cache: int = 1024
    """Bytes of all its lines, at most 256 lines."""


def size_of(text: str | int) -> int:
    """Bytes: 65536, "65536", "64K" or "1M". Raises ValueError."""
    if isinstance(text, int):
        return text
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if unit not in _UNITS or not number.isdecimal():
        raise ValueError(f"{text!r} is no size")
    return int(number) * _UNITS[unit]


def size_text(size: int) -> str:
    """The shortest way to write `size`: 192K."""
    unit = next(u for u in ("M", "K", "") if size % _UNITS[u] == 0)
    return f"{size // _UNITS[unit]}{unit}"
