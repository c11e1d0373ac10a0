"""The processors that can be built for and emulated: how each tool calls them.

    core_named("cortex-m0plus").zig        ("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m0plus")
    core_named("rv32imc").machine          None: no board of qemu-system-arm has this core, unicorn runs it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tinyir.diag import did_you_mean, error
from tinyir.target import target_named

__all__ = ["Core", "Family", "core_named", "is_emulated"]

Family = Literal["arm", "riscv"]


@dataclass(frozen=True)
class Core:
    """A processor that can be built for and emulated: how each tool calls it."""

    name: str
    gcc: tuple[str, ...]
    zig: tuple[str, ...]
    triple: str
    """What a plain clang calls the target."""
    machine: str | None = None
    """QEMU's board with this core."""
    unicorn: str | None = None
    """The name of unicorn's constant."""
    family: Family = "arm"
    fpu: bool = True
    """Whether the startup code has to switch a floating-point unit on."""

    @property
    def compiler(self) -> str:
        """The command of the gcc that builds for it."""
        return "arm-none-eabi-gcc" if self.family == "arm" else "riscv64-unknown-elf-gcc"


_HARD = ("-mthumb", "-mfloat-abi=hard")
_EABI = ("-target", "thumb-freestanding-eabihf")
_SOFT = ("-target", "thumb-freestanding-eabi")
_CORES = {c.name: c for c in (
    Core("cortex-m0plus", ("-mcpu=cortex-m0plus", "-mthumb", "-mfloat-abi=soft"), (*_SOFT, "-mcpu=cortex_m0plus"),
         "thumbv6m-none-eabi", unicorn="UC_CPU_ARM_CORTEX_M0", fpu=False),
    Core("cortex-m4", ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", *_HARD), (*_EABI, "-mcpu=cortex_m4+vfp4d16sp"),
         "thumbv7em-none-eabihf", "mps2-an386", "UC_CPU_ARM_CORTEX_M4"),
    Core("cortex-m7", ("-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16", *_HARD), (*_EABI, "-mcpu=cortex_m7+fp_armv8d16sp"),
         "thumbv7em-none-eabihf", "mps2-an500", "UC_CPU_ARM_CORTEX_M7"),
    Core("cortex-m33", ("-mcpu=cortex-m33", "-mfpu=fpv5-sp-d16", *_HARD),
         (*_EABI, "-mcpu=cortex_m33+dsp+fp_armv8d16sp"), "thumbv8m.main-none-eabihf", unicorn="UC_CPU_ARM_CORTEX_M33"),
    Core("cortex-m55", ("-mcpu=cortex-m55", *_HARD),
         (*_EABI, "-mcpu=cortex_m55+fp_armv8d16+fp64+mve_fp"), "thumbv8.1m.main-none-eabihf",
         "mps3-an547"),
    Core("rv32imc", ("-march=rv32imc", "-mabi=ilp32"),
         ("-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+m+c"), "riscv32-none-elf",
         unicorn="UC_CPU_RISCV32_ANY", family="riscv", fpu=False),
)}


def is_emulated(target: str) -> bool:
    """Whether programs for `target`, a name or a board's file, can be run here in an emulator (if one is installed)."""
    return target_named(target).core in _CORES


def core_named(target: str) -> Core:
    """The core of `target`. Raises CompileError for one that cannot be emulated."""
    core = target_named(target).core
    if core not in _CORES:
        raise error(f"target {target} cannot be emulated", help=did_you_mean(target, _CORES))
    return _CORES[core]
