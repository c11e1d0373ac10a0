"""A fully int8 model without float arithmetic: no routine of a soft-float library is linked, and no byte differs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tinyc.tools.toolchain import Compiler, compile_objects, undefined_symbols

from tinyir.interp import run
from tinyir.ir import Argument, Array, Block, Func, Module, Value
from tinyir.ops import (
    Lookup,
    QAdd,
    QAvgPool,
    QConv2D,
    QDense,
    QDepthwiseConv2D,
    QMatMul,
    QMul,
    QReduceMean,
    QResize,
    QSoftmax,
    Reshape,
    Return,
)
from tinyir.types import I8, I32, Quant, TensorType

from .harness import COMPILERS, call, compile_library, emit
from .qharness import lowered, per_tensor, stored

GCC = "arm-none-eabi-gcc"
CORES = {"cortex-m0plus": ("-mcpu=cortex-m0plus", "-mthumb"),
         "cortex-m4": ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=soft")}
# What the support library of the compiler has for integers: 64-bit products, quotients, shifts, leading zeros.
INTEGER_ROUTINES = {"__aeabi_lmul", "__aeabi_uldivmod", "__aeabi_ldivmod", "__aeabi_llsl", "__aeabi_llsr",
                    "__aeabi_lasr", "__aeabi_idiv",
                    "__aeabi_idivmod", "__aeabi_uidiv", "__aeabi_uidivmod", "__clzdi2", "__gnu_thumb1_case_uqi",
                    "__gnu_thumb1_case_sqi", "__gnu_thumb1_case_uhi", "__gnu_thumb1_case_shi"}


class Builder:
    """A module at quant level, op by op."""

    def __init__(self, x: TensorType) -> None:
        self.module = Module("net", "quant", {"requant": "integer"})
        self.x = Argument(x, "x")
        self.block = Block([self.x])
        self.rng = np.random.default_rng(1)

    def const(self, values: Array, quant: Quant | None = None) -> Value:
        const = self.module.add_const("w", values)
        const.type_ = TensorType(values.shape, const.type.dtype, quant)
        return const

    def weights(self, *shape: int) -> Value:
        return self.const(stored(self.rng, I8, *shape), per_tensor(0.004))

    def add(self, op: QConv2D | QDepthwiseConv2D | QAdd | QMul | QAvgPool | QReduceMean | QResize | QSoftmax | QDense
            | Lookup | QMatMul | Reshape) -> Value:
        self.block.append(op)
        return op.out

    def finish(self, value: Value) -> Module:
        self.block.append(Return((value,)))
        self.module.funcs["main"] = Func("main", self.block, result_names=("y",))
        return self.module


def every_kernel() -> Module:
    """A network with each quantised op."""
    def image(channels: int, scale: float, zero: int = 3, size: int = 8) -> TensorType:
        return TensorType((1, size, size, channels), I8, per_tensor(scale, zero))

    build = Builder(image(6, 0.02))
    bias = build.const(build.rng.integers(-900, 900, 8).astype(np.int32))
    assert bias.type.dtype == I32
    a = build.add(QConv2D(build.x, build.weights(8, 3, 3, 6), bias, image(8, 0.03), pad=(1, 1, 1, 1)))
    b = build.add(QDepthwiseConv2D(a, build.weights(3, 3, 8), None, image(8, 0.04), pad=(1, 1, 1, 1)))
    total = build.add(QAdd(a, b, image(8, 0.05)))
    odd = build.add(QAdd(total, b, image(8, 0.37, -90)))
    table = build.const(stored(build.rng, I8, 256), per_tensor(0.02))
    looked = build.add(Lookup(odd, table, image(8, 0.02, 0)))
    product = build.add(QMul(looked, a, image(8, 0.021)))
    pooled = build.add(QAvgPool(product, image(8, 0.02, size=4), (2, 2), (2, 2)))
    small = build.add(QResize(product, "half_pixel", (0.5, 0.5), image(8, 0.021, size=4)))
    pooled = build.add(QAdd(pooled, small, image(8, 0.02, size=4)))
    flat = build.add(Reshape(pooled, TensorType((16, 8), I8, per_tensor(0.02, 3))))
    turned = build.add(Reshape(pooled, TensorType((8, 16), I8, per_tensor(0.02, 3))))
    square = build.add(QMatMul(flat, turned, TensorType((16, 16), I8, per_tensor(0.05, 1))))
    mean = build.add(QReduceMean(square, TensorType((1, 16), I8, per_tensor(0.02)), (0,)))
    exact = build.add(QReduceMean(square, TensorType((16, 1), I8, per_tensor(0.05)), (1,), rule="exact"))
    column = build.add(Reshape(exact, TensorType((1, 16), I8, per_tensor(0.05))))
    both = build.add(QAdd(mean, column, TensorType((1, 16), I8, per_tensor(0.03))))
    scores = build.add(QDense(both, build.weights(10, 16), None, TensorType((1, 10), I8, per_tensor(0.05, 5))))
    return build.finish(build.add(QSoftmax(scores, TensorType((1, 10), I8, per_tensor(1 / 256, -128)))))


@pytest.mark.skipif(shutil.which(GCC) is None, reason=f"no {GCC}")
@pytest.mark.parametrize("level", ["-Os", "-O3"])
@pytest.mark.parametrize("core", CORES)
def test_no_soft_float_routine_is_linked(core: str, level: str, tmp_path: Path) -> None:
    module, _ = lowered(every_kernel(), "cortex-m0plus")
    compiler = Compiler((GCC,), "gcc", (*CORES[core], "-ffreestanding"))
    objects = compile_objects(emit(module), compiler, tmp_path, ("-std=gnu11", level))
    assert undefined_symbols(objects) <= INTEGER_ROUTINES


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
@pytest.mark.parametrize("target", ["generic", "cortex-m0plus", "rv32imc"])
def test_every_byte(target: str) -> None:
    module, remarks = lowered(every_kernel(), target)
    assert not any(op.attrs.get("arithmetic") == "float" for op in module.walk())
    assert any(remark.startswith("qnn.conv2d: 8 channels: ") for remark in remarks)
    library = compile_library(emit(module), COMPILERS[0], ("-O2",))
    rng = np.random.default_rng(2)
    for _ in range(20):
        x = stored(rng, I8, 1, 8, 8, 6)
        expected = run(every_kernel(), [x])[0]
        assert np.array_equal(run(module, [x])[0], expected)
        assert np.array_equal(call(library, module, [x])[0], expected)
