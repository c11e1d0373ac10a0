"""Strips of columns: the bytes that are foretold are those that are planned, and the optimiser makes use of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tinyc.passes._patches import put_in_patch
from tinyc.passes._stored import Memory
from tinyc.passes._stream_ways import row_schedule
from tinyc.passes._strip_ways import Strips, strip_bytes, strips_of
from tinyc.passes._ways import Scene

from tinyir.ir import Module
from tinyir.loops import slot_lives
from tinyir.ops import Patch
from tinyir.ops.mem import Loop
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.registry import FRONTENDS, PIPELINES, load_plugins
from tinyir.rewrite import Rewriter
from tinyir.target import target_named
from tinyir.verify import verify

from ..backends.harness import COMPILERS, run_c
from .test_patches import Images
from .test_streamed_models import inputs

MODELS = Path(__file__).resolve().parents[2].parent / "shared" / "models"
COUNTS = (2, 3, 4, 5, 6, 8)


def without_dead_ops(module: Module) -> Module:
    rewriter = Rewriter(module, Context(), "test")
    for op in reversed(module.main.ops):
        if op.block is not None and op.results and not any(result.uses for result in op.results):
            rewriter.erase(op)
    return module


def scene_of(module: Module) -> Scene:
    load_plugins()
    target = target_named("generic")
    return Scene(module.main, module, target, Memory(module.main, target.align), recompute=10.0)


def segments(scene: Scene) -> list[tuple[int, int, Strips]]:
    """All segments of two ops or more that can run in strips."""
    found = []
    for end in range(2, len(scene.ops) + 1):
        for first in range(end - 1, -1, -1):
            strips = strips_of(scene, first, end)
            if strips is None:
                break
            if end - first > 1 and any(scene.memory.needed_behind(op.out, end) for op in scene.ops[first:end]):
                found.append((first, end, Strips(first, dict(strips.spans), set(strips.starved), strips.again.copy())))
    return found


def bytes_in_loops(module: Module, align: int) -> int:
    """The most bytes of slots that are live at one time while a loop runs."""
    block = module.main.block
    order = list(block.walk())
    inside = {op for loop in order if isinstance(loop, Loop) for op in loop.body}
    live = np.zeros(len(order), np.int64)
    for slot, (first, last) in slot_lives(block).items():
        live[first:last + 1] += -(-slot.out.type.size_bytes // align) * align
    return max(int(live[number]) for number, op in enumerate(order) if op in inside)


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(200, 215))
def test_bytes_are_those_that_are_planned(seed: int, quantised: bool) -> None:
    scene = scene_of(without_dead_ops(Images(seed, quantised).grow(9)))
    rng = np.random.Generator(np.random.PCG64(seed))
    found = [(f, e, s, n) for f, e, s in segments(scene) for n in range(len(COUNTS)) if n not in s.starved]
    if not found:
        pytest.skip("nothing in this network can run in strips")
    first, end, strips, number = found[int(rng.integers(len(found)))]
    schedule = row_schedule(scene, first, end)
    peaks, _ = strip_bytes(scene, (first, end), strips, schedule)
    put_in_patch((1, COUNTS[number]), 1, (), scene.ops[first:end], scene.func, scene.module)
    patch = next(op for op in scene.module.walk() if isinstance(op, Patch))
    assert patch.macs() == strips.again[number]
    scene.module.level = "sched"
    verify(scene.module)
    PassManager(parse_pipeline("expand-patches,lower-to-mem")).run(scene.module)
    assert bytes_in_loops(scene.module, scene.target.align) == peaks[number]


LEAST = {"vww_mobilenetv1_int8": 9_300, "mbv2_w035_144_ortq_int8": 15_500, "mcunet_det_int8": 16_100}
"""By model: the most that the arena may have with a tenth of the multiply-accumulates computed again."""


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
@pytest.mark.skipif(not MODELS.exists(), reason="the shared models are absent")
@pytest.mark.parametrize("name", ["vww_mobilenetv1_int8", *(
    pytest.param(name, marks=pytest.mark.long) for name in list(LEAST)[1:])])
def test_models_in_strips(name: str) -> None:
    """The same bytes, out of a smaller arena."""
    made = []
    for extra in ("", "schedule{ram=min,macs=10%},"):
        module = FRONTENDS.get("onnx")(str(MODELS / f"{name}.onnx"), name="net", ctx=Context())
        PassManager(parse_pipeline(PIPELINES.get("O1").replace("expand-patches", f"{extra}expand-patches"))).run(module)
        made.append(module)
    xs = inputs(made[0])
    for found, wanted in zip(run_c(made[1], xs), run_c(made[0], xs), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert sum(arena.size or 0 for arena in made[1].arenas.values()) <= LEAST[name]
