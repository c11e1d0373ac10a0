"""Strips that take the places of others: which do, and that all places are right."""

from __future__ import annotations

import numpy as np
import pytest
from tinyc.passes._patches import put_in_patch
from tinyc.passes._slot_places import check_given, place_slots, sharing_of
from tinyc.passes.liveness import Interval, Liveness

from tinyir.interp import run
from tinyir.ir import Module
from tinyir.parser import parse
from tinyir.pass_manager import Context, PassManager, parse_pipeline

from .test_patches import Images
from .test_strips import COUNTS, scene_of, segments, without_dead_ops

STRIPS = """
module @net {
  const @w : tensor<4x3x3x4xf32> = random<1>
  func @main(%x: tensor<1x12x20x4xf32>) -> tensor<1x12x20x4xf32> {
    %a = nn.conv2d(%x, @w, none) {pad = [1, 1, 1, 1]} : tensor<1x12x20x4xf32>
    %b = nn.exp(%a) : tensor<1x12x20x4xf32>
    %c = nn.conv2d(%b, @w, none) {pad = [1, 1, 1, 1]} : tensor<1x12x20x4xf32>
    %y = nn.neg(%c) : tensor<1x12x20x4xf32>
    nn.return(%y)
  }
}
"""


def lowered(text: str, before: str) -> Module:
    module = parse(text)
    PassManager(parse_pipeline(f"{before},expand-patches,lower-to-mem")).run(module)
    return module


def twins(module: Module) -> dict[str, str]:
    found = sharing_of(module, Liveness.compute(module, Context())).twins
    return {one.out.name: other.out.name for one, other in found.items()}


def placed(module: Module) -> tuple[int, tuple[Interval, ...]]:
    """The bytes of the only arena, and what lies where; raises CompileError if a place is wrong."""
    intervals = Liveness.compute(module, Context())
    sharing = sharing_of(module, intervals)
    placement = place_slots(intervals, 16, sharing=sharing)
    for interval, offset in zip(intervals, placement.offsets, strict=True):
        interval.slot.__dict__["offset"] = offset
    arena = next(iter(module.arenas.values()))
    assert check_given(intervals, arena, sharing) == placement.peak
    return placement.peak, intervals


def test_strips_take_the_places_of_one() -> None:
    """The strips on the left and on the right have fewer columns; of those between one has places of its own."""
    module = lowered(STRIPS, "patch{grid=1x5,until=c,rows=1}")
    found = twins(module)
    assert found == {f"{name}_t0_{strip}{row}": f"{name}_t0_3{row}" for strip in (0, 1, 2, 4)
                     for name, row in (("a", ""), ("b", ""), ("b", "_row"))}
    _, intervals = placed(module)
    offset = {i.slot.out.name: i.slot.offset for i in intervals}
    assert all(offset[one] == offset[other] for one, other in found.items())
    x = np.random.Generator(np.random.PCG64(1)).uniform(-1, 1, (1, 12, 20, 4)).astype(np.float32)
    np.testing.assert_allclose(run(module, [x])[0], run(parse(STRIPS), [x])[0], rtol=1e-5)


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(220, 232))
def test_random_strips(seed: int, quantised: bool) -> None:
    """All places are right, and no more bytes are needed than where each loop is searched for."""
    scene = scene_of(without_dead_ops(Images(seed, quantised).grow(9)))
    rng = np.random.Generator(np.random.PCG64(seed))
    found = [(f, e, n) for f, e, s in segments(scene) for n in range(len(COUNTS)) if n not in s.starved]
    if not found:
        pytest.skip("nothing in this network can run in strips")
    first, end, number = found[int(rng.integers(len(found)))]
    put_in_patch((1, COUNTS[number]), 1, (), scene.ops[first:end], scene.func, scene.module)
    scene.module.level = "sched"
    PassManager(parse_pipeline("expand-patches,lower-to-mem")).run(scene.module)
    peak, intervals = placed(scene.module)
    assert peak <= place_slots(intervals, 16).peak
