"""Shapes, types and attributes that do not fit: each op says what it found and what it expected."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinyir.diag import CompileError
from tinyir.ir import Arena, Const, Value
from tinyir.opdef import Op
from tinyir.ops import (
    Add,
    ArgMax,
    AvgPool,
    BatchNorm,
    BroadcastTo,
    Cast,
    Concat,
    Conv2D,
    ConvTranspose2D,
    Dense,
    DepthwiseConv2D,
    Gather,
    MatMul,
    MaxPool,
    Neg,
    Pad,
    PRelu,
    ReduceMean,
    ReduceSum,
    Relu,
    Reshape,
    Resize,
    Slice,
    Slot,
    Softmax,
    Tanh,
    Tile,
    Transpose,
    View,
)
from tinyir.registry import OPS
from tinyir.types import BOOL, F32, F64, I8, I64, U8, BufferType, DType, Quant, TensorType


def t(*shape: int, of: DType = F32) -> Value:
    return Value(TensorType(shape, of))


def f(*shape: int, of: DType = F32) -> TensorType:
    return TensorType(shape, of)


def bytes_of(*shape: int) -> BufferType:
    return BufferType(shape, I8)


IMAGE = (1, 8, 8, 3)
CASES: list[tuple[Callable[[], Op], str]] = [
    (lambda: Conv2D(t(*IMAGE), t(4, 3, 3, 4)), "x has 3 channels, weight expects 4"),
    (lambda: Conv2D(t(1, 8, 8, 4), t(4, 3, 3, 1), groups=2),
     "x has 4 channels, weight expects 2 (1 for each of 2 groups)"),
    (lambda: Conv2D(t(1, 8, 8, 4), t(3, 3, 3, 2), groups=2), "3 output channels do not divide into 2 groups"),
    (lambda: Conv2D(t(8, 8, 3), t(4, 3, 3, 3)), "x has 3 dimensions, expected 4 (N, H, W, C)"),
    (lambda: Conv2D(t(*IMAGE), t(4, 9, 3, 3)), "the result would be 1x0x6x4, every dimension must be at least 1"),
    (lambda: Conv2D(t(*IMAGE), t(4, 3, 3, 3), t(5)), "bias is 5, expected one entry for each of 4 channels"),
    (lambda: Conv2D(t(*IMAGE), t(4, 3, 3, 3, of=F64)), "x is f32 and weight is f64, expected the same type"),
    (lambda: Conv2D(t(*IMAGE, of=I8), t(4, 3, 3, 3, of=I8)), "x is i8, expected floats"),
    (lambda: Conv2D(t(*IMAGE), t(4, 3, 3, 3), stride=(0, 1)),
     "stride is [0, 1], expected 2 integers of at least 1"),
    (lambda: Conv2D(t(*IMAGE), t(4, 3, 3, 3), pad=(1, 1, 1, -1)),
     "pad is [1, 1, 1, -1], expected 4 integers of at least 0"),
    (lambda: Conv2D(t(*IMAGE), t(4, 3, 3, 3), act="clip", act_args=(0.0,)),
     "act_args of clip has 1 entries, expected 2 (low, high)"),
    (lambda: DepthwiseConv2D(t(*IMAGE), t(3, 3, 4)), "weight has 4 channels, expected a multiple of the 3 of x"),
    (lambda: ConvTranspose2D(t(1, 1, 1, 3), t(4, 2, 2, 3), pad=(1, 1, 1, 1)),
     "the result would be 1x0x0x4, every dimension must be at least 1"),
    (lambda: BatchNorm(t(*IMAGE), t(3), t(3), t(4), t(3)),
     "mean is 4, expected one entry for each of 3 channels"),
    (lambda: Dense(t(2, 5), t(4, 6)), "x has 5 columns, weight expects 6"),
    (lambda: Dense(t(2, 5), t(4, 5), t(1, 4)), "bias is 1x4, expected one entry for each of 4 outputs"),
    (lambda: MatMul(t(2, 3), t(4, 5)), "a has 3 columns, b has 4 rows"),
    (lambda: MatMul(t(2, 2, 3), t(3, 3, 5)), "leading dimensions [2] and [3] do not broadcast"),
    (lambda: MaxPool(t(*IMAGE), kernel=(9, 1)), "the result would be 1x0x8x3, every dimension must be at least 1"),
    (lambda: MaxPool(t(*IMAGE), kernel=(2, 2), pad=(2, 0, 0, 0)), "window 0 of the rows sees nothing but padding"),
    (lambda: AvgPool(t(*IMAGE, of=I8), kernel=(2, 2)), "x is i8, expected floats"),
    (lambda: ReduceMean(t(2, 3), axes=(2,)), "axis is 2, expected -2 to 1"),
    (lambda: ReduceMean(t(2, 3), axes=(1, -1)), "axes [1, -1] name one axis twice"),
    (lambda: ReduceSum(t(2, 3), axes=()), "axes is empty, expected the axes to fold"),
    (lambda: ReduceMean(t(2, 3, of=I8), axes=(1,)), "x is i8, expected floats"),
    (lambda: ArgMax(t(2, 3), axis=-3), "axis is -3, expected -2 to 1"),
    (lambda: Softmax(t(2, 3, of=I64)), "x is i64, expected floats"),
    (lambda: Tanh(t(2, 3, of=I8)), "x is i8, expected floats"),
    (lambda: Relu(t(2, 3, of=BOOL)), "x is bool, expected numbers"),
    (lambda: Neg(t(2, 3, of=U8)), "x is u8, expected a signed type"),
    (lambda: Add(t(2, 3), t(2, 4)), "shapes 2x3 and 2x4 do not broadcast"),
    (lambda: Add(t(2, 3), t(3, of=I8)), "a is f32 and b is i8, expected the same type"),
    (lambda: PRelu(t(3), t(2, 3)), "slope [2, 3] is larger than x [3]"),
    (lambda: Cast(t(3), result=f(4, of=I8)), "the result has shape [4], expected that of x, [3]"),
    (lambda: Pad(t(3, 4), before=(0,), after=(0, 0)), "before has 1 entries, expected 2, one an axis"),
    (lambda: Pad(t(3), before=(3,), after=(0,), mode="reflect"), "axis 0 has 3 elements, too few to reflect 3"),
    (lambda: Pad(t(3), before=(-2,), after=(-1,)), "the result would be 0, every dimension must be at least 1"),
    (lambda: Pad(t(3), before=(-3,), after=(2,)), "nothing of axis 0 is left"),
    (lambda: Reshape(t(3, 4), result=f(11)), "the result has 11 elements, expected the 12 of x"),
    (lambda: Reshape(t(3, 4), result=f(12, of=I8)),
     "the result is declared as tensor<12xi8>, expected tensor<12xf32>"),
    (lambda: Transpose(t(3, 4), perm=(0, 2)), "perm is [0, 2], expected each of 0 to 1 once"),
    (lambda: Concat((), axis=0), "there are no inputs, expected at least one"),
    (lambda: Concat((t(2, 3), t(2, 4)), axis=0), "input 1 is tensor<2x4xf32>, expected tensor<2x3xf32>"),
    (lambda: Concat((t(2, 3), t(2, 3, 1)), axis=0), "input 1 is tensor<2x3x1xf32>, expected tensor<2x3xf32>"),
    (lambda: Slice(t(8), begin=(6,), step=(1,), result=f(3)),
     "axis 0 is read from 6 to 8 in steps of 1, expected to stay in 0 to 7"),
    (lambda: Slice(t(8, 8), begin=(0,), step=(1,), result=f(3)), "begin has 1 entries, expected 2, one an axis"),
    (lambda: BroadcastTo(t(3), result=f(3, 2)), "x [3] does not broadcast to [3, 2]"),
    (lambda: BroadcastTo(t(3, 1), result=f(3)), "x [3, 1] does not broadcast to [3]"),
    (lambda: Tile(t(3, 1), repeats=(2,)), "repeats has 1 entries, expected 2, one an axis"),
    (lambda: Tile(t(3), repeats=(0,)), "the result would be 0, every dimension must be at least 1"),
    (lambda: Gather(t(3), t(2)), "indices is f32, expected integers"),
    (lambda: Gather(t(3), Const("i", f(2, of=I64), np.array([0, 3]))), "indices go from 0 to 3, expected -3 to 2"),
    (lambda: _resize(result=f(1, 16, 16, 4)),
     "the result is declared as tensor<1x16x16x4xf32>, expected tensor<1x16x16x3xf32>"),
    (lambda: _resize(scales=(2.0, 3.0)), "a scale of 3.0 makes 24 out of 8, the result has 16"),
    (lambda: _resize(x=t(*IMAGE, of=I8), result=f(1, 16, 16, 3, of=I8)), "x is i8, expected floats in mode linear"),
    (lambda: Slot(Arena("ram", 64), offset=60, result=bytes_of(8)), "the slot ends at byte 68, the arena at 64"),
    (lambda: Slot(Arena("ram", 64), offset=2, result=BufferType((1,), F32)),
     "offset is 2, expected a multiple of 4 from 0 on"),
    (lambda: View(Value(bytes_of(8)), result=bytes_of(9)), "the view is buffer<9xi8>, expected 8 elements of i8"),
]


def _resize(x: Value | None = None, **changes: Any) -> Resize:
    given = {"mode": "linear", "coordinates": "half_pixel", "scales": (2.0, 2.0), "result": f(1, 16, 16, 3), **changes}
    return Resize(x or t(*IMAGE), **given)


@pytest.mark.parametrize(("make", "message"), CASES, ids=[m[:40] for _, m in CASES])
def test_error(make: Callable[[], Op], message: str) -> None:
    with pytest.raises(CompileError) as caught:
        make().verify()
    found = caught.value.diagnostics[0].message
    assert found.partition(": ")[2] == message
    assert found.startswith(("nn.", "mem."))


def test_errors_name_the_operands() -> None:
    with pytest.raises(CompileError) as caught:
        Conv2D(t(*IMAGE), t(4, 3, 3, 4))
    assert caught.value.diagnostics[0].notes == ("x is tensor<1x8x8x3xf32>", "weight is tensor<4x3x3x4xf32>")


def test_quantised_per_axis_does_not_reshape() -> None:
    x = Value(TensorType((2, 3), I8, Quant((1.0, 2.0), (0,), 0)))
    with pytest.raises(CompileError, match="per axis"):
        Reshape(x, result=TensorType((6,), I8))


def test_concrete_classes_are_final_and_documented() -> None:
    for name, kind in OPS.items():
        if kind.__module__.startswith("tinyir.ops."):
            assert sys.version_info < (3, 11) or getattr(kind, "__final__", False), name  # 3.10 leaves no trace of it
            assert kind.__doc__, name
