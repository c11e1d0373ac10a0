"""How stored values become the columns that `dsp_columns` multiplies: four bytes to two words of halves.

    tc_spread_paired_i8(from, to, words, apart)       (x3, x1) and (256 * x2 - x3 + 127, 256 * x0 - x1 + 127)
    tc_spread_plain_i8(from, to, words, apart)        (x2, x0) and (x3, x1)

In a column of so many pixels words of the same four inputs are `apart` words from each other, and there are two for
each pixel. Unsigned values lose 128. `tc_spread_window_...` does it for one row of a window, whose ends, or all of
which, may lie outside the image, where every value is the zero point; `tc_window_row` copies such a row to bytes behind
each other, for windows whose rows are not whole words.
"""

from __future__ import annotations

from ..library import family
from ..text import fill
from .dsp_text import asm_function

__all__ = ["spread_text", "window_text"]

_WORDS = {
    "paired": """
        const uint32_t odd = tc_odd_bytes(bytes);
        to[0] = odd;
        to[apart] = tc_difference_of_halves(((bytes & 0x00FF00FFu) << 8) + 0x007F007Fu, odd);
    """,
    "plain": """
        to[0] = tc_even_bytes(bytes);
        to[apart] = tc_odd_bytes(bytes);
    """,
}
_UNPACK = {
    "paired": """
    sxtb16  r5, r4, ror #8
    and     r4, r12, r4, lsl #8
    orr     r4, r4, #0x007F007F
    ssub16  r4, r4, r5
    """,
    "plain": """
    sxtb16  r5, r4
    sxtb16  r4, r4, ror #8
    """,
}
"""From the bytes in r4: the first word in r5, the second in r4."""

_SPREAD = """
    push    {r4, r5}
    mov     r12, #0xFF00FF00
    lsl     r3, r3, #2
    subs    r2, r2, #2
    blt     2f
1:                                              // two words at a time
{one}
{one}
    subs    r2, r2, #2
    bge     1b
2:  adds    r2, r2, #2
    beq     3f
{one}
3:  pop     {r4, r5}
    bx      lr
"""


@family(r"spread_(paired|plain)_(i8|u8)")
def spread_text(name: str, coding: str, dtype: str) -> str:
    """The C of tc_spread_<coding>_<element type>."""
    flip = "    eor     r4, r4, #0x80808080\n" if dtype == "u8" else ""
    unpack = flip + _UNPACK[coding].strip("\n").rstrip()
    one = (f"    ldr     r4, [r0], #4\n{unpack}\n    str     r5, [r1]\n    str     r4, [r1, r3]\n"
           "    add     r1, r1, r3, lsl #1")
    twin = fill("""
        for (const uint8_t *next = from; words > 0; words--, next += 4, to += 2 * apart) {
            const uint32_t bytes = tc_load_word(next){flip};
            {body}
        }
    """, flip=" ^ 0x80808080u" if dtype == "u8" else "", body=_WORDS[coding])
    comment = "/* Four stored values for each of `words` words, as they stand in a column of `apart` pixels. */"
    return asm_function(comment,
                        f"void tc_{name}(const void *from, uint32_t *to, int32_t words,\n    int32_t apart)",
                        _SPREAD.replace("{one}", one), twin)


@family(r"spread_window_((paired|plain)_(?:i8|u8))")
def window_text(name: str, variant: str, coding: str) -> str:
    """The C of tc_spread_window_<coding>_<element type>."""
    return fill("""
        /* `length` bytes of a line of `limit` bytes from `first` on, as they stand in a column of `apart` pixels; what
         * is outside of the line is the zero point, whose byte is repeated in `zero`. All is outside where there is no
         * line. */
        static __attribute__((noinline, unused)) void tc_{name}(const void *line, int32_t first, int32_t length,
            int32_t limit, uint32_t *to, int32_t apart, uint32_t zero)
        {
            int32_t before = first < 0 ? -first : 0;
            int32_t inside = (first + length < limit ? first + length : limit) - (first + before);
            if (line == NULL || inside <= 0) {
                before = length;
                inside = 0;
            }
            for (int32_t k = 0; k < before; k += 4, to += 2 * apart) {
                tc_spread_{variant}(&zero, to, 1, apart);
            }
            if (inside > 0) {
                tc_spread_{variant}((const uint8_t *)line + first + before, to, inside / 4, apart);
                to += inside / 2 * apart;
            }
            for (int32_t k = before + inside; k < length; k += 4, to += 2 * apart) {
                tc_spread_{variant}(&zero, to, 1, apart);
            }
        }
    """, name=name, variant=variant)
