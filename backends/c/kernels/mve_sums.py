"""Sums over the pixels of 16 channels at a time with vectors (MVE), for means.

    tc_mve_sums_i8(from, totals, step, count)         totals[c] = sum of from[i * step + c], 16 channels, 255 pixels
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyir.types import Shape

from ..library import family
from ..text import fill
from .mve_text import MVE, mve_only

__all__ = ["mean_text", "sums_text"]

_LANES = 16
_MOST = 255
"""Pixels whose sum fits in 16 bits."""

_SUMS = """
    push    {r4, lr}
    vmov.i32 q0, #0
    vmov.i32 q1, #0
    dls     lr, r3
1:  vldrb.{kind}16 q2, [r0]
    vldrb.{kind}16 q3, [r0, #8]
    vadd.i16 q0, q0, q2
    vadd.i16 q1, q1, q3
    add     r0, r0, r2
    le      lr, 1b
    vstrh.16 q0, [r1]
    vstrh.16 q1, [r1, #16]
    pop     {r4, pc}
"""


@family(r"mve_sums_(i8|u8)")
def sums_text(name: str, dtype: str) -> str:
    """The C of tc_mve_sums_<element type>."""
    unsigned = "u" if dtype == "u8" else ""
    return mve_only(
        "/* The sums of `count` pixels, at most 255, that are `step` elements apart: 16 channels. */",
        f"void tc_{name}(const {unsigned}int8_t *from, {unsigned}int16_t *totals, int32_t step, int32_t count)",
        _SUMS.replace("{kind}", unsigned or "s"))


def mean_text(shape: Shape, axes: Sequence[int], dtype: str, result: tuple[str, str], start: int,
              otherwise: str) -> str:
    """C statements that fold `axes` of x into y: with the instructions, or `otherwise`; nothing but the latter where
    the shape does not allow for them. `result` is the C type of y and an expression for an element, from `total`.
    """
    first, last = min(axes), max(axes)
    count, inner = int(np.prod(shape[first:last + 1])), int(np.prod(shape[last + 1:]))
    if len(axes) != last - first + 1 or not 0 < count <= _MOST or inner < _LANES:
        return otherwise
    unsigned = "u" if dtype == "u8" else ""
    return fill("""
        #if {guard}
        for (int32_t outer = 0; outer < {outer}; outer++) {
            for (int32_t next = 0; next < {inner}; next += 16) {
                const int32_t c = {c};
                {unsigned}int16_t totals[16];
                tc_mve_sums_{dtype}(x + outer * {size} + c, totals, {inner}, {count});
                for (int32_t i = 0; i < 16; i++) {
                    const int32_t total = {start} + totals[i];
                    y[outer * {inner} + c + i] = ({kind}){value};
                }
            }
        }
        #else
        {otherwise}
        #endif
    """, guard=MVE, outer=int(np.prod(shape[:first])), inner=inner, unsigned=unsigned, dtype=dtype, size=count * inner,
                c="next" if inner % _LANES == 0 else f"next + 16 <= {inner} ? next : {inner - _LANES}", count=count,
                start=start, kind=result[0], value=result[1], otherwise=otherwise)
