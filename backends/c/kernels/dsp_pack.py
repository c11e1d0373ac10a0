"""What the kernels for Cortex-M with DSP read of constants: one stream of words in the order in which they do.

    for each group of 2 (tc_columns) or 4 (tc_vector) output channels:
        a bias for each | for each four inputs a word of weights for each channel | multiplier, rounding for each

`plan_layer` decides how a layer is coded: "paired" weights where |w| <= 127 and 256 times every true sum fits in an
int32, else "plain" ones; and how results are stored: with the high word of one product where `tinyir.requant` proves
that equal to the reference, else by a product in single precision on the FPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyir.arith import output_multiplier, requantize
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering
from tinyir.opdef import Op
from tinyir.ops.quant import quant_of
from tinyir.requant import solve
from tinyir.types import DType

from .dsp_shift import greatest_shift, shared_shift
from .dsp_text import Coding
from .qrequant import clamp_of, sum_range

__all__ = ["GUARDS", "Plan", "Scalings", "column_order", "offset_of", "pack_stream", "plan_layer", "scalings_of",
           "stored_values", "unpack_stream"]

GUARDS: dict[str, int] = {"paired": 8, "plain": 0}
"""What power of two the sums are kept times."""
_PLAIN: tuple[Coding, int] = "plain", GUARDS["plain"]
_LEAST_SCALE = 2.0**-38
"""Scales below it give the zero point for every int32, as this one does."""
_SHIFT_STEP = 8
"""Shifts of layers that cannot have the one of others are multiples of it."""


@dataclass(frozen=True, eq=False)
class Scalings:
    """How the sums of each channel become stored values, all [O] u32: see tc_requantize_high."""

    multiplier: Array
    rounding: Array


@dataclass(frozen=True, eq=False)
class Plan:
    """How a layer is coded. Channels whose results are all the same have weights and biases of zero here."""

    weight: Array  # [O, K] i8
    bias: Array    # [O] i64
    coding: Coding
    shift: int
    guard: int     # sums are kept times two to this power
    scalings: Scalings


def plan_layer(op: Op, operands: tuple[Value, Value], weight: Array, bias: Array | None, low: Lowering, *,
               halves: bool = False, once: bool = False, most: int = 8) -> Plan | None:
    """How to compute `op`, a sum of products of `operands`, with `weight` [O, K] (differences from the zero point) and
    `bias` [O]. With `halves` weights have 16 bits of their own, and any guard up to `most` will do. With `once` each
    weight is used once: the layer takes the form that others take as well rather than the fastest. None if the
    instructions cannot compute it: the portable kernels then have to.
    """
    x, stored = operands
    dtype, zero = op.out.type.dtype, quant_of(x).zero_point
    clamp = getattr(op, "clamp", None)
    if not low.target.dsp or dtype.bits != 8 or weight.dtype != np.int8 or clamp_of(dtype, clamp) != dtype.range:
        return None
    scale = output_multiplier(quant_of(x), quant_of(stored), quant_of(op.out)).reshape(-1)
    scale = np.maximum(np.broadcast_to(scale, len(weight)), np.float32(_LEAST_SCALE))
    bounds = sum_range(x.type.dtype, zero, weight, bias)
    if max(-int(bounds[0].min()), int(bounds[1].max())) >= 2**31:
        return None
    y_zero = quant_of(op.out).zero_point
    ends = [requantize(b, scale, y_zero, dtype).astype(np.int64) for b in bounds]
    varies = ends[0] != ends[1]
    weight = np.where(varies[:, None], weight, 0).astype(np.int8)
    start = np.where(varies, 0 if bias is None else bias.astype(np.int64), 0)
    bounds = np.where(varies, bounds[0], 0), np.where(varies, bounds[1], 0)
    once = once and not low.integer_only
    # Weights that are used once take as long in both codings, and any layer can have the plain one.
    coding, guard = _coding(weight, bounds, halves, most) if not once else _PLAIN
    by_float = not low.integer_only and (once or guard == GUARDS["paired"])
    shift = shift_for(shared_shift(op, low.memo), scale[varies], guard, by_float=by_float)
    if shift is None:
        return None
    scalings = scalings_of(scale, y_zero, dtype, bounds, shift, guard)
    constant = Scalings(np.where(varies, scalings.multiplier, 0).astype(np.uint32), np.where(
        varies, scalings.rounding, (ends[0] << shift).astype(np.int32).view(np.uint32)))
    rest = constant.multiplier >= 2**31
    if rest.any() and (low.integer_only or scale[rest].min() < 2.0**-30 or scale.max() >= 2.0**7):
        return None
    low.remark(_remark(op.opname, len(weight), int(rest.sum())))
    return Plan(weight, start, coding, shift, guard, constant)


def offset_of(x: Value) -> int:
    """What the functions that unpack bytes of x subtract: 128 of unsigned ones."""
    return 0 if x.type.dtype.is_signed else 128


def _remark(opname: str, channels: int, rest: int) -> str:
    by_float = f", {rest} with a product in single precision" if rest else ""
    return f"{opname}: {channels} channels: {channels - rest} proved with the high word of a product{by_float}"


def _coding(weight: Array, bounds: tuple[Array, Array], halves: bool, most: int) -> tuple[Coding, int]:
    """The coding, and the guard: as great as sums allow, with 16-bit weights up to `most`."""
    reach = max(-int(bounds[0].min()), int(bounds[1].max()), 1)
    room = 31 - reach.bit_length()
    if halves:
        return "plain", min(room, most)
    paired = room >= GUARDS["paired"] and int(weight.min(initial=0)) > -128
    return ("paired", GUARDS["paired"]) if paired else ("plain", GUARDS["plain"])


def shift_for(shared: int, scale: Array, guard: int, *, by_float: bool) -> int | None:
    """The shift of a layer whose results vary in channels of these scales: the one that it can share with others, or
    the greatest with which all multipliers stay below 2^31; None if there is none. Channels for which the shared one is
    too great may be left to the FPU with `by_float`.
    """
    most = greatest_shift(scale, guard) if scale.size else _SHIFT_STEP
    if 0 < shared <= most or (shared > 0 and by_float):
        return shared
    return most // _SHIFT_STEP * _SHIFT_STEP if most >= _SHIFT_STEP else most if most > 0 else None


def scalings_of(scale: Array, zero_point: int, dtype: DType, bounds: tuple[Array, Array], shift: int, guard: int) \
        -> Scalings:
    """The form of each channel for true sums in `bounds`, which the kernel keeps times 2^guard.

    saturate((rounding + (sum * multiplier >> 32)) >> shift) is the 64-bit form of `requant` with a rounding constant
    that is a multiple of 2^32, or of 2^(32 - guard) in units of the true sums.
    """
    form = solve(scale, zero_point, dtype, *bounds, shift=32 + shift - guard, step=1 << (32 - guard))
    rounding = form.rounding >> (32 - guard)
    proved = form.proved & (np.abs(rounding) < 2**30)
    negative = np.negative(np.ldexp(scale, -guard).astype(np.float32)).view(np.uint32)
    return Scalings(np.where(proved, form.multiplier, negative).astype(np.uint32),
                    np.where(proved, rounding, zero_point).astype(np.int32).view(np.uint32))


def stored_values(sums: Array, scalings: Scalings, zero_and_type: tuple[int, DType], shift: int, guard: int) -> Array:
    """What is stored for true sums [..., O], int64: tc_requantize_high in numpy."""
    multiplier, rounding = scalings.multiplier.astype(np.int64), scalings.rounding.view(np.int32).astype(np.int64)
    zero, dtype = zero_and_type
    high = ((sums << guard) * multiplier >> 32) + rounding
    result = np.asarray(np.clip(high >> shift, *dtype.range).astype(dtype.numpy))
    by_float = multiplier >= 2**31
    if by_float.any():
        scale = np.ldexp(np.negative(scalings.multiplier[by_float].view(np.float32)), guard)
        result[..., by_float] = requantize(sums[..., by_float], scale, zero, dtype)
    return result


def column_order(weight: Array, coding: Coding) -> Array:
    """Words [O, ceil(K / 4)] u32 of weights [O, K] i8, filled up with zeros."""
    outputs, inputs = weight.shape
    full = np.zeros((outputs, -(-inputs // 4) * 4), np.int64)
    full[:, :inputs] = weight
    if coding == "plain":
        return np.asarray(np.ascontiguousarray(full.astype(np.int8)).view(np.uint32))
    halves = full[:, 0::2] + 256 * full[:, 1::2]
    return np.asarray(np.ascontiguousarray(halves.astype(np.int16)).view(np.uint32))


def pack_stream(weight: Array, bias: Array, scalings: Scalings, coding: Coding, lanes: int) -> Array:
    """The stream [groups, words] u32 of `lanes` channels a group, from weights [O, K] i8 and biases [O] i64 of true
    sums, in which the zero point of x is folded.
    """
    words = column_order(weight, coding)
    start = bias.astype(np.int64) << GUARDS[coding]
    if coding == "paired":
        start = start - 127 * weight[:, 0::2].astype(np.int64).sum(axis=1)
    pairs = np.stack([scalings.multiplier, scalings.rounding], axis=1)
    groups = -(-len(weight) // lanes)

    def grouped(values: Array) -> Array:
        full = np.zeros((groups * lanes, *values.shape[1:]), np.uint32)
        full[:len(values)] = values
        return full.reshape(groups, lanes, -1)

    parts = [grouped(start.astype(np.int32).view(np.uint32)[:, None]).reshape(groups, -1),
             grouped(words).transpose(0, 2, 1).reshape(groups, -1), grouped(pairs).reshape(groups, -1)]
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


def unpack_stream(stream: Array, lanes: int, shape: tuple[int, int], coding: Coding) -> tuple[Array, Array, Scalings]:
    """The inverse of `pack_stream` for weights of `shape` [O, K]: weights, biases, scalings."""
    outputs, inputs = shape
    groups, steps = len(stream), -(-inputs // 4)
    start = stream[:, :lanes].reshape(-1)[:outputs].view(np.int32).astype(np.int64)
    words = stream[:, lanes:lanes + lanes * steps].reshape(groups, steps, lanes).transpose(0, 2, 1)
    words = np.ascontiguousarray(words).reshape(groups * lanes, steps)[:outputs]
    if coding == "plain":
        weight = words.view(np.int8)[:, :inputs]
    else:
        halves = words.view(np.int16).astype(np.int64)
        even = halves.astype(np.int8).astype(np.int64)
        weight = np.stack([even, (halves - even) >> 8], axis=2).reshape(outputs, -1)[:, :inputs].astype(np.int8)
        start = start + 127 * weight[:, 0::2].astype(np.int64).sum(axis=1)
    pairs = stream[:, lanes + lanes * steps:].reshape(-1, 2)[:outputs]
    scalings = Scalings(np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1]))
    return weight, start >> GUARDS[coding], scalings
