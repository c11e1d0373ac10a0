"""Runs a compiled model on an emulated Cortex-M and measures it: instructions and stack.

    run_on_target(program, samples, "cortex-m4")     -> Run(outputs, instructions=9_876_543, stack_bytes=312)

Two emulators can do it: `qemu-system-arm`, a whole board (the image boots, switches the FPU on, runs, reports through
semihosting), and PyPI's `unicorn`, a bare processor (the function is called directly; blocks of instructions are
counted by a compiled callback, exactly). What is installed comes first; `emulator=` or TINYC_EMULATOR choose.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tinyir.diag import error

from .firmware import BOARDS, RESULT_FILE, TICK, Layout, linker_script, main_source, plan_layout, startup_source
from .harness import Run, failure, pack, unpack
from .program import Program, Sample
from .toolchain import Compiler, arm_compiler, core_named, firmware

__all__ = ["ARM_FLAGS", "Emulator", "emulators_present", "find_emulator", "run_on_target"]

Emulator = Literal["auto", "qemu", "unicorn"]
ARM_FLAGS = ("-std=c99", "-O3")
_QEMU = "qemu-system-arm"
_LONGEST = 900.0
"""Seconds after which an emulated run is given up."""


def emulators_present() -> list[Emulator]:
    """The emulators that are installed, the preferred one first."""
    found: list[Emulator] = ["qemu"] if shutil.which(_QEMU) else []
    return [*found, "unicorn"] if importlib.util.find_spec("unicorn") is not None else found


def find_emulator(prefer: Emulator = "auto") -> Emulator:
    """The emulator to use. Raises CompileError if it is not there."""
    wanted = os.environ.get("TINYC_EMULATOR", "auto") if prefer == "auto" else prefer
    present = emulators_present()
    for name in present:
        if wanted in ("auto", name):
            return name
    raise error("no emulator was found" if wanted == "auto" else f"the emulator {wanted} was not found",
                notes=(f"looked for {_QEMU} and PyPI's unicorn",),
                help="python -m pip install 'tinyc[emulate]' brings one; --target generic runs on this machine")


def run_on_target(program: Program, samples: Sequence[Sample], target: str, *, compiler: Compiler | None = None,
                  emulator: Emulator = "auto", flags: Sequence[str] = ARM_FLAGS, cache: Path | None = None) -> Run:
    """Build `program` for `target`, run it on `samples` on an emulated core, read outputs and measurements.

    Raises CompileError where a tool is missing, the C does not build, faults or returns an error.
    """
    core_named(target)
    chosen = find_emulator(emulator)
    compiler = compiler or arm_compiler(target)
    board = BOARDS[target]
    batch = _batch(program, len(samples), board.traffic_bytes)
    with tempfile.TemporaryDirectory(prefix="tinyc-") as name:
        folder = Path(name)
        runs = []
        for start in range(0, len(samples), batch):
            part = samples[start:start + batch]
            layout = plan_layout(program, board, len(part))
            files = {**program.files, "tinyc_startup.c": startup_source(board),
                     "tinyc_main.c": main_source(program, board, layout)}
            image = firmware(files, compiler, folder, script=linker_script(board), flags=flags, cache=cache)
            runs.append(_run_image(chosen, image, program, part, target, layout))
    outputs = [sample for run in runs for sample in run.outputs]
    stacks = max(run.stack_bytes or 0 for run in runs)
    return Run(outputs, (), runs[-1].instructions, stacks, f"{target} ({chosen}, {compiler})")


def _batch(program: Program, samples: int, room: int) -> int:
    """How many samples fit into the board's memory at a time; at least one."""
    each = sum(-(-p.size_bytes // 16) * 16 for p in (*program.inputs, *program.outputs))
    return max(1, min(samples, room // max(1, each)))


def _run_image(emulator: Emulator, image: Path, program: Program, samples: Sequence[Sample], target: str,
               layout: Layout) -> Run:
    if emulator == "qemu":
        return _run_in_qemu(image, program, samples, target, layout)
    from .emulator_unicorn import run_in_unicorn

    return run_in_unicorn(image, program, samples, target, layout)


def _input_block(program: Program, samples: Sequence[Sample], layout: Layout) -> bytes:
    """All inputs as they lie in memory."""
    start = BOARDS["cortex-m4"].large if not layout.inputs else min((*layout.inputs[0], layout.output_start))
    block = bytearray(layout.output_start - start)
    for sample, addresses in zip(samples, layout.inputs, strict=True):
        for data, address in zip(pack(program, sample), addresses, strict=True):
            block[address - start:address - start + len(data)] = data
    return bytes(block)


def _run_in_qemu(image: Path, program: Program, samples: Sequence[Sample], target: str, layout: Layout) -> Run:
    folder = image.parent
    block = _input_block(program, samples, layout)
    (folder / "inputs.bin").write_bytes(block)
    loader = f"loader,file=inputs.bin,addr={layout.output_start - len(block):#x},force-raw=on"
    words = [_QEMU, "-M", core_named(target).machine, "-display", "none", "-monitor", "none", "-serial", "none",
             "-semihosting-config", "enable=on,target=native", "-icount", "shift=0", "-kernel", image.name,
             *(("-device", loader) if block else ())]
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=_LONGEST)
    except subprocess.TimeoutExpired:
        raise failure(f"{program.name} did not come to an end on the emulated {target}") from None
    result = folder / RESULT_FILE
    if done.returncode != 0 or not result.exists():
        raise failure(f"the C of {program.name} failed on the emulated {target}", f"exit status {done.returncode}",
                      *(done.stdout + done.stderr).splitlines()[-5:])
    data = result.read_bytes()
    result.unlink()
    return _read_result(program, data, layout)


def _read_result(program: Program, data: bytes, layout: Layout) -> Run:
    count = len(layout.inputs)
    rows = list(struct.iter_unpack("<iII", data[:12 * count]))
    bad = [status for status, _, _ in rows if status != 0]
    if bad:
        raise failure(f"{program.name}_run returned {bad[0]}, not 0")
    step = (layout.end - layout.output_start) // count
    outputs = [unpack(program, data[12 * count + i * step:12 * count + (i + 1) * step], 16) for i in range(count)]
    return Run(outputs, (), rows[-1][1] * TICK, max(stack for _, _, stack in rows))
