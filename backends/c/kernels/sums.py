"""Layers that sum over all channels, when these come part by part: 1x1 convolutions and dense layers.

    k.start_sums(@b) -> (%s)                                      in front of the parts: the biases
    mem.loop() {steps = 8, over = parts} {
      ...
      k.add_sums_s8(%d, %w_part) -> (%s) {lanes = 4, ...}         what a part of the channels adds
    }
    k.store_sums_s8(%s, @w.multiplier, @w.rounding) -> (%y) {...}

Integers are summed in int32, of which there is one for each element of the result. Floats are summed in the result
itself, in the order of the parts; an activation follows in place.
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyir.ir import Array, Const, Value
from tinyir.lowering import Lowering, part_form
from tinyir.opdef import Op, Written
from tinyir.types import I32, BufferType

from ..text import c_type, fill
from .base import Kernel, RowKernel
from .blocking import unpack_weights
from .conv import ConvF32
from .dense import DenseF32
from .eltwise import Map
from .parts import channel_parts
from .qconv import ConvS8, choose_lanes, choose_pixels
from .qdense import DenseS8
from .qrequant import Stored, apply_stored, requantized
from .qruns import lane_loops
from .qtile import SumTile
from .weights import reshaped

__all__ = ["AddSumsF32", "AddSumsS8", "StartSums", "StoreSumsS8"]


@final
class StartSums(Kernel, opname="k.start_sums"):
    """y[p, o] = bias[o]."""

    bias: Value                             # [O] i32 or f32
    y: Written                              # [1, H, W, O]

    def stem(self) -> str:
        return f"{super().stem()}_{self.y.type.dtype}"

    def reference(self, bias: Array, y: Array) -> None:
        y[...] = bias.reshape(-1)[:y.shape[3]]

    def source(self) -> str:
        return fill("""
            static void {name}(const {kind} *restrict bias, {kind} *restrict y)
            {
                for (int32_t pixel = 0; pixel < {pixels}; pixel++, y += {outputs}) {
                    for (int32_t o = 0; o < {outputs}; o++) {
                        y[o] = bias[o];
                    }
                }
            }
        """, kind=c_type(self.y.type.dtype), pixels=self.y.type.elements // self.y.shape[3], outputs=self.y.shape[3])


class _AddSums(RowKernel):
    """What both kinds of sums have in common; x and y are pixels that lie behind each other."""

    def _rows_text(self, body: str) -> str:
        """A loop over the pixels of a row from `in` to `out`, `pixel` the first of them, around `body`."""
        width, inputs, outputs = self._sizes
        return fill("""
            {setup}
            for (int32_t row = row_begin; row < row_end; row++) {
                const {xt} *in = {x_row};
                {yt} *total = y + row * {pitch};
                {body}
            }
        """, setup=self.row_setup(), x_row=self.address("x", "row"), pitch=width * outputs, body=body, inputs=inputs)

    @property
    def _sizes(self) -> tuple[int, int, int]:
        """Pixels of a row, channels of a part of x, channels of y."""
        x, y = (getattr(self, name) for name in ("x", "y"))
        return x.shape[2], x.shape[3], y.shape[3]


@final
class AddSumsS8(_AddSums, opname="k.add_sums_s8"):
    """y[p, o] += sum over the channels c of a part of (x[p, c] - x_zero) * weight[o, c]."""

    x: Value                                # [1, ring, W, channels of a part] i8 or u8
    weight: Value                           # [O, channels of a part] i8 or i16
    y: Written                              # [1, H, W, O] i32
    x_zero: int
    wraps: bool
    pixels: int                             # of a block
    lanes: int                              # channels of a block
    rows: tuple[int, int]
    height: int
    x_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return f"{super().stem()}_{self.x.type.dtype}"

    def macs(self) -> int:
        width, inputs, outputs = self._sizes
        return (self.rows[1] - self.rows[0]) * width * inputs * outputs

    def reference(self, x: Array, weight: Array, y: Array) -> None:
        rows, _ = self.read_rows("x", x)
        flat = (rows.astype(np.float64) - self.x_zero).reshape(-1, x.shape[3])
        sums = (flat @ weight.astype(np.float64).reshape(y.shape[3], -1).T).astype(np.int64)
        y[:, slice(*self.rows)] += sums.astype(np.int32).reshape((*rows.shape[:3], y.shape[3]))

    def source(self) -> str:
        width, inputs, outputs = self._sizes
        kinds = {"xt": c_type(self.x.type.dtype), "wt": c_type(self.weight.type.dtype), "yt": "int32_t"}

        def block(lanes: int) -> str:
            tile = SumTile(self.pixels, lanes, inputs, self.x.type.dtype, self.x_zero, self.wraps)
            return self._strips(tile, width, inputs, outputs)

        loops = lane_loops(outputs, self.lanes, "", block)
        return fill("""
            static void {name}(const {xt} *restrict x, const {wt} *restrict weight, int32_t *restrict y, {rows})
            {
                {body}
            }
        """, rows=self.row_parameters(), body=fill(self._rows_text(loops), **kinds), **kinds)

    def _strips(self, tile: SumTile, width: int, inputs: int, outputs: int) -> str:
        """All pixels of a row, `tile.pixels` at a time, for some channels."""
        text = "int32_t pixel = 0;\n"
        for size in dict.fromkeys([tile.pixels, 1]):
            condition = f"pixel + {size} <= {width}" if size > 1 else f"pixel < {width}"
            stores = "\n".join(f"to[o + {p * outputs + lane}] = {tile.total(p, lane)};"
                               for p in range(size) for lane in range(tile.lanes))
            text += fill("""
                for (; {condition}; pixel += {size}) {
                    const {xt} *xs = in + pixel * {inputs};
                    const {wt} *ws = weight + o * {inputs};
                    int32_t *to = total + pixel * {outputs};
                    {start}
                    {inner}
                    {stores}
                }
            """, condition=condition, size=size, inputs=inputs, outputs=outputs, stores=stores,
                         start=tile.start("to", [p * outputs for p in range(size)]),
                         inner=tile.accumulate((0, size), inputs, inputs))
        return text


@final
class AddSumsF32(_AddSums, opname="k.add_sums_f32"):
    """y[p, o] += sum over the channels c of a part of x[p, c] * weight[o, c]."""

    x: Value                                # [1, ring, W, channels of a part]
    weight: Value                           # [O, channels of a part]
    y: Written                              # [1, H, W, O]
    lanes: int                              # channels of a block
    rows: tuple[int, int]
    height: int
    x_base: int = 0
    y_base: int = 0

    def macs(self) -> int:
        width, inputs, outputs = self._sizes
        return (self.rows[1] - self.rows[0]) * width * inputs * outputs

    def reference(self, x: Array, weight: Array, y: Array) -> None:
        rows, _ = self.read_rows("x", x)
        flat = rows.reshape(-1, x.shape[3])
        y[:, slice(*self.rows)] += (flat @ weight.reshape(y.shape[3], -1).T).reshape((*rows.shape[:3], y.shape[3]))

    def source(self) -> str:
        width, inputs, outputs = self._sizes

        def block(lanes: int) -> str:
            names = [f"a{lane}" for lane in range(lanes)]
            return fill("""
                for (int32_t pixel = 0; pixel < {width}; pixel++) {
                    const float *xs = in + pixel * {inputs};
                    const float *ws = weight + o * {inputs};
                    float *to = total + pixel * {outputs} + o;
                    float {start};
                    for (int32_t c = 0; c < {inputs}; c++) {
                        const float v = xs[c];
                        {sums}
                    }
                    {stores}
                }
            """, width=width, inputs=inputs, outputs=outputs,
                        start=", ".join(f"{name} = to[{lane}]" for lane, name in enumerate(names)),
                        sums="\n".join(f"{name} += v * ws[c + {lane * inputs}];" for lane, name in enumerate(names)),
                        stores="\n".join(f"to[{lane}] = {name};" for lane, name in enumerate(names)))

        loops = lane_loops(outputs, self.lanes, "", block)
        return fill("""
            static void {name}(const float *restrict x, const float *restrict weight, float *restrict y, {rows})
            {
                {body}
            }
        """, rows=self.row_parameters(), body=fill(self._rows_text(loops), xt="float", yt="float"))


@final
class StoreSumsS8(Kernel, opname="k.store_sums_s8"):
    """y[p, o] = stored(sums[p, o])."""

    sums: Value                             # [1, H, W, O] i32
    multiplier: Value | None                # [O] i32
    rounding: Value | None                  # [O] i64
    y: Written                              # [1, H, W, O] i8 or u8
    common: tuple[int, int]
    shift: int
    zero: int
    clamp: tuple[int, int] | None
    emulated: bool

    def stem(self) -> str:
        return f"{super().stem()}_{self.y.type.dtype}"

    @property
    def stored(self) -> Stored:
        return Stored(self.multiplier, self.rounding, self.common, self.shift, self.zero, self.clamp, self.emulated)

    def reference(self, sums: Array, multiplier: Array | None, rounding: Array | None, y: Array) -> None:
        y[...] = apply_stored(self.stored, sums, multiplier, rounding, self.y.type.dtype)

    def source(self) -> str:
        tables = "".join(f"const {kind} *restrict {name}, " for name, kind, value in (
            ("multiplier", "int32_t", self.multiplier), ("rounding", "int64_t", self.rounding)) if value is not None)
        kind = c_type(self.y.type.dtype)
        return fill("""
            static void {name}(const int32_t *restrict sums, {tables}{kind} *restrict y)
            {
                for (int32_t pixel = 0; pixel < {pixels}; pixel++, sums += {outputs}, y += {outputs}) {
                    for (int32_t o = 0; o < {outputs}; o++) {
                        y[o] = ({kind}){value};
                    }
                }
            }
        """, kind=kind, tables=tables, pixels=self.y.type.elements // self.y.shape[3], outputs=self.y.shape[3],
                    value=requantized(self.stored, "sums[o]", "o"))


def _image(buffer: Value, low: Lowering) -> Value:
    """[N, K] as N rows of one pixel."""
    if buffer.type.rank == 4:
        return buffer
    return reshaped(buffer, (1, buffer.shape[0], 1, buffer.shape[1]), low)


def _add_s8(kernel: ConvS8 | DenseS8, low: Lowering) -> list[Op]:
    """The sums of a quantised layer, part by part; what stores them follows behind all parts."""
    y, x = _image(kernel.y, low), _image(kernel.x, low)
    sums = y
    if kernel.clamp is not None:
        sums = low.scratch(BufferType(y.shape, I32), f"{kernel.y.name}_sums")
        low.behind_parts(StoreSumsS8(sums, kernel.multiplier, kernel.rounding, y, kernel.common, kernel.shift,
                                     kernel.zero, kernel.clamp, kernel.emulated))
    low.before_parts(StartSums(kernel.bias, sums))
    weight = low.part_of(kernel.weight, kernel.weight.type.rank - 1)
    height, zero = y.shape[1], kernel.x_zero if isinstance(kernel, ConvS8) else 0
    return AddSumsS8(x, weight, sums, zero, kernel.wraps, choose_pixels(x.shape[2]), choose_lanes(y.shape[3]),
                     (0, height), height).paced(low.pace)


@part_form(ConvS8)
def conv_part(kernel: ConvS8, low: Lowering) -> list[Op]:
    if low.is_cut(low.source.reads[0]):
        return _add_s8(kernel, low)
    return [channel_parts(kernel, {"weight": 0, "bias": 1, "multiplier": 0, "rounding": 0}, low,
                          lanes=choose_lanes(kernel.y.shape[3]))]


@part_form(DenseS8)
def dense_part(kernel: DenseS8, low: Lowering) -> list[Op]:
    if low.is_cut(low.source.reads[0]):
        return _add_s8(kernel, low)
    return [channel_parts(kernel, {"weight": 0, "bias": 0, "multiplier": 0, "rounding": 0}, low,
                          lanes=choose_lanes(kernel.y.shape[1]))]


def add_f32(kernel: ConvF32 | DenseF32, low: Lowering) -> list[Op]:
    """The sums of a float layer, part by part, in its result."""
    y, x = _image(kernel.y, low), _image(kernel.x, low)
    assert isinstance(kernel.weight, Const)
    packed = kernel.weight.data
    assert packed is not None
    if kernel.act != "none":
        low.behind_parts(Map(y, y, kernel.act, kernel.act_args))
    low.before_parts(StartSums(kernel.bias, y))
    outputs, height = y.shape[3], y.shape[1]
    weight = unpack_weights(packed, 1, outputs).reshape(outputs, -1)
    part = low.part_of(low.const(kernel.weight.name, weight), 1)
    return AddSumsF32(x, part, y, choose_lanes(outputs), (0, height), height).paced(low.pace)
