"""Squeeze-and-excitation blocks of which some channels are computed twice give what they give at once: random ones, on
both backends, parted by hand and where the schedule wants it.
"""

from __future__ import annotations

import pytest
from tinyc.passes._excite import excite_of
from tinyc.passes._recompute_ways import recompute
from tinyc.passes._stored import Memory
from tinyc.passes._ways import Scene
from tinyc.passes.liveness import Liveness

from tinyir.clone import clone_module
from tinyir.diag import CompileError
from tinyir.interp import run
from tinyir.ir import Array, Module, Value
from tinyir.ops import (
    Add,
    Conv2D,
    Mul,
    QAdd,
    QConv2D,
    QMul,
    QProject,
    QReduceMean,
    ReduceMean,
    Return,
    Sigmoid,
    Stream,
)
from tinyir.parser import parse
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.printer import print_module
from tinyir.registry import load_plugins
from tinyir.verify import verify

from ..backends.harness import COMPILERS, run_c
from .test_split import Chain
from .test_stream import assert_same


class Block(Chain):
    """Expansion, depthwise layers, the mean of them, two layers of it, their product, and a layer that sums."""

    def grow_block(self) -> Module:
        self.pointwise_to(int(self.rng.integers(1, 5)))
        x = self.pick()
        self.pointwise_to(int(self.rng.integers(2, 13)))
        for _ in range(int(self.rng.integers(1, 3))):
            self.depthwise()
            if self.rng.random() < 0.3:
                self.activate()
        image = self.pick()
        self.scale(image)
        if self.rng.random() < 0.3:
            self.activate()
        self.pointwise_to(x.shape[3])
        same = self.pick().shape == x.shape
        if same:
            y = self.pick()
            self.images.append(self.build.add(QAdd(y, x, result=self.type(x.shape)) if self.quantised
                                              else Add(y, x)).out)
        self.build.add(Return((self.pick(),)))
        for index, op in enumerate(self.block.ops[:-1]):
            op.out.name = f"v{index}"
        return self.module

    def scale(self, image: Value) -> None:
        channels, shape = image.shape[3], (1, 1, 1, image.shape[3])
        mean = image
        for axes in ((2,), (1,)) if self.rng.random() < 0.5 else ((1, 2),):
            folded = tuple(1 if axis in axes else size for axis, size in enumerate(mean.shape))
            mean = self.build.add(QReduceMean(mean, self.type(folded), axes) if self.quantised
                                  else ReduceMean(mean, axes)).out
        weight = self.weight(channels, 1, 1, channels)
        if self.quantised:
            vector: Value = self.build.add(QConv2D(mean, weight, self.bias(channels), result=self.type(shape))).out
            self.images.append(self.build.add(QMul(image, vector, result=self.type(image.shape))).out)
            return
        vector = self.build.add(Sigmoid(self.build.add(Conv2D(mean, weight, self.bias(channels))).out)).out
        self.images.append(self.build.add(Mul(vector, image)).out)


def made(seed: int, quantised: bool) -> tuple[Block, Module, int]:
    """A network, and the channels of its block; other seeds where windows leave nothing of the image."""
    network = Block(seed, quantised)
    module = network.grow_block()
    blocks = [block for op in module.main.ops if (block := excite_of(op)) is not None]
    assert len(blocks) == 1
    return network, module, blocks[0].channels


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_by_hand(seed: int, quantised: bool) -> None:
    """The pass alone, and its result in the other passes' hands."""
    network, plain, channels = made(seed, quantised)
    kept = int(network.rng.integers(0, channels))
    name = next(op.out.name for op in plain.main.ops if isinstance(op, (Mul, QMul)))
    parted, _ = clone_module(plain)
    PassManager(parse_pipeline(f"recompute{{block={name},kept={kept}}}")).run(parted)
    verify(parted)
    assert kept == 0 or not quantised or any(isinstance(op, QProject) for op in parted.walk())
    x = network.input()
    expected = run(plain, [x])
    assert_same(run(parted, [x]), expected, exact=quantised)
    text = print_module(parted, facts="none", elide_consts=False)
    assert print_module(parse(text), facts="none", elide_consts=False) == text
    PassManager(parse_pipeline("stream,lower-to-mem,plan-arena")).run(parted)
    verify(parted)
    assert_same(run(parted, [x]), expected, exact=quantised)


def scheduled(seed: int, quantised: bool) -> tuple[Module, Module, Array]:
    """A network at mem level, layer by layer, and in a way that the provider has; and an input."""
    network, plain, _ = made(seed, quantised)
    load_plugins()
    x = network.input()
    scene = Scene(plain.main, plain, Context().target, Memory(plain.main, 16), 1.0)
    ends = range(len(scene.ops) + 1)
    ways = [way for first in range(2) for end in ends for way in recompute(scene, first, end) or ()]
    assert ways
    way = ways[int(network.rng.integers(len(ways)))]
    copy, _ = clone_module(plain)
    assert way.apply is not None
    copy.level = "sched"
    way.apply(Memory(copy.main, 16).ops[way.first:way.end], copy.main, copy)
    verify(copy)
    assert sum(op.macs() for op in copy.walk()) == sum(op.macs() for op in plain.walk()) + way.macs
    assert any(isinstance(op, Stream) for op in copy.walk())
    for module in (plain, copy):
        PassManager(parse_pipeline("lower-to-mem")).run(module)
    assert most_live(copy) >= way.peak or way.peak <= most_live(plain)
    for module in (plain, copy):
        PassManager(parse_pipeline("plan-arena")).run(module)
        verify(module)
    return plain, copy, x


def most_live(module: Module) -> int:
    """The most bytes of slots that are live at one time, each up to a multiple of 16, overlap not thought of."""
    lives = Liveness.compute(module, Context())
    return max((sum(-(-i.size // 16) * 16 for i in lives if i.first <= at <= i.last)
                for at in {i.first for i in lives}), default=0)


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(100, 110))
def test_ways(seed: int, quantised: bool) -> None:
    plain, parted, x = scheduled(seed, quantised)
    assert_same(run(parted, [x]), run(plain, [x]), exact=quantised)


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(200, 204))
def test_c(seed: int, quantised: bool) -> None:
    plain, parted, x = scheduled(seed, quantised)
    flags = ("-O1", "-ffp-contract=off")
    assert_same(run_c(parted, [x], flags=flags), run_c(plain, [x], flags=flags), exact=quantised)


@pytest.mark.parametrize(("options", "message"), [
    ("block=nothing,kept=1", "there is no value %nothing"),
    ("block=v1,kept=1", "%v1 is not scaled by a vector"),
    ("block=BLOCK,kept=-1", "kept should be 0 to"),
    ("block=BLOCK,kept=1000", "kept should be 0 to"),
])
def test_bad_options(options: str, message: str) -> None:
    _, module, _ = made(0, True)
    name = next(op.out.name for op in module.main.ops if isinstance(op, QMul))
    with pytest.raises(CompileError, match=message):
        PassManager(parse_pipeline(f"recompute{{{options.replace('BLOCK', name)}}}")).run(module)
