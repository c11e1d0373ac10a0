"""The inner part of depthwise convolutions on Cortex-M with DSP: one channel at a time, from a plane of 16-bit values.

    tc_plane_rows_3x3_1_i8_12(plane, stream, out, channels, width, rows, pitch)

A plane holds some rows of one channel, padding included, two neighbouring columns a word. One SMLAD then computes two
taps. With stride 1 an output in an even column and its right neighbour read the same words, with different weights:

    columns   x0 x1 | x2 x3 | x4 x5     3 taps: even  (w0 w1) (w2 0)      at words 0 1, and at 1 2 for two columns on
                                                odd   (0 w0)  (w1 w2)

so four outputs take three words of x, four of weights and eight SMLAD for twelve products, and no unpacking. The stream
of a channel is its bias, for each row of the window the even and the odd words, and multiplier and rounding constant.
Four sums, up to five words of x, the words of weights that are left, and three addresses are the fourteen registers.

`tc_planes_...` makes four planes from a row of an image: neighbouring channels lie in one word there. Unsigned values
stay as they are.
"""

from __future__ import annotations

import numpy as np

from tinyir.ir import Array

from ..library import family
from ..text import fill
from .dsp_text import asm_function, float_requantisation, high_requantisation

__all__ = ["PIXELS", "plane_pairs_text", "plane_pitch", "plane_rows_text", "planes_text", "weight_words", "words_read"]

PIXELS = 4
"""Outputs of a step."""
_X = ("r3", "r4", "r5", "r6", "r7")
_SUMS = ("r8", "r9", "r10", "r11")


def words_read(taps: int, stride: int) -> int:
    """Words of a row of the plane that a step reads."""
    return 3 + -(-taps // 2) if stride == 2 else 1 + taps // 2 + 1


def plane_pitch(width: int, taps: int, stride: int) -> int:
    """Words of a row of the plane for `width` outputs, the last step whole."""
    return (-(-width // PIXELS) - 1) * PIXELS * stride // 2 + words_read(taps, stride)


def weight_words(weight: Array, stride: int) -> Array:
    """[..., words] u32 from 16-bit weights [..., taps]: the even words, and with stride 1 the odd ones."""
    taps = weight.shape[-1]
    shifts = (0, 1) if stride == 1 else (0,)
    parts = []
    for shift in shifts:
        full = np.zeros((*weight.shape[:-1], -(-(taps + shift) // 2) * 2), np.int16)
        full[..., shift:shift + taps] = weight
        parts.append(full.view(np.uint32))
    return np.concatenate(parts, axis=-1)


def _products(taps: int, stride: int) -> list[list[tuple[int, int]]]:
    """For each word of weights the pairs (output, word of x) that it multiplies."""
    even = -(-taps // 2)
    if stride == 2:
        return [[(p, p + k) for p in range(PIXELS)] for k in range(even)]
    odd = -(-(taps + 1) // 2)
    return [[(p, p // 2 + k) for p in (0, 2)] for k in range(even)] + \
        [[(p, p // 2 + k) for p in (1, 3)] for k in range(odd)]


def _row(taps: int, stride: int) -> str:
    """Instructions for one row of the window."""
    products, words = _products(taps, stride), words_read(taps, stride)
    held = min(words, len(_X))
    free = [*_X[held:], "r12", "lr"]
    lines = [f"ldm.w   r0, {{{', '.join(_X[:held])}}}"]
    loaded = held
    for k, uses in enumerate(products):
        if k % len(free) == 0:
            group = free[:len(products) - k]
            lines.append(f"ldm.w   r1!, {{{', '.join(group)}}}" if len(group) > 1 else f"ldr     {group[0]}, [r1], #4")
        for output, word in uses:
            if word >= loaded:
                lines.append(f"ldr     {_X[word % len(_X)]}, [r0, #{4 * word}]")
                loaded = word + 1
            lines.append(f"smlad   {_SUMS[output]}, {free[k % len(free)]}, {_X[word % len(_X)]}, {_SUMS[output]}")
    return "\n".join([*lines, "add     r0, r0, r2"])


_ROWS = """
    push    {r4-r11, lr}
    ldrd    r4, r5, [sp, #36]                   // width, rows
    ldr     r6, [sp, #44]                       // pitch
    sub     sp, sp, #36
    strd    r2, r4, [sp]                        // [sp, 0] out, [sp, 4] outputs left in the row
    mov     r7, #{kernel_rows}
    mul     r7, r7, r6
    sub     r7, r7, #{step}
    strd    r3, r7, [sp, #8]                    // [sp, 8] channels, [sp, 12] from behind a step to the next
    lsl     r7, r6, #{stride_shift}
    strd    r5, r0, [sp, #16]                   // [sp, 16] rows left, [sp, 20] first word of the row
    strd    r7, r4, [sp, #24]                   // [sp, 24] to the next row, [sp, 28] width
    {end}
    mov     r2, r6
1:  ldr     r8, [r1], #4                        // bias
    mov     r9, r8
    mov     r10, r8
    mov     r11, r8
    {window}
    ldrd    r3, r4, [r1]                        // multiplier and rounding
    sub     r1, r1, #{stream_bytes}
    cmp     r3, #0
    blt     5f
    {high}
2:  ldrd    r5, r3, [sp]
    ldrd    r6, r4, [sp, #8]
    subs    r3, r3, #4
    sub     r0, r0, r4
    blt     6f
    strb    r8, [r5]
    strb    r9, [r5, r6]
    add     r5, r5, r6, lsl #1
    strb    r10, [r5]
    strb    r11, [r5, r6]
    add     r5, r5, r6, lsl #1
    strd    r5, r3, [sp]
    bne     1b
3:  ldrd    r3, r0, [sp, #16]                   // the next row
    ldrd    r6, r7, [sp, #24]
    add     r0, r0, r6
    subs    r3, r3, #1
    strd    r3, r0, [sp, #16]
    str     r7, [sp, #4]
    bne     1b
    add     sp, sp, #36
    pop     {r4-r11, pc}
5:                                              // in single precision
    {by_float}
    b       2b
6:  strb    r8, [r5]                            // one, two or three are left
    add     r5, r5, r6
    adds    r3, r3, #2
    blt     7f
    strb    r9, [r5]
    add     r5, r5, r6
    beq     7f
    strb    r10, [r5]
    add     r5, r5, r6
7:  str     r5, [sp]
    b       3b
"""

_ROLLED = """
8:
{row}
ldr     r12, [sp, #32]
cmp     r1, r12
bne     8b
"""
_MOST_WRITTEN_OUT = 5
"""Rows of a window; those of taller ones are a loop, which is a tenth slower and half as long."""

_ROWS_TWIN = """
    const uint32_t *const weights = stream + 1;
    const uint32_t *const scaling = weights + {weight_words};
    for (int32_t row = 0; row < rows; row++, plane += {stride} * pitch / 4) {
        for (int32_t column = 0; column < width; column++, out += channels) {
            const uint32_t *x = plane + {place};
            const uint32_t *w = weights{odd};
            uint32_t sum = stream[0];
            for (int32_t ky = 0; ky < {kernel_rows}; ky++, x += pitch / 4, w += {row_words}) {
                for (int32_t k = 0; k < {count}; k++) {
                    sum = tc_smlad(w[k], x[k], sum);
                }
            }
            *out = ({kind})tc_requantize_high(sum, scaling[0], scaling[1], {shift}, {low}, {high});
        }
    }
"""


@family(r"plane_rows_(\d+)x(\d+)_([12])_(i8|u8)_(\d+)")
def plane_rows_text(name: str, kernel_rows: str, taps: str, stride: str, dtype: str, shift: str) -> str:
    """The C of tc_plane_rows_<window>_<stride>_<element type of the results>_<shift>."""
    wide, step = int(taps), int(stride)
    kind, low, high = ("int8_t", -128, 127) if dtype == "i8" else ("uint8_t", 0, 255)
    row_words = len(_products(wide, step))
    even = -(-wide // 2)
    words = int(kernel_rows) * row_words
    rolled, row = int(kernel_rows) > _MOST_WRITTEN_OUT, _row(wide, step)
    end = f"add     r7, r1, #{4 + 4 * words}                  // [sp, 32] end of the weights\nstr     r7, [sp, #32]"
    asm = fill(_ROWS, window=fill(_ROLLED, row=row) if rolled else f".rept   {kernel_rows}\n{row}\n.endr",
               end=end if rolled else "", kernel_rows=kernel_rows, step=2 * PIXELS * step, stride_shift=step - 1,
               stream_bytes=4 + 4 * words, high=high_requantisation(list(_SUMS), "r3", "r4", dtype, int(shift)),
               by_float=float_requantisation(list(_SUMS), "r3", "r4", dtype))
    count = str(even) if step == 2 or wide % 2 else f"(column % 2 == 0 ? {even} : {row_words - even})"
    twin = fill(_ROWS_TWIN, weight_words=words, stride=stride, row_words=row_words, kernel_rows=kernel_rows,
                place="column" if step == 2 else "column / 2", odd="" if step == 2 else f" + column % 2 * {even}",
                count=count, kind=kind, shift=shift, low=low, high=high)
    head = (f"void tc_{name}(const uint32_t *plane, const uint32_t *stream,\n    {kind} *out, int32_t channels, "
            "int32_t width, int32_t rows, int32_t pitch)")
    comment = ("/* `rows` rows of `width` outputs of one channel, from a plane whose rows are `pitch` bytes apart;\n"
               " * outputs are `channels` apart. */")
    return asm_function(comment, head, asm, twin)


_PAIRS = """
    push    {r4-r8, lr}
    ldr     r4, [sp, #24]                       // apart
    lsl     r4, r4, #2
    add     r12, r3, r4, lsl #1                 // the third plane
1:  ldr     r5, [r0]
    ldr     r6, [r0, r1]
    add     r0, r0, r1, lsl #1
    pkhbt   r7, r5, r6, lsl #16                 // channels 0 and 1
    pkhtb   r6, r6, r5, asr #16                 // channels 2 and 3
    {extend} r5, r7, ror #8
    {extend} r7, r7
    {extend} r8, r6, ror #8
    {extend} r6, r6
    str     r5, [r3, r4]
    str     r7, [r3], #4
    str     r8, [r12, r4]
    str     r6, [r12], #4
    subs    r2, r2, #1
    bne     1b
    pop     {r4-r8, pc}
"""

_PAIRS_TWIN = """
    for (int32_t i = 0; i < pairs; i++, from += 2 * channels, to++) {
        for (int32_t c = 0; c < 4; c++) {
            to[c * apart] = ((uint32_t)({byte})from[c] & 0xFFFFu) | (uint32_t)({byte})from[channels + c] << 16;
        }
    }
"""


@family(r"plane_pairs_(i8|u8)")
def plane_pairs_text(name: str, dtype: str) -> str:
    """The C of tc_plane_pairs_<element type>."""
    head = (f"void tc_{name}(const uint8_t *from, int32_t channels,\n    int32_t pairs, uint32_t *to, int32_t apart)")
    comment = "/* Words of four planes for `pairs` pairs of columns, 1 at least. */"
    return asm_function(comment, head, fill(_PAIRS, extend="sxtb16 " if dtype == "i8" else "uxtb16 "),
                        fill(_PAIRS_TWIN, byte="int8_t" if dtype == "i8" else "uint8_t"))


@family(r"planes_(i8|u8)")
def planes_text(name: str, dtype: str) -> str:
    """The C of tc_planes_<element type>."""
    return fill("""
        /* A row of four planes, `apart` words from each other, from a line of `width` pixels: `before` columns of
         * padding, the line, and padding up to `columns`. Padding is the zero point, whose byte is repeated in `zero`;
         * it is all where there is no line. */
        static __attribute__((noinline, unused)) void tc_{name}(const void *line, int32_t channels, int32_t width,
            int32_t before, int32_t columns, uint32_t *to, int32_t apart, uint32_t zero)
        {
            const uint8_t *bytes = line;
            const int32_t end = line == NULL ? 0 : width;
            for (int32_t column = -before; column < columns - before; column += 2, to++) {
                if (column >= 0 && column + 1 < end) {
                    const int32_t pairs = (end - column) / 2;
                    tc_plane_pairs_{dtype}(bytes + column * channels, channels, pairs, to, apart);
                    column += 2 * pairs - 2;
                    to += pairs - 1;
                    continue;
                }
                const uint32_t words[2] = {
                    column >= 0 && column < end ? tc_load_word(bytes + column * channels) : zero,
                    column == -1 && end > 0 ? tc_load_word(bytes) : zero,
                };
                tc_plane_pairs_{dtype}((const uint8_t *)words, 4, 1, to, apart);
            }
        }
    """, name=name, dtype=dtype)
