"""Ways to run parts of the order of execution, and what each of them costs: what `schedule` chooses among.

    ops              conv  dw  pw | dw  pw | mean  dense         a segment [first, end) is ops first ... end - 1
    ways of [0, 3)   row by row, 1, 2, 4 or 8 rows a step; in strips of columns; ...
    ways of [5, 6)   as it stands, on whole tensors

Whoever knows how to run segments registers a provider by name:

    @provides("strips")
    def strips(scene: Scene, first: int, end: int) -> Iterable[Way] | None:
        ...

The optimiser asks it for [end - 1, end), [end - 2, end), ... as long as it does not answer None (no way, nor one for a
longer segment with this end) and as long as one of its ways holds less than is known to suffice. It leaves out those
that could not help. What is chosen is made so by `Way.apply`, each on ops of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

from tinyir.costs import CostModel
from tinyir.ir import Func, Module
from tinyir.opdef import Op
from tinyir.registry import WAYS
from tinyir.row_schedule import RowNeeds
from tinyir.target import Target

from ._stored import Memory

__all__ = ["Provider", "Scene", "Way", "Work", "provides"]


@dataclass(frozen=True)
class Work:
    """What an op costs to run: modelled instructions, bytes of code, and of scratch that its kernels need."""

    instructions: int
    flash: int = 0
    scratch: int = 0


@dataclass(frozen=True)
class Way:
    """One way to run ops first ... end - 1, and what it costs.

    `peak` is the most bytes that are live at one time while they run: what is stored whole and lives then, be it read
    by them or not, and all that they need in between; it is less by `saved` since tensors slide under each other.
    `held` is the part of it that longer segments with the same end need as well; it ends the search for them. `macs`
    counts what is computed more than once. `apply(ops, func, module)` puts the ops of the segment, in whatever copy of
    the function, into the region that runs them so; it may not touch others. `variants` gives other ways for the
    segment; it is asked of those that lie on some way through all ops that is worth keeping.
    """

    first: int
    end: int
    peak: int
    held: int
    instructions: int
    macs: int = 0
    flash: int = 0
    text: str = field(default="", compare=False)
    apply: Callable[[list[Op], Func, Module], None] | None = field(default=None, compare=False)
    variants: Callable[[], list[Way]] | None = field(default=None, compare=False)
    saved: int = 0



@dataclass
class Scene:
    """A function whose ways are looked for. `recompute` is the share of all multiply-accumulates that may be computed
    again; `memory` says what is stored when; `rows` are the numbers of rows a step to try. A way that needs no more
    than `enough` bytes is as good as one that needs less: others need as many. Where it is `tight`, kernels do with the
    least scratch, of which as much as `spare` percent of what else lives counts nothing. `memo` is for providers to
    keep what they have found, by their name.
    """

    func: Func
    module: Module
    target: Target
    memory: Memory
    recompute: float = 0.0
    rows: tuple[int, ...] = (1, 2, 4, 8)
    enough: int = 0
    tight: bool = False
    spare: int = 0
    needs: RowNeeds = field(default_factory=RowNeeds)
    memo: dict[str, Any] = field(default_factory=dict)
    _works: dict[tuple[Op, int | None, bool, bool], Work] = field(default_factory=dict)

    @property
    def ops(self) -> list[Op]:
        """All ops, in order of execution, but the last, which returns."""
        return self.memory.ops

    @cached_property
    def model(self) -> CostModel:
        """What ops cost on the target."""
        return CostModel(self.target, self.module.attrs)

    def work(self, op: Op, rows: Fraction | None = None, kept: bool = False, parts: bool = False) -> Work:
        """What `op` costs on whole tensors, or if it goes through `rows` rows a step (1/2: one every other step), which
        are copied to a ring behind it if they are `kept`; with `parts`, all its channels together, some at a time.
        """
        count = None if rows is None else max(1, rows.numerator // rows.denominator)
        key = op, count, kept, parts
        if key not in self._works:
            cost = self.model.of(*key)
            scratch = cost.least_scratch_bytes if self.tight else cost.scratch_bytes
            self._works[key] = Work(cost.instructions, cost.code_bytes, scratch)
        return self._works[key]

    def needed(self, live: int, scratch: int) -> int:
        """What counts of bytes that live, and of `scratch` beside them."""
        return max(live, (live + self.memory.aligned(scratch)) * 100 // (100 + self.spare))


Provider = Callable[[Scene, int, int], "Iterable[Way] | None"]


def provides(name: str) -> Callable[[Provider], Provider]:
    """Register the decorated function as one that knows ways to run segments."""

    def register(provider: Provider) -> Provider:
        WAYS.add(name, provider)
        return provider

    return register


@provides("whole")
def whole(scene: Scene, first: int, end: int) -> Iterable[Way] | None:
    """An op as it stands, on whole tensors."""
    if end - first > 1:
        return None
    op = scene.ops[first]
    work = scene.work(op)
    peak = scene.needed(scene.memory.single(first), work.scratch)
    return [Way(first, end, peak, peak, work.instructions, flash=work.flash)]
