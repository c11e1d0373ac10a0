"""Does it fit the board? And where does it go: what the regions of a board's file are for.

    check_fit(facts, target_named("board.toml"))     error: the arena takes 262,144 bytes, SRAM2 of board has 65,536
    sections_of(target)                              {"arena": ".sram2"}
"""

from __future__ import annotations

from tinyir.board import Kind
from tinyir.diag import error
from tinyir.target import Target

from .facts import Facts

__all__ = ["check_fit", "sections_of"]

_HINTS = {
    "ram": "a higher level may place it better (-O2), a smaller input takes less (--input-shape); --emit ir shows the "
           "memory plan",
    "flash": "int8 takes a quarter of float: --quantize int8 --calibrate samples.npz",
}


def check_fit(facts: Facts, target: Target) -> None:
    """Raises CompileError if the arena or the constants are larger than the region that they go to."""
    rows: tuple[tuple[Kind, str, int], ...] = (("ram", "the arena takes", facts.arena_bytes),
                                               ("flash", "the constants take", facts.const_bytes))
    for kind, what, size in rows:
        region = target.region(kind)
        if region is not None and size > region.size:
            raise error(f"{what} {size:,} bytes, {region.name} of {target.name} has {region.size:,}",
                        notes=_largest(facts) if kind == "ram" else (), help=_HINTS[kind])


def _largest(facts: Facts) -> tuple[str, ...]:
    """The slots that take the most."""
    slots = sorted(facts.slots, key=lambda s: (-s.bytes, s.name))[:3]
    return ("the largest values: " + ", ".join(f"%{s.name} {s.bytes:,}" for s in slots),) if slots else ()


def sections_of(target: Target) -> dict[str, str]:
    """The linker sections that the regions of `target` name."""
    regions = {"arena": target.region("ram"), "weights": target.region("flash")}
    return {what: region.section for what, region in regions.items() if region is not None and region.section}
