"""What a processor can do, as far as the compiler's choices depend on it.

    target_named("cortex-m4").fma          True: one instruction for a*b+c on f32
"""

from __future__ import annotations

from dataclasses import dataclass

from .board import Costs, Kind, Region
from .diag import did_you_mean, error

__all__ = ["TARGETS", "Target", "target_named"]

_M4 = Costs()
_M0PLUS = Costs(branch=1, load_next=2, store=2, address=0, fetch_wait=0)


@dataclass(frozen=True)
class Target:
    """A core, or a board around one. `tinyc --print-target NAME` writes it as a file that a user can change."""

    name: str
    summary: str
    float_registers: int = 0
    """Single-precision registers; 0 where floats are emulated."""
    float_lanes: int = 1
    """f32 elements of one vector register, 1 where there are no vectors."""
    fma: bool = False
    """One instruction for a*b+c with one rounding."""
    align: int = 16
    """Alignment of the arena and of every slot, bytes, where elements are no wider. Kernels read words of 32 bits at
    any address, but for scratch memory, which has elements of that width; 8 where the core loads 64 bits at a time."""
    dsp: bool = False
    """Arm's DSP extension: two 16-bit multiply-accumulates in one instruction (SMLAD), saturation, SXTB16, SMMLA."""
    mve: bool = False
    """Arm's vector extension (Helium) with f32 elements: 16 8-bit multiply-accumulates in one instruction."""
    word_channels: int = 0
    """Output channels that convolutions compute at a time where a 32-bit multiplication is two of 8 bits: two where the
    registers hold their sums, else one. 0 where the core has something better."""
    regions: tuple[Region, ...] = ()
    """The memories of a board; none where their sizes are not known, and nothing is checked."""
    costs: Costs | None = None
    """Cycles of its instructions, where there is a model of them."""
    extends: str = ""
    """The built-in target that a board's file extends."""

    @property
    def core(self) -> str:
        """The built-in target behind this one: how to build for it, and what emulates it."""
        return self.extends or self.name

    def region(self, kind: Kind) -> Region | None:
        """Where the arena goes (ram), or the weights (flash)."""
        return next((r for r in self.regions if r.kind == kind), None)


_ALL = (
    Target("generic", "portable C99, no assumption about the core", float_registers=16),
    Target("host", "this machine: vectors of 8 floats, best built with -O3 -march=native", 16, 8, True, 32),
    Target("cortex-m0plus", "Armv6-M, no FPU", costs=_M0PLUS, align=4, word_channels=1),
    Target("cortex-m4", "Armv7E-M with DSP and single-precision FPU", 32, 1, True, dsp=True, costs=_M4, align=4),
    Target("cortex-m7", "Armv7E-M with DSP and single-precision FPU, dual issue", 32, 1, True, dsp=True, align=8),
    Target("cortex-m33", "Armv8-M mainline with DSP and single-precision FPU", 32, 1, True, dsp=True, align=4),
    Target("cortex-m55", "Armv8.1-M with DSP, FPU and vectors (MVE)", 32, 1, True, dsp=True, mve=True, align=8),
    Target("rv32imc", "RISC-V, 32-bit integers, no FPU", align=4, word_channels=2),
)
TARGETS: dict[str, Target] = {t.name: t for t in _ALL}


def target_named(name: str) -> Target:
    """The target called `name`, or the one that the file `name` (*.toml) describes. Raises CompileError."""
    if name.endswith(".toml"):
        from .target_file import read_target

        return read_target(name)
    if name not in TARGETS:
        raise error(f"there is no target called {name!r}", help=did_you_mean(name, TARGETS))
    return TARGETS[name]
