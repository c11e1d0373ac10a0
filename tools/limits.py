"""How much memory a schedule may take, and how it becomes options of the pass that chooses one.

    Limits(ram="64K", recompute="10%")      ... ,schedule{ram=64K,macs=10%},lower-to-mem,plan-arena
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from tinyir.board import size_of
from tinyir.diag import error
from tinyir.pass_manager import Pass, parse_pipeline

from .facts import Facts

__all__ = ["NO_LIMITS", "Limits", "check_limits", "with_limits"]

_PASS = "schedule"


@dataclass(frozen=True)
class Limits:
    """What the user said: sizes as they were written, `min`, or None for what the level does."""

    ram: str | None = None
    flash: str | None = None
    recompute: str | None = None
    explore: bool = False
    """Whether the choice itself is asked for, so that there has to be one."""

    @property
    def given(self) -> bool:
        """Whether any schedule is to be chosen because of them."""
        return self != NO_LIMITS

    @property
    def words(self) -> list[str]:
        """The options, as they are recorded in the generated files."""
        return [f"--{name} {value}" for name in ("ram", "flash", "recompute") if (value := getattr(self, name))]

    @property
    def pass_options(self) -> dict[str, str]:
        """The options of the pass. A limit of RAM comes in the place of one on how much slower it may become; the least
        RAM also in that of the least code.
        """
        found = {"ram": self.ram, "speed": "any"} if self.ram else {}
        found |= {"flash": "any"} if self.ram == "min" else {}
        found |= {"flash": self.flash} if self.flash else {}
        return {**found, "macs": self.recompute} if self.recompute else found


NO_LIMITS = Limits()


def with_limits(passes: Sequence[Pass], limits: Limits) -> list[Pass]:
    """`passes` with a choice of the schedule within `limits`. Raises CompileError where there is no place for one."""
    if not limits.given:
        return list(passes)
    if not any(p.name == _PASS for p in passes):
        at = next((i for i, p in enumerate(passes) if p.to_level == "mem" or p.name.startswith("expand-")), None)
        if at is None or not any(p.to_level == "mem" for p in passes):
            raise error("--ram, --flash, --recompute and --pareto choose how the network is executed, and these passes "
                        "do not get that far", help="the pipeline has to have lower-to-mem, or the pass schedule")
        passes = [*passes[:at], *parse_pipeline(f"{_PASS}{{ram=any}}"), *passes[at:]]
    return [_changed(p, limits.pass_options) if p.name == _PASS else p for p in passes]


def _changed(pass_: Pass, options: dict[str, str]) -> Pass:
    return cast(Pass, dataclasses.replace(cast(Any, pass_), **options))


def check_limits(facts: Facts, code_bytes: int, limits: Limits) -> None:
    """Raises CompileError if the arena, or constants and code, which is estimated, are larger than the limits: where
    the schedule was given, as in text that is scheduled already.
    """
    ram, flash = (None if text in (None, "min") else size_of(str(text)) for text in (limits.ram, limits.flash))
    if ram is not None and facts.arena_bytes > ram:
        raise error(f"--ram {limits.ram}: the arena has {facts.arena_bytes:,} bytes, {ram:,} are there",
                    help="what is scheduled already is left as it is: compile the model, or edit the schedule")
    if flash is not None and facts.const_bytes + code_bytes > flash:
        raise error(f"--flash {limits.flash}: constants take {facts.const_bytes:,} bytes, code about {code_bytes:,}; "
                    f"{flash:,} are there", help="--flash min looks for the least")
