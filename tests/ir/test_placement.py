"""Placement against brute force, against a search without backjumping, and on MiniMalloc's instances."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tinyir.diag import CompileError
from tinyir.placement import Block, Pairs, busiest_moment, place, search, verify
from tinyir.placement.bounds import Heights
from tinyir.placement.problem import Problem, split
from tinyir.placement.relations import RelationSearch
from tinyir.placement.search import Ordering, Search

UNPLACEABLE = [(0, 1, 3), (1, 2, 2), (0, 3, 2), (0, 4, 1), (2, 4, 1), (3, 4, 1), (2, 5, 1), (1, 6, 1), (3, 6, 1),
               (4, 7, 3), (5, 7, 1), (6, 7, 2)]
"""Six bytes are needed at every moment, and no placement does with six."""


def least_peak(blocks: Sequence[Block], align: int) -> int:
    """By trying all orders: in one of them, lowering each block onto those before it gives the least peak."""
    best = [sum(b.size + align for b in blocks)]

    def extend(tops: dict[int, int], peak: int) -> None:
        if len(tops) == len(blocks):
            best[0] = min(best[0], peak)
        if peak >= best[0]:
            return
        for number, block in enumerate(blocks):
            if number not in tops:
                ground = max([0, *(top for other, top in tops.items() if block.meets(blocks[other]))])
                top = -(-ground // align) * align + block.size
                extend({**tops, number: top}, max(peak, top))

    extend({}, 0)
    return best[0]


def random_blocks(rng: random.Random, count: int) -> list[Block]:
    """Blocks with short and long lives."""
    moments, largest = rng.randint(2, 8), rng.choice([3, 6, 20])
    lowers = [rng.randrange(moments) for _ in range(count)]
    return [Block(lower, rng.randint(lower + 1, moments + 1), rng.randint(1, largest)) for lower in lowers]


def full_blocks(rng: random.Random, height: int, moments: int) -> list[Block]:
    """Blocks that need exactly `height` at every moment: as tight as can be, and not always possible to place."""
    blocks: list[Block] = []
    alive: list[tuple[int, int]] = []  # since when, size
    for moment in range(moments):
        ends = [rng.random() < 0.4 for _ in alive]
        blocks += [Block(since, moment, size) for (since, size), end in zip(alive, ends, strict=True) if end]
        alive = [a for a, end in zip(alive, ends, strict=True) if not end]
        while room := height - sum(size for _, size in alive):
            alive.append((moment, rng.randint(1, min(3, room))))
    return blocks + [Block(since, moments, size) for since, size in alive]


@pytest.mark.parametrize("align", [1, 2, 8])
def test_the_peak_is_that_of_brute_force(align: int) -> None:
    """To the byte, also where the topmost block does not fill its last unit of alignment; and known to be least."""
    rng = random.Random(align)
    for _ in range(120):
        blocks = random_blocks(rng, rng.randint(1, 6))
        placement = place(blocks, align)
        verify(blocks, placement.offsets, align)
        assert placement.peak == placement.lower_bound == least_peak(blocks, align)


def test_every_capacity_is_decided_right() -> None:
    """The search alone, without greedy answers: placed from the least peak on, impossible below."""
    rng = random.Random(11)
    for _ in range(60):
        blocks = random_blocks(rng, rng.randint(2, 6))
        least = least_peak(blocks, 1)
        for group in split(blocks):
            part = [blocks[number] for number in group]
            needed = least_peak(part, 1)
            problem = Problem.of(part, 1)
            orderings = [Ordering(problem.size, follow=False), Ordering(-problem.size, follow=True)]
            for capacity in range(needed - 2, least + 1):
                outcomes = {Search(problem, capacity, ordering).run(10_000) for ordering in orderings}
                outcomes.add(RelationSearch(problem, capacity).run(10_000))
                assert outcomes == {"placed" if capacity >= needed else "impossible"}


def test_backjumping_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that always goes back to the last decision finds and refutes the same, on more nodes."""
    rng = random.Random(2)
    searches = [(Problem.of([Block(*row) for row in UNPLACEABLE], 1), 6)]
    for _ in range(80):
        blocks = full_blocks(rng, rng.choice([6, 7, 9]), rng.randint(6, 9))
        searches += [(Problem.of([blocks[n] for n in group], 1), busiest_moment(blocks)[1]) for group in split(blocks)]

    def answers() -> tuple[list[str], int]:
        made = [Search(problem, capacity, Ordering(-problem.size, follow=True)) for problem, capacity in searches]
        outcomes = [one.run(20_000) for one in made]
        return outcomes, sum(one.nodes for one in made)

    jumping, few = answers()
    jump = search._go_back
    monkeypatch.setattr(search, "_go_back", lambda decisions, _: jump(decisions, (1 << len(decisions)) - 1))
    stepping, more = answers()
    assert jumping == stepping
    assert set(jumping) == {"placed", "impossible"}
    assert few < more


def test_a_bound_above_the_load_is_proved() -> None:
    blocks = [Block(*row) for row in UNPLACEABLE]
    placement = place(blocks)
    assert busiest_moment(blocks) == (0, 6)
    assert (placement.peak, placement.lower_bound) == (7, 7)
    assert str(placement) == "7 bytes, optimal"


def test_a_gap_is_told() -> None:
    """Without nodes there is no proof."""
    placement = place([Block(*row) for row in UNPLACEABLE], nodes=0)
    assert not placement.optimal
    assert placement.lower_bound == 6
    assert "above the optimum" in str(placement)


def test_a_capacity_that_is_too_small_is_refuted() -> None:
    assert place([Block(*row) for row in UNPLACEABLE], capacity=6).lower_bound == 7


def test_equal_problems_get_equal_offsets() -> None:
    blocks = full_blocks(random.Random(5), 12, 12)
    assert place(blocks) == place(list(blocks))


def test_heights_of_stacks() -> None:
    """Blocks of 4 and 6 bytes stack up to 4, 6 and 10."""
    heights = Heights([Block(0, 1, 4), Block(0, 1, 6)], 1, 100)
    assert [heights.at_least(h) for h in (1, 5, 7, 10)] == [4, 6, 8, 10]


def test_blocks_without_bytes_and_no_blocks() -> None:
    assert place([Block(0, 2, 0), Block(1, 3, 5)]).offsets == (0, 0)
    assert place([]).peak == 0


def least_peak_of_pairs(blocks: Sequence[Block], align: int, pairs: Pairs) -> int:
    """By trying all offsets."""
    best = [sum(b.size + align for b in blocks)]

    def extend(offsets: list[int], peak: int) -> None:
        if len(offsets) == len(blocks):
            best[0] = min(best[0], peak)
            return
        block, here = blocks[len(offsets)], len(offsets)
        for offset in range(0, best[0] - block.size, align):
            if max(peak, offset + block.size) < best[0] and all(
                    not block.meets(blocks[i]) or offset - other >= pairs.get((here, i), blocks[i].size)
                    or other - offset >= pairs.get((i, here), block.size) for i, other in enumerate(offsets)):
                extend([*offsets, offset], max(peak, offset + block.size))

    extend([], 0)
    return best[0]


def random_pairs(rng: random.Random, blocks: Sequence[Block]) -> dict[tuple[int, int], int]:
    """Older blocks that younger ones slide under."""
    pairs: dict[tuple[int, int], int] = {}
    for upper in range(len(blocks)):
        for lower in range(upper + 1, len(blocks)):
            if rng.random() < 0.4:
                chained = any(lower == u for u, _ in pairs) or any(upper == w for _, w in pairs)
                pairs[upper, lower] = rng.randint(1 if chained else 0, blocks[lower].size)
    return pairs


@pytest.mark.parametrize("align", [1, 2, 4])
def test_pairs_slide_over_each_other(align: int) -> None:
    """The least peak that trying all offsets finds, and known to be that."""
    rng = random.Random(100 + align)
    for _ in range(150):
        blocks = [Block(b.lower, b.upper, min(b.size, 7)) for b in random_blocks(rng, rng.randint(2, 5))]
        pairs = random_pairs(rng, blocks)
        placement = place(blocks, align, pairs=pairs)
        verify(blocks, placement.offsets, align, pairs)
        least = least_peak_of_pairs(blocks, align, pairs)
        assert placement.lower_bound <= least == placement.peak
        assert placement.optimal


def test_capacities_with_pairs_are_decided_right() -> None:
    """The search alone, and what bounds it: no height below the least peak is refuted wrongly."""
    rng = random.Random(12)
    for _ in range(60):
        blocks = [Block(0, 4, rng.randint(1, 6)) for _ in range(rng.randint(2, 5))]
        pairs = random_pairs(rng, blocks)
        least, problem = least_peak_of_pairs(blocks, 1, pairs), Problem.of(blocks, 1, pairs)
        assert Heights(blocks, 1, 100, pairs).at_least(least) == least
        for capacity in range(max(b.size for b in blocks), least + 2):
            for follow in (False, True):
                outcome = Search(problem, capacity, Ordering(problem.size, follow)).run(10_000)
                assert outcome == ("placed" if capacity >= least else "impossible")
            relations = RelationSearch(problem, capacity)
            assert relations.run(10_000) == ("placed" if capacity >= least else "impossible")
            if capacity >= least:
                verify(blocks, relations.offsets, 1, pairs)


def test_sliding_over_one_another() -> None:
    """A chain of stored tensors: each begins 10 bytes below the one that it is made of."""
    chain = [Block(i, i + 2, 100) for i in range(8)]
    placement = place(chain, pairs={(i, i + 1): 10 for i in range(7)})
    assert (placement.offsets, placement.lower_bound) == ((70, 60, 50, 40, 30, 20, 10, 0), 170)


@pytest.mark.parametrize(("pairs", "message"), [
    ({(0, 1): 5}, "blocks 0 and 1 have the distance 5"), ({(0, 1): -1}, "distance -1"), ({(0, 0): 1}, "blocks 0 and 0"),
    ({(0, 1): 0, (1, 2): 0}, "block 1 has the distance 0 to one block above it and to one below it")])
def test_pairs_that_make_no_sense(pairs: dict[tuple[int, int], int], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        place([Block(0, 2, 4)] * 3, pairs=pairs)


def test_verify_knows_distances() -> None:
    blocks = [Block(0, 2, 4), Block(1, 3, 4)]
    verify(blocks, [2, 0], 1, {(0, 1): 2})
    with pytest.raises(CompileError, match="blocks 0 and 1 are needed at the same time and share bytes"):
        verify(blocks, [1, 0], 1, {(0, 1): 2})


@pytest.mark.parametrize("block", [Block(0, 1, -1), Block(3, 3, 1)])
def test_blocks_that_make_no_sense(block: Block) -> None:
    with pytest.raises(CompileError, match="sizes are not negative, and lower < upper"):
        place([block])


def test_verify_names_what_is_wrong() -> None:
    blocks = [Block(0, 2, 4), Block(1, 3, 4), Block(2, 3, 4)]
    verify(blocks, [0, 4, 0], 4)
    with pytest.raises(CompileError, match="blocks 0 and 1 are needed at the same time and share bytes"):
        verify(blocks, [0, 0, 4])
    with pytest.raises(CompileError, match="block 1 lies at 6, which is not a multiple of 4"):
        verify(blocks, [0, 6, 0], 4)
    with pytest.raises(CompileError, match="3 blocks have 2 offsets"):
        verify(blocks, [0, 4])


CAPACITY = 1_048_576


@pytest.mark.parametrize("name", "ABCDEFGHIJK")
def test_minimalloc_instances(name: str, shared: Path) -> None:
    """The eleven published instances that are called challenging, in few nodes (I needs most, about 25,000)."""
    with open(shared / "minimalloc" / f"{name}.{CAPACITY}.csv", newline="") as file:
        blocks = [Block(int(row["lower"]), int(row["upper"]), int(row["size"])) for row in csv.DictReader(file)]
    placement = place(blocks, capacity=CAPACITY, nodes=100_000)
    verify(blocks, placement.offsets)
    assert placement.lower_bound <= placement.peak <= CAPACITY
