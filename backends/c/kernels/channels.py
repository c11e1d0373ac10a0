"""The loops that convolutions and matrix products have in common: over blocks of channels and over runs of pixels.

    for (int32_t block = 0; block < 4; block++) {                    64 channels, packed 16 by 16
        const float *wo = weight + block * 1024;                     64 weights for each
        const float *bo = bias + block * 16;
        float *yo = y_row + block * 16;
        for (int32_t lane = 0; lane < 16; lane += 4) {               four of them at a time
            const float *wl = wo + lane;
            ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tinyir.ops.activation import Activation
from tinyir.types import Shape

from ..text import fill
from .blocking import Form, SizesOf, choose_vectors, run_rest
from .tile import Tile

__all__ = ["VECTORS", "Packed", "Place", "by_form", "channel_loops", "kernel_comment", "pixel_run", "plus",
           "scalar_lanes", "scalar_tile", "vector_tile"]

VECTORS = "defined(__SSE2__) || defined(__ARM_NEON)"
"""The preprocessor's condition for GNU vector types that are registers."""


@dataclass(frozen=True)
class Packed:
    """The output channels of a group: how many, the width of a packed block, and the weights of one channel."""

    outputs: int
    block: int
    size: int

    @property
    def blocks(self) -> int:
        return -(-self.outputs // self.block)

    @property
    def exact(self) -> bool:
        """Whether no block has channels that are not there."""
        return self.outputs % self.block == 0


@dataclass(frozen=True)
class Place:
    """C expressions: pointers to weights, bias and result of the first channel at hand, for how many channels there are
    from it on (empty where a block is always full), and for its number.
    """

    weight: str
    bias: str
    y: str
    left: str = ""
    channel: str = "0"


def kernel_comment(what: str, kernel: tuple[int, int], stride: tuple[int, int], shapes: tuple[Shape, Shape],
                   act: Activation, tile: Tile) -> str:
    """A C comment that says what a function computes. It names no height, so that layers which differ in nothing else
    share the function.
    """
    rows = " to ".join(f"{shape[2]}x{shape[3]}" for shape in shapes)
    steps = f", stride {stride[0]}x{stride[1]}" if stride != (1, 1) else ""
    after = f", {act}" if act != "none" else ""
    return f"/* {kernel[0]}x{kernel[1]} {what}{steps}, rows of {rows}{after}: {tile.describe()} at a time. */"


def plus(offset: int) -> str:
    """` + 8`, ` - 8` or nothing."""
    return f" {'+' if offset > 0 else '-'} {abs(offset)}" if offset else ""


def scalar_lanes(block: int) -> int:
    """Channels of a block of scalars: a whole packed block of up to five, or four of one made for vectors."""
    return block if block <= 5 else 4


def scalar_tile(packed: Packed, pixels: int, fma: bool) -> Tile:
    """A block of named scalars."""
    return Tile(pixels, scalar_lanes(packed.block), packed.block, fma=fma)


def vector_tile(packed: Packed, sizes_of: SizesOf) -> Tile:
    """A block of vectors for rows that are cut into the blocks of pixels that `sizes_of` says."""
    pixels, vectors = choose_vectors(sizes_of, packed.blocks)
    return Tile(pixels, vectors, packed.block, f"tc_vec{packed.block}", packed.size * packed.block, packed.block)


def by_form(form: Form, write: Callable[[bool], str]) -> str:
    """The text of a function from `write(vector)`, in one form or in both, between which the preprocessor chooses."""
    if form != "portable":
        return write(form == "vector")
    return f"#if {VECTORS}\n{write(True).strip()}\n#else\n{write(False).strip()}\n#endif\n"


def channel_loops(packed: Packed, tile: Tile, start: Place, body: Callable[[Place], str]) -> str:
    """The loops over output channels around `body(place)`; `start` is the place of channel 0."""
    count = tile.lanes if tile.vector else 1
    looped = packed.blocks > count
    name = "block" if packed.block > 1 else "channel"
    channel = (f"block * {packed.block}" if packed.block > 1 else name) if looped else "0"
    place = Place("wo", "bo", "yo", "" if packed.exact else "left", channel)
    inner = body(place) if tile.fills_block else _lane_loop(packed, tile, place, body)
    width, size = packed.block, packed.size * packed.block
    text = fill("""
        const float *wo = {weight}{weight_step};
        const float *bo = {bias}{step};
        float *yo = {y}{step};
        {declared}
        {inner}
    """, weight=start.weight, bias=start.bias, y=start.y, inner=inner,
                weight_step=f" + {name} * {size}" if looped else "", step=f" + {channel}" if looped else "",
                declared="" if packed.exact else f"const int32_t left = {packed.outputs}{_minus(looped, name, width)};")
    if not looped:
        return text
    return fill("""
        for (int32_t {name} = 0; {name} < {blocks}; {step}) {
            {text}
        }
    """, name=name, blocks=packed.blocks, step=f"{name}++" if count == 1 else f"{name} += {count}", text=text)


def _minus(looped: bool, name: str, width: int) -> str:
    return f" - {name} * {width}" if looped else ""


def _lane_loop(packed: Packed, tile: Tile, place: Place, body: Callable[[Place], str]) -> str:
    """The parts of a block that a tile computes at a time."""
    channel = "lane" if place.channel == "0" else f"{place.channel} + lane"
    return fill("""
        for (int32_t lane = 0; {within}; {step}) {
            const float *wl = wo + lane;
            const float *bl = bo + lane;
            float *yl = yo + lane;
            {text}
        }
    """, within=f"lane < {packed.block}" + ("" if packed.exact or tile.vector else " && lane < left"),
                step=f"lane += {_lanes(tile)}" if _lanes(tile) != "1" else "lane++",
                text=body(Place("wl", "bl", "yl", "" if packed.exact else "left - lane", channel)))


def _lanes(tile: Tile) -> str:
    """C expression for the channels of a vector, or of all named scalars."""
    return f"(int32_t)(sizeof({tile.kind}) / sizeof(float))" if tile.vector else str(tile.lanes)


def pixel_run(tile: Tile, width: int, count: str, length: int, outputs: int, act: Activation,
              act_args: tuple[float, ...], place: Place) -> str:
    """`count` (a C expression) pixels of `length` inputs that lie one behind the other at `in`, to `outputs` channels.

    `count` is a multiple of `width`; what is left over behind whole tiles is done in blocks that divide it.
    """
    def block(size: int, x: str, y: str) -> str:
        return fill("""
            const float *xs = {x};
            const float *ws = {weight};
            {start}
            {declare}
            {inner}
            {stores}
        """, x=x, weight=place.weight, start=tile.start(size, place.bias), declare=tile.declare(),
                    inner=tile.accumulate((0, size), length, length),
                    stores=tile.finish(size, y, outputs, act, act_args, place.left))

    if count == str(tile.pixels):
        return block(tile.pixels, "in", place.y)
    loops = [f"const float *from = in;\nfloat *to = {place.y};\nint32_t rest = {count};\n"]
    for size in dict.fromkeys([tile.pixels, run_rest(width, tile.pixels)]):
        loops.append(fill("""
            for (; rest >= {size}; rest -= {size}) {
                {block}
                from += {x_step};
                to += {y_step};
            }
        """, size=size, block=block(size, "from", "to"), x_step=size * length, y_step=size * outputs))
    return "".join(loops)
