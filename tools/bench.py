"""Measures one inference of a compiled model on an emulated core: instructions, cycles, layers, stack, flash.

    report = measure_core(compiled, settings, progress)
    report.instructions, report.cycles, report.layers[3].instructions
    report.as_json(), report.text(layers=True)

QEMU counts with the timer of its board, in ticks; unicorn counts exactly, knows the layers, and gives the blocks that
the cycle model prices. Where both are installed both run, the figure of unicorn is shown, and QEMU's beside it.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tinyir.costs import CostModel
from tinyir.diag import error

from .bench_report import BenchReport, LayerFigures
from .blocks import MARK_HEADER, Block, instructions_by_layer
from .cores import Core, core_named
from .cycles import CycleModel
from .driver import Compiled, Emission
from .elf import section_sizes
from .emulator import Emulator, build_image, emulators_for, find_emulator, run_image
from .harness import Run
from .hot_code import hot_bytes
from .program import Program
from .samples import random_samples
from .toolchain import Compiler, core_compiler

if TYPE_CHECKING:
    from .cli import Progress

__all__ = ["BenchSettings", "c_flags", "measure_and_run", "measure_core"]

_TIMED_MARKS = b"""\
#include <stdint.h>
void tinyc_mark(uint32_t layer);
#define TINYC_LAYER(number) tinyc_mark(number + 1u)
"""
"""Marks for QEMU, which cannot say where it is: each reads the timer."""


@dataclass(frozen=True)
class BenchSettings:
    """How to build and run."""

    cc: str | None = None
    cflags: str = ""
    emulator: Emulator = "auto"
    layers: bool = True
    cache: Path | None = None


def c_flags(level: str) -> tuple[str, ...]:
    """What the C is built with at -O`level` unless the user says something else."""
    return ("-std=c99", {"0": "-O1", "1": "-O1", "s": "-Os", "3": "-O3"}.get(level, "-O2"))


def measure_core(compiled: Compiled, name: str, settings: BenchSettings, progress: Progress) -> BenchReport:
    """Build the C, run it once, gather the figures. Raises CompileError where a tool is missing or the C fails."""
    return measure_and_run(compiled, name, settings, progress)[0]


def measure_and_run(compiled: Compiled, name: str, settings: BenchSettings,
                    progress: Progress) -> tuple[BenchReport, Run]:
    """The same, and what the C computed for the first of `random_samples`."""
    return _Measurement(compiled, name, settings, progress).report()


class _Measurement:
    """One model on one core."""

    def __init__(self, compiled: Compiled, name: str, settings: BenchSettings, progress: Progress) -> None:
        target = compiled.context.target
        self.compiled, self.name, self.settings, self.progress = compiled, name, settings, progress
        self.core: Core = core_named(target.core)
        self.compiler: Compiler = core_compiler(target.core, cc=settings.cc, cflags=settings.cflags)
        self.emulators = self._emulators()
        self.flags = c_flags(compiled.job.level)

    def _emulators(self) -> list[Emulator]:
        """The ones to run. Raises CompileError if there is none."""
        first = find_emulator(self.settings.emulator, self.core.name)
        free = self.settings.emulator == "auto" and "TINYC_EMULATOR" not in os.environ
        both = free and len(emulators_for(self.core)) > 1
        return ["qemu", "unicorn"] if both else [first]

    def report(self) -> tuple[BenchReport, Run]:
        """Build, run, gather."""
        with tempfile.TemporaryDirectory(prefix="tinyc-") as folder:
            program = self._program(MARK_HEADER)
            with self.progress.stage("building the C"):
                image = self._build(program, Path(folder))
            runs = {emulator: self._run(emulator, image, program) for emulator in self.emulators}
            sizes = section_sizes(image.read_bytes())
            timed = self.settings.layers and "unicorn" not in runs
            layers = self._timed_layers(Path(folder)) if timed else ()
        if "unicorn" in runs:
            layers = self._exact_layers(runs["unicorn"])
        return self._report(runs, sizes, layers), runs[self.emulators[-1]]

    def _program(self, marks: bytes) -> Program:
        """The C with a mark in front of each layer."""
        program = self.compiled.c_program(Emission(self.name, marks=True))
        source = f"{self.name}.c"
        return replace(program, files={**program.files, source: marks + program.files[source]})

    def _build(self, program: Program, folder: Path, layers: int = 0) -> Path:
        return build_image(program, self.core.name, 1, self.compiler, folder, flags=self.flags, layers=layers,
                           cache=self.settings.cache)

    def _run(self, emulator: Emulator, image: Path, program: Program, layers: int = 0) -> Run:
        samples = random_samples(program.inputs, 1).inputs
        with self.progress.stage(f"running the C in {emulator}"):
            return run_image(emulator, image, program, samples, self.core.name, layers=layers,
                             costs=self.compiled.context.target.costs)

    def _timed_layers(self, folder: Path) -> tuple[LayerFigures, ...]:
        count = len(self.compiled.facts.layers) + 1
        program = self._program(_TIMED_MARKS)
        run = self._run("qemu", self._build(program, folder, count), program, count)
        counts = dict(enumerate(run.layer_instructions[1:]))
        return tuple(replace(layer, instructions=counts.get(layer.number, 0)) for layer in self._layers())

    def _exact_layers(self, run: Run) -> tuple[LayerFigures, ...]:
        counts = instructions_by_layer(run.blocks, self.core.family)
        hot, cycles = hot_bytes(run.blocks, self.core.family), self._cycles(run.blocks)
        return tuple(replace(layer, instructions=counts.get(layer.number, 0), cycles=cycles.get(layer.number),
                             fetch_stalls=run.fetch_stalls.get(layer.number, 0) if self._fetches else None,
                             hot_bytes=hot.get(layer.number)) for layer in self._layers())

    @property
    def _fetches(self) -> bool:
        """Whether there is a model of how code comes out of the flash."""
        costs = self.compiled.context.target.costs
        return costs is not None and costs.fetch_wait > 0

    def _cycles(self, blocks: Sequence[Block]) -> Mapping[int | None, int]:
        costs = self.compiled.context.target.costs
        if costs is None or self.core.family != "arm" or importlib.util.find_spec("capstone") is None:
            return {}
        return CycleModel(costs).by_layer(blocks)

    def _layers(self) -> list[LayerFigures]:
        """All layers, not measured yet."""
        return [LayerFigures(layer.number, ", ".join(layer.nodes) or layer.op, layer.op, layer.macs)
                for layer in self.compiled.facts.layers]

    def _report(self, runs: Mapping[Emulator, Run], sizes: Mapping[str, int],
                layers: tuple[LayerFigures, ...]) -> BenchReport:
        run = runs[self.emulators[-1]]
        job, facts, target = self.compiled.job, self.compiled.facts, self.compiled.context.target
        cycles = self._cycles(run.blocks) if run.blocks else {}
        if run.instructions is None or run.stack_bytes is None:
            raise error(f"{self.core.name}: the emulator measured nothing")
        return BenchReport(
            model=Path(job.source).name, target=target.name, opt=_opt(self.compiled), macs=facts.macs,
            arena_bytes=facts.arena_bytes, code_bytes=sizes.get(".text", 0) + sizes.get(".ARM.exidx", 0),
            const_bytes=sizes.get(".rodata", 0) + sizes.get(".data", 0), compiler=str(self.compiler),
            flags=" ".join((*self.flags, *self.compiler.user_flags)), instructions=run.instructions,
            instructions_qemu=runs["qemu"].instructions if len(runs) > 1 else None,
            modelled_instructions=CostModel(target, self.compiled.module.attrs).module(
                self.compiled.module).instructions,
            cycles=sum(cycles.values()) if cycles else None,
            fetch_stalls=sum(run.fetch_stalls.values()) if run.blocks and self._fetches else None,
            stack_bytes=run.stack_bytes, ran_on="+".join(runs), layers=layers)


def _opt(compiled: Compiled) -> str:
    job = compiled.job
    return f"-O{job.level}" if job.passes is None else f"-p {job.passes}"
