"""Convolutions, matrix products and pools against onnxruntime. ONNX is NCHW, the ops are NHWC."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.contract import same_bytes
from tinyir.ir import Array, Value
from tinyir.ops import AvgPool, BatchNorm, Conv2D, ConvTranspose2D, Dense, DepthwiseConv2D, MatMul, MaxPool, Return
from tinyir.types import F32, TensorType

Run = Callable[..., Array]
Rng = np.random.Generator


def floats(rng: Rng, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def nchw(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def nhwc(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def close(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * max(1.0, float(np.abs(expected).max())))


CONVS = [  # height, width, inputs, outputs, kernel, stride, pad, dilation, groups, bias
    (8, 8, 3, 4, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, True),
    (7, 9, 4, 6, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1, False),
    (9, 7, 4, 6, (3, 2), (2, 3), (0, 1, 2, 0), (1, 1), 1, True),
    (11, 12, 2, 3, (3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 1, True),
    (11, 12, 4, 8, (2, 5), (1, 2), (3, 0, 1, 2), (3, 1), 2, True),
    (5, 5, 6, 3, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 3, True),
    (5, 6, 8, 5, (1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1, True),
    (1, 30, 3, 4, (1, 7), (1, 2), (0, 3, 0, 3), (1, 1), 1, True),
]


@pytest.mark.parametrize(("h", "w", "c", "o", "kernel", "stride", "pad", "dilation", "groups", "bias"), CONVS)
def test_conv2d(h: int, w: int, c: int, o: int, kernel: tuple[int, int], stride: tuple[int, int],
                pad: tuple[int, ...], dilation: tuple[int, int], groups: int, bias: bool,
                run_op: Run, ort_node: Run, rng: Rng) -> None:
    x, weight = floats(rng, 2, h, w, c), floats(rng, o, *kernel, c // groups)
    b = floats(rng, o) if bias else None
    expected = ort_node("Conv", nchw(x), nchw(weight), b, strides=stride, pads=pad, dilations=dilation, group=groups)
    close(run_op(Conv2D, x, weight, b, stride=stride, pad=pad, dilation=dilation, groups=groups), nhwc(expected))


@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize(("kernel", "stride", "pad", "dilation"), [
    ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1)), ((3, 3), (2, 2), (0, 0, 1, 1), (1, 1)),
    ((5, 2), (1, 3), (2, 1, 0, 0), (1, 2)),
])
def test_depthwise_conv2d(multiplier: int, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, ...],
                          dilation: tuple[int, int], run_op: Run, ort_node: Run, rng: Rng) -> None:
    x, weight, bias = floats(rng, 1, 9, 8, 4), floats(rng, *kernel, 4 * multiplier), floats(rng, 4 * multiplier)
    oihw = np.ascontiguousarray(weight.transpose(2, 0, 1)[:, None])
    expected = ort_node("Conv", nchw(x), oihw, bias, strides=stride, pads=pad, dilations=dilation, group=4)
    close(run_op(DepthwiseConv2D, x, weight, bias, stride=stride, pad=pad, dilation=dilation), nhwc(expected))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kernel", "stride", "pad", "output_pad", "dilation"), [
    ((2, 2), (2, 2), (0, 0, 0, 0), (0, 0), (1, 1)),
    ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1), (1, 1)),
    ((3, 2), (3, 1), (0, 1, 2, 0), (0, 0), (1, 2)),
    ((4, 4), (1, 2), (2, 0, 1, 1), (0, 1), (1, 1)),
])
def test_conv_transpose2d(groups: int, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, ...],
                          output_pad: tuple[int, int], dilation: tuple[int, int],
                          run_op: Run, ort_node: Run, rng: Rng) -> None:
    x, weight, bias = floats(rng, 2, 5, 6, 4), floats(rng, 6, *kernel, 4 // groups), floats(rng, 6)
    per_group = weight.reshape(groups, 6 // groups, *kernel, 4 // groups)  # ONNX: [C, O / groups, KH, KW]
    onnx_weight = np.ascontiguousarray(per_group.transpose(0, 4, 1, 2, 3).reshape(4, 6 // groups, *kernel))
    expected = ort_node("ConvTranspose", nchw(x), onnx_weight, bias, strides=stride, pads=pad, dilations=dilation,
                        output_padding=output_pad, group=groups)
    found = run_op(ConvTranspose2D, x, weight, bias, stride=stride, pad=pad, output_pad=output_pad, dilation=dilation,
                   groups=groups)
    close(found, nhwc(expected))


def test_batch_norm(run_op: Run, ort_node: Run, rng: Rng) -> None:
    x, scale, shift, mean = floats(rng, 2, 3, 4, 5), floats(rng, 5), floats(rng, 5), floats(rng, 5)
    variance = np.abs(floats(rng, 5))
    expected = ort_node("BatchNormalization", nchw(x), scale, shift, mean, variance, epsilon=1e-3)
    close(run_op(BatchNorm, x, scale, shift, mean, variance, epsilon=1e-3), nhwc(expected))


def test_activation_comes_after_the_bias(run_op: Run, rng: Rng) -> None:
    x, weight, bias = floats(rng, 1, 5, 5, 3), floats(rng, 4, 3, 3, 3), floats(rng, 4)
    plain = run_op(Conv2D, x, weight, bias)
    np.testing.assert_array_equal(run_op(Conv2D, x, weight, bias, act="relu"), np.maximum(plain, 0))
    clipped = run_op(Conv2D, x, weight, bias, act="clip", act_args=(-1.0, 2.0))
    np.testing.assert_array_equal(clipped, np.clip(plain, -1, 2))


def test_dense(run_op: Run, ort_node: Run, rng: Rng) -> None:
    x, weight, bias = floats(rng, 3, 17), floats(rng, 5, 17), floats(rng, 5)
    close(run_op(Dense, x, weight, bias), ort_node("Gemm", x, weight, bias, transB=1))
    close(run_op(Dense, x, weight, None), ort_node("Gemm", x, weight, transB=1))


@pytest.mark.parametrize(("a", "b"), [((3, 4), (4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (4, 5)), ((2, 3, 4), (4,)),
                                      ((4,), (4,))])
def test_matmul(a: tuple[int, ...], b: tuple[int, ...], run_op: Run, ort_node: Run, rng: Rng) -> None:
    left, right = floats(rng, *a), floats(rng, *b)
    close(run_op(MatMul, left, right), ort_node("MatMul", left, right))


POOLS = [  # kernel, stride, pad, dilation
    ((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)),
    ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    ((3, 2), (1, 3), (2, 0, 0, 1), (1, 1)),
    ((2, 3), (1, 1), (0, 1, 1, 1), (3, 2)),
    ((10, 11), (1, 1), (0, 0, 0, 0), (1, 1)),
]


@pytest.mark.parametrize(("kernel", "stride", "pad", "dilation"), POOLS)
def test_pools(kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, ...], dilation: tuple[int, int],
               run_op: Run, ort_node: Run, rng: Rng) -> None:
    x = floats(rng, 2, 10, 11, 3) - 3  # negative: a zero in the padding would win
    onnx_window = {"kernel_shape": kernel, "strides": stride, "pads": pad, "dilations": dilation}
    window = {"kernel": kernel, "stride": stride, "pad": pad, "dilation": dilation}
    close(run_op(MaxPool, x, **window), nhwc(ort_node("MaxPool", nchw(x), **onnx_window)))
    for count in (False, True):
        expected = ort_node("AveragePool", nchw(x), count_include_pad=int(count), **onnx_window)
        close(run_op(AvgPool, x, count_include_pad=count, **window), nhwc(expected))


@same_bytes
@pytest.mark.parametrize("count", [False, True])
def test_ceil_mode_is_padding_that_is_never_counted(count: bool, run_op: Run, ort_node: Run, rng: Rng) -> None:
    x = floats(rng, 1, 8, 8, 2)
    expected = ort_node("AveragePool", nchw(x), kernel_shape=(3, 3), strides=(2, 2), pads=(0, 1, 0, 1), ceil_mode=1,
                        count_include_pad=int(count))
    found = run_op(AvgPool, x, kernel=(3, 3), stride=(2, 2), pad=(0, 1, 0, 1), ceil_pad=(1, 1), count_include_pad=count)
    close(found, nhwc(expected))


def test_max_pool_of_integers(run_op: Run) -> None:
    x = np.full((1, 2, 2, 1), -7, np.int8)
    assert (run_op(MaxPool, x, kernel=(2, 2), pad=(1, 1, 0, 0)) == -7).all()


def value(*shape: int) -> Value:
    return Value(TensorType(shape, F32))


def test_macs() -> None:
    image = value(1, 8, 8, 6)
    assert Conv2D(image, value(4, 3, 3, 3), pad=(1, 1, 1, 1), groups=2).macs() == 8 * 8 * 4 * 9 * 3
    assert DepthwiseConv2D(image, value(3, 3, 12), stride=(2, 2), pad=(1, 1, 1, 1)).macs() == 4 * 4 * 12 * 9
    assert ConvTranspose2D(image, value(4, 2, 2, 3), stride=(2, 2), groups=2).macs() == 8 * 8 * 6 * 4 * 2
    assert Dense(value(2, 10), value(3, 10)).macs() == 60
    assert MatMul(value(5, 2, 3), value(3, 4)).macs() == 5 * 2 * 4 * 3
    assert Return((image,)).macs() == 0
