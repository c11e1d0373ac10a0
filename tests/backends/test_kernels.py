"""Every kernel but the convolution-like ones: graph reference, kernel reference and C agree, under both compilers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinyir import ops
from tinyir.ir import Array
from tinyir.opdef import Op
from tinyir.types import TensorType, dtype

from .harness import COMPILERS, check, seeded

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")


def floats(*shape: int, low: float = -3, high: float = 3) -> Array:
    return seeded().uniform(low, high, shape).astype(np.float32)


def integers(kind: str, *shape: int, low: int = -100, high: int = 100) -> Array:
    numpy_type = dtype(kind).numpy
    return seeded().integers(max(low, 0 if kind.startswith("u") else low), high, shape).astype(numpy_type)


UNARY: list[Callable[..., Op]] = [
    ops.Relu, lambda x: ops.Clip(x, -1.0, 1.5), lambda x: ops.Clip(x), lambda x: ops.LeakyRelu(x, 0.2), ops.Sigmoid,
    ops.Tanh, lambda x: ops.HardSigmoid(x, 0.3, 0.4), ops.HardSwish, lambda x: ops.Elu(x, 0.7), ops.Selu, ops.Softplus,
    ops.Softsign, ops.Gelu, lambda x: ops.Gelu(x, "tanh"), ops.Erf, ops.Exp, ops.Neg, ops.Abs, ops.Reciprocal,
    ops.Floor, ops.Ceil, ops.Round, ops.Sign,
]


@pytest.mark.parametrize("build", UNARY)
def test_unary(build: Callable[..., Op]) -> None:
    check(build, [floats(2, 3, 5, 7)], compilers=COMPILERS)


@pytest.mark.parametrize("build", [ops.Log, ops.Sqrt])
def test_unary_of_positive_numbers(build: Callable[..., Op]) -> None:
    check(build, [floats(50, low=1e-3, high=40)], compilers=COMPILERS)


@pytest.mark.parametrize("kind", ["i8", "i16", "i32", "i64"])
@pytest.mark.parametrize("build", [ops.Relu, ops.Neg, ops.Abs, ops.Sign, lambda x: ops.Clip(x, -5.0, 7.0),
                                   lambda x: ops.Clip(x)])
def test_unary_of_integers(build: Callable[..., Op], kind: str) -> None:
    least = dtype(kind).range[0]
    check(build, [np.concatenate([integers(kind, 30), np.array([least, 0], dtype(kind).numpy)])], compilers=COMPILERS)


@pytest.mark.parametrize("kind", ["u8", "u16", "u32", "u64"])
@pytest.mark.parametrize("build", [ops.Relu, ops.Abs, ops.Sign, lambda x: ops.Clip(x, -5.0, 7.0)])
def test_unary_of_unsigned_integers(build: Callable[..., Op], kind: str) -> None:
    check(build, [integers(kind, 30)], compilers=COMPILERS)


BINARY: list[type[Op]] = [ops.Add, ops.Sub, ops.Mul, ops.Div, ops.Minimum, ops.Maximum]
SHAPES = [((1, 4, 5, 6), (1, 4, 5, 6)), ((1, 4, 5, 6), (6,)), ((6,), (1, 4, 5, 6)), ((2, 4, 5, 6), (2, 1, 1, 6)),
          ((3, 1, 5), (1, 4, 1)), ((2, 3), (1,)), ((4, 5, 6), (4, 5, 1)), ((1,), (1,))]


@pytest.mark.parametrize("build", BINARY)
@pytest.mark.parametrize("shapes", SHAPES)
def test_binary(build: type[Op], shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    check(build, [floats(*shapes[0]), floats(*shapes[1], low=0.5)])
    check(build, [floats(*shapes[0])], [floats(*shapes[1], low=0.5)])


@pytest.mark.parametrize("build", BINARY)
@pytest.mark.parametrize("kind", ["i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64"])
def test_binary_of_integers(build: type[Op], kind: str) -> None:
    a, b = integers(kind, 5, 20), integers(kind, 20)
    with np.errstate(over="ignore"):
        check(build, [a, b], compilers=COMPILERS)


@pytest.mark.parametrize(("act", "args"), [("relu", ()), ("clip", (-1.0, 2.0)), ("leaky_relu", (0.1,)),
                                           ("hard_swish", ()), ("hard_sigmoid", (0.2, 0.5))])
@pytest.mark.parametrize("build", [ops.Add, ops.Sub, ops.Mul])
def test_binary_with_activation(build: Any, act: str, args: tuple[float, ...]) -> None:
    check(lambda a, b: build(a, b, act=act, act_args=args), [floats(1, 4, 4, 3), floats(1, 4, 4, 3)],
          compilers=COMPILERS)


def test_power() -> None:
    check(ops.Pow, [floats(3, 4, low=0.1), floats(3, 4)], compilers=COMPILERS)
    for exponent in (2.0, 0.5, -1.0, 3.0, 0.0):
        check(ops.Pow, [floats(3, 4, low=0.1)], [np.full(1, exponent, np.float32)])
    check(ops.Pow, [floats(3, 4)], [np.full(1, 3, np.float32)])


def test_prelu() -> None:
    check(ops.PRelu, [floats(1, 4, 4, 3)], [floats(3)], compilers=COMPILERS)


@pytest.mark.parametrize("source", ["f32", "f64", "i8", "u8", "i32", "i64", "bool"])
@pytest.mark.parametrize("result", ["f32", "f64", "i8", "u8", "i32", "i64", "bool"])
def test_cast(source: str, result: str) -> None:
    x = floats(40, low=0, high=100) if source.startswith("f") else integers(source, 40, low=0)
    check(lambda v: ops.Cast(v, result=TensorType((40,), dtype(result))), [x.astype(dtype(source).numpy)],
          compilers=COMPILERS)


@pytest.mark.parametrize("perm", [(0, 2, 3, 1), (0, 3, 1, 2), (3, 2, 1, 0), (0, 1, 2, 3), (1, 0, 2, 3)])
@pytest.mark.parametrize("kind", ["f32", "i8", "i64", "bool"])
def test_transpose(perm: tuple[int, ...], kind: str) -> None:
    check(lambda x: ops.Transpose(x, perm), [integers(kind, 2, 3, 4, 5)])


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_concat(axis: int) -> None:
    shapes = [[2, 3, 4], [2, 3, 4], [2, 3, 4]]
    for extra, shape in enumerate(shapes):
        shape[axis] += extra
    check(lambda *x: ops.Concat(x, axis), [floats(*s) for s in shapes], compilers=COMPILERS)


def test_slice() -> None:
    def build(x: Any) -> Op:
        return ops.Slice(x, (0, 7, 1, 0), (1, -2, 1, 3), result=TensorType((2, 4, 5, 3), dtype("f32")))

    check(build, [floats(2, 8, 6, 7)], compilers=COMPILERS)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize(("before", "after"), [((0, 1, 2, 0), (0, 2, 1, 0)), ((1, 0, 3, 1), (0, 2, 0, 1)),
                                               ((0, -1, 1, 0), (0, 1, -2, -1)), ((0, 0, 0, 0), (0, 0, 0, 0))])
def test_pad(mode: Any, before: tuple[int, ...], after: tuple[int, ...]) -> None:
    check(lambda x: ops.Pad(x, before, after, mode, 1.5 if mode == "constant" else 0.0), [floats(2, 3, 5, 3)])


def test_pad_of_bytes() -> None:
    check(lambda x: ops.Pad(x, (1, 0), (0, 2), value=-7.0), [integers("i8", 3, 4)], compilers=COMPILERS)


def test_tile_and_broadcast() -> None:
    check(lambda x: ops.Tile(x, (2, 1, 3)), [floats(2, 3, 4)], compilers=COMPILERS)
    check(lambda x: ops.BroadcastTo(x, result=TensorType((2, 3, 4), dtype("f32"))), [floats(3, 1)], compilers=COMPILERS)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(axis: int) -> None:
    indices = np.array([[0, 2], [-1, 1]])
    check(lambda x, i: ops.Gather(x, i, axis), [floats(3, 4, 5)], [indices], compilers=COMPILERS)
    check(lambda x, i: ops.Gather(x, i, axis), [floats(3, 4, 5), indices], compilers=COMPILERS)


POOLS: list[dict[str, Any]] = [
    {"kernel": (2, 2), "stride": (2, 2)}, {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1, 1, 1)},
    {"kernel": (3, 2), "stride": (1, 2), "pad": (2, 0, 1, 1)}, {"kernel": (2, 3), "dilation": (2, 3)},
    {"kernel": (3, 3), "dilation": (2, 2), "pad": (3, 2, 1, 3), "stride": (2, 1)}, {"kernel": (1, 1)},
    {"kernel": (7, 9)},
]


@pytest.mark.parametrize("window", POOLS)
@pytest.mark.parametrize("shape", [(1, 7, 9, 4), (2, 8, 11, 3)])
def test_pools(window: dict[str, Any], shape: tuple[int, ...]) -> None:
    check(lambda x: ops.MaxPool(x, **window), [floats(*shape)])
    check(lambda x: ops.AvgPool(x, **window), [floats(*shape)])
    check(lambda x: ops.AvgPool(x, **window, count_include_pad=True), [floats(*shape)])


def test_pools_with_both_compilers() -> None:
    window: dict[str, Any] = {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1, 0, 0)}
    check(lambda x: ops.MaxPool(x, **window), [integers("i8", 1, 8, 8, 3)], compilers=COMPILERS)
    for counted in (False, True):
        check(lambda x, c=counted: ops.AvgPool(x, **window, count_include_pad=c, ceil_pad=(1, 1)), [floats(1, 8, 8, 3)],
              compilers=COMPILERS)


REDUCES = [ops.ReduceMean, ops.ReduceSum, ops.ReduceMax, ops.ReduceMin, ops.ReduceProd]
AXES = [(1, 2), (2,), (0,), (3,), (-1, 1), (0, 1, 2, 3), (0, 2), (1, 3)]


@pytest.mark.parametrize("build", REDUCES)
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("shape", [(1, 3, 4, 11), (2, 5, 1, 3), (2, 1, 1, 16)])
def test_reduce(build: Any, axes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    check(lambda x: build(x, axes), [floats(*shape, low=0.5, high=1.5)], rtol=2e-6)
    check(lambda x: build(x, axes, keepdims=False), [floats(*shape, low=0.5, high=1.5)], rtol=2e-6)


@pytest.mark.parametrize("build", REDUCES[1:])
def test_reduce_of_integers(build: Any) -> None:
    for kind in ("i8", "i32", "u8", "i64"):
        check(lambda x: build(x, (1,)), [integers(kind, 3, 4, 5)], compilers=COMPILERS)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("last", [False, True])
def test_positions_of_extremes(axis: int, last: bool) -> None:
    x = integers("i8", 4, 5, 6, low=0, high=3).astype(np.float32)
    for keep in (False, True):
        check(lambda v, k=keep: ops.ArgMax(v, axis, k, last), [x], compilers=COMPILERS)
        check(lambda v, k=keep: ops.ArgMin(v, axis, k, last), [x])


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("build", [ops.Softmax, ops.LogSoftmax])
def test_softmax(axis: int, build: Any) -> None:
    check(lambda x: build(x, axis), [floats(3, 4, 5, low=-60, high=60)], compilers=COMPILERS, rtol=4e-6)


@pytest.mark.parametrize("coordinates", ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric",
                                         "align_corners"])
@pytest.mark.parametrize("size", [(10, 14), (5, 7), (3, 4), (20, 9), (1, 1)])
def test_resize(coordinates: Any, size: tuple[int, int]) -> None:
    x = floats(2, 5, 7, 3)
    scales = (size[0] / 5, size[1] / 7)
    result = TensorType((2, *size, 3), dtype("f32"))
    for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        check(lambda v, r=rounding: ops.Resize(v, "nearest", coordinates, scales, result=result, nearest=r), [x])
    check(lambda v: ops.Resize(v, "linear", coordinates, scales, result=result), [x])


def test_batch_norm() -> None:
    vectors = [floats(5), floats(5), floats(5), floats(5, low=0.1)]
    check(ops.BatchNorm, [floats(2, 3, 4, 5)], vectors, compilers=COMPILERS, rtol=1e-5)
    check(ops.BatchNorm, [floats(2, 3, 4, 5), *vectors], compilers=COMPILERS, rtol=1e-5)
