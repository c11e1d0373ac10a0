"""What a schedule comes to in the end: its copy is lowered and placed as -O2 would do it, and looked at.

    sizes = trial_sizes(module, ctx.target)      of a module at level sched, which is changed
    sizes.arena, sizes.flash                     bytes: scratch included; constants, and code as it is estimated
"""

from __future__ import annotations

from typing import NamedTuple

from tinyir.costs import CostModel
from tinyir.ir import Module
from tinyir.pass_manager import Context, Pass
from tinyir.target import Target

from .expand_patches import ExpandPatches
from .fit_scratch import FitScratch
from .lower_to_mem import LowerToMem
from .plan_arena import PlanArena

__all__ = ["Sizes", "trial_sizes"]


class Sizes(NamedTuple):
    """Bytes."""

    arena: int
    flash: int


def trial_sizes(module: Module, target: Target) -> Sizes:
    """Lower and place `module`."""
    trial = Context(target)
    passes: tuple[Pass, ...] = (ExpandPatches(), LowerToMem(), FitScratch(), PlanArena())
    for pass_ in passes:
        trial.current_pass = pass_.name
        pass_.run(module, trial)
    cost = CostModel(target, module.attrs).module(module)
    return Sizes(sum(arena.size or 0 for arena in module.arenas.values()), cost.const_bytes + cost.code_bytes)
