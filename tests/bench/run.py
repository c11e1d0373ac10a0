"""Measures what the README claims, and writes it down: `python tests/bench/run.py [MODEL ...]`.

    RESULTS.md, results.json      beside this file

For each float model: ONNX to C (a fresh process), sizes, and the speed of the C on this machine beside onnxruntime, one
thread each, in turns within one run. For some: instructions on an emulated Cortex-M4F beside other compilers. And how
long `tinyc --help` and `--version` take. With model names only these are measured anew; the others keep their figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models import MODELS, Model
from tinyc.tools.cli import table
from tinyc.tools.driver import Emission, Job, compile_job
from tinyc.tools.emulator import run_on_target
from tinyc.tools.harness import run_library
from tinyc.tools.program import Program, Sample
from tinyc.tools.reference import Reference
from tinyc.tools.samples import random_samples
from tinyc.tools.toolchain import core_compiler, host_compiler, routes_present, shared_library

HERE = Path(__file__).resolve().parent
TINYC = [sys.executable, "-m", "tinyc.tools.tinyc"]
SPEED_FLAGS = ("-std=c99", "-O3", "-march=native")
ROUNDS = 7
ROUND_SECONDS = 0.15

PEERS = {
    "kws_dscnn_f32": {"TFLM": 35_182_760, "onnx2c": 19_000_000, "emx-onnx-cgen": 15_600_000},
    "resnet8_f32": {"TFLM": 88_068_560, "onnx2c": 121_600_000, "emx-onnx-cgen": 91_500_000},
    "vww_mobilenetv1_f32": {"TFLM": 77_405_240, "onnx2c": 54_100_000, "emx-onnx-cgen": 48_300_000},
    "ad_autoencoder_f32": {"TFLM": 1_361_840, "onnx2c": 1_340_000, "emx-onnx-cgen": 1_340_000},
    "hello_world_f32": {},
}
"""Instructions of one inference on an emulated Cortex-M4F, measured elsewhere: ../shared/reference/baselines.md."""
PEER_NAMES = ("TFLM", "onnx2c", "emx-onnx-cgen")

Row = dict[str, Any]


def wall(arguments: Sequence[str], repeat: int) -> float:
    """The least wall-clock time of a fresh `tinyc` process, in seconds."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        subprocess.run([*TINYC, *arguments], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times)


def measure_compiling(model: Model) -> Row:
    """Seconds from ONNX to files, and sizes."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        seconds = wall([str(model.path), "-o", f"{folder}/", "-q", "--report", str(report)], 3)
        facts = json.loads(report.read_text())
    kept = ("nodes", "operators", "macs", "parameters", "arena_bytes", "const_bytes")
    return {"compile_seconds": round(seconds, 3), "compile_limit": model.seconds, **{k: facts[k] for k in kept}}


def program_for(model: Model, target: str) -> Program:
    """The C for `target`."""
    return compile_job(Job(str(model.path), target=target)).c_program(Emission("net"))


def measure_speed(model: Model) -> Row:
    """Milliseconds of one inference: our C and onnxruntime, in turns, the median of the rounds."""
    program = program_for(model, "host")
    reference = Reference(model.path)
    sample = random_samples(program.inputs, 1).inputs[0]
    with tempfile.TemporaryDirectory() as folder:
        library = shared_library(program.files, host_compiler(), Path(folder), SPEED_FLAGS)
        ours, theirs = _alternate(program, library, reference, sample)
    return {"c_ms": round(ours * 1e3, 4), "ort_ms": round(theirs * 1e3, 4), "ratio": round(ours / theirs, 2)}


def _alternate(program: Program, library: Path, reference: Reference, sample: Sample) -> tuple[float, float]:
    once = statistics.median(run_library(program, library, [sample], repeat=3).seconds)
    theirs_once = statistics.median(reference.seconds(sample, 3))
    repeat = max(3, int(ROUND_SECONDS / max(once, theirs_once)))
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(statistics.median(run_library(program, library, [sample], repeat=repeat).seconds))
        theirs.append(statistics.median(reference.seconds(sample, repeat)))
    return statistics.median(ours), statistics.median(theirs)


def measure_core(model: Model) -> Row:
    """Instructions and stack of one inference on an emulated Cortex-M4F, by each compiler that is here."""
    program = program_for(model, "cortex-m4")
    samples = random_samples(program.inputs, 1).inputs
    found: Row = {}
    for route in routes_present("cortex-m4"):
        run = run_on_target(program, samples, "cortex-m4", compiler=core_compiler("cortex-m4", prefer=route))
        name = {"system": "gcc", "zig": "zig"}[route]
        found[f"m4_{name}"], found[f"m4_{name}_stack"] = run.instructions, run.stack_bytes
    return found


def measure(model: Model) -> Row:
    """Everything about one model."""
    row = {**measure_compiling(model), **measure_speed(model)}
    return {**row, **measure_core(model)} if model.name in PEERS else row


def measure_start() -> Row:
    """Seconds of `tinyc --help` and `tinyc --version`."""
    return {option: round(wall([option], 5), 3) for option in ("--help", "--version")}


# -- writing it down -------------------------------------------------------------------------------------------------


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; all columns but the first to the right."""
    head, *body = rows
    rule = ["---", *("--:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body))


def models_table(results: dict[str, Row]) -> str:
    """Sizes, compile time and speed of every model."""
    rows = [("model", "MACs", "arena bytes", "constant bytes", "ONNX to C, s", "C, ms", "onnxruntime, ms", "ratio")]
    rows += [(name, f"{r['macs']:,}", f"{r['arena_bytes']:,}", f"{r['const_bytes']:,}", f"{r['compile_seconds']:.2f}",
              f"{r['c_ms']:.4f}", f"{r['ort_ms']:.4f}", f"{r['ratio']:.2f}") for name, r in sorted(results.items())]
    return text_table(rows)


def core_table(results: dict[str, Row]) -> str:
    """Instructions on the emulated core beside those of others."""
    rows = [("model", "tinyc, gcc", "tinyc, zig", "a MAC", "stack", *PEER_NAMES)]
    for name, peers in sorted(PEERS.items()):
        row = results.get(name, {})
        if "m4_gcc" in row or "m4_zig" in row:
            best = min(row[k] for k in ("m4_gcc", "m4_zig") if k in row)
            rows.append((name, _count(row.get("m4_gcc")), _count(row.get("m4_zig")), f"{best / row['macs']:.2f}",
                         _count(row.get("m4_gcc_stack", row.get("m4_zig_stack"))),
                         *(_count(peers.get(peer)) for peer in PEER_NAMES)))
    return text_table(rows)


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def report(results: dict[str, Row], start: Row) -> str:
    """RESULTS.md."""
    return f"""# Measured figures

Made by `python tests/bench/run.py`. Times are of one machine with two cores; the ratio is what to look at.

## Compiling, memory, and speed on the host

`ratio` is the time of one inference of the C (`-O2 --target host`, built with `{' '.join(SPEED_FLAGS[1:])}`, one
thread) over that of onnxruntime with one thread, measured in turns; below 1 the C is faster. Both are called from
Python, which costs a few microseconds.

{models_table(results)}

`tinyc --help` takes {start['--help']:.2f} s, `tinyc --version` {start['--version']:.2f} s.

## Instructions of one inference on an emulated Cortex-M4F

`--target cortex-m4`, `-O3`, gcc and zig's clang. The others were measured on the same models with arm-none-eabi-gcc.

{core_table(results)}
"""


def load() -> Row:
    """The figures of the last time."""
    path = HERE / "results.json"
    loaded: Row = json.loads(path.read_text()) if path.exists() else {}
    return loaded


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--write-only", action="store_true", help="measure nothing, write RESULTS.md anew")
    options = parser.parse_args()
    names = [] if options.write_only else options.models or list(MODELS)
    unknown = [n for n in names if n not in MODELS or not MODELS[n].path.is_file()]
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}")
    results: dict[str, Row] = load().get("models", {})
    start = load()["start"] if options.write_only else measure_start()
    for name in names:
        results[name] = measure(MODELS[name])
        print(table([(name, *(f"{k} {v}" for k, v in results[name].items()))], indent=""), flush=True)
    (HERE / "results.json").write_text(json.dumps({"start": start, "models": results}, indent=1, sort_keys=True) + "\n")
    (HERE / "RESULTS.md").write_text(report(results, start))
    return 0


if __name__ == "__main__":
    sys.exit(main())
