"""Scratch of kernels: as much as fits beside what lives, the same bytes whatever is chosen."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from tinyc.passes.fit_scratch import FitScratch
from tinyc.passes.lower_to_mem import LowerToMem
from tinyc.passes.plan_arena import PlanArena

from tinyir.clone import clone_module
from tinyir.interp import run
from tinyir.ir import Argument, Array, Block, Func, Module, Value
from tinyir.opdef import Op
from tinyir.ops import QConv2D, QDepthwiseConv2D, Return
from tinyir.pass_manager import Context
from tinyir.registry import load_plugins
from tinyir.target import target_named
from tinyir.types import I8, Quant, TensorType

QUANT, WEIGHTS = Quant((0.02,), (3,)), Quant((0.01,), (0,))


def network(widths: list[int]) -> Module:
    """3x3 convolutions of an 8 x 12 image with so many channels, a depthwise 5x5 one behind them."""
    rng = np.random.default_rng(1)
    module = Module("net", "quant")
    x = Argument(TensorType((1, 8, 12, widths[0]), I8, QUANT), "x")
    block, value = Block([x]), x
    made: Op
    last: Value = value
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        weight = rng.integers(-100, 100, (outputs, 3, 3, inputs)).astype(np.int8)
        const = module.add_const(f"w{index}", weight, type_=TensorType(weight.shape, I8, WEIGHTS))
        made = QConv2D(last, const, None, TensorType((1, 8, 12, outputs), I8, QUANT), pad=(1, 1, 1, 1))
        block.append(made)
        last = made.out
    weight = rng.integers(-100, 100, (5, 5, widths[-1])).astype(np.int8)
    const = module.add_const("d", weight, type_=TensorType(weight.shape, I8, WEIGHTS))
    made = QDepthwiseConv2D(last, const, None, TensorType((1, 8, 12, widths[-1]), I8, QUANT), pad=(2, 2, 2, 2))
    block.append(made)
    block.append(Return((made.out,)))
    module.funcs["main"] = Func("main", block, result_names=("y",))
    return module


def planned(module: Module, **options: int) -> tuple[Module, int, list[str]]:
    """The module at mem level with its slots placed, the bytes of the arena, remarks."""
    load_plugins()
    copy, _ = clone_module(module)
    ctx = Context(target_named("cortex-m4"))
    LowerToMem().run(copy, ctx)
    if options:
        ctx.current_pass = "fit-scratch"
        FitScratch(**options).run(copy, ctx)
    ctx.current_pass = "plan-arena"
    PlanArena().run(copy, ctx)
    return copy, int(ctx.stats["plan-arena"]["peak-bytes"]), [str(d.message) for d in ctx.diagnostics]


def forms(module: Module) -> list[object]:
    return [op.attrs.get("sizes", op.attrs.get("band")) for op in module.walk() if op.opname.endswith("_dsp")]


def values(module: Module) -> Array:
    x = np.random.default_rng(2).integers(-128, 128, module.main.inputs[0].shape).astype(np.int8)
    return run(module, [x])[0]


@pytest.mark.parametrize("percent", [0, 12, 1000])
def test_scratch_fits(percent: int) -> None:
    module = network([8, 16, 16, 8])
    whole, bytes_whole, _ = planned(module)
    fitted, bytes_fitted, _ = planned(module, percent=percent)
    assert np.array_equal(values(whole), values(fitted))
    assert bytes_fitted <= bytes_whole
    assert bytes_fitted <= 3072 * (100 + percent) // 100 + 512  # the least scratch of all


def test_smaller_where_more_lives() -> None:
    """Columns of one pixel where two images of 16 channels live; of more where there is room."""
    module = network([8, 16, 16, 8])
    fitted, _, remarks = planned(module, percent=0)
    assert forms(fitted)[:3] == [(4,), (1,), (2,)]
    assert any("of scratch, where 3,072 bytes are in use" in text for text in remarks)
    assert forms(planned(module, percent=1000)[0]) == forms(planned(module)[0])


def test_limit() -> None:
    module = network([8, 16, 16, 8])
    whole, most, _ = planned(module)
    assert forms(planned(module, percent=0, limit=most + 64)[0]) == forms(whole)
