"""Means, pools, softmax, matrix products and boundaries of stored integers: every byte, with floats and without."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from tinyir.ir import Array
from tinyir.ops import Dequantize, QAvgPool, QMatMul, QReduceMean, QSoftmax, Quantize, Reinterpret
from tinyir.types import I8, I16, I32, U8, DType, Quant, TensorType

from .harness import COMPILERS
from .qharness import check_exact, per_tensor, stored

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
ARITHMETIC: list[dict[str, Any]] = [{}, {"requant": "integer"}]
PADS = {(0, 0, 0, 0): (4, 5), (1, 0, 1, 1): (5, 5), (1, 1, 1, 1): (5, 6)}


@pytest.mark.parametrize("rule", ["single", "exact"])
@pytest.mark.parametrize("dtype", [I8, U8])
@pytest.mark.parametrize(("scales", "shape", "axes"), [
    ((0.031, 0.0117), (1, 7, 5, 30), (1, 2)), ((0.02, 0.02), (2, 4, 4, 9), (1, 2)), ((0.5, 0.25), (2, 8, 8, 3), (1, 2)),
    ((0.02, 0.02), (3, 4, 5), (-1,)), ((0.1, 0.03), (2, 3, 4, 5), (0, 2)), ((0.02, 0.02), (6, 4), (0, 1)),
])
def test_mean(scales: tuple[float, float], shape: tuple[int, ...], axes: tuple[int, ...], dtype: DType,
              rule: Literal["single", "exact"]) -> None:
    rng = np.random.default_rng(3)
    x = stored(rng, dtype, *shape)
    qx, qy = (per_tensor(s, int(rng.integers(*dtype.range))) for s in scales)
    result = TensorType(x.mean(axis=axes, keepdims=True).shape, dtype, qy)
    check_exact(lambda x: QReduceMean(x, result, axes, rule=rule), [(x, qx)])


@pytest.mark.parametrize("zero", [3, 4])
def test_exact_mean_of_every_sum(zero: int) -> None:
    sums = np.arange(256 * 4)
    x = np.stack([np.clip(sums - 256 * i, 0, 255) for i in range(4)], axis=1).astype(np.uint8)
    result = TensorType((len(x), 1), U8, per_tensor(0.02, zero))
    remarks = check_exact(lambda x: QReduceMean(x, result, (1,), rule="exact"), [(x, per_tensor(0.02, 7))])
    assert remarks == [
        "qnn.reduce_mean: no linear form could be proved, the sums at which the result changes are searched"]


@pytest.mark.parametrize("attrs", ARITHMETIC)
@pytest.mark.parametrize("dtype", [I8, U8])
@pytest.mark.parametrize("pad", PADS)
@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("scales", [(0.031, 0.027), (0.02, 0.02)])
def test_average_pool(scales: tuple[float, float], include: bool, pad: tuple[int, int, int, int], dtype: DType,
                      attrs: dict[str, Any]) -> None:
    rng = np.random.default_rng(4)
    x = stored(rng, dtype, 2, 10, 11, 6)
    qx, qy = per_tensor(scales[0], 5), per_tensor(scales[1], 9)
    height, width = (10 + pad[0] + pad[2] - 3) // 2 + 1, (11 + pad[1] + pad[3] - 2) // 2 + 1
    result = TensorType((2, height, width, 6), dtype, qy)
    check_exact(lambda x: QAvgPool(x, result, (3, 2), (2, 2), pad, include), [(x, qx)], **attrs)


@pytest.mark.parametrize("attrs", ARITHMETIC)
@pytest.mark.parametrize("scale", [1 / 256, 1 / 255])
@pytest.mark.parametrize(("shape", "axis"), [((40, 12), -1), ((3, 1000), 1), ((2, 5, 7), 1), ((4, 1), 1)])
@pytest.mark.parametrize(("dtype", "zero"), [(I8, -128), (U8, 0), (I8, 5)])
def test_softmax(dtype: DType, zero: int, shape: tuple[int, ...], axis: int, scale: float,
                 attrs: dict[str, Any]) -> None:
    rng = np.random.default_rng(5)
    x = stored(rng, dtype, *shape)
    result = TensorType(shape, dtype, per_tensor(scale, zero))
    builds = [("gcc", ("-std=gnu11", "-O3", "-ffp-contract=fast")), ("clang", ("-O2",))]
    for scale_of_x in (0.14, 1.3):
        remarks = check_exact(lambda x: QSoftmax(x, result, axis), [(x, per_tensor(scale_of_x, 5))], builds=builds,
                              **attrs)
        assert bool(remarks) == (scale != 1 / 256)


@pytest.mark.parametrize("dtypes", [(I8, I8, I8), (U8, U8, U8), (U8, I8, I8)])
@pytest.mark.parametrize("zeros", [(0, 0), (12, 0), (12, 100)])
@pytest.mark.parametrize(("a", "b"), [((5, 8), (8, 7)), ((3, 4, 9), (3, 9, 5)), ((2, 1, 3, 6), (4, 6, 8))])
def test_matmul(a: tuple[int, ...], b: tuple[int, ...], zeros: tuple[int, int], dtypes: tuple[DType, DType, DType]) \
        -> None:
    rng = np.random.default_rng(6)
    left, right = stored(rng, dtypes[0], *a), stored(rng, dtypes[1], *b)
    shape = np.matmul(np.zeros(a), np.zeros(b)).shape
    result = TensorType(shape, dtypes[2], per_tensor(0.06, 4))
    check_exact(lambda x, y: QMatMul(x, y, result),
                [(left, per_tensor(0.02, zeros[0])), (right, per_tensor(0.01, zeros[1]))],
                builds=[("gcc", ("-O3", "-march=native")), ("clang", ("-O2",))])


def boundary_floats(dtype: DType) -> Array:
    rng = np.random.default_rng(7)
    halves = (np.arange(-400, 400) / 2 * 0.25).astype(np.float32)
    special = np.asarray([np.inf, -np.inf, 1e30, -1e30, 1e-40, -0.0, 3e8], np.float32)
    wide = rng.uniform(-1, 1, 2000).astype(np.float32) * np.float32(0.25 * 1.5 * dtype.range[1])
    return np.concatenate([halves, special, wide, np.zeros(3, np.float32)]).reshape(5, -1, 2)


@pytest.mark.parametrize("dtype", [I8, U8, I16])
@pytest.mark.parametrize("scale", [0.25, 0.0371])
def test_quantize(scale: float, dtype: DType) -> None:
    x = boundary_floats(dtype)
    result = TensorType(x.shape, dtype, per_tensor(scale, 3))
    check_exact(lambda x: Quantize(x, result), [(x, None)])


@pytest.mark.parametrize("zeros", [(0,), (3, -5)])
@pytest.mark.parametrize("axis", [2, 0])
def test_quantize_per_axis(axis: int, zeros: tuple[int, ...]) -> None:
    x = boundary_floats(I8)[:2]
    quant = Quant(tuple(float(np.float32(s)) for s in (0.1, 0.25)), zeros, axis)
    check_exact(lambda x: Quantize(x, TensorType(x.shape, I8, quant)), [(x, None)])
    rng = np.random.default_rng(8)
    check_exact(Dequantize, [(stored(rng, I8, *x.shape), quant)])


def test_nan_becomes_the_least_value() -> None:
    from .harness import call, compile_library, emit
    from .qharness import lowered, quantised_module

    x = np.asarray([np.nan, -np.nan, 1.0], np.float32)
    result = TensorType((3,), I8, per_tensor(0.5, 3))
    module, _ = lowered(quantised_module(lambda x: Quantize(x, result), [(x, None)]))
    for compiler in COMPILERS:
        assert call(compile_library(emit(module), compiler, ("-O3",)), module, [x])[0].tolist() == [-128, -128, 5]


@pytest.mark.parametrize("dtype", [I8, U8, I32])
def test_dequantize(dtype: DType) -> None:
    rng = np.random.default_rng(8)
    check_exact(Dequantize, [(stored(rng, dtype, 3, 100), per_tensor(0.0371, 3))])


def test_reinterpret_is_no_code() -> None:
    rng = np.random.default_rng(8)
    x = stored(rng, I8, 3, 100)
    result = TensorType(x.shape, I8, per_tensor(0.7, 3))
    check_exact(lambda x: Reinterpret(x, result), [(x, per_tensor(0.3, 1))])


