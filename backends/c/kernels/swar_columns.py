"""The inner part of convolutions on cores that multiply 32-bit integers and no more: columns of four pixels.

    segments = tc_swar_sums_1(column, weights, starts, segments, channels, sums)

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

__all__ = ["spread_text", "sums_text", "window_text"]

_GUARD = "!defined(TINYC_NO_ASM) && defined(__thumb__) && defined(__ARM_ARCH)"
_SPOILED = "r0 r1 r2 r3 r12 lr cc memory"

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
    movs    r0, r5
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

_SUMS = """
    for (; channels > 0; channels -= {together}, weights += {together}, starts += 2 * {together}, sums += 4 * {together}) {
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
    }
    return segments;
"""


@family(r"swar_sums_([12])")
def sums_text(name: str, together: str) -> str:
    """The C of tc_swar_sums_<channels at a time>."""
    comment = "/* Sums of four pixels for some channels of a block; returns where the segments of the next ones are. */"
    head = (f"const uint8_t *tc_{name}(const uint32_t *column, const int8_t *weights,\n    const uint32_t *starts, "
            "const uint8_t *segments, int32_t channels, int32_t *sums)")
    twin = _twin(int(together))
    if together == "1":
        return asm_function(comment, head, _ONE.replace("{step}\n", _ONE_STEP.lstrip("\n")), twin, _GUARD, _SPOILED)
    return fill("{comment}\n__attribute__((noinline, unused)) static {head}\n{\n    {twin}\n}", comment=comment,
                head=head, twin=twin)


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


@family(r"swar_spread_(i8|u8)")
def spread_text(name: str, dtype: str) -> str:
    """The C of tc_swar_spread_<element type>."""
    value = "(int32_t)*from" if dtype == "i8" else "(int32_t)*from - 128"
    return fill("""
        /* `count` stored values of a pixel to its half of every other word: the first pixel of two writes the word. */
        static __attribute__((noinline, unused)) uint32_t *tc_{name}(const {kind} *from, int32_t count, uint32_t *to,
            int32_t second)
        {
            if (second) {
                for (const {kind} *end = from + count; from < end; from++, to += 2) {
                    *to += (uint32_t)({value}) << 16;
                }
            } else {
                for (const {kind} *end = from + count; from < end; from++, to += 2) {
                    *to = (uint32_t)({value});
                }
            }
            return to;
        }
    """, name=name, kind="int8_t" if dtype == "i8" else "uint8_t", value=value)


@family(r"swar_window_(i8|u8)")
def window_text(name: str, dtype: str) -> str:
    """The C of tc_swar_window_<element type>."""
    return fill("""
        /* tc_swar_spread for `length` values of a line of `limit` values from `first` on; what is outside of the line is
         * `zero`. All is outside where there is no line. */
        static __attribute__((noinline, unused)) uint32_t *tc_{name}(const {kind} *line, int32_t first, int32_t length,
            int32_t limit, uint32_t *to, int32_t second, int32_t zero)
        {
            const {kind} outside = ({kind})zero;
            if (line != NULL && first >= 0 && first + length <= limit) {
                return tc_swar_spread_{dtype}(line + first, length, to, second);
            }
            for (int32_t k = first; k < first + length; k++) {
                const int32_t inside = line != NULL && k >= 0 && k < limit;
                to = tc_swar_spread_{dtype}(inside ? line + k : &outside, 1, to, second);
            }
            return to;
        }
    """, name=name, kind="int8_t" if dtype == "i8" else "uint8_t", dtype=dtype)
