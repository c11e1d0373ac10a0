"""Liveness, placement, and what lower-to-mem refuses."""

from __future__ import annotations

import pytest
from tinyc.passes._slot_places import place_slots
from tinyc.passes.liveness import Interval, Liveness

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
    assert place_slots(list(intervals), 4).lower_bound == 64


def _slot(size: int) -> Slot:
    return Slot(Arena("arena"), result=BufferType((size,), U8))


def test_placement_of_a_chain_reaches_the_bound() -> None:
    """Of a chain of equal slots two are needed."""
    chain = [Interval(_slot(64), "main", i, i + 1, 64) for i in range(9)]
    assert place_slots(chain, 16).peak == place_slots(chain, 16).lower_bound == 128


def test_functions_share_the_arena() -> None:
    """Functions never run at the same time, so their slots never meet, whatever the numbers of their ops."""
    both = [Interval(_slot(64), name, 0, 3, 64) for name in ("main", "other")]
    assert place_slots(both, 16).offsets == (0, 0)


def test_the_search_beats_greedy_orders() -> None:
    spans = [(5, 7, 7), (2, 4, 4), (3, 5, 6), (3, 3, 5), (1, 2, 2)]
    slots = [Interval(_slot(size), "main", first, last, size) for first, last, size in spans]
    greedy, exact = place_slots(slots, 1, nodes=0), place_slots(slots, 1)
    assert str(greedy) == "17 bytes, at most 2 (11.8 %) above the optimum"
    assert str(exact) == "15 bytes, optimal"


def test_the_remark_says_how_good_the_arena_is() -> None:
    ctx = PassManager(parse_pipeline("plan-arena{align=4}")).run(parse(VIEWS))
    assert [d.message for d in ctx.diagnostics] == ["plan-arena: 64 bytes, optimal for 2 slots in @arena"]
    assert ctx.stats["plan-arena"] == {"slots": 2, "peak-bytes": 64, "lower-bound-bytes": 64}


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
