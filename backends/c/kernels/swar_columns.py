"""The inner part of convolutions on cores that multiply 32-bit integers and no more: columns of four pixels.

    tc_swar_sums_1(column, weights, starts, segments, channels, sums)

A *column* holds the inputs of four output pixels: for each input two words, pixels 0 and 1 in the halves of the first,
pixels 2 and 3 in those of the second, so that a multiplication by a weight is two (`swar_pack` says when that is
exact). The function computes the sums of up to eight channels, whose weights lie beside each other:

    tc_swar_sums_1      a channel at a time, with segments of its own: eight registers for products (Armv6-M)
    tc_swar_sums_2      two channels at a time, which share segments and the words of the column: 32 registers

On Armv6-M the address in the column is the index of the weights, too: both go on by eight bytes an input, and no
instruction counts. An input of four pixels takes six instructions, the end of a segment fourteen.
"""

from __future__ import annotations

from ..library import family
from ..text import fill
from .dsp_text import asm_function

__all__ = ["sums_text"]

_GUARD = "!defined(TINYC_NO_ASM) && defined(__thumb__) && defined(__ARM_ARCH)"
_SPOILED = "r0 r1 r2 r3 r12 lr cc memory"
_RISCV = "!defined(TINYC_NO_ASM) && defined(__riscv_mul) && __riscv_xlen == 32 && !defined(__riscv_abi_rve)"
_RISCV_SPOILED = "a0 a1 a2 a3 a4 a5 a6 a7 t0 t1 t2 t3 t4 t5 t6 memory"

_ONE = """
    .syntax unified
    push    {r4-r7, lr}
    mov     r4, r8
    mov     r5, r9
    mov     r6, r10
    mov     r7, r11
    push    {r4-r7}
    ldr     r4, [sp, #36]                       // channels
    ldr     r5, [sp, #40]                       // sums
    sub     sp, sp, #16
    str     r0, [sp]                            // [sp] column
    str     r2, [sp, #4]                        // [sp, 4] starts
    str     r5, [sp, #8]                        // [sp, 8] sums
    str     r4, [sp, #12]                       // [sp, 12] channels that are left
    movs    r5, r3                              // segments
    movs    r4, #128
    lsls    r4, r4, #8
    mov     lr, r4
    subs    r1, r1, r0                          // weights, from the column on
1:                                              // a channel
    ldr     r0, [sp]
    ldr     r2, [sp, #4]
    ldm     r2!, {r3, r4}
    str     r2, [sp, #4]
    mov     r8, r3                              // sums of words
    mov     r9, r3
    mov     r10, r4                             // upper sums
    mov     r11, r4
    mov     r6, lr
    mov     r7, lr
    b       3f
2:                                              // two inputs
{step}
{step}
    cmp     r0, r12
    bne     2b
    add     r8, r6                              // the end of a segment
    add     r9, r7
    asrs    r6, r6, #16
    asrs    r7, r7, #16
    add     r10, r6
    add     r11, r7
    mov     r6, lr
    mov     r7, lr
3:  ldrb    r4, [r5]
    adds    r5, r5, #1
    lsls    r4, r4, #4
    add     r4, r0
    mov     r12, r4                             // the end of the next one
    bne     2b
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
    ldr     r2, [sp, #12]
    subs    r2, r2, #1
    str     r2, [sp, #12]
    bne     1b
    add     sp, sp, #16
    pop     {r4-r7}
    mov     r8, r4
    mov     r9, r5
    mov     r10, r6
    mov     r11, r7
    pop     {r4-r7, pc}
"""

_ONE_STEP = """
    ldrsb   r4, [r1, r0]
    ldm     r0!, {r2, r3}
    muls    r2, r4, r2
    muls    r3, r4, r3
    adds    r6, r6, r2
    adds    r7, r7, r3
"""

_TWO = """
    addi    sp, sp, -48
    sw      s0, 0(sp)
    sw      s1, 4(sp)
    sw      s2, 8(sp)
    sw      s3, 12(sp)
    sw      s4, 16(sp)
    sw      s5, 20(sp)
    sw      s6, 24(sp)
    sw      s7, 28(sp)
    sw      s8, 32(sp)
    sw      s9, 36(sp)
    sw      s10, 40(sp)
    sw      s11, 44(sp)
    lui     s10, 8
1:                                              // two channels
    mv      a6, a0
    mv      a7, a1
    lw      s0, 0(a2)                           // sums of words
    lw      s1, 4(a2)                           // upper sums
    lw      s2, 8(a2)
    lw      s3, 12(a2)
    mv      s4, s0
    mv      s5, s1
    mv      s6, s2
    mv      s7, s3
    j       4f
2:                                              // the first two inputs of a segment
{first}
{next}
    beq     a6, s8, 3f
20:                                             // two inputs
{step}
{next}
    bne     a6, s8, 20b
3:                                              // the end of a segment
    add     s0, s0, t0
    add     s4, s4, t1
    add     s2, s2, t2
    add     s6, s6, t3
    srai    t0, t0, 16
    srai    t1, t1, 16
    srai    t2, t2, 16
    srai    t3, t3, 16
    add     s1, s1, t0
    add     s5, s5, t1
    add     s3, s3, t2
    add     s7, s7, t3
4:  lbu     s8, 0(a3)
    addi    a3, a3, 1
    slli    s8, s8, 4
    add     s8, s8, a6                          // the end of the next one
    bne     s8, a6, 2b
    slli    t0, s1, 16
    slli    t1, s5, 16
    slli    t2, s3, 16
    slli    t3, s7, 16
    sub     s0, s0, t0
    sub     s4, s4, t1
    sub     s2, s2, t2
    sub     s6, s6, t3
    sw      s0, 0(a5)
    sw      s1, 4(a5)
    sw      s4, 8(a5)
    sw      s5, 12(a5)
    sw      s2, 16(a5)
    sw      s3, 20(a5)
    sw      s6, 24(a5)
    sw      s7, 28(a5)
    addi    a1, a1, 2
    addi    a2, a2, 16
    addi    a5, a5, 32
    addi    a4, a4, -2
    bgtz    a4, 1b
    lw      s0, 0(sp)
    lw      s1, 4(sp)
    lw      s2, 8(sp)
    lw      s3, 12(sp)
    lw      s4, 16(sp)
    lw      s5, 20(sp)
    lw      s6, 24(sp)
    lw      s7, 28(sp)
    lw      s8, 32(sp)
    lw      s9, 36(sp)
    lw      s10, 40(sp)
    lw      s11, 44(sp)
    addi    sp, sp, 48
    ret
"""

_SUMS = """
    for (; channels > 0; channels -= {together}) {
        const uint32_t *x = column;
        const int8_t *w = weights;
        {begin}
        for (int32_t steps = *segments++; steps > 0; steps = *segments++) {
            {open}
            do {
                {products}
                x += 4;
                w += 16;
            } while (--steps > 0);
            {close}
        }
        {stores}
        weights += {together};
        starts += 2 * {together};
        sums += 4 * {together};
    }
"""


@family(r"swar_sums_([12])")
def sums_text(name: str, together: str) -> str:
    """The C of tc_swar_sums_<channels at a time>."""
    comment = "/* Sums of four pixels, one after the other, for some channels of a block. */"
    head = (f"void tc_{name}(const uint32_t *column, const int8_t *weights,\n    const uint32_t *starts, "
            "const uint8_t *segments, int32_t channels, int32_t *sums)")
    twin = _twin(int(together))
    if together == "1":
        return asm_function(comment, head, _ONE.replace("{step}\n", _ONE_STEP.lstrip("\n")), twin, _GUARD, _SPOILED)
    first, second = _two_inputs(0, "s10"), _two_inputs(1, "")
    asm = _TWO.replace("{first}\n", first + second).replace("{step}\n", _two_inputs(0, "") + second)
    asm = asm.replace("{next}\n", "    addi    a6, a6, 16\n    addi    a7, a7, 16\n")
    return asm_function(comment, head, asm, twin, _RISCV, _RISCV_SPOILED)


def _two_inputs(k: int, begin: str) -> str:
    """Instructions for input `k` of a step: two channels times two words, added to the register `begin`, or to sums."""
    lines = [f"lb      t4, {8 * k}(a7)", f"lb      t5, {8 * k + 1}(a7)", f"lw      t6, {8 * k}(a6)",
             f"lw      s9, {8 * k + 4}(a6)"]
    for total, weight, word, product in (("t0", "t4", "t6", "s11"), ("t2", "t5", "t6", "t6"), ("t1", "t4", "s9", "t4"),
                                         ("t3", "t5", "s9", "t5")):
        lines += [f"mul     {product}, {weight}, {word}", f"add     {total}, {begin or total}, {product}"]
    return "".join(f"    {line}\n" for line in lines)


def _twin(together: int) -> str:
    names = [f"{channel}{word}" for channel in range(together) for word in range(2)]
    products = []
    for k in range(2):
        products += [f"const uint32_t w{k}{c} = (uint32_t)(int32_t)w[{8 * k + c}];" for c in range(together)]
        products += [f"const uint32_t x{k}{p} = x[{2 * k + p}];" for p in range(2)]
        products += [f"a{c}{p} += w{k}{c} * x{k}{p};" for c in range(together) for p in range(2)]
    return fill(_SUMS, together=together, products="\n".join(products),
                begin="\n".join(f"uint32_t words{n} = starts[{2 * int(n[0])}], upper{n} = starts[{2 * int(n[0]) + 1}];"
                                for n in names),
                open=f"uint32_t {', '.join(f'a{n} = 0x8000u' for n in names)};",
                close="\n".join(f"words{n} += a{n};\nupper{n} += (uint32_t)((int32_t)a{n} >> 16);" for n in names),
                stores="\n".join(f"sums[{4 * int(n[0]) + 2 * int(n[1])}] = (int32_t)(words{n} - (upper{n} << 16));\n"
                                 f"sums[{4 * int(n[0]) + 2 * int(n[1]) + 1}] = (int32_t)upper{n};" for n in names))
