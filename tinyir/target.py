"""What a processor can do, as far as the compiler's choices depend on it.

    target_named("cortex-m4").fma          True: one instruction for a*b+c on f32
"""

from __future__ import annotations

from dataclasses import dataclass

from .diag import did_you_mean, error

__all__ = ["TARGETS", "Target", "target_named"]


@dataclass(frozen=True)
class Target:
    """A core. Costs and memory regions come with the kernels that need them."""

    name: str
    summary: str
    float_registers: int = 0
    """Single-precision registers; 0 where floats are emulated."""
    float_lanes: int = 1
    """f32 elements of one vector register, 1 where there are no vectors."""
    fma: bool = False
    """One instruction for a*b+c with one rounding."""
    align: int = 16
    """Alignment of the arena and of every slot, bytes."""


_ALL = (
    Target("generic", "portable C99, no assumption about the core", float_registers=16),
    Target("host", "this machine: vectors of 8 floats, best built with -O3 -march=native", 16, 8, True, 32),
    Target("cortex-m0plus", "Armv6-M, no FPU"),
    Target("cortex-m4", "Armv7E-M with DSP and single-precision FPU", 32, 1, True),
    Target("cortex-m7", "Armv7E-M with DSP and single-precision FPU, dual issue", 32, 1, True),
    Target("cortex-m33", "Armv8-M mainline with DSP and single-precision FPU", 32, 1, True),
    Target("rv32imc", "RISC-V, 32-bit integers, no FPU"),
)
TARGETS: dict[str, Target] = {t.name: t for t in _ALL}


def target_named(name: str) -> Target:
    """The target called `name`. Raises CompileError with a suggestion."""
    if name not in TARGETS:
        raise error(f"there is no target called {name!r}", help=did_you_mean(name, TARGETS))
    return TARGETS[name]
