"""The order of execution that needs the least memory: against all orders of small graphs, and on what it computes."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from tinyc.passes._stored import Memory
from tinyc.passes.order import best_order

from tinyir.clone import clone_module
from tinyir.interp import run
from tinyir.ir import Argument, Block, Func, Module, Value
from tinyir.ops import Add, Concat, Relu, Reshape, Return, Slice
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.rewrite import Builder
from tinyir.types import F32, TensorType
from tinyir.verify import verify


def network(seed: int, count: int) -> Module:
    """Vectors of random lengths that are made of each other: parts, sums, both behind each other, and returned."""
    rng = np.random.Generator(np.random.PCG64(seed))
    argument = Argument(TensorType((16,), F32), "x")
    module, block = Module("net", "graph"), Block([argument])
    module.funcs["main"] = Func("main", block)
    build = Builder(module, block)
    values: list[Value] = [build.add(Relu(argument)).out]
    while len(block.ops) < count:
        one, other = (values[int(rng.integers(max(0, len(values) - 4), len(values)))] for _ in range(2))
        kind = int(rng.integers(5))
        if kind == 0:
            length = int(rng.integers(1, one.shape[0] + 1))
            values.append(build.add(Slice(one, (0,), (1,), TensorType((length,), F32))).out)
        elif kind == 1 and one.shape[0] + other.shape[0] < 200:
            values.append(build.add(Concat((one, other), axis=0)).out)
        elif kind == 2 and one.shape == other.shape:
            values.append(build.add(Add(one, other)).out)
        elif kind == 3:
            values.append(build.add(Reshape(one, TensorType(one.shape, F32))).out)
        else:
            values.append(build.add(Relu(one)).out)
    build.add(Return((values[-1], values[int(rng.integers(len(values)))])))
    return module


def peak_of(module: Module, align: int = 4) -> int:
    memory = Memory(module.main, align)
    return max(map(memory.single, range(len(memory.ops))))


def least_of_all(module: Module) -> int:
    """By trying every order."""
    ops = list(module.main.ops[:-1])
    end = module.main.ops[-1]
    best = peak_of(module)
    for order in permutations(ops):
        place = {op: i for i, op in enumerate(order)}
        if all(place[v.op] < place[op] for op in order for v in op.reads if v.op in place):
            module.main.block.ops[:] = [*order, end]
            best = min(best, peak_of(module))
    module.main.block.ops[:] = [*ops, end]
    return best


@pytest.mark.parametrize("seed", range(40))
def test_no_order_needs_less(seed: int) -> None:
    module = network(seed, 7)
    least = least_of_all(module)
    places, exact = best_order(Memory(module.main, 4), 10_000)
    assert exact
    module.main.block.ops[:] = [*(module.main.ops[i] for i in places), module.main.ops[-1]]
    verify(module)
    assert peak_of(module) == least


@pytest.mark.parametrize("states", [1, 20, 20_000])
@pytest.mark.parametrize("seed", range(100, 110))
def test_it_computes_the_same(seed: int, states: int) -> None:
    """However far the search goes; never more than before."""
    module = network(seed, 24)
    other, _ = clone_module(module)
    PassManager(parse_pipeline(f"order{{states={states}}}")).run(other, Context())
    verify(other)
    assert peak_of(other, 16) <= peak_of(module, 16)
    x = np.arange(-8, 8, dtype=np.float32)
    for found, wanted in zip(run(other, [x]), run(module, [x]), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_branches_run_one_after_the_other() -> None:
    """Four large values that each become a small one: not all of them first."""
    argument = Argument(TensorType((8,), F32), "x")
    module, block = Module("net", "graph"), Block([argument])
    module.funcs["main"] = Func("main", block)
    build = Builder(module, block)
    start = build.add(Relu(argument)).out
    large = [build.add(Concat((start,) * 8, axis=0)).out for _ in range(4)]
    small = [build.add(Slice(value, (0,), (1,), TensorType((4,), F32))).out for value in large]
    build.add(Return((build.add(Concat(tuple(small), axis=0)).out,)))
    assert peak_of(module) == 4 * (8 + 4 * 64)
    context = PassManager(parse_pipeline("order")).run(module, Context())
    assert peak_of(module) == 4 * (8 + 64)  # the small ones lie in the result, which is not counted
    assert context.stats["order"]["bytes"] < context.stats["order"]["bytes-before"]
