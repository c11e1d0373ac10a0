"""Integer row kernels fed row by row through ring buffers give what they give on whole images, in C and in numpy."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tinyc.backends.c.kernels.base import RowKernel
from tinyc.backends.c.kernels.qeltwise import LookupRows, LookupS8, PairRowsS8, PairS8
from tinyc.backends.c.library import needed

from tinyir.geometry import window_output_extent
from tinyir.interp import run
from tinyir.ir import Argument, Array, Const, Value
from tinyir.opdef import Op
from tinyir.ops import Lookup, QAdd, QAvgPool, QConv2D, QDepthwiseConv2D, QMul, QResize
from tinyir.types import I8, BufferType, Quant, TensorType

from .harness import COMPILERS, compile_library
from .qharness import Tensor, lowered, per_tensor, quantised_module, stored

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
Build = Callable[..., Op]
Make = Callable[[list[Value], Value, dict[str, Any]], RowKernel]
HEIGHT, WIDTH, CHANNELS = 11, 7, 6


def row_kernel(build: Build, inputs: list[Tensor], consts: list[Tensor]) -> tuple[Any, Array]:
    """The kernel that the op becomes, and what it computes from whole images."""
    expected = run(quantised_module(build, inputs, consts), [a for a, _ in inputs])[0]
    module, _ = lowered(quantised_module(build, inputs, consts))
    return next(op for op in module.walk() if op.opname.startswith("k.")), expected


def rebuilt(kernel: RowKernel) -> Make:
    """The same kernel on other buffers, for other rows."""
    def make(xs: list[Value], y: Value, span: dict[str, Any]) -> RowKernel:
        mapping = {kernel.reads[0]: xs[0], kernel.writes[0]: y}
        groups = [[None if v is None else mapping.get(v, v) for v in group] for group in kernel.operand_groups]
        made: RowKernel = type(kernel).build(groups, {**kernel.attrs, **span}, ())  # type: ignore[assignment]
        return made

    return make


def buffer(array: Array) -> Value:
    return Argument(BufferType(array.shape, I8))


def run_in_c(op: RowKernel, arrays: dict[int, Array]) -> None:
    text = op.source().replace("{name}", "kernel").replace("static void kernel", "void kernel", 1)
    files = {"kernel.c": "\n".join(["#include <stdint.h>", "#include <stddef.h>", *needed([text]), text]).encode()}
    library = compile_library(files, flags=("-O1", "-Wno-unused-function"))
    passed = [ctypes.c_int32(a) if isinstance(a, int) else ctypes.c_void_p(arrays[id(a)].ctypes.data)
              for a in op.arguments()]
    library.kernel(*passed)


def stream(make: Make, inputs: list[Array], expected: Array, ring: int, out_ring: int, step: int) -> None:
    """Compute `expected` in steps of rows, keeping `ring` rows of each input and `out_ring` rows of the output.

    What is not in the ring yet holds a value that would show.
    """
    rings = [np.full((1, ring, *x.shape[2:]), 85, x.dtype) for x in inputs]
    results = {"C": np.zeros((1, out_ring, *expected.shape[2:]), expected.dtype)}
    results["numpy"] = results["C"].copy()
    known = 0
    for begin in range(0, expected.shape[1], step):
        rows = (begin, min(begin + step, expected.shape[1]))
        xs, y = [buffer(r) for r in rings], Argument(BufferType(results["C"].shape, I8))
        first, last = make(xs, y, {"rows": rows}).input_rows(rows)
        for row in range(known, last):
            for kept, x in zip(rings, inputs, strict=True):
                kept[:, row % ring] = x[:, row]
        known = max(known, last)
        assert last - first <= ring
        op = make(xs, y, {"rows": rows, "x_base": first % ring, "y_base": begin % out_ring})
        arrays = {id(v): a for v, a in [*zip(xs, rings, strict=True), (y, results["C"])]}
        consts = {id(v): np.ascontiguousarray(v.data) for v in op.operands if isinstance(v, Const)}
        run_in_c(op, {**arrays, **consts})
        operands = [None if v is None else consts[id(v)] if id(v) in consts else arrays[id(v)] for v in op.operands]
        op.reference(*operands[:-1], results["numpy"])
        for who, result in results.items():
            found = np.stack([result[0, row % out_ring] for row in range(*rows)])
            assert np.array_equal(found, expected[0, slice(*rows)]), f"{who}, rows {rows}"


def stream_all(make: Make, inputs: list[Array], expected: Array) -> None:
    height = expected.shape[1]
    for ring, out_ring, step in [(6, 2, 1), (7, 3, 2), (9, 5, 3), (HEIGHT, 4, 2), (7, height, 2), (HEIGHT, height, 4)]:
        stream(make, inputs, expected, ring, out_ring, step)


def image(seed: int, *shape: int) -> Array:
    return stored(np.random.default_rng(seed), I8, *(shape or (1, HEIGHT, WIDTH, CHANNELS)))


QX, QY = per_tensor(0.02, -7), per_tensor(0.01, 3)
WINDOWS: list[dict[str, Any]] = [
    {"stride": (1, 1), "pad": (1, 1, 1, 1)}, {"stride": (2, 2), "pad": (0, 0, 1, 1)},
    {"stride": (1, 1), "pad": (2, 1, 2, 0), "dilation": (2, 1)}, {"stride": (2, 1)},
]


def window_result(kernel: tuple[int, int], attrs: dict[str, Any], channels: int) -> TensorType:
    pad, dilation = attrs.get("pad", (0, 0, 0, 0)), attrs.get("dilation", (1, 1))
    size = (HEIGHT, WIDTH)
    shape = [window_output_extent(size[i], kernel[i], attrs["stride"][i], dilation[i], (pad[i], pad[i + 2]))
             for i in range(2)]
    return TensorType((1, *shape, channels), I8, QY)


@pytest.mark.parametrize("channels", [CHANNELS, 40])
@pytest.mark.parametrize("attrs", WINDOWS)
def test_convolution(attrs: dict[str, Any], channels: int) -> None:
    x, weight = image(1, 1, HEIGHT, WIDTH, channels), image(2, 5, 3, 3, channels)
    result = window_result((3, 3), attrs, 5)
    quant = Quant(tuple(float(np.float32(0.001 + 0.001 * i)) for i in range(5)), (0,), 0)
    kernel, expected = row_kernel(lambda x, w: QConv2D(x, w, None, result, **attrs), [(x, QX)], [(weight, quant)])
    stream_all(rebuilt(kernel), [x], expected)


@pytest.mark.parametrize("outputs", [5, 8])
def test_pointwise(outputs: int) -> None:
    x, weight = image(1), image(2, outputs, 1, 1, CHANNELS)
    bias = np.arange(outputs).astype(np.int32) * 100
    result = TensorType((1, HEIGHT, WIDTH, outputs), I8, QY)
    kernel, expected = row_kernel(lambda x, w, b: QConv2D(x, w, b, result), [(x, QX)],
                                  [(weight, per_tensor(0.004)), (bias, None)])
    stream_all(rebuilt(kernel), [x], expected)


@pytest.mark.parametrize("attrs", WINDOWS)
def test_depthwise(attrs: dict[str, Any]) -> None:
    x, weight = image(1), image(2, 3, 3, CHANNELS)
    result = window_result((3, 3), attrs, CHANNELS)
    kernel, expected = row_kernel(lambda x, w: QDepthwiseConv2D(x, w, None, result, **attrs), [(x, QX)],
                                  [(weight, per_tensor(0.004))])
    stream_all(rebuilt(kernel), [x], expected)


@pytest.mark.parametrize("attrs", [w for w in WINDOWS if "dilation" not in w])
def test_average_pool(attrs: dict[str, Any]) -> None:
    x = image(1)
    result = window_result((3, 2), attrs, CHANNELS)
    kernel, expected = row_kernel(lambda x: QAvgPool(x, result, (3, 2), **attrs), [(x, QX)], [])
    stream_all(rebuilt(kernel), [x], expected)


@pytest.mark.parametrize("kind", [QAdd, QMul])
def test_pairs(kind: type[QAdd] | type[QMul]) -> None:
    a, b = image(1), image(2)
    result = TensorType(a.shape, I8, per_tensor(0.03, 5))
    whole, expected = row_kernel(lambda x, y: kind(x, y, result), [(a, QX), (b, QY)], [])
    assert isinstance(whole, PairS8)

    def make(xs: list[Value], y: Value, span: dict[str, Any]) -> RowKernel:
        base = span.get("x_base", 0)
        return PairRowsS8(xs[0], xs[1], whole.table, y, whole.function, whole.form, span["rows"], HEIGHT, a_base=base,
                          b_base=base, y_base=span.get("y_base", 0))

    stream_all(make, [a, b], expected)


def test_product_with_a_vector() -> None:
    a, b = image(1), image(2, CHANNELS)
    result = TensorType(a.shape, I8, per_tensor(0.03, 5))
    whole, expected = row_kernel(lambda x, y: QMul(x, y, result), [(a, QX)], [(b, QY)])

    def make(xs: list[Value], y: Value, span: dict[str, Any]) -> RowKernel:
        return PairRowsS8(xs[0], whole.b, None, y, whole.function, whole.form, span["rows"], HEIGHT, (True, False),
                          a_base=span.get("x_base", 0), y_base=span.get("y_base", 0))

    stream_all(make, [a], expected)


def test_lookup() -> None:
    x, table = image(1), image(2, 256)
    result = TensorType(x.shape, I8, QY)
    whole, expected = row_kernel(lambda x, t: Lookup(x, t, result), [(x, QX)], [(table, QY)])
    assert isinstance(whole, LookupS8)

    def make(xs: list[Value], y: Value, span: dict[str, Any]) -> RowKernel:
        return LookupRows(xs[0], whole.table, y, span["rows"], HEIGHT, span.get("x_base", 0), span.get("y_base", 0))

    stream_all(make, [x], expected)


@pytest.mark.parametrize("scale", [0.02, 0.0273])
@pytest.mark.parametrize("rows", [5, 13, 22])
def test_resize(rows: int, scale: float) -> None:
    x = image(1)
    result = TensorType((1, rows, 9, CHANNELS), I8, per_tensor(scale, 5))
    kernel, expected = row_kernel(lambda x: QResize(x, "half_pixel", (rows / HEIGHT, 9 / WIDTH), result), [(x, QX)], [])
    for ring, out_ring, step in [(5, 2, 1), (8, 3, 2), (HEIGHT, 4, 2), (8, rows, 2), (HEIGHT, rows, 4)]:
        stream(rebuilt(kernel), [x], expected, ring, out_ring, step)
