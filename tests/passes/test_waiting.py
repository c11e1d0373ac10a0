"""Rows that wait for their ring: what lies where others are still to come, and that nothing changes by it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from tinyc.passes._stored import Memory
from tinyc.passes._stream_ways import patient_rows, row_bytes
from tinyc.passes._ways import Scene
from tinyc.passes.liveness import Liveness

from tinyir.interp import run
from tinyir.ir import Module
from tinyir.ops import Slot
from tinyir.ops.mem import Loop
from tinyir.parser import parse
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.registry import load_plugins
from tinyir.target import target_named
from tinyir.waiting import waiting_distances

from ..backends.harness import COMPILERS, run_c
from .test_stream import made

HALVED = """
module @net {
  const @w1 : tensor<16x3x3x4xf32> = random<1>
  const @w2 : tensor<4x1x1x16xf32> = random<2>
  const @w3 : tensor<24x1x1x4xf32> = random<3>
  const @w4 : tensor<5x5x24xf32> = random<4>
  func @main(%x: tensor<1x24x16x4xf32>) -> tensor<1x1x1x24xf32> {
    %a = nn.conv2d(%x, @w1, none) {pad = [1, 1, 1, 1]} : tensor<1x24x16x16xf32>
    %s = nn.conv2d(%a, @w2, none) : tensor<1x24x16x4xf32>
    %b = nn.conv2d(%s, @w3, none) : tensor<1x24x16x24xf32>
    %c = nn.depthwise_conv2d(%b, @w4, none) {stride = [2, 2], pad = [1, 1, 2, 2]} : tensor<1x12x8x24xf32>
    %y = nn.reduce_mean(%c) {axes = [1, 2]} : tensor<1x1x1x24xf32>
    nn.return(%y)
  }
}
"""
ROW = 16 * 24 * 4


def streamed() -> Module:
    module = parse(HALVED)
    PassManager(parse_pipeline("stream{cuts=y},lower-to-mem")).run(module)
    return module


def pairs(module: Module) -> Mapping[tuple[str, str], int]:
    lives = {i.slot: (i.first, i.last) for i in Liveness.compute(module, Context())}
    return {(upper.out.name, lower.out.name): distance for number, op in enumerate(module.main.block.walk())
            if isinstance(op, Loop) and op.block is module.main.block
            for (upper, lower), distance in waiting_distances(op, number, lives)}


def test_rows_beside_one_that_waits() -> None:
    """Two rows of %b go to the ring together, every other step. When %a is there, one of them is, at most; when %s is
    read the other one is written.
    """
    assert pairs(streamed()) == {("a", "b_row"): ROW}


def test_no_more_bytes_than_foretold() -> None:
    load_plugins()
    module, target = parse(HALVED), target_named("generic")
    scene = Scene(module.main, module, target, Memory(module.main, target.align))
    foretold = row_bytes(scene, 0, len(scene.ops), patient_rows(scene, 0, len(scene.ops), 1))
    lowered = streamed()
    ctx = PassManager(parse_pipeline("plan-arena")).run(lowered)
    assert ctx.stats["plan-arena"]["peak-bytes"] <= foretold.peak


def test_nothing_changes() -> None:
    module = streamed()
    PassManager(parse_pipeline("plan-arena")).run(module)
    place = {op.out.name: op.offset or 0 for op in module.walk() if isinstance(op, Slot)}
    assert place["b_row"] + ROW <= place["a"] < place["b_row"] + 2 * ROW
    x = np.random.Generator(np.random.PCG64(2)).uniform(-1, 1, (1, 24, 16, 4)).astype(np.float32)
    expected = run(parse(HALVED), [x])[0]
    np.testing.assert_allclose(run(module, [x])[0], expected, rtol=1e-5, atol=1e-6)
    if COMPILERS:
        np.testing.assert_allclose(run_c(module, [x])[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("seed", "quantised"), [(1, False), (30, False), (14, True), (34, True)])
def test_random_networks(seed: int, quantised: bool) -> None:
    """There are such rows in them, and nothing changes; tests/passes/test_overlap.py looks at each pair."""
    plain, module, x = made(seed, quantised)
    assert pairs(module)
    for found, wanted in zip(run(module, [x]), run(plain, [x]), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
