"""Times the C on this machine, and onnxruntime beside it: in turns, one thread each, the median of some rounds.

    report = measure_host(compiled, "net", settings, "ort", progress)
    report.seconds, report.peer_seconds
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinyir.diag import error

from .bench import BenchSettings
from .bench_report import BenchReport, LayerFigures
from .driver import Compiled, Emission
from .elf import section_sizes
from .harness import run_library
from .program import Program, Sample
from .reference import Reference
from .rows import SUFFIX
from .samples import random_samples
from .toolchain import host_compiler, shared_library

if TYPE_CHECKING:
    from .cli import Progress

__all__ = ["HOST_FLAGS", "alternate", "measure_host"]

HOST_FLAGS = ("-std=c99", "-O3", "-march=native")
_ROUNDS = 7
_ROUND_SECONDS = 0.15


def measure_host(compiled: Compiled, name: str, settings: BenchSettings, peer: str | None,
                 progress: Progress) -> BenchReport:
    """Build the C for this machine, time it (and the peer). Raises CompileError where something does not build."""
    program = compiled.c_program(Emission(name))
    compiler = host_compiler(cc=settings.cc, cflags=settings.cflags)
    sample = random_samples(program.inputs, 1).inputs[0]
    reference = Reference(compiled.job.source) if peer is not None else None
    with tempfile.TemporaryDirectory(prefix="tinyc-") as folder:
        with progress.stage("building the C"):
            library = shared_library(program.files, compiler, Path(folder), HOST_FLAGS, settings.cache)
        code = _code_bytes(Path(folder))
        with progress.stage("timing the C"):
            ours, theirs = alternate(program, library, reference, sample)
    job, facts = compiled.job, compiled.facts
    layers = tuple(LayerFigures(x.number, ", ".join(x.nodes) or x.op, x.op, x.macs) for x in facts.layers)
    return BenchReport(
        model=Path(job.source).name, target=compiled.context.target.name, macs=facts.macs,
        opt=f"-O{job.level}" if job.passes is None else f"-p {job.passes}", arena_bytes=facts.arena_bytes,
        code_bytes=code, const_bytes=facts.const_bytes, compiler=str(compiler),
        flags=" ".join((*HOST_FLAGS, *compiler.user_flags)), seconds=ours, peer="onnxruntime" if peer else None,
        peer_seconds=theirs, layers=layers)


def _code_bytes(folder: Path) -> int:
    """Machine code in the objects that were built there."""
    sizes = [section_sizes(path.read_bytes()) for path in sorted(folder.glob("*.o"))
             if not path.stem.endswith(SUFFIX)]
    return sum(size for found in sizes for name, size in found.items() if name.startswith(".text"))


def alternate(program: Program, library: Path, reference: Reference | None,
              sample: Sample) -> tuple[float, float | None]:
    """Seconds of one inference, of the C and of onnxruntime: each round times both, so that what else the machine does
    befalls both alike."""
    once = statistics.median(run_library(program, library, [sample], repeat=3).seconds)
    theirs = _peer_sample(program, reference, sample) if reference is not None else ()
    if reference is not None:
        once = max(once, statistics.median(reference.seconds(theirs, 3)))
    repeat = max(3, int(_ROUND_SECONDS / once))
    ours_seconds, their_seconds = [], []
    for _ in range(_ROUNDS):
        ours_seconds.append(statistics.median(run_library(program, library, [sample], repeat=repeat).seconds))
        if reference is not None:
            their_seconds.append(statistics.median(reference.seconds(theirs, repeat)))
    return statistics.median(ours_seconds), statistics.median(their_seconds) if their_seconds else None


def _peer_sample(program: Program, reference: Reference, sample: Sequence[np.ndarray]) -> Sample:
    """The sample as the model file takes it: the order of its axes, and floats where the C takes bytes."""
    if len(reference.inputs) != len(program.inputs):
        raise error(f"the model has {len(reference.inputs)} inputs, the C takes {len(program.inputs)}")
    arrays = zip(program.inputs, sample, reference.inputs, strict=True)
    return tuple(np.asarray(port.to_model(array), dtype=model.dtype) for port, array, model in arrays)
