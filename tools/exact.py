"""Compares what every call of the C writes with onnxruntime's integer path, byte for byte, on the host or emulated.

    report = compare_c_directly(compiled, emission, IntegerGraph(path), samples, ours)
    report.values, report.mismatches, report.first_mismatch

This is the comparison without a go-between: `all_tensors` compares the interpreter with onnxruntime and the C with the
interpreter. A node that onnxruntime computes in float is named in `no_integer_kernel`: there the definition is the
interpreter's, which runs on what the C had before that call, and onnxruntime goes on from the C's own bytes, so that
everything behind it is compared all the same.
Where dead channels were removed from what the C has, onnxruntime keeps its own: constant ones, or ones that nobody
reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from tinyir.diag import origins
from tinyir.ir import Array, Value
from tinyir.opdef import Op

from .all_tensors import IntegerGraph, Report, aligned, different_bytes, reading
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
        _compare(report, plan, arrays, _tensors(graph, plan, sample, arrays))
    return report


@dataclass(frozen=True)
class _Given:
    """A tensor that onnxruntime gets from a call."""

    tensor: str
    shape: tuple[int, ...]
    last: bool
    """Whether the C has its channels last, and the tensor first."""
    source: int | None = None
    """The call that it reads and has its channels, where these are fewer than the tensor's."""


@dataclass(frozen=True)
class _Plan:
    """What is done with the calls, by their numbers."""

    pairs: dict[int, tuple[Op, str]]
    """Calls whose bytes have to equal a tensor."""
    given: dict[int, _Given]
    defined: dict[int, tuple[Op, dict[Value, int]]]
    """Calls whose bytes have to equal what their definition makes of earlier calls' bytes: which call wrote a value."""


def _plan(calls: Sequence[Op], graph: IntegerGraph, arrays: Sequence[Array], tensors: Mapping[str, Array],
          report: Report) -> _Plan:
    """`arrays` and `tensors` belong to one sample; nodes that onnxruntime computes in float are put into `report`."""
    plan = _Plan({}, {}, {})
    writers: dict[Value, int] = {}
    ours_alone: set[Value] = set()  # buffers whose contents follow our definition, and onnxruntime has not got them
    for number, op in enumerate(calls):
        sources = {v: writers[root] for v in op.reads if (root := _root(v)) in writers}
        source = next(iter(sources.values()), None)
        tensor = _tensor_of(op, graph, plan, source)
        inexact = tensor is not None and not graph.is_exact(tensor)
        node = ", ".join(origins(op.loc))
        if inexact and node not in report.no_integer_kernel:
            report.no_integer_kernel.append(node)
        if inexact and _computable(op, {v: calls[n] for v, n in sources.items()}):
            plan.defined[number] = op, sources
        writers[_root(op.writes[0])] = number
        if not inexact and not any(_root(v) in ours_alone for v in op.reads):
            plan.pairs.update({} if tensor is None else {number: (op, tensor)})
        elif tensor is not None and (given := _given(plan, arrays, number, source, tensor, tensors)):
            plan.given[number] = given
        else:
            ours_alone.update(_root(v) for v in op.writes)
    report.tensors = len(plan.pairs) + len(plan.defined)
    return plan


def _computable(op: Op, sources: Mapping[Value, Op]) -> bool:
    """Whether its result is stored (floats need not be equal to the last bit), and all that it reads is a constant or
    recorded as it is then: whole buffers, and not within loops."""
    whole = {value for value, call in sources.items() if _same_bytes(value, call.writes[0]) and not _in_loop(call)}
    stored = len(op.writes) == 1 and op.writes[0].type.dtype.is_integer and not _in_loop(op)
    return stored and all(v.data is not None or v in whole for v in op.reads)


def _same_bytes(one: Value, other: Value) -> bool:
    """Whether they are one buffer, or both are views of all of one."""
    sizes = {v.type.size_bytes for v in (one, other, _root(one), _root(other))}
    return one is other or (_root(one) is _root(other) and len(sizes) == 1 and one.type.dtype == other.type.dtype)


def _in_loop(op: Op) -> bool:
    return op.block is not None and isinstance(op.block.parent, Op)


def _definition(op: Op, sources: Mapping[Value, int], arrays: Sequence[Array]) -> Array:
    """What the interpreter's definition of `op` makes of the C's own arrays."""
    type_ = op.writes[0].type
    result = np.empty(type_.shape, type_.dtype.numpy)
    known: dict[Value, Any] = {v: v.data if v.data is not None else arrays[sources[v]].reshape(v.shape)
                               for v in op.reads}
    known[op.writes[0]] = result
    groups = [[None if v is None else known[v] for v in group] for group in op.operand_groups]
    op.reference(*(group if field.variadic else group[0] for field, group in
                   zip(op.schema.operands, groups, strict=True)))
    return result


def _tensor_of(op: Op, graph: IntegerGraph, plan: _Plan, source: int | None) -> str | None:
    """The tensor that `op` stands for; where we turned axes and the model does not, the one that was turned."""
    if op.opname != "k.transpose":
        return graph.tensor_of(op)
    names = origins(op.loc)
    turned = [node.output[0] for node in graph.nodes if node.op_type == "Transpose" and node.name in names]
    if not turned and source in plan.pairs:
        return plan.pairs[source][1]
    return turned[-1] if turned else graph.tensor_of(op)


def _given(plan: _Plan, arrays: Sequence[Array], number: int, source: int | None, tensor: str,
           tensors: Mapping[str, Array]) -> _Given | None:
    """How `tensor` is made of what call `number` writes, or None. `arrays` and `tensors` belong to one sample."""
    mine, theirs = arrays[number], tensors[tensor]
    if mine.dtype != theirs.dtype:
        return None
    possible = (False, True) if theirs.ndim > 2 else (False,)
    orders = [last for last in possible if _extents(mine) == _extents(_ordered(theirs, last))]
    if orders:
        closest = min(orders, key=lambda last: different_bytes(mine, _ordered(theirs, last).reshape(mine.shape)))
        return _Given(tensor, theirs.shape, closest)
    if source is None or not _has_fewer(mine, theirs):
        return None
    known = source in plan.pairs and _has_fewer(arrays[source], tensors[plan.pairs[source][1]])
    known = known or (source in plan.given and plan.given[source].source is not None)
    alike = known and mine.shape[-1] == arrays[source].shape[-1]
    return _Given(tensor, theirs.shape, theirs.ndim > 2, source) if alike else None


def _has_fewer(mine: Array, theirs: Array) -> bool:
    """Whether they differ in the number of channels only, which `theirs` has on axis 1 and `mine` on the last."""
    return mine.ndim > 0 and theirs.ndim > 1 and mine.shape[-1] < theirs.shape[1] \
        and mine.size * theirs.shape[1] == theirs.size * mine.shape[-1]


def _ordered(tensor: Array, last: bool) -> Array:
    """A view of `tensor` with channels last, if they are to be."""
    return np.moveaxis(tensor, 1, -1) if last else tensor


def _extents(array: Array) -> list[int]:
    return [extent for extent in array.shape if extent != 1]


def _tensors(graph: IntegerGraph, plan: _Plan, sample: Sample, arrays: Sequence[Array]) -> dict[str, Array]:
    """onnxruntime's tensors for one sample, those of `plan.given` being made of `arrays`."""
    given: dict[str, Array] = {}
    places: dict[int, list[int]] = {}  # call with fewer channels -> where they are among those of the tensor
    for number, item in plan.given.items():
        whole = np.empty(item.shape, arrays[number].dtype)
        if item.source is not None:
            tensors = graph.tensors(sample, given)
            whole[...] = tensors[item.tensor]
            places[number] = places.get(item.source) or _places(plan, item.source, arrays, tensors)
        ordered = _ordered(whole, item.last)
        chosen = ordered[..., places.get(number, slice(None))]
        ordered[..., places.get(number, slice(None))] = arrays[number].reshape(chosen.shape)
        given[item.tensor] = whole
    return graph.tensors(sample, given)


def _places(plan: _Plan, number: int, arrays: Sequence[Array], tensors: Mapping[str, Array]) -> list[int]:
    """For each channel of a compared call, which one of its tensor it is."""
    wide = tensors[plan.pairs[number][1]]
    return aligned(_columns(arrays[number]), _columns(_ordered(wide, wide.ndim > 2)))


def _columns(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])


def _root(value: Value) -> Value:
    """The slot or argument that a view is of."""
    while value.op is not None and value.op.opname == "mem.view" and value.op.reads:
        value = value.op.reads[0]
    return value


def _compare(report: Report, plan: _Plan, arrays: Sequence[Array], tensors: Mapping[str, Array]) -> None:
    for number, (op, tensor) in plan.pairs.items():
        theirs = reading(tensors[tensor], arrays[number])
        if theirs is None:
            _unmatched(report, op)
            continue
        _add(report, op, arrays[number], theirs)
    for number, (op, sources) in plan.defined.items():
        _add(report, op, arrays[number], _definition(op, sources, arrays))
    for number, item in plan.given.items():
        route = reading(tensors[item.tensor], arrays[number])
        report.float_route += 0 if route is None else different_bytes(arrays[number], route)


def _add(report: Report, op: Op, ours: Array, theirs: Array) -> None:
    report.add(", ".join(origins(op.loc)), theirs.size, different_bytes(ours, theirs), op.writes[0].name)


def _unmatched(report: Report, op: Op) -> None:
    name = op.writes[0].name
    if name not in report.unmatched:
        report.unmatched.append(name)
        report.tensors -= 1
