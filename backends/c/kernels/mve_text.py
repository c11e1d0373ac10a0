"""What the functions for Arm's vector extension (MVE, Helium) share: guard, registers, how sums become stored values.

Sums are 32-bit lanes. Two vectors of four, `q0` and `q1`, become eight stored values just as onnxruntime rounds, so
that nothing has to be proved:

    vcvt.f32.s32    the sum as a float, rounded to even
    vmul.f32        times the scale
    vcvtn.s32.f32   rounded to a whole number, ties to even
    vqmovnb, vqmovnt, vqadd, vqmovnb    saturated to 16 bits and interleaved, plus the zero point, saturated to 8

Source: Arm, Armv8-M Architecture Reference Manual (DDI 0553), chapters on MVE.
"""

from __future__ import annotations

from ..text import fill
from .dsp_text import asm_function

__all__ = ["ENTER", "FRAME", "LEAVE", "MVE", "mve_function", "mve_only", "narrowing"]

MVE = "!defined(TINYC_NO_ASM) && defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE == 3"
_SPOILED = " ".join(["r0 r1 r2 r3 r12 lr", *(f"s{i}" for i in range(16)), "cc memory"])
ENTER = """
    push    {r4-r11, lr}
    vpush   {d8-d15}
"""
LEAVE = """
    vpop    {d8-d15}
    pop     {r4-r11, pc}
"""
FRAME = 100
"""Bytes that `ENTER` puts on the stack."""


def mve_function(comment: str, head: str, asm: str, twin: str) -> str:
    """A function with the parameters `head`, as the instructions `asm` or as the C statements `twin`."""
    lines = [line for line in asm.splitlines() if line.strip()]
    return asm_function(comment, head, "\n".join(lines), twin, MVE, _SPOILED)


def mve_only(comment: str, head: str, asm: str) -> str:
    """A function that is there with the instructions only."""
    return fill("""
        #if {guard}
        {text}
        #endif
    """, guard=MVE, text=mve_function(comment, head, asm, ""))


def narrowing(zero: str) -> str:
    """Instructions that make stored values of floats of sums times scales in q0 and q1: one in each half of a word of
    q0, those of q0 first. `zero` is a register with the zero point, for each half or for all.
    """
    return f"""
    vcvtn.s32.f32 q0, q0
    vcvtn.s32.f32 q1, q1
    vqmovnb.s32 q0, q0
    vqmovnt.s32 q0, q1
    vqadd.s16 q0, q0, {zero}
    vqmovnb.s16 q0, q0
"""
