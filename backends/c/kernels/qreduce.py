"""Means of stored 8-bit integers over any axes, from int32 sums.

    k.mean_s8(%x, none) -> (%y) {axes = [1, 2], multiplier = 1431655765, rounding = ..., shift = 38, ...}

The zero point of x, times the number of elements, is where the sum starts. Where no linear form could be proved equal
to an exactly rounded mean (ties are to even, and frequent where both scales are equal) the sum is looked up among the
255 sums at which the result changes.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor
from typing import final

import numpy as np

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.ops.base import normal_axis
from tinyir.ops.qeltwise import QReduceMean
from tinyir.ops.quant import quant_of
from tinyir.requant import solve_steps

from ..text import c_type, fill
from .base import Kernel
from .loops import nest, row_major
from .mve_sums import mean_text
from .qrequant import Scaling, Stored, apply_stored, requantized, scaling_of, store

__all__ = ["MeanS8", "exact_limits"]


@final
class MeanS8(Kernel, opname="k.mean_s8"):
    """y = stored(start + sum of x over `axes`); with `limits`, least value + how many of them the sum reaches."""

    x: Value                               # i8 or u8
    limits: Value | None                   # [255] i32
    y: Written
    axes: tuple[int, ...]                  # counted from the front, in order
    start: int
    common: tuple[int, int]
    shift: int
    zero: int
    clamp: tuple[int, int]
    emulated: bool
    vector: bool = False                   # whether the core has the instructions of mve_sums

    def stem(self) -> str:
        return f"mean_s8_{self.x.type.dtype}"

    def dimensions(self) -> dict[str, int]:
        shape = self.x.shape
        if len(shape) != 4:
            return {}
        side = {"side": shape[1]} if shape[1] == shape[2] else {}
        return {**side, "height": shape[1], "width": shape[2], "channels": shape[3], "length": shape[2] * shape[3],
                "start": self.start}

    @property
    def stored(self) -> Stored:
        return Stored(None, None, self.common, self.shift, self.zero, self.clamp, self.emulated)

    def reference(self, x: Array, limits: Array | None, y: Array) -> None:
        sums = self.start + x.astype(np.int64).sum(axis=self.axes).reshape(y.shape)
        if limits is not None:
            y[...] = self.clamp[0] + np.searchsorted(limits, sums, side="right")
            return
        y[...] = apply_stored(self.stored, sums.reshape(-1, 1), None, None, self.y.type.dtype).reshape(y.shape)

    def source(self) -> str:
        shape, dense = self.x.shape, row_major(self.x.shape)
        kept = [axis for axis in range(len(shape)) if axis not in self.axes]
        kept_shape = tuple(shape[axis] for axis in kept)
        strides = {"x": tuple(dense[axis] for axis in kept), "y": row_major(kept_shape)}
        body = fill("""
            const {xt} *from = &{x};
            int32_t total = {start};
            {inside}
            {y} = ({yt}){value};
        """, xt=c_type(self.x.type.dtype), yt=c_type(self.y.type.dtype), start=self.start, inside=self._folding(),
                    value=self._value())
        loops = nest(kept_shape, strides, body)
        if self.vector:
            loops = mean_text(shape, self.axes, str(self.x.type.dtype), (c_type(self.y.type.dtype), self._value()),
                              self.start, loops)
        return fill("""
            static void {name}(const {xt} *restrict x, {limits}{yt} *restrict y)
            {
                {loops}
            }
        """, xt=c_type(self.x.type.dtype), yt=c_type(self.y.type.dtype),
                    limits="const int32_t *restrict limits, " if self.limits is not None else "",
                    loops=loops)

    def _folding(self) -> str:
        """Loops over the folded axes, counters j0, j1, ..."""
        dense = row_major(self.x.shape)
        loops = nest(tuple(self.x.shape[axis] for axis in self.axes), {"from": tuple(dense[a] for a in self.axes)},
                     "total += {from};")
        return re.sub(r"\bi(\d)", r"j\1", loops)

    def _value(self) -> str:
        if self.limits is not None:
            low, high = self.clamp
            return f"({low} + tc_count_reached(limits, {high - low}, total))"
        return requantized(self.stored, "total", "0")


@lru_cache(maxsize=256)
def exact_limits(factor: Fraction, zero_point: int, low: int, high: int) -> Array:
    """The least sum that reaches each value above `low`, [high - low] i64, of a mean by rule `exact`: the result is
    the sum times `factor`, rounded half to even, and the zero point. Remembered: means are lowered several times where
    their costs are compared.
    """
    limits = [_least_sum(value - zero_point, factor) for value in range(low + 1, high + 1)]
    return np.asarray(np.clip(np.asarray(limits, dtype=object), -(2**31), 2**31 - 1), np.int64)


def _least_sum(whole: int, factor: Fraction) -> int:
    """The least integer s with round_half_even(s * factor) >= whole."""
    tie = (whole - Fraction(1, 2)) / factor
    return ceil(tie) if whole % 2 == 0 else floor(tie) + 1


@lowers(QReduceMean)
def lower_mean(op: QReduceMean, low: Lowering) -> None:
    """Prove a form for all sums that the elements can have."""
    qx, dtype = quant_of(op.x), op.x.type.dtype
    start = -qx.zero_point * op.count
    op.require(op.count * 256 < 2**31, "the mean of {} elements does not fit 32-bit sums", op.count)
    bounds = (start + dtype.range[0] * op.count, start + dtype.range[1] * op.count)
    scaling, limits = _exact(op, bounds) if op.rule == "exact" else (_single(op, bounds), None)
    exact = "no linear form could be proved, the sums at which the result changes are searched"
    low.remark(scaling.remark(op.opname) if limits is None else f"{op.opname}: {exact}")
    stored = store(scaling, quant_of(op.out), op.out.type.dtype, None, op.out.name, low)
    assert stored.clamp is not None
    low.emit(MeanS8(
        low.buffer(op.x), None if limits is None else low.const(f"{op.out.name}.limits", limits.astype(np.int32)),
        low.result(op.out), axes=tuple(sorted(normal_axis(a, op.x.type.rank) for a in op.axes)), start=start,
        common=stored.common, shift=stored.shift, zero=stored.zero, clamp=stored.clamp, emulated=stored.emulated,
        vector=low.target.mve))


def _single(op: QReduceMean, bounds: tuple[int, int]) -> Scaling:
    qx, qy = quant_of(op.x), quant_of(op.out)
    scale = np.float32(qx.scale) / np.float32(np.float32(qy.scale) * np.float32(op.count))
    ends = (np.asarray([end], np.int64) for end in bounds)
    return scaling_of(op, np.asarray([scale]), qy.zero_point, op.out.type.dtype, *ends)


def _exact(op: QReduceMean, bounds: tuple[int, int]) -> tuple[Scaling, Array | None]:
    qx, qy, dtype = quant_of(op.x), quant_of(op.out), op.out.type.dtype
    op.require(dtype.bits == 8, "the result is {}, expected 8-bit integers", dtype)
    factor = Fraction(float(np.float32(qx.scale))) / (op.count * Fraction(float(np.float32(qy.scale))))
    limits = exact_limits(factor, qy.zero_point, *dtype.range)
    form = solve_steps(limits, float(factor), qy.zero_point, dtype, *bounds)
    scaling = Scaling(form.multiplier.astype(np.int32), form.rounding, int(form.shift[0]), np.ones(1, bool))
    return scaling, None if form.proved[0] else limits
