"""Compares layer by layer: what each kernel call of the C writes, beside the tensor of onnxruntime that it stands for.

The C is built with `--hooks`, so it reports every call's output while it runs with its real memory plan. A call is
matched with the last ONNX node among those that it computes. Images are channels last in the C and channels first in
ONNX: the tensor is turned before it is compared; where a shape reads both ways the closer one counts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinyir.diag import origins
from tinyir.ir import Array, Module
from tinyir.opdef import Op
from tinyir.types import U8

from .cli import table
from .compare import Difference, compare_arrays, merge
from .cores import is_emulated
from .driver import Compiled, Emission
from .emulator import run_on_target
from .harness import HOST_FLAGS, run_library
from .program import Port, Program, Sample
from .reference import Reference
from .toolchain import core_compiler, host_compiler, shared_library

__all__ = ["LayerReport", "LayerResult", "compare_layers", "kernel_calls", "record",
           "recording"]

_FEW = 5
"""Samples that are compared; each brings every tensor of the model."""


@dataclass(frozen=True)
class LayerResult:
    """One call of a kernel: its number, op, ONNX nodes, the tensor it was compared with (None: no counterpart)."""

    number: int
    op: str
    nodes: tuple[str, ...]
    tensor: str | None
    difference: Difference | None


@dataclass(frozen=True)
class LayerReport:
    """All layers, in order of execution."""

    layers: tuple[LayerResult, ...]

    def _compared(self) -> list[tuple[LayerResult, Difference]]:
        return [(layer, layer.difference) for layer in self.layers if layer.difference is not None]

    @property
    def first_wrong(self) -> LayerResult | None:
        """The first layer out of bounds."""
        return next((layer for layer, difference in self._compared() if not difference.ok), None)

    @property
    def worst(self) -> LayerResult | None:
        """The layer that is farthest off, in terms of its bound."""
        found = max(self._compared(), key=lambda pair: pair[1].worst, default=None)
        return found[0] if found else None

    def as_json(self) -> dict[str, Any]:
        """Numbers of the first wrong and of the worst layer, and every layer."""
        first, worst = self.first_wrong, self.worst
        return {
            "first_wrong": first.number if first else None, "worst": worst.number if worst else None,
            "compared": len(self._compared()),
            "all": [{"number": r.number, "op": r.op, "nodes": list(r.nodes), "tensor": r.tensor,
                     "max_abs_error": _finite(r.difference.max_abs_error) if r.difference else None,
                     "mismatches": r.difference.mismatches if r.difference else None} for r in self.layers],
        }

    def text(self) -> str:
        """A table of the layers, and the two that matter."""
        rows = [("layer", "kernel", "ONNX tensor", "max abs error", "share of bound")]
        for r in self.layers:
            d = r.difference
            rows.append((str(r.number), r.op, r.tensor or "not in the model",
                         f"{d.max_abs_error:.3g}" if d else "", f"{100 * d.worst:.3g} %" if d else ""))
        first, worst = self.first_wrong, self.worst
        lines = [table(rows, right=(0, 3, 4))]
        lines.append(f"  first layer that differs: {_name(first)}" if first else "  no layer differs")
        if worst is not None:
            lines.append(f"  worst layer: {_name(worst)}")
        return "\n".join(lines)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _name(layer: LayerResult) -> str:
    return f"{layer.number}, {layer.op}, ONNX {', '.join(layer.nodes)}"


def compare_layers(compiled: Compiled, emission: Emission, reference: Reference, samples: Sequence[Sample],
                   ours: Sequence[Sample], cc: str | None = None, cflags: str = "") -> LayerReport:
    """Run the C with hooks on this machine (whatever the target) on the first few samples and compare each layer.

    `samples` are the inputs as the model takes them, `ours` the same as the C takes them.
    """
    program = compiled.c_program(replace(emission, hooks=True))
    calls = kernel_calls(compiled.module)
    few = min(_FEW, len(samples))
    recorded = record(program, calls, ours[:few], cc, cflags)
    nodes, tensors = reference.tensors(samples[:few])
    return LayerReport(tuple(_match(calls, recorded, nodes, tensors)))


def kernel_calls(module: Module) -> list[Op]:
    """The ops that the C calls a function for, in order; their numbers are those that the hook gets."""
    return [op for op in module.main.block.walk() if op.writes]


_RECORDER = """\
#include <stdint.h>
#include <stddef.h>
#include "{header}"
#include "{name}_record.h"
static unsigned char *place;
static void keep(void *user, int32_t layer, const void *data, size_t bytes)
{{
    size_t i;
    (void)user; (void)layer;
    for (i = 0; i < bytes; i++) *place++ = ((const unsigned char *)data)[i];
}}
int {name}_record_run({parameters})
{{
    place = p{last};
    return {name}_run_hooked({arguments}, keep, NULL);
}}
"""


def recording(program: Program, calls: Sequence[Op]) -> Program:
    """A program around `program` (with hooks) that gives what each call wrote as one more output, call after call."""
    name = f"{program.name}_record"
    count = len(program.inputs) + len(program.outputs) + (program.caller_arena is not None)
    parameters = ", ".join(f"void *p{i}" for i in range(count + 1))
    source = _RECORDER.format(header=program.header, name=program.name, last=count, parameters=parameters,
                              arguments=", ".join(f"p{i}" for i in range(count)))
    log = Port("log", (sum(op.writes[0].type.size_bytes for op in calls),), U8)
    files = {**program.files, f"{name}.c": source.encode(), f"{name}.h": f"int {name}_run({parameters});\n".encode()}
    return replace(program, name=name, outputs=(*program.outputs, log), files=files)


def record(program: Program, calls: Sequence[Op], samples: Sequence[Sample], cc: str | None, cflags: str,
           target: str = "generic") -> list[list[Array]]:
    """What each call wrote, sample by sample, on this machine or on the emulated core `target`."""
    recorder = recording(program, calls)
    if is_emulated(target):
        run = run_on_target(recorder, samples, target, compiler=core_compiler(target, cc=cc, cflags=cflags))
        return [_split(outputs[-1].tobytes(), calls) for outputs in run.outputs]
    compiler = host_compiler(cc=cc, cflags=cflags)
    with tempfile.TemporaryDirectory(prefix="tinyc-") as name:
        library = shared_library(recorder.files, compiler, Path(name), HOST_FLAGS)
        logs = [outputs[-1] for outputs in run_library(recorder, library, samples).outputs]
    return [_split(log.tobytes(), calls) for log in logs]


def _split(log: bytes, calls: Sequence[Op]) -> list[Array]:
    arrays, start = [], 0
    for op in calls:
        type_ = op.writes[0].type
        flat = np.frombuffer(log, type_.dtype.numpy, count=type_.elements, offset=start)
        arrays.append(flat.reshape(type_.shape))
        start += type_.size_bytes
    return arrays


def _match(calls: Sequence[Op], recorded: Sequence[Sequence[Array]], nodes: dict[str, list[str]],
           tensors: dict[str, list[Array]]) -> list[LayerResult]:
    order = {name: position for position, name in enumerate(nodes)}
    owner: dict[str, int] = {}  # tensor -> the last call that ends with the node that produces it
    chosen: list[str | None] = []
    for number, op in enumerate(calls):
        tensor = _counterpart(op, order, nodes, tensors)
        chosen.append(tensor)
        if tensor is not None:
            owner[tensor] = number
    results = []
    for number, (op, tensor) in enumerate(zip(calls, chosen, strict=True)):
        mine = tensor if tensor is not None and owner[tensor] == number else None
        found = None
        if mine is not None:
            found = merge([closest(row[number], want) for row, want in zip(recorded, tensors[mine], strict=True)])
        results.append(LayerResult(number, op.opname, tuple(origins(op.loc)), mine, found))
    return results


def _counterpart(op: Op, order: dict[str, int], nodes: dict[str, list[str]], tensors: dict[str, list[Array]]) \
        -> str | None:
    """The ONNX tensor that the call's result stands for, or None where it has no counterpart of that size."""
    known = sorted((n for n in origins(op.loc) if n in order), key=lambda n: order[n])
    if not known or _passes_by(op):
        return None
    type_ = op.writes[0].type
    fitting = [t for t in nodes[known[-1]] if tensors[t][0].size == type_.elements]
    return fitting[0] if len(fitting) == 1 else None


def _passes_by(op: Op) -> bool:
    """Whether what the op writes exists inside a loop only, row by row: when the loop is done it is gone."""
    inside = op.block is not None and isinstance(op.block.parent, Op)
    return inside and all(user.block is op.block for user in op.writes[0].users)


def closest(ours: Array, reference: Array) -> Difference:
    """Compare a layer of the C with an ONNX tensor that may be channels first."""
    readings = [reference]
    if reference.ndim >= 3:
        readings.append(np.moveaxis(reference, 1, -1))
    shape = [extent for extent in ours.shape if extent != 1]
    fitting = [r for r in readings if [e for e in r.shape if e != 1] == shape] or readings
    return min((compare_arrays(ours, r) for r in fitting), key=lambda d: d.worst)
