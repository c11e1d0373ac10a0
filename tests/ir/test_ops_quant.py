"""Quantised ops against onnxruntime's integer kernels, byte for byte, one node at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tests.contract import same_bytes
from tinyir.ir import Array, Const, Value
from tinyir.ops import (
    QAdd,
    QAvgPool,
    QConv2D,
    QDense,
    QDepthwiseConv2D,
    QMul,
    QReduceMean,
    QSoftmax,
)
from tinyir.types import I8, I32, U8, DType, Quant, TensorType

MICROSOFT = "com.microsoft"


def run_node(op_type: str, domain: str, inputs: list[Array], **attrs: Any) -> Array:
    """What onnxruntime computes for one node; every input but the first is an initialiser."""
    names = [f"i{k}" for k in range(len(inputs))]
    node = helper.make_node(op_type, names, ["y"], domain=domain, **attrs)
    kind = helper.np_dtype_to_tensor_dtype(inputs[0].dtype)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("i0", kind, inputs[0].shape)],
        [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)],
        [onnx.numpy_helper.from_array(a, n) for a, n in zip(inputs[1:], names[1:], strict=True)])
    graph.output[0].CopyFrom(onnx.ValueInfoProto(name="y"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid(MICROSOFT, 1)],
                              ir_version=8)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"i0": inputs[0]})[0])


def stored(rng: np.random.Generator, dtype: DType, *shape: int) -> Array:
    return rng.integers(*dtype.range, shape, endpoint=True).astype(dtype.numpy)


def value(array: Array, dtype: DType, quant: Quant) -> Value:
    return Const("c", TensorType(array.shape, dtype, quant), array)


def per_tensor(scale: float, zero: int) -> Quant:
    return Quant((float(np.float32(scale)),), (zero,))


def parameters(dtype: DType, *quants: Quant) -> list[Array]:
    return [a for q in quants for a in (np.float32(q.scale), np.asarray(q.zero_point, dtype.numpy))]


def to_nchw(array: Array) -> Array:
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))


def to_nhwc(array: Array) -> Array:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.mark.parametrize("dtype", [I8, U8])
@pytest.mark.parametrize(("stride", "pad", "groups"), [((1, 1), (1, 1, 1, 1), 1), ((2, 1), (0, 1, 2, 1), 2)])
def test_convolution(dtype: DType, stride: tuple[int, int], pad: tuple[int, int, int, int], groups: int,
                     rng: np.random.Generator) -> None:
    x, w = stored(rng, dtype, 1, 9, 7, 8), stored(rng, I8, 6, 3, 3, 8 // groups)
    bias = rng.integers(-3000, 3000, 6).astype(np.int32)
    scales = tuple(float(s) for s in rng.uniform(0.001, 0.01, 6).astype(np.float32))
    qx, qy = per_tensor(0.03, 7), per_tensor(0.11, 3)
    qw = Quant(scales, (0,), 0)
    height, width = (9 + pad[0] + pad[2] - 3) // stride[0] + 1, (7 + pad[1] + pad[3] - 3) // stride[1] + 1
    out = TensorType((1, height, width, 6), dtype, qy)
    op = QConv2D(value(x, dtype, qx), value(w, I8, qw), Const("b", TensorType((6,), I32), bias), out, stride=stride,
                 pad=pad, groups=groups)
    expected = run_node("QLinearConv", "", [to_nchw(x), *parameters(dtype, qx), to_nchw(w), np.float32(scales),
                                            np.zeros(6, np.int8), *parameters(dtype, qy), bias],
                        strides=list(stride), pads=list(pad), group=groups)
    assert np.array_equal(op.reference(x, w, bias), to_nhwc(expected))


def test_depthwise_convolution(rng: np.random.Generator) -> None:
    x, w = stored(rng, I8, 1, 6, 6, 4), stored(rng, I8, 3, 3, 8)
    qx, qw, qy = per_tensor(0.02, -128), per_tensor(0.004, 0), per_tensor(0.05, -20)
    op = QDepthwiseConv2D(value(x, I8, qx), value(w, I8, qw), None, TensorType((1, 6, 6, 8), I8, qy), pad=(1, 1, 1, 1))
    onnx_weight = np.ascontiguousarray(w.transpose(2, 0, 1)[:, None])
    expected = run_node("QLinearConv", "", [to_nchw(x), *parameters(I8, qx), onnx_weight, *parameters(I8, qw),
                                            *parameters(I8, qy)], pads=[1, 1, 1, 1], group=4)
    assert np.array_equal(op.reference(x, w, None), to_nhwc(expected))


def test_dense(rng: np.random.Generator) -> None:
    x, w = stored(rng, U8, 2, 40), stored(rng, I8, 10, 40)
    bias = rng.integers(-3000, 3000, 10).astype(np.int32)
    qx, qw, qy = per_tensor(0.02, 100), per_tensor(0.004, 0), per_tensor(0.15, 128)
    constant = Const("b", TensorType((10,), I32), bias)
    op = QDense(value(x, U8, qx), value(w, I8, qw), constant, TensorType((2, 10), U8, qy))
    expected = run_node("QGemm", MICROSOFT, [x, *parameters(U8, qx), w, *parameters(I8, qw), bias,
                                             *parameters(U8, qy)], transB=1)
    assert np.array_equal(op.reference(x, w, bias), expected)


@pytest.mark.parametrize("scales", [(0.05, 0.031, 0.077), (0.5, 0.25, 0.5), (0.02, 0.02, 0.02)])
@pytest.mark.parametrize("dtype", [I8, U8])
@pytest.mark.parametrize(("op_type", "kind"), [("QLinearAdd", QAdd), ("QLinearMul", QMul)])
def test_every_pair_of_inputs(op_type: str, kind: type[QAdd] | type[QMul], dtype: DType,
                              scales: tuple[float, float, float]) -> None:
    every = np.arange(dtype.range[0], dtype.range[1] + 1).astype(dtype.numpy)
    a, b = (np.ascontiguousarray(m) for m in np.meshgrid(every, every))
    qa, qb, qc = (per_tensor(s, z) for s, z in zip(scales, (3, 7, 12), strict=True))
    op = kind(value(a, dtype, qa), value(b, dtype, qb), TensorType(a.shape, dtype, qc))
    expected = run_node(op_type, MICROSOFT, [a, *parameters(dtype, qa), b, *parameters(dtype, qb),
                                             *parameters(dtype, qc)])
    assert np.array_equal(op.reference(a, b), expected)


@pytest.mark.parametrize("dtype", [I8, U8])
@pytest.mark.parametrize(("pad", "include"), [((0, 0, 0, 0), 0), ((1, 0, 1, 1), 0), ((1, 1, 1, 1), 1)])
def test_average_pool(dtype: DType, pad: tuple[int, int, int, int], include: int, rng: np.random.Generator) -> None:
    x = stored(rng, dtype, 1, 12, 10, 6)
    qx, qy = per_tensor(0.031, 5), per_tensor(0.027, 9)
    height, width = (12 + pad[0] + pad[2] - 3) // 2 + 1, (10 + pad[1] + pad[3] - 2) // 2 + 1
    op = QAvgPool(value(x, dtype, qx), TensorType((1, height, width, 6), dtype, qy), kernel=(3, 2), stride=(2, 2),
                  pad=pad, count_include_pad=bool(include))
    expected = run_node("QLinearAveragePool", MICROSOFT, [to_nchw(x), *parameters(dtype, qx), *parameters(dtype, qy)],
                        kernel_shape=[3, 2], strides=[2, 2], pads=list(pad), count_include_pad=include)
    assert np.array_equal(op.reference(x), to_nhwc(expected))


def test_global_average(rng: np.random.Generator) -> None:
    x = stored(rng, I8, 1, 7, 5, 300)
    qx, qy = per_tensor(0.031, 5), per_tensor(0.0117, -9)
    op = QReduceMean(value(x, I8, qx), TensorType((1, 1, 1, 300), I8, qy), axes=(1, 2))
    expected = run_node("QLinearGlobalAveragePool", MICROSOFT, [to_nchw(x), *parameters(I8, qx), *parameters(I8, qy)],
                        channels_last=0)
    assert np.array_equal(op.reference(x), to_nhwc(expected))


@same_bytes
@pytest.mark.parametrize("scale", [1 / 256, 1 / 255])
@pytest.mark.parametrize("size", [2, 12, 1000])
def test_softmax(scale: float, size: int, rng: np.random.Generator) -> None:
    x = stored(rng, I8, 40, size)
    qx, qy = per_tensor(0.14, 5), per_tensor(scale, -128)
    op = QSoftmax(value(x, I8, qx), TensorType(x.shape, I8, qy))
    expected = run_node("QLinearSoftmax", MICROSOFT, [x, *parameters(I8, qx), *parameters(I8, qy)], axis=-1, opset=13)
    assert np.array_equal(op.reference(x), expected)
