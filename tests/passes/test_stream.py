"""Networks that run row by row compute what they compute layer by layer: random ones, cut at random, on both backends.

Branches, strides, dilations, odd sizes, asymmetric padding, residuals, concats, pools, resizing, transposed
convolutions, squeeze-and-excitation, global means, results in the middle; floats and stored integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tinyir.clone import clone_module
from tinyir.interp import run
from tinyir.ir import Argument, Array, Block, Const, Func, Module, Value
from tinyir.ops import (
    Add,
    Concat,
    Conv2D,
    ConvTranspose2D,
    DepthwiseConv2D,
    HardSwish,
    Lookup,
    MaxPool,
    Mul,
    QAdd,
    QConcat,
    QConv2D,
    QDepthwiseConv2D,
    QMul,
    QReduceMean,
    QResize,
    ReduceMean,
    Resize,
    Return,
    Sigmoid,
    Stream,
    Transpose,
)
from tinyir.parser import parse
from tinyir.pass_manager import PassManager, parse_pipeline
from tinyir.printer import print_module
from tinyir.rewrite import Builder
from tinyir.types import F32, I8, I32, Quant, TensorType
from tinyir.verify import verify

from ..backends.harness import COMPILERS, run_c

QUANT = Quant((0.05,), (3,))


class Network:
    """Grows a random network of NHWC images; `images` are the values made so far."""

    def __init__(self, seed: int, quantised: bool) -> None:
        self.rng = np.random.Generator(np.random.PCG64(seed))
        self.quantised = quantised
        shape = (1, *(int(self.rng.integers(low, high)) for low, high in ((7, 20), (4, 8), (1, 5))))
        argument = Argument(self.type(shape), "x")
        self.module = Module("net", "quant" if quantised else "graph")
        self.block = Block([argument])
        self.module.funcs["main"] = Func("main", self.block)
        self.build = Builder(self.module, self.block)
        self.images: list[Value] = [argument]

    def type(self, shape: Sequence[int]) -> TensorType:
        return TensorType(tuple(shape), I8, QUANT) if self.quantised else TensorType(tuple(shape), F32)

    def weight(self, *shape: int) -> Const:
        if not self.quantised:
            return self.build.const("w", self.rng.uniform(-1, 1, shape).astype(np.float32))
        data = self.rng.integers(-127, 128, shape).astype(np.int8)
        return self.build.const("w", data, TensorType(shape, I8, Quant((0.004,))))

    def bias(self, count: int) -> Const:
        if not self.quantised:
            return self.build.const("b", self.rng.uniform(-1, 1, count).astype(np.float32))
        return self.build.const("b", self.rng.integers(-500, 500, count).astype(np.int32), TensorType((count,), I32))

    def pick(self) -> Value:
        return self.images[-1] if self.rng.random() < 0.75 else self.images[int(self.rng.integers(len(self.images)))]

    def window(self, x: Value, dilated: bool = True) -> dict[str, Any]:
        """Random stride, padding and dilation of a 3x3 window that fits."""
        stride = (int(self.rng.integers(1, 3)), int(self.rng.integers(1, 3)))
        dilation = (int(self.rng.integers(1, 3)) if dilated else 1, 1)
        pad = tuple(int(p) for p in self.rng.integers(0, 3, 4))
        small = min(x.shape[1] - 2 * dilation[0], x.shape[2] - 2) < 1
        return {"stride": (1, 1) if small else stride, "dilation": dilation,
                "pad": (2 * dilation[0], 2, 0, 1) if small else pad}

    def result(self, x: Value, rows_columns: tuple[int, int], channels: int) -> TensorType:
        return self.type((1, *rows_columns, channels))

    def add(self, make: Callable[[], Value]) -> None:
        self.images.append(make())

    # -- one step each -------------------------------------------------------------------------------------------------

    def convolve(self) -> None:
        x, outputs = self.pick(), int(self.rng.integers(1, 7))
        weight, bias, attrs = self.weight(outputs, 3, 3, x.shape[3]), self.bias(outputs), self.window(x)
        plain = Conv2D(Value(TensorType(x.shape, F32)), Value(TensorType(weight.shape, F32)), None, **attrs)
        op = QConv2D(x, weight, bias, result=self.type(plain.out.shape), **attrs) if self.quantised \
            else Conv2D(x, weight, bias, **attrs)
        self.images.append(self.build.add(op).out)

    def pointwise(self) -> None:
        x, outputs = self.pick(), int(self.rng.integers(1, 9))
        weight, bias = self.weight(outputs, 1, 1, x.shape[3]), self.bias(outputs)
        op = QConv2D(x, weight, bias, result=self.type((*x.shape[:3], outputs))) if self.quantised \
            else Conv2D(x, weight, bias)
        self.images.append(self.build.add(op).out)

    def depthwise(self) -> None:
        x = self.pick()
        weight, bias, attrs = self.weight(3, 3, x.shape[3]), self.bias(x.shape[3]), self.window(x)
        plain = DepthwiseConv2D(Value(TensorType(x.shape, F32)), Value(TensorType(weight.shape, F32)), None, **attrs)
        op = QDepthwiseConv2D(x, weight, bias, result=self.type(plain.out.shape), **attrs) if self.quantised \
            else DepthwiseConv2D(x, weight, bias, **attrs)
        self.images.append(self.build.add(op).out)

    def pool(self) -> None:
        x = self.pick()
        if min(x.shape[1:3]) >= 3:
            stride = int(self.rng.integers(1, 3))
            self.images.append(self.build.add(MaxPool(x, (3, 2), (stride, 1), (1, 0, 1, 0))).out)

    def activate(self) -> None:
        x = self.pick()
        self.images.append(self.table(x) if self.quantised else self.build.add(HardSwish(x)).out)

    def join(self) -> None:
        x = self.pick()
        same = [v for v in self.images if v.shape[1:3] == x.shape[1:3]]
        other = same[int(self.rng.integers(len(same)))]
        if other.shape != x.shape or self.rng.random() < 0.4:
            joined = self.build.add(Concat((x, other), axis=3)).out if not self.quantised or self.rng.random() < 0.5 \
                else self.joined_anew(x, other)
            self.images.append(joined)
        elif self.quantised:
            self.images.append(self.build.add(QAdd(x, other, result=self.type(x.shape))).out)
        else:
            self.images.append(self.build.add(Add(x, other)).out)

    def joined_anew(self, x: Value, other: Value) -> Value:
        """Side by side under another scale, and back under the common one."""
        shape = (*x.shape[:3], x.shape[3] + other.shape[3])
        wide = self.build.add(QConcat((x, other), result=TensorType(shape, I8, Quant((0.0625,), (-2,))))).out
        return self.table(wide)

    def table(self, x: Value) -> Value:
        table = self.build.const("t", self.rng.integers(-128, 128, 256).astype(np.int8), TensorType((256,), I8, QUANT))
        return self.build.add(Lookup(x, table, result=self.type(x.shape))).out

    def enlarge(self) -> None:
        x = self.pick()
        if x.type.elements > 1500:
            return
        rows = 2 * x.shape[1] - int(self.rng.integers(2))
        result = self.type((1, rows, 2 * x.shape[2], x.shape[3]))
        if self.quantised or self.rng.random() < 0.5:
            self.resize(x, (rows / x.shape[1], 2.0), result)
        else:
            weight = self.weight(2, 3, 3, x.shape[3])
            self.images.append(self.build.add(ConvTranspose2D(x, weight, None, stride=(2, 2), pad=(1, 0, 0, 1))).out)

    def resize(self, x: Value, scales: tuple[float, float], result: TensorType) -> None:
        mode = "nearest" if self.rng.random() < 0.5 else "linear"
        op = QResize(x, "half_pixel", scales, result) if self.quantised and mode == "linear" \
            else Resize(x, mode, "half_pixel", scales, result)
        self.images.append(self.build.add(op).results[0])

    def excite(self) -> None:
        """Squeeze-and-excitation: the mean scales the image that it is the mean of."""
        x = self.pick()
        shape = (1, 1, 1, x.shape[3])
        if self.quantised:
            mean = self.build.add(QReduceMean(x, self.type(shape), (1, 2))).out
            self.images.append(self.build.add(QMul(x, mean, result=self.type(x.shape))).out)
        else:
            mean = self.build.add(Sigmoid(self.build.add(ReduceMean(x, (1, 2))).out)).out
            self.images.append(self.build.add(Mul(x, mean)).out)

    def grow(self, steps: int) -> Module:
        kinds = [self.convolve, self.pointwise, self.depthwise, self.pool, self.activate, self.join, self.enlarge,
                 self.excite, self.convolve, self.depthwise, self.join]
        for _ in range(steps):
            kinds[int(self.rng.integers(len(kinds)))]()
        results = list(dict.fromkeys([self.images[-1], self.pick()]))
        if self.rng.random() < 0.5:
            x = self.pick()
            results.append(self.build.add(QReduceMean(x, self.type((1, 1, 1, x.shape[3])), (1, 2)) if self.quantised
                                          else ReduceMean(x, (1, 2))).out)
        if self.rng.random() < 0.5:
            x = self.pick()
            results.append(self.build.add(Transpose(x, (0, 3, 1, 2))).out)
        self.build.add(Return(tuple(results)))
        for index, op in enumerate(self.block.ops[:-1]):
            op.out.name = f"v{index}"
        return self.module

    def input(self) -> Array:
        shape = self.images[0].shape
        if self.quantised:
            return self.rng.integers(-128, 128, shape).astype(np.int8)
        return self.rng.uniform(-1, 1, shape).astype(np.float32)

    def cuts(self) -> str:
        """Options of the pass: cut at random places, or where the pass finds it best."""
        names = [op.out.name for op in self.block.ops[:-1] if op.results]
        chosen = [name for name in names if self.rng.random() < 0.15]
        rows = f"rows={int(self.rng.integers(1, 4))}"
        return f"{{cuts={'/'.join(chosen or names[-1:])},{rows}}}" if self.rng.random() < 0.8 else f"{{{rows}}}"


def made(seed: int, quantised: bool) -> tuple[Module, Module, Array]:
    """A network at mem level, layer by layer and row by row, and an input."""
    network = Network(seed, quantised)
    plain = network.grow(8)
    x = network.input()
    streamed, _ = clone_module(plain)
    expected = run(plain, [x])
    PassManager(parse_pipeline(f"stream{network.cuts()}")).run(streamed)
    verify(streamed)
    text = print_module(streamed, sidecar="net.npz", facts="none")
    assert print_module(streamed, sidecar="net.npz", facts="none") == text
    for found, wanted in zip(run(streamed, [x]), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    lower = parse_pipeline("lower-to-mem,plan-arena")
    for module in (plain, streamed):
        PassManager(lower).run(module)
        verify(module)
    return plain, streamed, x


def assert_same(found: Sequence[Array], wanted: Sequence[Array], exact: bool) -> None:
    for a, b in zip(found, wanted, strict=True):
        if exact:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(b).max())))


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_interpreter(seed: int, quantised: bool) -> None:
    """At mem level the loops run as they are, rings in the arena."""
    plain, streamed, x = made(seed, quantised)
    assert_same(run(streamed, [x]), run(plain, [x]), exact=quantised)


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(100, 108))
def test_c(seed: int, quantised: bool) -> None:
    """The same bits, floats too: the arithmetic of a row does not depend on when it is done."""
    plain, streamed, x = made(seed, quantised)
    flags = ("-O1", "-ffp-contract=off")
    assert_same(run_c(streamed, [x], flags=flags), run_c(plain, [x], flags=flags), exact=True)


def test_text_is_read_back() -> None:
    streamed = Network(3, False).grow(6)
    PassManager(parse_pipeline("stream{cuts=v3}")).run(streamed)
    text = print_module(streamed, facts="none", elide_consts=False)
    assert any(isinstance(op, Stream) for op in streamed.walk())
    assert print_module(parse(text), facts="none") == text
