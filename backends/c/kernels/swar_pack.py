"""Weights for products of two pixels: two stored values in a word, so that one 32-bit multiplication is two.

    x = x0 + x1 * 2^16        w * x = w * x0 + (w * x1) * 2^16        sum over a segment = s0 + s1 * 2^16

A sum of such products holds two sums as long as both fit 16 bits. Inputs are therefore cut into *segments*, behind
which the two sums are taken apart: those whose weights cannot leave 16 bits whatever the stored values are,

    127 * (sum of w > 0) + 128 * (sum of -w, w < 0) <= 32767        and the same with the signs exchanged

They are found here, from the true weights, as long as they may be; a segment of typical weights has 8 to 10 inputs.

    segments_of([[100, 50, 40, -60, 3, ...]])      [4, ...]: 100 + 50 + 40 + 60 = 250, at most 255 or so

Sources: Fu et al., "Deep learning with INT8 optimization on Xilinx devices" (two products of one multiplier).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tinyir.ir import Array

__all__ = ["BLOCK", "STEP", "Packed", "fits", "pack_layer", "segments_of", "stacked", "unpack_weights",
           "upper_sums"]

BLOCK = 8
"""Output channels whose weights lie beside each other."""
STEP = 2
"""Inputs that loops do at a time: lengths of segments are multiples."""
_OFFSET = 1 << 15
"""Added to the lower sum of a segment, which is so never negative and takes nothing from the upper one."""
_MOST_STEPS = 255
"""Of a segment: its length is a byte."""


def fits(weight: Array) -> bool:
    """Whether sums of stored values in [-128, 127] times `weight` [C, K] fit 16 bits, for each of C channels."""
    wide = weight.astype(np.int64)
    up, down = np.maximum(wide, 0).sum(axis=1), np.maximum(-wide, 0).sum(axis=1)
    most = np.maximum(127 * up + 128 * down, 0)
    least = -128 * up - 127 * down
    return bool(most.max() < _OFFSET and least.min() >= -_OFFSET)


def segments_of(weight: Array) -> list[int] | None:
    """The lengths of the fewest segments for channels `weight` [C, K] together, K a multiple of `STEP`; None where
    even the shortest does not fit.
    """
    sums = [(line.tolist(), room) for up, down, room in ((127, 128, _OFFSET - 1), (128, 127, _OFFSET))
            for line in _sums_of_steps(weight, up, down)]
    lengths: list[int] = []
    first, steps = 0, weight.shape[1] // STEP
    while first < steps:
        end = min(bisect_right(line, line[first] + room) - 1 for line, room in sums)
        end = min(end, first + _MOST_STEPS)
        if end == first:
            return None
        lengths.append((end - first) * STEP)
        first = end
    return lengths


def _sums_of_steps(weight: Array, up: int, down: int) -> Array:
    """What the weights in front of each step may add to a sum, `up` times those above 0 and `down` times the others
    [C, steps + 1].
    """
    wide = weight.astype(np.int64)
    reach = np.where(wide > 0, up * wide, -down * wide).reshape(len(wide), -1, STEP).sum(axis=2)
    return np.pad(np.cumsum(reach, axis=1), ((0, 0), (1, 0)))


def pack_weights(weight: Array) -> Array:
    """[O, K] -> [blocks, K, BLOCK] i8, O and K filled up with zeros to whole blocks and steps."""
    outputs, inputs = weight.shape
    full = np.zeros((-(-outputs // BLOCK) * BLOCK, -(-inputs // STEP) * STEP), np.int8)
    full[:outputs, :inputs] = weight
    return np.ascontiguousarray(full.reshape(-1, BLOCK, full.shape[1]).transpose(0, 2, 1))


def unpack_weights(packed: Array, outputs: int, inputs: int) -> Array:
    """The inverse of `pack_weights`."""
    return packed.transpose(0, 2, 1).reshape(-1, packed.shape[1])[:outputs, :inputs]


@lru_cache(maxsize=512)
def _segments(weights: bytes, shape: tuple[int, ...], together: int) -> tuple[Array, list[int]] | None:
    """`pack_segments`, which prices of schedules ask for again and again."""
    return pack_segments(np.frombuffer(weights, np.int8).reshape(shape), together)


def pack_segments(packed: Array, together: int) -> tuple[Array, list[int]] | None:
    """What the loops read of segments of `packed` weights [blocks, bytes] u8: for each `together` channels of a block
    the length of each in steps, then 0; and how many segments these channels have. None where weights are too great.
    """
    rows = packed.transpose(0, 2, 1).reshape(-1, together, packed.shape[1])
    found = [some for some in map(segments_of, rows) if some is not None]
    if len(found) < len(rows):
        return None
    a_block = BLOCK // together
    lines = [[length for some in found[first:first + a_block] for length in (*some, 0)]
             for first in range(0, len(found), a_block)]
    table = np.zeros((len(lines), max(map(len, lines))), np.uint8)
    for row, line in zip(table, lines, strict=True):
        row[:len(line)] = np.asarray(line) // STEP
    table.setflags(write=False)  # kept for the next time
    return table, [len(some) for some in found]


def pack_starts(bias: Array, counts: list[int], together: int) -> Array:
    """What the sums of each output channel start with [channels, 2] u32: the sum of words, which at the end loses 2^16
    times the upper sum and `_OFFSET` for each segment; and the upper sum.
    """
    full = np.zeros(len(counts) * together, np.int64)
    full[:len(bias)] = bias
    offsets = np.repeat(np.asarray(counts, np.int64) * _OFFSET, together)
    starts = np.stack([(full << 16) + full - offsets, full], axis=1)
    return (starts & 0xFFFFFFFF).astype(np.uint32)


def upper_sums(starts: Array) -> Array:
    """The biases that `pack_starts` was given, [channels] i64."""
    return starts[:, 1].astype(np.uint32).view(np.int32).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Packed:
    """The constants of a layer: what the kernels read."""

    weight: Array     # [blocks, K, BLOCK] i8
    starts: Array     # [blocks * BLOCK, 2] u32
    segments: Array   # [blocks, bytes] u8


def pack_layer(weight: Array, bias: Array, together: int) -> Packed | None:
    """The constants for `weight` [O, K] and `bias` [O], with `together` channels at a time; None where two sums do not
    fit a word.
    """
    packed = pack_weights(weight)
    found = _segments(packed.tobytes(), packed.shape, together)
    return None if found is None else Packed(packed, pack_starts(bias, found[1], together), found[0])


def stacked(layers: list[Packed]) -> Packed:
    """Layers of the same shape as one, block behind block."""
    most = max(layer.segments.shape[1] for layer in layers)
    segments = [np.pad(layer.segments, ((0, 0), (0, most - layer.segments.shape[1]))) for layer in layers]
    return Packed(np.concatenate([layer.weight for layer in layers]),
                  np.concatenate([layer.starts for layer in layers]), np.concatenate(segments))
