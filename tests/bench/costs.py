"""Fits the prices of the kernels to instructions counted on emulated cores: `python tests/bench/costs.py`.

    backends/c/cost_table.py      the coefficients
    COSTS.md                      beside this file: how far the prices are off

Models are compiled layer by layer and row by row (one row, two rows a step, least RAM), run on each core with the
layers told apart, and the instructions of every kernel are explained by what its loops run over
(`tinyc.backends.c.costs`): non-negative least squares of the relative error, one small problem for each kernel and
target. Deterministic; takes about fifteen minutes. `--keep FILE` stores what was counted, `--use FILE` fits to that
without counting anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from memory import Case, model_file
from numpy.typing import NDArray
from tinyc.backends.c.cost_table import CODE, COEFFICIENTS
from tinyc.backends.c.costs import QUANTITIES, functions_of, parents_of, text_size, variant_of, work_of
from tinyc.tools.bench import BenchSettings, measure_and_run
from tinyc.tools.cli import Progress
from tinyc.tools.driver import Compiled, Job, compile_job

from tinyir.diag import CompileError
from tinyir.registry import PIPELINES, load_plugins
from tinyir.target import target_named

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[2] / "shared" / "models"
TABLE = HERE.parents[1] / "backends" / "c" / "cost_table.py"
Array = NDArray[np.float64]

_SMALL = ("kws_dscnn_int8", "resnet8_int8", "vww_mobilenetv1_int8", "ad_autoencoder_int8", "micro_kws_qop_int8")
_FLOAT = ("kws_dscnn_f32", "resnet8_f32", "vww_mobilenetv1_f32", "textdir_mbv3_f32", "denoise_unet_resize_f32")
_LARGE = ("mcunet_det_int8", "mbv2_w035_144_ortq_int8", "mcunetv2_large_int8")
_MADE = {"textdir_mbv3_int8": "textdir_mbv3_f32", "denoise_unet_resize_int8": "denoise_unet_resize_f32"}
"""Models that are quantised here, and what they are made of. They tell what kernels cost that the others lack."""
TARGETS: dict[str, tuple[str, ...]] = {
    "cortex-m4": (*_SMALL, *_FLOAT, *_LARGE, *_MADE),
    "cortex-m0plus": (*_SMALL, _LARGE[0], *_MADE),
    "rv32imc": (*_SMALL, _LARGE[0], *_MADE),
    "cortex-m55": (*_SMALL, *_FLOAT[:2], _LARGE[0], _LARGE[2], *_MADE),
    "cortex-m7": _SMALL[:3],
    "cortex-m33": _SMALL[:3],
    "generic": (*_SMALL[:3], *_FLOAT[:3]),
}
SHARED = {"cortex-m7": "cortex-m4", "cortex-m33": "cortex-m4"}
"""Cores that run the same kernels: they have the prices of the other, and are counted to see how far those are off."""
CORES = {"generic": "cortex-m33"}
"""What C for no core in particular is counted on."""
SCHEDULES = {"layer by layer": "", "rows": "stream{rows=1}", "two rows": "stream{rows=2}",
             "four rows": "stream{rows=4}", "fast weights": "schedule{ram=any,weights=fast,ways=whole}"}
_LARGER = "fast weights"
"""Of use on cores with other kernels for it only."""
_FLOOR = 1e-3
"""A kernel's error counts relative to its instructions and to this share of the model's."""
_USUAL = (60.0, 20.0, 5.0, 2.0, 1.0, 6.0, 1.0)
"""Coefficients that are expected of kernels of which nothing is known."""
_NOTHING = 1e-3
"""Instructions that are not worth a figure."""
_TRUST = 0.01
"""What a coefficient that is twice the expected one counts, as a relative error of one kernel."""


@dataclass(frozen=True)
class Sample:
    """One kernel of one run: what its loops run over, and the instructions that were counted."""

    target: str
    model: str
    schedule: str
    kernel: str
    quantities: tuple[int, ...]
    instructions: int


@dataclass(frozen=True)
class Code:
    """The code of one run: calls, instructions of assembly and characters of C in its functions, and bytes."""

    target: str
    model: str
    schedule: str
    sizes: tuple[int, int, int]
    code_bytes: int


# -- counting ----------------------------------------------------------------------------------------------------------


def pipeline(extra: str) -> str | None:
    """The passes of -O1 with `extra` in front of the lowering."""
    return PIPELINES.get("O1").replace("lower-to-mem", f"{extra},lower-to-mem") if extra else PIPELINES.get("O1")


def count(model: str, target: str, schedule: str, folder: Path) -> tuple[list[Sample], Code]:
    """Run one model in one way; what has to be made goes into `folder`."""
    path = model_file(Case(_MADE[model], 0, None, "", False), folder) if model in _MADE else MODELS / f"{model}.onnx"
    job = Job(str(path), level="2", passes=pipeline(SCHEDULES[schedule]), target=target)
    if model.endswith("int8"):
        job = replace(job, quantization=replace(job.quantization, io="int8"))
    compiled = compile_job(job)
    compiled.context.target = replace(compiled.context.target, extends=CORES.get(target, ""))
    emulator = "qemu" if target == "cortex-m55" else "unicorn"
    settings = BenchSettings(emulator=emulator)  # type: ignore[arg-type]
    report, _ = measure_and_run(compiled, "net", settings, Progress("costs", enabled=False))
    kernels = kernels_of(compiled)
    texts = {text for kernel in kernels for text in functions_of(kernel.source())}
    sizes = [text_size(text) for text in texts]
    code = Code(target, model, schedule, (len(kernels), sum(a for a, _ in sizes), sum(c for _, c in sizes)),
                report.code_bytes)
    return [Sample(target, model, schedule, variant_of(kernel), work_of(kernel).quantities, layer.instructions or 0)
            for kernel, layer in zip(kernels, report.layers, strict=True)], code


def kernels_of(compiled: Compiled) -> list[Any]:
    """The kernel ops, in the order of the layers of a report."""
    return [op for op in compiled.module.walk() if not op.terminator and not op.opname.startswith("mem.")]


def count_all(targets: Sequence[str]) -> tuple[list[Sample], list[Code]]:
    """All runs; a model that a target cannot run is said so and left out."""
    with tempfile.TemporaryDirectory(prefix="tinyc-") as folder:
        return _count_all(targets, Path(folder))


def _count_all(targets: Sequence[str], folder: Path) -> tuple[list[Sample], list[Code]]:
    found: list[Sample] = []
    codes: list[Code] = []
    for target, model, schedule in ((t, m, s) for t in targets for m in TARGETS[t] for s in SCHEDULES
                                    if s != _LARGER or target_named(t).dsp):
        begin = time.monotonic()
        try:
            samples, code = count(model, target, schedule, folder)
        except CompileError as problem:
            print(f"{target} {model} {schedule}: {problem}", flush=True)
            continue
        found += samples
        codes.append(code)
        print(f"{target} {model} {schedule}: {sum(s.instructions for s in samples):,} instructions, "
              f"{time.monotonic() - begin:.1f} s", flush=True)
    return found, codes


# -- fitting -----------------------------------------------------------------------------------------------------------


def least_squares(a: Array, b: Array) -> Array:
    """The x >= 0 with the least |a x - b| (Lawson and Hanson's active sets)."""
    scale = np.linalg.norm(a, axis=0)
    a = a / np.where(scale == 0, 1, scale)
    x, active = np.zeros(a.shape[1]), np.zeros(a.shape[1], bool)
    slope = a.T @ b
    while (~active & (slope > 1e-9)).any():
        active[np.where(active, -np.inf, slope).argmax()] = True
        x = _within(a, b, x, active)
        slope = a.T @ (b - a @ x)
        slope[active] = 0
    return np.asarray(x / np.where(scale == 0, 1, scale))


def _within(a: Array, b: Array, x: Array, active: Array) -> Array:
    """The best x whose other entries are 0; entries that would be negative leave `active`."""
    while active.any():
        wanted = np.zeros(len(x))
        wanted[active] = np.linalg.lstsq(a[:, active], b, rcond=None)[0]
        below = active & (wanted <= 0)
        if not below.any():
            return wanted
        step = (x[below] / np.maximum(x[below] - wanted[below], 1e-300)).min()
        x = np.where(active, x + step * (wanted - x), 0)
        active &= ~(below & (x <= 1e-12 * max(1.0, float(x.max()))))
    return np.zeros(len(x))


def weights_of(samples: Sequence[Sample], totals: Mapping[tuple[str, str, str], int]) -> Array:
    """What an error of one instruction counts."""
    return np.array([1 / (s.instructions + _FLOOR * totals[run_of(s)] + 1) for s in samples])


def run_of(sample: Sample | Code) -> tuple[str, str, str]:
    return sample.target, sample.model, sample.schedule


def totals_of(samples: Sequence[Sample]) -> dict[tuple[str, str, str], int]:
    """Instructions of each run."""
    totals: dict[tuple[str, str, str], int] = {}
    for sample in samples:
        totals[run_of(sample)] = totals.get(run_of(sample), 0) + sample.instructions
    return totals


def fitted(samples: Sequence[Sample]) -> dict[str, tuple[float, ...]]:
    """The coefficients of all kernels that were measured on one target, and of what they are one of."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        for name in parents_of(sample.kernel):
            groups.setdefault(name, []).append(sample)
    totals, found = totals_of(samples), {"other": _USUAL}
    for name, group in sorted(groups.items(), key=lambda item: (item[0] != "other", item[0])):
        expected = next(found[p] for p in [*parents_of(name)[1:], "other"] if p in found)
        found[name] = _fit(group, totals, _USUAL if expected is found["other"] else expected)
    return found


def _fit(samples: Sequence[Sample], totals: Mapping[tuple[str, str, str], int], expected: tuple[float, ...]) \
        -> tuple[float, ...]:
    """The best coefficients; those that the samples do not decide stay near what is expected."""
    weights = weights_of(samples, totals)
    a = np.array([s.quantities for s in samples], float) * weights[:, None]
    b = np.array([s.instructions for s in samples], float) * weights
    trust = _TRUST / np.maximum(expected, _USUAL)
    found = least_squares(np.vstack([a, np.diag(trust)]), np.concatenate([b, trust * np.array(expected)]))
    return tuple(float(f"{value:.4g}") if value > _NOTHING else 0.0 for value in found)


def fitted_code(codes: Sequence[Code]) -> tuple[float, ...]:
    """Bytes of a call, of a line of assembly and of a character of C on one target."""
    a = np.array([[size / c.code_bytes for size in c.sizes] for c in codes])
    return tuple(float(f"{value:.4g}") for value in least_squares(a, np.ones(len(codes))))


def modelled(sample: Sample, table: Mapping[str, tuple[float, ...]]) -> float:
    known = next(table[name] for name in parents_of(sample.kernel) if name in table)
    return sum(c * q for c, q in zip(known, sample.quantities, strict=True))


# -- writing it down ---------------------------------------------------------------------------------------------------


_TABLE = '''"""What the C kernels cost on each target. Written by tests/bench/costs.py, which fits it to what it counts.

COEFFICIENTS: instructions for one call, row, block, element read, value loaded, element written, multiply-accumulate.
CODE: bytes for one call, line of assembly, character of C.
"""

from __future__ import annotations

__all__ = ["CODE", "COEFFICIENTS"]

CODE: dict[str, tuple[float, ...]] = {
{code}
}

COEFFICIENTS: dict[str, dict[str, tuple[float, ...]]] = {
{targets}
}
'''


def table_text(tables: Mapping[str, Mapping[str, tuple[float, ...]]], code: Mapping[str, tuple[float, ...]]) -> str:
    """cost_table.py."""
    targets = []
    for target, table in sorted(tables.items()):
        rows = "\n".join(f'        "{name}": {_tuple(values)},' for name, values in sorted(
            table.items(), key=lambda item: (item[0] != "other", item[0])))
        targets.append(f'    "{target}": {{\n{rows}\n    }},')
    codes = "\n".join(f'    "{target}": {_tuple(values)},' for target, values in sorted(code.items()))
    return _TABLE.replace("{code}", codes).replace("{targets}", "\n".join(targets))


def _tuple(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"


def report(samples: Sequence[Sample], codes: Sequence[Code], tables: Mapping[str, Mapping[str, tuple[float, ...]]],
           code: Mapping[str, tuple[float, ...]]) -> str:
    """COSTS.md."""
    return f"""# The prices of the kernels, and how far they are off

Made by `python tests/bench/costs.py`. The scheduler compares ways to run a network by modelled instructions:
coefficients, fitted for each kernel and target to instructions counted on emulated cores, times what the kernel's loops
run over (`backends/c/costs.py`). Errors of a kernel are relative to its instructions and {100 * _FLOOR:g} % of the
model's, those of a model to all its instructions. Ways to run:
{", ".join(SCHEDULES)}. On the M55 layers are timed by QEMU in ticks of 40 instructions.
`generic` is C for any core, counted on a Cortex-M33. {" and ".join(SHARED)} have the prices of the cortex-m4.
Kernels that no run has keep the prices that they had.

{_target_table(samples, tables)}

## Streamed against layer by layer, {_title(tables)}

What decides between schedules is the ratio of their instructions: counted, and as modelled.

{_ratio_table(samples, tables)}

## Kernels, {_title(tables)}

Share: of all instructions that were counted. The other columns are instructions for one of each.

{_kernel_table(samples, tables)}

## Bytes of code

By the calls of a network, and the length of the texts of its functions: assembly and C.

{_code_table(codes, code)}
"""


def _shown(tables: Mapping[str, object]) -> str:
    """The target that is shown in detail."""
    return next(target for target in TARGETS if target in tables)


def _title(tables: Mapping[str, object]) -> str:
    return _shown(tables).replace("cortex-m", "Cortex-M")


def _errors(samples: Sequence[Sample], tables: Mapping[str, Mapping[str, tuple[float, ...]]],
            totals: Mapping[tuple[str, str, str], int]) -> Array:
    found = np.array([modelled(s, tables[s.target]) - s.instructions for s in samples])
    return np.abs(found) * weights_of(samples, totals)


def _sums(samples: Sequence[Sample], tables: Mapping[str, Mapping[str, tuple[float, ...]]]) \
        -> dict[tuple[str, str, str], float]:
    """Modelled instructions of each run."""
    sums: dict[tuple[str, str, str], float] = {}
    for sample in samples:
        sums[run_of(sample)] = sums.get(run_of(sample), 0.0) + modelled(sample, tables[sample.target])
    return sums


def _target_table(samples: Sequence[Sample], tables: Mapping[str, Mapping[str, tuple[float, ...]]]) -> str:
    totals, sums = totals_of(samples), _sums(samples, tables)
    rows = [("target", "models", "runs", "kernels", "coefficients", "kernel: median", "worst", "model: median",
             "worst")]
    for target in sorted(tables):
        own = [s for s in samples if s.target == target]
        runs = [run for run in totals if run[0] == target]
        kernels = _errors(own, tables, totals)
        models = np.array([abs(sums[run] / totals[run] - 1) for run in runs])
        rows.append((target, str(len({run[1] for run in runs})), str(len(runs)), str(len(own)),
                     str(sum(v > 0 for row in tables[target].values() for v in row)), *_percents(kernels),
                     *_percents(models)))
    return text_table(rows)


def _percents(errors: Array) -> tuple[str, str]:
    return f"{100 * np.median(errors):.1f} %", f"{100 * errors.max():.1f} %"


def _ratio_table(samples: Sequence[Sample], tables: Mapping[str, Mapping[str, tuple[float, ...]]]) -> str:
    totals, sums = totals_of(samples), _sums(samples, tables)
    names = list(SCHEDULES)
    rows = [("model", "layer by layer", *(f"{name}, {kind}" for name in names[1:] for kind in ("counted", "modelled")))]
    target = _shown(tables)
    for model in TARGETS[target]:
        runs = [(target, model, name) for name in names]
        if any(run not in totals for run in runs):
            continue
        ratios = [f"{100 * (of[run] / of[runs[0]] - 1):+.1f} %" for run in runs[1:] for of in (totals, sums)]
        rows.append((model, f"{totals[runs[0]]:,}", *ratios))
    return text_table(rows)


def _kernel_table(samples: Sequence[Sample], tables: Mapping[str, Mapping[str, tuple[float, ...]]]) -> str:
    totals = totals_of(samples)
    groups: dict[str, list[Sample]] = {}
    target = _shown(tables)
    for sample in samples:
        if sample.target == target:
            groups.setdefault(sample.kernel, []).append(sample)
    rows = [("kernel", "times", "share", "median", "worst", *QUANTITIES)]
    table, everything = tables[target], sum(totals[run] for run in totals if run[0] == target)
    for name, group in sorted(groups.items(), key=lambda item: -sum(s.instructions for s in item[1])):
        share = sum(s.instructions for s in group) / everything
        known = next(table[parent] for parent in parents_of(name) if parent in table)
        rows.append((name, str(len(group)), f"{100 * share:.1f} %", *_percents(_errors(group, tables, totals)),
                     *(f"{value:g}" if value else "" for value in known)))
    return text_table(rows)


def _code_table(codes: Sequence[Code], code: Mapping[str, tuple[float, ...]]) -> str:
    rows = [("target", "a call", "a line of assembly", "a character of C", "median error", "worst")]
    for target, values in sorted(code.items()):
        own = [c for c in codes if c.target == target]
        found = np.array([abs(sum(v * n for v, n in zip(values, c.sizes, strict=True)) / c.code_bytes - 1)
                          for c in own])
        rows.append((target, *(f"{value:g}" for value in values), *_percents(found)))
    return text_table(rows)


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; all columns but the first to the right."""
    head, *body = rows
    rule = ["---", *("--:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="*", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--keep", metavar="FILE", type=Path, help="store what was counted")
    parser.add_argument("--use", metavar="FILE", type=Path, nargs="*", help="do not count, take these")
    options = parser.parse_args()
    if not options.use and set(options.targets) <= set(SHARED):
        parser.error(f"{', '.join(SHARED)} have no prices of their own: count one of the others, too")
    load_plugins()
    samples, codes = _read(options.use) if options.use else count_all(options.targets)
    if options.keep:
        rows = {"samples": [vars(s) for s in samples], "codes": [vars(c) for c in codes]}
        options.keep.write_text(json.dumps(rows))
    targets = sorted({s.target for s in samples} - set(SHARED))
    tables = {target: {**not_counted(target, samples), **fitted(telling(target, samples))} for target in targets}
    code = {target: fitted_code([c for c in codes if c.target == target]) for target in targets}
    known, sizes = ({t: row for t, row in of.items() if t not in SHARED} for of in (COEFFICIENTS, CODE))
    TABLE.write_text(table_text({**known, **tables}, {**sizes, **code}))
    counted = {s.target for s in samples}
    shared = {target: base for target, base in SHARED.items() if base in tables and target in counted}
    tables, code = ({**of, **{target: of[base] for target, base in shared.items()}} for of in (tables, code))
    (HERE / "COSTS.md").write_text(report([s for s in samples if s.target in tables], codes, tables, code))
    return 0


def telling(target: str, samples: Sequence[Sample]) -> list[Sample]:
    """What the prices of a target follow from: of models that are quantised here, kernels that the others lack."""
    zoo = {s.kernel for s in samples if s.target == target and s.model not in _MADE}
    return [s for s in samples if s.target == target and (s.model not in _MADE or s.kernel not in zoo)]


def not_counted(target: str, samples: Sequence[Sample]) -> dict[str, tuple[float, ...]]:
    """The prices that there are of kernels that no run has: these stay."""
    counted = {s.kernel.partition(" ")[0] for s in samples if s.target == target} | {"other"}
    return {kernel: price for kernel, price in COEFFICIENTS[target].items()
            if kernel.partition(" ")[0] not in counted}


def _read(files: Sequence[Path]) -> tuple[list[Sample], list[Code]]:
    found = [json.loads(file.read_text()) for file in files]
    samples = [Sample(**{**row, "quantities": tuple(row["quantities"])}) for rows in found for row in rows["samples"]]
    return samples, [Code(**{**row, "sizes": tuple(row["sizes"])}) for rows in found for row in rows["codes"]]


if __name__ == "__main__":
    sys.exit(main())
