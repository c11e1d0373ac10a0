"""Liveness, placement, and what lower-to-mem refuses."""

from __future__ import annotations

import numpy as np
import pytest
from tinyc.passes.liveness import Interval, Liveness, live_bytes
from tinyc.passes.plan_arena import place

from tinyir.diag import CompileError
from tinyir.ir import Arena
from tinyir.ops import Slot
from tinyir.parser import parse
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.registry import LOWERINGS
from tinyir.types import U8, BufferType

VIEWS = """
module @views {level = mem} {
  arena @arena
  func @main(%x: buffer<1x8xf32>, %y: buffer<8x1xf32>) {outputs = 1} {
    %a = mem.slot(@arena) : buffer<1x8xf32>
    k.map(%x) -> (%a) {function = exp}
    %b = mem.slot(@arena) : buffer<1x8xf32>
    %v = mem.view(%a) : buffer<8x1xf32>
    k.map(%a) -> (%b) {function = exp}
    k.map(%b) -> (%b) {function = exp}
    k.map(%v) -> (%y) {function = exp}
    mem.return()
  }
}
"""


def test_liveness_counts_views_as_uses() -> None:
    intervals = Liveness.compute(parse(VIEWS), Context())
    assert [(i.slot.out.name, i.first, i.last, i.size) for i in intervals] == [("a", 1, 6, 32), ("b", 4, 5, 32)]
    assert live_bytes(intervals) == 64


def _intervals(rng: np.random.Generator) -> tuple[Interval, ...]:
    arena, made = Arena("arena"), []
    for _ in range(int(rng.integers(1, 30))):
        size, first = int(rng.integers(1, 200)), int(rng.integers(0, 40))
        slot = Slot(arena, result=BufferType((size,), U8))
        made.append(Interval(slot, "main", first, first + int(rng.integers(0, 10)), size))
    return tuple(made)


@pytest.mark.parametrize("align", [1, 16])
def test_placement_is_valid(align: int) -> None:
    """Offsets are aligned, and slots that are live together do not overlap."""
    rng = np.random.Generator(np.random.PCG64(3))
    for _ in range(100):
        intervals = _intervals(rng)
        offsets = place(intervals, align)
        assert all(offset >= 0 and offset % align == 0 for offset in offsets.values())
        for number, one in enumerate(intervals):
            for other in intervals[:number]:
                apart = offsets[one.slot] + one.size <= offsets[other.slot] or \
                    offsets[other.slot] + other.size <= offsets[one.slot]
                assert apart or not one.meets(other)


def test_placement_of_a_chain_reaches_the_bound() -> None:
    """Of a chain of equal slots two are needed."""
    arena = Arena("arena")
    chain = tuple(Interval(Slot(arena, result=BufferType((64,), U8)), "main", i, i + 1, 64) for i in range(9))
    offsets = place(chain, 16)
    assert max(offsets.values()) + 64 == live_bytes(chain) == 128


def test_alignment_must_be_a_power_of_two() -> None:
    with pytest.raises(CompileError, match="power of two, not 24"):
        PassManager(parse_pipeline("plan-arena{align=24}")).run(parse(VIEWS))


def test_ops_without_kernels_are_listed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
    module @missing {
      func @main(%x: tensor<8xf32>) -> tensor<8xf32> {
        %a = nn.tanh(%x) : tensor<8xf32> loc("Tanh_0")
        %b = nn.tanh(%a) : tensor<8xf32>
        %c = nn.elu(%b) : tensor<8xf32>
        nn.return(%c)
      }
    }
    """
    items = {name: rule for name, rule in LOWERINGS.items() if name not in ("nn.tanh", "nn.elu")}
    monkeypatch.setattr(LOWERINGS, "_items", items)
    with pytest.raises(CompileError) as caught:
        PassManager(parse_pipeline("lower-to-mem")).run(parse(text))
    message = str(caught.value)
    assert "no kernel for 2 kinds of op: nn.elu, nn.tanh" in message
    assert "note: nn.tanh: 2 of them" in message
    assert "node 'Tanh_0'" in message or ":4:" in message


def test_constants_without_elements_are_refused() -> None:
    text = """
    module @elided {
      const @c : tensor<40xf32> = elided
      func @main(%x: tensor<40xf32>) -> tensor<40xf32> {
        %a = nn.add(%x, @c) : tensor<40xf32>
        nn.return(%a)
      }
    }
    """
    with pytest.raises(CompileError, match="constant @c has no elements"):
        PassManager(parse_pipeline("lower-to-mem")).run(parse(text))
