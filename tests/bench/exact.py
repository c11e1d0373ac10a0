"""Compares every byte of quantised models with onnxruntime's: `python tests/bench/exact.py [--core] [MODEL ...]`.

    EXACT.md, exact.json      beside this file

For each model, on all the real data there is and on 1000 random inputs: what every call of the C writes beside
onnxruntime's integer path, on this machine and (20 random inputs) on an emulated Cortex-M4F; the interpreter beside
onnxruntime; and the C built with other compilers and with flags that let a compiler fuse float operations. Accuracy of
onnxruntime's integer path on the labels. With model names only these are measured.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from models import QUANTISED, Model
from tinyc.tools.all_tensors import IntegerGraph, Report, compare_all, compare_c
from tinyc.tools.compare import argmax_hits
from tinyc.tools.driver import Compiled, Emission, Job, compile_job
from tinyc.tools.exact import compare_c_directly
from tinyc.tools.program import Port, Sample

HERE = Path(__file__).resolve().parent
RANDOM, EMULATED, FLAGGED = 1000, 20, 50
FUSING = "-std=gnu11 -O3 -ffp-contract=fast -march=native"
LARGE_MACS, MIDDLE_MACS = 30_000_000, 1_000_000

_INTRODUCTION = f"""\
# Exactness of quantised models

Made by `python tests/bench/exact.py`. Every byte of every tensor that survives compilation is compared with
onnxruntime's integer path: on all real data and {RANDOM} random inputs on this machine, on {EMULATED} on an emulated
Cortex-M4F, on {FLAGGED} with gcc and clang and `{FUSING}`;
the interpreter on as many as its speed allows, beside onnxruntime and beside the C. Entries are wrong bytes of those
compared. Where onnxruntime computes a node in float the definition is the interpreter's: the node is compared with
that (one that gives floats in the column of C and interpreter only), and behind it onnxruntime goes on from the C's
bytes (beside the interpreter, from its own).
"""
_PARTS = ("real", "random", "cortex-m4", "gcc, fused", "clang, fused", "interpreter", "c_interpreter")
_COLUMNS = ("model", "real data", "random", "Cortex-M4F", "fused, gcc", "fused, clang", "interpreter",
            "C and interpreter", "nodes in float", "accuracy")

Row = dict[str, Any]


class RandomSamples(Sequence[Sample]):
    """`count` inputs of growing spread, so that layers see both quiet and saturated values; each is made when it is
    asked for."""

    def __init__(self, ports: Sequence[Port], count: int) -> None:
        self.ports = ports
        self.spreads = np.linspace(0.1, 4, count)

    def __len__(self) -> int:
        return len(self.spreads)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        rng, spread = np.random.default_rng((7, index)), self.spreads[index]
        return tuple(_random(port.model_shape, port.dtype.numpy, rng, spread) for port in self.ports)


def random_samples(compiled: Compiled, count: int) -> RandomSamples:
    """For the inputs of the model."""
    return RandomSamples(_ports(compiled), count)


def _ports(compiled: Compiled) -> tuple[Port, ...]:
    return compiled.c_program(Emission("model")).inputs


def _random(shape: tuple[int, ...], dtype: np.dtype[np.generic], rng: np.random.Generator, spread: float) -> Any:
    if dtype.kind == "f":
        return rng.normal(0, spread, shape).astype(dtype)
    return np.clip(np.rint(rng.normal(0, 40 * spread, shape)), -128, 127).astype(dtype)


def real_samples(model: Model) -> tuple[list[Sample], Any]:
    """The real inputs, and their labels or None."""
    arrays = model.arrays()
    if arrays is None:
        return [], None
    shape_first = arrays[model.input]
    return [(sample[None],) for sample in shape_first], arrays.get("y")


def interpreted(macs: int) -> int:
    """Inputs for the interpreter, by the size of the model."""
    return RANDOM if macs < MIDDLE_MACS else 20 if macs < LARGE_MACS else 2


def as_row(report: Report) -> Row:
    """What is kept of a comparison."""
    return {"tensors": report.tensors, "values": report.values, "mismatches": report.mismatches,
            "first_mismatch": report.first_mismatch, "no_integer_kernel": len(report.no_integer_kernel),
            "float_route": report.float_route}


def measure_core(model: Model) -> Row:
    """The comparison on the emulated core."""
    compiled = compile_job(Job(str(model.path), target="cortex-m4", layerwise=True))
    samples = random_samples(compiled, EMULATED)
    report = compare_c_directly(compiled, Emission("model"), IntegerGraph(model.path), samples, samples)
    return {"cortex-m4": as_row(report)}


def measure(model: Model) -> Row:
    """Every comparison of one model."""
    start = time.perf_counter()
    compiled = compile_job(Job(str(model.path), layerwise=True))
    graph = IntegerGraph(model.path)
    before = compile_job(Job(str(model.path), stop_after="canonicalize")).module
    random = random_samples(compiled, RANDOM)
    real, labels = real_samples(model)
    real = [tuple(a.reshape(p.model_shape) for a, p in zip(s, random.ports, strict=True)) for s in real]
    some = interpreted(compiled.facts.macs)
    emission = Emission("model")

    def direct(samples: Sequence[Sample], cc: str | None = None, flags: str = "") -> Report:
        return compare_c_directly(compiled, emission, graph, samples, samples, cc, flags)

    parts = {"real": direct(real), "random": direct(random),
             "interpreter": compare_all(model.path, before, random[:some]),
             "c_interpreter": compare_c(compiled, emission, random[:min(some, 20)])}
    for compiler in ("gcc", "clang"):
        parts[f"{compiler}, fused"] = direct(random[:FLAGGED], cc=compiler, flags=FUSING)
    row: Row = {**{name: as_row(report) for name, report in parts.items()}, **measure_core(model)}
    row["real_inputs"], row["interpreted"] = len(real), some
    if labels is not None and model.classifies:
        outputs = [tuple(graph.tensors(s)[o] for o in graph.outputs) for s in real]
        row["accuracy"] = argmax_hits(outputs, labels)
    row["seconds"] = round(time.perf_counter() - start, 1)
    return row


def text(results: dict[str, Row]) -> str:
    """The table."""
    lines = [_INTRODUCTION, f"| {' | '.join(_COLUMNS)} |", "| --- " + "| --: " * (len(_COLUMNS) - 1) + "|"]
    for name in sorted(results):
        row = results[name]
        cells = [_cell(row, part) for part in _PARTS]
        accuracy = f"{100 * row['accuracy']:.1f} %" if "accuracy" in row else "-"
        in_float = str(row["interpreter"]["no_integer_kernel"])
        lines.append(f"| {' | '.join((name, *cells, in_float, accuracy))} |")
    return "\n".join(lines) + "\n"


def _cell(row: Row, part: str) -> str:
    found = row.get(part)
    return f"{found['mismatches']} of {found['values']:,}" if found and found["values"] else "-"


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="only these")
    parser.add_argument("--core", action="store_true", help="only the emulated core, and keep the other figures")
    options = parser.parse_args()
    chosen = options.models or [name for name, model in QUANTISED.items() if model.path.exists()]
    path = HERE / "exact.json"
    results: dict[str, Row] = json.loads(path.read_text()) if path.exists() else {}
    for name in chosen:
        fresh = {**results.get(name, {}), **measure_core(QUANTISED[name])} if options.core else measure(QUANTISED[name])
        results[name] = fresh
        print(name, json.dumps(results[name]), flush=True)
        path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        (HERE / "EXACT.md").write_text(text(results))


if __name__ == "__main__":
    main()
