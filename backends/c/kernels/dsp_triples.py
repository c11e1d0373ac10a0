"""Depthwise 3x3 windows on Cortex-M with DSP, one row of results at a time: channels of three rows as words of halves.

    tc_triple_row_1_i8_16(groups, stream, out, channels, width, apart, count)

Three rows a, b, c of a channel become *groups* of three words for each two columns, padding included:

    columns   a0 a1 | a2 a3 | a4 a5
              b0 b1 | b2 b3 | b4 b5     groups (b0 a0) (b1 a1) (c1 c0) | (b2 a2) (b3 a3) (c3 c2) | ...
              c0 c1 | c2 c3 | c4 c5

The rows a and b are multiplied as pairs one above the other, row c as neighbours: five SMLAD for the nine products of a
result, where planes (`dsp_planes`) take six; but a row of the image is unpacked again for each of the three rows of
results that it is for, instead of once for many of them. Row c has weights for even and for odd columns, as in planes.
The stream of a channel is the words for pairs, those for neighbours, bias, multiplier and rounding constant.
"""

from __future__ import annotations

import numpy as np

from tinyir.ir import Array

from ..library import family
from ..text import fill
from .dsp_planes import weight_words
from .dsp_text import asm_function, float_requantisation, high_requantisation

__all__ = ["groups_of", "split_triples", "triple_row_text", "triple_words", "triples_text"]

_SUMS = ("r8", "r9", "r10", "r11")
_NEIGHBOURS = {1: 4, 2: 2}
"""Words of weights for row c, by stride."""


def groups_of(width: int, stride: int) -> int:
    """Groups that are read for `width` results: steps of four, and one of two where one or two are left."""
    steps, half = width // 4 + (width % 4 == 3), width % 4 in (1, 2)
    return steps * 2 * stride + (1 if not half else 2 if stride == 1 else 3)


def triple_words(weight: Array, stride: int) -> Array:
    """[C, words] u32 from 16-bit weights [C, 3, 3]."""
    pairs = np.ascontiguousarray(weight[:, :2].transpose(0, 2, 1)).view(np.uint32).reshape(len(weight), 3)
    return np.concatenate([pairs, weight_words(np.ascontiguousarray(weight[:, 2]), stride)], axis=1)


def split_triples(words: Array) -> Array:
    """The inverse of `triple_words`: weights [C, 3, 3]."""
    pairs = np.ascontiguousarray(words[:, :3]).view(np.int16).reshape(len(words), 3, 2).transpose(0, 2, 1)
    below = np.ascontiguousarray(words[:, 3:5]).view(np.int16)[:, :3]
    return np.concatenate([pairs, below[:, None]], axis=1)


# In the blocks below r2, r3, r4 are the weights of pairs, then r2, r3 and r4, r6 those of neighbours.
_FOUR = {
    1: """
    ldm.w   r1, {r2-r4}
    ldm.w   r0!, {r5, r6, r7, r12, lr}          // columns 0, 1, neighbours, columns 2, 3
    smlad   r8, r2, r5, r8
    smlad   r8, r3, r6, r8
    smlad   r8, r4, r12, r8
    smlad   r9, r2, r6, r9
    smlad   r9, r3, r12, r9
    smlad   r9, r4, lr, r9
    smlad   r10, r2, r12, r10
    smlad   r10, r3, lr, r10
    smlad   r11, r2, lr, r11
    ldm.w   r0, {r5, r6, r12, lr}               // neighbours, columns 4, 5, neighbours
    add     r0, r0, #4
    smlad   r10, r4, r6, r10
    smlad   r11, r3, r6, r11
    smlad   r11, r4, r12, r11
    ldrd    r2, r3, [r1, #12]
    ldrd    r4, r6, [r1, #20]
    smlad   r8, r2, r7, r8
    smlad   r8, r3, r5, r8
    smlad   r9, r4, r7, r9
    smlad   r9, r6, r5, r9
    smlad   r10, r2, r5, r10
    smlad   r10, r3, lr, r10
    smlad   r11, r4, r5, r11
    smlad   r11, r6, lr, r11
    """,
    2: """
    ldm.w   r1, {r2-r4}
    ldm.w   r0!, {r5, r6, r7, r12, lr}          // columns 0, 1, neighbours, columns 2, 3
    smlad   r8, r2, r5, r8
    smlad   r8, r3, r6, r8
    smlad   r8, r4, r12, r8
    smlad   r9, r2, r12, r9
    smlad   r9, r3, lr, r9
    ldm.w   r0!, {r5, r6, r12, lr}              // neighbours, columns 4, 5, neighbours
    smlad   r9, r4, r6, r9
    smlad   r10, r2, r6, r10
    smlad   r10, r3, r12, r10
    ldrd    r6, r12, [r0]                       // columns 6, 7
    smlad   r10, r4, r6, r10
    smlad   r11, r2, r6, r11
    smlad   r11, r3, r12, r11
    ldrd    r6, r12, [r0, #8]                   // neighbours, column 8
    smlad   r11, r4, r12, r11
    ldrd    r2, r3, [r1, #12]
    ldr     r4, [r0, #20]                       // neighbours
    add     r0, r0, #12
    smlad   r8, r2, r7, r8
    smlad   r8, r3, r5, r8
    smlad   r9, r2, r5, r9
    smlad   r9, r3, lr, r9
    smlad   r10, r2, lr, r10
    smlad   r10, r3, r6, r10
    smlad   r11, r2, r6, r11
    smlad   r11, r3, r4, r11
    """,
}
"""Four sums, by stride."""

_TWO = {
    1: """
    ldm.w   r1, {r2-r4}
    ldm.w   r0, {r5, r6, r7, r10, r12, lr}      // columns 0, 1, neighbours, columns 2, 3, neighbours
    smlad   r8, r2, r5, r8
    smlad   r8, r3, r6, r8
    smlad   r8, r4, r10, r8
    smlad   r9, r2, r6, r9
    smlad   r9, r3, r10, r9
    smlad   r9, r4, r12, r9
    ldrd    r2, r3, [r1, #12]
    ldrd    r4, r6, [r1, #20]
    smlad   r8, r2, r7, r8
    smlad   r8, r3, lr, r8
    smlad   r9, r4, r7, r9
    smlad   r9, r6, lr, r9
    """,
    2: """
    ldm.w   r1, {r2-r4}
    ldm.w   r0!, {r5, r6, r7, r10, r12, lr}     // columns 0, 1, neighbours, columns 2, 3, neighbours
    smlad   r8, r2, r5, r8
    smlad   r8, r3, r6, r8
    smlad   r8, r4, r10, r8
    smlad   r9, r2, r10, r9
    ldr     r5, [r0]                            // column 4
    ldr     r6, [r0, #8]                        // neighbours
    smlad   r9, r3, r12, r9
    smlad   r9, r4, r5, r9
    ldrd    r2, r3, [r1, #12]
    smlad   r8, r2, r7, r8
    smlad   r8, r3, lr, r8
    smlad   r9, r2, lr, r9
    smlad   r9, r3, r6, r9
    """,
}
"""Two sums, by stride."""

_ROW = """
    push    {r4-r11, lr}
    ldrd    r4, r5, [sp, #36]                   // width, apart
    ldr     r6, [sp, #44]                       // count
    sub     sp, sp, #36
    lsl     r5, r5, #2
    strd    r2, r4, [sp]                        // [sp, 0] out, [sp, 4] results left in the row
    strd    r3, r4, [sp, #8]                    // [sp, 8] channels, [sp, 12] width
    strd    r2, r6, [sp, #16]                   // [sp, 16] first result of the channel, [sp, 20] channels left
    strd    r0, r5, [sp, #24]                   // [sp, 24] first group of the channel, [sp, 28] to the next
    cmp     r4, #2
    ble     3f
1:  ldr     r8, [r1, #{bias}]
    mov     r9, r8
    mov     r10, r8
    mov     r11, r8
    {four}
    ldrd    r2, r3, [r1, #{scaling}]            // multiplier and rounding
    cmp     r2, #0
    blt     6f
    {high_four}
2:  ldrd    r5, r3, [sp]
    ldr     r6, [sp, #8]
    subs    r3, r3, #4
    strb    r8, [r5]
    strb    r9, [r5, r6]
    add     r5, r5, r6, lsl #1
    strb    r10, [r5]
    blt     5f
    strb    r11, [r5, r6]
    beq     5f
    add     r5, r5, r6, lsl #1
    strd    r5, r3, [sp]
    cmp     r3, #2
    bgt     1b
3:  ldr     r8, [r1, #{bias}]                   // one or two are left
    mov     r9, r8
    {two}
    ldrd    r2, r3, [r1, #{scaling}]
    cmp     r2, #0
    blt     7f
    {high_two}
4:  ldrd    r5, r3, [sp]
    ldr     r6, [sp, #8]
    strb    r8, [r5]
    cmp     r3, #1
    beq     5f
    strb    r9, [r5, r6]
5:  ldrd    r4, r5, [sp, #16]                   // the next channel
    ldrd    r0, r7, [sp, #24]
    ldr     r3, [sp, #12]
    add     r4, r4, #1
    add     r0, r0, r7
    subs    r5, r5, #1
    strd    r4, r3, [sp]
    strd    r4, r5, [sp, #16]
    str     r0, [sp, #24]
    add     r1, r1, #{stream_bytes}
    beq     8f
    cmp     r3, #2
    bgt     1b
    b       3b
8:  add     sp, sp, #36
    pop     {r4-r11, pc}
6:                                              // in single precision
    {float_four}
    b       2b
7:
    {float_two}
    b       4b
"""

_ROW_TWIN = """
    for (int32_t c = 0; c < count; c++, groups += apart, stream += {words}) {
        const uint32_t *const scaling = stream + {scaling};
        for (int32_t column = 0; column < width; column++) {
            const int32_t first = {stride} * column;
            const uint32_t *x = groups + first / 2 * 3;
            const uint32_t *w = stream + 3 + first % 2 * 2;
            uint32_t sum = tc_smlad(w[0], x[2], stream[{bias}]);
            sum = tc_smlad(w[1], x[5], sum);
            for (int32_t k = 0; k < 3; k++) {
                sum = tc_smlad(stream[k], groups[(first + k) / 2 * 3 + (first + k) % 2], sum);
            }
            out[c + column * channels] = ({kind})tc_requantize_high(sum, scaling[0], scaling[1], {shift}, {low},
                {high});
        }
    }
"""


@family(r"triple_row_([12])_(i8|u8)_(\d+)")
def triple_row_text(name: str, stride: str, dtype: str, shift: str) -> str:
    """The C of tc_triple_row_<stride>_<element type of the results>_<shift>."""
    kind, low, high = ("int8_t", -128, 127) if dtype == "i8" else ("uint8_t", 0, 255)
    step, four, two = int(stride), list(_SUMS), list(_SUMS[:2])
    bias = 3 + _NEIGHBOURS[step]
    scaling = "r2", "r3", dtype
    asm = fill(_ROW, four=_FOUR[step].strip("\n"), two=_TWO[step].strip("\n"), bias=4 * bias, scaling=4 * bias + 4,
               stream_bytes=4 * bias + 12, high_four=high_requantisation(four, *scaling, int(shift)),
               high_two=high_requantisation(two, *scaling, int(shift)), float_four=float_requantisation(four, *scaling),
               float_two=float_requantisation(two, *scaling))
    twin = fill(_ROW_TWIN, words=bias + 3, bias=bias, scaling=bias + 1, stride=stride, kind=kind, shift=shift, low=low,
                high=high)
    head = (f"void tc_{name}(const uint32_t *groups, const uint32_t *stream,\n    {kind} *out, int32_t channels, "
            "int32_t width, int32_t apart, int32_t count)")
    comment = ("/* A row of `width` results of each of `count` channels, whose groups are `apart` words from each\n"
               " * other; results are `channels` apart. */")
    return asm_function(comment, head, asm, twin)


_GROUPS = """
    push    {r4-r11, lr}
    sub     sp, sp, #32
    ldm.w   r0, {r4, r5, r6}
    mov     r7, r2
    mov     r8, #0
    cmp     r4, #0
    itt     eq
    moveq   r4, r5
    orreq   r8, r8, #1
    cmp     r6, #0
    itt     eq
    moveq   r6, r5
    orreq   r8, r8, #2
    ldr     r9, [sp, #84]
    stm.w   sp, {r4-r7}                         // [sp] the three lines, channels
    strd    r8, r9, [sp, #16]                   // [sp, 16] lines that are not there, [sp, 20] zero
    ldrd    r4, r5, [sp, #68]                   // before, count
    ldrd    r2, r6, [sp, #76]                   // to, apart
    sub     r8, r3, r4
    and     r9, r8, #1
    add     r5, r5, r5, lsl #1
    add     r5, r2, r5, lsl #2
    strd    r9, r5, [sp, #24]                   // [sp, 24] whether a column is left, [sp, 28] end of the groups
    lsl     r3, r6, #2
    add     r12, r3, r3, lsl #1
    sub     r12, r12, #12
    mov     r0, r1
    bic     r8, r8, #1
    add     r8, r8, r4
    mla     r1, r8, r7, r1
    ldr     r8, [sp, #16]
    cmp     r8, #1                              // carry: lines are not there
    cbz     r4, 0f
    ldm.w   sp, {r4-r7}                         // padding, and the first column
    ldr     r8, [sp, #20]
    mov     r9, r8
    mov     r10, r8
    b       2f
0:  teq     r0, r1
    beq     4f
1:  ldm.w   sp, {r4-r7}                         // two columns
    ldr     r8, [r4, r0]
    ldr     r9, [r5, r0]
    ldr     r10, [r6, r0]
    add     r0, r0, r7
2:  ldr     r4, [r4, r0]
    ldr     r5, [r5, r0]
    ldr     r6, [r6, r0]
    add     r0, r0, r7
    bcs     6f
3:  pkhbt   r7, r8, r9, lsl #16                 // channels 0 and 1 of the column on the left
    pkhtb   r9, r9, r8, asr #16                 // channels 2 and 3
    pkhbt   r8, r4, r5, lsl #16                 // of that on the right
    pkhtb   r5, r5, r4, asr #16
    pkhbt   r4, r10, r6, lsl #16                // of the line below, both columns
    pkhtb   r6, r6, r10, asr #16
    {extend} r10, r7
    {extend} r11, r8
    {extend} lr, r4
    stm.w   r2, {r10, r11, lr}
    add     r2, r2, r3
    {extend} r10, r7, ror #8
    {extend} r11, r8, ror #8
    {extend} lr, r4, ror #8
    stm.w   r2, {r10, r11, lr}
    add     r2, r2, r3
    {extend} r10, r9
    {extend} r11, r5
    {extend} lr, r6
    stm.w   r2, {r10, r11, lr}
    add     r2, r2, r3
    {extend} r10, r9, ror #8
    {extend} r11, r5, ror #8
    {extend} lr, r6, ror #8
    stm.w   r2, {r10, r11, lr}
    sub     r2, r2, r12
    teq     r0, r1                              // keeps carry
    bne     1b
4:  ldr     r4, [sp, #24]
    cbz     r4, 5f
    mov     r4, #0                              // the last column, and padding
    str     r4, [sp, #24]
    ldm.w   sp, {r4-r7}
    ldr     r8, [r4, r0]
    ldr     r9, [r5, r0]
    ldr     r10, [r6, r0]
    ldr     r4, [sp, #20]
    mov     r5, r4
    mov     r6, r4
    bcs     6f
    b       3b
5:  ldrd    r4, r7, [sp, #20]                   // padding only
    ldr     r7, [sp, #28]
    mov     r5, r4
    mov     r6, r4
    mov     r8, r4
    mov     r9, r4
    mov     r10, r4
    cmp     r2, r7
    blo     3b
    add     sp, sp, #32
    pop     {r4-r11, pc}
6:  ldrd    r7, r11, [sp, #16]                  // padding instead of lines
    lsls    r7, r7, #31
    itt     mi
    movmi   r8, r11
    movmi   r4, r11
    itt     cs
    movcs   r10, r11
    movcs   r6, r11
    cmp     r7, r7
    b       3b
"""

_GROUPS_TWIN = """
    for (int32_t column = -before; column < 2 * count - before; column += 2, to += 3) {
        for (int32_t c = 0; c < 4; c++) {
            uint32_t halves[6];
            for (int32_t k = 0; k < 6; k++) {
                const int32_t here = column + k % 2;
                const uint8_t *line = here >= 0 && here < width ? lines[k / 2] : NULL;
                halves[k] = (uint32_t)({byte})(line == NULL ? zero & 0xFFu : line[at + here * channels + c]) & 0xFFFFu;
            }
            to[c * apart] = halves[0] | halves[2] << 16;
            to[c * apart + 1] = halves[1] | halves[3] << 16;
            to[c * apart + 2] = halves[4] | halves[5] << 16;
        }
    }
"""


@family(r"triples_(i8|u8)")
def triples_text(name: str, dtype: str) -> str:
    """The C of tc_triples_<element type>."""
    head = (f"void tc_{name}(const uint8_t *const *lines, int32_t at,\n    int32_t channels, int32_t width, "
            "int32_t before, int32_t count, uint32_t *to, int32_t apart, uint32_t zero)")
    comment = ("/* Groups of four channels of three lines of `width` pixels, from byte `at` on: `before` columns of\n"
               " * padding, none or one, the lines, and padding until there are `count` groups. Padding is the zero\n"
               " * point, whose byte is repeated in `zero`; it is all of the first or last line if they are NULL. */")
    return asm_function(comment, head, fill(_GROUPS, extend="sxtb16 " if dtype == "i8" else "uxtb16 "),
                        fill(_GROUPS_TWIN, byte="int8_t" if dtype == "i8" else "uint8_t"))
