"""From int32 sums to stored 8-bit values, exactly as onnxruntime rounds: shared by all integer kernels.

    y = least value + clamp((sum * multiplier + rounding) >> shift)          at least 0, as cores have instructions for

`tinyir.requant` proves this form equal to the single-precision product of the reference, channel by channel. One shift
serves all channels of a layer and is a literal; the multiplier (int32) and the rounding constant (int64, with the zero
point of y in it) are constants with one element a channel, or literals where all channels agree. A channel without a
proof has a negative multiplier: minus the significand of its scale, with the exponent in place of the rounding
constant, and the C computes the single-precision product with integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyir.arith import output_multiplier, saturate
from tinyir.ir import Array, Const, Value
from tinyir.lowering import Lowering
from tinyir.opdef import Op
from tinyir.ops.quant import quant_of
from tinyir.requant import Requant, apply_emulated, solve
from tinyir.types import I32, DType, Quant

from .qtile import plus

__all__ = ["Scaling", "Stored", "apply_stored", "clamp_of", "requantize_function", "requantized", "scaling_of", "store",
           "stored_from_sums", "sum_range"]

Clamp = tuple[int, int]
_LEAST_SCALE = 2.0**-38
"""Scales below it give the zero point for every int32, as this one does."""
_GREATEST_SCALE = 2.0**24
_INT32 = (-(2**31), 2**31 - 1)


@dataclass(frozen=True, eq=False)
class Scaling:
    """What a layer needs to store its sums."""

    multiplier: Array  # [O] i32
    rounding: Array    # [O] i64, of a result that may be negative
    shift: int
    proved: Array      # [O] bool

    def remark(self, opname: str) -> str:
        """How many channels have which form."""
        count, proved = self.proved.size, int(self.proved.sum())
        channels = "1 channel" if count == 1 else f"{count} channels"
        rest = f", {count - proved} with the emulated product" if proved < count else ""
        return f"{opname}: {channels}: {proved} proved with one 64-bit multiply{rest}"


def scaling_of(op: Op, scale: Array, zero_point: int, dtype: DType, low: Array, high: Array) -> Scaling:
    """The form of each channel: `scale` [O] is f32(f32(xs * ws) / ys), sums lie in [low, high] ([O] each).

    Raises CompileError for results that are not 8 bits wide and for scales out of range.
    """
    op.require(dtype.bits == 8, "the result is {}, expected 8-bit integers or i32", dtype)
    scale = np.maximum(np.asarray(scale, np.float32).reshape(-1), np.float32(_LEAST_SCALE))
    op.require(bool(np.all(scale < _GREATEST_SCALE)), "a scale of the result is {} times too small",
               float(scale.max()))
    shift = int(np.clip(31 - np.frexp(scale.astype(np.float64))[1], 0, 52).min())
    form = solve(scale, zero_point, dtype, low, high, shift=shift)
    significand, exponent = np.frexp(scale.astype(np.float64))
    emulated = -np.ldexp(significand, 24).astype(np.int64)
    multiplier = np.where(form.proved, form.multiplier, emulated).astype(np.int32)
    rounding = np.where(form.proved, form.rounding, np.clip(24 - exponent, 0, 62)).astype(np.int64)
    return Scaling(multiplier, rounding, shift, form.proved)


def sum_range(x: DType, x_zero: int, weight: Array, bias: Array | None) -> tuple[Array, Array]:
    """The least and the greatest sum of each output channel, before they wrap around in int32.

    `weight` [O, K] holds differences from the weight's zero point, `bias` [O] may be absent.
    """
    low, high = x.range[0] - x_zero, x.range[1] - x_zero
    wide = weight.astype(np.int64)
    start = np.zeros(len(wide), np.int64) if bias is None else bias.astype(np.int64)
    return (start + np.minimum(wide * low, wide * high).sum(axis=1),
            start + np.maximum(wide * low, wide * high).sum(axis=1))


def clamp_of(dtype: DType, clamp: Clamp | None) -> Clamp:
    """The values that a result may take: those of its type, and of its clamp if it has one."""
    low, high = dtype.range
    return (low, high) if clamp is None else (max(low, clamp[0]), min(high, clamp[1]))


@dataclass(frozen=True)
class Stored:
    """The part of a kernel that turns sums into stored values: its operands and attributes.

    `clamp` is None where the result is the int32 sum itself. `common` holds the multiplier and the rounding constant
    where these are the same for all channels and there is no operand for them.
    """

    multiplier: Value | None
    rounding: Value | None
    common: tuple[int, int]
    shift: int
    zero: int
    clamp: Clamp | None
    emulated: bool


_SUMS = Stored(None, None, (0, 0), 0, 0, None, False)


def stored_from_sums(op: Op, operands: tuple[Value, Value], clamp: Clamp | None, bounds: tuple[Array, Array],
                     low: Lowering) -> Stored:
    """How `op` stores its result, and a remark about it: a product of `operands` with sums within `bounds` ([O] each).
    """
    type_ = op.out.type
    if type_.dtype == I32:
        return _SUMS
    x, weight = operands
    quant = quant_of(op.out)
    scale = output_multiplier(quant_of(x), quant_of(weight), quant).reshape(-1)
    least, most = bounds
    wraps = (least < _INT32[0]) | (most > _INT32[1])
    least, most = np.where(wraps, _INT32[0], least), np.where(wraps, _INT32[1], most)
    scaling = scaling_of(op, np.broadcast_to(scale, least.shape), quant.zero_point, type_.dtype, least, most)
    low.remark(scaling.remark(op.opname))
    return store(scaling, quant, type_.dtype, clamp, getattr(weight, "name", "y"), low)


def store(scaling: Scaling, quant: Quant, dtype: DType, clamp: Clamp | None, name: str, low: Lowering) -> Stored:
    """The operands and attributes for `scaling`; constants are called after `name`."""
    least, most = clamp_of(dtype, clamp)
    from_least = scaling.rounding - np.where(scaling.proved, least << scaling.shift, 0)
    multiplier, first = _constant(f"{name}.multiplier", scaling.multiplier, low)
    rounding, second = _constant(f"{name}.rounding", from_least, low)
    return Stored(multiplier, rounding, (first, second), scaling.shift, quant.zero_point, (least, most),
                  not bool(scaling.proved.all()))


def _constant(name: str, values: Array, low: Lowering) -> tuple[Const | None, int]:
    """A constant with one element a channel, or the one value that all channels share."""
    if np.all(values == values[0]):
        return None, int(values[0])
    return low.const(name, values), 0


def requantized(stored: Stored, total: str, channel: str) -> str:
    """C expression for what is stored for the sum `total` of channel `channel`; see `Stored`."""
    if stored.clamp is None:
        return total
    multiplier = f"multiplier[{channel}]" if stored.multiplier is not None else str(stored.common[0])
    rounding = f"rounding[{channel}]" if stored.rounding is not None else f"INT64_C({stored.common[1]})"
    low, high = stored.clamp
    zero = f"{stored.zero - low}, " if stored.emulated else ""
    function = "tc_requantize_any" if stored.emulated else requantize_function(stored.shift)
    value = f"{function}({total}, {multiplier}, {rounding}, {stored.shift}, {zero}{high - low})"
    return f"({value}{plus(low)})" if low else value


def requantize_function(shift: int) -> str:
    """The C function for proved channels with that shift."""
    return "tc_requantize" if shift >= 32 else "tc_requantize_wide"


def apply_stored(stored: Stored, sums: Array, multiplier: Array | None, rounding: Array | None, dtype: DType) -> Array:
    """What the C computes for int32 `sums` [..., O], in numpy."""
    if stored.clamp is None:
        return sums
    channels = sums.shape[-1]
    factor = _spread(multiplier, stored.common[0], channels)
    constant = _spread(rounding, stored.common[1], channels)
    least, most = stored.clamp
    wide = least + np.clip((sums.astype(np.int64) * factor + constant) >> stored.shift, 0, most - least)
    by_hand = factor < 0
    if by_hand.any():
        wide[..., by_hand] = _emulate(stored, sums[..., by_hand], -factor[by_hand], constant[by_hand])
    return saturate(wide, dtype)


def _spread(values: Array | None, common: int, channels: int) -> Array:
    return np.full(channels, common, np.int64) if values is None else values.astype(np.int64)


def _emulate(stored: Stored, sums: Array, significand: Array, exponent: Array) -> Array:
    assert stored.clamp is not None
    scale = np.ldexp(significand.astype(np.float64), -exponent).astype(np.float32)
    empty = np.zeros(scale.shape, np.int64)
    form = Requant(empty, empty, empty, empty.astype(bool), scale, stored.zero, DType("i32", 32))
    return np.clip(apply_emulated(form, sums).astype(np.int64), *stored.clamp)
