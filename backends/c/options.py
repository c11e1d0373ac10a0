"""What a user can choose about the C, beyond what the module says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """Choices of the emitter; none changes a result."""

    arena: Literal["static", "caller"] = "static"
    """Who owns the arena: the generated file, or the caller, who passes its address to run()."""
    hooks: bool = False
    """Also write NAME_run_hooked(), which reports each layer's output to a function of the caller."""
    marks: bool = False
    """Write `TINYC_LAYER(number);` before each call: a macro that is empty unless a profiling build defines it."""
    single_file: bool = False
    """Put the constants into model.c instead of a file of their own."""
    sections: Mapping[str, str] = field(default_factory=dict)
    """Linker sections for "arena" and "weights"."""
