"""Integer kernels with Arm's vector extension: op reference, kernel reference, the C twin on the host and the assembly
on an emulated Cortex-M55, built by each compiler that is here, agree in every byte; and they do not get slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tinyc.backends.c.kernels.base import RowKernel
from tinyc.tools.cores import core_named
from tinyc.tools.emulator import emulators_for, run_on_target
from tinyc.tools.program import program_of
from tinyc.tools.toolchain import core_compiler, routes_present

from tinyir.interp import run
from tinyir.ops import Lookup, QAdd, QMul, QReduceMean, Transpose
from tinyir.types import I8, I16, U8, DType, TensorType

from .harness import COMPILERS, emit
from .qharness import check_exact, lowered, per_tensor, quantised_module, stored
from .test_dsp import HOST, Model, convolution, dense, depthwise, rows_of
from .test_qconv import Case

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
TARGET = "cortex-m55"
PRESENT = routes_present(TARGET) if emulators_for(core_named(TARGET)) else []
ROUTES = [*PRESENT[:1], *(pytest.param(route, marks=pytest.mark.long) for route in PRESENT[1:])]

CONVOLUTIONS = {
    "pointwise": convolution(Case((5, 6, 8), (1, 1), 12)),
    "pointwise, 16 inputs": convolution(Case((3, 5, 16), (1, 1), 6)),
    "pointwise, one input": convolution(Case((3, 7, 1), (1, 1), 3)),
    "pointwise, 20 inputs": convolution(Case((3, 5, 20), (1, 1), 7)),
    "pointwise, two pixels": convolution(Case((1, 2, 33), (1, 1), 5)),
    "pointwise, one pixel": convolution(Case((1, 1, 64), (1, 1), 2)),
    "pointwise, 300 inputs": convolution(Case((2, 3, 300), (1, 1), 4), least=True),
    "pointwise with stride": convolution(Case((7, 7, 4), (1, 1), 6, stride=(2, 2))),
    "3x3": convolution(Case((8, 8, 16), (3, 3), 8, pad=(1, 1, 1, 1))),
    "3x3, three channels": convolution(Case((9, 7, 3), (3, 3), 16, pad=(1, 1, 1, 1), x_zero=-128)),
    "3x3, odd channels": convolution(Case((5, 4, 5), (3, 3), 9, pad=(1, 1, 1, 1))),
    "3x3 stride 2": convolution(Case((9, 8, 4), (3, 3), 6, stride=(2, 2), pad=(0, 0, 1, 1))),
    "10x4 of one channel": convolution(Case((20, 10, 1), (10, 4), 8, stride=(2, 2), pad=(4, 1, 5, 1), x_zero=83)),
    "5x5 on a small image": convolution(Case((3, 2, 12), (5, 5), 4, pad=(2, 2, 2, 2))),
    "wide padding": convolution(Case((2, 3, 4), (3, 7), 4, pad=(1, 6, 1, 6))),
    "rows dilated": convolution(Case((9, 6, 4), (3, 3), 6, pad=(2, 1, 2, 1), dilation=(2, 1))),
    "batch": convolution(Case((5, 5, 4), (3, 3), 4, pad=(1, 1, 1, 1), batch=3)),
    "one scale": convolution(Case((5, 5, 8), (3, 3), 8, one_scale=True, pad=(1, 1, 1, 1))),
    "no bias": convolution(Case((5, 5, 8), (3, 3), 8, bias=None)),
    "great biases": convolution(Case((4, 4, 8), (1, 1), 8, bias=2**25)),
}


def check_twin(model: Model, kernel: str) -> None:
    """The kernel is the one for the core, and its C twin is exact."""
    module, _ = lowered(quantised_module(*model), TARGET)
    assert kernel in [op.opname for op in module.walk()]
    check_exact(*model, builds=HOST[:1], target=TARGET)


def instructions_of(model: Model, route: Any, level: str = "-O2") -> int:
    """The assembly is exact; what it took."""
    arrays = [a for a, _ in model[1]]
    expected = run(quantised_module(*model), arrays)[0]
    module, _ = lowered(quantised_module(*model), TARGET)
    done = run_on_target(program_of(module, "net", emit(module)), [tuple(arrays)], TARGET,
                         compiler=core_compiler(TARGET, prefer=route), flags=("-std=c99", level))
    found = done.outputs[0][0]
    assert np.array_equal(found, expected), f"{np.sum(found != expected)} of {expected.size} differ"
    return done.instructions or 0


def on_core(models: Sequence[Model], route: Any) -> None:
    """-O3 is where gcc clones functions for constant arguments."""
    for model in models:
        instructions_of(model, route, "-O3")


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name: str) -> None:
    check_twin(CONVOLUTIONS[name], "k.conv2d_mve")


@pytest.mark.parametrize("pixels", [1, 2])
def test_few_windows(pixels: int) -> None:
    """Less scratch, the same rows."""
    model = convolution(Case((11, 7, 8), (3, 3), 6, pad=(1, 1, 1, 1)))
    expected = run(quantised_module(*model), [model[1][0][0]])[0]
    module, _ = lowered(quantised_module(*model), TARGET)
    kernel = next(op for op in module.walk() if isinstance(op, RowKernel))
    tiling = next(tiling for tiling in kernel.tilings() if tiling.attrs == {"pixels": pixels})
    assert tiling.elements == pixels * 72
    kernel.__dict__.update(tiling.attrs)
    rows_of(kernel, model[1][0][0], expected, (9, 5), 3)


@pytest.mark.parametrize("route", ROUTES)
def test_convolutions_on_core(route: Any) -> None:
    on_core(list(CONVOLUTIONS.values()), route)


LAYERS = [(1, 64, 10), (3, 33, 7), (2, 5, 1), (2, 102, 64), (1, 640, 129), (1, 16, 8)]


@pytest.mark.parametrize("layer", LAYERS)
def test_dense(layer: tuple[int, int, int]) -> None:
    check_twin(dense(*layer, I8, least=True), "k.dense_mve")


@pytest.mark.parametrize("route", ROUTES)
def test_dense_on_core(route: Any) -> None:
    on_core([dense(*layer, I8, least=True) for layer in LAYERS], route)


ROWS = {
    "pointwise": convolution(Case((11, 7, 8), (1, 1), 6)),
    "pointwise, odd channels": convolution(Case((11, 6, 7), (1, 1), 5)),
    "3x3": convolution(Case((11, 7, 8), (3, 3), 6, pad=(1, 1, 1, 1))),
    "3x3 stride 2": convolution(Case((11, 8, 3), (3, 3), 6, stride=(2, 2), pad=(0, 0, 1, 1))),
    "depthwise": depthwise(Case((11, 7, 6), (3, 3), 6, pad=(1, 1, 1, 1))),
    "depthwise stride 2": depthwise(Case((11, 15, 4), (5, 5), 4, stride=(2, 2), pad=(2, 2, 2, 2))),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows(name: str) -> None:
    model = ROWS[name]
    x = model[1][0][0]
    expected = run(quantised_module(*model), [x])[0]
    module, _ = lowered(quantised_module(*model), TARGET)
    kernel = next(op for op in module.walk() if isinstance(op, RowKernel))
    assert kernel.opname.endswith("_mve")
    height = expected.shape[1]
    for rings, step in [((7, 2), 1), ((7, 3), 2), ((9, 5), 3), ((11, 4), 2), ((7, height), 2), ((11, height), 4)]:
        rows_of(kernel, x, expected, rings, step)


DEPTHWISE = {
    "3x3": depthwise(Case((8, 8, 8), (3, 3), 8, pad=(1, 1, 1, 1))),
    "3x3, six columns": depthwise(Case((7, 6, 4), (3, 3), 4, pad=(1, 1, 1, 1), x_zero=-128)),
    "3x3, many channels": depthwise(Case((5, 7, 42), (3, 3), 42, pad=(1, 2, 1, 0))),
    "3x3, 19 channels": depthwise(Case((4, 6, 19), (3, 3), 19, pad=(1, 1, 1, 1))),
    "3x3, 17 channels": depthwise(Case((4, 6, 17), (3, 3), 17, pad=(1, 1, 1, 1))),
    "3x3, five columns": depthwise(Case((4, 5, 24), (3, 3), 24, pad=(1, 1, 1, 1))),
    "3x3 stride 2, six results": depthwise(Case((7, 13, 16), (3, 3), 16, stride=(2, 2), pad=(1, 0, 1, 0))),
    "3x3, one column": depthwise(Case((4, 1, 8), (3, 3), 8, pad=(1, 1, 1, 1))),
    "3x5, 21 columns": depthwise(Case((4, 21, 8), (3, 5), 8, pad=(1, 2, 1, 2))),
    "5x3, 22 columns": depthwise(Case((4, 22, 40), (5, 3), 40, pad=(2, 1, 2, 1))),
    "3x3, strips": depthwise(Case((4, 45, 18), (3, 3), 18, pad=(1, 1, 1, 1))),
    "3x3 stride 2": depthwise(Case((9, 16, 4), (3, 3), 4, stride=(2, 2), pad=(0, 0, 1, 1))),
    "3x3 strides apart": depthwise(Case((9, 13, 8), (3, 3), 8, stride=(1, 2), pad=(1, 1, 1, 1))),
    "5x5": depthwise(Case((6, 10, 4), (5, 5), 4, pad=(2, 2, 2, 2))),
    "5x5 stride 2": depthwise(Case((11, 15, 4), (5, 5), 4, stride=(2, 2), pad=(2, 2, 2, 2))),
    "7x7": depthwise(Case((8, 8, 4), (7, 7), 4, pad=(3, 3, 3, 3))),
    "7x7 stride 2": depthwise(Case((14, 14, 20), (7, 7), 20, stride=(2, 2), pad=(3, 3, 3, 3))),
    "7x4": depthwise(Case((8, 9, 4), (7, 4), 4, pad=(3, 2, 3, 1))),
    "2x6 stride 2": depthwise(Case((8, 16, 4), (2, 6), 4, stride=(2, 2), pad=(0, 2, 0, 2))),
    "8x1": depthwise(Case((9, 5, 2), (8, 1), 2)),
    "wide padding": depthwise(Case((5, 3, 4), (3, 7), 4, pad=(1, 7, 1, 6))),
    "batch": depthwise(Case((5, 8, 4), (3, 3), 4, pad=(1, 1, 1, 1), batch=2)),
}


@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise(name: str) -> None:
    check_twin(DEPTHWISE[name], "k.depthwise_conv2d_mve")


@pytest.mark.parametrize("route", ROUTES)
def test_depthwise_on_core(route: Any) -> None:
    on_core(list(DEPTHWISE.values()), route)


def pair(kind: type[QAdd | QMul], scales: tuple[float, float, float], shapes: tuple[tuple[int, ...], ...],
         dtype: DType = I8) -> Model:
    """A sum or a product of two operands of `shapes`."""
    rng = np.random.default_rng(len(shapes[0]))
    quants = [per_tensor(scale, int(rng.integers(*dtype.range))) for scale in scales]
    result = TensorType(np.broadcast_shapes(*shapes), dtype, quants[2])
    inputs = [(stored(rng, dtype, *shape), quant) for shape, quant in zip(shapes, quants, strict=False)]
    return lambda a, b: kind(a, b, result), inputs, []


IMAGE, CHANNELS, ALL = (1, 3, 5, 9), (1, 1, 1, 9), (1, 4, 64, 64)
PAIRS = {
    "sum": pair(QAdd, (0.021, 0.053, 0.048), (IMAGE, IMAGE)),
    "many sums": pair(QAdd, (0.0412378, 0.10907, 0.0532588), (ALL, ALL)),
    "sum of channels": pair(QAdd, (0.021, 0.053, 0.048), (CHANNELS, IMAGE)),
    "sum, u8": pair(QAdd, (0.021, 0.053, 0.048), (IMAGE, IMAGE), U8),
    "product": pair(QMul, (0.021, 0.013, 0.02), (IMAGE, IMAGE)),
    "many products": pair(QMul, (0.0212378, 0.0110907, 0.0132588), (ALL, ALL)),
    "product of channels": pair(QMul, (0.03, 0.0039, 0.012), (IMAGE, CHANNELS)),
    "product, u8": pair(QMul, (0.03, 0.0039, 0.012), (IMAGE, (9,)), U8),
    "product of pixels": pair(QMul, (0.03, 0.0039, 0.012), (IMAGE, (1, 3, 5, 1))),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name: str) -> None:
    check_twin(PAIRS[name], "k.pair_s8")


@pytest.mark.parametrize("route", ROUTES)
def test_pairs_on_core(route: Any) -> None:
    on_core(list(PAIRS.values()), route)


def mean(shape: tuple[int, ...], axes: tuple[int, ...], dtype: DType = I8, scale: float = 0.02) -> Model:
    """A mean over `axes`; of equal scales, ties are frequent."""
    rng = np.random.default_rng(shape[1])
    result = TensorType(tuple(1 if i in axes else n for i, n in enumerate(shape)), dtype, per_tensor(scale, 5))
    return lambda x: QReduceMean(x, result, axes, rule="exact"), [(stored(rng, dtype, *shape), per_tensor(0.02, 3))], []


MEANS = {
    "image": mean((1, 5, 6, 40), (1, 2)),
    "columns": mean((1, 5, 6, 33), (2,)),
    "rows": mean((2, 11, 3, 16), (1,), scale=0.021),
    "u8": mean((1, 15, 17, 16), (1, 2), U8),
    "few channels": mean((1, 5, 6, 8), (1, 2)),
}


@pytest.mark.parametrize("name", MEANS)
def test_means(name: str) -> None:
    check_twin(MEANS[name], "k.mean_s8")


@pytest.mark.parametrize("route", ROUTES)
def test_means_on_core(route: Any) -> None:
    on_core(list(MEANS.values()), route)


def transposition(shape: tuple[int, ...], perm: tuple[int, ...], dtype: DType = I8) -> Model:
    x = stored(np.random.default_rng(1), dtype, *shape), per_tensor(0.02, 3)
    return lambda x: Transpose(x, perm), [x], []


TRANSPOSITIONS = {
    "planes to pixels": transposition((1, 3, 9, 21), (0, 2, 3, 1)),
    "many planes": transposition((2, 40, 5, 7), (0, 2, 3, 1), U8),
    "pixels to planes": transposition((1, 9, 5, 18), (0, 3, 1, 2)),
    "rows and columns": transposition((1, 11, 6, 4), (0, 2, 1, 3)),
    "matrix": transposition((35, 66), (1, 0)),
}


@pytest.mark.parametrize("name", TRANSPOSITIONS)
def test_transpositions(name: str) -> None:
    check_twin(TRANSPOSITIONS[name], "k.transpose")


@pytest.mark.parametrize("route", ROUTES)
def test_transpositions_on_core(route: Any) -> None:
    on_core(list(TRANSPOSITIONS.values()), route)


def lookup(kinds: tuple[DType, DType], shape: tuple[int, ...]) -> Model:
    rng = np.random.default_rng(1)
    quant = per_tensor(0.01)
    x, table = (stored(rng, kinds[0], *shape), per_tensor(0.1)), (stored(rng, kinds[1], 256), quant)
    return lambda x, t: Lookup(x, t, TensorType(shape, kinds[1], quant)), [x], [table]


LOOKUPS = {
    "i8": lookup((I8, I8), (1, 3, 5, 7)),
    "u8 of i8": lookup((I8, U8), (1, 4, 4, 16)),
    "u8": lookup((U8, U8), (3,)),
    "i16": lookup((I8, I16), (2, 30)),
}


@pytest.mark.parametrize("name", LOOKUPS)
def test_lookups(name: str) -> None:
    check_twin(LOOKUPS[name], "k.lookup")


@pytest.mark.parametrize("route", ROUTES)
def test_lookups_on_core(route: Any) -> None:
    on_core(list(LOOKUPS.values()), route)


GATES = {
    "pointwise 64 to 64": (convolution(Case((25, 5, 64), (1, 1), 64)), 125 * 64 * 64, 0.18),
    "pointwise 16 to 64": (convolution(Case((12, 12, 16), (1, 1), 64)), 144 * 16 * 64, 0.30),
    "3x3 3 to 16": (convolution(Case((32, 32, 3), (3, 3), 16, pad=(1, 1, 1, 1))), 1024 * 27 * 16, 0.42),
    "3x3 16 to 16": (convolution(Case((32, 32, 16), (3, 3), 16, pad=(1, 1, 1, 1))), 1024 * 144 * 16, 0.19),
    "depthwise 3x3": (depthwise(Case((12, 12, 48), (3, 3), 48, pad=(1, 1, 1, 1))), 144 * 9 * 48, 0.85),
    "depthwise 5x5": (depthwise(Case((12, 12, 48), (5, 5), 48, pad=(2, 2, 2, 2))), 144 * 25 * 48, 0.65),
    "dense 640 to 128": (dense(1, 640, 128, I8), 640 * 128, 0.16),
    "sum": (pair(QAdd, (0.021, 0.053, 0.048), (ALL, ALL)), 16384, 2.8),
    "product": (pair(QMul, (0.021, 0.053, 0.048), (ALL, ALL)), 16384, 3.3),
}
"""Layers, multiply-accumulates or elements, and the most instructions for one."""


@pytest.mark.skipif(not PRESENT, reason="no compiler for the Cortex-M55 or no emulator")
@pytest.mark.parametrize("name", GATES)
def test_instructions(name: str) -> None:
    model, amount, most = GATES[name]
    found = instructions_of(model, PRESENT[0]) / amount
    assert found <= most, f"{found:.3f}"
