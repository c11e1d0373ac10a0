"""Spans against what really changes when an input row does, and the cost of patches against tiles counted by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tinyir.geometry import Axis, Span, axis_index
from tinyir.interp import run
from tinyir.ir import Argument, Array, Block, Func, Module, Value
from tinyir.ops import Add, Concat, Conv2D, ConvTranspose2D, DepthwiseConv2D, Resize, Return
from tinyir.receptive_field import fields, needed_spans, patch_macs, tiles
from tinyir.rewrite import Builder
from tinyir.types import F32, TensorType


class Network:
    """A random network of linear ops: every change of an input shows in whatever depends on it."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.Generator(np.random.PCG64(seed))
        argument = Argument(TensorType((1, int(self.rng.integers(9, 19)), int(self.rng.integers(7, 12)), 2), F32), "x")
        self.module, self.block = Module("net"), Block([argument])
        self.func = self.module.funcs["main"] = Func("main", self.block)
        self.build = Builder(self.module, self.block)
        self.images: list[Value] = [argument]
        for _ in range(6):
            kinds = [self.convolve, self.depthwise, self.join, self.enlarge, self.spread]
            kinds[int(self.rng.integers(len(kinds)))]()
        self.build.add(Return((self.images[-1],)))

    def weight(self, *shape: int) -> Value:
        return self.build.const("w", self.rng.uniform(0.5, 1, shape).astype(np.float32))

    def attrs(self, x: Value) -> dict[str, Any]:
        dilation = int(self.rng.integers(1, 3)) if min(x.shape[1:3]) > 6 else 1
        stride = int(self.rng.integers(1, 3)) if min(x.shape[1:3]) > 6 else 1
        pad = tuple(int(p) for p in self.rng.integers(1, 3, 4))
        return {"stride": (stride, 1), "dilation": (dilation, 1), "pad": pad}

    def convolve(self) -> None:
        x = self.images[-1]
        self.images.append(self.build.add(Conv2D(x, self.weight(2, 3, 3, x.shape[3]), None, **self.attrs(x))).out)

    def depthwise(self) -> None:
        x = self.images[-1]
        op = DepthwiseConv2D(x, self.weight(3, 2, x.shape[3]), None, **self.attrs(x))
        self.images.append(self.build.add(op).out)

    def join(self) -> None:
        x = self.images[-1]
        other = next(v for v in self.images if v.shape[1:3] == x.shape[1:3])
        joined = Add(x, other) if other.shape == x.shape else Concat((x, other), axis=3)
        self.images.append(self.build.add(joined).out)

    def enlarge(self) -> None:
        x = self.images[-1]
        if x.type.elements < 800:
            rows = 2 * x.shape[1] - 1
            result = TensorType((1, rows, x.shape[2], x.shape[3]), F32)
            self.images.append(self.build.add(
                Resize(x, "nearest", "half_pixel", (rows / x.shape[1], 1.0), result)).out)

    def spread(self) -> None:
        x = self.images[-1]
        if x.type.elements < 800:
            self.images.append(self.build.add(
                ConvTranspose2D(x, self.weight(2, 3, 3, x.shape[3]), None, stride=(2, 1), pad=(1, 0, 0, 1))).out)


def changed(network: Network, x: Array, row: int, a: int) -> Array:
    """Which rows (columns) of the result differ when row `row` of the input does."""
    other = x.copy()
    np.moveaxis(other, a, 0)[row] += 1
    before, after = (run(network.module, [v])[0] for v in (x, other))
    different = np.moveaxis(before != after, a, 0)
    return different.reshape(different.shape[0], -1).any(axis=1)


@pytest.mark.parametrize("axis", ["rows", "columns"])
@pytest.mark.parametrize("seed", range(25))
def test_spans_are_what_changes(seed: int, axis: Axis) -> None:
    """A span holds everything that is needed, and begins and ends with something that is."""
    network, a = Network(seed), axis_index(axis)
    source, result = network.images[0], network.images[-1]
    x = network.rng.uniform(1, 2, source.shape).astype(np.float32)
    moved = np.stack([changed(network, x, row, a) for row in range(source.shape[a])])  # [input row, output row]
    for out in range(result.shape[a]):
        span = needed_spans(network.func, result, Span(out, out + 1), axis).get(source, Span(0, 0))
        rows = np.flatnonzero(moved[:, out])
        if len(rows):
            assert span.covers(Span(int(rows[0]), int(rows[-1]) + 1))
        if span.extent and not _has_gaps(network):
            assert (span.begin, span.end) == (rows[0], rows[-1] + 1)


def _has_gaps(network: Network) -> bool:
    """Whether some span holds rows at its ends that are not read: behind dilation or upsampling it may."""
    return any(isinstance(op, ConvTranspose2D) or getattr(op, "dilation", (1, 1)) != (1, 1) for op in network.func.ops)


def chain() -> tuple[Func, Value]:
    """Two 3x3 convolutions, the second with stride 2, over 16x16x1."""
    block = Block([Argument(TensorType((1, 16, 16, 1), F32), "x")])
    module = Module("net")
    func = module.funcs["main"] = Func("main", block)
    build = Builder(module, block)
    weight = build.const("w", np.ones((1, 3, 3, 1), np.float32))
    first = build.add(Conv2D(block.args[0], weight, None, pad=(1, 1, 1, 1)))
    second = build.add(Conv2D(first.out, weight, None, pad=(1, 1, 1, 1), stride=(2, 2)))
    build.add(Return((second.out,)))
    return func, second.out


def test_field_and_jump() -> None:
    func, value = chain()
    found = fields(func, "rows")[value]
    assert (found.extent, found.jump) == (Fraction(5), Fraction(2))


def test_patches_count_halos() -> None:
    """Two tiles of four rows of the result need rows 0..8 and 7..16 of the first convolution: one twice."""
    func, value = chain()
    assert tiles(8, 2) == [Span(0, 4), Span(4, 8)]
    once, tiled = patch_macs(func, value, (2, 2))
    assert once == 16 * 16 * 9 + 8 * 8 * 9
    assert tiled == 17 * 17 * 9 + 8 * 8 * 9


def test_a_shrunk_window_needs_no_halo() -> None:
    func, value = chain()
    second = value.op
    assert second is not None
    assert needed_spans(func, value, Span(4, 8), "rows", (second,))[func.ops[0].results[0]] == Span(8, 15)
