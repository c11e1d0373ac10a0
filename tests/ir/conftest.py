"""Fixtures for the tests of single ops: run one ONNX node with onnxruntime, and one op's reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tinyir.ir import Array, Value
from tinyir.opdef import Op
from tinyir.types import TensorType, dtype_of

OrtNode = Callable[..., Array]
RunOp = Callable[..., Array]


def _info(name: str, array: Array) -> Any:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


@pytest.fixture
def ort_node() -> OrtNode:
    """ort_node("Conv", x, w, None, group=2): the first output of one node; None leaves an input out."""

    def run(kind: str, *inputs: Array | None, opset: int = 21, output: int = TensorProto.FLOAT, **attrs: Any) -> Array:
        names = [f"i{n}" if array is not None else "" for n, array in enumerate(inputs)]
        node = helper.make_node(kind, names, ["y"], **attrs)
        given = {name: np.asarray(array) for name, array in zip(names, inputs, strict=True) if array is not None}
        graph = helper.make_graph([node], "one_node", [_info(n, a) for n, a in given.items()],
                                  [helper.make_tensor_value_info("y", output, None)])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, given)[0])

    return run


@pytest.fixture
def run_op() -> RunOp:
    """run_op(Conv2D, x, w, None, stride=(2, 2)): what the op's reference makes of arrays, checked against its type."""

    def run(kind: type[Op], *arrays: Any, **attrs: Any) -> Array:
        operands = [_operand(a) for a in arrays]
        op = kind(*operands, **attrs)
        op.verify()
        result = op.reference(*arrays)
        assert (result.shape, dtype_of(result.dtype)) == (op.out.shape, op.out.type.dtype)
        return np.asarray(result)

    return run


def _operand(array: Any) -> Any:
    if array is None:
        return None
    if isinstance(array, list):
        return tuple(_operand(a) for a in array)
    return Value(TensorType(array.shape, dtype_of(array.dtype)))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)
