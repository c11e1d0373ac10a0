"""How stored values become the columns that `swar_columns` multiplies: two pixels in the halves of words.

    tc_swar_pair_i8_of4(first, second, count, to)     words of two pixels, first[k] + second[k] * 2^16
    tc_swar_spread_i8_of4(from, count, to, second)    one pixel: the first writes words, the second adds to them

Words of the same two pixels are two words apart in columns of four pixels, else one. Unsigned values lose 128.
`tc_swar_window_...` does it for one row of a window, whose ends, or all of which, may lie outside the image, where
every value is the zero point.
"""

from __future__ import annotations

from ..library import family
from ..text import fill

__all__ = ["fill_text", "pair_text", "spread_text", "window_text"]

_KINDS = {"i8": "int8_t", "u8": "uint8_t"}
_UNROLLED = 4


def _value(element: str, dtype: str) -> str:
    return element if dtype == "i8" else f"({element} - 128)"


def _loop(statement: str, pointers: list[str], pixels: str) -> str:
    """`statement`, which has `[k]` behind each of `pointers` and writes to[at], `count` times, a few at a time."""
    apart = int(pixels) // 2

    def some(steps: int) -> str:
        lines = [statement.replace("[at]", f"[{apart * k}]").replace("[k]", f"[{k}]") for k in range(steps)]
        return "\n".join([*lines, *(f"{pointer} += {steps};" for pointer in pointers), f"to += {apart * steps};"])

    return fill("""
        for (; count >= {steps}; count -= {steps}) {
            {several}
        }
        for (; count > 0; count--) {
            {one}
        }
    """, steps=_UNROLLED, several=some(_UNROLLED), one=some(1))


@family(r"swar_pair_(i8|u8)_of([24])")
def pair_text(name: str, dtype: str, pixels: str) -> str:
    """The C of tc_swar_pair_<element type>_of<pixels>."""
    low, high = _value("first[k]", dtype), _value("second[k]", dtype)
    return fill("""
        /* `count` stored values of two pixels to words in a column; returns where the next ones go. */
        static __attribute__((noinline, unused)) uint32_t *tc_{name}(const {kind} *first, const {kind} *second,
            int32_t count, uint32_t *to)
        {
            {loop}
            return to;
        }
    """, name=name, kind=_KINDS[dtype],
                loop=_loop(f"to[at] = (uint32_t){low} + ((uint32_t){high} << 16);", ["first", "second"], pixels))


@family(r"swar_spread_(i8|u8)_of([24])")
def spread_text(name: str, dtype: str, pixels: str) -> str:
    """The C of tc_swar_spread_<element type>_of<pixels>."""
    value = _value("from[k]", dtype)
    return fill("""
        /* `count` stored values of one pixel to its halves of words in a column; returns where the next ones go. */
        static __attribute__((noinline, unused)) uint32_t *tc_{name}(const {kind} *from, int32_t count, uint32_t *to,
            int32_t second)
        {
            if (second) {
                {add}
            } else {
                {write}
            }
            return to;
        }
    """, name=name, kind=_KINDS[dtype], add=_loop(f"to[at] += (uint32_t){value} << 16;", ["from"], pixels),
                write=_loop(f"to[at] = (uint32_t){value};", ["from"], pixels))


@family(r"swar_fill_of([24])")
def fill_text(name: str, pixels: str) -> str:
    """The C of tc_swar_fill_of<pixels>."""
    return fill("""
        /* The same value `count` times. */
        static __attribute__((unused)) uint32_t *tc_{name}(int32_t value, int32_t count, uint32_t *to, int32_t second)
        {
            for (; count > 0; count--, to += {apart}) {
                *to = second ? *to + ((uint32_t)value << 16) : (uint32_t)value;
            }
            return to;
        }
    """, name=name, apart=int(pixels) // 2)


@family(r"swar_window_(i8|u8)_of([24])")
def window_text(name: str, dtype: str, pixels: str) -> str:
    """The C of tc_swar_window_<element type>_of<pixels>."""
    return fill("""
        /* tc_swar_spread_... for `length` values of a line of `limit` values from `first` on; what is outside of the
         * line is `zero`. All is outside where there is no line. */
        static __attribute__((noinline, unused)) uint32_t *tc_{name}(const {kind} *line, int32_t first, int32_t length,
            int32_t limit, uint32_t *to, int32_t second, int32_t zero)
        {
            const int32_t before = first < 0 ? -first : 0;
            const int32_t inside = (first + length < limit ? first + length : limit) - (first + before);
            if (line == NULL || inside <= 0) {
                return tc_swar_fill_of{pixels}({value}, length, to, second);
            }
            to = tc_swar_fill_of{pixels}({value}, before, to, second);
            to = tc_swar_spread_{dtype}_of{pixels}(line + (first + before), inside, to, second);
            return tc_swar_fill_of{pixels}({value}, length - before - inside, to, second);
        }
    """, name=name, kind=_KINDS[dtype], dtype=dtype, pixels=pixels,
                value="zero" if dtype == "i8" else "zero - 128")
