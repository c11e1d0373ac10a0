"""1x1 convolutions on top of int32 sums of other channels: qnn.project.

    k.project_s8(%x, @w, @b, %sums, @w.multiplier, @w.rounding) -> (%y) {shift = 38, ...}

The zero point of x is in @b.
"""

from __future__ import annotations

from typing import ClassVar, final

import numpy as np

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers, streams
from tinyir.opdef import Written
from tinyir.ops.qconv import QConv2D
from tinyir.ops.qproject import QProject
from tinyir.ops.quant import quant_of

from ..text import fill
from .base import RowKernel
from .qconv import choose_lanes, choose_pixels
from .qrequant import stored_from_sums, sum_range
from .qruns import lane_loops
from .qsums import StoresSums, differences, elements, packed, sum_fields
from .qtile import SumTile

__all__ = ["ProjectS8"]

_INT32 = (-(2**31), 2**31 - 1)


@final
class ProjectS8(StoresSums, RowKernel, opname="k.project_s8"):
    """y[n, i, j, o] = stored(sums[n, i, j, o] + bias[o] + sum over c of x[n, i, j, c] * weight[o, c])."""

    batched: ClassVar[tuple[str, ...]] = ("x", "sums", "y")
    rings: ClassVar[tuple[str, ...]] = ("x", "sums", "y")

    x: Value                                # [N, ring, W, C] i8 or u8
    weight: Value                           # [O, C] i8, or i16 where zero points ask for it
    bias: Value                             # [O] i32: what the zero point of x adds
    sums: Value                             # [N, ring, W, O] i32
    multiplier: Value | None                # [O] i32
    rounding: Value | None                  # [O] i64
    y: Written                              # [N, ring, W, O]
    common: tuple[int, int]
    shift: int
    zero: int
    clamp: tuple[int, int] | None
    emulated: bool
    pixels: int                             # of a block
    lanes: int                              # output channels of a block
    rows: tuple[int, int]
    height: int
    x_base: int = 0
    sums_base: int = 0
    y_base: int = 0

    def macs(self) -> int:
        rows = self.rows[1] - self.rows[0]
        return self.x.shape[0] * rows * self.y.shape[2] * self.weight.type.elements

    def reference(self, x: Array, weight: Array, bias: Array, sums: Array, multiplier: Array | None,
                  rounding: Array | None, y: Array) -> None:
        rows, start = self.read_rows("x", x)[0], self.read_rows("sums", sums)[0]
        products = rows.astype(np.float64) @ weight.astype(np.float64).T
        self.write_rows("y", y, self.finish(products.astype(np.int64) + bias + start, multiplier, rounding))

    def source(self) -> str:
        def block(lanes: int) -> str:
            tile = SumTile(self.pixels, lanes, self.x.shape[3], self.x.type.dtype, wraps=True)
            return "int32_t pixel = 0;\n" + "".join(
                self._strip(tile, size) for size in dict.fromkeys([self.pixels, 1]))

        kinds = {"multiplier": "int32_t", "rounding": "int64_t"}
        tables = [f"const {kind} *restrict {name}" for name, kind in kinds.items() if getattr(self, name) is not None]
        pointers = ", ".join(["const {xt} *restrict x", "const {wt} *restrict weight", "const int32_t *restrict bias",
                              "const int32_t *restrict sums", *tables, "{yt} *restrict y"])
        return fill("""
            static void {name}({pointers}, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const {xt} *in = {x_row};
                    const int32_t *start = {sums_row};
                    {yt} *out_row = y + {y_slot} * {pitch};
                    {loops}
                }
            }
        """, pointers=fill(pointers, **self.kinds).strip(), rows=self.row_parameters(), setup=self.row_setup(),
                    x_row=self.address("x", "row"), sums_row=self.address("sums", "row"), y_slot=self.slot("y", "row"),
                    pitch=self.pitch("y"), loops=lane_loops(self.y.shape[3], self.lanes, "", block), **self.kinds)

    def _strip(self, tile: SumTile, size: int) -> str:
        """The pixels of a row, `size` at a time, for some channels from `o` on."""
        width, inputs, outputs = self.x.shape[2], self.x.shape[3], self.y.shape[3]
        names = [(pixel, lane) for pixel in range(size) for lane in range(tile.lanes)]
        first = ", ".join(f"a{p}_{lane} = (uint32_t)bias[o + {lane}] + (uint32_t)from[{p * outputs + lane}]"
                          for p, lane in names)
        return fill("""
            for (; {condition}; pixel += {size}) {
                const {xt} *xs = in + pixel * {inputs};
                const {wt} *ws = weight + o * {inputs};
                const int32_t *from = start + pixel * {outputs} + o;
                {yt} *out = out_row + pixel * {outputs} + o;
                uint32_t {first};
                {inner}
                {stores}
            }
        """, condition=f"pixel + {size} <= {width}" if size > 1 else f"pixel < {width}", size=size, inputs=inputs,
                    outputs=outputs, first=first, inner=tile.accumulate((0, size), inputs, inputs),
                    stores=self.store_tile(tile, size, "out", outputs, "o"), **self.kinds)


@lowers(QProject)
def lower_project(op: QProject, low: Lowering) -> None:
    """Fold the zero point, prove the requantisation for the sums that can be, and compute all rows."""
    weight = differences(op.weight, op)
    weight = weight.reshape(len(weight), -1)
    zero = quant_of(op.x).zero_point
    least, most = sum_range(op.x.type.dtype, zero, weight, None)
    below, above = _sums_range(op.sums, op)
    stored = stored_from_sums(op, (op.x, op.weight), op.clamp, (least + below, most + above), low)
    folded = -zero * weight.astype(np.int64).sum(axis=1)
    constants = packed(op.weight.name, weight, folded, low)
    height = op.out.shape[1]
    low.emit(ProjectS8(
        low.buffer(op.x), *constants, low.buffer(op.sums), y=low.result(op.out), pixels=choose_pixels(op.out.shape[2]),
        lanes=choose_lanes(len(weight)), rows=(0, height), height=height, **sum_fields(stored)))


def _sums_range(sums: Value, op: QProject) -> tuple[Array, Array]:
    """The least and the greatest sum of each output channel, before they wrap around in int32."""
    maker = sums.defining(QConv2D)
    if maker is None:
        return np.full(sums.shape[3], _INT32[0], np.int64), np.full(sums.shape[3], _INT32[1], np.int64)
    weight = differences(maker.weight, op)
    bias = None if maker.bias is None else elements(maker.bias, op)
    return sum_range(maker.x.type.dtype, quant_of(maker.x).zero_point, weight.reshape(len(weight), -1), bias)


streams(QProject)
