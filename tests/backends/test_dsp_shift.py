"""Layers of a network share the shift of their results, and so the functions that compute them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
from tinyc.backends.c.kernels.dsp_shift import greatest_shift, shared_shift

from tinyir.ir import Argument, Block, Func, Module
from tinyir.ops import QConv2D
from tinyir.rewrite import Builder
from tinyir.types import I8, Quant, TensorType


def layers(*scales: float | list[float]) -> list[QConv2D]:
    """Pointwise convolutions one behind the other, results of scale 1, weights of these scales."""
    module, plain = Module("net", "quant"), Quant((1.0,))
    image = Argument(TensorType((1, 4, 4, 32), I8, plain), "x")
    block = Block([image])
    module.funcs["main"] = Func("main", block)
    build, made, x = Builder(module, block), [], image
    for index, scale in enumerate(scales):
        several = scale if isinstance(scale, list) else [scale] * 32
        weight = build.const(f"w{index}", np.ones((32, 1, 1, 32), np.int8),
                             TensorType((32, 1, 1, 32), I8, Quant(tuple(several), axis=0)))
        made.append(build.add(QConv2D(x, weight, None, TensorType((1, 4, 4, 32), I8, plain))))
        x = made[-1].out
    return made


@pytest.mark.parametrize(("scales", "shifts"), [
    ((2**-6.5, 2**-8.5, 2**-9.5), [13, 13, 13]),
    ((2**-3.5, 2**-12.5), [10, 19]),
    ((2**-8.5, 2**-7.5, 2**-13.5), [14, 14, 14]),
    ((2**-7.5,), [14]),
    (([2**-0.5, *[2**-8.5] * 31], 2**-9.5), [15, 15]),
    (([2**-0.5] * 8 + [2**-8.5] * 24, 2**-9.5), [7, 16]),
], ids=["close", "far apart", "the middle is first", "alone", "an outlier", "more than outliers"])
def test_shifts_are_shared(scales: tuple[float | list[float], ...], shifts: list[int]) -> None:
    memo: dict[Hashable, Any] = {}
    assert [shared_shift(op, memo) for op in layers(*scales)] == shifts


def test_multipliers_stay_below_2_to_the_31() -> None:
    for scale in 2.0**-20, 0.0071, 0.3, 1.7:
        shift = greatest_shift(np.asarray([scale / 2, scale], np.float32), 8)
        assert scale * 2.0**(32 + shift - 8) < 2**31
        assert shift == 20 or scale * 2.0**(33 + shift - 8) >= 2**31
