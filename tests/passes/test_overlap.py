"""Slots that slide over each other in loops: the distances are enough, and a byte less is too little.

What a program does to its arenas is followed byte by byte: each byte belongs to the slot that wrote it last, and a read
of a byte that belongs to another one by now is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tinyc.passes.liveness import Liveness

from tinyir.diag import CompileError
from tinyir.interp import run
from tinyir.ir import Array, Module, Value
from tinyir.loops import bases_of
from tinyir.opdef import Op
from tinyir.ops import Join, Loop, Slot
from tinyir.overlap import SlotPairs, least_distances
from tinyir.parser import parse
from tinyir.pass_manager import Context, PassManager, parse_pipeline

from ..backends.harness import COMPILERS, run_c
from .test_stream import made


def distances_of(module: Module) -> SlotPairs:
    lives = {i.slot: (i.first, i.last) for i in Liveness.compute(module, Context())}
    return least_distances(module.main.block, lives)


def calls(module: Module) -> Iterator[Op]:
    """All kernels in the order in which they run, as they are then."""
    for op in module.main.block.ops:
        if isinstance(op, Loop):
            for step in range(op.steps):
                yield from (now for inner in op.body if not inner.results and (now := inner.at_step(step)) is not None)
        elif not op.results and not op.terminator:
            yield op


def touched(now: Op, value: Value, reads: bool) -> Iterator[tuple[Slot, list[int]]]:
    """The bytes of slots that a call uses, offset 0 being the beginning of the slot."""
    for base in bases_of(value):
        slot = base.defining(Slot)
        if slot is None:
            continue
        size, rows = slot.out.type.size_bytes, rows_touched(now, value, base, reads)
        pitch = size // (base.shape[1] if rows is not None else 1)
        yield slot, list(range(size)) if rows is None else [row * pitch + i for row in rows for i in range(pitch)]


def rows_touched(now: Op, value: Value, base: Value, reads: bool) -> list[int] | None:
    """The rows of the buffer `base` that a call uses; None where that may be all of them."""
    name = next((name for name in getattr(now, "rings", ()) if getattr(now, name) is value), None)
    if name is None:
        return None
    rows = now.attrs["rows"]
    needed = list(range(*(now.input_rows(rows) if reads else rows)))
    join = value.defining(Join)
    if join is not None:
        split = getattr(now, f"{name}_split")
        return [row - split for row in needed if row >= split] if base is join.fresh else None
    if name in now.fresh:
        begin = getattr(now, f"{name}_base") if now.is_ring(name) else rows[0]
        return list(range(begin, begin + len(needed)))
    return needed if value.op is base.op and max(needed, default=0) < value.shape[1] else None


def faults(module: Module, offsets: dict[Slot, int]) -> int:
    """Bytes that are read though another slot has written them since, or in the same call."""
    size = max(offset + slot.out.type.size_bytes for slot, offset in offsets.items())
    number = {slot: index for index, slot in enumerate(offsets)}
    owner: Array = np.full(size, -1)
    filled = {slot: np.zeros(slot.out.type.size_bytes, bool) for slot in offsets}
    found = 0
    for now in calls(module):
        wrote: dict[Slot, Array] = {}
        for value in now.writes:
            for slot, places in touched(now, value, reads=False):
                wrote[slot] = np.array(places, np.int64) + offsets[slot]
        for value in now.reads:
            for slot, places in touched(now, value, reads=True):
                read = np.array([p for p in places if filled[slot][p]], np.int64) + offsets[slot]
                found += int(np.isin(owner[read], [n for s, n in number.items() if s is not slot]).sum())
                found += sum(np.isin(read, bytes_).sum() for other, bytes_ in wrote.items() if other is not slot)
        for slot, bytes_ in wrote.items():
            owner[bytes_] = number[slot]
            filled[slot][bytes_ - offsets[slot]] = True
    return found


def apart(module: Module, upper: Slot, lower: Slot, distance: int) -> dict[Slot, int]:
    """All slots behind each other, but for two."""
    places, end = {lower: max(0, -distance), upper: max(0, distance)}, 0
    end = max(offset + slot.out.type.size_bytes for slot, offset in places.items())
    for slot in (i.slot for i in Liveness.compute(module, Context())):
        if slot not in places:
            places[slot] = -(-end // 16) * 16
            end = places[slot] + slot.out.type.size_bytes
    return places


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", [1, 4, 7, 8, 14, 17, 19, 20, 24, 30, 33, 34, 36])
def test_distances_are_enough_and_no_less_is(seed: int, quantised: bool) -> None:
    _, streamed, _ = made(seed, quantised)
    lives = {i.slot: i for i in Liveness.compute(streamed, Context())}
    rings = {base for op in streamed.walk() for v in (*op.reads, *op.writes) for base in bases_of(v)
             if op.opname.startswith("k.") and (v.defining(Join) or not in_rows(op, v))}
    for (upper, lower), distance in distances_of(streamed).items():
        assert faults(streamed, apart(streamed, upper, lower, distance)) == 0
        known = lives[upper].meets(lives[lower]) and not rings & {upper.out, lower.out}
        if distance > 1 and known:  # 0 and 1 may be more than is needed
            assert faults(streamed, apart(streamed, upper, lower, distance - 1)) > 0


def in_rows(op: Op, value: Value) -> bool:
    """Whether the op tells which rows of the value it uses, and the buffer has as many as it names."""
    names = [getattr(op, name) for name in getattr(op, "rings", ())]
    span = op.attrs.get("rows", (0, 0)) if value in op.writes else \
        op.input_rows(op.attrs["rows"]) if hasattr(op, "input_rows") else (0, 0)
    return value in names and span[1] <= value.shape[1]


def test_random_networks_have_pairs() -> None:
    """So that what tests/passes/test_stream.py compares is about slots that overlap, too."""
    pairs = [pair for seed in range(12) for pair in overlapping(made(seed, True)[1])]
    assert len(pairs) >= 8


def overlapping(module: Module) -> list[tuple[Slot, Slot]]:
    """Pairs that slide over each other, as they are placed."""
    return [(upper, lower) for upper, lower in distances_of(module)
            if 0 <= (upper.offset or 0) - (lower.offset or 0) < lower.out.type.size_bytes]


CHAIN = """
module @chain {
  const @w1 : tensor<4x3x3x4xf32> = random<1>
  const @w2 : tensor<4x5x5x4xf32> = random<2>
  const @w3 : tensor<4x3x3x4xf32> = random<3>
  func @main(%x: tensor<1x12x4x4xf32>) -> tensor<1x1x1x4xf32> {
    %a = nn.conv2d(%x, @w1, none) {pad = [1, 1, 1, 1]} : tensor<1x12x4x4xf32>
    %b = nn.conv2d(%a, @w2, none) {pad = [2, 2, 2, 2]} : tensor<1x12x4x4xf32>
    %c = nn.conv2d(%b, @w3, none) {pad = [1, 1, 1, 1]} : tensor<1x12x4x4xf32>
    %y = nn.reduce_mean(%c) {axes = [1, 2]} : tensor<1x1x1x4xf32>
    nn.return(%y)
  }
}
"""


def chain() -> Module:
    """Two convolutions in a loop, from one stored image, %a, to another, %c: 12 rows of 64 bytes each.

    Step t makes row t of %b, from rows t - 2 ... t + 2 of %a, and then row t - 1 of %c: when that is written, rows from
    t - 1 on are still to be read.
    """
    module = parse(CHAIN)
    PassManager(parse_pipeline("stream{cuts=a/c,until=c},lower-to-mem")).run(module)
    return module


def hand_placed(distance: int) -> Module:
    """The image %a begins `distance` bytes above the image %c that is made of it, the others are out of the way."""
    module = chain()
    places, end = {"c": max(0, -distance), "a": max(0, distance)}, 2048
    for interval in Liveness.compute(module, Context()):
        interval.slot.__dict__["offset"] = places.get(interval.slot.out.name, end)
        end += 1024
    for arena in module.arenas.values():
        arena.size = end
    return module


def test_distance_of_a_chain() -> None:
    found = {(upper.out.name, lower.out.name): distance for (upper, lower), distance in distances_of(chain()).items()}
    assert found == {("a", "c"): 64}


def image() -> Array:
    return np.random.Generator(np.random.PCG64(2)).uniform(-1, 1, (1, 12, 4, 4)).astype(np.float32)


@pytest.mark.parametrize("distance", [64, 128, 768, -768, 60, 0])
def test_offsets_given_by_hand(distance: int) -> None:
    """They are kept if they are right; if not, it is said why, and the answer would be wrong."""
    right = run(parse(CHAIN), [image()])[0]
    module = hand_placed(distance)
    plan = PassManager(parse_pipeline("plan-arena"))
    if distance < 64 and distance != -768:
        with pytest.raises(CompileError, match="slots of @arena overlap") as caught:
            plan.run(module)
        assert f"%a begins at byte {distance} and %c at byte 0, and both are needed at the same time: expected %a at" \
               " least 64 bytes above %c, or %c at least 768 above %a" in str(caught.value)
        assert not np.allclose(run(module, [image()])[0], right)
    else:
        offsets = {op.out.name: op.offset for op in module.walk() if isinstance(op, Slot)}
        plan.run(module)
        assert {op.out.name: op.offset for op in module.walk() if isinstance(op, Slot)} == offsets
        np.testing.assert_allclose(run(module, [image()])[0], right, rtol=1e-5, atol=1e-6)


def test_some_offsets_are_not_enough() -> None:
    module = hand_placed(768)
    next(op for op in module.walk() if isinstance(op, Slot) and op.out.name == "a").__dict__["offset"] = None
    with pytest.raises(CompileError, match="slot %a of @arena has no offset, others have"):
        PassManager(parse_pipeline("plan-arena")).run(module)


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
def test_the_arena_has_room_for_one_of_two_images() -> None:
    """Two images of 768 bytes, 64 bytes apart, and rows of 64 bytes between them: two in a ring, one fresh."""
    module = chain()
    PassManager(parse_pipeline("plan-arena")).run(module)
    assert sum(arena.size or 0 for arena in module.arenas.values()) == 64 + 768 + 3 * 64
    assert overlapping(module)
    np.testing.assert_allclose(run_c(module, [image()])[0], run(parse(CHAIN), [image()])[0], rtol=1e-5, atol=1e-6)


ALONE = """
module @alone {
  const @w : tensor<3x3x4xf32> = random<1>
  func @main(%x: tensor<1x12x4x4xf32>) -> tensor<1x12x4x4xf32> {
    %a = nn.softmax(%x) {axis = 1} : tensor<1x12x4x4xf32>
    %b = nn.depthwise_conv2d(%a, @w, none) {pad = [1, 1, 1, 1]} : tensor<1x12x4x4xf32>
    %c = nn.softmax(%b) {axis = 1} : tensor<1x12x4x4xf32>
    %d = nn.transpose(%c) {perm = [0, 2, 1, 3]} : tensor<1x4x12x4xf32>
    %y = nn.reshape(%d) : tensor<1x12x4x4xf32>
    nn.return(%y)
  }
}
"""


def test_a_depthwise_convolution_alone() -> None:
    """In the place of its operand, but for the two rows before the one that it makes (12 rows of 64 bytes)."""
    module = parse(ALONE)
    PassManager(parse_pipeline("stream,lower-to-mem,plan-arena")).run(module)
    assert sum(arena.size or 0 for arena in module.arenas.values()) == 14 * 64
    right = run(parse(ALONE), [image()])[0]
    np.testing.assert_allclose(run(module, [image()])[0], right, rtol=1e-5, atol=1e-6)
    if COMPILERS:
        np.testing.assert_allclose(run_c(module, [image()])[0], right, rtol=1e-5, atol=1e-6)


WINDOW = """
module @window {level = mem} {
  arena @arena
  func @main(%x: buffer<1x8x4x2xf32>, %y: buffer<1x6x2x2xf32>) {outputs = 1} {
    %a = mem.slot(@arena) : buffer<1x8x4x2xf32>
    k.map(%x) -> (%a) {function = neg}
    %w = mem.window(%a) {begin = [0, 2, 1, 0]} : buffer<1x6x2x2xf32>
    %b = mem.slot(@arena) : buffer<1x6x2x2xf32>
    mem.loop() {steps = 6} {
      k.map_rows(%w) -> (%b) {function = exp, rows = [0, 6], height = 6, pace = [1, 1, 0]}
      mem.next()
    }
    k.map(%b) -> (%y) {function = neg}
    mem.return()
  }
}
"""


def test_a_part_of_a_stored_image() -> None:
    """Row t of the window lies in row t + 2 of %a, which are 32 bytes each; those of %b are 16 bytes."""
    module = parse(WINDOW)
    found = {(upper.out.name, lower.out.name): distance for (upper, lower), distance in distances_of(module).items()}
    assert found == {("a", "b"): 0}
    PassManager(parse_pipeline("plan-arena")).run(module)
    assert sum(arena.size or 0 for arena in module.arenas.values()) == 256
    x = np.random.Generator(np.random.PCG64(5)).uniform(-1, 1, (1, 8, 4, 2)).astype(np.float32)
    np.testing.assert_allclose(run(module, [x])[0], -np.exp(-x[:, 2:, 1:3]), rtol=1e-6)
