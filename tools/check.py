"""Runs the C of a compiled model beside onnxruntime and compares: every output value, and layer by layer if asked.

    report = check_compiled(compiled, emission, settings, progress)
    report.ok, report.as_json(), report.verdict()
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinyir.diag import error
from tinyir.ir import Array

from .all_tensors import IntegerGraph, Report
from .cli import Progress, table
from .compare import ABSOLUTE, RELATIVE, Difference, argmax_agreement, argmax_hits, compare_arrays, merge
from .cores import is_emulated
from .driver import Compiled, Emission, Job, layer_by_layer
from .emulator import run_on_target
from .exact import compare_c_directly
from .harness import Run, run_on_host
from .layers import LayerReport, compare_layers
from .program import Port, Program, Sample
from .reference import Reference
from .samples import NO_TRANSFORM, RANDOM_SAMPLES, Samples, Transform, beside, load_samples, random_samples
from .toolchain import core_compiler, host_compiler

__all__ = ["CheckReport", "CheckSettings", "check_compiled"]


@dataclass(frozen=True)
class CheckSettings:
    """What to compare on, and how to build."""

    data: str | None = None
    samples: int | None = None
    labels: str | None = None
    transform: Transform = NO_TRANSFORM
    cc: str | None = None
    cflags: str = ""
    layers: bool = False
    cache: Path | None = None

    @classmethod
    def of(cls, options: Namespace) -> CheckSettings:
        """From the command line."""
        return cls(options.data, options.samples, options.labels, Transform(options.scale, options.offset), options.cc,
                   options.cflags, getattr(options, "layers", False))


@dataclass(frozen=True)
class CheckReport:
    """How a model did."""

    model: str
    target: str
    where: str
    source: str
    """Where the inputs came from."""
    inputs: int
    """How many samples were compared."""
    outputs: tuple[tuple[str, Difference], ...]
    argmax_agreement: float | None
    accuracy: tuple[float, float] | None
    """Share of samples where the C and where onnxruntime give the label."""
    arena_bytes: int
    const_bytes: int
    instructions: int | None
    stack_bytes: int | None
    layers: LayerReport | None = None
    exact: Report | None = None
    """For a quantised model: every byte of every tensor, beside onnxruntime's integer path."""
    accuracy_float: float | None = None
    """For a quantised model: the share of labels that it gives when onnxruntime computes it in float."""

    @property
    def total(self) -> Difference:
        return merge([difference for _, difference in self.outputs])

    @property
    def ok(self) -> bool:
        """Whether every value of every output is within bounds, and every byte of a quantised model equal."""
        return self.total.ok and (self.exact is None or not self.exact.mismatches)

    def as_json(self) -> dict[str, Any]:
        """One flat object; errors that are not finite are null."""
        total = self.total
        fields: dict[str, Any] = {
            "model": self.model, "target": self.target, "ran_on": self.where, "data": self.source,
            "inputs": self.inputs, "values": total.values, "mismatches": total.mismatches,
            "max_abs_error": _finite(total.max_abs_error), "max_rel_error": _finite(total.max_rel_error),
            "share_of_bound": _finite(total.worst), "argmax_agreement": self.argmax_agreement,
            "arena_bytes": self.arena_bytes, "const_bytes": self.const_bytes, "instructions": self.instructions,
            "stack_bytes": self.stack_bytes, "ok": self.ok,
            "outputs": [{"name": name, "values": d.values, "mismatches": d.mismatches,
                         "max_abs_error": _finite(d.max_abs_error), "max_rel_error": _finite(d.max_rel_error)}
                        for name, d in self.outputs],
        }
        if self.exact is not None:
            fields["values"] += self.exact.values
            fields["mismatches"] += self.exact.mismatches
            fields["tensors"], fields["first_mismatch"] = self.exact.tensors, self.exact.first_mismatch
            fields["no_integer_kernel"], fields["unmatched"] = self.exact.no_integer_kernel, self.exact.unmatched
        if self.accuracy is not None:
            fields["accuracy"], fields["accuracy_ort"] = self.accuracy
            fields["accuracy_ort_float"] = self.accuracy_float
        if self.layers is not None:
            fields["layers"] = self.layers.as_json()
        return fields

    def verdict(self) -> str:
        """The result as a person reads it."""
        total = self.total
        word = "ok" if self.ok else "FAILED"
        found = f"{total.values:,} values" if self.ok else f"{total.mismatches:,} of {total.values:,} values differ"
        bound = f"bound {ABSOLUTE:g}*max|ort| + {RELATIVE:g}*|ort|"
        lines = [f"check {word}: {self.source} on {self.where}: {found}, {bound}"]
        rows = [("output", "values", "wrong", "max abs error", "share of bound")]
        rows += [(name, f"{d.values:,}", f"{d.mismatches:,}", f"{d.max_abs_error:.3g}", f"{100 * d.worst:.3g} %")
                 for name, d in self.outputs]
        lines.append(table(rows, right=(1, 2, 3, 4)))
        if self.argmax_agreement is not None:
            lines.append(f"  same largest element as onnxruntime in {100 * self.argmax_agreement:.4g} % of the samples")
        if self.accuracy is not None:
            in_float = "" if self.accuracy_float is None else f", in float {100 * self.accuracy_float:.4g} %"
            ours, theirs = (f"{100 * share:.4g} %" for share in self.accuracy)
            lines.append(f"  accuracy {ours} (onnxruntime {theirs}{in_float})")
        if self.exact is not None:
            lines.append(_exact_text(self.exact))
        if self.instructions is not None:
            lines.append(f"  {self.instructions:,} instructions, {self.stack_bytes:,} bytes of stack")
        if self.layers is not None:
            lines.append(self.layers.text())
        return "\n".join(lines)


def _exact_text(exact: Report) -> str:
    """What the comparison of all bytes found."""
    found = "every byte equals onnxruntime's" if not exact.mismatches else \
        f"{exact.mismatches:,} values differ, first in {exact.first_mismatch}"
    lines = [f"  {exact.tensors} tensors, {exact.values:,} values: {found}"]
    if exact.unmatched:
        lines.append(f"  not compared, without a counterpart in onnxruntime's graph: {', '.join(exact.unmatched)}")
    if exact.no_integer_kernel:
        nodes = ", ".join(exact.no_integer_kernel[:3]) + (", ..." if len(exact.no_integer_kernel) > 3 else "")
        lines.append(f"  onnxruntime has no integer kernel for {len(exact.no_integer_kernel)} nodes ({nodes}): "
                     "these are compared with their definition, and it goes on from the C's bytes")
    return "\n".join(lines)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def check_compiled(compiled: Compiled, emission: Emission, settings: CheckSettings, progress: Progress) -> CheckReport:
    """Build and run the C of `compiled`, run onnxruntime on the same inputs, compare.

    Raises CompileError where something cannot be built, run or read; a difference is a result, not an error.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _check_against(_reference_path(compiled, Path(folder)), compiled, emission, settings, progress)


def _reference_path(compiled: Compiled, folder: Path) -> Path:
    """The ONNX model to compare with: the source, or one that is written into `folder`."""
    if compiled.reference_model is None:
        return Path(compiled.job.source)
    path = folder / f"{Path(compiled.job.source).stem}_quantised.onnx"
    path.write_bytes(compiled.reference_model)
    return path


def _check_against(path: Path, compiled: Compiled, emission: Emission, settings: CheckSettings,
                   progress: Progress) -> CheckReport:
    job = compiled.job
    program = compiled.c_program(emission)
    reference = Reference(path)
    ports = _model_ports(reference, program)
    samples = _samples(job.source, ports, settings, is_emulated(job.target))
    ours = [tuple(p.from_model(a) for a, p in zip(sample, program.inputs, strict=True)) for sample in samples.inputs]
    with progress.stage(f"running the C on {job.target if is_emulated(job.target) else 'this machine'}"):
        run = _in_model_order(program, _run(program, ours, job.target, settings))
    with progress.stage("running onnxruntime"):
        expected = reference.run(samples.inputs)
    exact = _compare_bytes(path, compiled, emission, samples.inputs, ours, settings, progress)
    layers = None
    if settings.layers:
        with progress.stage("comparing layers"):
            layers = compare_layers(layer_by_layer(compiled), emission, reference, samples.inputs, ours,
                                    exact.by_buffer if exact else {}, settings.cc, settings.cflags)
    report = _report(compiled, reference, samples, run, expected, layers, exact)
    if samples.labels is None or exact is None:
        return report
    with progress.stage("running onnxruntime in float"):
        return replace(report, accuracy_float=_float_accuracy(job, reference, samples.inputs, samples.labels))


def _float_accuracy(job: Job, reference: Reference, inputs: Sequence[Sample], labels: Array) -> float | None:
    """Of the model that was quantised here, if it takes the same inputs; else of the quantised one in float."""
    if job.quantization.scheme is None:
        return argmax_hits(reference.run_in_float(inputs), labels)
    origin = Reference(job.source)
    same = [port.dtype for port in origin.inputs] == [port.dtype for port in reference.inputs]
    return argmax_hits(origin.run(inputs), labels) if same else None


def _compare_bytes(path: Path, compiled: Compiled, emission: Emission, samples: Sequence[Sample],
                   ours: Sequence[Sample], settings: CheckSettings, progress: Progress) -> Report | None:
    """All tensors of a quantised model, layer by layer: by its schedule they are not there as wholes."""
    graph = IntegerGraph(path)
    if not graph.computes_integers:
        return None
    with progress.stage("comparing every tensor"):
        return compare_c_directly(layer_by_layer(compiled), emission, graph, samples, ours, settings.cc,
                                  settings.cflags)


def _report(compiled: Compiled, reference: Reference, samples: Samples, run: Run, expected: Sequence[Sample],
            layers: LayerReport | None, exact: Report | None) -> CheckReport:
    outputs = tuple(
        (name, merge([compare_arrays(got[i], want[i]) for got, want in zip(run.outputs, expected, strict=True)]))
        for i, name in enumerate(reference.outputs))
    accuracy = None
    if samples.labels is not None:
        accuracy = argmax_hits(run.outputs, samples.labels), argmax_hits(expected, samples.labels)
    job, facts = compiled.job, compiled.facts
    return CheckReport(Path(job.source).name, job.target, run.where, samples.source, len(samples.inputs), outputs,
                       argmax_agreement(run.outputs, expected), accuracy, facts.arena_bytes, facts.const_bytes,
                       run.instructions, run.stack_bytes, layers, exact)


def _model_ports(reference: Reference, program: Program) -> list[Port]:
    """The inputs as the model has them: names and order of axes of the file, open extents as they were compiled."""
    if len(reference.inputs) != len(program.inputs):
        raise error(f"the model has {len(reference.inputs)} inputs, the C takes {len(program.inputs)}")
    ports = []
    for model, port in zip(reference.inputs, program.inputs, strict=True):
        shape = port.model_shape
        if len(model.shape) != len(shape) or any(m not in (None, s) for m, s in zip(model.shape, shape, strict=True)):
            raise error(f"input {model.name!r} has shape {model.shape} in the model and {port.shape} in the C")
        ports.append(replace(port, name=model.name, shape=shape, layout=""))
    return ports


def _samples(source: str, ports: Sequence[Port], settings: CheckSettings, emulated: bool) -> Samples:
    path: str | Path | None = settings.data if settings.data is not None else beside(source)
    if path is None:
        return random_samples(ports, settings.samples or RANDOM_SAMPLES)
    # An emulated core is some hundred times slower: a test set takes too long there unless it is asked for.
    limit = settings.samples or (RANDOM_SAMPLES if emulated else None)
    return load_samples(path, ports, labels=settings.labels, limit=limit, transform=settings.transform)


def _in_model_order(program: Program, run: Run) -> Run:
    """The outputs of `run` with their axes in the order of the model file."""
    outputs = [tuple(p.to_model(a) for a, p in zip(row, program.outputs, strict=True)) for row in run.outputs]
    return replace(run, outputs=outputs)


def _run(program: Program, samples: Sequence[tuple[Array, ...]], target: str, settings: CheckSettings) -> Run:
    if is_emulated(target):
        compiler = core_compiler(target, cc=settings.cc, cflags=settings.cflags)
        return run_on_target(program, samples, target, compiler=compiler, cache=settings.cache)
    host = host_compiler(cc=settings.cc, cflags=settings.cflags)
    run = run_on_host(program, samples, compiler=host, cache=settings.cache)
    return replace(run, where=f"this machine ({host})")
