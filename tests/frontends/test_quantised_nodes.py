"""Models of quantised operators (QLinearConv, com.microsoft.QGemm, ConvInteger, ...), against onnxruntime's bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from tests import contract
from tests.frontends.quantised import (
    FROM_ZERO,
    INPUT,
    MICROSOFT,
    OTHER,
    OUTPUT,
    S8,
    U8,
    Builder,
    Quantisation,
    compiled,
    kinds,
    same_bytes,
)
from tinyir.diag import CompileError, Unsupported

pytestmark = contract.same_bytes
TYPES = pytest.mark.parametrize("dtype", [S8, U8], ids=["int8", "uint8"])


def network(dtype: Any, body: Callable[[Builder, str], str], output: Quantisation, *shape: int) -> onnx.ModelProto:
    b = Builder()
    x = b.quantize(b.input(*(shape or (1, 4, 8, 8))), INPUT[dtype])
    return b.model(b.dequantize(body(b, x), output))


def _weight(b: Builder, shape: tuple[int, ...], channels: int | None, dtype: Any = S8, zero: int = 0) -> list[str]:
    """Weight, scale, zero point; `channels` of them or one."""
    count = () if channels is None else (channels,)
    scale = b.rng.uniform(0.002, 0.02, count).astype(np.float32)
    return [b.const(b.random(dtype, *shape)), b.const(scale), b.const(np.full(count, zero, dtype))]


# -- layers ----------------------------------------------------------------------------------------------------------


def _qlinear_conv(b: Builder, x: str, dtype: Any, channels: int | None, bias: bool, **attrs: Any) -> str:
    group = attrs.get("group", 1)
    weight = _weight(b, (8, 4 // group, 3, 3), channels)
    more = [b.const(b.random(np.int32, 8))] if bias else []
    return b.op("QLinearConv", x, *b.parameters(INPUT[dtype]), *weight, *b.parameters(OUTPUT[dtype]), *more,
                pads=[1, 1, 1, 1], **attrs)


@TYPES
@pytest.mark.parametrize("attrs", [{}, {"group": 2}, {"group": 4, "strides": [2, 2]}], ids=str)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("channels", [None, 8])
def test_qlinear_conv(channels: int | None, bias: bool, attrs: dict[str, Any], dtype: Any) -> None:
    module = same_bytes(network(dtype, lambda b, x: _qlinear_conv(b, x, dtype, channels, bias, **attrs),
                                OUTPUT[dtype]))
    layer = "qnn.depthwise_conv2d" if attrs.get("group") == 4 else "qnn.conv2d"
    assert kinds(module) == sorted([layer, "qnn.dequantize", "qnn.quantize"])


@TYPES
@pytest.mark.parametrize("channels", [None, 6])
@pytest.mark.parametrize("shape", [(3, 10), (2, 3, 10)], ids=str)
def test_qlinear_matmul(shape: tuple[int, ...], channels: int | None, dtype: Any) -> None:
    module = same_bytes(network(dtype, lambda b, x: b.op(
        "QLinearMatMul", x, *b.parameters(INPUT[dtype]), *_weight(b, (10, 6), channels),
        *b.parameters(OUTPUT[dtype])), OUTPUT[dtype], *shape))
    assert "qnn.dense" in kinds(module)


def _qgemm(b: Builder, x: str, dtype: Any, turned: int, channels: int | None, output: bool) -> str:
    weight = _weight(b, (6, 10) if turned else (10, 6), channels)
    results = b.parameters(OUTPUT[dtype]) if output else ()
    return b.op("QGemm", x, *b.parameters(INPUT[dtype]), *weight, b.const(b.random(np.int32, 6)), *results,
                transB=turned, domain=MICROSOFT)


@TYPES
@pytest.mark.parametrize("channels", [None, 6])
@pytest.mark.parametrize("turned", [0, 1])
def test_qgemm(turned: int, channels: int | None, dtype: Any) -> None:
    module = same_bytes(network(dtype, lambda b, x: _qgemm(b, x, dtype, turned, channels, True), OUTPUT[dtype], 3, 10))
    assert "qnn.dense" in kinds(module)


@TYPES
def test_qgemm_with_a_real_result(dtype: Any) -> None:
    b = Builder()
    x = b.quantize(b.input(3, 10), INPUT[dtype])
    module = same_bytes(b.model(_qgemm(b, x, dtype, 1, 6, False)))
    assert kinds(module) == ["qnn.dense", "qnn.dequantize", "qnn.quantize"]


# -- sums, functions, pools ------------------------------------------------------------------------------------------


@TYPES
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("kind", ["QLinearAdd", "QLinearMul"])
def test_pairs(kind: str, constant: bool, dtype: Any) -> None:
    def body(b: Builder, x: str) -> str:
        second = b.const(b.random(dtype, 1, 4, 1, 1)) if constant else b.quantize(b.inputs[0].name, OTHER[dtype])
        return b.op(kind, x, *b.parameters(INPUT[dtype]), second, *b.parameters(OTHER[dtype]),
                    *b.parameters(OUTPUT[dtype]), domain=MICROSOFT)

    assert kind.replace("QLinear", "qnn.").lower() in kinds(same_bytes(network(dtype, body, OUTPUT[dtype])))


UNARY: list[tuple[str, dict[str, Any]]] = [
    ("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.05}), ("QLinearGlobalAveragePool", {}),
    ("QLinearAveragePool", {"kernel_shape": [2, 2]}),
    ("QLinearAveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ("QLinearAveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("QLinearAveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("QLinearAveragePool", {"kernel_shape": [8, 8]}),
    ("QLinearSoftmax", {"axis": -1, "opset": 13}), ("QLinearSoftmax", {"axis": 1, "opset": 13}),
    ("QLinearSoftmax", {"axis": 2, "opset": 12}), ("QLinearSoftmax", {"opset": 12}),
]


@TYPES
@pytest.mark.parametrize(("kind", "attrs"), UNARY, ids=str)
def test_one_input(kind: str, attrs: dict[str, Any], dtype: Any) -> None:
    output = (1 / 256, FROM_ZERO[dtype][1]) if "Softmax" in kind else OUTPUT[dtype]
    module = same_bytes(network(dtype, lambda b, x: b.op(kind, x, *b.parameters(INPUT[dtype]), *b.parameters(output),
                                                         domain=MICROSOFT, **attrs), output))
    assert len([name for name in kinds(module) if name.startswith("qnn.")]) == 3


@TYPES
@pytest.mark.parametrize("second", [INPUT, OTHER], ids=["equal", "different"])
def test_qlinear_concat(second: Any, dtype: Any) -> None:
    module = same_bytes(network(dtype, lambda b, x: b.op(
        "QLinearConcat", *b.parameters(INPUT[dtype]), x, *b.parameters(INPUT[dtype]),
        b.quantize(b.inputs[0].name, second[dtype]), *b.parameters(second[dtype]), axis=1, domain=MICROSOFT),
        INPUT[dtype]))
    assert ("qnn.lookup" in kinds(module)) == (second is OTHER)


@TYPES
def test_moves_of_stored_integers(dtype: Any) -> None:
    """Between quantised operators, moving ops work on plain integers, whose scale only their readers name."""
    def body(b: Builder, x: str) -> str:
        turned = b.op("Transpose", x, perm=[0, 1, 3, 2])
        padded = b.op("Pad", turned, b.const(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)), b.const(INPUT[dtype][1]))
        pooled = b.op("MaxPool", padded, kernel_shape=[2, 2], strides=[2, 2])
        return _qlinear_conv(b, pooled, dtype, 8, True)

    assert "qnn.conv2d" in kinds(same_bytes(network(dtype, body, OUTPUT[dtype])))


# -- int32 results ---------------------------------------------------------------------------------------------------


@TYPES
@pytest.mark.parametrize("zeros", [None, 3, "channels"])
@pytest.mark.parametrize("kind", ["ConvInteger", "MatMulInteger"])
def test_integer_products(kind: str, zeros: Any, dtype: Any) -> None:
    if kind == "ConvInteger" and zeros == "channels":
        pytest.skip("onnxruntime takes one zero point")
    b = Builder()
    x = b.quantize(b.input(*((3, 10) if kind == "MatMulInteger" else (1, 4, 8, 8))), INPUT[dtype])
    weight = b.const(b.random(dtype, *((10, 6) if kind == "MatMulInteger" else (8, 4, 3, 3))))
    given = [] if zeros is None else [b.const(np.arange(6).astype(dtype) if zeros == "channels" else dtype(zeros))]
    module = same_bytes(b.model(b.op(kind, x, weight, b.const(INPUT[dtype][1]), *given)))
    assert kinds(module) == ["qnn.conv2d" if kind == "ConvInteger" else "qnn.dense", "qnn.quantize"]


@TYPES
def test_scaled_integer_product(dtype: Any) -> None:
    b = Builder()
    x = b.quantize(b.input(3, 10), INPUT[dtype])
    sums = b.op("MatMulInteger", x, b.const(b.random(dtype, 10, 6)), b.const(INPUT[dtype][1]))
    real = b.op("Mul", b.op("Cast", sums, to=1), b.const(np.float32(0.0003)))
    same_bytes(b.model(b.op("Add", real, b.floats(6))))


# -- what is not supported, and what is wrong ------------------------------------------------------------------------


def _pair(scale: Any, zero: Any, **attrs: Any) -> onnx.ModelProto:
    b = Builder()
    return b.model(b.dequantize(b.quantize(b.input(1, 4, 8, 8), (scale, zero), **attrs), (scale, zero), **attrs))


@pytest.mark.parametrize(("scale", "zero", "message"), [
    (np.nan, S8(0), "has 1 values that are not positive"), (0.0, S8(0), "has 1 values that are not positive"),
    (-1.0, S8(0), "not positive \\(first: -1.0\\)"), (np.inf, S8(0), "not positive \\(first: inf\\)"),
    (np.full(3, 0.1), np.zeros(3, S8), "3 scales, but axis 1 of \\[1, 4, 8, 8\\] has 4 entries"),
    (np.full(4, 0.1), np.zeros(3, S8), "4 scales but 3 zero points"),
])
def test_bad_parameters(scale: Any, zero: Any, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        compiled(_pair(scale, zero))


@pytest.mark.parametrize(("zero", "message"), [
    (np.int16(0), "to i16: only int8 and uint8 are"), (np.int32(0), "to i32: only int8 and uint8 are"),
    (np.uint16(9), "to u16: only int8 and uint8 are"),
])
def test_stored_types_that_are_not_supported(zero: Any, message: str) -> None:
    with pytest.raises(Unsupported, match=message):
        compiled(_pair(0.1, zero))


def test_int4_weights_are_not_supported() -> None:
    b = Builder()
    for name, shape in (("w", (10, 6)), ("z", ())):
        elements = np.zeros(int(np.prod(shape)), np.int8)
        b.stored.append(onnx.helper.make_tensor(name, onnx.TensorProto.INT4, shape, elements))
    weight = b.op("DequantizeLinear", "w", b.const(np.float32(0.1)), "z")
    with pytest.raises(Unsupported, match="stored values of type int4: only int8 and uint8"):
        compiled(b.model(b.op("MatMul", b.input(3, 10), weight)))


def test_half_precision_is_not_supported() -> None:
    b = Builder()
    x = b.input(1, 4, dtype=np.float16)
    parameters = (b.const(np.float16(0.1)), b.const(S8(0)))
    with pytest.raises(Unsupported, match="of f16: only float32 values are"):
        compiled(b.model(b.op("DequantizeLinear", b.op("QuantizeLinear", x, *parameters), *parameters)))


def test_half_precision_scale_is_not_supported() -> None:
    b = Builder()
    weight = b.op("DequantizeLinear", b.const(b.random(S8, 10, 6)), b.const(np.float16(0.1)))
    with pytest.raises(Unsupported, match="a scale of type float16: only float32 is"):
        compiled(b.model(b.op("Cast", weight, to=1)))


def test_blocks_are_not_supported() -> None:
    b = Builder()
    quant = (np.full((5, 6), 0.1, np.float32), np.zeros((5, 6), S8))
    weight = b.dequantize(b.const(b.random(S8, 10, 6)), quant, block_size=2, axis=0)
    with pytest.raises(Unsupported, match="block-wise scales"):
        compiled(b.model(b.op("MatMul", b.input(3, 10), weight)))


def test_range_found_at_run_time_is_not_supported() -> None:
    b = Builder()
    stored, _, zero = b.ops("DynamicQuantizeLinear", 3, b.input(3, 10))
    with pytest.raises(Unsupported, match="range would have to be found at run time"):
        compiled(b.model(b.op("MatMulInteger", stored, b.const(b.random(S8, 10, 6)), zero)))


def test_scale_computed_at_run_time_is_not_supported() -> None:
    b = Builder()
    with pytest.raises(Unsupported, match="the scale \\('x_2'\\) has to be a constant"):
        compiled(b.model(b.op("QuantizeLinear", b.input(1, 4), b.input(1), b.const(S8(0)))))


def test_stored_type_and_zero_point_have_to_agree() -> None:
    b = Builder()
    x = b.quantize(b.input(1, 4), (0.1, S8(3)))
    with pytest.raises(CompileError, match="the stored values are i8, their zero point u8"):
        compiled(b.model(b.dequantize(x, (0.1, U8(3)))))


def test_known_range_is_quantised_at_import() -> None:
    """DynamicQuantizeLinear of a constant: its scale is known."""
    b = Builder()
    x, weight = b.input(3, 10), b.rng.normal(0, 1, (10, 6)).astype(np.float32)
    real = b.op("DequantizeLinear", *b.ops("DynamicQuantizeLinear", 3, b.const(weight)))
    assert kinds(compiled(b.model(b.op("MatMul", x, real)))) == ["nn.dense"]
