"""Sums of stored 8-bit integers on Cortex-M with DSP: y = saturate((a * ma + b * mb + offset) >> shift).

    static const int32_t form[4] = {440825, 1114032, -63808778, 0};        ma, mb, offset in two words
    tc_add_narrow_i8_19(a, b, y, 8192, form);

Four elements a word, unpacked with their signs, two multiply-accumulates and a saturation each: seven instructions. For
forms that need 64 bits ("wide") sums are in two registers: eleven.
"""

from __future__ import annotations

from ..library import family
from ..text import fill
from .dsp_text import asm_function
from .qpairs import PairForm

__all__ = ["add_call", "add_text", "is_linear"]

_LANES = {
    "narrow": """
    mla     r6, r6, r8, r10
    mla     r6, r7, r9, r6
    {saturate} r6, #8, r6, asr #{shift}
    """,
    "wide": """
    mov     r12, r10
    mov     lr, r11
    smlal   r12, lr, r6, r8
    smlal   r12, lr, r7, r9
    lsl     lr, lr, #{rest}
    orr     r6, lr, r12, lsr #{shift}
    {saturate} r6, #8, r6
    """,
}
"""From elements in r6 and r7 to the result in r6."""

_ADD = """
    push    {r4-r11, lr}
    ldr     r4, [sp, #36]
    ldm.w   r4, {r8-r11}                        // multipliers, offset
    subs    r3, r3, #4
    blt     2f
1:  ldr     r4, [r0], #4
    ldr     r5, [r1], #4
{four}
    subs    r3, r3, #4
    bge     1b
2:  adds    r3, r3, #4
    beq     4f
3:  {load}  r6, [r0], #1
    {load}  r7, [r1], #1
{lane}
    strb    r6, [r2], #1
    subs    r3, r3, #1
    bne     3b
4:  pop     {r4-r11, pc}
"""

_ADD_TWIN = """
    const {kind} *as = a, *bs = b;
    {kind} *ys = y;
    const int64_t offset = {offset};
    for (int32_t i = 0; i < count; i++) {
        const int64_t t = as[i] * (int64_t)form[0] + (bs[i] * (int64_t)form[1] + offset);
        ys[i] = ({kind})tc_clamp_wide(t >> {shift}, {low}, {high});
    }
"""


def is_linear(form: PairForm) -> bool:
    """Whether the form of a sum is one of those that are computed here."""
    ma, mb, _, shift, to_even, _ = form
    return not to_even and max(abs(ma), abs(mb)) < 2**31 and 1 <= shift < 32


def add_call(form: PairForm, dtype: str, arguments: str) -> str:
    """The statements that add `arguments`: addresses of a, b and y, and the number of elements."""
    ma, mb, offset, shift, _, wide = form
    words = (ma, mb, *(_signed(offset >> 32 * i) for i in range(2)))
    return (f"static const int32_t form[4] = {{{', '.join(map(_literal, words))}}};\n"
            f"tc_add_{'wide' if wide else 'narrow'}_{dtype}_{shift}({arguments}, form);")


def _signed(word: int) -> int:
    return (word & 0xFFFFFFFF) - (2**32 if word & 2**31 else 0)


def _literal(value: int) -> str:
    return "-2147483647 - 1" if value == -2**31 else str(value)


@family(r"add_(narrow|wide)_(i8|u8)_(\d+)")
def add_text(name: str, width: str, dtype: str, shift: str) -> str:
    """The C of tc_add_<width>_<element type>_<shift>."""
    signed = dtype == "i8"
    lane = fill(_LANES[width], saturate="ssat   " if signed else "usat   ", shift=shift, rest=32 - int(shift)).rstrip()
    lane = "\n".join(f"    {line}" for line in lane.splitlines())
    extend = "sxtb   " if signed else "uxtb   "
    four = "\n".join(f"    {extend} r6, r4{turn}\n    {extend} r7, r5{turn}\n{lane}\n    strb    r6, [r2], #1"
                     for turn in ("", ", ror #8", ", ror #16", ", ror #24"))
    asm = _ADD.replace("{four}", four).replace("{lane}", lane).replace("{load}", "ldrsb " if signed else "ldrb  ")
    twin = fill(_ADD_TWIN, kind="int8_t" if signed else "uint8_t", low=-128 if signed else 0,
                high=127 if signed else 255, shift=shift,
                offset="form[3] * INT64_C(4294967296) + (uint32_t)form[2]" if width == "wide" else "form[2]")
    return asm_function("/* Sums of `count` elements; y may be a or b. */",
                        f"void tc_{name}(const void *a, const void *b, void *y,\n    int32_t count, "
                        "const int32_t *form)", asm, twin)
