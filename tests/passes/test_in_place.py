"""Element-wise kernels that write where their operand lies: which may, in loops and outside, and what comes of it."""

from __future__ import annotations

import numpy as np
import pytest
from tinyc.passes._slot_places import place_slots, sharing_of
from tinyc.passes.liveness import Liveness

from tinyir.diag import CompileError
from tinyir.interp import run
from tinyir.ir import Array, Module
from tinyir.ops import Slot
from tinyir.parser import parse
from tinyir.pass_manager import Context, PassManager, parse_pipeline

from ..backends.harness import COMPILERS, run_c
from .test_stream import made

CHAIN = """
module @net {
  func @main(%x: tensor<1x6x4x2xf32>) -> tensor<1x6x4x2xf32> {
    %a = nn.exp(%x) : tensor<1x6x4x2xf32>
    %b = nn.tanh(%a) : tensor<1x6x4x2xf32>
    %c = nn.sigmoid(%b) : tensor<1x6x4x2xf32>
    %d = nn.add(%b, %c) : tensor<1x6x4x2xf32>
    %e = nn.softmax(%d) : tensor<1x6x4x2xf32>
    %y = nn.neg(%e) : tensor<1x6x4x2xf32>
    nn.return(%y)
  }
}
"""


def lowered(text: str, before: str = "") -> Module:
    module = parse(text)
    PassManager(parse_pipeline(f"{before}lower-to-mem")).run(module)
    return module


def pairs_of(module: Module) -> set[tuple[str, str]]:
    found = sharing_of(module, Liveness.compute(module, Context())).in_place
    return {(operand.out.name, result.out.name) for operand, result in found}


def image(*shape: int) -> Array:
    return np.random.Generator(np.random.PCG64(3)).uniform(-1, 1, shape).astype(np.float32)


def test_what_may_be_one() -> None:
    """%b is read behind %c = sigmoid(%b), so that kernel needs both; the sum may take over either of its operands."""
    assert pairs_of(lowered(CHAIN)) == {("a", "b"), ("b", "d"), ("c", "d"), ("d", "e")}


def test_two_places_for_five_images() -> None:
    """Places: %a, %b, %d, %e and beside it %c; the arena is no larger than what lives at one time."""
    module = lowered(CHAIN)
    ctx = PassManager(parse_pipeline("plan-arena")).run(module)
    assert ctx.stats["plan-arena"]["peak-bytes"] == ctx.stats["plan-arena"]["lower-bound-bytes"] == 2 * 192
    offsets = {op.out.name: op.offset for op in module.walk() if isinstance(op, Slot)}
    assert offsets["a"] == offsets["b"] != offsets["c"]
    expected = run(parse(CHAIN), [image(1, 6, 4, 2)])[0]
    np.testing.assert_allclose(run(module, [image(1, 6, 4, 2)])[0], expected, rtol=1e-6)
    if COMPILERS:
        np.testing.assert_allclose(run_c(module, [image(1, 6, 4, 2)])[0], expected, rtol=1e-5)


WIDE = """
module @net {
  func @main(%x: tensor<1x6x4x2xf32>) -> tensor<1x6x4x2xf32> {
    %a = nn.exp(%x) : tensor<1x6x4x2xf32>
    %b = nn.tanh(%a) : tensor<1x6x4x2xf32>
    %c = nn.concat(%b, %b, %b) {axis = 3} : tensor<1x6x4x6xf32>
    %y = nn.slice(%c) {begin = [0, 0, 0, 2], step = [1, 1, 1, 1]} : tensor<1x6x4x2xf32>
    nn.return(%y)
  }
}
"""


def test_nothing_is_shared_for_nothing() -> None:
    """Where the arena is as small without: no kernel works in place."""
    intervals = Liveness.compute(module := lowered(WIDE), Context())
    sharing = sharing_of(module, intervals)
    assert len(sharing.in_place) == 1
    placement = place_slots(intervals, 16, sharing=sharing)
    assert placement.optimal
    assert placement.offsets == place_slots(intervals, 16).offsets


ROWS = """
module @net {
  const @w : tensor<4x3x3x4xf32> = random<1>
  func @main(%x: tensor<1x9x4x4xf32>) -> tensor<1x1x1x4xf32> {
    %a = nn.conv2d(%x, @w, none) {pad = [1, 1, 1, 1]} : tensor<1x9x4x4xf32>
    %b = nn.hard_swish(%a) : tensor<1x9x4x4xf32>
    %c = nn.add(%b, %x) : tensor<1x9x4x4xf32>
    %d = nn.conv2d(%c, @w, none) {pad = [1, 1, 1, 1]} : tensor<1x9x4x4xf32>
    %e = nn.tanh(%d) : tensor<1x9x4x4xf32>
    %y = nn.reduce_mean(%e) {axes = [1, 2]} : tensor<1x1x1x4xf32>
    nn.return(%y)
  }
}
"""


@pytest.mark.parametrize("rows", [1, 2])
def test_rows_in_a_loop(rows: int) -> None:
    """Rows that are read in the step that makes them. What goes into a ring may lie elsewhere in it: then not."""
    module = lowered(ROWS, f"stream{{cuts=y,rows={rows}}},")
    assert pairs_of(module) >= {("a", "b"), ("d", "e")}
    PassManager(parse_pipeline("plan-arena")).run(module)
    expected = run(parse(ROWS), [image(1, 9, 4, 4)])[0]
    np.testing.assert_allclose(run(module, [image(1, 9, 4, 4)])[0], expected, rtol=1e-5, atol=1e-6)
    if COMPILERS:
        np.testing.assert_allclose(run_c(module, [image(1, 9, 4, 4)])[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(200, 216))
def test_random_networks_all_in_place(seed: int, quantised: bool) -> None:
    """Every kernel that may works in place, all other slots are apart: nothing changes."""
    plain, streamed, x = made(seed, quantised)
    expected = run(plain, [x])
    for module in (plain, streamed):
        intervals = Liveness.compute(module, Context())
        offsets: dict[Slot, int] = {}
        end = 0
        for operand, result in sharing_of(module, intervals).in_place:
            if operand not in offsets:
                offsets[operand], end = end, end + -(-operand.out.type.size_bytes // 16) * 16
            offsets.setdefault(result, offsets[operand])
        for interval in intervals:
            if interval.slot not in offsets:
                offsets[interval.slot], end = end, end + -(-interval.size // 16) * 16
            interval.slot.__dict__["offset"] = offsets[interval.slot]
        for arena in module.arenas.values():
            arena.size = end
        PassManager(parse_pipeline("plan-arena")).run(module)  # checks what is given
        for found, wanted in zip(run(module, [x]), expected, strict=True):
            if quantised:
                np.testing.assert_array_equal(found, wanted)
            else:
                np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))


def test_a_place_too_early() -> None:
    """%b may not lie where %a is while %a is still needed: at another offset, or before its last reader."""
    module = lowered(CHAIN)
    slots = [op for op in module.walk() if isinstance(op, Slot)]
    for slot, offset in zip(slots, (0, 64, 512, 1024, 2048), strict=True):
        slot.__dict__["offset"] = offset
    with pytest.raises(CompileError, match="%a begins at byte 0 and %b at byte 64, and both are needed at the same"):
        PassManager(parse_pipeline("plan-arena")).run(module)
