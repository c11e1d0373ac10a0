"""Row kernels fed row by row through ring buffers give what they give on whole images, in C and in numpy."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tinyc.backends.c.kernels.base import RowKernel
from tinyc.backends.c.kernels.eltwise import BinaryRows, MapRows
from tinyc.backends.c.kernels.pool import AvgPool, MaxPool
from tinyc.backends.c.kernels.resize import ResizeLinear, ResizeNearest
from tinyc.backends.c.library import needed

from tinyir import ops
from tinyir.ir import Argument, Array, Const, Value
from tinyir.types import BufferType, TensorType, dtype

from .harness import COMPILERS, compile_library, seeded

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
F32 = dtype("f32")


def buffer(array: Array, name: str = "x") -> Value:
    return Argument(BufferType(array.shape, dtype(f"f{array.itemsize * 8}")), name)


def run_in_c(op: RowKernel, arrays: dict[int, Array]) -> None:
    """Compile the function of the op and call it once on the arrays, given by the identity of the operands."""
    text = op.source().replace("{name}", "kernel").replace("static void kernel", "void kernel(void);\nvoid kernel", 1)
    text = text.replace("void kernel(void);\n", "")
    library = compile_library({"kernel.c": "\n".join(["#include <stdint.h>", *needed([text]), text]).encode()},
                              flags=("-O1", "-Wno-unused-function"))
    passed = [ctypes.c_int32(a) if isinstance(a, int) else ctypes.c_void_p(arrays[id(a)].ctypes.data)
              for a in op.arguments()]
    library.kernel(*passed)


def stream(make: Callable[..., RowKernel], inputs: list[Array], expected: Array, ring: int, out_ring: int, step: int) \
        -> None:
    """Compute `expected` in steps of rows, keeping `ring` rows of each input and `out_ring` rows of the output.

    `make(xs, y, rows, bases)` gives the kernel op for a step.
    """
    rings = [np.full((1, ring, *x.shape[2:]), np.nan, x.dtype) for x in inputs]
    results = {"C": np.full((1, out_ring, *expected.shape[2:]), np.nan, expected.dtype)}
    results["numpy"] = results["C"].copy()
    known = 0
    for begin in range(0, expected.shape[1], step):
        rows = (begin, min(begin + step, expected.shape[1]))
        xs, y = [buffer(r) for r in rings], buffer(results["C"], "y")
        first, last = make(xs, y, rows, 0, 0).input_rows(rows)
        for row in range(known, last):
            for kept, x in zip(rings, inputs, strict=True):
                kept[:, row % ring] = x[:, row]
        known = max(known, last)
        assert last - first <= ring
        op = make(xs, y, rows, first % ring, begin % out_ring)
        run_in_c(op, {**{id(v): r for v, r in zip(xs, rings, strict=True)}, id(y): results["C"], **tables(op)})
        op.reference(*(reference_operand(v, xs, rings) for v in op.reads), results["numpy"])
        for who, result in results.items():
            found = np.stack([result[0, row % out_ring] for row in range(*rows)])
            np.testing.assert_allclose(found, expected[0, slice(*rows)], rtol=1e-6, atol=1e-6, err_msg=who)


def tables(op: RowKernel) -> dict[int, Array]:
    return {id(v): v.data for v in op.reads if v.data is not None}


def reference_operand(value: Value, xs: list[Value], rings: list[Array]) -> Array:
    return value.data if value.data is not None else rings[xs.index(value)]


def image(*shape: int) -> Array:
    return seeded().uniform(-2, 2, shape).astype(np.float32)


def graph(kind: Any, *inputs: Array, **attrs: Any) -> Array:
    op = kind(*(Value(TensorType(x.shape, F32)) for x in inputs), **attrs)
    return np.asarray(op.reference(*inputs))


WINDOWS: list[dict[str, Any]] = [
    {"kernel": (2, 2), "stride": (2, 2)}, {"kernel": (3, 3), "stride": (1, 1), "pad": (1, 1, 1, 1)},
    {"kernel": (3, 3), "stride": (2, 2), "pad": (0, 1, 1, 0)},
    {"kernel": (3, 2), "dilation": (2, 1), "pad": (2, 0, 2, 0)},
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("kinds", [(ops.MaxPool, MaxPool), (ops.AvgPool, AvgPool)])
def test_pools(window: dict[str, Any], step: int, kinds: tuple[Any, Any]) -> None:
    x = image(1, 11, 6, 3)
    expected = graph(kinds[0], x, **window)

    def make(xs: list[Value], y: Value, rows: tuple[int, int], x_base: int, y_base: int) -> RowKernel:
        made: RowKernel = kinds[1](xs[0], y, rows=rows, height=11, x_base=x_base, y_base=y_base, **window)
        return made

    stream(make, [x], expected, ring=7, out_ring=3, step=step)
    stream(make, [x], expected, ring=11, out_ring=expected.shape[1], step=step)
    stream(make, [x], expected, ring=7, out_ring=expected.shape[1], step=step)


def test_map() -> None:
    x = image(1, 9, 4, 3)

    def make(xs: list[Value], y: Value, rows: tuple[int, int], x_base: int, y_base: int) -> RowKernel:
        return MapRows(xs[0], y, "sigmoid", rows, 9, x_base=x_base, y_base=y_base)

    stream(make, [x], graph(ops.Sigmoid, x), ring=2, out_ring=4, step=2)
    stream(make, [x], graph(ops.Sigmoid, x), ring=9, out_ring=4, step=1)


def test_binary() -> None:
    a, b = image(1, 9, 4, 3), image(1, 9, 4, 3)

    def make(xs: list[Value], y: Value, rows: tuple[int, int], x_base: int, y_base: int) -> RowKernel:
        return BinaryRows(xs[0], xs[1], y, "add", rows, 9, (True, True), "relu", a_base=x_base, b_base=x_base,
                          y_base=y_base)

    stream(make, [a, b], np.maximum(a + b, 0), ring=2, out_ring=4, step=2)


def test_binary_with_channel_vector() -> None:
    a, b = image(1, 9, 4, 3), image(3)
    vector = Const("b", BufferType(b.shape, F32), b)

    def make(xs: list[Value], y: Value, rows: tuple[int, int], x_base: int, y_base: int) -> RowKernel:
        return BinaryRows(xs[0], vector, y, "mul", rows, 9, (True, False), a_base=x_base, y_base=y_base)

    stream(make, [a], a * b, ring=2, out_ring=4, step=2)


def index_table(values: Array, name: str) -> Const:
    return Const(name, BufferType(values.shape, dtype("i32")), values.astype(np.int32))


@pytest.mark.parametrize("rows", [4, 7, 13, 20])
def test_resize(rows: int) -> None:
    x = image(1, 9, 4, 3)
    attrs: dict[str, Any] = {"coordinates": "half_pixel", "scales": (rows / 9, 1.5),
                             "result": TensorType((1, rows, 6, 3), F32)}
    nearest = ops.Resize(Value(TensorType(x.shape, F32)), "nearest", **attrs)
    linear = ops.Resize(Value(TensorType(x.shape, F32)), "linear", **attrs)
    sources = [index_table(nearest.nearest_sources(axis), axis) for axis in ("rows", "columns")]

    def make_nearest(xs: list[Value], y: Value, span: tuple[int, int], x_base: int, y_base: int) -> RowKernel:
        return ResizeNearest(xs[0], *sources, y, span, 9, rows, x_base=x_base, y_base=y_base)

    def make_linear(xs: list[Value], y: Value, span: tuple[int, int], x_base: int, y_base: int) -> RowKernel:
        pieces: list[Value] = []
        for axis in ("rows", "columns"):
            first, _, weight = linear.linear_sources(axis)
            pieces += [index_table(first, axis), Const(f"{axis}.weight", BufferType(weight.shape, F32), weight)]
        return ResizeLinear(xs[0], *pieces, y, span, 9, x_base=x_base, y_base=y_base)

    stream(make_nearest, [x], np.asarray(nearest.reference(x)), ring=5, out_ring=4, step=2)
    stream(make_linear, [x], np.asarray(linear.reference(x)), ring=7, out_ring=4, step=2)
