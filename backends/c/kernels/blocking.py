"""How a convolution is cut into blocks: output columns into strips of equal blocks, output channels into packed blocks.

A 3x3 window with one column of padding on 8 columns, four pixels a block:

    columns   0 1 2 3 | 4 5 6 7        strip 1: pixels 0-3;  tap 0 reaches pixels 1-3, taps 1 and 2 all four
                                       strip 2: pixels 4-7;  taps 0 and 1 reach all four, tap 2 pixels 4-6

so no pixel is multiplied by padding, and a block at the border is as fast as one inside. Weights are packed as
[block of output channels][KH][KW][C][channel in block], the order in which a block of pixels reads them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tinyir.ir import Array
from tinyir.target import Target

__all__ = ["Columns", "Form", "Segment", "SizesOf", "Strip", "block_sizes", "choose_pixels", "choose_vectors",
           "form_of", "pack_channels", "pack_weights", "packed_block", "run_rest", "run_sizes", "strips",
           "unpack_weights", "unroll"]

SizesOf = Callable[[int], "list[int]"]
"""From the pixels of a block to the sizes of the blocks that a row is cut into."""

Form = Literal["scalar", "vector", "portable"]
"""Named scalars; GNU vector types; or both, and the preprocessor chooses."""


@dataclass(frozen=True)
class Columns:
    """One axis of a window: what output columns read of the input columns."""

    extent: int
    outputs: int
    kernel: int
    stride: int
    dilation: int
    pad: int

    def reached(self, tap: int, first: int, count: int) -> tuple[int, int]:
        """Which of `count` pixels from column `first` on read real input through `tap`: [begin, end)."""
        inside = [p for p in range(count) if 0 <= self.source(tap, first + p) < self.extent]
        return (inside[0], inside[-1] + 1) if inside else (0, 0)

    def source(self, tap: int, column: int) -> int:
        """The input column that output `column` reads through `tap`; outside of the input in the padding."""
        return column * self.stride + tap * self.dilation - self.pad


@dataclass(frozen=True)
class Segment:
    """Neighbouring taps [begin, end) that reach the same pixels of a block."""

    taps: tuple[int, int]
    pixels: tuple[int, int]


@dataclass(frozen=True)
class Strip:
    """`blocks` neighbouring blocks of `pixels` columns from column `first` on, that have the same segments."""

    first: int
    blocks: int
    pixels: int
    segments: tuple[Segment, ...]

    @property
    def end(self) -> int:
        return self.first + self.blocks * self.pixels


def strips(columns: Columns, pixels: int) -> list[Strip]:
    """The output columns in blocks of `pixels` (the last one may be smaller), equal neighbours together."""
    found: list[Strip] = []
    first = 0
    for size in block_sizes(columns.outputs, pixels):
        segments = _segments(columns, first, size)
        last = found[-1] if found else None
        if last is not None and last.pixels == size and last.segments == segments:
            found[-1] = Strip(last.first, last.blocks + 1, size, segments)
        else:
            found.append(Strip(first, 1, size, segments))
        first += size
    return found


def _segments(columns: Columns, first: int, count: int) -> tuple[Segment, ...]:
    found: list[Segment] = []
    for tap in range(columns.kernel):
        reached = columns.reached(tap, first, count)
        if reached == (0, 0):
            continue
        if found and found[-1].pixels == reached and found[-1].taps[1] == tap:
            found[-1] = Segment((found[-1].taps[0], tap + 1), reached)
        else:
            found.append(Segment((tap, tap + 1), reached))
    return tuple(found)


def block_sizes(count: int, pixels: int) -> list[int]:
    """`count` pixels in blocks of `pixels`, and the rest."""
    return [pixels] * (count // pixels) + ([count % pixels] if count % pixels else [])


def run_sizes(width: int, rows: int, pixels: int) -> list[int]:
    """`rows` whole rows as one run of pixels in blocks of `pixels`; what is left of any number of rows divides into
    blocks of `run_rest` pixels.
    """
    rest = run_rest(width, pixels)
    return [pixels] * (width * rows // pixels) + [rest] * (width * rows % pixels // rest)


def run_rest(width: int, pixels: int) -> int:
    """The greatest block that fills up any number of rows behind blocks of `pixels`; `pixels` if nothing is left."""
    return math.gcd(width, pixels)


# -- choices ---------------------------------------------------------------------------------------------------------

# Instructions for a multiply-accumulate with that many pixels and four channels in a block, counted on a Cortex-M4 with
# 64 input channels: few pixels reload the weights, more than six do not fit the registers.
_SCALAR_COST = {1: 2.6, 2: 1.95, 3: 1.72, 4: 1.66, 5: 1.64, 6: 1.68}
_LATENCY = 5.0    # independent accumulators hide it: two instructions a cycle, each result four to five cycles later


def choose_pixels(sizes_of: SizesOf, lanes: int, registers: int) -> int:
    """Pixels of a block of scalars with `lanes` channels: the fewest instructions for the blocks that `sizes_of` gives.

    A second size of block is a second piece of code, so it has to be worth a few percent.
    """
    most = max(1, min(6, 3 * max(registers, 8) // (4 * lanes)))

    def cost(pixels: int) -> float:
        sizes = sizes_of(pixels)
        return sum(size * _SCALAR_COST[size] for size in sizes) * (1 + 0.04 * (len(set(sizes)) - 1))

    return min(range(1, most + 1), key=lambda p: (cost(p), p))


def choose_vectors(sizes_of: SizesOf, blocks: int) -> tuple[int, int]:
    """Pixels and vectors of a block of vector accumulators, for `blocks` blocks of channels.

    Sixteen registers: the accumulators, a weight for each vector (unless it is used once only), one pixel.
    """
    found = {pixels: Counter(sizes_of(pixels)) for pixels in range(1, 13)}  # of each size so many blocks

    def cost(pixels: int, vectors: int) -> float:
        sizes = found[pixels]
        cycles = sum(_cycles(size, vectors) * count for size, count in sizes.items())
        return cycles / vectors * (1 + 0.02 * (len(sizes) - 1))

    candidates = [(p, v) for v in (1, 2, 4, 8) if blocks % v == 0 for p in range(1, 13)
                  if p * v + (v if p > 1 else 0) < 16]
    return min(candidates, key=lambda c: (cost(*c), c))


def _cycles(pixels: int, vectors: int) -> float:
    """Cycles of a step: two multiply-accumulates or two loads each, and gcc reads the weights of up to four pixels from
    memory again and again.
    """
    loads = pixels * vectors * 2 if pixels <= 4 else pixels + vectors + 1
    return max(pixels * vectors / 2, loads / 2, _LATENCY)


def form_of(target: Target) -> Form:
    """Which form the kernels have on `target`."""
    if target.float_lanes > 1:
        return "vector"
    return "portable" if target.core == "generic" else "scalar"


def packed_block(channels: int, form: Form, registers: int) -> int:
    """Output channels of a packed block.

    Vectors want many, as long as the zeros that fill up the last block stay few; scalars want four, or a number near
    it that divides the channels.
    """
    if form != "scalar":
        least = -(-channels // 4) * 4
        return next((b for b in (16, 8, 4) if -(-channels // b) * b * 16 <= least * 17), 4)
    if registers == 0:
        return 2 if channels % 2 == 0 else 1
    return next((b for b in (4, 5, 3) if channels % b == 0), min(channels, 4))


def unroll(length: int, most: int) -> int:
    """How many steps of a loop of `length` to write out: its greatest divisor up to `most`."""
    return next(u for u in range(min(length, most), 0, -1) if length % u == 0)


# -- packing ---------------------------------------------------------------------------------------------------------

def pack_weights(weight: Array, groups: int, block: int) -> Array:
    """[O, KH, KW, C / groups] -> [groups * blocks in a group, KH, KW, C / groups, block], filled up with zeros."""
    channels = weight.shape[0] // groups
    blocks = -(-channels // block)
    grouped = weight.reshape(groups, channels, *weight.shape[1:])
    full = np.zeros((groups, blocks * block, *weight.shape[1:]), weight.dtype)
    full[:, :channels] = grouped
    split = full.reshape(groups * blocks, block, *weight.shape[1:])
    return np.ascontiguousarray(np.moveaxis(split, 1, -1))


def unpack_weights(packed: Array, groups: int, outputs: int) -> Array:
    """The inverse of `pack_weights`: [O, KH, KW, C / groups]."""
    split = np.moveaxis(packed, -1, 1)
    flat = split.reshape(groups, -1, *split.shape[2:])
    return flat[:, :outputs // groups].reshape(outputs, *split.shape[2:])


def pack_channels(bias: Array | None, groups: int, outputs: int, block: int) -> Array:
    """One number for each output channel, in the order and with the fill of `pack_weights`; zeros for None."""
    channels = outputs // groups
    full = np.zeros((groups, -(-channels // block) * block), np.float32)
    if bias is not None:
        full[:, :channels] = bias.reshape(groups, channels)
    return full.reshape(-1)
