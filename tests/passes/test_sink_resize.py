"""Layers in front of upsampling: the same numbers with fewer multiplications, in floats and in stored integers."""

from __future__ import annotations

import numpy as np
import pytest

from tinyir.clone import clone_module
from tinyir.interp import run
from tinyir.ir import Argument, Array, Block, Func, Module, Value
from tinyir.ops import Conv2D, LeakyRelu, Lookup, QConv2D, Resize, Return
from tinyir.pass_manager import PassManager, parse_pipeline
from tinyir.rewrite import Builder
from tinyir.types import F32, I8, Quant, TensorType
from tinyir.verify import verify

QUANT = Quant((0.05,), (3,))


def upsampled(mode: str, quantised: bool, twice: bool = False) -> Module:
    """x, resized, through a layer and a function; read `twice`, the resized image stays."""
    def type_(*shape: int) -> TensorType:
        return TensorType(shape, I8, QUANT) if quantised else TensorType(shape, F32)

    rng = np.random.default_rng(1)
    x = Argument(type_(1, 3, 4, 5), "x")
    module, block = Module("net", "quant" if quantised else "graph"), Block([x])
    module.funcs["main"] = Func("main", block)
    build = Builder(module, block)
    large = build.add(Resize(x, mode, "half_pixel", (2.0, 1.5), type_(1, 6, 6, 5))).out
    if quantised:
        weight = build.const("w", rng.integers(-99, 99, (7, 1, 1, 5)).astype(np.int8),
                             TensorType((7, 1, 1, 5), I8, Quant((0.004,))))
        table = build.const("t", rng.integers(-128, 128, 256).astype(np.int8))
        layer: Value = build.add(QConv2D(large, weight, None, type_(1, 6, 6, 7), clamp=(-100, 90))).out
        y = build.add(Lookup(layer, table, type_(1, 6, 6, 7))).out
    else:
        weight = build.const("w", rng.uniform(-1, 1, (7, 1, 1, 5)).astype(np.float32))
        bias = build.const("b", rng.uniform(-1, 1, 7).astype(np.float32))
        y = build.add(LeakyRelu(build.add(Conv2D(large, weight, bias)).out)).out
    build.add(Return((y, large) if twice else (y,)))
    return module


def sunk(module: Module, options: str = "") -> Module:
    made, _ = clone_module(module)
    PassManager(parse_pipeline(f"sink-resize{options}")).run(made)
    verify(made)
    return made


def image(quantised: bool) -> Array:
    rng = np.random.default_rng(2)
    return rng.integers(-128, 128, (1, 3, 4, 5)).astype(np.int8) if quantised else \
        rng.uniform(-1, 1, (1, 3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize(("mode", "quantised"), [("nearest", False), ("nearest", True), ("linear", False)])
def test_a_third_of_the_work_is_left(mode: str, quantised: bool) -> None:
    module, x = upsampled(mode, quantised), image(quantised)
    after = sunk(module)
    assert 3 * sum(op.macs() for op in after.walk()) == sum(op.macs() for op in module.walk())
    found, expected = run(after, [x])[0], run(module, [x])[0]
    if mode == "nearest":
        assert np.array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_an_image_that_others_read_stays() -> None:
    kinds = [op.opname for op in sunk(upsampled("nearest", True, twice=True)).walk()]
    assert kinds == ["nn.resize", "qnn.conv2d", "qnn.lookup", "nn.return"]


def test_means_stay_if_they_are_to() -> None:
    kinds = [op.opname for op in sunk(upsampled("linear", False), "{means=false}").walk()]
    assert kinds == ["nn.resize", "nn.conv2d", "nn.leaky_relu", "nn.return"]
