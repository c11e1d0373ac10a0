"""Integer convolutions: op reference, kernel reference and C agree in every byte, under several compilers and flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tinyir.geometry import window_output_extent
from tinyir.ir import Value
from tinyir.opdef import Op
from tinyir.ops import QConv2D, QDense, QDepthwiseConv2D
from tinyir.types import I8, I32, U8, DType, Quant, TensorType

from .harness import COMPILERS
from .qharness import Tensor, check_exact, per_tensor, stored

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")


@dataclass(frozen=True)
class Case:
    """A convolution; weights get a scale a channel unless `one_scale`."""

    image: tuple[int, int, int]
    kernel: tuple[int, int]
    outputs: int
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    batch: int = 1
    dtype: DType = I8
    weight: DType = I8
    x_zero: int = -7
    w_zeros: tuple[int, int] = (0, 0)
    one_scale: bool = False
    clamp: tuple[int, int] | None = None
    bias: int | None = 3000
    result: DType | None = None
    attrs: dict[str, Any] = field(default_factory=dict)

    def output_shape(self) -> tuple[int, int, int, int]:
        height, width = (window_output_extent(self.image[i], self.kernel[i], self.stride[i], self.dilation[i],
                                              (self.pad[i], self.pad[i + 2])) for i in range(2))
        return self.batch, height, width, self.outputs


def random_scales(rng: np.random.Generator, count: int, one: bool) -> tuple[float, ...]:
    values = rng.uniform(0.001, 0.01, 1 if one else count).astype(np.float32)
    return tuple(float(v) for v in values)


def weight_quant(rng: np.random.Generator, case: Case, axis: int) -> Quant:
    scales = random_scales(rng, case.outputs, case.one_scale)
    if case.one_scale:
        return Quant(scales, (case.w_zeros[0],))
    zeros = rng.integers(case.w_zeros[0], case.w_zeros[1], case.outputs, endpoint=True)
    return Quant(scales, tuple(int(z) for z in zeros), axis)


def biases(rng: np.random.Generator, case: Case) -> list[Tensor]:
    if case.bias is None:
        return []
    return [(rng.integers(-case.bias, case.bias, case.outputs, endpoint=True).astype(np.int32), None)]


def y_scale(case: Case, terms: int) -> float:
    """A scale of the result with which results use the range of the type."""
    return 0.02 * 0.005 * 70 * 70 * float(np.sqrt(terms)) / 60


def result_type(case: Case, shape: tuple[int, ...], terms: int) -> TensorType:
    if case.result == I32:
        return TensorType(shape, I32, per_tensor(1.0))
    zero = 3 if case.dtype == I8 else 120
    return TensorType(shape, case.dtype, per_tensor(y_scale(case, terms), zero))


def run_case(case: Case, seed: int = 1, **options: Any) -> list[str]:
    rng = np.random.default_rng(seed)
    inputs = case.image[2] // case.groups
    x = stored(rng, case.dtype, case.batch, *case.image), per_tensor(0.02, case.x_zero)
    weight = stored(rng, case.weight, case.outputs, *case.kernel, inputs), weight_quant(rng, case, 0)
    result = result_type(case, case.output_shape(), case.kernel[0] * case.kernel[1] * inputs)

    def build(x: Value, weight: Value, bias: Value | None = None) -> Op:
        return QConv2D(x, weight, bias, result, stride=case.stride, pad=case.pad, dilation=case.dilation,
                       groups=case.groups, clamp=case.clamp)

    return check_exact(build, [x], [weight, *biases(rng, case)], **options)


CASES = {
    "pointwise": Case((5, 6, 8), (1, 1), 12),
    "pointwise, odd run": Case((3, 5, 7), (1, 1), 5),
    "pointwise, one column": Case((4, 1, 9), (1, 1), 3),
    "pointwise with stride": Case((7, 7, 4), (1, 1), 6, stride=(2, 2)),
    "3x3": Case((8, 8, 3), (3, 3), 8, pad=(1, 1, 1, 1)),
    "3x3, folded": Case((6, 7, 40), (3, 3), 6, pad=(1, 1, 1, 1)),
    "3x3 stride 2, folded": Case((9, 8, 40), (3, 3), 6, stride=(2, 2), pad=(0, 0, 1, 1)),
    "3x3 stride 2": Case((9, 8, 5), (3, 3), 7, stride=(2, 2), pad=(0, 1, 1, 0)),
    "5x5 on a small image, folded": Case((3, 2, 100), (5, 5), 4, pad=(2, 2, 2, 2)),
    "no padding": Case((7, 9, 3), (4, 2), 5, stride=(1, 2)),
    "dilated": Case((9, 10, 4), (3, 3), 6, pad=(2, 3, 1, 2), dilation=(2, 3)),
    "dilated, folded": Case((9, 10, 70), (3, 3), 2, pad=(2, 3, 1, 2), dilation=(2, 3)),
    "dilation beyond the image": Case((1, 1, 2), (3, 2), 2, pad=(3, 1, 3, 1), dilation=(3, 2)),
    "groups": Case((6, 6, 12), (3, 3), 9, pad=(1, 1, 1, 1), groups=3),
    "groups, pointwise": Case((4, 5, 6), (1, 1), 8, groups=2),
    "groups, folded": Case((4, 5, 80), (3, 3), 6, groups=2, pad=(1, 1, 1, 1)),
    "batch": Case((5, 5, 4), (3, 3), 4, pad=(1, 1, 1, 1), batch=3),
    "batch, pointwise": Case((3, 3, 4), (1, 1), 4, batch=2),
    "u8": Case((6, 6, 8), (3, 3), 8, pad=(1, 1, 1, 1), dtype=U8, x_zero=128),
    "u8, zero point 0": Case((6, 6, 8), (3, 3), 8, pad=(1, 1, 1, 1), dtype=U8, x_zero=0),
    "u8 weights": Case((6, 6, 8), (3, 3), 8, pad=(1, 1, 1, 1), dtype=U8, weight=U8, x_zero=3, w_zeros=(100, 150)),
    "u8 weights, folded": Case((6, 6, 40), (3, 3), 4, pad=(1, 1, 1, 1), weight=U8, w_zeros=(10, 10)),
    "weights with zero points": Case((5, 5, 8), (1, 1), 8, w_zeros=(-20, 20)),
    "one scale": Case((5, 5, 8), (3, 3), 8, one_scale=True, pad=(1, 1, 1, 1)),
    "clamp": Case((5, 5, 8), (3, 3), 8, clamp=(3, 90)),
    "no bias": Case((5, 5, 8), (3, 3), 8, bias=None),
    "i32 result": Case((5, 5, 8), (3, 3), 4, result=I32, pad=(1, 1, 1, 1)),
    "sums that wrap around": Case((4, 4, 8), (1, 1), 8, bias=2**31 - 1),
    "sums that wrap around, 3x3": Case((4, 4, 8), (3, 3), 8, bias=2**31 - 1, pad=(1, 1, 1, 1), result=I32),
}


@pytest.mark.parametrize("name", CASES)
def test_convolution(name: str) -> None:
    run_case(CASES[name])


@pytest.mark.parametrize("seed", range(3))
def test_channels_without_a_proof(seed: int) -> None:
    remarks = run_case(Case((6, 6, 16), (3, 3), 64, pad=(1, 1, 1, 1)), seed)
    assert "emulated" in remarks[0]


def run_depthwise(case: Case, seed: int = 1, **options: Any) -> list[str]:
    rng = np.random.default_rng(seed)
    x = stored(rng, case.dtype, case.batch, *case.image), per_tensor(0.02, case.x_zero)
    weight = stored(rng, case.weight, *case.kernel, case.outputs), weight_quant(rng, case, 2)
    result = result_type(case, case.output_shape(), case.kernel[0] * case.kernel[1])

    def build(x: Value, weight: Value, bias: Value | None = None) -> Op:
        return QDepthwiseConv2D(x, weight, bias, result, stride=case.stride, pad=case.pad, dilation=case.dilation,
                                clamp=case.clamp)

    return check_exact(build, [x], [weight, *biases(rng, case)], **options)


DEPTHWISE = {
    "3x3": Case((8, 8, 8), (3, 3), 8, pad=(1, 1, 1, 1)),
    "3x3, odd": Case((7, 5, 3), (3, 3), 3, pad=(1, 1, 1, 1), x_zero=-128),
    "one pixel": Case((1, 1, 4), (3, 3), 4, pad=(1, 1, 1, 1)),
    "3x3 stride 2": Case((9, 8, 5), (3, 3), 5, stride=(2, 2), pad=(0, 0, 1, 1)),
    "7x5": Case((8, 9, 4), (7, 5), 4, pad=(3, 2, 3, 2)),
    "no padding": Case((10, 11, 4), (4, 3), 4, stride=(2, 1)),
    "zero point 0": Case((6, 6, 4), (3, 3), 4, pad=(1, 1, 1, 1), x_zero=0),
    "u8": Case((6, 6, 4), (3, 3), 4, pad=(1, 1, 1, 1), dtype=U8, x_zero=128),
    "u8 weights": Case((6, 6, 4), (3, 3), 4, pad=(1, 1, 1, 1), dtype=U8, x_zero=12, weight=U8, w_zeros=(90, 160)),
    "two results a channel": Case((6, 6, 4), (3, 3), 8, pad=(1, 1, 1, 1)),
    "one channel": Case((9, 7, 1), (5, 3), 8, stride=(2, 2), pad=(2, 1, 2, 1)),
    "dilated": Case((9, 10, 4), (3, 3), 4, pad=(2, 3, 1, 2), dilation=(2, 3)),
    "dilation beyond the image": Case((1, 1, 2), (3, 2), 2, pad=(3, 1, 3, 1), dilation=(3, 2)),
    "dilation beyond the image, zero point 0": Case((1, 1, 2), (3, 2), 2, pad=(3, 1, 3, 1), dilation=(3, 2), x_zero=0),
    "batch": Case((5, 5, 4), (3, 3), 4, pad=(1, 1, 1, 1), batch=2),
    "many channels": Case((5, 6, 70), (3, 3), 70, pad=(1, 1, 1, 1)),
    "one scale": Case((5, 6, 7), (3, 3), 7, pad=(1, 1, 1, 1), one_scale=True, clamp=(-20, 60)),
    "no bias": Case((5, 6, 7), (3, 3), 7, pad=(1, 1, 1, 1), bias=None),
    "i32 result": Case((5, 6, 7), (3, 3), 7, pad=(1, 1, 1, 1), result=I32),
    "sums that wrap around": Case((4, 4, 8), (3, 3), 8, bias=2**31 - 1, pad=(1, 1, 1, 1), result=I32),
}


@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise(name: str) -> None:
    run_depthwise(DEPTHWISE[name])


@pytest.mark.parametrize(("batch", "inputs", "outputs"), [(1, 64, 10), (3, 33, 7), (2, 5, 1), (4, 100, 64)])
@pytest.mark.parametrize("dtype", [I8, U8])
def test_dense(batch: int, inputs: int, outputs: int, dtype: DType) -> None:
    rng = np.random.default_rng(inputs)
    case = Case((1, 1, inputs), (1, 1), outputs, dtype=dtype, x_zero=int(rng.integers(*dtype.range)))
    x = stored(rng, dtype, batch, inputs), per_tensor(0.02, case.x_zero)
    weight = stored(rng, I8, outputs, inputs), weight_quant(rng, case, 0)
    result = result_type(case, (batch, outputs), inputs)
    check_exact(lambda x, w, b: QDense(x, w, b, result), [x], [weight, *biases(rng, case)])
