"""Chains that are computed for some channels at a time give what they give at once: random ones, on both backends.

Expansions, depthwise layers with strides and asymmetric padding, activations, means, projections, dense pairs; floats
and stored integers; whole images and row by row.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tinyc.passes._split_ways import split
from tinyc.passes._stored import Memory
from tinyc.passes._ways import Scene
from tinyc.passes.liveness import Liveness

from tinyir.clone import clone_module
from tinyir.diag import CompileError
from tinyir.interp import run
from tinyir.ir import Array, Module, Value
from tinyir.ops import Conv2D, Dense, Loop, QConv2D, QDense, QReduceMean, ReduceMean, Reshape, Return
from tinyir.parser import parse
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.printer import print_module
from tinyir.registry import load_plugins
from tinyir.target import target_named
from tinyir.verify import verify

from ..backends.harness import COMPILERS, run_c
from .test_stream import Network, assert_same


class Chain(Network):
    """A layer, and a chain behind it that makes its channels, goes on with each, and at the end puts them together."""

    def pick(self) -> Value:
        return self.images[-1]

    def pointwise_to(self, outputs: int) -> None:
        x = self.pick()
        weight, bias = self.weight(outputs, 1, 1, x.shape[3]), self.bias(outputs)
        op = QConv2D(x, weight, bias, result=self.type((*x.shape[:3], outputs))) if self.quantised \
            else Conv2D(x, weight, bias, act=("none", "relu")[int(self.rng.integers(2))])
        self.images.append(self.build.add(op).out)

    def mean(self) -> None:
        x = self.pick()
        shape = (1, 1, 1, x.shape[3])
        self.images.append(self.build.add(QReduceMean(x, self.type(shape), (1, 2)) if self.quantised
                                          else ReduceMean(x, (1, 2))).out)

    def grow_chain(self) -> str:
        """Grow the network; returns the options of the pass that split its chain."""
        self.pointwise_to(int(self.rng.integers(1, 5)))
        parts, size = int(self.rng.integers(1, 5)), int(self.rng.integers(1, 6))
        self.pointwise_to(parts * size)
        for _ in range(int(self.rng.integers(1, 3))):
            self.depthwise()
        if self.rng.random() < 0.4:
            self.activate()
        stored, end = self.rng.random() < 0.6, int(self.rng.integers(3))
        kept = [self.images[-1]] if stored or end == 2 else []
        if end == 0:
            self.mean()
        elif end == 1:
            self.pointwise_to(int(self.rng.integers(1, 7)))
        self.finish([*kept, *([self.images[-1]] if end < 2 else [])])
        rows = int(self.rng.integers(0, 3))
        return f"{{first=v1,last=v{len(self.block.ops) - 2},parts={parts},rows={rows}}}"

    def grow_pair(self) -> str:
        """Two dense layers behind each other."""
        x = self.images[0]
        batch, parts = x.shape[1], int(self.rng.integers(1, 5))
        inputs = x.shape[2] * x.shape[3]
        value: Value = self.build.add(Reshape(x, self.type((batch, inputs)))).out
        for outputs in (parts * int(self.rng.integers(1, 6)), int(self.rng.integers(1, 7))):
            weight, bias = self.weight(outputs, value.shape[1]), self.bias(outputs)
            value = self.build.add(QDense(value, weight, bias, result=self.type((batch, outputs))) if self.quantised
                                   else Dense(value, weight, bias, "relu")).out
        self.finish([value])
        return f"{{first=v1,last=v2,parts={parts}}}"

    def finish(self, results: Sequence[Value]) -> None:
        self.build.add(Return(tuple(results)))
        for index, op in enumerate(self.block.ops[:-1]):
            op.out.name = f"v{index}"


def made(seed: int, quantised: bool, target: str = "generic") -> tuple[Module, Module, Array]:
    """A network at mem level, at once and part by part, and an input."""
    network = Chain(seed, quantised)
    options = network.grow_pair() if seed % 5 == 4 else network.grow_chain()
    plain, x = network.module, network.input()
    split, _ = clone_module(plain)
    PassManager(parse_pipeline(f"split{options}")).run(split)
    verify(split)
    assert_same(run(split, [x]), run(plain, [x]), exact=True)
    text = print_module(split, facts="none", elide_consts=False)
    assert print_module(parse(text), facts="none", elide_consts=False) == text
    for module in (plain, split):
        PassManager(parse_pipeline("lower-to-mem,plan-arena")).run(module, Context(target_named(target)))
        verify(module)
    loops = [op for op in split.walk() if isinstance(op, Loop) and op.over == "parts"]
    assert len(loops) == (0 if "parts=1," in f"{options.strip('}')}," else 1)
    return plain, split, x


@pytest.mark.parametrize("target", ["generic", "cortex-m4", "cortex-m55"])
@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_interpreter(seed: int, quantised: bool, target: str) -> None:
    """At mem level the loops run as they are, parts in the arena."""
    plain, split, x = made(seed, quantised, target)
    assert_same(run(split, [x]), run(plain, [x]), exact=quantised)


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
@pytest.mark.parametrize("target", ["generic", "cortex-m4", "cortex-m55"])
@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(100, 108))
def test_c(seed: int, quantised: bool, target: str) -> None:
    plain, split, x = made(seed, quantised, target)
    flags = ("-O1", "-ffp-contract=off")
    assert_same(run_c(split, [x], flags=flags), run_c(plain, [x], flags=flags), exact=quantised)


def most_live(module: Module) -> int:
    """The most bytes of slots that are live at one time, each up to a multiple of 16."""
    lives = Liveness.compute(module, Context())
    return max((sum(-(-i.size // 16) * 16 for i in lives if i.first <= at <= i.last)
                for at in {i.first for i in lives}), default=0)


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(200, 225))
def test_predicted_bytes(seed: int, quantised: bool) -> None:
    """What a way is said to need is what is live when it runs."""
    network = Chain(seed, quantised)
    (network.grow_pair if seed % 5 == 4 else network.grow_chain)()
    module = network.module
    load_plugins()
    scene = Scene(module.main, module, Context().target, Memory(module.main, 16))
    alone = scene.memory.single(0)
    ways = list(split(scene, 1, len(scene.ops)) or ())
    variants = [variant for way in ways if way.variants is not None for variant in way.variants()]
    assert ways or module.main.ops[1].out.shape[-1] == 1
    for way in [*ways, *variants]:
        copy, _ = clone_module(module)
        assert way.apply is not None
        way.apply(Memory(copy.main, 16).ops[way.first:way.end], copy.main, copy)
        PassManager(parse_pipeline("lower-to-mem")).run(copy)
        assert most_live(copy) == max(way.peak, alone), way.text


@pytest.mark.parametrize(("options", "message"), [
    ("first=e,last=d", "either parts or size"),
    ("first=e,last=d,parts=2,size=4", "either parts or size"),
    ("first=e,last=d,size=5", "8 channels, which are no parts of 5"),
    ("first=e,last=d,parts=3", "8 channels are not 3 equal parts"),
    ("first=a,last=d,parts=2", "there is no value %a"),
    ("first=d,last=e,parts=2", "%e is computed before %d"),
    ("first=d,last=d,parts=2", "cannot be computed for a part of the channels"),
    ("first=e,last=s,parts=2", "cannot be computed for a part of the channels"),
    ("first=e,last=d,parts=2,rows=-1", "rows should be at least 0"),
])
def test_bad_options(options: str, message: str) -> None:
    module = parse(BLOCK)
    with pytest.raises(CompileError, match=message):
        PassManager(parse_pipeline(f"split{{{options}}}")).run(module)


BLOCK = """
module @block {
  const @w1 : tensor<8x1x1x2xf32> = random<1>
  const @w2 : tensor<3x3x8xf32> = random<2>
  func @main(%x: tensor<1x6x4x2xf32>) -> tensor<1x6x4x8xf32> {
    %e = nn.conv2d(%x, @w1, none) : tensor<1x6x4x8xf32>
    %d = nn.depthwise_conv2d(%e, @w2, none) {pad = [1, 1, 1, 1]} : tensor<1x6x4x8xf32>
    %s = nn.softmax(%d) : tensor<1x6x4x8xf32>
    nn.return(%s)
  }
}
"""
