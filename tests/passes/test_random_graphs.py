"""Random small networks, written as a frontend writes them (NCHW, transposes around spatial ops), through every level.

What holds for each: the module verifies after every pass, and gives the results that it gave before.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tinyir.instrument import VerifyEach
from tinyir.interp import run
from tinyir.ir import Argument, Array, Block, Const, Func, Module, Value
from tinyir.ops import (
    Add,
    AvgPool,
    BatchNorm,
    Clip,
    Concat,
    Conv2D,
    ConvTranspose2D,
    Dense,
    DepthwiseConv2D,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Maximum,
    MaxPool,
    Mul,
    Pad,
    ReduceMean,
    Relu,
    Reshape,
    Return,
    Sigmoid,
    Slice,
    Softmax,
    Sub,
    Transpose,
)
from tinyir.pass_manager import PassManager, parse_pipeline
from tinyir.rewrite import Builder
from tinyir.types import F32, TensorType

TO_NHWC, TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
SEEDS = range(40)


class Network:
    """Grows a random network; `images` are the NCHW values made so far."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.Generator(np.random.PCG64(seed))
        batch, channels, height, width = (int(self.rng.integers(low, high)) for low, high in
                                          ((1, 3), (1, 5), (4, 7), (4, 7)))
        argument = Argument(TensorType((batch, channels, height, width), F32), "x")
        self.module = Module("random")
        self.block = Block([argument])
        self.module.funcs["main"] = Func("main", self.block)
        self.build = Builder(self.module, self.block)
        self.images: list[Value] = [argument]

    def const(self, *shape: int, low: float = -1.0) -> Const:
        return self.build.const("c", self.rng.uniform(low, 1, shape).astype(np.float32))

    def pick(self) -> Value:
        """A value to go on from, mostly the last."""
        return self.images[-1] if self.rng.random() < 0.7 else self.images[int(self.rng.integers(len(self.images)))]

    def spatial(self, x: Value, make: Callable[[Value], Value]) -> Value:
        """make(x) in NHWC, as a frontend writes it."""
        inside = self.build.add(Transpose(x, perm=TO_NHWC)).out
        return self.build.add(Transpose(make(inside), perm=TO_NCHW)).out

    def grow(self, steps: int) -> Module:
        kinds = [self.convolve, self.depthwise, self.upsample, self.normalise, self.activate, self.scale, self.join,
                 self.pool, self.pad, self.cut, self.excite, self.softmax, self.swish, self.flat_round_trip]
        for _ in range(steps):
            kinds[int(self.rng.integers(len(kinds)))]()
        results = [self.images[-1]]
        if self.rng.random() < 0.5:
            results.append(self.classify(self.pick()))
        if self.rng.random() < 0.3:
            results.append(self.pick())
        self.build.add(Return(tuple(results)))
        return self.module

    # -- one step each -----------------------------------------------------------------------------------------------

    def convolve(self) -> None:
        x = self.pick()
        outputs, pad = int(self.rng.integers(1, 5)), int(self.rng.integers(0, 2))
        weight = self.const(outputs, 3, 3, x.shape[1])
        bias = self.const(outputs) if self.rng.random() < 0.5 else None
        self.images.append(self.spatial(x, lambda v: self.build.add(
            Conv2D(v, weight, bias, pad=(1, 1, 1 + pad, 1), stride=(1, 1 + pad))).out))

    def depthwise(self) -> None:
        x = self.pick()
        weight = self.const(2, 2, x.shape[1] * int(self.rng.integers(1, 3)))
        self.images.append(self.spatial(x, lambda v: self.build.add(
            DepthwiseConv2D(v, weight, None, pad=(1, 0, 0, 1))).out))

    def upsample(self) -> None:
        x = self.pick()
        if x.type.elements < 400:
            weight = self.const(2, 2, 2, x.shape[1])
            self.images.append(self.spatial(x, lambda v: self.build.add(
                ConvTranspose2D(v, weight, None, stride=(2, 2), pad=(1, 0, 0, 1))).out))

    def normalise(self) -> None:
        x = self.pick()
        c = x.shape[1]
        scale, shift, mean, variance = self.const(c), self.const(c), self.const(c), self.const(c, low=0.1)
        self.images.append(self.spatial(x, lambda v: self.build.add(BatchNorm(v, scale, shift, mean, variance)).out))

    def activate(self) -> None:
        x = self.pick()
        makers = (Relu, Sigmoid, HardSwish, HardSigmoid, LeakyRelu, lambda v: Clip(v, low=-0.5, high=1.5))
        self.images.append(self.build.add(makers[int(self.rng.integers(len(makers)))](x)).out)

    def scale(self) -> None:
        x = self.pick()
        shapes = ((1, x.shape[1], 1, 1), (x.shape[1], 1, 1), (), (x.shape[3],), x.shape)
        constant = self.const(*shapes[int(self.rng.integers(len(shapes)))])
        kind = (Add, Mul, Sub)[int(self.rng.integers(3))]
        operands = (x, constant) if self.rng.random() < 0.8 else (constant, x)
        self.images.append(self.build.add(kind(*operands)).out)

    def join(self) -> None:
        x = self.pick()
        same = [v for v in self.images if v.shape == x.shape]
        other = same[int(self.rng.integers(len(same)))]
        makers = (lambda: Add(x, other), lambda: Maximum(x, other), lambda: Concat((x, other), axis=1))
        self.images.append(self.build.add(makers[int(self.rng.integers(3))]()).out)

    def pool(self) -> None:
        x = self.pick()
        kind = MaxPool if self.rng.random() < 0.5 else AvgPool
        if min(x.shape[2:]) >= 2:
            kernel = (x.shape[2], x.shape[3]) if self.rng.random() < 0.2 else (2, 2)
            self.images.append(self.spatial(x, lambda v: self.build.add(kind(v, kernel=kernel)).out))

    def pad(self) -> None:
        x = self.pick()
        amounts = [0, 0, *map(int, self.rng.integers(0, 2, 2))]
        value = 0.0 if self.rng.random() < 0.7 else 0.5
        self.images.append(self.build.add(Pad(x, before=tuple(amounts), after=(0, 0, 1, 0), value=value)).out)

    def cut(self) -> None:
        x = self.pick()
        n, c, h, w = x.shape
        half = TensorType((n, -(-c // 2), h, max(w - 1, 1)), F32)
        self.images.append(self.build.add(Slice(x, begin=(0, c // 2, h - 1, 0), step=(1, 1, -1, 1), result=half)).out)

    def excite(self) -> None:
        x = self.pick()
        n, c = x.shape[:2]
        mean = self.build.add(ReduceMean(x, axes=(2, 3), keepdims=False)).out
        dense = self.build.add(Dense(mean, self.const(c, c), self.const(c))).out
        gate = self.build.add(Sigmoid(dense)).out
        wide = self.build.add(Reshape(gate, result=TensorType((n, c, 1, 1), F32))).out
        self.images.append(self.build.add(Mul(x, wide)).out)

    def softmax(self) -> None:
        self.images.append(self.build.add(Softmax(self.pick(), axis=int(self.rng.integers(1, 4)))).out)

    def swish(self) -> None:
        x = self.pick()
        shifted = self.build.add(Add(x, self.build.const("three", np.float32(3)))).out
        clipped = self.build.add(Clip(shifted, low=0.0, high=6.0)).out
        product = self.build.add(Mul(x, clipped)).out
        self.images.append(self.build.add(Mul(product, self.build.const("sixth", np.float32(1 / 6)))).out)

    def flat_round_trip(self) -> None:
        x = self.pick()
        n, c, h, w = x.shape
        flat = self.build.add(Reshape(x, result=TensorType((n, c, h * w), F32))).out
        turned = self.build.add(Transpose(flat, perm=(0, 2, 1))).out
        act = self.build.add(Relu(turned)).out
        back = self.build.add(Transpose(act, perm=(0, 2, 1))).out
        self.images.append(self.build.add(Reshape(back, result=TensorType((n, c, h, w), F32))).out)

    def classify(self, x: Value) -> Value:
        n, inputs = x.shape[0], x.type.elements // x.shape[0]
        flat = self.build.add(Reshape(x, result=TensorType((n, inputs), F32))).out
        return self.build.add(Dense(flat, self.const(3, inputs))).out


def _inputs(module: Module, seed: int) -> list[Array]:
    rng = np.random.Generator(np.random.PCG64(seed))
    return [rng.uniform(-2, 2, a.shape).astype(np.float32) for a in module.main.inputs]


@pytest.mark.parametrize("level", ["O0", "O2"])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_graph(seed: int, level: str) -> None:
    """The numbers before and after a whole pipeline."""
    module = Network(seed).grow(12)
    inputs = _inputs(module, seed)
    wanted = run(module, inputs)
    PassManager(parse_pipeline(level), [VerifyEach()]).run(module)
    for found, value in zip(run(module, inputs), wanted, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-5 * float(np.abs(value).max()))


def test_seeds_differ_in_what_they_contain() -> None:
    """The networks reach the ops that the passes know."""
    seen = {op.opname for seed in SEEDS for op in Network(seed).grow(12).walk()}
    assert {"nn.conv2d", "nn.batch_norm", "nn.concat", "nn.softmax", "nn.dense", "nn.pad", "nn.max_pool"} <= seen
