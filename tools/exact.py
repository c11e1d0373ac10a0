"""Compares what every call of the C writes with onnxruntime's integer path, byte for byte, on the host or emulated.

    report = compare_c_directly(compiled, emission, IntegerGraph(path), samples, ours)
    report.values, report.mismatches, report.first_mismatch

This is the comparison without a go-between: `all_tensors` compares the interpreter with onnxruntime and the C with the
interpreter. Behind a node that onnxruntime computes in float its tensors are not ours any more; calls from there on are
left to that pair (which goes on from onnxruntime's own tensor), and the node is named in `no_integer_kernel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tinyir.diag import origins
from tinyir.ir import Array, Value
from tinyir.opdef import Op

from .all_tensors import IntegerGraph, Report, different_bytes, reading
from .driver import Compiled, Emission
from .layers import kernel_calls, record
from .program import Sample

__all__ = ["compare_c_directly"]

_BATCH_BYTES = 256 << 20
"""Recorded tensors that are held at a time."""


def compare_c_directly(compiled: Compiled, emission: Emission, graph: IntegerGraph, samples: Sequence[Sample],
                       ours: Sequence[Sample], cc: str | None = None, cflags: str = "") -> Report:
    """Run the C with hooks on the target of the compilation, and onnxruntime, and compare each call's bytes.

    `samples` are the inputs as the model takes them, `ours` the same as the C takes them.
    """
    program = compiled.c_program(replace(emission, hooks=True))
    calls = kernel_calls(compiled.module)
    pairs, report = _comparable(calls, graph)
    step = max(1, _BATCH_BYTES // max(1, sum(op.writes[0].type.size_bytes for op in calls)))
    for start in range(0, len(ours), step):
        recorded = record(program, calls, ours[start:start + step], cc, cflags, compiled.job.target)
        for sample, arrays in zip(samples[start:start + step], recorded, strict=True):
            _compare(report, pairs, arrays, graph.tensors(sample))
    return report


def _comparable(calls: Sequence[Op], graph: IntegerGraph) -> tuple[list[tuple[int, Op, str]], Report]:
    """The calls whose bytes have to equal a tensor: (number, call, tensor); and the report to fill."""
    report, pairs = Report(), []
    ours_alone: set[Value] = set()  # buffers whose contents follow our definition, not onnxruntime's
    for number, op in enumerate(calls):
        tensor = graph.tensor_of(op)
        inexact = tensor is not None and not graph.is_exact(tensor)
        node = ", ".join(origins(op.loc))
        if inexact and node not in report.no_integer_kernel:
            report.no_integer_kernel.append(node)
        if inexact or any(_root(v) in ours_alone for v in op.reads):
            ours_alone.update(_root(v) for v in op.writes)
        elif tensor is not None:
            pairs.append((number, op, tensor))
    report.tensors = len(pairs)
    return pairs, report


def _root(value: Value) -> Value:
    """The slot or argument that a view is of."""
    while value.op is not None and value.op.opname == "mem.view" and value.op.reads:
        value = value.op.reads[0]
    return value


def _compare(report: Report, pairs: Sequence[tuple[int, Op, str]], arrays: Sequence[Array],
             tensors: dict[str, Array]) -> None:
    for number, op, tensor in pairs:
        theirs = reading(tensors[tensor], arrays[number])
        if theirs is None:
            _unmatched(report, op)
            continue
        report.add(", ".join(origins(op.loc)), theirs.size, different_bytes(arrays[number], theirs))


def _unmatched(report: Report, op: Op) -> None:
    name = op.writes[0].name
    if name not in report.unmatched:
        report.unmatched.append(name)
        report.tensors -= 1
