"""What `--report` writes: sizes, work, the schedule, the memory plan, layers, as one JSON object.

    macs, macs_layerwise        as computed, and without what a schedule computes again
    arena_bytes                 sizeof(arena): activations and the scratch of kernels
    activation_bytes            the least arena without the kernels' scratch, placed anew; scratch_bytes is the rest
    stack_bytes                 with --stack: what one inference took on the emulated core, null without; stack_measured
                                says with which compiler; peak_bytes is arena and stack
    lower_bound_bytes           what no placement of these buffers can beat
    input_streamed              whether an input is asked for row by row, so that only its rows in flight are stored
    modelled_instructions       of one inference, by the target's prices; modelled_code_bytes likewise
    schedule                    a line for each group of layers that is not computed layer by layer
    points                      with --pareto: the schedules that no other one beats
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyir.costs import CostModel
from tinyir.ir import Module
from tinyir.opdef import Op
from tinyir.pass_manager import Context, Instrument, Pass

from .cli import version_text
from .driver import Compiled
from .front import front_of
from .memory_plan import memory_plan
from .quantisation import quantisation_facts
from .rows import row_inputs

if TYPE_CHECKING:
    from .stack import StackFigure

__all__ = ["Schedules", "report_of"]


class Schedules(Instrument):
    """Remembers the regions that decide how a module is executed, whoever put them there."""

    def __init__(self) -> None:
        self.lines: tuple[str, ...] = ()

    def start(self, module: Module, ctx: Context) -> None:
        self._look(module)

    def after(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        if not pass_.name.startswith("expand-"):  # those carry out what others have decided
            self._look(module)

    def _look(self, module: Module) -> None:
        if module.level == "sched":
            self.lines = tuple(_line(op) for op in module.main.ops if op.regions)


def _line(op: Op) -> str:
    inner = [o for o in op.regions[0].ops if not o.terminator]
    names = [o.results[0].name for o in (inner[:1] + inner[-1:]) if o.results]
    return f"{op.opname.partition('.')[2]} of {len(inner)} ops, {' to '.join(f'%{n}' for n in dict.fromkeys(names))}"


def report_of(compiled: Compiled, schedules: Schedules, *, points: bool,
              stack: StackFigure | None = None) -> dict[str, Any]:
    """The whole object."""
    job, context = compiled.job, compiled.context
    report: dict[str, Any] = {"model": job.source, "target": job.target, "options": job.options_text,
                              "tinyc": version_text(), **compiled.facts.as_json(), **_memory(compiled),
                              **_stack(compiled, stack), "schedule": list(schedules.lines)}
    quantised = quantisation_facts(context)
    if quantised is not None:
        report["quantisation"] = quantised
    front = front_of(context, compiled.facts.const_bytes)
    if front is not None:
        report["scan"] = front.chosen.scan
    if points and front is not None:
        report["points"] = front.as_json()
    return report


def _stack(compiled: Compiled, stack: StackFigure | None) -> dict[str, Any]:
    """What was measured on the emulated core; all null where nothing was."""
    if stack is None:
        return {"stack_bytes": None, "peak_bytes": None, "stack_measured": None}
    return {"stack_bytes": stack.bytes, "peak_bytes": compiled.facts.arena_bytes + stack.bytes,
            "stack_measured": stack.where}


def _memory(compiled: Compiled) -> dict[str, Any]:
    """What is known of a module at mem level."""
    module, context = compiled.module, compiled.context
    if module.level != "mem":
        return {}
    plan = memory_plan(module, context.target)
    cost = CostModel(context.target, module.attrs).module(module)
    bound = context.stats.get("plan-arena", {}).get("lower-bound-bytes")
    return {"activation_bytes": plan.activation_bytes, "scratch_bytes": plan.scratch_bytes,
            "lower_bound_bytes": None if bound is None else int(bound),
            "input_streamed": any(row_inputs(module)), "modelled_instructions": cost.instructions,
            "modelled_code_bytes": cost.code_bytes, "loops": [vars(loop) for loop in plan.loops],
            "slots": [vars(slot) for slot in plan.slots]}
