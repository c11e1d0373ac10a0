"""Compares layer by layer: what each kernel call of the C writes, beside the tensor of onnxruntime that it stands for.

The C is built with `--hooks`, so it reports every call's output while it runs with its real memory plan. A call is
matched with the last ONNX node among those that it computes. Images are channels last in the C and channels first in
ONNX: the tensor is turned before it is compared; where a shape reads both ways the closer one counts. Stored integers
are not compared here but byte for byte (`exact`), whose counts are shown in the layer's line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinyir.diag import origins
from tinyir.ir import Array
from tinyir.opdef import Op

from .cli import table
from .compare import Difference, compare_arrays, merge
from .driver import Compiled, Emission
from .program import Sample
from .recording import kernel_calls, record
from .reference import Reference

__all__ = ["LayerReport", "LayerResult", "compare_layers"]

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
    stored: tuple[int, int] | None = None
    """Stored integers that were compared, and how many of them differ."""

    @property
    def ok(self) -> bool:
        """Whether nothing that was compared is out of bounds."""
        return (self.difference is None or self.difference.ok) and (self.stored is None or not self.stored[1])

    @property
    def row(self) -> tuple[str, ...]:
        """Its line in the table."""
        start = str(self.number), self.op
        if self.stored is not None:
            return *start, ", ".join(self.nodes), f"{self.stored[1]:,} of {self.stored[0]:,} wrong", ""
        if self.difference is None:
            return *start, "not in the model", "", ""
        return *start, self.tensor or "", f"{self.difference.max_abs_error:.3g}", f"{100 * self.difference.worst:.3g} %"

    def as_json(self) -> dict[str, Any]:
        """What was compared; `mismatches` are values out of bounds, or stored integers that differ."""
        found = self.difference
        wrong = self.stored[1] if self.stored else found.mismatches if found else None
        return {"number": self.number, "op": self.op, "nodes": list(self.nodes), "tensor": self.tensor,
                "max_abs_error": _finite(found.max_abs_error) if found else None, "mismatches": wrong}


@dataclass(frozen=True)
class LayerReport:
    """All layers, in order of execution."""

    layers: tuple[LayerResult, ...]

    def _compared(self) -> list[tuple[LayerResult, Difference]]:
        return [(layer, layer.difference) for layer in self.layers if layer.difference is not None]

    @property
    def first_wrong(self) -> LayerResult | None:
        """The first layer out of bounds."""
        return next((layer for layer in self.layers if not layer.ok), None)

    @property
    def worst(self) -> LayerResult | None:
        """The layer of floats that is farthest off, in terms of its bound."""
        found = max(self._compared(), key=lambda pair: pair[1].worst, default=None)
        return found[0] if found else None

    def as_json(self) -> dict[str, Any]:
        """Numbers of the first wrong and of the worst layer, and every layer."""
        first, worst = self.first_wrong, self.worst
        return {
            "first_wrong": first.number if first else None, "worst": worst.number if worst else None,
            "compared": sum(layer.difference is not None or layer.stored is not None for layer in self.layers),
            "all": [layer.as_json() for layer in self.layers],
        }

    def text(self) -> str:
        """A table of the layers, and the two that matter."""
        rows = [("layer", "kernel", "ONNX tensor", "max abs error", "share of bound"), *(r.row for r in self.layers)]
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
                   ours: Sequence[Sample], stored: Mapping[str, tuple[int, int]], cc: str | None = None,
                   cflags: str = "") -> LayerReport:
    """Run the C with hooks on this machine (whatever the target) on the first few samples and compare each layer.

    `samples` are the inputs as the model takes them, `ours` the same as the C takes them; `stored` is what the
    comparison of bytes found, by the names of the buffers.
    """
    program = compiled.c_program(replace(emission, hooks=True))
    calls = kernel_calls(compiled.module)
    few = min(_FEW, len(samples))
    recorded = list(record(program, calls, ours[:few], cc, cflags))
    nodes, tensors = reference.tensors(samples[:few])
    return LayerReport(tuple(replace(layer, stored=stored.get(op.writes[0].name) if _stores(op) else None)
                             for op, layer in zip(calls, _match(calls, recorded, nodes, tensors), strict=True)))


def _stores(op: Op) -> bool:
    """Whether it writes integers that stand for reals."""
    type_ = op.writes[0].type
    return type_.dtype.is_integer and type_.quant is not None


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
    if not known or _passes_by(op) or _stores(op):
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
