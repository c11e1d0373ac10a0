"""Every operator that the frontend converts, in its variants, against onnxruntime.

A row is (operator, inputs, attributes[, further fields of NodeCase]). All inputs but the first are initialisers unless
`constants` says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinyir.ir import Array

_RNG = np.random.default_rng(7)


def f(*shape: int) -> Array:
    """Random floats."""
    return _RNG.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> Array:
    return np.abs(f(*shape)) + np.float32(0.1)


def i(*values: int) -> Array:
    """A list of integers, as shapes and axes are given."""
    return np.array(values, np.int64)


def s(value: float) -> Array:
    return np.array(value, np.float32)


UNARY = [(kind, [f(2, 3, 4)], {}) for kind in (
    "Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Erf", "Exp", "Neg", "Abs", "Floor", "Ceil", "Round", "Sign",
    "Elu", "Selu", "HardSwish", "HardSigmoid", "LeakyRelu", "Identity", "Gelu", "Mish", "ThresholdedRelu")]
MATH: list[Any] = [
    *UNARY,
    ("Log", [positive(2, 3)], {}), ("Sqrt", [positive(2, 3)], {}), ("Reciprocal", [positive(2, 3)], {}),
    ("Elu", [f(9)], {"alpha": 0.3}), ("Selu", [f(9)], {"alpha": 2.0, "gamma": 1.5}),
    ("Celu", [f(9)], {}), ("Celu", [f(9)], {"alpha": 2.0}), ("Gelu", [f(9)], {"approximate": "tanh"}),
    ("HardSigmoid", [f(9)], {"alpha": 0.3, "beta": 0.4}), ("LeakyRelu", [f(9)], {"alpha": 0.3}),
    ("ThresholdedRelu", [f(9)], {"alpha": 0.2}), ("Shrink", [f(9)], {"bias": 0.5, "lambd": 0.5}),
    ("PRelu", [f(1, 3, 2, 2), f(3, 1, 1)], {}), ("PRelu", [f(2, 3), f(1)], {}),
    ("Clip", [f(9), s(-0.5), s(0.5)], {}), ("Clip", [f(9), None, s(0.5)], {}), ("Clip", [f(9), s(0)], {}),
    ("Clip", [f(9)], {}), ("Clip", [f(9), s(-0.5), s(0.5)], {}, {"constants": ()}),
    ("Clip", [np.arange(-4, 5), np.array(-2), np.array(3)], {}),
    ("Add", [f(2, 3), f(3)], {}), ("Add", [f(2, 3), f(2, 1)], {}, {"constants": ()}), ("Sub", [f(2, 3), f(3)], {}),
    ("Sub", [f(3), f(2, 3)], {}, {"constants": (0,)}), ("Mul", [f(2, 3), s(2)], {}),
    ("Div", [f(2, 3), positive(3)], {}),
    ("Add", [np.arange(6), np.arange(6)], {}, {"constants": ()}),
    ("Div", [np.array([-7, 7, 5]), np.array([2, -2, 5])], {}, {"constants": ()}),
    ("Pow", [positive(2, 3), s(2)], {}), ("Pow", [positive(2, 3), i(3)], {}), ("Pow", [positive(3), f(3)], {}),
    ("Sum", [f(2, 3), f(3), f(1)], {}, {"constants": ()}), ("Mean", [f(2, 3), f(3), f(1)], {}, {"constants": ()}),
    ("Max", [f(2, 3), f(3), f(1)], {}, {"constants": ()}), ("Min", [f(2, 3), f(3)], {}), ("Max", [f(3)], {}),
    ("Cast", [f(5) * 10], {"to": 6}), ("Cast", [np.arange(5)], {"to": 1}), ("Cast", [f(5)], {"to": 1}),
    ("Cast", [np.arange(5) - 2], {"to": 9}), ("CastLike", [f(5) * 10, i(1)], {}),
    ("Dropout", [f(5)], {}), ("Dropout", [f(5), s(0.3)], {}), ("Dropout", [f(5)], {}, {"outputs": 2}),
]
LINEAR: list[Any] = [
    ("Gemm", [f(2, 5), f(5, 3), f(3)], {}), ("Gemm", [f(2, 5), f(3, 5), f(3)], {"transB": 1}),
    ("Gemm", [f(2, 5), f(5, 3)], {"alpha": 0.5}), ("Gemm", [f(2, 5), f(5, 3), f(1, 3)], {"alpha": 0.5, "beta": 2.0}),
    ("Gemm", [f(5, 2), f(5, 3), s(2)], {"transA": 1}), ("Gemm", [f(2, 5), f(5, 3), f(2, 3)], {"beta": 0.5}),
    ("Gemm", [f(2, 5), f(5, 3), f(3)], {"alpha": 0.5, "beta": 2.0}, {"constants": ()}),
    ("Gemm", [f(2, 5), f(3, 5)], {"transB": 1}, {"constants": ()}), ("Gemm", [f(2, 5), f(5, 3), f(2, 1)], {}),
    ("MatMul", [f(2, 5), f(5, 3)], {}), ("MatMul", [f(2, 4, 5), f(5, 3)], {}), ("MatMul", [f(5), f(5, 3)], {}),
    ("MatMul", [f(2, 5), f(5)], {}), ("MatMul", [f(5), f(5)], {}), ("MatMul", [f(2, 4, 5), f(2, 5, 3)], {}),
    ("MatMul", [f(2, 4, 5), f(2, 5, 3)], {}, {"constants": ()}),
    ("MatMul", [f(4, 5), f(5, 3)], {}, {"constants": (0,)}),
    ("Softmax", [f(2, 3, 4)], {}), ("Softmax", [f(2, 3, 4)], {"axis": 1}),
    ("Softmax", [f(2, 3, 4)], {}, {"opset": 11}), ("Softmax", [f(2, 3, 4)], {"axis": 2}, {"opset": 11}),
    ("LogSoftmax", [f(2, 3, 4)], {"axis": 0}), ("LogSoftmax", [f(2, 3, 4)], {"axis": 0}, {"opset": 12}),
    ("ArgMax", [f(3, 4)], {"axis": 1}), ("ArgMax", [f(3, 4)], {"axis": -1, "keepdims": 0}),
    ("ArgMin", [f(3, 4)], {}), ("ArgMax", [np.ones((2, 3), np.float32)], {"axis": 1, "select_last_index": 1}),
]
_REDUCERS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
             "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
REDUCE: list[Any] = [
    *[(kind, [positive(2, 3, 4), i(1, -1)], {}, {"opset": 18}) for kind in _REDUCERS],
    *[(kind, [positive(2, 3, 4)], {"keepdims": 0}, {"opset": 18}) for kind in _REDUCERS],
    *[(kind, [positive(2, 3, 4)], {"axes": [1], "keepdims": 0}, {"opset": 11}) for kind in _REDUCERS],
    ("InstanceNormalization", [f(2, 3, 4, 5), f(3), f(3)], {"epsilon": 0.01}),
    ("InstanceNormalization", [f(1, 3, 9), f(3), f(3)], {}),
    ("ReduceSum", [f(2, 3), i()], {"noop_with_empty_axes": 1}), ("ReduceSum", [f(2, 3), i()], {}),
    ("ReduceSum", [f(2, 3), i(0)], {}, {"opset": 13}), ("ReduceMax", [np.arange(6).reshape(2, 3), i(1)], {}),
    ("ReduceMax", [np.array([[True, False], [False, False]]), i(1)], {}),
]
IMAGE = f(1, 4, 7, 6)
SPATIAL: list[Any] = [
    ("Conv", [IMAGE, f(5, 4, 3, 3), f(5)], {}), ("Conv", [IMAGE, f(5, 4, 3, 2)], {"pads": [1, 0, 2, 1]}),
    ("Conv", [IMAGE, f(5, 4, 3, 3)], {"strides": [2, 1], "dilations": [1, 2], "pads": [1, 2, 1, 2]}),
    ("Conv", [IMAGE, f(6, 2, 3, 3), f(6)], {"group": 2}), ("Conv", [IMAGE, f(4, 1, 3, 3), f(4)], {"group": 4}),
    ("Conv", [IMAGE, f(8, 1, 3, 3)], {"group": 4, "kernel_shape": [3, 3]}),
    ("Conv", [f(1, 1, 5, 5), f(3, 1, 3, 3)], {"group": 1}),
    ("Conv", [IMAGE, f(5, 4, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", [IMAGE, f(5, 4, 2, 2)], {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
    ("Conv", [IMAGE, f(5, 4, 3, 3)], {"auto_pad": "VALID", "strides": [2, 2]}),
    ("Conv", [f(2, 4, 9), f(5, 4, 3), f(5)], {"pads": [1, 0], "strides": [2]}),
    ("Conv", [f(1, 4, 9), f(4, 1, 3)], {"group": 4, "dilations": [2]}),
    ("ConvTranspose", [IMAGE, f(4, 5, 3, 3), f(5)], {}), ("ConvTranspose", [IMAGE, f(4, 5, 3, 2)], {"strides": [2, 3]}),
    ("ConvTranspose", [IMAGE, f(4, 3, 3, 3), f(6)], {"group": 2, "strides": [2, 2], "pads": [1, 0, 0, 1]}),
    ("ConvTranspose", [IMAGE, f(4, 1, 3, 3)], {"group": 4, "strides": [2, 2], "output_padding": [1, 1]}),
    ("ConvTranspose", [IMAGE, f(4, 5, 3, 3)], {"strides": [2, 2], "output_shape": [14, 12]}),
    ("ConvTranspose", [IMAGE, f(4, 5, 3, 3)], {"strides": [2, 2], "output_shape": [13, 12], "auto_pad": "SAME_UPPER"}),
    ("ConvTranspose", [IMAGE, f(4, 5, 3, 3)], {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("ConvTranspose", [IMAGE, f(4, 5, 3, 3)], {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ("ConvTranspose", [IMAGE, f(4, 5, 3, 3)], {"dilations": [2, 1]}),
    ("ConvTranspose", [f(1, 4, 9), f(4, 3, 3), f(3)], {"strides": [2], "pads": [1, 1]}),
    ("BatchNormalization", [IMAGE, f(4), f(4), f(4), positive(4)], {}),
    ("BatchNormalization", [f(2, 4), f(4), f(4), f(4), positive(4)], {"epsilon": 0.1}),
    ("BatchNormalization", [f(2, 4, 5), f(4), f(4), f(4), positive(4)], {"momentum": 0.5}),
    ("MaxPool", [IMAGE], {"kernel_shape": [2, 3]}), ("MaxPool", [IMAGE], {"kernel_shape": [3, 3], "strides": [2, 2]}),
    ("MaxPool", [IMAGE], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    ("MaxPool", [IMAGE], {"kernel_shape": [2, 2], "dilations": [2, 3]}),
    ("MaxPool", [IMAGE], {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("MaxPool", [f(1, 4, 9)], {"kernel_shape": [3], "strides": [2]}),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 2], "pads": [1, 1, 0, 0]}),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 2], "pads": [1, 1, 0, 0], "count_include_pad": 1}),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1,
                              "count_include_pad": 1}),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("AveragePool", [IMAGE], {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    ("AveragePool", [f(1, 4, 9)], {"kernel_shape": [3], "strides": [2], "ceil_mode": 1}),
    ("GlobalAveragePool", [IMAGE], {}), ("GlobalAveragePool", [f(2, 4, 9)], {}), ("GlobalMaxPool", [IMAGE], {}),
    ("GlobalAveragePool", [f(1, 2, 3, 4, 5)], {}),
]
NONE_F = np.array([], np.float32)
_COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric", "align_corners")
RESIZE: list[Any] = [
    *[("Resize", [IMAGE, None, np.array([1, 1, 2, 1.5], np.float32)],
       {"mode": mode, "coordinate_transformation_mode": c}, {"opset": 19 if "symmetric" in c else 13})
      for mode in ("nearest", "linear") for c in _COORDINATES if (mode, c) != ("nearest", "align_corners")],
    *[("Resize", [IMAGE, NONE_F, NONE_F, i(1, 4, 10, 3)], {"mode": mode}, {"opset": 11})
      for mode in ("nearest", "linear")],
    *[("Resize", [IMAGE, None, np.array([1, 1, 0.6, 0.7], np.float32)], {"mode": "nearest", "nearest_mode": r})
      for r in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")],
    ("Resize", [IMAGE, None, np.array([0.6, 2.0], np.float32)], {"mode": "linear", "axes": [2, 3]}),
    ("Resize", [IMAGE, None, None, i(14, 9)], {"mode": "nearest", "axes": [2, 3],
                                              "keep_aspect_ratio_policy": "not_larger"}),
    ("Resize", [f(1, 4, 9), None, np.array([1, 1, 2], np.float32)], {"mode": "linear"}),
]
X = f(2, 3, 4)
SHAPE: list[Any] = [
    ("Reshape", [X, i(6, 4)], {}), ("Reshape", [X, i(0, -1)], {}), ("Reshape", [X, i(-1)], {}),
    ("Reshape", [X, i(2, 3, 2, 2)], {"allowzero": 1}), ("Reshape", [f(1), i()], {}),
    ("Flatten", [X], {}), ("Flatten", [X], {"axis": 0}), ("Flatten", [X], {"axis": -1}), ("Flatten", [X], {"axis": 3}),
    ("Squeeze", [f(1, 3, 1), i(0)], {}), ("Squeeze", [f(1, 3, 1)], {}), ("Squeeze", [f(1, 3, 1), i(-1)], {}),
    ("Squeeze", [f(1, 3, 1)], {"axes": [0]}, {"opset": 11}),
    ("Unsqueeze", [X, i(0, -1)], {}), ("Unsqueeze", [X], {"axes": [1]}, {"opset": 11}),
    ("Transpose", [X], {}), ("Transpose", [X], {"perm": [1, 0, 2]}),
    ("Concat", [X, X, X], {"axis": 1}, {"constants": ()}), ("Concat", [X, f(2, 1, 4)], {"axis": -2}),
    ("Slice", [X, i(0, 1), i(2, 3)], {}), ("Slice", [X, i(1), i(9), i(-1)], {}),
    ("Slice", [X, i(-1), i(-9), i(2), i(-2)], {}), ("Slice", [X, i(0), i(-1), i(2), i(2)], {}),
    ("Split", [f(6, 2)], {}, {"outputs": 3, "opset": 13}), ("Split", [f(2, 6), i(1, 5)], {"axis": 1}, {"outputs": 2}),
    ("Split", [f(7, 2)], {"num_outputs": 3}, {"outputs": 3, "opset": 18}),
    ("Split", [f(2, 6)], {"axis": -1, "split": [2, 4]}, {"outputs": 2, "opset": 11}),
    ("Expand", [f(3, 1), i(2, 1, 4)], {}), ("Expand", [f(3, 4), i(1, 1)], {}), ("Tile", [f(2, 3), i(2, 1)], {}),
    ("Gather", [X, i(2, 0)], {"axis": 1}), ("Gather", [X, np.array(-1)], {"axis": 2}),
    ("Gather", [X, np.array([[0, 1], [1, 0]])], {}), ("Gather", [f(9, 2), i(3, 1)], {}, {"constants": (0,)}),
    ("Pad", [X, i(0, 1, 2, 1, 0, 0)], {}), ("Pad", [X, i(0, 1, 2, 1, 0, 0), s(3)], {}),
    ("Pad", [X, i(0, -1, 0, 0, 0, -1)], {}), ("Pad", [X, i(0, 1, 2, 1, 0, 1)], {"mode": "reflect"}),
    ("Pad", [X, i(0, 1, 2, 1, 0, 0)], {"mode": "edge"}), ("Pad", [X, i(1, 0, 2, 1, 0, 0)], {"mode": "wrap"}),
    ("Pad", [X, i(1, 2), s(1), i(1)], {}), ("Pad", [X, i(1, 2), None, i(-1)], {"mode": "edge"}),
    ("DepthToSpace", [f(1, 8, 2, 3)], {"blocksize": 2}),
    ("DepthToSpace", [f(1, 8, 2, 3)], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", [f(1, 2, 4, 6)], {"blocksize": 2}),
]


@pytest.mark.parametrize("row", [*MATH, *LINEAR, *REDUCE, *SPATIAL, *RESIZE, *SHAPE])
def test_agrees_with_onnxruntime(row: tuple[Any, ...], node_case: Any, check: Callable[..., Any]) -> None:
    kind, inputs, attrs, *more = row
    case = node_case(kind, inputs, attrs, **(more[0] if more else {}))
    check(case.model(), case.free_inputs(), case.tolerance)


def test_every_converter_is_tested() -> None:
    from tinyc.frontends.onnx_node import CONVERTERS
    from tinyc.frontends.onnx_ops_known import __name__ as known
    from tinyc.frontends.onnx_ops_quant import __name__ as quantised

    tested = {row[0] for row in (*MATH, *LINEAR, *REDUCE, *SPATIAL, *RESIZE, *SHAPE)}
    missing = {name for name, function in CONVERTERS.items() if function.__module__ not in (known, quantised)} - tested
    assert sorted(missing) == ["Swish"]  # newer than onnxruntime; the conformance suite has it
