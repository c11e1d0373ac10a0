"""What some ops of a function store, seen on a copy of them alone, is what the whole function says of them."""

from __future__ import annotations

import numpy as np
import pytest
from tinyc.passes._stored import Memory

from tinyir.clone import clone_ops
from tinyir.ops import Return
from tinyir.pass_manager import PassManager, parse_pipeline

from .test_random_graphs import Network

_ALIGN = 4


def _dying(memory: Memory, place: int, end: int, origin: int) -> list[tuple[int, int]]:
    """Bytes, and last reader counted from `origin`, of what is stored in front of op `place` and dies before `end`."""
    live = memory.live_in(place).items()
    return sorted((size, last - origin) for value, last in live if last < end and (size := memory.size(value)))


@pytest.mark.parametrize("seed", range(100))
def test_parts_of_random_networks(seed: int) -> None:
    module = Network(seed).grow(12)
    PassManager(parse_pipeline("canonicalize,layout-nhwc,canonicalize")).run(module)
    func = module.funcs["main"]
    whole, rng = Memory(func, _ALIGN), np.random.default_rng(seed)
    for _ in range(5):
        first, end = sorted(rng.choice(len(whole.ops) + 1, 2, replace=False).tolist())
        copy, same = clone_ops(whole.ops[first:end], func, module)
        around = whole.around(first, end, same)
        part = copy.funcs[func.name]
        part.block.append(Return((*around.outputs, *around.behind)))
        memory = Memory(part, _ALIGN, around)
        assert memory.before == whole.before[first:end]
        assert [memory.single(i) for i in range(end - first)] == [whole.single(i) for i in range(first, end)]
        for place in range(first, end):
            assert _dying(memory, place - first, end - first, 0) == _dying(whole, place, end, first)
            for out in whole.ops[place].results:
                assert memory.size(same[out]) == whole.size(out)
                assert memory.needed_behind(same[out], end - first) == whole.needed_behind(out, end)
