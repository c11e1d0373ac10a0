"""Records what every kernel call of the C writes while it runs, on this machine or on an emulated core.

    for arrays in record(program, kernel_calls(module), samples, None, "", "cortex-m4"):       one sample at a time
        arrays[number]                                            what call `number` wrote, in the C's order of axes

The C is built once, with hooks, and with a recorder around it that has one input and one output more: where its window
begins in the bytes of all calls, one call behind the other, and the bytes within. Where the memory of an emulated board
does not hold all of them, each sample runs once for each window. What is held at a time is bounded, whatever the number
of samples.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinyir.ir import Array, Module
from tinyir.opdef import Op
from tinyir.types import U8, U32

from .cores import is_emulated
from .emulator import room_for, runs_on_target
from .harness import HOST_FLAGS, Run, batches, run_library
from .program import Port, Program, Sample
from .toolchain import core_compiler, host_compiler, shared_library

__all__ = ["kernel_calls", "record"]

_BATCH_BYTES = 64 << 20
"""Recorded tensors that are held at a time on this machine."""
_START = Port("start", (1,), U32)


def kernel_calls(module: Module) -> list[Op]:
    """The ops that the C calls a function for, in order; their numbers are those that the hook gets."""
    return [op for op in module.main.block.walk() if op.writes]


def record(program: Program, calls: Sequence[Op], samples: Sequence[Sample], cc: str | None, cflags: str,
           target: str = "generic") -> Iterator[list[Array]]:
    """What each call wrote, sample after sample. `program` has hooks; `samples` are inputs as the C takes them.

    Raises CompileError where the C does not build or run, or the board does not even hold inputs and outputs.
    """
    if not samples:
        return
    total = max(1, sum(op.writes[0].type.size_bytes for op in calls))
    size = min(total, room_for(recording(program, 0), target)) if is_emulated(target) else total
    starts = [np.array([start], np.uint32) for start in range(0, total, size)]
    feed = ((*sample, start) for sample in samples for start in starts)
    runs = _runs(recording(program, size), feed, cc, cflags, target)
    logs = (outputs[-1] for run in runs for outputs in run.outputs)
    for windows in zip(*[logs] * len(starts), strict=True):
        yield _split(np.concatenate(windows) if len(windows) > 1 else windows[0], calls)


def _runs(recorder: Program, feed: Iterator[Sample], cc: str | None, cflags: str, target: str) -> Iterator[Run]:
    if is_emulated(target):
        yield from runs_on_target(recorder, feed, target, compiler=core_compiler(target, cc=cc, cflags=cflags))
        return
    with tempfile.TemporaryDirectory(prefix="tinyc-") as name:
        library = shared_library(recorder.files, host_compiler(cc=cc, cflags=cflags), Path(name), HOST_FLAGS)
        for batch in batches(feed, _BATCH_BYTES // recorder.outputs[-1].size_bytes):
            yield run_library(recorder, library, batch)


_RECORDER = """\
#include <stdint.h>
#include <stddef.h>
#include "{header}"
#include "{name}_record.h"
static unsigned char *window;
static size_t begin, at;
static void keep(void *user, int32_t layer, const void *data, size_t bytes)
{{
    const size_t end = begin + {size}u;
    size_t i = begin > at ? begin - at : 0u, last = end > at ? end - at : 0u;
    (void)user; (void)layer;
    if (last > bytes) last = bytes;
    for (; i < last; i++) window[at + i - begin] = ((const unsigned char *)data)[i];
    at += bytes;
}}
int {name}_record_run({parameters})
{{
    window = p{log};
    begin = *(const uint32_t *)p{start};
    at = 0u;
    return {name}_run_hooked({arguments}, keep, NULL);
}}
"""


def recording(program: Program, size: int) -> Program:
    """A program around `program` (with hooks): its last input says where a window of `size` bytes begins in what the
    calls write, its last output is the window."""
    name = f"{program.name}_record"
    start = len(program.inputs) + (program.caller_arena is not None)
    log = start + 1 + len(program.outputs)
    parameters = ", ".join(f"void *p{i}" for i in range(log + 1))
    arguments = ", ".join(f"p{i}" for i in range(log) if i != start)
    source = _RECORDER.format(header=program.header, name=program.name, size=size, parameters=parameters,
                              start=start, log=log, arguments=arguments)
    files = {**program.files, f"{name}.c": source.encode(), f"{name}.h": f"int {name}_run({parameters});\n".encode()}
    return replace(program, name=name, inputs=(*program.inputs, _START),
                   outputs=(*program.outputs, Port("log", (size,), U8)), files=files)


def _split(log: Array, calls: Sequence[Op]) -> list[Array]:
    arrays, start = [], 0
    for op in calls:
        type_ = op.writes[0].type
        flat = np.frombuffer(log, type_.dtype.numpy, count=type_.elements, offset=start)
        arrays.append(flat.reshape(type_.shape))
        start += type_.size_bytes
    return arrays
