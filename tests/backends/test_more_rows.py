"""Softmax and padding by rows, through ring buffers: what they give on whole images, in C and in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tinyc.backends.c.kernels.base import RowKernel
from tinyc.backends.c.kernels.pad_rows import PadRows
from tinyc.backends.c.kernels.qsoftmax import SoftmaxRowsS8, SoftmaxS8

from tinyir.ir import Value
from tinyir.ops import Pad, QSoftmax
from tinyir.types import I8, TensorType

from .harness import COMPILERS
from .qharness import lowered, per_tensor, quantised_module
from .test_qrows import HEIGHT, QX, image, row_kernel, stream, stream_all

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("axis", [2, 3])
def test_softmax(axis: int, integer: bool) -> None:
    x = image(1)
    result = TensorType(x.shape, I8, per_tensor(1 / 256, -128))
    module, expected = row_kernel(lambda x: QSoftmax(x, result, axis), [(x, QX)], [])
    plain = quantised_module(lambda x: QSoftmax(x, result, axis), [(x, QX)], [])
    plain.attrs["requant"] = "integer" if integer else "float"
    whole = next(op for op in lowered(plain)[0].walk() if isinstance(op, SoftmaxS8))
    assert isinstance(module, SoftmaxS8)
    assert whole.arithmetic == ("integer" if integer else "float")

    def make(xs: list[Value], y: Value, span: dict[str, Any]) -> RowKernel:
        return SoftmaxRowsS8(xs[0], whole.table, y, axis, whole.steps, whole.zero, whole.arithmetic, span["rows"],
                             HEIGHT, span.get("x_base", 0), span.get("y_base", 0))

    stream_all(make, [x], expected)


@pytest.mark.parametrize(("before", "after"), [
    ((0, 1, 1, 0), (0, 1, 1, 0)), ((0, 3, 0, 2), (0, 0, 0, 1)), ((0, 0, 2, 0), (0, 4, -1, 0)),
    ((0, -2, 0, -1), (0, 2, 3, 0)), ((0, 0, -1, 1), (0, -3, 0, -2)), ((0, -1, 0, 0), (0, -1, 0, 0)),
])
def test_pad(before: tuple[int, int, int, int], after: tuple[int, int, int, int]) -> None:
    """Around rows, columns and channels, or less of them; rows that are all padding."""
    x = image(1)
    expected = Pad(Value(TensorType(x.shape, I8)), before, after, value=-7.0).reference(x)

    def make(xs: list[Value], y: Value, span: dict[str, Any]) -> RowKernel:
        return PadRows(xs[0], y, before, after, -7.0, span["rows"], HEIGHT, span.get("x_base", 0),
                       span.get("y_base", 0))

    height = expected.shape[1]
    for ring, out_ring, step in [(2, 2, 1), (3, 3, 2), (5, height, 3), (HEIGHT, 4, 2), (HEIGHT, height, 4)]:
        stream(make, [x], np.asarray(expected), ring, out_ring, step)
