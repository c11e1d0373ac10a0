"""Element-wise ops, reductions and softmax against onnxruntime."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from tinyir.ir import Array, Value
from tinyir.opdef import Op
from tinyir.ops import (
    Abs,
    Add,
    ArgMax,
    ArgMin,
    Cast,
    Ceil,
    Clip,
    Conv2D,
    Div,
    Elu,
    Erf,
    Exp,
    Floor,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Log,
    LogSoftmax,
    Maximum,
    Minimum,
    Mul,
    Neg,
    Pow,
    PRelu,
    Reciprocal,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
    Relu,
    Round,
    Selu,
    Sigmoid,
    Sign,
    Softmax,
    Softplus,
    Softsign,
    Sqrt,
    Sub,
    Tanh,
    activation_of,
    apply_activation,
)
from tinyir.types import BOOL, F32, I8, I32, I64, U8, TensorType, dtype_of

Run = Callable[..., Array]
Rng = np.random.Generator


def sample() -> Array:
    """Small, large, whole, half and special numbers."""
    line = np.linspace(-12, 12, 97, dtype=np.float32)
    extra = [0.5, 1.5, -0.5, -2.5, 0.0, -0.0, 1e-6, -1e-6, 88.0, -100.0, 3.0, -3.0, 1e4, -1e4, 0.1]
    return np.concatenate([line, np.array(extra, np.float32)]).reshape(1, 7, 16)


UNARY: list[tuple[type[Op], str, dict[str, Any]]] = [
    (Relu, "Relu", {}), (LeakyRelu, "LeakyRelu", {"alpha": 0.2}), (LeakyRelu, "LeakyRelu", {}),
    (Sigmoid, "Sigmoid", {}), (Tanh, "Tanh", {}), (HardSigmoid, "HardSigmoid", {"alpha": 0.25, "beta": 0.4}),
    (HardSigmoid, "HardSigmoid", {}), (HardSwish, "HardSwish", {}), (Elu, "Elu", {"alpha": 0.7}), (Selu, "Selu", {}),
    (Softplus, "Softplus", {}), (Softsign, "Softsign", {}), (Gelu, "Gelu", {}),
    (Gelu, "Gelu", {"approximate": "tanh"}),
    (Erf, "Erf", {}), (Exp, "Exp", {}), (Neg, "Neg", {}), (Abs, "Abs", {}), (Reciprocal, "Reciprocal", {}),
    (Floor, "Floor", {}), (Ceil, "Ceil", {}), (Round, "Round", {}), (Sign, "Sign", {}), (Sqrt, "Sqrt", {}),
    (Log, "Log", {}),
]


@pytest.mark.parametrize(("kind", "onnx", "attrs"), UNARY)
def test_unary(kind: type[Op], onnx: str, attrs: dict[str, Any], run_op: Run, ort_node: Run) -> None:
    x = sample()
    np.testing.assert_allclose(run_op(kind, x, **attrs), ort_node(onnx, x, **attrs), rtol=4e-6, atol=4e-7)


def test_erf_and_sigmoid_are_accurate(run_op: Run) -> None:
    x = np.linspace(-9, 9, 2001, dtype=np.float32)
    exact = np.array([math.erf(float(v)) for v in x])
    np.testing.assert_allclose(run_op(Erf, x), exact, rtol=1e-7)
    exact = np.array([1 / (1 + math.exp(-float(v))) for v in x])
    np.testing.assert_allclose(run_op(Sigmoid, x), exact, rtol=4e-7)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 6.0), (-math.inf, 2.0), (0.0, math.inf)])
def test_clip(low: float, high: float, run_op: Run, ort_node: Run) -> None:
    x = sample()
    expected = ort_node("Clip", x, np.float32(low).reshape(()), np.float32(high).reshape(()))
    np.testing.assert_array_equal(run_op(Clip, x, low=low, high=high), expected)


def test_integers(run_op: Run) -> None:
    x = np.array([-128, -7, 0, 5, 127], np.int8)
    assert run_op(Relu, x).tolist() == [0, 0, 0, 5, 127]
    assert run_op(Clip, x, low=-5.0, high=1e9).tolist() == [-5, -5, 0, 5, 127]
    assert run_op(Neg, x).tolist() == [-128, 7, 0, -5, -127]
    assert run_op(Add, x, x, act="relu").tolist() == [0, 0, 0, 10, 0]
    big = np.array([2**53 + 1, -(2**53) - 1], np.int64)
    assert run_op(Clip, big).tolist() == big.tolist()


@pytest.mark.parametrize("divisor", [3, -3])
def test_integer_division_rounds_toward_zero(divisor: int, run_op: Run, ort_node: Run) -> None:
    a, b = np.array([7, -7, 6, -1, 0], np.int32), np.array([divisor], np.int32)
    np.testing.assert_array_equal(run_op(Div, a, b), ort_node("Div", a, b, output=TensorProto.INT32))
    assert run_op(Div, a, np.zeros(1, np.int32)).tolist() == [0] * 5


SHAPES = [((2, 3, 4, 5), (2, 3, 4, 5)), ((2, 3, 4, 5), (5,)),
          ((2, 1, 1, 5), (2, 3, 4, 5)), ((3, 1), (1, 4)), ((3,), ())]


@pytest.mark.parametrize(("first", "second"), SHAPES)
@pytest.mark.parametrize(("kind", "onnx"), [(Add, "Add"), (Sub, "Sub"), (Mul, "Mul"), (Div, "Div"), (Pow, "Pow"),
                                            (Minimum, "Min"), (Maximum, "Max")])
def test_binary(kind: type[Op], onnx: str, first: tuple[int, ...], second: tuple[int, ...], run_op: Run,
                ort_node: Run, rng: Rng) -> None:
    a, b = (rng.uniform(0.2, 3, s).astype(np.float32) for s in (first, second))
    np.testing.assert_allclose(run_op(kind, a, b), ort_node(onnx, a, b), rtol=1e-6)


def test_prelu(run_op: Run, ort_node: Run, rng: Rng) -> None:
    x, slope = rng.standard_normal((2, 3, 4)).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    np.testing.assert_array_equal(run_op(PRelu, x, slope), ort_node("PRelu", x, slope))


@pytest.mark.parametrize(("source", "target"), [(F32, I32), (F32, U8), (I64, F32), (I32, I8), (F32, BOOL),
                                                (BOOL, F32)])
def test_cast(source: Any, target: Any, run_op: Run, ort_node: Run) -> None:
    numbers = [0, 1, 2.7, 100] if target == U8 else [0, 1, -1, 2.7, -2.7, 300 if source == I32 else 100]
    x = np.array(numbers).astype(source.numpy)
    to = {F32: TensorProto.FLOAT, I32: TensorProto.INT32, U8: TensorProto.UINT8, I8: TensorProto.INT8,
          BOOL: TensorProto.BOOL}[target]
    expected = ort_node("Cast", x, output=to, to=to)
    np.testing.assert_array_equal(run_op(Cast, x, result=TensorType(x.shape, target)), expected)


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("axes", [(1, 2), (-1,), (0, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize(("kind", "onnx"), [(ReduceMean, "ReduceMean"), (ReduceSum, "ReduceSum"),
                                            (ReduceMax, "ReduceMax"), (ReduceMin, "ReduceMin"),
                                            (ReduceProd, "ReduceProd")])
def test_reduce(kind: type[Op], onnx: str, axes: tuple[int, ...], keepdims: bool, run_op: Run, ort_node: Run,
                rng: Rng) -> None:
    x = rng.uniform(0.5, 1.5, (2, 3, 5, 4)).astype(np.float32)
    expected = ort_node(onnx, x, np.array(axes), keepdims=int(keepdims))
    np.testing.assert_allclose(run_op(kind, x, axes=axes, keepdims=keepdims), expected, rtol=2e-6)


@pytest.mark.parametrize("select_last", [True, False])
@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("axis", [0, 2, -1])
@pytest.mark.parametrize(("kind", "onnx"), [(ArgMax, "ArgMax"), (ArgMin, "ArgMin")])
def test_arg_extreme(kind: type[Op], onnx: str, axis: int, keepdims: bool, select_last: bool, run_op: Run,
                     ort_node: Run, rng: Rng) -> None:
    x = rng.integers(0, 3, (3, 4, 5)).astype(np.float32)  # many ties
    expected = ort_node(onnx, x, axis=axis, keepdims=int(keepdims), select_last_index=int(select_last),
                        output=TensorProto.INT64)
    np.testing.assert_array_equal(run_op(kind, x, axis=axis, keepdims=keepdims, select_last=select_last), expected)


@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_softmax(axis: int, run_op: Run, ort_node: Run, rng: Rng) -> None:
    x = rng.uniform(-90, 90, (2, 3, 7)).astype(np.float32)
    np.testing.assert_allclose(run_op(Softmax, x, axis=axis), ort_node("Softmax", x, axis=axis), rtol=4e-6, atol=1e-30)
    expected = ort_node("LogSoftmax", x, axis=axis)
    np.testing.assert_allclose(run_op(LogSoftmax, x, axis=axis), expected, rtol=4e-6, atol=4e-6)


@pytest.mark.parametrize(("op", "act", "args"), [
    (Relu, "relu", {}), (Clip, "clip", {"low": -1.0, "high": 2.0}), (LeakyRelu, "leaky_relu", {"alpha": 0.3}),
    (HardSigmoid, "hard_sigmoid", {"alpha": 0.3, "beta": 0.4}), (HardSwish, "hard_swish", {}),
])
def test_fused_activation_means_the_op(op: type[Op], act: Any, args: dict[str, float], run_op: Run) -> None:
    x = sample()
    made = op(Value(TensorType(x.shape, dtype_of(x.dtype))), **args)
    assert activation_of(made) == (act, tuple(args.values()))
    np.testing.assert_array_equal(apply_activation(x, act, tuple(args.values())), made.reference(x))


def test_what_is_not_an_activation() -> None:
    x = Value(TensorType((1, 4, 4, 2), F32))
    assert activation_of(Sigmoid(x)) is None
    assert activation_of(Conv2D(x, Value(TensorType((3, 1, 1, 2), F32)))) is None
