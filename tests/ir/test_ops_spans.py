"""`input_span` of every spatial op against brute force: what lies outside the span has no influence on the result.

Also: ops that say that their result may take over an operand's memory give the same result when it does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinyir.geometry import Axis, Span, axis_index
from tinyir.ir import Array, Const, Value
from tinyir.opdef import Op
from tinyir.ops import (
    Add,
    AvgPool,
    BatchNorm,
    Cast,
    Concat,
    Conv2D,
    ConvTranspose2D,
    DepthwiseConv2D,
    Div,
    MaxPool,
    Mul,
    Pad,
    PRelu,
    Relu,
    Reshape,
    Resize,
    Slice,
    Spatial,
    Tanh,
)
from tinyir.types import F32, I8, I32, TensorType


def value(*shape: int) -> Value:
    return Value(TensorType(shape, F32))


def _resize(scale: float, extent: int, **how: Any) -> Spatial:
    return Resize(value(1, 9, 7, 2), scales=(scale, 1.5), result=TensorType((1, extent, 10, 2), F32), **how)


MAKERS: dict[str, Callable[[], Spatial]] = {
    "conv": lambda: Conv2D(value(1, 9, 7, 2), value(3, 3, 2, 2), stride=(2, 1), pad=(1, 0, 1, 1)),
    "conv_dilated": lambda: Conv2D(value(1, 9, 7, 2), value(3, 3, 3, 2), dilation=(2, 2), pad=(2, 2, 1, 0)),
    "depthwise": lambda: DepthwiseConv2D(value(1, 9, 7, 2), value(5, 3, 2), stride=(3, 2), pad=(2, 1, 2, 1)),
    "conv_transpose": lambda: ConvTranspose2D(value(1, 5, 4, 2), value(3, 3, 4, 2), stride=(2, 3), pad=(1, 0, 0, 2)),
    "max_pool": lambda: MaxPool(value(1, 9, 7, 2), kernel=(3, 2), stride=(2, 2), pad=(1, 0, 1, 1)),
    "avg_pool": lambda: AvgPool(value(1, 9, 7, 2), kernel=(2, 3), stride=(1, 2), pad=(0, 1, 1, 1), ceil_pad=(0, 1)),
    "pad": lambda: Pad(value(1, 9, 7, 2), before=(0, 2, -1, 0), after=(0, -3, 2, 1)),
    "pad_reflect": lambda: Pad(value(1, 9, 7, 2), before=(0, 2, 3, 0), after=(0, 1, 4, 0), mode="reflect"),
    "pad_wrap": lambda: Pad(value(1, 9, 7, 2), before=(0, 2, 3, 0), after=(0, 1, 4, 0), mode="wrap"),
    "resize_nearest": lambda: _resize(2.0, 18, mode="nearest", coordinates="asymmetric", nearest="floor"),
    "resize_nearest_down": lambda: _resize(0.5, 4, mode="nearest", coordinates="half_pixel"),
    "resize_linear": lambda: _resize(2.0, 18, mode="linear", coordinates="half_pixel"),
    "resize_linear_down": lambda: _resize(0.4, 3, mode="linear", coordinates="align_corners"),
    "slice": lambda: Slice(value(1, 9, 7, 2), begin=(0, 7, 1, 0), step=(1, -2, 2, 1),
                           result=TensorType((1, 4, 3, 2), F32)),
    "concat_rows": lambda: Concat((value(1, 3, 7, 2), value(1, 4, 7, 2), value(1, 2, 7, 2)), axis=1),
    "concat_channels": lambda: Concat((value(1, 5, 7, 2), value(1, 5, 7, 3)), axis=-1),
    "relu": lambda: Relu(value(1, 5, 4, 2)),
    "add": lambda: Add(value(1, 5, 4, 2), value(1, 5, 4, 2)),
    "mul_channels": lambda: Mul(value(1, 5, 4, 2), value(2)),
    "mul_image": lambda: Mul(value(1, 1, 1, 2), value(1, 5, 4, 2)),
    "add_row": lambda: Add(value(4, 2), value(1, 5, 4, 2)),
    "batch_norm": lambda: BatchNorm(value(1, 5, 4, 2), value(2), value(2), value(2), value(2)),
}


def sample(op: Op) -> list[Array]:
    rng = np.random.default_rng(3)
    return [rng.uniform(0.5, 1.5, v.shape).astype(np.float32) for v in op.operands if v is not None]


def run(op: Op, arrays: list[Array]) -> Array:
    operands = [arrays] if op.schema.operands[0].variadic else arrays
    return np.asarray(op.reference(*operands))


def spoiled(array: Array, span: Span, dimension: int) -> Array:
    """`array` with other values outside `span`."""
    changed = array + 100
    inside = (slice(None),) * dimension + (slice(*span),)
    changed[inside] = array[inside]
    return changed


@pytest.mark.parametrize("axis", ["rows", "columns"])
@pytest.mark.parametrize("name", MAKERS)
def test_nothing_outside_the_span_matters(name: str, axis: Axis) -> None:
    op = MAKERS[name]()
    arrays = sample(op)
    expected = run(op, arrays)
    dimension, images = axis_index(axis), len(arrays) if isinstance(op, (Concat, Add, Mul)) else 1
    for begin in range(expected.shape[dimension]):
        for end in range(begin + 1, expected.shape[dimension] + 1):
            changed = list(arrays)
            for index in range(images):
                place = dimension - expected.ndim + arrays[index].ndim
                span = op.input_span(Span(begin, end), axis, index)
                if place >= 0:
                    assert 0 <= span.begin <= span.end <= arrays[index].shape[place]
                    changed[index] = spoiled(arrays[index], span, place)
            piece = (slice(None),) * dimension + (slice(begin, end),)
            np.testing.assert_array_equal(run(op, changed)[piece], expected[piece])


@pytest.mark.parametrize("name", ["conv", "conv_transpose", "max_pool", "resize_nearest", "resize_linear", "slice",
                                  "resize_linear_down", "add", "pad_reflect", "concat_rows"])
def test_the_ends_of_the_span_matter(name: str) -> None:
    op = MAKERS[name]()
    arrays = sample(op)
    expected = run(op, arrays)
    for row in range(expected.shape[1]):
        span = op.input_span(Span(row, row + 1), "rows")
        for end in {span.begin, span.end - 1} if span.extent else ():
            changed = [arrays[0].copy(), *arrays[1:]]
            changed[0][:, end] += 100
            assert (run(op, changed)[:, row] != expected[:, row]).any()


@pytest.mark.parametrize("op", [Relu(value(3, 4)), Tanh(value(3, 4)), Add(value(3, 4), value(3, 4)),
                                Div(value(4), value(3, 4)), PRelu(value(3, 4), value(4)),
                                Reshape(value(3, 4), TensorType((12,), F32)),
                                BatchNorm(value(3, 4), value(4), value(4), value(4), value(4))])
def test_memory_that_may_be_taken_over(op: Op) -> None:
    assert op.reuses()
    for index in op.reuses():
        operand = op.operands[index]
        assert operand is not None
        assert operand.type.size_bytes == op.out.type.size_bytes


def test_memory_that_may_not_be_taken_over() -> None:
    weights = Const("w", TensorType((3, 4), F32), np.zeros((3, 4), np.float32))
    assert Add(weights, value(4)).reuses() == ()
    assert Add(weights, value(3, 4)).reuses() == (1,)
    assert Add(value(3, 4), value(3, 4)).reuses() == (0, 1)
    assert Mul(value(3, 1), value(1, 4)).reuses() == ()
    assert Cast(value(3, 4), TensorType((3, 4), I8)).reuses() == ()
    assert Cast(value(3, 4), TensorType((3, 4), I32)).reuses() == (0,)
    assert Conv2D(value(1, 4, 4, 2), value(2, 1, 1, 2)).reuses() == ()
