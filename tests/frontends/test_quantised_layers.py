"""Quantised convolutions and matrix products in every form that exporters write, against onnxruntime byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests import contract
from tests.frontends.quantised import (
    FROM_ZERO,
    INPUT,
    OUTPUT,
    S8,
    U8,
    Builder,
    close_bytes,
    kinds,
    onnxruntime_kinds,
    same_bytes,
)

pytestmark = contract.same_bytes
PAIRS = [(S8, S8), (U8, S8), (U8, U8)]
"""Stored types of activations and weights for which onnxruntime has kernels."""


def _zero(dtype: Any) -> int:
    return 128 if dtype is U8 else 0


def _with_bias(b: Builder, inputs: list[str], bias: str, count: int, x: Any, axis: int | None) -> list[str]:
    if bias == "float":
        return [*inputs, b.floats(count)]
    return inputs if bias == "none" else [*inputs, b.bias(x, count, axis, zero=bias == "stored")]


def _conv(x: Any, y: Any, weight: Any = S8, axis: int | None = 0, bias: str = "stored", group: int = 1,
          zero: int | None = None, behind: tuple[Any, ...] = (), output: bool = True) -> onnx.ModelProto:
    b = Builder()
    inputs = [b.both(b.input(1, 4, 7, 6), x),
              b.weight(8, 4 // group, 3, 3, dtype=weight, axis=axis, zero=_zero(weight) if zero is None else zero)]
    made = b.op("Conv", *_with_bias(b, inputs, bias, 8, x, axis), group=group, pads=[1, 1, 1, 1])
    if behind:
        made = b.op(behind[0], made, *(b.const(np.float32(v)) for v in behind[1:]))
    return b.model(b.both(made, y) if output else made)


@pytest.mark.parametrize("bias", ["none", "stored", "without zero point", "float"])
@pytest.mark.parametrize("axis", [None, 0], ids=["tensor", "channel"])
@pytest.mark.parametrize(("x", "weight"), PAIRS)
def test_convolution(x: Any, weight: Any, axis: int | None, bias: str) -> None:
    module = same_bytes(_conv(INPUT[x], OUTPUT[x], weight, axis, bias))
    assert kinds(module) == ["qnn.conv2d", "qnn.dequantize", "qnn.quantize"]


@pytest.mark.parametrize(("x", "weight", "zero"), [(S8, S8, 3), (U8, S8, -5), (U8, U8, 77)])
@pytest.mark.parametrize("axis", [None, 0], ids=["tensor", "channel"])
def test_weights_with_a_zero_point(x: Any, weight: Any, zero: int, axis: int | None) -> None:
    same_bytes(_conv(INPUT[x], OUTPUT[x], weight, axis, zero=zero))


@pytest.mark.parametrize("group", [2, 4])
@pytest.mark.parametrize("x", [S8, U8])
def test_groups(x: Any, group: int) -> None:
    module = same_bytes(_conv(INPUT[x], OUTPUT[x], group=group))
    assert kinds(module)[0] == ("qnn.depthwise_conv2d" if group == 4 else "qnn.conv2d")


@pytest.mark.parametrize("behind", [("Relu",), ("Clip", 0, 6), ("Clip", 0, 20)], ids=str)
@pytest.mark.parametrize("x", [S8, U8])
def test_activation_that_saturation_implies(x: Any, behind: tuple[Any, ...]) -> None:
    """The stored range begins at real 0; up to 12.75 a clip to 6 is a clamp, which onnxruntime computes in float."""
    model = _conv(INPUT[x], FROM_ZERO[x], behind=behind)
    module = close_bytes(model, 0.05) if behind[-1] == 6 else same_bytes(model)
    clamp = next(op for op in module.walk() if op.opname == "qnn.conv2d").attrs["clamp"]
    low = int(FROM_ZERO[x][1])
    assert clamp == ((low, low + 120) if behind[-1] == 6 else None)


@pytest.mark.parametrize("behind", [("Relu",), ("Clip", 0, 6), ("Clip", -1.3, 2.2)], ids=str)
@pytest.mark.parametrize("x", [S8, U8])
def test_activation_that_is_a_clamp(x: Any, behind: tuple[Any, ...], tmp_path: Path) -> None:
    """onnxruntime computes these in float; one integer op is as exact, and the clamp is in stored values."""
    model = _conv(INPUT[x], OUTPUT[x], behind=behind)
    assert "QLinearConv" not in onnxruntime_kinds(model, tmp_path)
    module = close_bytes(model, OUTPUT[x][0])
    assert kinds(module) == ["qnn.conv2d", "qnn.dequantize", "qnn.quantize"]


@pytest.mark.parametrize(("x", "weight", "y"), [(S8, U8, S8), (S8, S8, U8), (U8, S8, S8), (U8, U8, S8)])
def test_types_that_onnxruntime_has_no_kernel_for(x: Any, weight: Any, y: Any, tmp_path: Path) -> None:
    model = _conv(INPUT[x], OUTPUT[y], weight)
    assert onnxruntime_kinds(model, tmp_path) == ["Conv"]
    assert kinds(close_bytes(model, OUTPUT[y][0])) == ["qnn.conv2d", "qnn.dequantize", "qnn.quantize"]


@pytest.mark.parametrize("factor", [1.005, 1.5])
def test_bias_in_other_units(factor: float) -> None:
    """Within a percent the stored integers are taken as they are, beyond they are rounded to other units."""
    b = Builder()
    x = b.both(b.input(1, 4, 7, 6), INPUT[U8])
    weight = b.weight(8, 4, 3, 3)
    bias = b.bias((0.03 * factor, None), 8, None)
    model = b.model(b.both(b.op("Conv", x, weight, bias), OUTPUT[U8]))
    module = same_bytes(model) if factor < 1.01 else close_bytes(model, OUTPUT[U8][0])
    assert kinds(module) == ["qnn.conv2d", "qnn.dequantize", "qnn.quantize"]


@pytest.mark.parametrize("axis", [None, 0], ids=["tensor", "channel"])
@pytest.mark.parametrize("bias", ["none", "stored", "float"])
def test_convolution_with_a_float_result(axis: int | None, bias: str) -> None:
    """The sum is exact and is scaled once; onnxruntime sums in float."""
    module = close_bytes(_conv(INPUT[S8], None, axis=axis, bias=bias, output=False), 1e-3)
    assert "qnn.conv2d" in kinds(module)


# -- matrix products -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", ["none", "stored", "float"])
@pytest.mark.parametrize("channels", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize(("x", "weight"), PAIRS)
def test_gemm(x: Any, weight: Any, turned: int, channels: bool, bias: str) -> None:
    b = Builder()
    axis = 1 - turned if channels else None
    inputs = [b.both(b.input(3, 10), INPUT[x]),
              b.weight(*((6, 10) if turned else (10, 6)), dtype=weight, axis=axis, zero=_zero(weight))]
    made = b.op("Gemm", *_with_bias(b, inputs, bias, 6, INPUT[x], axis), transB=turned)
    module = same_bytes(b.model(b.both(made, OUTPUT[x])))
    assert kinds(module) == ["qnn.dense", "qnn.dequantize", "qnn.quantize"]


@pytest.mark.parametrize("bias", ["none", "stored", "float"])
@pytest.mark.parametrize("axis", [None, 1], ids=["tensor", "column"])
@pytest.mark.parametrize("shape", [(3, 10), (2, 3, 10)], ids=str)
@pytest.mark.parametrize(("x", "weight"), PAIRS)
def test_matmul(x: Any, weight: Any, shape: tuple[int, ...], axis: int | None, bias: str) -> None:
    """A bias is added behind; onnxruntime makes one product of both."""
    b = Builder()
    left, right = b.both(b.input(*shape), INPUT[x]), b.weight(10, 6, dtype=weight, axis=axis, zero=_zero(weight))
    made = b.op("MatMul", left, right)
    if bias != "none":
        made = b.op("Add", made, _with_bias(b, [], bias, 6, INPUT[x], axis)[0])
    module = same_bytes(b.model(b.both(made, OUTPUT[x])))
    assert kinds(module) == ["qnn.dense", "qnn.dequantize", "qnn.quantize"]


@pytest.mark.parametrize("axis", [None, 0], ids=["tensor", "row"])
def test_weight_turned_behind_its_dequantize(axis: int | None) -> None:
    b = Builder()
    x = b.both(b.input(3, 10), INPUT[U8])
    turned = b.op("Transpose", b.weight(6, 10, axis=axis), perm=[1, 0])
    module = same_bytes(b.model(b.both(b.op("MatMul", x, turned), OUTPUT[U8])))
    assert kinds(module) == ["qnn.dense", "qnn.dequantize", "qnn.quantize"]


@pytest.mark.parametrize("x", [S8, U8])
def test_product_of_two_activations(x: Any) -> None:
    b = Builder()
    left, right = b.both(b.input(2, 3, 4, 5), INPUT[x]), b.both(b.input(2, 3, 5, 6), INPUT[x])
    module = same_bytes(b.model(b.both(b.op("MatMul", left, right), OUTPUT[x])))
    assert "qnn.matmul" in kinds(module)


@pytest.mark.parametrize("bias", ["none", "stored"])
@pytest.mark.parametrize("axis", [None, 1], ids=["tensor", "channel"])
def test_gemm_with_a_float_result(axis: int | None, bias: str) -> None:
    b = Builder()
    inputs = [b.both(b.input(3, 10), INPUT[U8]), b.weight(10, 6, axis=axis)]
    module = same_bytes(b.model(b.op("Gemm", *_with_bias(b, inputs, bias, 6, INPUT[U8], axis))))
    assert kinds(module) == ["qnn.dense", "qnn.dequantize", "qnn.quantize"]


# -- whole exports ---------------------------------------------------------------------------------------------------


def _fake_quantised(b: Builder, scale: float, *shape: int) -> str:
    """Float weights with a quantize and a dequantize of their own, one scale a channel."""
    quant = (np.full(shape[0], scale, np.float32), np.zeros(shape[0], S8))
    stored = b.quantize(b.floats(*shape, spread=0.4), quant, axis=0)
    return b.dequantize(stored, quant, axis=0)


def test_training_export() -> None:
    """As frameworks write quantisation-aware training: weights stored in float, float biases, relus, a linear layer."""
    b = Builder()
    x = b.both(b.input(1, 4, 8, 8), INPUT[U8])
    for inputs, outputs in ((4, 8), (8, 6)):
        made = b.op("Conv", x, _fake_quantised(b, 0.01, outputs, inputs, 3, 3), b.floats(outputs), pads=[1, 1, 1, 1])
        x = b.both(b.op("Relu", made), FROM_ZERO[U8])
    pooled = b.both(b.op("GlobalAveragePool", x), FROM_ZERO[U8])
    flat = b.op("Reshape", pooled, b.const(np.array([1, 6], np.int64)))
    weight = b.op("Transpose", _fake_quantised(b, 0.01, 5, 6), perm=[1, 0])
    y = b.both(b.op("Add", b.op("MatMul", flat, weight), b.floats(5)), OUTPUT[U8])
    module = same_bytes(b.model(y))
    assert kinds(module) == ["qnn.conv2d", "qnn.conv2d", "qnn.dense", "qnn.dequantize", "qnn.quantize",
                             "qnn.reduce_mean"]


def test_training_export_with_clip() -> None:
    b = Builder()
    made = b.op("Conv", b.both(b.input(1, 4, 8, 8), INPUT[U8]), _fake_quantised(b, 0.01, 8, 4, 3, 3))
    clipped = b.op("Clip", made, b.const(np.float32(0)), b.const(np.float32(6)))
    module = same_bytes(b.model(b.both(clipped, (6 / 255, U8(0)))))
    assert kinds(module) == ["qnn.conv2d", "qnn.dequantize", "qnn.quantize"]


@pytest.mark.parametrize("opset", [11, 12, 13, 15, 17, 19, 21, 23])
def test_opsets(opset: int) -> None:
    b = Builder(opset=opset)
    x = b.both(b.input(1, 4, 8, 8), INPUT[U8])
    made = b.op("Conv", x, b.weight(8, 4, 3, 3, axis=0 if opset >= 13 else None), pads=[1, 1, 1, 1])
    same_bytes(b.model(b.both(b.op("Relu", b.both(made, OUTPUT[U8])), OUTPUT[U8])))


@pytest.mark.parametrize("dtype", [S8, U8])
def test_type_from_output_dtype(dtype: Any) -> None:
    """Without a zero point it is 0, and the attribute tells the stored type."""
    b = Builder()
    scale = b.const(np.float32(0.03))
    code = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x = b.op("DequantizeLinear", b.op("QuantizeLinear", b.input(1, 4, 8, 8), scale, output_dtype=code), scale)
    module = same_bytes(b.model(b.both(b.op("Conv", x, b.weight(8, 4, 3, 3)), OUTPUT[dtype])))
    assert "qnn.conv2d" in kinds(module)
