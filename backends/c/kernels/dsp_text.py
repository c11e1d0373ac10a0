"""C functions that consist of one assembly statement, and the pieces that those of Cortex-M with DSP share.

Compilers spill in blocks that need all fourteen registers, so these functions are `naked`: they choose their registers
themselves and depend on no optimisation level. `used` and `noclone` keep compilers from changing how they are called,
and the list of what they overwrite from assuming that they do not (gcc looks: -fipa-ra). Each stands beside a C twin
that computes the same bytes in the same order; -DTINYC_NO_ASM, or a core without the instructions, takes the twin.
"""

from __future__ import annotations

from textwrap import dedent
from typing import Literal

from ..text import fill

__all__ = ["GUARD", "Coding", "asm_function", "float_requantisation", "high_requantisation"]

Coding = Literal["paired", "plain"]
GUARD = "!defined(TINYC_NO_ASM) && defined(__ARM_FEATURE_DSP) && defined(__thumb2__) && defined(__ARM_FP)"
SPOILED = "r0 r1 r2 r3 r12 lr s0 s2 s3 s4 s5 cc memory"
_FIRST_SINGLE = 2


def asm_function(comment: str, head: str, asm: str, twin: str, guard: str = GUARD, spoiled: str = SPOILED) -> str:
    """A function with the parameters `head`, as the instructions `asm` or as the C statements `twin`: the former where
    the preprocessor's condition `guard` holds, and with the words of `spoiled` as what they overwrite.

    In `asm` a line is an instruction, a label or a directive; what stands behind `//` becomes a C comment.
    """
    lines = [_quoted(line) for line in dedent(asm).strip("\n").splitlines()]
    return fill("""
        {comment}
        #if {guard}
        #pragma GCC diagnostic push
        #pragma GCC diagnostic ignored "-Wunused-parameter"
        #if !defined(__clang__)
        __attribute__((noclone))
        #endif
        __attribute__((naked, noinline, used)) static {head}
        {
            __asm__ volatile(
                {asm}
                : : : {spoiled});
        }
        #pragma GCC diagnostic pop
        #else
        __attribute__((noinline, unused)) static {head}
        {
            {twin}
        }
        #endif
    """, comment=comment, guard=guard, head=head, asm="\n".join(lines), twin=twin,
                spoiled=", ".join(f'"{name}"' for name in spoiled.split()))


def _quoted(line: str) -> str:
    code, _, remark = line.partition("//")
    code = code.rstrip()
    if not code:
        return f"/* {remark.strip()} */" if remark else ""
    quoted = f'"{code}\\n"'
    return f"{quoted:<52}/* {remark.strip()} */" if remark else quoted


def high_requantisation(sums: list[str], multiplier: str, rounding: str, dtype: str, shift: int) -> str:
    """Instructions that make stored values of the registers `sums`."""
    saturate = "ssat" if dtype == "i8" else "usat"
    lines = [f"smmla   {r}, {r}, {multiplier}, {rounding}" for r in sums]
    lines += [f"{saturate}    {r}, #8, {r}, asr #{shift}" for r in sums]
    return "\n".join(lines)


def float_requantisation(sums: list[str], scale: str, zero: str, dtype: str) -> str:
    """The same by a product in single precision; `scale` holds the encoding of minus the scale."""
    saturate = "ssat" if dtype == "i8" else "usat"
    singles = [f"s{_FIRST_SINGLE + i}" for i in range(len(sums))]
    lines = [f"vmov    s0, {scale}"]
    lines += _moves(singles, sums, to_core=False)
    lines += [f"vcvt.f32.s32 {s}, {s}" for s in singles]
    lines += [f"vmul.f32 {s}, {s}, s0" for s in singles]
    lines += [f"vcvtr.s32.f32 {s}, {s}" for s in singles]
    lines += _moves(singles, sums, to_core=True)
    lines += [f"subs    {r}, {zero}, {r}" if r < "r8" and len(r) == 2 else f"sub     {r}, {zero}, {r}" for r in sums]
    lines += [f"{saturate}    {r}, #8, {r}" for r in sums]
    return "\n".join(lines)


def _moves(singles: list[str], cores: list[str], *, to_core: bool) -> list[str]:
    """Registers from or to the FPU, two at a time."""
    pairs = [(", ".join(singles[i:i + 2]), ", ".join(cores[i:i + 2])) for i in range(0, len(cores), 2)]
    return [f"vmov    {c}, {s}" if to_core else f"vmov    {s}, {c}" for s, c in pairs]
