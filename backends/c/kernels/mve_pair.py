"""Sums and products of stored 8-bit integers with vectors (MVE), four elements at a time.

    static const int32_t form[7] = {1, 8192, 8192, 8192, ...};     how often, elements, steps of a and of b, constants
    tc_mve_add_i8(a, b, y, form);

The instructions do what onnxruntime does in single precision, so that nothing has to be proved; there is no C twin,
since the C that stands beside a call computes the same bytes with integers. An operand that is the same for each row
of elements has a step of 0.
"""

from __future__ import annotations

import numpy as np

from tinyir.arith import fused_multiply_add
from tinyir.lowering import Lowering
from tinyir.ops.qeltwise import QAdd, QMul
from tinyir.ops.quant import quant_of
from tinyir.types import Quant, Shape

from ..library import family
from ..text import fill
from .mve_text import MVE, mve_only

__all__ = ["VectorForm", "pair_call", "pair_text", "vector_form"]

VectorForm = tuple[int, ...]
"""The constants of the functions as 32-bit words: (ra, fx, rb) of a sum, (za, zb, multiplier, zero point) of a product;
empty where there is none.
"""

_BODY = {
    "add": """
    vldrb.{kind}32 q0, [r0], #4
    vldrb.{kind}32 q1, [r1], #4
    vcvt.f32.s32 q0, q0
    vcvt.f32.s32 q1, q1
    vfmas.f32 q1, q3, r9                        // b * rb + fx, rounded once
    vfma.f32 q1, q0, r8                         // and a * ra
    """,
    "mul": """
    vldrb.{kind}32 q0, [r0], #4
    vldrb.{kind}32 q1, [r1], #4
    vsub.i32 q0, q0, r8
    vsub.i32 q1, q1, r9
    vmul.i32 q1, q1, q0
    vcvt.f32.s32 q1, q1
    vmul.f32 q1, q1, r10
    vadd.f32 q1, q1, r11
    """,
}
_PAIR = """
    push    {r4-r11, lr}
    ldrd    r4, r5, [r3]                        // rows, elements of a row
    ldrd    r6, r7, [r3, #8]                    // steps of a and b
    ldrd    r8, r9, [r3, #16]
    ldrd    r10, r11, [r3, #24]
    vdup.32 q3, r10
    vpush   {d8}
1:  mov     r3, r0
    mov     r12, r1
    vmov    s16, r2
    dlstp.32 lr, r5
2:
{body}
    vcvtn.s32.f32 q1, q1
    {narrow}
    vstrb.32 q1, [r2], #4
    letp    lr, 2b
    vmov    r2, s16
    add     r0, r3, r6
    add     r1, r12, r7
    add     r2, r2, r5
    subs    r4, r4, #1
    bne     1b
    vpop    {d8}
    pop     {r4-r11, pc}
"""
_NARROW = {"i8": "vqmovnb.s32 q1, q1\n    vqmovnb.s16 q1, q1", "u8": "vqmovunb.s32 q1, q1\n    vqmovnb.u16 q1, q1"}


@family(r"mve_(add|mul)_(i8|u8)")
def pair_text(name: str, function: str, dtype: str) -> str:
    """The C of tc_mve_<function>_<element type>."""
    asm = _PAIR.replace("{body}", _BODY[function].strip("\n").rstrip()).replace("{narrow}", _NARROW[dtype])
    kind = "int8_t" if dtype == "i8" else "uint8_t"
    return mve_only(
        f"/* {'Sums' if function == 'add' else 'Products'} of stored values, row by row. `form`: rows, elements of a "
        "row, steps of a and b, constants. */",
        f"void tc_{name}(const {kind} *a, const {kind} *b, {kind} *y, const int32_t *form)",
        asm.replace("{kind}", "s" if dtype == "i8" else "u"))


def vector_form(op: QAdd | QMul, low: Lowering) -> VectorForm:
    """The constants for `op`, if the target has the instructions and they do."""
    if not low.target.mve or low.integer_only or len({v.type.dtype for v in (op.a, op.b, op.out)}) > 1 or \
            op.out.type.dtype.bits != 8:
        return ()
    quants = quant_of(op.a), quant_of(op.b), quant_of(op.out)
    return _sum_words(*quants) if isinstance(op, QAdd) else _product_words(*quants)


def _sum_words(qa: Quant, qb: Quant, qc: Quant) -> VectorForm:
    """ra, fx, rb of `arith.qlinear_add`."""
    ra, rb = (np.float32(q.scale) / np.float32(qc.scale) for q in (qa, qb))
    offset = fused_multiply_add(np.asarray(qa.zero_point, np.float32), np.asarray(ra),
                                np.asarray(rb * np.float32(qb.zero_point)))
    fixed = np.float32(qc.zero_point) - np.float32(offset.item())
    return (_word(ra), _word(fixed), _word(rb), 0) if _is_usual(ra) and _is_usual(rb) else ()


def _product_words(qa: Quant, qb: Quant, qc: Quant) -> VectorForm:
    """The zero points of a and b, the multiplier of `arith.qlinear_mul`, the zero point of y."""
    multiplier = np.float32(np.float32(qa.scale) * np.float32(qb.scale)) / np.float32(qc.scale)
    zero = _word(np.float32(qc.zero_point))
    return (qa.zero_point, qb.zero_point, _word(multiplier), zero) if _is_usual(multiplier) else ()


def _is_usual(scale: np.floating) -> bool:
    """Whether no denormal numbers come up, which the instructions take for zero."""
    return bool(2.0**-60 < scale < 2.0**60)


def _word(value: np.floating) -> int:
    return int(np.float32(value).view(np.int32))


def pair_call(function: str, form: VectorForm, dtype: str, places: tuple[str, str, str],
              shapes: tuple[Shape, Shape, Shape], otherwise: str) -> str:
    """C statements: the instructions for the operands and the result `places` of `shapes`, or `otherwise`; nothing but
    the latter where the shapes do not allow for them.
    """
    a, b, out = shapes
    steps = _rows(a, b, out)
    if not form or steps is None:
        return otherwise
    rows, length, a_step, b_step = steps
    return fill("""
        #if {guard}
        static const int32_t form[8] = {{words}};
        tc_mve_{function}_{dtype}({places}, form);
        #else
        {otherwise}
        #endif
    """, guard=MVE, words=", ".join(map(str, (rows, length, a_step, b_step, *form))), function=function, dtype=dtype,
                places=", ".join(places), otherwise=otherwise)


def _rows(a: Shape, b: Shape, out: Shape) -> tuple[int, int, int, int] | None:
    """Rows, elements of a row, steps of a and b from row to row; None where there are no such rows."""
    total = int(np.prod(out))
    sizes = int(np.prod(a)), int(np.prod(b))
    length = min(sizes)
    if length == 0 or max(sizes) < total or not all(_is_tail(s, out, length) for s in (a, b)):
        return None
    steps = [0 if size < total else length for size in sizes]
    return total // length, length, steps[0], steps[1]


def _is_tail(shape: Shape, out: Shape, length: int) -> bool:
    """Whether the operand is `out` itself or repeats its last `length` elements."""
    if shape == out:
        return True
    bare = tuple(shape)
    while bare and bare[0] == 1:
        bare = bare[1:]
    return int(np.prod(bare)) == length and bare == tuple(out[len(out) - len(bare):])
