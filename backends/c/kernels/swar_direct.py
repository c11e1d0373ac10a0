"""Convolutions on cores without DSP where there is no memory for a column: one product at a time.

    sum += tc_swar_line_i8(lines[ky], first, 24, 384, weights, zero)      three taps of eight channels

The weights are those that columns are multiplied with (`swar_pack`), eight output channels beside each other, so that
the choice can be made when the memory is planned.
"""

from __future__ import annotations

from ..library import family
from ..text import fill

__all__ = ["line_text"]


@family(r"swar_line_(i8|u8)")
def line_text(name: str, dtype: str) -> str:
    """The C of tc_swar_line_<element type>."""
    kind, offset = ("int8_t", "") if dtype == "i8" else ("uint8_t", " - 128")
    return fill("""
        /* The sum of `length` values of a line of `limit` values, from `first` on, times weights that are eight apart;
         * what is outside of the line is `zero`. All is outside where there is no line. */
        static __attribute__((noinline, unused)) uint32_t tc_{name}(const {kind} *line, int32_t first, int32_t length,
            int32_t limit, const int8_t *weights, int32_t zero)
        {
            int32_t before = first < 0 ? -first : 0;
            int32_t inside = (first + length < limit ? first + length : limit) - (first + before);
            if (line == NULL || inside <= 0) {
                before = length;
                inside = 0;
            }
            uint32_t sum = 0;
            for (int32_t k = before; k > 0; k--, weights += 8) {
                sum += (uint32_t)((zero{offset}) * *weights);
            }
            if (inside > 0) {
                const {kind} *x = line + (first + before);
                for (int32_t k = inside; k > 0; k--, x++, weights += 8) {
                    sum += (uint32_t)((*x{offset}) * *weights);
                }
            }
            for (int32_t k = length - before - inside; k > 0; k--, weights += 8) {
                sum += (uint32_t)((zero{offset}) * *weights);
            }
            return sum;
        }
    """, name=name, kind=kind, offset=offset)
