"""Builds a compiled model and runs it: on this machine as a shared library, or on an emulated microcontroller.

    run = run_on_host(program, samples, compiler=host_compiler())
    run.outputs[sample][output]                                   numpy arrays
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from tinyir.diag import CompileError, Diagnostic
from tinyir.ir import Array

from .blocks import Block
from .program import Program, Sample
from .toolchain import Compiler, shared_library

__all__ = ["HOST_FLAGS", "Run", "batches", "pack", "run_library", "run_on_host", "unpack"]

HOST_FLAGS = ("-std=c99", "-O2")


@dataclass(frozen=True)
class Run:
    """What came of running a program on some samples."""

    outputs: list[Sample]
    """One tuple of arrays a sample."""
    seconds: tuple[float, ...] = ()
    """Times of the timed runs (host)."""
    instructions: int | None = None
    """Instructions that one run executed (emulated)."""
    stack_bytes: int | None = None
    """The most stack that a run used (emulated)."""
    where: str = "host"
    blocks: tuple[Block, ...] = ()
    """What the last run executed (unicorn)."""
    fetch_stalls: Mapping[int | None, int] = field(default_factory=dict)
    """Cycles that each layer would wait for code in flash (unicorn)."""
    layer_instructions: tuple[int, ...] = ()
    """Instructions of each layer in the last run, by QEMU's timer; empty where it was not asked for."""


def failure(message: str, *notes: str) -> CompileError:
    """An error that is ours: generated C that crashes, returns an error or writes where it must not."""
    return CompileError((Diagnostic("internal", message, notes=notes),))


def pack(program: Program, sample: Sequence[Array]) -> list[bytes]:
    """The bytes of each input as the C reads them."""
    ports = zip(program.inputs, sample, strict=True)
    return [np.ascontiguousarray(array, dtype=port.dtype.numpy).tobytes() for port, array in ports]


def unpack(program: Program, data: bytes | memoryview, align: int = 1) -> Sample:
    """The outputs of one run from the bytes that hold them one behind the other, each at a multiple of `align`."""
    arrays, start = [], 0
    for port in program.outputs:
        flat = np.frombuffer(data, port.dtype.numpy, offset=start, count=int(np.prod(port.shape, dtype=np.int64)))
        arrays.append(flat.reshape(port.shape))
        start += -(-port.size_bytes // align) * align
    return tuple(arrays)


def batches(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """`samples` in lists of `size` (at least one), the last of which may be shorter; none is empty."""
    rest = iter(samples)
    while batch := list(islice(rest, max(1, size))):
        yield batch


def run_on_host(program: Program, samples: Sequence[Sample], *, compiler: Compiler, flags: Sequence[str] = HOST_FLAGS,
                repeat: int = 0, cache: Path | None = None) -> Run:
    """Build `program` for this machine and run it on `samples`; time `repeat` further runs of the first one.

    Raises CompileError if it does not build, crashes, returns an error or writes outside of its outputs.
    """
    with tempfile.TemporaryDirectory(prefix="tinyc-") as name:
        folder = Path(name)
        library = shared_library(program.files, compiler, folder, flags, cache)
        return run_library(program, library, samples, repeat=repeat)


def run_library(program: Program, library: Path, samples: Sequence[Sample], *, repeat: int = 0) -> Run:
    """Run a library built by `shared_library`, in a process of its own and beside the library file."""
    folder = library.parent
    job = {
        "library": str(library.resolve()), "function": f"{program.name}_run",
        "inputs": [p.size_bytes for p in program.inputs], "outputs": [p.size_bytes for p in program.outputs],
        "arena": program.caller_arena, "samples": len(samples), "repeat": repeat,
        "input_file": str(folder / "inputs.bin"), "output_file": str(folder / "outputs.bin"),
    }
    (folder / "inputs.bin").write_bytes(b"".join(part for sample in samples for part in pack(program, sample)))
    (folder / "job.json").write_text(json.dumps(job))
    worker = Path(__file__).with_name("host_worker.py")
    done = subprocess.run([sys.executable, str(worker), str(folder / "job.json")], capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        raise failure(f"the C of {program.name} crashed on the host", f"exit status {done.returncode}",
                      *done.stderr.splitlines()[-3:])
    answer = json.loads(done.stdout)
    _check_answer(program, answer["statuses"], answer["clean"])
    data = memoryview((folder / "outputs.bin").read_bytes())
    step = sum(p.size_bytes for p in program.outputs)
    outputs = [unpack(program, data[i * step:(i + 1) * step]) for i in range(len(samples))]
    return Run(outputs, tuple(answer["seconds"]))


def _check_answer(program: Program, statuses: Sequence[int], clean: bool) -> None:
    bad = [s for s in statuses if s != 0]
    if bad:
        raise failure(f"{program.name}_run returned {bad[0]}, not 0")
    if not clean:
        raise failure(f"{program.name}_run wrote outside of its output buffers")
