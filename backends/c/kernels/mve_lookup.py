"""Tables of 256 bytes with gathering loads (MVE).

    tc_mve_lookup(x, table, y, count)         y[i] = table[x[i]], 16 elements at a time
"""

from __future__ import annotations

from tinyir.types import DType

from ..library import family
from ..text import fill
from .mve_text import MVE, mve_only

__all__ = ["lookup_call", "lookup_text", "pixel_text"]

_LOOKUP = """
    push    {r4, lr}
    dlstp.8 lr, r3
1:  vldrb.u8 q0, [r0], #16
    vldrb.u8 q1, [r1, q0]
    vstrb.8 q1, [r2], #16
    letp    lr, 1b
    pop     {r4, pc}
"""


@family(r"mve_lookup")
def lookup_text(name: str) -> str:
    """The C of tc_mve_lookup."""
    return mve_only("/* y[i] = table[x[i]], for each i below `count`, which is not 0. */",
                    f"void tc_{name}(const void *x, const void *table, void *y, int32_t count)", _LOOKUP)


def lookup_call(kinds: tuple[DType, DType], places: tuple[str, str, str], count: str, otherwise: str) -> str:
    """C statements: the instructions for x, table and y, `count` elements, or `otherwise`; nothing but the latter where
    elements of the operand or of the result are more than bytes.
    """
    if any(kind.bits != 8 for kind in kinds):
        return otherwise
    return fill("""
        #if {guard}
        tc_mve_lookup({places}, {count});
        #else
        {otherwise}
        #endif
    """, guard=MVE, places=", ".join(places), count=count, otherwise=otherwise)


def pixel_text(kinds: tuple[DType, DType], places: tuple[str, str | None, str], count: int, vector: bool) -> str:
    """C statements: `count` elements from one place to another, through the table between them if there is one."""
    source, table, target = places
    moved = f"({source})[c]"
    text = fill("""
        for (int32_t c = 0; c < {count}; c++) {
            ({target})[c] = {value};
        }
    """, count=count, target=target, value=moved if table is None else f"({table})[(uint8_t){moved}]")
    return lookup_call(kinds, (source, table, target), str(count), text) if vector and table is not None else text
