"""Schedules that nobody would choose, given by hand: which values of a network a patch, a split or strips can take.

    network = Network.of(Path("resnet8_int8.onnx"), "generic")
    network.forced("patch 2x2")   "...,patch{grid=2x2,from_=conv_0,until=add_4},expand-patches,lower-to-mem,plan-arena"
    network.forced("split")       NotApplicable("no chain of layers can be computed for some of its channels")

Each is a pipeline, as `tinyc --passes` takes it: the passes of -O1, with the choice in front of what carries it out.
The values are found by trying: of all that the pass accepts, the one in the middle, so that there are layers on both
sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tinyc.tools.driver import Compiled, Job, compile_job

from tinyir.clone import clone_module
from tinyir.diag import CompileError
from tinyir.ir import Module
from tinyir.opdef import Op
from tinyir.pass_manager import Context, PassManager, parse_pipeline, print_pipeline
from tinyir.target import target_named

__all__ = ["FORCED", "Network", "NotApplicable"]

_LAST = "dead-channels"
"""The pass of -O1 behind which a schedule is chosen."""
_MOST_CHAIN = 4
"""Ops of a chain that is split."""
_PARTS = (4, 3, 2)


@dataclass(frozen=True)
class NotApplicable:
    """Why a network has no place for a choice."""

    reason: str


Choice = str | NotApplicable


@dataclass(frozen=True)
class Network:
    """A network behind -O1, and what its ops are called."""

    compiled: Compiled

    @classmethod
    def of(cls, model: Path, target: str) -> Network:
        """That of a model's file. Raises CompileError where it cannot be compiled."""
        return cls(compile_job(Job(str(model), level="1", stop_after=_LAST, target=target)))

    @property
    def ops(self) -> list[Op]:
        """All of them, in order, but the last, which returns."""
        return [op for op in self.compiled.module.main.ops if not op.terminator]

    def accepts(self, choice: str) -> Module | None:
        """What the pass makes of a copy; None where it says that this cannot be."""
        copy, _ = clone_module(self.compiled.module)
        try:
            PassManager(parse_pipeline(choice)).run(copy, Context(target_named(self.compiled.job.target)))
        except CompileError as problem:
            if any(d.severity == "internal" for d in problem.diagnostics):
                raise
            return None
        return copy

    def makes(self, choice: str, opname: str) -> bool:
        """Whether it accepts a choice and there is such a region then."""
        copy = self.accepts(choice)
        return copy is not None and any(op.opname == opname for op in copy.main.ops)

    def forced(self, name: str) -> Choice:
        """The whole pipeline for one of FORCED."""
        found = FORCED[name](self)
        front = print_pipeline(self.compiled.passes)
        return f"{front},{found},expand-patches,lower-to-mem,plan-arena" if isinstance(found, str) else found


# -- what to force -----------------------------------------------------------------------------------------------------


def _stream(rows: int, before: str = "") -> Callable[[Network], Choice]:
    """Row by row, cut where it is best by the sums of bytes; where that is nowhere, as many layers as can be."""

    def find(network: Network) -> Choice:
        ends = ["", *(f",until={op.out.name}" for op in reversed(network.ops) if len(op.results) == 1)]
        choices = (f"{before}stream{{rows={rows}{end}}}" for end in ends)
        found = next((choice for choice in choices if network.makes(choice, "sched.stream")), None)
        return found or NotApplicable("no two layers run row by row")

    return find


def _patch(options: str) -> Callable[[Network], Choice]:
    """Tiles, from the first op that has any to the middle of those that can end them."""

    def find(network: Network) -> Choice:
        for first, behind in _pairs(network.ops):
            if network.makes(_between(options, first, behind), "sched.patch"):
                break
        else:
            return NotApplicable("no two layers can be computed by tiles")
        ops = network.ops
        ends = [op for op in ops[ops.index(behind):] if network.makes(_between(options, first, op), "sched.patch")]
        return _between(options, first, ends[len(ends) // 2])

    return find


def _between(options: str, first: Op, last: Op) -> str:
    return f"patch{{{options},from_={first.out.name},until={last.out.name}}}"


def _pairs(ops: Sequence[Op]) -> Iterator[tuple[Op, Op]]:
    """Ops that follow each other, where the second one reads the first."""
    return ((a, b) for a, b in pairwise(ops) if len(a.results) == 1 and a.out in b.reads)


def _split(rows: int) -> Callable[[Network], Choice]:
    """Parts of channels: of the longest chains that there are, the one in the middle."""

    def find(network: Network) -> Choice:
        for length in range(_MOST_CHAIN, 1, -1):
            found = [choice for chain in _chains(network.ops, length) if (choice := _parts(network, chain, rows))]
            if found:
                return found[len(found) // 2]
        return NotApplicable("no chain of layers can be computed for some of its channels" +
                             (", row by row" if rows else ""))

    return find


def _chains(ops: Sequence[Op], length: int) -> Iterator[Sequence[Op]]:
    """Runs of ops, each of which reads the one before."""
    for first in range(len(ops) - length + 1):
        chain = ops[first:first + length]
        if all(len(a.results) == 1 and a.out in b.reads for a, b in pairwise(chain)):
            yield chain


def _parts(network: Network, chain: Sequence[Op], rows: int) -> str | None:
    """The choice with as many parts as the channels allow."""
    channels = chain[0].out.shape[-1] if chain[0].out.shape else 1
    for parts in _PARTS:
        choice = f"split{{first={chain[0].out.name},last={chain[-1].out.name},parts={parts},rows={rows}}}"
        if channels % parts == 0 and network.makes(choice, "sched.split"):
            return choice
    return None


FORCED: dict[str, Callable[[Network], Choice]] = {
    "stream": _stream(1),
    "stream, 2 rows": _stream(2),
    "stream, columns": _stream(1, "scan-columns,"),
    "patch 2x2": _patch("grid=2x2"),
    "strips by rows": _patch("grid=1x3,rows=1"),
    "split": _split(0),
    "split by rows": _split(1),
}
"""By column of the table: what finds the choice."""
