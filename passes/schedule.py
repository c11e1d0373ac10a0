"""Choose how the network is executed: layer by layer, or in groups that run row by row or column by column.

    schedule{ram=min}        the least RAM at no further multiply-accumulates
        =
    stream                   if rows need no more than columns (see scan-columns), else
    scan-columns,stream

The candidates are worked out on copies of the module; the one with the fewest planned bytes is taken, rows where both
need the same. Which it was, and what each needs, is told with --remarks and --stats. Float results of a network that is
scanned by columns are summed in another order; `scan=rows` keeps every bit.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tinyir.clone import clone_module
from tinyir.ir import Level, Module
from tinyir.pass_manager import Context, Pass, option

from .scan_columns import ScanColumns
from .stream import StreamRows

_PLANS: dict[str, tuple[Pass, ...]] = {"rows": (StreamRows(),), "columns": (ScanColumns(), StreamRows())}


class Schedule(Pass):
    """Choose the execution that needs the least RAM."""

    name = "schedule"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")
    to_level: ClassVar[Level] = "sched"
    ram: Literal["min", "any"] = option("min", "min: the least that can be reached; any: layer by layer")
    scan: Literal["rows", "columns", "best"] = option("best", "the direction in which images are gone through")

    def run(self, module: Module, ctx: Context) -> None:
        if self.ram == "any":
            return
        found = {name: _tried(module, ctx, plan) for name, plan in _PLANS.items() if self.scan in (name, "best")}
        name = min(found, key=lambda name: found[name][1])
        for candidate, (_, size) in found.items():
            ctx.stat(f"bytes-by-{candidate}", size)
        ctx.remark("schedule: " + ", ".join(f"{n} need {size:,} bytes" for n, (_, size) in found.items()))
        copy = found[name][0]
        module.funcs, module.consts = copy.funcs, copy.consts
        module.version += 1


def _tried(module: Module, ctx: Context, plan: tuple[Pass, ...]) -> tuple[Module, int]:
    """A copy of the module that `plan` has been run on, and the bytes that it needs."""
    copy, _ = clone_module(module)
    trial = Context(ctx.target)
    for pass_ in plan:
        trial.current_pass = pass_.name
        pass_.run(copy, trial)
    return copy, int(trial.stats["stream"]["planned-bytes"])
