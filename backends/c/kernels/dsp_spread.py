"""How stored values become the columns that `dsp_columns` multiplies: four bytes to two words of halves.

    tc_spread_paired_i8_8(from, to, words)            (x3, x1) and (256 * x2 - x3 + 127, 256 * x0 - x1 + 127)
    tc_spread_plain_i8_8(from, to, words)             (x2, x0) and (x3, x1)

Words of the same four inputs are 4 apart in a column of four pixels, which has 8 words for each four inputs, and 1
apart in a column of one pixel. Unsigned values lose 128. `tc_spread_window_...` does it for one row of a window, whose
ends, or all of which, may lie outside the image, where every value is the zero point; `tc_window_row` copies such a
row to bytes behind each other, for windows whose rows are not whole words.
"""

from __future__ import annotations

from ..library import family
from ..text import fill

__all__ = ["spread_text", "window_text"]

_WORDS = {
    "paired": """
        const uint32_t odd = tc_odd_bytes(bytes);
        to[0] = odd;
        to[{apart}] = tc_difference_of_halves(((bytes & 0x00FF00FFu) << 8) + 0x007F007Fu, odd);
    """,
    "plain": """
        to[0] = tc_even_bytes(bytes);
        to[{apart}] = tc_odd_bytes(bytes);
    """,
}


@family(r"spread_(paired|plain)_(i8|u8)_(8|2)")
def spread_text(name: str, coding: str, dtype: str, step: str) -> str:
    """The C of tc_spread_<coding>_<element type>_<words of a column for four inputs>."""
    return fill("""
        /* Four stored values for each of `words` words, as they stand in a column. */
        static __attribute__((noinline, unused)) void tc_{name}(const void *from, uint32_t *to, int32_t words)
        {
            for (const uint8_t *next = from; words > 0; words--, next += 4, to += {step}) {
                const uint32_t bytes = tc_load_word(next){flip};
                {body}
            }
        }
    """, name=name, step=step, flip=" ^ 0x80808080u" if dtype == "u8" else "",
                body=fill(_WORDS[coding], apart=4 if step == "8" else 1))


@family(r"spread_window_((paired|plain)_(?:i8|u8))")
def window_text(name: str, variant: str, coding: str) -> str:
    """The C of tc_spread_window_<coding>_<element type>."""
    return fill("""
        /* `length` bytes of a line of `limit` bytes from `first` on, as they stand in a column; what is outside of the
         * line is the zero point, whose byte is repeated in `zero`. All is outside where there is no line. */
        static __attribute__((noinline, unused)) void tc_{name}(const void *line, int32_t first, int32_t length,
            int32_t limit, uint32_t *to, uint32_t zero)
        {
            int32_t before = first < 0 ? -first : 0;
            int32_t inside = (first + length < limit ? first + length : limit) - (first + before);
            if (line == NULL || inside <= 0) {
                before = length;
                inside = 0;
            }
            for (int32_t k = 0; k < before; k += 4) {
                tc_spread_{variant}_8(&zero, to + 2 * k, 1);
            }
            if (inside > 0) {
                tc_spread_{variant}_8((const uint8_t *)line + first + before, to + 2 * before, inside / 4);
            }
            for (int32_t k = before + inside; k < length; k += 4) {
                tc_spread_{variant}_8(&zero, to + 2 * k, 1);
            }
        }
    """, name=name, variant=variant)
