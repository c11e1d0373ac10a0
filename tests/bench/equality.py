"""Every model computes with every schedule what it computes layer by layer: `python tests/bench/equality.py [MODEL]`.

    EQUALITY.md, equality.json        beside this file

Each model is compiled at all levels, with `--ram min`, with and without `--recompute 10%`, with two sizes between the
least RAM and that of the layers one by one, and with schedules given by hand (forced.py). The C is built by the host's
compiler and run on random inputs and, where there are any, real ones; its outputs are compared with those of the
layer-by-layer program: int8 networks to the byte. All models also run under AddressSanitizer and
UndefinedBehaviorSanitizer, with a guard in front of every call.

With model names only these are measured anew, with --settings only these columns; --missing measures what is not there
yet. Everything takes about half an hour for each target; each figure is written as soon as it is there.
"""

from __future__ import annotations

import argparse
import json
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from equality_table import report
from exact import RandomSamples
from forced import FORCED, Network, NotApplicable
from models import MODELS, QUANTISED
from sanitized import SANITIZED, sanitized
from tinyc.tools.compare import compare_arrays, merge
from tinyc.tools.driver import Compiled, Emission, Job, compile_job
from tinyc.tools.harness import run_on_host
from tinyc.tools.limits import NO_LIMITS, Limits
from tinyc.tools.program import Sample
from tinyc.tools.toolchain import host_compiler

from tinyir.diag import CompileError, Unsupported

HERE = Path(__file__).resolve().parent
ZOO = HERE.parents[2] / "shared" / "models"
FLAGS = ("-std=c99", "-O1")
_MIN, _AGAIN = Limits(ram="min"), Limits(ram="min", recompute="10%")
_MACS = 500_000_000
"""Multiply-accumulates of all random inputs of a model, about; as many again of real ones."""
_MOST_INPUTS = 100

Row = dict[str, Any]
LEVELS = {f"-O{level}": level for level in ("0", "1", "2", "3", "s")}
LIMITS = {"--ram min": _MIN, "--recompute 10%": _AGAIN}
BETWEEN = {"--ram 1/3": 1 / 3, "--ram 2/3": 2 / 3}
"""Arenas this far between the least and that of the layers one by one."""
SETTINGS = (*LEVELS, *LIMITS, *BETWEEN, *FORCED)


# -- one model ---------------------------------------------------------------------------------------------------------


@dataclass
class Comparison:
    """One model: compiles it in any way, runs it, compares."""

    name: str
    target: str
    cache: Path

    @property
    def path(self) -> Path:
        return ZOO / f"{self.name}.onnx"

    @property
    def is_exact(self) -> bool:
        """Whether every bit has to be the same."""
        return self.name in QUANTISED

    def compile(self, level: str = "2", limits: Limits = NO_LIMITS, *, passes: str | None = None,
                layerwise: bool = False) -> Compiled:
        return compile_job(Job(str(self.path), level=level, limits=limits, passes=passes, target=self.target,
                               layerwise=layerwise))

    @cached_property
    def plain(self) -> Compiled:
        """The layer-by-layer program."""
        return self.compile("1", layerwise=True)

    @cached_property
    def samples(self) -> list[Sample]:
        """Random inputs of growing spread, and real ones from all over the file."""
        ports = self.plain.c_program(Emission("net")).inputs
        count = max(2, min(_MOST_INPUTS, _MACS // max(1, self.plain.facts.macs)))
        found = RandomSamples(ports, count)[:]
        model = (MODELS | QUANTISED).get(self.name)
        arrays = model.arrays() if model is not None else None
        if model is None or arrays is None:
            return found
        real = arrays[model.input]
        chosen = np.linspace(0, len(real) - 1, min(count, len(real))).astype(int)
        return [*found, *((real[i].reshape(ports[0].model_shape).astype(ports[0].dtype.numpy),) for i in chosen)]

    @cached_property
    def expected(self) -> list[Sample]:
        return self.outputs(self.plain)

    @cached_property
    def smallest(self) -> Compiled:
        """The one with the least arena."""
        return self.compile(limits=_MIN)

    @cached_property
    def network(self) -> Network:
        return Network.of(self.path, self.target)

    def outputs(self, compiled: Compiled) -> list[Sample]:
        program = compiled.c_program(Emission("net"))
        return run_on_host(program, self.samples, compiler=host_compiler(), flags=FLAGS, cache=self.cache).outputs

    def measure(self, compiled: Compiled, passes: str | None = None) -> Row:
        """Run it, and compare with the layer-by-layer program."""
        ours = [array for sample in self.outputs(compiled) for array in sample]
        theirs = [array for sample in self.expected for array in sample]
        found = merge([compare_arrays(a, b) for a, b in zip(ours, theirs, strict=True)])
        bits = sum(int(np.count_nonzero(a.view(f"u{a.itemsize}") != b.view(f"u{b.itemsize}")))
                   for a, b in zip(ours, theirs, strict=True))
        wrong = bits if self.is_exact else found.mismatches
        row = {"arena_bytes": compiled.facts.arena_bytes, "macs": compiled.facts.macs, "inputs": len(self.samples),
               "values": found.values, "other_bits": bits, "wrong": wrong, "exact": self.is_exact,
               "relative": None if self.is_exact else found.max_rel_error, "of_bound": found.worst}
        return row | ({"passes": passes} if passes else {})

    # -- ways to compile it --------------------------------------------------------------------------------------------

    def ways(self, settings: Sequence[str]) -> Iterator[tuple[str, Callable[[], Row]]]:
        """What to do for each of `settings`."""
        for name in settings:
            if name in LEVELS:
                yield name, lambda level=LEVELS[name]: self.measure(self.compile(level))
            elif LIMITS.get(name) == _MIN:
                yield name, lambda: self.measure(self.smallest)
            elif name in LIMITS:
                yield name, lambda limits=LIMITS[name]: self.measure(self.compile(limits=limits))
            elif name in BETWEEN:
                yield name, lambda share=BETWEEN[name]: self._between(share)
            elif name == SANITIZED:
                yield name, lambda: sanitized(self.path, self.target, self.is_exact)
            else:
                yield name, lambda name=name: self._forced(name)

    def _between(self, share: float) -> Row:
        least, most = (compiled.facts.arena_bytes for compiled in (self.smallest, self.plain))
        if least >= most:
            return {"reason": "no schedule needs less RAM than the layers one by one"}
        return self.measure(self.compile(limits=Limits(ram=str(int(least + share * (most - least))))))

    def _forced(self, name: str) -> Row:
        choice = self.network.forced(name)
        if isinstance(choice, NotApplicable):
            return {"reason": choice.reason}
        return self.measure(self.compile(passes=choice), choice.partition("dead-channels,")[2])


def measure_model(name: str, target: str, settings: Sequence[str], cache: Path,
                  keep: Callable[[str, Row], None]) -> None:
    """All of `settings`, each handed to `keep` as soon as it is there."""
    comparison = Comparison(name, target, cache)
    try:
        comparison.plain  # noqa: B018  (compiles it)
    except CompileError as problem:
        for setting in settings:
            keep(setting, {"reason": f"not compiled: {_in_short(problem)}"})
        return
    for setting, measure in comparison.ways(settings):
        start = time.monotonic()
        try:
            row = measure()
        except (CompileError, AssertionError) as problem:
            row = {"failed": str(problem)[:2000]}
        keep(setting, {**row, "seconds": round(time.monotonic() - start, 1)})


def _in_short(problem: CompileError) -> str:
    """Why a model cannot be compiled; of operators that are not supported, the last one of the table."""
    text = problem.diagnostics[0].message
    if isinstance(problem, Unsupported):
        return f"{text.splitlines()[-1].split()[0]} is not supported"
    return text.splitlines()[0]


def rows_of(name: str, target: str, settings: Sequence[str], cache: Path) -> Row:
    """The same as one object, for a process of its own."""
    rows: Row = {}
    measure_model(name, target, settings, cache, rows.__setitem__)
    return rows


# -- all models --------------------------------------------------------------------------------------------------------


def zoo() -> list[str]:
    """All models, the smallest files first."""
    return [path.stem for path in sorted(ZOO.glob("*.onnx"), key=lambda p: (p.stat().st_size, p.name))]


class Results:
    """equality.json and EQUALITY.md, written anew with every figure."""

    def __init__(self, target: str) -> None:
        self.path = HERE / "equality.json"
        self.target = target
        self.rows: Row = json.loads(self.path.read_text()) if self.path.exists() else {}

    def missing(self, name: str, settings: Sequence[str]) -> list[str]:
        return [s for s in settings if s not in self.rows.get(self.target, {}).get(name, {})]

    def keep(self, name: str, setting: str, row: Row) -> None:
        self.rows.setdefault(self.target, {}).setdefault(name, {})[setting] = row
        print(f"{name} {setting}: {told(row)}", flush=True)
        self.write()

    def write(self) -> None:
        self.path.write_text(json.dumps(self.rows, indent=1, sort_keys=True) + "\n")
        (HERE / "EQUALITY.md").write_text(report(self.rows, zoo(), (*SETTINGS, SANITIZED)))


def told(row: Row) -> str:
    """A figure as a line of progress."""
    if "reason" in row:
        return f"- ({row['reason']})"
    if "failed" in row:
        return f"FAILED: {row['failed']}"
    if "arena_bytes" not in row:
        return f"{row['wrong']} wrong, {row['seconds']} s"
    return (f"{row['wrong']} wrong, {row['other_bits']} with other bits of {row['values']:,}, arena "
            f"{row['arena_bytes']:,}, {row['seconds']} s")


def main() -> int:
    columns = {column.lstrip("-"): column for column in (*SETTINGS, SANITIZED)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="only these")
    parser.add_argument("--settings", nargs="+", metavar="SETTING", choices=list(columns), default=list(columns),
                        help=f"only these: {'; '.join(columns)}".replace("%", "%%"))
    parser.add_argument("--target", default="generic", choices=("generic", "cortex-m4"),
                        help="whose kernels; those for the Cortex-M4 have twins in C that run on this machine")
    parser.add_argument("--missing", action="store_true", help="only what has not been measured yet")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="models at a time")
    parser.add_argument("--write-only", action="store_true", help="measure nothing, write EQUALITY.md anew")
    options = parser.parse_args()
    unknown = [name for name in options.models if name not in zoo()]
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}")
    results = Results(options.target)
    if not options.write_only:
        names, settings = options.models or zoo(), [columns[word] for word in options.settings]
        wanted = {name: results.missing(name, settings) if options.missing else settings for name in names}
        with tempfile.TemporaryDirectory(prefix="tinyc-") as folder:
            _measure_all(results, wanted, Path(folder), options.jobs)
    results.write()
    bad = [row for models in results.rows.values() for rows in models.values() for row in rows.values()
           if row.get("wrong") or "failed" in row]
    print(f"{len(bad)} settings differ or failed")
    return 1 if bad else 0


def _measure_all(results: Results, wanted: dict[str, list[str]], cache: Path, jobs: int) -> None:
    if jobs == 1:
        for name, settings in wanted.items():
            measure_model(name, results.target, settings, cache,
                          lambda setting, row, name=name: results.keep(name, setting, row))
        return
    with ProcessPoolExecutor(jobs) as pool:
        running = {pool.submit(rows_of, name, results.target, settings, cache): name
                   for name, settings in wanted.items()}
        for done in as_completed(running):
            for setting, row in done.result().items():
                results.keep(running[done], setting, row)


if __name__ == "__main__":
    sys.exit(main())
