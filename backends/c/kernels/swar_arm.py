"""The assembly of `swar_columns` for cores with Thumb and no more: eight registers for products, a channel at a time.

Columns of four pixels: the address in the column is the index of the weights, too, since both go on by eight bytes an
input, and no instruction counts. An input takes six instructions, the end of a segment fourteen. Columns of two pixels:
an input takes four and a half, the end of a segment ten.
Source: Arm, Armv6-M Architecture Reference Manual (MULS, LDM, ADD of high registers).
"""

from __future__ import annotations

__all__ = ["ARM", "ARM_SPOILED", "arm_text"]

ARM = "!defined(TINYC_NO_ASM) && defined(__thumb__) && defined(__ARM_ARCH)"
"""Where the C compiler takes these instructions."""
ARM_SPOILED = "r0 r1 r2 r3 r12 lr cc memory"

_FUNCTION = """
    .syntax unified
    push    {r4-r7, lr}
    mov     r4, r8
    mov     r5, r9
    mov     r6, r10
    mov     r7, r11
    push    {r4-r7}
    ldr     r4, [sp, #36]                       // channels
    ldr     r5, [sp, #40]                       // sums
    sub     sp, sp, #20
    str     r0, [sp]                            // [sp] column
    str     r2, [sp, #4]                        // [sp, 4] starts
    str     r5, [sp, #8]                        // [sp, 8] sums
    str     r4, [sp, #12]                       // [sp, 12] channels that are left
    movs    r5, r3                              // segments
    movs    r4, #128
    lsls    r4, r4, #8
    mov     lr, r4
{weights}
1:                                              // a channel
    ldr     r0, [sp]
    ldr     r2, [sp, #4]
    ldm     r2!, {r3, r4}
    str     r2, [sp, #4]
{begin}
    b       3f
2:                                              // two inputs
{step}
    cmp     r0, r12
    bne     2b
{segment}
3:  ldrb    r4, [r5]
    adds    r5, r5, #1
    lsls    r4, r4, #{shift}
    add     r4, r0
    mov     r12, r4                             // the end of the next segment
    bne     2b
{end}
    ldr     r2, [sp, #12]
    subs    r2, r2, #1
    str     r2, [sp, #12]
    bne     1b
    add     sp, sp, #20
    pop     {r4-r7}
    mov     r8, r4
    mov     r9, r5
    mov     r10, r6
    mov     r11, r7
    pop     {r4-r7, pc}
"""

_FOUR = {
    "weights": """
    subs    r1, r1, r0                          // weights, from the column on
    """,
    "begin": """
    mov     r8, r3                              // sums of words
    mov     r9, r3
    mov     r10, r4                             // upper sums
    mov     r11, r4
    mov     r6, lr
    mov     r7, lr
    """,
    "step": """
    ldrsb   r4, [r1, r0]
    ldm     r0!, {r2, r3}
    muls    r2, r4, r2
    muls    r3, r4, r3
    adds    r6, r6, r2
    adds    r7, r7, r3
    ldrsb   r4, [r1, r0]
    ldm     r0!, {r2, r3}
    muls    r2, r4, r2
    muls    r3, r4, r3
    adds    r6, r6, r2
    adds    r7, r7, r3
    """,
    "segment": """
    add     r8, r6                              // the end of a segment
    add     r9, r7
    asrs    r6, r6, #16
    asrs    r7, r7, #16
    add     r10, r6
    add     r11, r7
    mov     r6, lr
    mov     r7, lr
    """,
    "end": """
    mov     r2, r8
    mov     r3, r10
    lsls    r4, r3, #16
    subs    r2, r2, r4
    mov     r4, r9
    mov     r6, r11
    lsls    r7, r6, #16
    subs    r4, r4, r7
    ldr     r7, [sp, #8]
    stm     r7!, {r2, r3, r4, r6}
    str     r7, [sp, #8]
    adds    r1, r1, #1
    """,
    "shift": "4",
}
_TWO = {
    "weights": """
    str     r1, [sp, #16]                       // [sp, 16] weights
    movs    r7, #0
    """,
    "begin": """
    ldr     r1, [sp, #16]
    mov     r8, r3                              // sum of words
    mov     r10, r4                             // upper sum
    mov     r6, lr
    """,
    "step": """
    ldm     r0!, {r2, r3}
    ldrsb   r4, [r1, r7]
    adds    r1, r1, #8
    muls    r2, r4, r2
    adds    r6, r6, r2
    ldrsb   r4, [r1, r7]
    adds    r1, r1, #8
    muls    r3, r4, r3
    adds    r6, r6, r3
    """,
    "segment": """
    add     r8, r6                              // the end of a segment
    asrs    r6, r6, #16
    add     r10, r6
    mov     r6, lr
    """,
    "end": """
    mov     r2, r8
    mov     r3, r10
    lsls    r4, r3, #16
    subs    r2, r2, r4
    ldr     r6, [sp, #8]
    stm     r6!, {r2, r3}
    str     r6, [sp, #8]
    ldr     r1, [sp, #16]
    adds    r1, r1, #1
    str     r1, [sp, #16]
    """,
    "shift": "3",
}


def arm_text(pixels: int) -> str:
    """The instructions of tc_swar_sums_1_of<pixels>."""
    text = _FUNCTION
    for word, lines in (_FOUR if pixels == 4 else _TWO).items():
        text = text.replace(f"{{{word}}}", lines.strip("\n ") if word == "shift" else lines.strip("\n").rstrip())
    return text
