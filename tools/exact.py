"""Compares what every call of the C writes with onnxruntime's integer path, byte for byte, on the host or emulated.

    report = compare_c_directly(compiled, emission, IntegerGraph(path), samples, ours)
    report.values, report.mismatches, report.first_mismatch

This is the comparison without a go-between: `all_tensors` compares the interpreter with onnxruntime and the C with the
interpreter. A node that onnxruntime computes in float is named in `no_integer_kernel`: there the definition is the
interpreter's, and onnxruntime goes on from the C's own bytes, so that everything behind it is compared all the same.
Where it cannot (the C's array has another number of channels) the calls from there on are left to the other pair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from tinyir.diag import origins
from tinyir.ir import Array, Value
from tinyir.opdef import Op

from .all_tensors import IntegerGraph, Report, different_bytes, reading
from .driver import Compiled, Emission
from .program import Sample
from .recording import kernel_calls, record

__all__ = ["compare_c_directly"]


def compare_c_directly(compiled: Compiled, emission: Emission, graph: IntegerGraph, samples: Sequence[Sample],
                       ours: Sequence[Sample], cc: str | None = None, cflags: str = "") -> Report:
    """Run the C with hooks on the target of the compilation, and onnxruntime, and compare each call's bytes.

    `samples` are the inputs as the model takes them, `ours` the same as the C takes them.
    """
    report = Report()
    if not samples:
        return report
    program = compiled.c_program(replace(emission, hooks=True))
    calls = kernel_calls(compiled.module)
    recorded = record(program, calls, ours, cc, cflags, compiled.job.target)
    first = next(recorded)
    plan = _plan(calls, graph, first, graph.tensors(samples[0]), report)
    for sample, arrays in zip(samples, chain([first], recorded), strict=True):
        given = {tensor: np.ascontiguousarray(turn(arrays[number])) for tensor, (number, turn) in plan.given.items()}
        _compare(report, plan, arrays, graph.tensors(sample, given))
    return report


Turn = Callable[[Array], Array]


@dataclass(frozen=True)
class _Plan:
    """What is done with the calls, by their numbers."""

    pairs: list[tuple[int, Op, str]]
    """Calls whose bytes have to equal a tensor."""
    given: dict[str, tuple[int, Turn]]
    """Tensors that onnxruntime gets from a call, and how its array is turned to the tensor's order of axes."""


def _plan(calls: Sequence[Op], graph: IntegerGraph, arrays: Sequence[Array], tensors: Mapping[str, Array],
          report: Report) -> _Plan:
    """`arrays` and `tensors` belong to one sample; nodes that onnxruntime computes in float are put into `report`."""
    plan = _Plan([], {})
    ours_alone: set[Value] = set()  # buffers whose contents follow our definition, and onnxruntime has not got them
    for number, op in enumerate(calls):
        tensor = graph.tensor_of(op)
        inexact = tensor is not None and not graph.is_exact(tensor)
        node = ", ".join(origins(op.loc))
        if inexact and node not in report.no_integer_kernel:
            report.no_integer_kernel.append(node)
        if not inexact and not any(_root(v) in ours_alone for v in op.reads):
            plan.pairs.extend([] if tensor is None else [(number, op, tensor)])
        elif tensor is not None and (turn := _turn(arrays[number], tensors[tensor])) is not None:
            plan.given[tensor] = number, turn
        else:
            ours_alone.update(_root(v) for v in op.writes)
    report.tensors = len(plan.pairs)
    return plan


def _turn(mine: Array, tensor: Array) -> Turn | None:
    """What makes an array like `mine` one like `tensor`: as it is or channels first, the closer one where both fit."""
    shape = tensor.shape
    last = (shape[0], *shape[2:], shape[1]) if tensor.ndim >= 3 else shape
    turns: list[Turn] = [lambda a: a.reshape(shape), lambda a: np.moveaxis(a.reshape(last), -1, 1)]
    extents = [extent for extent in mine.shape if extent != 1]
    fitting = [turn for turn, order in zip(turns, (shape, last), strict=True)
               if mine.dtype == tensor.dtype and [e for e in order if e != 1] == extents]
    return min(fitting, key=lambda turn: different_bytes(turn(mine), tensor), default=None)


def _root(value: Value) -> Value:
    """The slot or argument that a view is of."""
    while value.op is not None and value.op.opname == "mem.view" and value.op.reads:
        value = value.op.reads[0]
    return value


def _compare(report: Report, plan: _Plan, arrays: Sequence[Array], tensors: Mapping[str, Array]) -> None:
    for number, op, tensor in plan.pairs:
        theirs = reading(tensors[tensor], arrays[number])
        if theirs is None:
            _unmatched(report, op)
            continue
        report.add(", ".join(origins(op.loc)), theirs.size, different_bytes(arrays[number], theirs))
    for tensor, (number, turn) in plan.given.items():
        report.float_route += different_bytes(turn(arrays[number]), tensors[tensor])


def _unmatched(report: Report, op: Op) -> None:
    name = op.writes[0].name
    if name not in report.unmatched:
        report.unmatched.append(name)
        report.tensors -= 1
