"""The cycle model beside silicon: `python tests/bench/coremark.py [--branch N ...]`, which writes COREMARK.md.

Runs EEMBC's CoreMark on the emulated Cortex-M4, prices what it executed with the table that `tinyc-bench` uses, and
puts CoreMark/MHz beside what boards with that core reached. CoreMark is not part of this repository: its sources come
from the PyPI package that a RISC-V core ships them in, and are checked by their digests. Their self-check has to
succeed on the emulated core. An iteration costs what 20 cost more than 10, divided by ten.

Boards: the tables of results in the repositories PaulStoffregen/CoreMark and FrankBoesing/CoreMark (README.md), and
pfeerick/CoreMark (Results/teensy35-120mhz.md).
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tinyc.tools.cycles import CycleModel
from tinyc.tools.emulator import build_image, run_image
from tinyc.tools.harness import Run
from tinyc.tools.program import Port, Program
from tinyc.tools.toolchain import core_compiler

from tinyir.board import Costs
from tinyir.types import I32

HERE = Path(__file__).resolve().parent
PACKAGE = "pythondata-cpu-ibex==0.0.post2937"
FOLDER = "pythondata_cpu_ibex/system_verilog/vendor/eembc_coremark/"
DIGESTS = {
    "core_list_join.c": "153b84e961d08456193c9d9cac69d2b5b69c8fe5ea9241442db5abf2596d862d",
    "core_main.c": "13a11aef610f1aac951a77ebca309ad9d1ec24c2aa4ee9bb8b15a0088eee48ff",
    "core_matrix.c": "3cf97c9f2e5f586c39704094d2cbc9f54a67854bb8d45e77b5f727ea869256c9",
    "core_state.c": "fba150073ddbf023f1d314372dd81967c31ae4f9d4ddfb2a3e4b49f2d1c9fca0",
    "core_util.c": "1a056bcd0d14fd378c8123534fa970de748d3384fad0c01323569797b9846bbe",
    "coremark.h": "50ba5735154626e229becf107a4f24409577629c197b8a35028868ae4899b027",
}
"""SHA-256 of each source."""
LEVELS = ("-O2", "-O3")
BOARDS = (
    ("Teensy 3.2 (MK20DX256)", 96, 218.26, "faster"),
    ("Teensy 3.5 (MK64FX512), GCC 5.4", 120, 265.50, "not given"),
    ("Teensy 3.6 (MK66FX1M0)", 180, 440.72, "not given"),
    ("Adafruit Metro M4 (SAMD51)", 180, 458.19, "faster"),
    ("Teensy 3.6 (MK66FX1M0)", 180, 464.90, "-O3"),
)
"""Name, MHz, iterations a second, and the optimisation that its source names."""

PORT_H = """\
#ifndef CORE_PORTME_H
#define CORE_PORTME_H
#include <stddef.h>
#include <stdint.h>
typedef int16_t ee_s16; typedef uint16_t ee_u16; typedef int32_t ee_s32;
typedef uint8_t ee_u8; typedef uint32_t ee_u32; typedef uintptr_t ee_ptr_int; typedef size_t ee_size_t;
typedef uint32_t CORE_TICKS;
typedef struct { ee_u8 portable_id; } core_portable;
#define HAS_FLOAT 0
#define HAS_STDIO 0
#define HAS_PRINTF 0
#define MAIN_HAS_NOARGC 1
#define MAIN_HAS_NORETURN 0
#define MULTITHREAD 1
#define SEED_METHOD SEED_VOLATILE
#define MEM_METHOD MEM_STATIC
#define MEM_LOCATION "static"
#define COMPILER_VERSION "gcc"
#define COMPILER_FLAGS ""
#define PERFORMANCE_RUN 1
#define align_mem(x) (void *)(4 + (((ee_ptr_int)(x) - 1) & ~3))
#define main coremark_main
extern ee_u32 default_num_contexts;
void portable_init(core_portable *p, int *argc, char *argv[]);
void portable_fini(core_portable *p);
int ee_printf(const char *format, ...);
#endif
"""
PORT_C = """\
#include "coremark.h"
#include "cycles.h"

volatile ee_s32 seed1_volatile = 0, seed2_volatile = 0, seed3_volatile = 0x66, seed4_volatile, seed5_volatile = 0;
ee_u32 default_num_contexts = 1;
static int32_t valid;

int coremark_main(void);

void start_time(void) {}
void stop_time(void) {}
CORE_TICKS get_time(void) { return 1; }
secs_ret time_in_secs(CORE_TICKS ticks) { return ticks; }
void portable_init(core_portable *p, int *argc, char *argv[]) { (void)argc; (void)argv; p->portable_id = 1; }
void portable_fini(core_portable *p) { p->portable_id = 0; }

/* CoreMark says in words whether its checksums are right: "Correct operation validated". */
int ee_printf(const char *format, ...)
{
    if (format[0] == 'C' && format[4] == 'e' && format[5] == 'c') valid = 1;
    return 0;
}

int cycles_run(const int32_t *iterations, int32_t *correct)
{
    seed4_volatile = iterations[0];
    valid = 0;
    (void)coremark_main();
    correct[0] = valid;
    return 0;
}
"""
HEAD = """\
# The cycle model beside silicon

Made by `python tests/bench/coremark.py`. CoreMark, built by arm-none-eabi-gcc, on the emulated Cortex-M4, its cycles
modelled as `tinyc-bench` does: memory without wait states, and 2 cycles for the refill behind a branch that is taken.
Below it what boards with that core reached, whose flash does have wait states and a cache.
"""
HEADER = "#include <stdint.h>\nint cycles_run(const int32_t *iterations, int32_t *correct);\n"


def sources(folder: Path) -> dict[str, bytes]:
    """CoreMark's own files, downloaded to `folder`."""
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), PACKAGE], check=True)
    archive = zipfile.ZipFile(next(folder.glob("*.whl")))
    found = {name: archive.read(FOLDER + name) for name in DIGESTS}
    for name, data in found.items():
        if hashlib.sha256(data).hexdigest() != DIGESTS[name]:
            raise SystemExit(f"{name} is not the file that was measured: {hashlib.sha256(data).hexdigest()}")
    return found


def program_of(files: dict[str, bytes]) -> Program:
    """CoreMark as something that the tools run: iterations in, whether its checksums are right out."""
    own = {"core_portme.h": PORT_H, "core_portme.c": PORT_C, "cycles.h": HEADER}
    return Program("cycles", {**files, **{name: text.encode() for name, text in own.items()}},
                   (Port("iterations", (1,), I32),), (Port("correct", (1,), I32),))


def run(program: Program, level: str, iterations: int) -> Run:
    """One run of so many iterations. Raises SystemExit where a checksum is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        image = build_image(program, "cortex-m4", 1, core_compiler("cortex-m4"), Path(folder),
                            flags=("-std=gnu99", level))
        done = run_image("unicorn", image, program, [(np.array([iterations], np.int32),)], "cortex-m4")
    if int(done.outputs[0][0][0]) != 1:
        raise SystemExit(f"CoreMark {level}: wrong checksums")
    return done


def measured(program: Program, level: str, branches: Sequence[int]) -> tuple[int, list[float]]:
    """Instructions of an iteration, and CoreMark/MHz for each price of a branch that is taken."""
    few, many = (run(program, level, count) for count in (10, 20))
    rates = []
    for branch in branches:
        model = CycleModel(replace(Costs(), branch=branch))
        cycles = [sum(model.by_layer(done.blocks).values()) for done in (few, many)]
        rates.append(1e6 / ((cycles[1] - cycles[0]) / 10))
    return ((many.instructions or 0) - (few.instructions or 0)) // 10, rates


def table(rows: Sequence[tuple[str, int, list[float]]], branches: Sequence[int]) -> str:
    """COREMARK.md."""
    refills = "".join(f" CoreMark/MHz, refill {branch} |" for branch in branches)
    lines = [*HEAD.splitlines(), "", f"| built with | instructions an iteration |{refills}",
             "| --- | --: |" + " --: |" * len(branches)]
    lines += [f"| {level} | {count:,} | " + " | ".join(f"{rate:.2f}" for rate in rates) + " |"
              for level, count, rates in rows]
    lines += ["", "| board | MHz | optimisation | CoreMark | CoreMark/MHz |", "| --- | --: | --- | --: | --: |"]
    lines += [f"| {name} | {mhz} | {how} | {score:.2f} | {score / mhz:.2f} |" for name, mhz, score, how in BOARDS]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--branch", type=int, nargs="+", default=[1, 2, 3], help="cycles of a refill (default: 1 2 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = program_of(sources(Path(folder)))
    rows = [(level, *measured(program, level, options.branch)) for level in LEVELS]
    text = table(rows, options.branch)
    (HERE / "COREMARK.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
