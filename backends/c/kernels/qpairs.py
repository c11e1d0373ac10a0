"""Sums and products of two stored values as C expressions, proved over all pairs of inputs.

A form is a tuple of integers, so that it prints as an attribute:

    add     (a multiplier, b multiplier, offset, shift, to even, wide)      t = a * ma + (b * mb + offset); t >> shift
    add     with a table: (a multiplier, 0, 0, shift, 0, 1)                 t = a * ma + table[b], rounded as floats are
    mul     (a zero, b zero, multiplier, rounding, shift, y zero)           (p * multiplier + rounding) >> shift

The table is for sums of which no form could be proved: it holds what onnxruntime's inner multiplication makes of b, in
fixed point. A product without a proved form has minus the significand of its scale as multiplier.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from tinyir.arith import fused_multiply_add, saturate
from tinyir.ir import Array
from tinyir.opdef import Op
from tinyir.requant import Requant, apply_emulated, round_single, solve
from tinyir.requant_binary import SumForm, apply_sum, solve_sum
from tinyir.types import DType, Quant

from ..text import c_type, fill
from .qrequant import requantize_function
from .qtile import plus

__all__ = ["PairForm", "PairFunction", "apply_pair", "pair_statement", "product_form", "sum_form"]

PairFunction = Literal["add", "mul"]
PairForm = tuple[int, ...]
_GUARD = 30  # binary places that leave nothing of a sum below 1/4 to chance


def sum_form(op: Op, qa: Quant, qb: Quant, qc: Quant, dtypes: tuple[DType, DType, DType]) \
        -> tuple[PairForm, Array | None]:
    """The form of a sum, and the table [256] i64 that it needs if none could be proved.

    Raises CompileError where the scales are too far apart for both.
    """
    form = solve_sum(qa, qb, qc, *dtypes)
    if form is not None:
        return (form.a_multiplier, form.b_multiplier, form.offset, form.shift, int(form.to_even), int(form.wide)), None
    ratio = np.float32(qa.scale) / np.float32(qc.scale)
    significand, exponent = np.frexp(np.float64(ratio))
    shift = max(int(24 - exponent), _GUARD)
    multiplier = int(np.ldexp(significand, 24)) << (shift - int(24 - exponent))
    inner = _inner_sums(qa, qb, qc, dtypes[1])
    op.require(256.0 * multiplier + float(np.abs(inner).max()) * 2.0**shift < 2.0**62,
               "the scales {}, {} and {} are too far apart for exact sums", qa.scale, qb.scale, qc.scale)
    exact = np.ldexp(inner.astype(np.float64), shift)
    whole = np.floor(exact)
    table = whole.astype(np.int64) | (exact != whole).astype(np.int64)
    return (multiplier, 0, 0, shift, 0, 1), table


def _inner_sums(qa: Quant, qb: Quant, qc: Quant, dtype: DType) -> Array:
    """fma(b, rb, fx) of QLinearAdd for b = 0, ..., 255 (as an unsigned byte), f32."""
    b = np.arange(256).astype(np.uint8).view(dtype.numpy).astype(np.float32)
    ra, rb = (np.float32(q.scale) / np.float32(qc.scale) for q in (qa, qb))
    offset = fused_multiply_add(np.asarray(qa.zero_point, np.float32), np.asarray(ra),
                                np.asarray(rb * np.float32(qb.zero_point)))
    fixed = np.asarray(np.float32(qc.zero_point) - offset, np.float32)
    return fused_multiply_add(b, np.asarray(rb), fixed)


def product_form(op: Op, qa: Quant, qb: Quant, qc: Quant, dtypes: tuple[DType, DType, DType]) -> PairForm:
    """The form of a product. Raises CompileError where the scales are too far apart."""
    scale = np.float32(np.float32(qa.scale) * np.float32(qb.scale)) / np.float32(qc.scale)
    op.require(2.0**-100 < float(scale) < 2.0**24, "the scales {}, {} and {} are too far apart", qa.scale, qb.scale,
               qc.scale)
    ends = [(x - qa.zero_point) * (y - qb.zero_point) for x in dtypes[0].range for y in dtypes[1].range]
    form = solve(np.asarray([scale]), qc.zero_point, dtypes[2], np.asarray([min(ends)]), np.asarray([max(ends)]),
                 zero_first=True)
    zeros = (qa.zero_point, qb.zero_point)
    if form.proved[0]:
        return (*zeros, int(form.multiplier[0]), int(form.rounding[0]), int(form.shift[0]), qc.zero_point)
    significand, exponent = np.frexp(np.float64(scale))
    shift = int(np.clip(24 - exponent, 0, 62))
    return (*zeros, -int(np.ldexp(significand, 24)), 0, shift, qc.zero_point)


def apply_pair(function: PairFunction, form: PairForm, a: Array, b: Array, table: Array | None, dtype: DType) -> Array:
    """What the C computes, in numpy."""
    if function == "mul":
        return _apply_product(form, a, b, dtype)
    if table is None:
        ma, mb, offset, shift, to_even, wide = form
        return apply_sum(SumForm(ma, mb, offset, shift, bool(to_even), bool(wide)), a, b, dtype)
    total = a.astype(np.int64) * form[0] + table[b.view(np.uint8)]
    return saturate(round_single(total, form[3]), dtype)


def _apply_product(form: PairForm, a: Array, b: Array, dtype: DType) -> Array:
    a_zero, b_zero, multiplier, rounding, shift, zero = form
    product = (a.astype(np.int64) - a_zero) * (b.astype(np.int64) - b_zero)
    if multiplier >= 0:
        return saturate((product * multiplier + rounding) >> shift, dtype)
    scale = np.ldexp(np.float64(-multiplier), -shift).astype(np.float32)
    empty = np.zeros(1, np.int64)
    emulated = Requant(empty, empty, empty, empty.astype(bool), scale[None], zero, dtype, True)
    return apply_emulated(emulated, product[..., None])[..., 0]


def pair_statement(function: PairFunction, form: PairForm, has_table: bool, dtype: DType) -> str:
    """Statements that set {y}, of type `dtype`, from the elements {a} and {b}."""
    low, high = dtype.range
    kind = c_type(dtype)
    if function == "mul":
        return _product_statement(form, dtype)
    ma, mb, offset, shift, to_even, wide = form
    if has_table:
        return f"{{y}} = ({kind})tc_sum_single({{a}} * INT64_C({ma}) + table[(uint8_t){{b}}], {shift}, {low}, {high});"
    total = f"{{a}} * {_literal(ma, wide)} + ({{b}} * {_literal(mb, wide)} + {_literal(offset, wide)})"
    shifted = f"(t - ((t >> {shift}) & 1)) >> {shift}" if to_even else f"t >> {shift}"
    return fill("""
        const {width} t = {total};
        {y} = ({kind})({clamp}(({shifted}){up}, 0, {most}){down});
    """, width="int64_t" if wide else "int32_t", total=total, kind=kind, clamp="tc_clamp_wide" if wide else "tc_clamp",
                shifted=shifted, up=plus(-low), down=plus(low), most=high - low)


def _literal(value: int, wide: int) -> str:
    text = f"INT64_C({abs(value)})" if wide else str(abs(value))
    return f"(-{text})" if value < 0 else text


def _product_statement(form: PairForm, dtype: DType) -> str:
    a_zero, b_zero, multiplier, rounding, shift, zero = form
    low, high = dtype.range
    kind = c_type(dtype)
    product = f"({{a}} - ({a_zero})) * ({{b}} - ({b_zero}))"
    if multiplier < 0:
        arguments = f"{product}, {-multiplier}u, {shift}, {zero}, {low}, {high}"
        return f"{{y}} = ({kind})tc_scale_single_offset({arguments});"
    from_least = f"INT64_C({rounding - (low << shift)})"
    value = f"{requantize_function(shift)}({product}, {multiplier}, {from_least}, {shift}, {high - low})"
    return f"{{y}} = ({kind})({value}{plus(low)});"
