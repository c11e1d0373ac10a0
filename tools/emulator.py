"""Runs a compiled model on an emulated core and measures it: instructions and stack.

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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from tinyir.board import Costs
from tinyir.diag import error

from .cores import Core, core_named
from .firmware import RESULT_FILE, Layout, board_of, entry_of, harness_files, linker_script, plan_layout
from .harness import Run, batches, failure, pack, unpack
from .program import Program, Sample
from .toolchain import Compiler, core_compiler, firmware

__all__ = ["ARM_FLAGS", "Emulator", "build_image", "emulators_for", "emulators_present", "find_emulator", "room_for",
           "run_image", "run_on_target", "runs_on_target"]

Emulator = Literal["auto", "qemu", "unicorn"]
ARM_FLAGS = ("-std=c99", "-O3")
_QEMU = "qemu-system-arm"
_HELP = "python -m pip install 'tinyc[emulate]' brings unicorn; --target generic runs on this machine"
_LONGEST = 900.0
"""Seconds after which an emulated run is given up."""


def emulators_present() -> list[Emulator]:
    """The emulators that are installed, the preferred one first."""
    found: list[Emulator] = ["qemu"] if shutil.which(_QEMU) else []
    return [*found, "unicorn"] if importlib.util.find_spec("unicorn") is not None else found


def emulators_for(core: Core) -> list[Emulator]:
    """The installed emulators that have `core`, the preferred one first."""
    having: dict[Emulator, str | None] = {"qemu": core.machine, "unicorn": core.unicorn}
    return [name for name in emulators_present() if having[name] is not None]


def find_emulator(prefer: Emulator = "auto", target: str = "cortex-m4") -> Emulator:
    """The emulator to use for `target`. Raises CompileError if it is not there."""
    wanted = os.environ.get("TINYC_EMULATOR", "auto") if prefer == "auto" else prefer
    core = core_named(target)
    for name in emulators_for(core):
        if wanted in ("auto", name):
            return name
    needed = _QEMU if core.unicorn is None else "PyPI's unicorn" if core.machine is None else None
    if needed is not None and wanted in ("auto", "unicorn" if core.machine is None else "qemu"):
        raise error(f"{core.name} needs {needed}, which was not found", help=_HELP)
    if needed is not None:
        raise error(f"{wanted} has no {core.name}; {needed} has it", help=_HELP)
    raise error("no emulator was found" if wanted == "auto" else f"the emulator {wanted} was not found",
                notes=(f"looked for {_QEMU} and PyPI's unicorn",), help=_HELP)


def run_on_target(program: Program, samples: Sequence[Sample], target: str, *, compiler: Compiler | None = None,
                  emulator: Emulator = "auto", flags: Sequence[str] = ARM_FLAGS, cache: Path | None = None) -> Run:
    """Build `program` for `target`, run it on `samples` on an emulated core, read outputs and measurements.

    Raises CompileError where a tool is missing, the C does not build, faults or returns an error.
    """
    compiler = compiler or core_compiler(target)
    runs = list(runs_on_target(program, samples, target, compiler=compiler, emulator=emulator, flags=flags,
                               cache=cache))
    outputs = [sample for run in runs for sample in run.outputs]
    stacks = max(run.stack_bytes or 0 for run in runs)
    where = f"{target} ({find_emulator(emulator, target)}, {compiler})"
    return replace(runs[-1], outputs=outputs, stack_bytes=stacks, where=where)


def runs_on_target(program: Program, samples: Iterable[Sample], target: str, *, compiler: Compiler,
                   emulator: Emulator = "auto", flags: Sequence[str] = ARM_FLAGS, cache: Path | None = None) \
        -> Iterator[Run]:
    """The same, as many samples at a time as the board's memory holds; built once for each number of samples."""
    chosen = find_emulator(emulator, target)
    images: dict[int, Path] = {}
    with tempfile.TemporaryDirectory(prefix="tinyc-") as name:
        for part in batches(samples, _batch(program, target)):
            if len(part) not in images:
                folder = Path(name) / str(len(part))
                images[len(part)] = build_image(program, target, len(part), compiler, folder, flags=flags, cache=cache)
            yield run_image(chosen, images[len(part)], program, part, target)


def build_image(program: Program, target: str, samples: int, compiler: Compiler, folder: Path, *,
                flags: Sequence[str] = ARM_FLAGS, layers: int = 0, cache: Path | None = None) -> Path:
    """An image in `folder` that runs `program` on `samples` inputs at a time; with `layers`, its C calls tinyc_mark."""
    board = board_of(target)
    layout = plan_layout(program, board, samples)
    files = {**program.files, **harness_files(program, target, layout, layers=layers)}
    return firmware(files, compiler, folder, script=linker_script(board), flags=flags, cache=cache,
                    entry=entry_of(program, target))


def room_for(program: Program, target: str) -> int:
    """Bytes that the board's memory for inputs and outputs has left beside those of one run; at least one."""
    return max(1, board_of(target).traffic_bytes - _traffic(program))


def _batch(program: Program, target: str) -> int:
    """How many samples fit into the board's memory at a time; at least one."""
    return max(1, board_of(target).traffic_bytes // max(1, _traffic(program)))


def _traffic(program: Program) -> int:
    """Bytes that inputs and outputs of one run take."""
    return sum(-(-p.size_bytes // 16) * 16 for p in (*program.inputs, *program.outputs))


def run_image(emulator: Emulator, image: Path, program: Program, samples: Sequence[Sample], target: str, *,
              layers: int = 0, costs: Costs | None = None) -> Run:
    """Run an image made by `build_image` for as many samples; `costs` are for unicorn's model of the flash."""
    layout = plan_layout(program, board_of(target), len(samples))
    if emulator == "qemu":
        return _run_in_qemu(image, program, samples, target, layout, layers)
    from .emulator_unicorn import run_in_unicorn

    return run_in_unicorn(image, program, samples, target, layout, costs)


def _input_block(program: Program, samples: Sequence[Sample], layout: Layout) -> bytes:
    """All inputs as they lie in memory."""
    start = min((*(a for row in layout.inputs for a in row), layout.output_start))
    block = bytearray(layout.output_start - start)
    for sample, addresses in zip(samples, layout.inputs, strict=True):
        for data, address in zip(pack(program, sample), addresses, strict=True):
            block[address - start:address - start + len(data)] = data
    return bytes(block)


def _run_in_qemu(image: Path, program: Program, samples: Sequence[Sample], target: str, layout: Layout,
                 layers: int) -> Run:
    folder = image.parent
    block = _input_block(program, samples, layout)
    (folder / "inputs.bin").write_bytes(block)
    loader = f"loader,file=inputs.bin,addr={layout.output_start - len(block):#x},force-raw=on"
    words = [_QEMU, "-M", str(core_named(target).machine), "-display", "none", "-monitor", "none", "-serial", "none",
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
    return _read_result(program, data, layout, board_of(target).timer.instructions, layers)


def _read_result(program: Program, data: bytes, layout: Layout, tick: float, layers: int) -> Run:
    count = len(layout.inputs)
    rows = list(struct.iter_unpack("<iII", data[:12 * count]))
    bad = [status for status, _, _ in rows if status != 0]
    if bad:
        raise failure(f"{program.name}_run returned {bad[0]}, not 0")
    step = (layout.end - layout.output_start) // count
    outputs = [unpack(program, data[12 * count + i * step:12 * count + (i + 1) * step], 16) for i in range(count)]
    ticks = struct.unpack(f"<{layers}I", data[12 * count + step * count:]) if layers else ()
    return Run(outputs, (), round(rows[-1][1] * tick), max(stack for _, _, stack in rows),
               layer_instructions=tuple(round(n * tick) for n in ticks))
