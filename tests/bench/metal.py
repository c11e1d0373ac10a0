"""Instructions on microcontrollers beside peers and goals: `python tests/bench/metal.py [MODEL ...] [--cores]`.

    METAL.md, metal.json      beside this file

Each model at -O2, -O3 and -Os for an emulated Cortex-M4, built by arm-none-eabi-gcc; with --cores also for the others.
Every run's outputs are compared with those of the same C on this machine. With model names only these are measured
anew; the others keep their figures. Takes about two minutes, with --cores about five.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tinyc.tools.bench import BenchSettings, measure_and_run
from tinyc.tools.cli import Progress
from tinyc.tools.driver import Emission, Job, compile_job
from tinyc.tools.harness import run_on_host
from tinyc.tools.samples import random_samples
from tinyc.tools.toolchain import host_compiler

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[2] / "shared" / "models"
LEVELS = ("2", "3", "s")
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A model, what peers need for it (instructions on the M4; ../shared/reference/baselines.md), and the goals.

    `goals`: instructions at -O2 and -O3; `code`: bytes of code flash at -O2. `reference` is TFLM with its portable
    kernels on the M4, `mve` TFLM with CMSIS-NN on the M55.
    """

    name: str
    peers: tuple[tuple[str, int], ...]
    goals: tuple[int, int | None]
    code: int | None = None
    reference: int | None = None
    mve: int | None = None
    convolutional: bool = True

    @property
    def is_int8(self) -> bool:
        return self.name.endswith("int8")


CASES = (
    Case("kws_dscnn_int8", (("TFLM + CMSIS-NN", 7_699_880),), (3_900_000, 3_600_000), 12_288, 43_042_480, 1_787_406),
    Case("resnet8_int8", (("TFLM + CMSIS-NN", 29_863_360),), (14_000_000, 10_500_000), 20_480, 107_404_920, 4_811_031),
    Case("vww_mobilenetv1_int8", (("TFLM + CMSIS-NN", 24_101_960),), (7_000_000, 6_500_000), 20_480, 100_250_560,
         6_433_562),
    Case("ad_autoencoder_int8", (("TFLM + CMSIS-NN", 582_320), ("TinyEngine", 770_000)), (330_000, 300_000), 12_288,
         1_952_240, 149_969, False),
    Case("mcunet_det_int8", (("TFLM + CMSIS-NN", 75_993_480), ("TinyEngine", 54_630_000)), (28_000_000, 25_000_000),
         20_480, 367_001_400, 20_579_938),
    Case("mcunetv2_large_int8", (("TFLM + CMSIS-NN", 861_749_880), ("TinyEngine", 540_000_000)),
         (330_000_000, 290_000_000), 20_480, 2_862_396_240, 315_904_438),
    Case("kws_dscnn_f32", (("TFLM", 35_182_760), ("onnx2c", 19_000_000), ("emx-onnx-cgen", 15_600_000)),
         (9_000_000, None)),
    Case("resnet8_f32", (("TFLM", 88_068_560), ("onnx2c", 121_600_000), ("emx-onnx-cgen", 91_500_000)),
         (35_000_000, None)),
    Case("vww_mobilenetv1_f32", (("TFLM", 77_405_240), ("onnx2c", 54_100_000), ("emx-onnx-cgen", 48_300_000)),
         (25_000_000, None)),
)
OTHERS = {"cortex-m55": ("mve", 0.6), "rv32imc": ("reference", 0.35), "cortex-m0plus": ("reference", 0.55)}
"""Other cores: which of the peer's figures, and the share of it that is the goal."""
KEPT = ("instructions", "cycles", "fetch_stalls", "macs", "arena_bytes", "stack_bytes", "code_bytes", "const_bytes",
        "ran_on", "compiler", "flags")


# -- measuring ---------------------------------------------------------------------------------------------------------


def measure(case: Case, target: str, level: str) -> Row:
    """The figures of one model for one target, layers summed up by kernel."""
    job = Job(str(MODELS / f"{case.name}.onnx"), target=target, level=level)
    if case.is_int8:
        job = replace(job, quantization=replace(job.quantization, io="int8"))
    compiled = compile_job(job)
    emulator = "qemu" if target == "cortex-m55" else "unicorn"
    quiet = Progress("metal", enabled=False)
    report, run = measure_and_run(compiled, "net", BenchSettings(emulator=emulator), quiet)  # type: ignore[arg-type]
    program = compiled.c_program(Emission("net"))
    sample = random_samples(program.inputs, 1).inputs
    host = run_on_host(program, sample, compiler=host_compiler(), flags=("-std=c99", "-O1"))
    figures = report.as_json()
    kernels: dict[str, list[int]] = {}
    for layer in report.layers:
        row = kernels.setdefault(layer.op, [0, 0])
        row[0] += layer.macs
        row[1] += layer.instructions or 0
    hot = [layer.hot_bytes for layer in report.layers if layer.hot_bytes is not None and layer.macs]
    return {**{key: figures[key] for key in KEPT}, "kernels": kernels, "hot_bytes": max(hot, default=None),
            "same": agree(host.outputs[0], run.outputs[0], case.is_int8)}


def agree(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], exactly: bool) -> bool:
    """Whether two machines computed the same: to the byte, or floats within 1e-5 of the largest."""
    pairs = list(zip(ours, theirs, strict=True))
    if exactly:
        return all(np.array_equal(a, b) for a, b in pairs)
    return all(bool(np.allclose(a, b, rtol=0, atol=1e-5 * max(1.0, float(np.abs(b).max())))) for a, b in pairs)


def measure_case(case: Case, others: Sequence[str]) -> Row:
    """All runs of one model: {target: {level: figures}}."""
    row: Row = {}
    for target, levels in (("cortex-m4", LEVELS), *((core, ("2",)) for core in others if case.reference)):
        row[target] = {}
        for level in levels:
            start = time.monotonic()
            row[target][level] = found = measure(case, target, level)
            outputs = "same outputs" if found["same"] else "OTHER OUTPUTS"
            seconds = time.monotonic() - start
            print(f"{case.name} -O{level} {target}: {found['instructions']:,} instructions, {outputs}, {seconds:.1f} s",
                  flush=True)
    return row


# -- writing it down ---------------------------------------------------------------------------------------------------


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; all columns but the first to the right."""
    head, *body = rows
    rule = ["---", *("--:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body))


def goal_text(value: int | None, goal: int | None) -> str:
    """A figure, and whether it reaches its goal."""
    if value is None:
        return "-"
    if goal is None:
        return f"{value:,}"
    return f"**{value:,}**" if value <= goal else f"{value:,} ({value / goal:.2f} of the goal)"


def count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def speed_table(results: Row, cases: Sequence[Case]) -> str:
    """Instructions at both levels, beside peers and goals."""
    names = list(dict.fromkeys(name for case in cases for name, _ in case.peers))
    goals = all(case.goals[1] for case in cases)
    rows: list[tuple[str, ...]] = [("model", *names, "-O2", "goal", "-O3", *(["goal"] if goals else []),
                                    "-O2 a MAC", "outputs")]
    for case in cases:
        two, three = (results[case.name]["cortex-m4"][level] for level in LEVELS[:2])
        peers = dict(case.peers)
        last = [count(case.goals[1])] if goals else []
        rows.append((case.name, *(count(peers.get(name)) for name in names),
                     goal_text(two["instructions"], case.goals[0]), count(case.goals[0]),
                     goal_text(three["instructions"], case.goals[1]), *last,
                     f"{two['instructions'] / two['macs']:.2f}", same_text(case, [two, three])))
    return text_table(rows)


def same_text(case: Case, rows: Sequence[Row]) -> str:
    """Whether the core computed what this machine computes."""
    if not all(row["same"] for row in rows):
        return "DIFFER"
    return "same bytes" if case.is_int8 else "same to 1e-5"


def memory_table(results: Row) -> str:
    """Modelled cycles, memory and flash."""
    rows = [("model", "level", "instructions", "cycles", "a MAC", "fetch", "arena", "stack", "code", "code goal",
             "constants", "hottest loop")]
    for case in CASES:
        for level in LEVELS:
            row = results[case.name]["cortex-m4"][level]
            rate = "-" if row["cycles"] is None else f"{row['cycles'] / row['macs']:.2f}"
            goal = case.code if level == "2" else None
            fetch = "-" if not row.get("cycles") else f"+{100 * row['fetch_stalls'] / row['cycles']:.1f} %"
            work = count(row["instructions"]), count(row["cycles"]), rate, fetch
            code = goal_text(row["code_bytes"], goal), count(goal), count(row["const_bytes"]), count(row["hot_bytes"])
            rows.append((case.name, f"-O{level}", *work, count(row["arena_bytes"]), count(row["stack_bytes"]), *code))
    return text_table(rows)


def kernel_table(results: Row) -> str:
    """All int8 models at -O2, by kernel."""
    sums: dict[str, list[int]] = {}
    for case in CASES:
        for op, (macs, instructions) in results[case.name]["cortex-m4"]["2"]["kernels"].items():
            row = sums.setdefault(op, [0, 0, 0])
            row[0], row[1], row[2] = row[0] + 1, row[1] + macs, row[2] + instructions
    rows = [("kernel", "models", "MACs", "instructions", "a MAC")]
    for op, (models, macs, instructions) in sorted(sums.items(), key=lambda item: -item[1][2]):
        rows.append((op, str(models), f"{macs:,}", f"{instructions:,}", f"{instructions / macs:.2f}" if macs else "-"))
    return text_table(rows)


def cores_table(results: Row) -> str:
    """The other cores at -O2, beside their goals."""
    rows = [("model", "core", "peer", "instructions", "goal", "share of the peer", "stack", "code", "outputs")]
    for case in CASES:
        for core, (field, share) in OTHERS.items():
            row = results[case.name].get(core, {}).get("2")
            peer = getattr(case, field)
            if row is None or peer is None:
                continue
            goal = int(share * peer) if case.convolutional or field == "mve" else None
            rows.append((case.name, core, count(peer), goal_text(row["instructions"], goal), count(goal),
                         f"{row['instructions'] / peer:.2f}", count(row["stack_bytes"]), count(row["code_bytes"]),
                         same_text(case, [row])))
    return text_table(rows)


def report(results: Row) -> str:
    """METAL.md."""
    integer = [case for case in CASES if case.is_int8]
    floats = [case for case in CASES if not case.is_int8]
    sample = results[CASES[0].name]["cortex-m4"]["2"]
    return f"""# Speed on the metal

Made by `python tests/bench/metal.py --cores`. Instructions of one inference on emulated cores: the same on every
machine. Built by {sample['compiler']} with the `-O` of the level, int8 at the boundary (`--io int8`). A figure in bold
reaches its goal. The peers were measured on the same networks (TFLM's two float-input models include quantising and
dequantising, 2.9 and 5.5 million instructions).

## int8, Cortex-M4

{speed_table(results, integer)}

## float, Cortex-M4F

{speed_table(results, floats)}

## Cycles, memory and flash, Cortex-M4

Cycles are modelled (`tinyc-bench --help` says how): memory without wait states. `fetch` is what comes on top where code
runs from flash with 5 wait states and a cache of 1 KB. `code` is what the model and its support routines take;
`hottest loop` the largest amount of code that 95 % of a layer's instructions lie in.

{memory_table(results)}

## By kernel, all models above at -O2

{kernel_table(results)}

## Other cores, int8, -O2

The peer is TFLM: on the M55 with CMSIS-NN's vector kernels (goal 0.6 of it), else its portable kernels as counted on an
M4 (goal 0.35 for rv32imc, 0.55 for cortex-m0plus, on the convolutional models).

{cores_table(results)}
"""


def main() -> int:
    known = {case.name: case for case in CASES}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(known))
    parser.add_argument("--cores", action="store_true", help=f"also {', '.join(OTHERS)}")
    parser.add_argument("--write-only", action="store_true", help="measure nothing, write METAL.md anew")
    options = parser.parse_args()
    names = [] if options.write_only else options.models or list(known)
    unknown = [name for name in names if name not in known or not (MODELS / f"{name}.onnx").is_file()]
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}")
    path = HERE / "metal.json"
    results: Row = json.loads(path.read_text()) if path.exists() else {}
    for name in names:
        results[name] = results.get(name, {}) | measure_case(known[name], list(OTHERS) if options.cores else [])
        path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    if set(results) >= set(known):
        (HERE / "METAL.md").write_text(report(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
