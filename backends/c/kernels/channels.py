"""The loops that convolutions and matrix products have in common: over blocks of channels and over runs of pixels.

    for (int32_t block = 0; block < 4; block++) {                    16 channels of 64 each
        const float *wo = weight + block * 1024;
        const float *bo = bias + block * 16;
        float *yo = out + block * 16;
        for (int32_t lane = 0; lane < 16; lane += 4) {               four of them at a time
            ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tinyir.ops.activation import Activation

from ..text import fill
from .blocking import Form, SizesOf, choose_vectors, run_rest
from .tile import Tile

__all__ = ["VECTORS", "Packed", "Place", "by_form", "channel_loops", "pixel_run", "plus", "scalar_lanes", "scalar_tile",
           "vector_tile"]

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
    """C expressions: pointers to weights, bias and result of the first channel at hand, and for how many channels there
    are from it on (empty where a block is always full).
    """

    weight: str
    bias: str
    y: str
    left: str = ""


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
    left = "" if packed.exact else "left"
    inner = body(Place("wo", "bo", "yo", left)) if tile.fills_block else _lane_loop(packed, tile, body)
    count = tile.lanes if tile.vector else 1
    if packed.blocks == count:
        declared = f"const int32_t left = {packed.outputs};" if left else ""
        return fill("""
            const float *wo = {weight};
            const float *bo = {bias};
            float *yo = {y};
            {declared}
            {inner}
        """, weight=start.weight, bias=start.bias, y=start.y, declared=declared, inner=inner)
    declared = f"const int32_t left = {packed.outputs} - block * {packed.block};" if left else ""
    return fill("""
        for (int32_t block = 0; block < {blocks}; {step}) {
            const float *wo = {weight} + block * {size};
            const float *bo = {bias} + block * {width};
            float *yo = {y} + block * {width};
            {declared}
            {inner}
        }
    """, blocks=packed.blocks, step="block++" if count == 1 else f"block += {count}", weight=start.weight,
                bias=start.bias, y=start.y, size=packed.size * packed.block, width=packed.block, declared=declared,
                inner=inner)


def _lane_loop(packed: Packed, tile: Tile, body: Callable[[Place], str]) -> str:
    """The parts of a block that a tile computes at a time."""
    return fill("""
        for (int32_t lane = 0; {within}; lane += {step}) {
            const float *wl = wo + lane;
            const float *bl = bo + lane;
            float *yl = yo + lane;
            {text}
        }
    """, within=f"lane < {packed.block}" + ("" if packed.exact or tile.vector else " && lane < left"),
                step=f"(int32_t)(sizeof({tile.kind}) / sizeof(float))" if tile.vector else tile.lanes,
                text=body(Place("wl", "bl", "yl", "" if packed.exact else "left - lane")))


def pixel_run(tile: Tile, width: int, count: str, length: int, outputs: int, act: Activation,
              act_args: tuple[float, ...], place: Place) -> str:
    """`count` (a C expression) pixels of `length` inputs that lie one behind the other at `in`, to `outputs` channels.

    `count` is a multiple of `width`; what is left over behind whole tiles is done in blocks that divide it.
    """
    loops = []
    for size in dict.fromkeys([tile.pixels, run_rest(width, tile.pixels)]):
        loops.append(fill("""
            for (; {condition}; {step}) {
                const float *xs = in + pixel * {length};
                const float *ws = {weight};
                float *out = {y} + pixel * {outputs};
                {start}
                {declare}
                {inner}
                {stores}
            }
        """, condition=f"pixel + {size} <= {count}" if size > 1 else f"pixel < {count}",
                          step=f"pixel += {size}" if size > 1 else "pixel++", length=length, outputs=outputs,
                          weight=place.weight, y=place.y, start=tile.start(size, place.bias), declare=tile.declare(),
                          inner=tile.accumulate((0, size), length, length),
                          stores=tile.finish(size, "out", outputs, act, act_args, place.left)))
    return "int32_t pixel = 0;\n" + "\n".join(loops)
