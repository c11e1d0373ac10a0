"""Matrix products of two activations in stored 8-bit integers.

    k.matmul_s8(%a, %b) -> (%y) {a_zero = 3, b_zero = -5, common = [1518500250, 137438953472], shift = 38, ...}

A sum over (a - za) * (b - zb) is the sum over (a - za) * b, less zb times the sum over (a - za), which is the same for
all columns of b.
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.ops.qconv import QMatMul
from tinyir.ops.quant import quant_of

from ..text import c_type, fill
from .base import Kernel
from .loops import broadcast_strides, nest, row_major
from .qrequant import Stored, apply_stored, requantized, stored_from_sums
from .qtile import channel_blocks, difference, plus

__all__ = ["MatMulS8"]

_COLUMNS = 4  # of a block


@final
class MatMulS8(Kernel, opname="k.matmul_s8"):
    """y = stored(sum over k of (a[..., i, k] - a_zero) * (b[..., k, j] - b_zero)), outer axes broadcast."""

    a: Value                               # [..., M, K] i8 or u8
    b: Value                               # [..., K, N] i8 or u8
    y: Written                             # [..., M, N]
    a_zero: int
    b_zero: int
    common: tuple[int, int]
    shift: int
    zero: int
    clamp: tuple[int, int] | None
    emulated: bool

    def stem(self) -> str:
        return f"matmul_s8_{self.a.type.dtype}"

    @property
    def stored(self) -> Stored:
        return Stored(None, None, self.common, self.shift, self.zero, self.clamp, self.emulated)

    def macs(self) -> int:
        return self.y.type.elements * self.a.shape[-1]

    def reference(self, a: Array, b: Array, y: Array) -> None:
        sums = (a.astype(np.float64) - self.a_zero) @ (b.astype(np.float64) - self.b_zero)
        flat = sums.astype(np.int64).astype(np.int32).reshape(-1, 1)
        y[...] = apply_stored(self.stored, flat, None, None, self.y.type.dtype).reshape(y.shape)

    @property
    def _kinds(self) -> dict[str, str]:
        return {f"{name}t": c_type(getattr(self, name).type.dtype) for name in ("a", "b", "y")}

    def source(self) -> str:
        outer = self.y.shape[:-2]
        strides = {name: tuple(s * int(np.prod(shape[-2:])) for s in broadcast_strides(shape[:-2], outer))
                   for name, shape in (("a", self.a.shape), ("b", self.b.shape))}
        strides["y"] = row_major(self.y.shape)[:-2]
        body = fill("""
            const {at} *left = &{a};
            const {bt} *right = &{b};
            {yt} *out = &{y};
            for (int32_t row = 0; row < {rows}; row++) {
                {blocks}
                left += {inner};
                out += {columns};
            }
        """, rows=self.a.shape[-2], inner=self.a.shape[-1], columns=self.b.shape[-1], **self._kinds,
                    blocks="".join(self._block(*block) for block in channel_blocks(self.b.shape[-1], _COLUMNS)))
        return fill("""
            static void {name}(const {at} *restrict a, const {bt} *restrict b, {yt} *restrict y)
            {
                {loops}
            }
        """, loops=nest(outer, strides, body) if outer else fill(body, a="a[0]", b="b[0]", y="y[0]"), **self._kinds)

    def _block(self, first: int, end: int, width: int) -> str:
        """Columns [first, end) in blocks of `width`."""
        lanes = range(width)
        sums = [f"a{i} += v * right[k * {self.b.shape[-1]} + j{plus(i)}];" for i in lanes]
        total = "\n".join(f"out[j{plus(i)}] = {self._stored(i)};" for i in lanes)
        return fill("""
            for (int32_t j = {first}; j < {end}; j += {width}) {
                int32_t {start};
                for (int32_t k = 0; k < {inner}; k++) {
                    const int32_t v = {value};
                    {offset}
                    {sums}
                }
                {total}
            }
        """, first=first, end=end, width=width, inner=self.a.shape[-1], sums="\n".join(sums), total=total,
                    start=", ".join([*(f"a{i} = 0" for i in lanes), *(["offset = 0"] if self.b_zero else [])]),
                    value=difference("left[k]", self.a_zero, self.a.type.dtype),
                    offset="offset += v;" if self.b_zero else "")

    def _stored(self, lane: int) -> str:
        total = f"a{lane} - ({self.b_zero}) * offset" if self.b_zero else f"a{lane}"
        value = requantized(self.stored, total, "0")
        return value if self.clamp is None else f"({self._kinds['yt']}){value}"


@lowers(QMatMul)
def lower_matmul(op: QMatMul, low: Lowering) -> None:
    """Prove the requantisation for all sums that the element types allow."""
    inner = op.a.shape[-1]
    op.require(inner * 256 * 256 < 2**31, "{} products do not fit 32-bit sums", inner)
    qa, qb = quant_of(op.a), quant_of(op.b)
    ends = [(x - qa.zero_point) * (y - qb.zero_point) * inner for x in op.a.type.dtype.range
            for y in op.b.type.dtype.range]
    stored = stored_from_sums(op, (op.a, op.b), None, (np.asarray([min(ends)]), np.asarray([max(ends)])), low)
    low.emit(MatMulS8(low.buffer(op.a), low.buffer(op.b), low.result(op.out), qa.zero_point, qb.zero_point,
                      stored.common, stored.shift, stored.zero, stored.clamp, stored.emulated))
