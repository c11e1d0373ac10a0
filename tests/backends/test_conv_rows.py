"""Convolutions fed row by row through ring buffers give what they give on whole images, in C and in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tinyc.backends.c.kernels.base import RowKernel

from tinyir import ops
from tinyir.interp import run
from tinyir.ir import Array, Value
from tinyir.opdef import Op

from .harness import COMPILERS, module_of
from .test_conv import floats, lowered
from .test_rows import stream

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
Case = tuple[Callable[..., Op], tuple[int, ...]]


def conv(**attrs: Any) -> Callable[..., Op]:
    return lambda x, w, b: ops.Conv2D(x, w, b, **attrs)


def depthwise(**attrs: Any) -> Callable[..., Op]:
    return lambda x, w, b: ops.DepthwiseConv2D(x, w, b, **attrs)


def transposed(**attrs: Any) -> Callable[..., Op]:
    return lambda x, w, b: ops.ConvTranspose2D(x, w, b, **attrs)


CASES: dict[str, Case] = {
    "conv_same": (conv(pad=(1, 1, 1, 1), act="relu"), (8, 3, 3, 4)),
    "conv_stride": (conv(stride=(2, 2), pad=(0, 0, 1, 1)), (5, 3, 3, 4)),
    "conv_dilation": (conv(dilation=(2, 1), pad=(2, 0, 2, 0)), (6, 3, 2, 4)),
    "conv_groups": (conv(groups=2, pad=(1, 0, 0, 0)), (6, 2, 2, 2)),
    "pointwise": (conv(), (8, 1, 1, 4)),
    "pointwise_rest": (conv(act="clip", act_args=(0.0, 6.0)), (6, 1, 1, 4)),
    "depthwise_same": (depthwise(pad=(1, 1, 1, 1), act="relu"), (3, 3, 4)),
    "depthwise_stride": (depthwise(stride=(2, 1), pad=(0, 1, 1, 0)), (3, 3, 4)),
    "depthwise_looped": (depthwise(pad=(2, 2, 2, 2)), (5, 5, 4)),
    "transposed_double": (transposed(stride=(2, 2)), (4, 2, 2, 4)),
    "transposed_crop": (transposed(stride=(2, 2), pad=(1, 1, 1, 1), output_pad=(1, 0)), (4, 3, 3, 4)),
    "transposed_dilation": (transposed(stride=(3, 1), dilation=(2, 1), pad=(2, 0, 1, 0)), (4, 3, 2, 4)),
}


def kernel_of(build: Callable[..., Op], x: Array, consts: list[Array], target: str) -> Any:
    module = lowered(module_of(build, [x], consts), target)
    return next(op for op in module.walk() if isinstance(op, RowKernel))


@pytest.mark.parametrize("target", ["cortex-m4", "host", "generic"])
@pytest.mark.parametrize("name", CASES)
def test_rows(name: str, target: str) -> None:
    build, shape = CASES[name]
    x = floats(1, 11, 7, 4)
    consts = [floats(*shape), floats(shape[-1] if len(shape) == 3 else shape[0])]
    expected = run(module_of(build, [x], consts), [x])[0]
    kernel = kernel_of(build, x, consts, target)

    def make(xs: list[Value], y: Value, rows: tuple[int, int], x_base: int, y_base: int) -> RowKernel:
        attrs = {**kernel.attrs, "rows": rows, "x_base": x_base, "y_base": y_base}
        made: RowKernel = type(kernel)(xs[0], kernel.weight, kernel.bias, y, **attrs)
        return made

    height = expected.shape[1]
    for step, ring, out_ring in [(1, 6, 2), (2, 7, 3), (3, 9, 5)]:
        stream(make, [x], expected, ring=ring, out_ring=out_ring, step=step)
    stream(make, [x], expected, ring=11, out_ring=4, step=2)
    stream(make, [x], expected, ring=7, out_ring=height, step=2)
    stream(make, [x], expected, ring=11, out_ring=height, step=4)


def test_reads_no_row_outside_of_the_span() -> None:
    """The rows that are not in the ring are NaN there: one that is read would show."""
    x = floats(1, 9, 5, 4)
    consts = [floats(4, 3, 3, 4), floats(4)]
    kernel = kernel_of(conv(pad=(1, 1, 1, 1)), x, consts, "cortex-m4")
    assert kernel.input_rows((0, 1)) == (0, 2)
    assert kernel.input_rows((3, 5)) == (2, 6)
    y = np.full((1, 9, 5, 4), np.nan, np.float32)
    part = type(kernel)(kernel.x, kernel.weight, kernel.bias, kernel.y, **{**kernel.attrs, "rows": (3, 5)})
    hidden = np.full_like(x, np.nan)
    hidden[:, 2:6] = x[:, 2:6]
    part.reference(hidden, kernel.weight.data, kernel.bias.data, y)
    assert np.isfinite(y[:, 3:5]).all()
    assert np.isnan(y[:, :3]).all()
    assert np.isnan(y[:, 5:]).all()
