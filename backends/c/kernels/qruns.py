"""Loops that integer kernels share: over blocks of output channels, and over runs of pixels behind each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..text import fill
from .base import RowKernel
from .blocking import run_rest
from .qtile import SumTile, channel_blocks

if TYPE_CHECKING:
    from .qsums import StoresSums

__all__ = ["lane_loops", "pixel_blocks", "row_runs"]


def lane_loops(outputs: int, lanes: int, first: str, body: Callable[[int], str]) -> str:
    """Loops over `outputs` channels from `first` (a C name, empty for 0) on around `body(lanes of the block)`, which
    is for the channels from `o` on.
    """
    loops = []
    for begin, end, width in channel_blocks(outputs, lanes):
        start, stop = (f"{first} + {begin}", f"{first} + {end}") if first else (str(begin), str(end))
        loops.append(fill("""
            for (int32_t o = {start}; o < {stop}; o += {width}) {
                {body}
            }
        """, start=start, stop=stop, width=width, body=body(width)))
    return "".join(loops)


def pixel_blocks(kernel: StoresSums, tile: SumTile, count: str, width: int, channels: tuple[int, int]) -> str:
    """`count` (a C expression, a multiple of `width`) pixels that lie behind each other at `in`, to `out_row`.

    What is left behind whole blocks is done in blocks that divide it; `channels` are those of a pixel of x and of y.
    """
    inputs, outputs = channels
    loops = []
    for size in dict.fromkeys([tile.pixels, run_rest(width, tile.pixels)]):
        condition = f"pixel + {size} <= {count}" if size > 1 else f"pixel < {count}"
        loops.append(fill("""
            for (; {condition}; pixel += {size}) {
                const {xt} *xs = in + pixel * {inputs};
                const {wt} *ws = weight + o * {apart};
                {yt} *out = out_row + pixel * {outputs} + o;
                {start}
                {inner}
                {stores}
            }
        """, condition=condition, size=size, inputs=inputs, outputs=outputs, apart=tile.apart,
                          start=tile.start("bias", [0] * size), inner=tile.accumulate((0, size), inputs, inputs),
                          stores=kernel.store_tile(tile, size, "out", outputs, "o"), **kernel.kinds))
    return "int32_t pixel = 0;\n" + "".join(loops)


def row_runs(kernel: StoresSums, width: int, channels: tuple[int, int], loops: str) -> str:
    """The rows of a row kernel as runs of `count` pixels from `in` to `out_row`, which end where a ring does."""
    assert isinstance(kernel, RowKernel)
    inputs, _ = channels
    limits = [kernel.run_limit(name) for name in ("x", "y") if kernel.in_runs(name)]
    values = {"x_width": width * inputs, "y_width": kernel.pitch("y"), "width": width, "loops": loops, **kernel.kinds}
    if not limits:
        return fill("""
            const {xt} *in = x + row_begin * {x_width};
            {yt} *out_row = y + row_begin * {y_width};
            const int32_t count = (row_end - row_begin) * {width};
            {loops}
        """, **values)
    return fill("""
        {setup}
        for (int32_t row = row_begin, rows = 0; row < row_end; row += rows) {
            {x_slot}
            const int32_t y_slot = {y_slot};
            rows = row_end - row;
            {limits}
            const {xt} *in = {x_row};
            {yt} *out_row = y + y_slot * {y_width};
            const int32_t count = rows * {width};
            {loops}
        }
    """, setup=kernel.row_setup(), x_slot=kernel.declare_slot("x"), x_row=kernel.run_address("x"),
                y_slot=kernel.slot("y", "row"),
                limits="\n".join(limits), **values)
