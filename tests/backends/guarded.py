"""Runs generated C with a guard in front of every call, which knows from the memory plan what the call may touch.

The guard is called by the marks that profiling builds have (`TINYC_LAYER(number)`). What it does depends on the build:

    address   AddressSanitizer: all of the arena is closed but for the slots of the call's own operands
    memory    MemorySanitizer: what no slot holds that lives then is as good as never written; outputs are asked at the
              end. Scratch is exempt: blocks of four pixels are computed whole, also where the last are not there
    fill      the same bytes are overwritten with noise, those of scratch too

The arena is allocated by itself, with exactly its size: what lies around it is guarded by the sanitizers too, and by
canaries in the third build. Input rows that the C asks for are copied from a buffer and counted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from tinyc.backends.c.program import Call, PlacedSlot, Program, gather
from tinyc.tools.rows import held_inputs, row_inputs

from tinyir.ir import Array, Module
from tinyir.loops import bases_of
from tinyir.registry import BACKENDS

__all__ = ["BUILDS", "Build", "run_guarded"]

Build = tuple[str, Literal["address", "memory", "fill"], int]
"""A compiler, what the guard does, and a number that the noise begins with."""

_FLAGS = {
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DGUARD_ADDRESS"),
    "memory": ("-fsanitize=memory", "-DGUARD_MEMORY"),
    "fill": ("-DGUARD_FILL",),
}


def _links(compiler: str, flags: Sequence[str]) -> bool:
    if shutil.which(compiler) is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.c"
        source.write_text("int main(void) { return 0; }\n")
        done = subprocess.run([compiler, *flags, source.name, "-o", "probe"], cwd=folder, capture_output=True,
                              check=False)
        return done.returncode == 0 and subprocess.run([f"{folder}/probe"], check=False).returncode == 0


_ALL: list[Build] = [("gcc", "address", 1), ("clang", "address", 1), ("clang", "memory", 1), ("gcc", "fill", 0xA5),
                     ("gcc", "fill", 77)]
BUILDS: list[Build] = [b for b in _ALL if _links(b[0], _FLAGS[b[1]])]
"""Those that this machine can make."""


_GUARD = """\
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(GUARD_ADDRESS)
#include <sanitizer/asan_interface.h>
#define CLOSE(at, size) ASAN_POISON_MEMORY_REGION(guard_arena + (at), size)
#define OPEN(at, size) ASAN_UNPOISON_MEMORY_REGION(guard_arena + (at), size)
#define FORGET(at, size) (void)0
#elif defined(GUARD_MEMORY)
#include <sanitizer/msan_interface.h>
#define CLOSE(at, size) (void)0
#define OPEN(at, size) (void)0
#define FORGET(at, size) __msan_poison(guard_arena + (at), size)
#define SCRATCH(at, size) __msan_unpoison(guard_arena + (at), size)
#else
#define CLOSE(at, size) (void)0
#define OPEN(at, size) (void)0
#define FORGET(at, size) noise(guard_arena + (at), size)
#endif
#if !defined(SCRATCH)
#define SCRATCH(at, size) FORGET(at, size)
#endif

uint8_t *guard_arena;
uint32_t guard_state;
uint8_t guard_seen[{calls}];

void noise(uint8_t *to, size_t size)
{{
    for (size_t i = 0; i < size; i++) {{
        guard_state = guard_state * 1664525u + 1013904223u;
        to[i] = (uint8_t)(guard_state >> 24);
    }}
}}

void guard_begin(int fill)
{{
    OPEN(0, {size});
    memset(guard_seen, 0, sizeof guard_seen);
    if (fill >= 0) memset(guard_arena, fill, {size});
    else noise(guard_arena, {size});
}}

void guard(int32_t call)
{{
    const int first = !guard_seen[call];
    (void)first;
    guard_seen[call] = 1;
    CLOSE(0, {size});
    switch (call) {{
{cases}
    default: break;
    }}
}}
"""

_MAIN = """\
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "net.h"
#if defined(GUARD_MEMORY)
#include <sanitizer/msan_interface.h>
#endif
extern uint8_t *guard_arena;
extern uint32_t guard_state;
void guard_begin(int fill);

static void *buffer(size_t size)
{{
    void *made = NULL;
    if (posix_memalign(&made, 64, size) != 0) abort();
    return made;
}}
{rows}
int main(int count, char **words)
{{
    const size_t inputs[] = {{{inputs}}}, outputs[] = {{{outputs}}};
    void *in[{in_count}], *out[{out_count}];
    FILE *file = fopen("in.bin", "rb");
    (void)count;
    guard_state = (uint32_t)strtoul(words[1], NULL, 10);
    for (size_t i = 0; i < {in_count}; i++) {{
        in[i] = buffer(inputs[i]);
        if (fread(in[i], 1, inputs[i], file) != inputs[i]) return 2;
    }}
    for (size_t i = 0; i < {out_count}; i++) {{
        out[i] = buffer(outputs[i]);
        memset(out[i], 0x5A, outputs[i]);
#if defined(GUARD_MEMORY)
        __msan_poison(out[i], outputs[i]);
#endif
    }}
#if defined(GUARD_FILL)
    uint8_t *around = buffer({size} + 128);
    memset(around, 0xC3, {size} + 128);
    guard_arena = around + 64;
#else
    guard_arena = buffer({size});
#endif
    for (int round = 0; round < 2; round++) {{
        guard_begin(round == 0 && guard_state == 0xA5u ? 0xA5 : -1);
{reset}
        if ({call} != 0) return 3;
{asked}
    }}
#if defined(GUARD_FILL)
    for (size_t i = 0; i < 64; i++) if (around[i] != 0xC3 || around[64 + {size} + i] != 0xC3) return 4;
#endif
    file = fopen("out.bin", "wb");
    for (size_t i = 0; i < {out_count}; i++) {{
#if defined(GUARD_MEMORY)
        __msan_check_mem_is_initialized(out[i], outputs[i]);
#endif
        fwrite(out[i], 1, outputs[i], file);
    }}
    return fclose(file);
}}
"""

_ROW = """
static int32_t next_{i};
static void row_{i}(void *user, int32_t row, {element} *to)
{{
    if (row != next_{i}++) abort();
    memcpy(to, (const char *)user + row * {bytes}, {bytes});
}}
"""


def run_guarded(module: Module, inputs: Sequence[Array], build: Build, folder: Path,
                flags: Sequence[str] = ("-O1", "-ffp-contract=off"),
                edit: Callable[[str], str] = lambda text: text) -> list[Array]:
    """The outputs of a module at mem level. Fails with what the sanitizer or the guard has to say. `edit` may change
    the C before."""
    compiler, kind, seed = build
    files = BACKENDS.get("c")(module, name="net", arena="caller", marks=True)
    files["net.c"] = edit(files["net.c"].decode()).encode()
    program = gather(module, "net")
    files["guard.c"] = _guard_source(program).encode()
    files["main.c"] = _main_source(module, program).encode()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "in.bin").write_bytes(b"".join(np.ascontiguousarray(a).tobytes() for a in inputs))
    (folder / "guard.h").write_text("#include <stdint.h>\nvoid guard(int32_t call);\n")
    words = [compiler, "-std=gnu11", "-g", *flags, *_FLAGS[kind], "-include", "guard.h",
             "-DTINYC_LAYER(number)=guard(number)", *(n for n in sorted(files) if n.endswith(".c")), "-o", "run"]
    built = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run(["./run", str(seed)], cwd=folder, capture_output=True, text=True, check=False,
                          env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
    assert done.returncode == 0, f"{build}: status {done.returncode}\n{done.stderr[:4000]}"
    return _outputs(module, (folder / "out.bin").read_bytes())


def _outputs(module: Module, data: bytes) -> list[Array]:
    found, start = [], 0
    for value in module.main.written:
        flat = np.frombuffer(data, value.type.dtype.numpy, value.type.elements, start)
        found.append(flat.reshape(value.shape))
        start += value.type.size_bytes
    return found


def _guard_source(program: Program) -> str:
    cases = "\n".join(_case(program, call) for call in program.calls)
    return _GUARD.format(calls=max(1, len(program.calls)), size=program.arena_bytes, cases=cases)


def _case(program: Program, call: Call) -> str:
    bases = {base for value in (*call.op.reads, *call.op.writes) for base in bases_of(value)}
    own = [slot for slot in program.slots if slot.value in bases]
    number, result = call.number, call.op.writes[0]
    if not call.function:
        return f"    case {number}: break;"
    holding = [s for s in program.slots if s.first < number <= s.last]
    beginning = [s for s in program.slots if s.first == number]
    scratch = [s for s in beginning if s.last == number and s.value not in bases_of(result)]
    beginning = [s for s in beginning if s not in scratch]
    lines = [f"    case {number}:"]
    lines += [f"        OPEN({s.offset}, {s.value.type.size_bytes});" for s in own]
    lines += [f"        FORGET({at}, {end - at});"
              for at, end in _without(0, program.arena_bytes, [*holding, *beginning, *scratch])]
    lines += [f"        SCRATCH({at}, {end - at});" for s in scratch
              for at, end in _without(s.offset, s.offset + s.value.type.size_bytes, holding)]
    lines += [f"        if (first) FORGET({at}, {end - at});" for s in beginning
              for at, end in _without(s.offset, s.offset + s.value.type.size_bytes, holding)]
    return "\n".join([*lines, "        break;"])


def _without(begin: int, end: int, slots: Iterable[PlacedSlot]) -> list[tuple[int, int]]:
    """The parts of [begin, end) that none of the slots has: begin and end."""
    parts, at = [], begin
    for low, high in sorted((s.offset, s.offset + s.value.type.size_bytes) for s in slots):
        if min(low, end) > at:
            parts.append((at, min(low, end)))
        at = max(at, high)
    return [*parts, (at, end)] if at < end else parts


def _main_source(module: Module, program: Program) -> str:
    rows = row_inputs(module)
    pulled = [(i, r) for i, r in enumerate(rows) if r is not None]
    held = held_inputs(module)
    passed = [f"row_{i}, in[{i}]" if r is not None else f"in[{i}]" for i, r in enumerate(rows) if not held[i]]
    arena = ["guard_arena"] if program.arenas else []
    places = [f"net_input{f'_{i}' if len(held) > 1 else ''}(guard_arena)" for i in range(len(held))]
    outputs = [f"out[{i}]" for i in range(len(program.outputs))]
    return _MAIN.format(
        rows="".join(_ROW.format(i=i, element=r.element, bytes=r.row_bytes) for i, r in pulled),
        inputs=", ".join(str(t.value.type.size_bytes) for t in program.inputs), in_count=len(program.inputs),
        outputs=", ".join(str(t.value.type.size_bytes) for t in program.outputs), out_count=len(program.outputs),
        size=max(1, program.arena_bytes),
        reset="".join([*(f"        next_{i} = 0;\n" for i, _ in pulled),
                       *(f"        memcpy({places[i]}, in[{i}], {n});\n" for i, n in enumerate(held) if n)]),
        asked="".join(f"        if (next_{i} != {r.rows}) return 5;\n" for i, r in pulled),
        call=f"{program.run_name}({', '.join([*arena, *passed, *outputs])})")
