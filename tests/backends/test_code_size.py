"""Streamed networks are loops over rows: their machine code does not grow with the rows that there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tinyc.tools.elf import section_sizes
from tinyc.tools.toolchain import Compiler, core_compiler, host_compiler, routes_present

from tinyir.ir import Argument, Block, Func, Module
from tinyir.ops import Add, Conv2D, DepthwiseConv2D, QConv2D, QDepthwiseConv2D, ReduceMean, Return
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.rewrite import Builder
from tinyir.target import target_named
from tinyir.types import F32, I8, I32, Quant, TensorType

from .harness import COMPILERS, emit

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
FEW, MANY = 40, 400
PASSES = "pull-input,stream,lower-to-mem,plan-arena"
BYTES = 16
"""Numbers above 255 need longer instructions."""


def float_net(height: int) -> Module:
    """Strides, a residual, a mean at the end."""
    module, rng = Module("net"), np.random.Generator(np.random.PCG64(1))
    image = Argument(TensorType((1, height, 8, 3), F32), "x")
    block = Block([image])
    module.funcs["main"] = Func("main", block)
    build = Builder(module, block)

    def weight(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape).astype(np.float32)

    a = build.add(Conv2D(image, build.const("w1", weight(4, 3, 3, 3)), None, stride=(2, 2), pad=(0, 0, 1, 1)))
    b = build.add(DepthwiseConv2D(a.out, build.const("w2", weight(3, 3, 4)), None, pad=(1, 1, 1, 1)))
    c = build.add(Conv2D(b.out, build.const("w3", weight(4, 1, 1, 4)), None))
    d = build.add(Add(c.out, a.out))
    build.add(Return((build.add(ReduceMean(d.out, (1, 2))).out,)))
    return module


def integer_net(height: int) -> Module:
    """The same without what needs a table."""
    module, rng = Module("net", "quant"), np.random.Generator(np.random.PCG64(1))
    quant = Quant((0.05,), (3,))
    image = Argument(TensorType((1, height, 8, 3), I8, quant), "x")
    block = Block([image])
    module.funcs["main"] = Func("main", block)
    build = Builder(module, block)

    def weight(*shape: int) -> tuple[np.ndarray, TensorType]:
        return rng.integers(-127, 128, shape).astype(np.int8), TensorType(shape, I8, Quant((0.004,)))

    bias = build.const("b", rng.integers(-500, 500, 4).astype(np.int32), TensorType((4,), I32))
    half = TensorType((1, height // 2, 4, 4), I8, quant)
    a = build.add(QConv2D(image, build.const("w1", *weight(4, 3, 3, 3)), bias, stride=(2, 2), pad=(0, 0, 1, 1),
                          result=half))
    b = build.add(QDepthwiseConv2D(a.out, build.const("w2", *weight(3, 3, 4)), bias, pad=(1, 1, 1, 1), result=half))
    c = build.add(QConv2D(b.out, build.const("w3", *weight(4, 1, 1, 4)), bias, result=half))
    build.add(Return((c.out,)))
    return module


def code_bytes(module: Module, target: str, compiler: Compiler, folder: Path) -> int:
    PassManager(parse_pipeline(PASSES)).run(module, Context(target_named(target)))
    assert any(op.opname == "mem.loop" for op in module.walk())
    for name, data in emit(module).items():
        (folder / name).write_bytes(data)
    compiler.run([*compiler.flags, "-std=c99", "-O2", "-ffreestanding", "-c", "net.c", "-o", "net.o"], folder)
    sizes = section_sizes((folder / "net.o").read_bytes())
    return sum(size for name, size in sizes.items() if name.startswith(".text"))


@pytest.mark.parametrize("make", [float_net, integer_net])
@pytest.mark.parametrize("target", ["generic", "cortex-m4"])
def test_code_does_not_grow_with_the_rows(make: Callable[[int], Module], target: str, tmp_path: Path) -> None:
    if target != "generic" and not routes_present(target):
        pytest.skip("no cross compiler")
    compiler = host_compiler() if target == "generic" else core_compiler(target)
    few, many = (code_bytes(make(height), target, compiler, tmp_path) for height in (FEW, MANY))
    assert abs(many - few) <= BYTES
