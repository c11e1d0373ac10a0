"""How much stack one inference takes: the C is built for the target and run once on its emulated core.

    measured = measure_stack(compiled, Emission("net"), StackSettings(), progress)
    measured.bytes                     312
    measured.where                     "cortex-m4 (qemu, arm-none-eabi-gcc -std=c99 -O2)"

The stack is painted before the run; what is overwritten afterwards counts, from the call of `NAME_run` down. It depends
on the compiler and its options, so both are said. Interrupts and what the application has below the call come on top.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tinyir.diag import error

from .bench import c_flags
from .cores import is_emulated
from .driver import Compiled, Emission
from .emulator import Emulator, find_emulator, run_on_target
from .samples import random_samples
from .toolchain import core_compiler

if TYPE_CHECKING:
    from .cli import Progress

__all__ = ["StackFigure", "StackSettings", "check_stack", "measure_stack"]


@dataclass(frozen=True)
class StackSettings:
    """How to build and run."""

    cc: str | None = None
    cflags: str = ""
    emulator: Emulator = "auto"

    @classmethod
    def of(cls, options: Namespace) -> StackSettings:
        """From the command line."""
        return cls(options.cc, options.cflags)


@dataclass(frozen=True)
class StackFigure:
    """Bytes of stack, and with what they were measured."""

    bytes: int
    where: str


def check_stack(target: str, settings: StackSettings) -> None:
    """Raises CompileError where the stack of `target` cannot be measured here, before much time goes by."""
    if not is_emulated(target):
        raise error(f"--stack runs the C on an emulated core, and {target} is none",
                    help="name the core that it is for, such as --target cortex-m4 (--list-targets shows all)")
    core_compiler(target, cc=settings.cc, cflags=settings.cflags)
    find_emulator(settings.emulator, target)


def measure_stack(compiled: Compiled, emission: Emission, settings: StackSettings, progress: Progress) -> StackFigure:
    """Build the C with the -O of the model's level, run it once on a random input, look how much was overwritten.

    Raises CompileError where a tool is missing, or the C does not build or fails.
    """
    target = compiled.job.target
    check_stack(target, settings)
    program = compiled.c_program(replace(emission, arena="static", single_file=False, sections={}))
    compiler = core_compiler(target, cc=settings.cc, cflags=settings.cflags)
    chosen, flags = find_emulator(settings.emulator, target), c_flags(compiled.job.level)
    with progress.stage(f"measuring the stack in {chosen}"):
        run = run_on_target(program, random_samples(program.inputs, 1).inputs, target, compiler=compiler,
                            emulator=chosen, flags=flags)
    if run.stack_bytes is None:
        raise error(f"{target}: the emulator measured nothing")
    words = " ".join((str(compiler), *flags, *compiler.user_flags))
    return StackFigure(run.stack_bytes, f"{target} ({chosen}, {words})")
