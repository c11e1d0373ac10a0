"""Concats that change the scale of what they join: every byte stays, and layers and rows agree."""

from __future__ import annotations

import numpy as np
import pytest

from tinyir.arith import dequantize, quantize
from tinyir.clone import clone_module
from tinyir.interp import run
from tinyir.ir import Argument, Block, Func, Module, Value
from tinyir.ops import Concat, Lookup, QAdd, QConcat, Return
from tinyir.pass_manager import PassManager, parse_pipeline
from tinyir.rewrite import Builder
from tinyir.types import I8, U8, DType, Quant, TensorType

from ..backends.harness import COMPILERS
from ..backends.qharness import check_exact, per_tensor, stored

WIDE, OWN = per_tensor(0.04, 1), per_tensor(0.05, 3)


def skip_connection(table: np.ndarray) -> Module:
    """%a, read twice, beside %x under the scale of %x."""
    shape = (1, 5, 4, 3)
    x, y = (Argument(TensorType(shape, I8, quant), name) for quant, name in ((WIDE, "x"), (OWN, "y")))
    module, block = Module("net", "quant"), Block([x, y])
    module.funcs["main"] = Func("main", block)
    build = Builder(module, block)
    skipped = build.add(QAdd(y, y, TensorType(shape, I8, OWN))).out
    changed: Value = build.add(Lookup(skipped, build.const("t", table), TensorType(shape, I8, WIDE))).out
    joined = build.add(Concat((x, changed), axis=3)).out
    build.add(Return((joined, build.add(QAdd(skipped, y, TensorType(shape, I8, OWN))).out)))
    return module


def change_of_scale() -> np.ndarray:
    return quantize(dequantize(np.arange(-128, 128).astype(np.int8), OWN), WIDE, I8)


@pytest.mark.parametrize("other", [False, True])
def test_only_changes_of_scale_are_fused(other: bool) -> None:
    table = change_of_scale()
    if other:
        table[7] ^= 1
    module = skip_connection(table)
    fused, _ = clone_module(module)
    PassManager(parse_pipeline("fuse-concat")).run(fused)
    assert any(isinstance(op, QConcat) for op in fused.walk()) != other
    rng = np.random.default_rng(1)
    inputs = [stored(rng, I8, 1, 5, 4, 3) for _ in range(2)]
    for found, expected in zip(run(fused, inputs), run(module, inputs), strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
@pytest.mark.parametrize("dtypes", [(I8, I8), (U8, I8), (I8, U8)])
def test_kernels(dtypes: tuple[DType, DType]) -> None:
    rng = np.random.default_rng(2)
    parts = [(stored(rng, dtypes[0], 2, 5, 4, 3), per_tensor(0.05, 3)), (stored(rng, dtypes[1], 2, 5, 4, 2), WIDE)]
    result = TensorType((2, 5, 4, 5), dtypes[1], Quant(WIDE.scales, WIDE.zero_points))
    for target in ("generic", "cortex-m55"):
        check_exact(lambda a, b: QConcat((a, b), result), parts, target=target)
