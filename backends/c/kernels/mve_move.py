"""Bytes that go to, or come from, every so many places with vectors (MVE): transpositions.

    tc_mve_spread_8(from, to, 3, 160)         to[3 * i] = from[i]: a row of a plane into an image of three channels
    tc_mve_collect_16(from, to, 40, 64)       to[i] = from[40 * i]
    tc_mve_cross(from, to, 160, 3, 128)       to[3 * i] = from[160 * i]

The suffix is how many bits the places have that one vector reaches: 16 bytes of vectors up to 17 apart, else 8.
"""

from __future__ import annotations

from tinyir.types import Shape

from ..library import family
from ..text import fill
from .loops import collapse, nest
from .mve_text import MVE, mve_only

__all__ = ["cross_text", "move_text", "row_text", "transpose_text"]

_NEAR, _FAR = 255 // 15, 65535 // 7
"""Steps whose multiples have 8 and 16 bits."""

_MOVE = """
    push    {r4, lr}
    movs    r4, #0
    vidup.u{bits} q1, r4, #1
    vmul.i{bits} q1, q1, r2
    lsl     r2, r2, #{shift}
    dlstp.{bits} lr, r3
{moves}
    letp    lr, 1b
    pop     {r4, pc}
"""
_MOVES = {
    "spread": """
1:  vldrb.u{bits} q0, [r0], #{lanes}
    vstrb.{bits} q0, [r1, q1]
    add     r1, r1, r2
    """,
    "collect": """
1:  vldrb.u{bits} q0, [r0, q1]
    add     r0, r0, r2
    vstrb.{bits} q0, [r1], #{lanes}
    """,
}


@family(r"mve_(spread|collect)_(8|16)")
def move_text(name: str, way: str, bits: str) -> str:
    """The C of tc_mve_<way>_<bits>."""
    places = "to[i * step] = from[i]" if way == "spread" else "to[i] = from[i * step]"
    asm = _MOVE.replace("{moves}", _MOVES[way].strip("\n").rstrip()).replace("{bits}", bits)
    return mve_only(f"/* {places}, for each i below `count`. */",
                    f"void tc_{name}(const void *from, void *to, int32_t step, int32_t count)",
                    asm.replace("{lanes}", str(128 // int(bits))).replace("{shift}", "4" if bits == "8" else "3"))


_CROSS = """
    push    {r4, lr}
    movs    r4, #0
    vidup.u16 q1, r4, #1
    vmul.i16 q2, q1, r3
    vmul.i16 q1, q1, r2
    lsl     r2, r2, #3
    lsl     r3, r3, #3
    ldr     r12, [sp, #8]
    dlstp.16 lr, r12
1:  vldrb.u16 q0, [r0, q1]
    vstrb.16 q0, [r1, q2]
    add     r0, r0, r2
    add     r1, r1, r3
    letp    lr, 1b
    pop     {r4, pc}
"""


@family(r"mve_cross")
def cross_text(name: str) -> str:
    """The C of tc_mve_cross."""
    return mve_only("/* to[i * to_step] = from[i * from_step], for each i below `count`. */",
                    f"void tc_{name}(const void *from, void *to, int32_t from_step, int32_t to_step, int32_t count)",
                    _CROSS)


def row_text(channels: int, width: int, places: tuple[str, str], steps: tuple[int, int], otherwise: str) -> str:
    """C statements: bytes of planes become a row of `width` pixels; `places` are where the first channel comes from and
    where the row goes, `steps` those in the planes, to the next column and to the next channel.
    """
    by_column, by_channel = steps
    if not 1 < channels <= _FAR or not 0 < by_column <= _FAR:
        return otherwise
    source, to = f"{places[0]} + c * {by_channel}", f"{places[1]} + c"
    call = f"tc_mve_spread_{_bits(channels)}({source}, {to}, {channels}, {width});" if by_column == 1 else \
        f"tc_mve_cross({source}, {to}, {by_column}, {channels}, {width});"
    return _either(f"for (int32_t c = 0; c < {channels}; c++) {{\n    {call}\n}}", otherwise)


def transpose_text(shape: Shape, y_strides: Shape, x_strides: Shape, otherwise: str) -> str:
    """C statements that copy bytes of `shape` from x to y, by their steps along each axis: with the instructions, or
    `otherwise`; nothing but the latter where they are of no use.
    """
    extents, steps = collapse(shape, {"y": y_strides, "x": x_strides})
    axes = list(zip(extents, steps["y"], steps["x"], strict=True))
    found = [axis for axis in axes if 1 in axis[1:] and axis[1] != axis[2] and max(axis[1:]) <= _FAR]
    if not found or 0 in shape:
        return otherwise
    count, y_step, x_step = inner = max(found)
    rest = [axis for axis in axes if axis is not inner]
    way, step = ("spread", y_step) if x_step == 1 else ("collect", x_step)
    body = f"tc_mve_{way}_{_bits(step)}(&{{x}}, &{{y}}, {step}, {count});"
    strides = {"y": tuple(axis[1] for axis in rest), "x": tuple(axis[2] for axis in rest)}
    return _either(nest(tuple(axis[0] for axis in rest), strides, body), otherwise)


def _bits(step: int) -> int:
    return 8 if step <= _NEAR else 16


def _either(text: str, otherwise: str) -> str:
    return fill("#if {guard}\n{text}\n#else\n{otherwise}\n#endif", guard=MVE, text=text, otherwise=otherwise)
