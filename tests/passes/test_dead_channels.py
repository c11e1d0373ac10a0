"""dead-channels on random networks whose channels saturate: no byte changes, and no value leaves its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tinyir.instrument import VerifyEach
from tinyir.interp import run
from tinyir.ir import Argument, Array, Block, Func, Module, Value
from tinyir.opdef import Op
from tinyir.ops import (
    Concat,
    Lookup,
    MaxPool,
    Pad,
    QAdd,
    QAvgPool,
    QConv2D,
    QDense,
    QDepthwiseConv2D,
    QMul,
    QReduceMean,
    QSoftmax,
    Reshape,
    Return,
    Slice,
)
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.registry import FRONTENDS
from tinyir.rewrite import Builder
from tinyir.stored_ranges import StoredRanges, stored_ranges
from tinyir.types import I8, I32, U8, DType, Quant, TensorType

SEEDS = range(60)


class Network:
    """A random network of stored integers; about half of the channels of every layer saturate or read nothing."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.Generator(np.random.PCG64(seed))
        self.dtype: DType = I8 if seed % 2 else U8
        self.module = Module("random", "quant")
        self.argument = Argument(self._type((1, 6, 5, 4)), "x")
        self.block = Block([self.argument])
        self.build = Builder(self.module, self.block)
        self.images: list[Value] = [self.argument]
        self.outputs: list[Value] = []

    def grow(self, steps: int) -> Module:
        makers: list[Callable[[], None]] = [
            self.conv, self.conv, self.conv, self.depthwise, self.depthwise, self.pair, self.lookup, self.concat,
            self.pool, self.pad, self.crop]
        for _ in range(steps):
            makers[int(self.rng.integers(len(makers)))]()
        self.classify()
        self.block.append(Return(tuple(self.outputs)))
        self.module.funcs["main"] = Func("main", self.block)
        return self.module

    # -- parts -------------------------------------------------------------------------------------------------------

    def _type(self, shape: tuple[int, ...], scale: float | None = None) -> TensorType:
        low, high = self.dtype.range
        zero = int(self.rng.choice([low, low, int(self.rng.integers(low, high + 1))]))
        return TensorType(shape, self.dtype, Quant((scale or float(self.rng.uniform(0.01, 0.1)),), (zero,)))

    def pick(self) -> Value:
        return self.images[int(self.rng.integers(max(0, len(self.images) - 3), len(self.images)))]

    def keep(self, op: Op) -> None:
        self.images.append(self.build.add(op).results[0])

    def weights(self, channels: int, axis: int, *shape: int) -> Value:
        """Stored weights, one scale for each index of `axis`; whole channels and single inputs of zeros are common."""
        data = self.rng.integers(-127, 128, shape)
        data = np.where(self.rng.random(shape) < 0.3, 0, data)
        gone = self.rng.random(channels) < 0.25
        data = np.moveaxis(data, axis, -1) * ~gone
        scales = tuple(float(s) for s in self.rng.uniform(0.001, 0.02, channels))
        stored = np.ascontiguousarray(np.moveaxis(data, -1, axis)).astype(np.int8)
        return self.module.add_const("w", stored, type_=TensorType(shape, I8, Quant(scales, (0,) * channels, axis)))

    def bias(self, channels: int) -> Value:
        """Half of the biases push their channel out of the range."""
        small = self.rng.integers(-3000, 3000, channels)
        large = self.rng.choice([-10**7, 10**7], channels)
        data = np.where(self.rng.random(channels) < 0.5, small, large).astype(np.int32)
        return self.module.add_const("b", data, type_=TensorType((channels,), I32))

    def _clamp(self) -> tuple[int, int] | None:
        low, high = self.dtype.range
        if self.rng.random() < 0.7:
            return None
        return low + int(self.rng.integers(100)), high - int(self.rng.integers(100))

    def _pads(self) -> tuple[int, int, int, int]:
        top, left, bottom, right = (int(p) for p in self.rng.integers(0, 2, 4))
        return top, left, bottom, right

    # -- ops ---------------------------------------------------------------------------------------------------------

    def conv(self) -> None:
        x, outputs = self.pick(), int(self.rng.integers(1, 7))
        size = int(self.rng.choice([1, 1, 2, 3]))
        if size > min(x.shape[1:3]):
            return
        pad = self._pads() if size > 1 else (0, 0, 0, 0)
        weight = self.weights(outputs, 0, outputs, size, size, x.shape[3])
        bias = self.bias(outputs) if self.rng.random() < 0.8 else None
        rows, columns = (x.shape[i + 1] + pad[i] + pad[i + 2] - size + 1 for i in (0, 1))
        self.keep(QConv2D(x, weight, bias, self._type((1, rows, columns, outputs)), pad=pad, clamp=self._clamp()))

    def depthwise(self) -> None:
        x = self.pick()
        if min(x.shape[1:3]) < 2:
            return
        channels = x.shape[3] * (2 if self.rng.random() < 0.2 else 1)
        pad = self._pads()
        rows, columns = (x.shape[i + 1] + pad[i] + pad[i + 2] - 1 for i in (0, 1))
        weight = self.weights(channels, 2, 2, 2, channels)
        type_ = self._type((1, rows, columns, channels))
        self.keep(QDepthwiseConv2D(x, weight, self.bias(channels), type_, pad=pad, clamp=self._clamp()))

    def pair(self) -> None:
        kind = QAdd if self.rng.random() < 0.6 else QMul
        x = self.pick()
        same = [v for v in self.images if v.shape == x.shape]
        other = same[int(self.rng.integers(len(same)))]
        if self.rng.random() < 0.3:
            shape = x.shape[3:] if self.rng.random() < 0.7 else (1, 1, 1, 1)
            data = self.rng.integers(*self.dtype.range, shape, endpoint=True).astype(self.dtype.numpy)
            other = self.module.add_const("c", data, type_=self._type(shape))
        self.keep(kind(x, other, self._type(x.shape, 0.02 if self.rng.random() < 0.5 else 1.0)))

    def lookup(self) -> None:
        x, (low, high) = self.pick(), self.dtype.range
        table = np.clip(np.arange(low, high + 1) * int(self.rng.integers(-3, 4)), low, high)
        constant = self.module.add_const("t", table.astype(self.dtype.numpy))
        self.keep(Lookup(x, constant, self._type(x.shape)))

    def concat(self) -> None:
        x = self.pick()
        same = [v for v in self.images if v.shape[:3] == x.shape[:3] and v.type.quant == x.type.quant]
        if x.shape[3] > 12:
            return
        parts = [x, *same[:1]]
        if self.rng.random() < 0.5:
            shape = (*x.shape[:3], 2)
            data = self.rng.integers(*self.dtype.range, shape, endpoint=True).astype(self.dtype.numpy)
            parts.append(self.module.add_const("p", data, type_=TensorType(shape, self.dtype, x.type.quant)))
        self.keep(Concat(tuple(parts), axis=3))

    def pool(self) -> None:
        x = self.pick()
        if min(x.shape[1:3]) < 3:
            return
        if self.rng.random() < 0.5:
            self.keep(MaxPool(x, kernel=(2, 2), pad=(0, 1, 0, 0)))
        else:
            type_ = self._type((1, x.shape[1] - 1, x.shape[2], x.shape[3]))
            self.keep(QAvgPool(x, type_, kernel=(2, 2), pad=(0, 1, 0, 0), count_include_pad=self.rng.random() < 0.5))

    def pad(self) -> None:
        x = self.pick()
        fill = float(self.rng.integers(*self.dtype.range, endpoint=True))
        if x.shape[1] < 8:
            last = int(self.rng.random() < 0.2)
            self.keep(Pad(x, before=(0, 1, 0, 0), after=(0, 0, 1, last), value=fill))

    def crop(self) -> None:
        x = self.pick()
        if x.shape[1] > 3:
            result = TensorType((1, x.shape[1] - 1, *x.shape[2:]), self.dtype, x.type.quant)
            self.keep(Slice(x, begin=(0, 1, 0, 0), step=(1, 1, 1, 1), result=result))

    def classify(self) -> None:
        """A mean and a dense layer, a flatten and a dense layer, softmax, and at times an image as it is."""
        x = self.images[-1]
        channels = x.shape[3]
        mean = self.build.add(QReduceMean(x, self._type((1, 1, 1, channels)), axes=(1, 2))).out
        flat = self.build.add(Reshape(mean, TensorType((1, channels), self.dtype, mean.type.quant))).out
        self.outputs.append(self.build.add(QDense(flat, self.weights(3, 0, 3, channels), self.bias(3),
                                                  self._type((1, 3)))).out)
        y = self.pick()
        count = y.type.elements
        whole = self.build.add(Reshape(y, TensorType((1, count), self.dtype, y.type.quant))).out
        dense = self.build.add(QDense(whole, self.weights(4, 0, 4, count), None, self._type((1, 4)))).out
        self.outputs.append(self.build.add(QSoftmax(dense, self._type((1, 4), 1 / 256))).out)
        if self.rng.random() < 0.3:
            self.outputs.append(self.pick())


def _inputs(module: Module, seed: int) -> Iterator[list[Array]]:
    """Random values, both extremes, the zero point, and checkerboards of extremes."""
    argument = module.main.inputs[0]
    low, high = argument.type.dtype.range
    quant, numpy_type = argument.type.quant, argument.type.dtype.numpy
    assert quant is not None
    rng = np.random.Generator(np.random.PCG64(seed))
    for _ in range(6):
        yield [rng.integers(low, high, argument.shape, endpoint=True).astype(numpy_type)]
    for _ in range(4):
        yield [rng.choice([low, high], argument.shape).astype(numpy_type)]
    for value in (low, high, quant.zero_point):
        yield [np.full(argument.shape, value, numpy_type)]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_byte_changes(seed: int) -> None:
    before, after = Network(seed).grow(9), Network(seed).grow(9)
    PassManager(parse_pipeline("dead-channels,canonicalize"), [VerifyEach()]).run(after)
    for inputs in _inputs(before, seed):
        for found, wanted in zip(run(after, inputs), run(before, inputs), strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("seed", SEEDS)
def test_values_stay_in_their_intervals(seed: int) -> None:
    module = Network(seed).grow(9)
    ranges = stored_ranges(module)

    def check(op: Op, arrays: list[Array]) -> None:
        interval = ranges[op.out]
        rows = arrays[0].reshape(-1, arrays[0].shape[-1])
        assert (rows >= interval.low).all()
        assert (rows <= interval.high).all()

    for inputs in _inputs(module, seed):
        run(module, inputs, check)


def test_most_networks_lose_channels() -> None:
    """Else the test above would show nothing."""
    removed = []
    for seed in SEEDS:
        ctx = Context()
        PassManager(parse_pipeline("dead-channels")).run(Network(seed).grow(9), ctx)
        removed.append(ctx.stats["dead-channels"]["channels"])
    assert sum(bool(count) for count in removed) > 0.8 * len(removed)


def test_intervals_are_cached_until_the_module_changes() -> None:
    module, ctx = Network(1).grow(5), Context()
    assert ctx.analysis(StoredRanges, module) is ctx.analysis(StoredRanges, module)


def test_person_detector(shared: Path) -> None:
    """Half of the multiplications and six of seven weights of vww_mobilenetv1_int8 are not needed."""
    modules = [FRONTENDS.get("onnx")(str(shared / "models" / "vww_mobilenetv1_int8.onnx")) for _ in range(2)]
    before, after = modules
    pipeline = ",".join(str(p) for p in parse_pipeline("O2")).partition(",lower-to-mem")[0]
    PassManager(parse_pipeline("fuse-quantized")).run(before)
    PassManager(parse_pipeline(pipeline), [VerifyEach()]).run(after)
    assert sum(op.macs() for op in before.walk()) == 7_489_664
    assert sum(op.macs() for op in after.walk()) <= 3_730_000
    assert sum(c.type.elements for c in after.consts.values() if c.type.dtype == I8) <= 30_000
    rng = np.random.Generator(np.random.PCG64(1))
    for _ in range(3):
        image = rng.integers(-128, 128, before.main.inputs[0].shape).astype(np.int8)
        for found, wanted in zip(run(after, [image]), run(before, [image]), strict=True):
            np.testing.assert_array_equal(found, wanted)
