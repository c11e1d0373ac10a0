"""RAM, beside the bars and the peers: `python tests/bench/memory.py [MODEL ...]`.

    MEMORY.md, memory.json        beside this file

Each int8 model is compiled layer by layer (-O1), at -O2, with `--ram min`, and with `--ram min --recompute 10%` (where
there is a bar with 3 % too), for a Cortex-M4; what is left to count is counted on the emulated core: instructions and
the stack, painted. Models that the zoo has in float are quantised by tinyc first; MobileNetV2 1.0 at 224 x 224 is built
by mobilenet_v2.py. With model names only these are measured anew. `--bytes` compiles only, and prints a table:
instructions and stack stay as they were. All models take about ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from mobilenet_v2 import mobilenet_v2, samples
from models import MODELS as FLOAT
from scaling import PASSES, Seconds
from tinyc.tools.bench import BenchSettings, measure_core
from tinyc.tools.cli import Progress, table
from tinyc.tools.driver import Compiled, Job, Quantization, compile_job
from tinyc.tools.front import front_of
from tinyc.tools.limits import NO_LIMITS, Limits
from tinyc.tools.memory_plan import memory_plan

from tinyir.diag import CompileError
from tinyir.garbage import few_collections
from tinyir.registry import BACKENDS

HERE = Path(__file__).resolve().parent
ZOO = HERE.parents[2] / "shared" / "models"
Row = dict[str, Any]
_TARGET = "cortex-m4"
_SLACK = 1.15
"""How far above the bar the arena may be, kernel scratch included."""
_CALIBRATION = 8
"""Samples that models without their own data, and those with, are calibrated with."""


@dataclass(frozen=True)
class Case:
    """A model and the bars: bytes at no further multiply-accumulates, and with up to 10 % and 3 % more."""

    name: str
    bar: int
    bar_again: int | None
    peer: str
    quantised: bool = True
    """Whether the zoo has it as int8."""
    bar_little: int | None = None
    seconds: int = 10
    """What the optimiser may take."""

    def bar_of(self, mode: str) -> int | None:
        """The bar for what is measured in one way."""
        return {"again": self.bar_again, "little": self.bar_little}.get(mode, self.bar)


CASES = (
    Case("mobilenet_v2_100_224", 105_000, 50_000, "MCUNetV2 172 KiB at +10 %", False, 57_000, 20),
    Case("mbv2_w035_144_ortq_int8", 25_400, 13_500, "msf-CNN 181 kB, 68 at +10 %; TinyEngine 295 kB"),
    Case("vww_mobilenetv1_int8", 11_500, 9_300, "TFLM 100.7 kB"),
    Case("resnet8_int8", 9_300, None, "TFLM 55.0 kB"),
    Case("kws_dscnn_int8", 3_700, None, "TFLM 22.8 kB"),
    Case("mcunet_det_int8", 22_500, 13_000, "TinyEngine 257.6 kB"),
    Case("mcunetv2_large_int8", 222_000, 101_000, "TinyEngine 1,432 kB; 444 kB at +4 %"),
    Case("proxyless_w030_176_f32", 41_000, 27_500, "TinyEngine 259 kB, X-CUBE-AI 221 kB", False),
    Case("face_slim320_f32", 73_000, 58_000, "layer by layer 921.6 kB", False, seconds=20),
    Case("textdir_mbv3_f32", 45_800, 34_000, "layer by layer 83.1 kB", False),
    Case("denoise_unet_resize_f32", 5_000, None, "layer by layer 25.1 kB", False),
)
_MIN = Limits(ram="min")
MODES: dict[str, tuple[str, Limits, str]] = {
    "layerwise": ("1", NO_LIMITS, "whole"),
    "o2": ("2", NO_LIMITS, "whole"),
    "min": ("2", _MIN, "whole"),
    "min_rows": ("2", _MIN, "rows"),
    "min_held": ("2", _MIN, "arena"),
    "again": ("2", replace(_MIN, recompute="10%"), "whole"),
    "little": ("2", replace(_MIN, recompute="3%"), "whole"),
}
"""Level, limits, and how the input comes: from the caller's buffer, row by row, or held in the arena."""


# -- models ------------------------------------------------------------------------------------------------------------


def model_file(case: Case, folder: Path) -> Path:
    """The int8 model; one that has to be made goes into `folder`."""
    if case.quantised:
        return ZOO / f"{case.name}.onnx"
    path = folder / f"{case.name}.onnx"
    if not path.exists():
        source, arrays = float_model(case, folder)
        np.savez(folder / "calibration.npz", **arrays)
        wanted = Quantization("int8", str(folder / "calibration.npz"))
        compiled = compile_job(Job(str(source), quantization=wanted, graph_only=True))
        path.write_bytes(BACKENDS.get("onnx")(compiled.module, name=case.name)[f"{case.name}.onnx"])
    return path


def float_model(case: Case, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The float model and samples of its input: real ones where there are any."""
    if case.name.startswith("mobilenet_v2"):
        path = folder / "mobilenet_v2.float.onnx"
        onnx.save(mobilenet_v2(1.0, 224), path)
        return path, {"image": samples(224, _CALIBRATION)}
    model = FLOAT[case.name]
    arrays = model.arrays()
    if arrays is None:
        shape = onnx.load(str(model.path)).graph.input[0].type.tensor_type.shape.dim
        return model.path, {model.input: samples(shape[2].dim_value, _CALIBRATION)}
    return model.path, {model.input: arrays[model.input][:_CALIBRATION]}


# -- measuring ---------------------------------------------------------------------------------------------------------


def measure(case: Case, mode: str, folder: Path, *, run: bool) -> Row:
    """The figures of one model in one way; without those that have to be counted unless it is to `run`."""
    level, limits, source = MODES[mode]
    job = Job(str(model_file(case, folder)), level=level, target=_TARGET, limits=limits, input=source)
    job = replace(job, quantization=Quantization(io="int8"))
    seconds = Seconds()
    with few_collections():  # as the command does
        compiled = compile_job(job, instruments=[seconds])
    row = figures(compiled, seconds.total)
    if run:
        settings = BenchSettings(emulator="unicorn", layers=False)
        counted = measure_core(compiled, "net", settings, Progress("memory", enabled=False))
        row |= {"instructions": counted.instructions, "stack_bytes": counted.stack_bytes,
                "code_bytes": counted.code_bytes}
    return row


def figures(compiled: Compiled, seconds: float) -> Row:
    """What is known without running it."""
    facts, plan = compiled.facts, memory_plan(compiled.module, compiled.context.target)
    front = front_of(compiled.context, facts.const_bytes)
    return {"arena_bytes": facts.arena_bytes, "activation_bytes": plan.activation_bytes, "macs": facts.macs,
            "macs_layerwise": facts.macs_layerwise, "const_bytes": facts.const_bytes,
            "lower_bound_bytes": int(compiled.context.stats["plan-arena"]["lower-bound-bytes"]),
            "input_bytes": sum(v.type.size_bytes for v in compiled.module.main.inputs),
            "scan": "layers" if front is None else front.chosen.scan,
            "schedule": [] if front is None else list(front.chosen.schedule),
            "seconds": round(seconds, 1)}


def measure_case(case: Case, old: Row, folder: Path, modes: Sequence[str], *, run: bool) -> Row:
    """These ways, the others as they were; one that fails says why."""
    rows: Row = {mode: row for mode, row in old.items() if mode not in modes}
    for mode in modes:
        start = time.monotonic()
        try:
            row = measure(case, mode, folder, run=run)
        except CompileError as problem:
            print(f"{case.name} {mode}: {problem}", flush=True)
            continue
        rows[mode] = {**({} if run else old.get(mode, {})), **row}
        print(f"{case.name} {mode}: arena {row['arena_bytes']:,}, activations {row['activation_bytes']:,}, "
              f"{time.monotonic() - start:.1f} s", flush=True)
    return rows


# -- writing it down ---------------------------------------------------------------------------------------------------


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; all columns but the first to the right."""
    head, *body = rows
    rule = ["---", *("--:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body))


def against(value: int | None, bar: int | None, slack: float = 1.0) -> str:
    """A figure, bold where it is within the bar, else with what it is of it."""
    if value is None:
        return "-"
    if bar is None:
        return f"{value:,}"
    return f"**{value:,}**" if value <= bar * slack else f"{value:,} ({value / bar:.2f} of the bar)"


def bars_table(results: Row, mode: str) -> str:
    """Bytes at --ram min beside the bars."""
    rows = [("model", "bar", "activations", "arena", "MACs", "scan", "least possible", "peers")]
    for case in CASES:
        row, bar = results.get(case.name, {}).get(mode), case.bar_of(mode)
        if row is None or bar is None:
            continue
        rows.append((case.name, f"{bar:,}", against(row["activation_bytes"], bar),
                     against(row["arena_bytes"], bar, _SLACK), f"{row['macs'] / row['macs_layerwise']:.3f} x",
                     row["scan"], f"{row['lower_bound_bytes']:,}", case.peer))
    return text_table(rows)


def levels_table(results: Row) -> str:
    """Layer by layer, at -O2 and with the least RAM: bytes, instructions, stack."""
    rows = [("model", "layer by layer: arena", "instructions", "-O2: arena", "instructions", "--ram min: arena",
             "instructions", "stack")]
    for case in CASES:
        found = results.get(case.name, {})
        if "min" not in found or "layerwise" not in found:
            continue
        plain = found["layerwise"].get("instructions")
        rows.append((case.name, f"{found['layerwise']['arena_bytes']:,}", count(plain),
                     *(cell for mode in ("o2", "min") for cell in (f"{found[mode]['arena_bytes']:,}",
                                                                  ratio(found[mode].get("instructions"), plain))),
                     count(found["min"].get("stack_bytes"))))
    return text_table(rows)


def times_table(results: Row) -> str:
    """Seconds that the optimiser takes, beside what it may take."""
    rows = [("model", "bar", "-O2", "--ram min", "--recompute 10%")]
    for case in CASES:
        found = [results.get(case.name, {}).get(mode) for mode in ("o2", "min", "again")]
        rows.append((case.name, f"{case.seconds} s", *(_time(row and row["seconds"], case.seconds) for row in found)))
    return text_table(rows)


def _time(seconds: float | None, bar: int) -> str:
    if seconds is None:
        return "-"
    return f"**{seconds:.1f}**" if seconds <= bar else f"{seconds:.1f}"


def count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def ratio(value: int | None, plain: int | None) -> str:
    return "-" if value is None or not plain else f"{value:,} ({100 * (value / plain - 1):+.1f} %)"


def inputs_table(results: Row) -> str:
    """Where the input is: asked for by rows, in the caller's buffer, in the arena."""
    rows = [("model", "input", "by rows: activations", "arena", "caller's buffer: activations", "arena",
             "held in the arena: arena")]
    for case in CASES:
        found = results.get(case.name, {})
        if "min" not in found:
            continue
        plain, streamed = found["min"], found.get("min_rows", {})
        rows.append((case.name, f"{plain['input_bytes']:,}", count(streamed.get("activation_bytes")),
                     count(streamed.get("arena_bytes")), f"{plain['activation_bytes']:,}", f"{plain['arena_bytes']:,}",
                     count(found.get("min_held", {}).get("arena_bytes"))))
    return text_table(rows)


def report(results: Row) -> str:
    """MEMORY.md."""
    return f"""# RAM

Made by `python tests/bench/memory.py`: int8 models, `--target cortex-m4 --io int8`. Bytes; 1 kB is 1,000 bytes. `arena`
is `sizeof(arena)` of the generated C, kernel scratch and alignment included; `activations` is the least arena without
the kernels' scratch, placed anew. Outputs lie in the caller's buffers. The input lies in the caller's buffer too, which
column scans and strips need, except where a table says that it is asked for row by row. A figure in bold is within its
bar, an arena within {_SLACK} of it. Nets that the zoo has in float, and MobileNetV2 1.0 at 224 x 224 (random weights),
are quantised by `tinyc --quantize int8`.

## --ram min

No multiply-accumulate more than layer by layer. `least possible`: what no placement of the buffers beats.

{bars_table(results, "min")}

## --ram min --recompute 10%

{bars_table(results, "again")}

## --ram min --recompute 3%

{bars_table(results, "little")}

## Speed

Instructions of one inference on the emulated core, the difference to layer by layer in brackets; the stack, painted.

{levels_table(results)}

## Time to choose

Seconds of processor time of {", ".join(PASSES[:-1])} and {PASSES[-1]} together; bold where they
are within the bar. They are those of one machine: only this table is not the same everywhere.

{times_table(results)}

## The input

With `--input rows` the application is asked for each row once, and the rows in flight lie in the arena. With `--input
arena` it writes the whole input into the arena, whose bytes are used again as the rows are consumed.

{inputs_table(results)}
"""


def print_bytes(results: Row) -> None:
    """The figures that are known without running anything."""
    rows = [("model", "layerwise", "-O2", "min", "activations", "of bar", "again", "activations", "of bar", "MACs",
             "s")]
    for case in CASES:
        found = results.get(case.name, {})
        if set(found) >= {"layerwise", "o2", "min", "again"}:
            least, again = found["min"], found["again"]
            rows.append((case.name, *(f"{found[mode]['arena_bytes']:,}" for mode in ("layerwise", "o2", "min")),
                         f"{least['activation_bytes']:,}", f"{least['activation_bytes'] / case.bar:.2f}",
                         f"{again['arena_bytes']:,}", f"{again['activation_bytes']:,}",
                         f"{again['activation_bytes'] / case.bar_again:.2f}" if case.bar_again else "-",
                         f"{again['macs'] / again['macs_layerwise']:.3f}", f"{least['seconds']:.1f}"))
    print(table(rows, right=tuple(range(1, 11))))


def main() -> int:
    known = {case.name: case for case in CASES}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(known))
    parser.add_argument("--bytes", action="store_true", help="compile only")
    parser.add_argument("--ways", nargs="*", metavar="WAY", choices=list(MODES), help=f"only these: {', '.join(MODES)}")
    parser.add_argument("--keep", metavar="FOLDER", type=Path,
                        help="where the int8 models that are made here are kept, and looked for")
    parser.add_argument("--write-only", action="store_true", help="measure nothing, write MEMORY.md anew")
    options = parser.parse_args()
    unknown = [name for name in options.models if name not in known]
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}")
    path = HERE / "memory.json"
    results: Row = json.loads(path.read_text()) if path.exists() else {}
    for name in () if options.write_only else options.models or known:
        case = known[name]
        with tempfile.TemporaryDirectory(prefix="tinyc-") as folder:
            ways = [way for way in options.ways or MODES if way != "little" or case.bar_little is not None]
            results[name] = measure_case(case, results.get(name, {}), options.keep or Path(folder), ways,
                                         run=not options.bytes)
        path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    (HERE / "MEMORY.md").write_text(report(results))
    print_bytes(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
