"""The forecast of what overlap saves, and what the program then has."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product

import pytest
from tinyc.passes.liveness import Liveness

from tinyir.ir import Value
from tinyir.opdef import Op
from tinyir.ops import Stream
from tinyir.overlap import least_distances
from tinyir.parser import parse
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.placement import Block, place
from tinyir.row_schedule import RowNeeds
from tinyir.stream_overlap import StreamOverlap, least_height

from ..passes.test_stream import Network


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(24))
def test_forecast_distances_are_those_of_the_program(seed: int, quantised: bool) -> None:
    """For every stream of a random network, cut at random places."""
    network = Network(seed, quantised)
    module = network.grow(8)
    PassManager(parse_pipeline(f"stream{network.cuts()}")).run(module)
    forecast: dict[tuple[str, str], int] = {}
    outputs = set(module.main.results)
    names = {value: result.name for op in module.main.ops if isinstance(op, Stream)
             for value, result in zip(op.yielded, op.results, strict=True)}
    for number, stream in enumerate(module.main.ops):
        if not isinstance(stream, Stream):
            continue
        overlap = StreamOverlap(stream.body, stream.schedule, RowNeeds())
        for old, new in product(_consumed(stream, module.main.ops[number + 1:]), stream.yielded):
            distance = overlap.distance(old, new)
            result = stream.results[stream.yielded.index(new)]
            if distance is not None and distance < new.type.size_bytes and not outputs & {old, result}:
                forecast[old.name, names[new]] = max(0, distance)
    PassManager(parse_pipeline("lower-to-mem")).run(module)
    lives = {i.slot: (i.first, i.last) for i in Liveness.compute(module, Context())}
    found = least_distances(module.main.block, lives)
    slots = {(upper.out.name, lower.out.name): distance for (upper, lower), distance in found.items()}
    assert {pair: slots.get(pair, -1) for pair in forecast} == pytest.approx(forecast, abs=1)


def _consumed(stream: Stream, later: Sequence[Op]) -> list[Value]:
    """What the stream reads that was computed before, and that no op behind it reads."""
    inside = set(stream.body)
    others = {inner for op in later for inner in (op, *(i for region in op.regions for i in region.walk()))}
    values = {v for op in stream.body for v in op.reads if v.op is not None and v.op not in inside and v.data is None}
    return sorted((v for v in values if not others & set(v.users)), key=lambda v: v.name)


TEXT = """
module @chain {
  const @w : tensor<4x5x5x4xf32> = random<2>
  func @main(%x: tensor<1x12x4x4xf32>) -> tensor<1x1x1x4xf32> {
    %a = nn.conv2d(%x, @w, none) {pad = [2, 2, 2, 2]} : tensor<1x12x4x4xf32>
    %b = nn.conv2d(%a, @w, none) {pad = [2, 2, 2, 2]} : tensor<1x12x4x4xf32>
    %c = nn.conv2d(%b, @w, none) {pad = [2, 2, 2, 2]} : tensor<1x12x4x4xf32>
    %y = nn.reduce_mean(%c) {axes = [1, 2]} : tensor<1x1x1x4xf32>
    nn.return(%y)
  }
}
"""


def test_the_least_height_is_that_of_the_exact_search() -> None:
    rng = random.Random(4)
    for _ in range(200):
        sizes = [rng.randint(1, 9) for _ in range(rng.randint(1, 5))]
        olds = rng.randint(0, len(sizes))
        pairs = {(i, j): rng.randint(0, sizes[j]) for i in range(olds) for j in range(olds, len(sizes))
                 if rng.random() < 0.7}
        blocks = [Block(0, 1, size) for size in sizes]
        assert least_height(sizes, pairs) == place(blocks, pairs=pairs).peak


def test_of_many_values_two_overlap() -> None:
    assert least_height([10] * 6, {(0, 4): 2, (1, 5): 4, (2, 5): 1}) == 60 - 9


def test_saved() -> None:
    """Images of 768 bytes, one of which begins two rows of 64 bytes above the other."""
    module = parse(TEXT)
    PassManager(parse_pipeline("stream{cuts=a/c,until=c}")).run(module)
    stream = next(op for op in module.main.ops if isinstance(op, Stream))
    overlap = StreamOverlap(stream.body, stream.schedule, RowNeeds())
    a, c = stream.body[0].reads[0], stream.yielded[0]
    assert overlap.distance(a, c) == 0
    assert overlap.distance(c, a) is None
    assert overlap.saved([(a, 768)], [(c, 768)]) == 768
