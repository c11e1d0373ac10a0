"""Convolutions with two pixels in a word: segments are as long as is proved and no longer; op reference, kernel
reference, the C twin on the host and the assembly on emulated cores agree in every byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tinyc.backends.c.kernels import swar_conv, swar_pack
from tinyc.backends.c.kernels.base import RowKernel
from tinyc.backends.c.kernels.swar_conv import ConvSwar
from tinyc.backends.c.kernels.swar_pack import fits, pack_layer, segments_of, unpack_weights
from tinyc.tools.emulator import emulators_present, run_on_target
from tinyc.tools.program import program_of
from tinyc.tools.toolchain import core_compiler, routes_present

from tinyir.interp import run
from tinyir.ir import Argument, Array, Module
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.target import target_named
from tinyir.types import I32, U8, BufferType, dtype_of

from .harness import COMPILERS, call, compile_library, emit
from .qharness import check_exact, lowered, quantised_module
from .test_dsp import CONVOLUTIONS, HOST, call_in_c, convolution
from .test_qconv import Case

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
CORES = ["cortex-m0plus", "rv32imc"]
ROUTES = [(core, route) for core in CORES for route in routes_present(core)]
emulated = pytest.mark.skipif(not ROUTES or not emulators_present(), reason="no compiler for the cores or no emulator")
CASES = {
    **{name: case for name, case in CONVOLUTIONS.items() if name != "pointwise, one channel"},
    "i32 result": Case((5, 5, 8), (3, 3), 9, result=I32, pad=(1, 1, 1, 1)),
    "clamp": Case((5, 5, 8), (3, 3), 8, clamp=(3, 90)),
    "sums that wrap around": Case((4, 4, 8), (3, 3), 8, bias=2**31 - 1, pad=(1, 1, 1, 1), result=I32),
    "strided columns": Case((7, 12, 4), (2, 3), 12, stride=(1, 3), pad=(0, 2, 0, 2)),
    "wide rows, more than 510 inputs": Case((3, 4, 1200), (1, 1), 8),
}

FEW = {2: ("pointwise, odd run", "3x3, odd channels", "3x3", "u8", "wide rows, more than 510 inputs"),
       0: ("pointwise, odd run", "3x3, odd channels", "u8", "rows dilated", "batch")}
SIZED = [*((name, 4) for name in CASES), *((name, pixels) for pixels, names in FEW.items() for name in names)]
"""Cases, and pixels of a column."""


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small layers get the kernel, too, although it does not pay."""
    monkeypatch.setattr(swar_conv, "worth", lambda *_: True)


# -- the proof -------------------------------------------------------------------------------------------------------

def extremes(weight: Array) -> tuple[int, int]:
    """The least and the greatest sum of stored values times `weight` [K]."""
    return (int(np.where(weight > 0, -128 * weight, 127 * weight).sum()),
            int(np.where(weight > 0, 127 * weight, -128 * weight).sum()))


def test_fits_is_the_very_bound() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        weight = rng.integers(-128, 128, rng.integers(1, 6), np.int64)
        least, most = extremes(weight)
        assert fits(weight[None]) == (-2**15 <= least and most < 2**15)


def test_bound_is_met_on_both_sides() -> None:
    assert fits(np.array([[127, 128 - 1, 1]]))
    assert not fits(np.array([[-128, -128]]))       # 128 * 256 is one more than 16 bits hold
    assert fits(np.array([[-128, -127]]))


def test_segments_are_the_longest() -> None:
    weight = np.array([[100, 50, 40, -60, 3, 2, 127, 127]])
    assert segments_of(weight) == [6, 2]
    assert segments_of(np.vstack([weight, np.full(8, 64)])) == [4, 2, 2]
    assert segments_of(np.zeros((1, 1024), np.int8)) == [510, 510, 4]
    assert segments_of(np.full((1, 4), -128)) is None


def test_segments_of_random_weights_fit_and_cannot_grow() -> None:
    rng = np.random.default_rng(2)
    weight = np.clip(rng.normal(0, 35, (2, 600)), -127, 127).astype(np.int8)
    lengths = segments_of(weight)
    assert lengths is not None
    assert sum(lengths) == 600
    ends = np.cumsum(lengths)
    for first, end in zip(ends - lengths, ends, strict=True):
        assert fits(weight[:, first:end])
        assert end == 600 or not fits(weight[:, first:end + 2])


@pytest.mark.parametrize("together", [1, 2])
def test_weights_come_back(together: int) -> None:
    weight = np.random.default_rng(3).integers(-127, 128, (11, 27), np.int8)
    packed = pack_layer(weight, np.zeros(11, np.int64), together)
    assert packed is not None
    assert np.array_equal(unpack_weights(packed.weight, 11, 27), weight)
    assert packed.weight.shape == (2, 28, 8)


def joined(weights: bytes, shape: tuple[int, int, int], together: int) -> tuple[Array, list[int]]:
    """One segment for all inputs, whatever the weights are."""
    groups = shape[2] // together
    return np.tile(np.uint8([shape[1] // 2, 0] * groups), (shape[0], 1)), [1] * (shape[0] * groups)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("core", CORES)
def test_longer_segments_are_wrong(core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is needed: without it sums of random weights do leave their half of the word."""
    monkeypatch.setattr(swar_pack, "_segments", joined)
    model = convolution(CASES["3x3"])
    arrays = [a for a, _ in model[1]]
    expected = run(quantised_module(*model), arrays)[0]
    module, _ = lowered(quantised_module(*model), core)
    kernel = next(op for op in module.walk() if isinstance(op, ConvSwar))
    assert kernel.segment_count() * kernel.together == 8
    found = call(compile_library(emit(module), "gcc", ("-O1",)), module, arrays)[0]
    assert not np.array_equal(found, expected)


# -- the kernels -----------------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(("name", "pixels"), SIZED)
def test_convolution(name: str, pixels: int, core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swar_conv, "PIXELS", pixels)
    model = convolution(CASES[name])
    module, _ = lowered(quantised_module(*model), core)
    assert "k.conv2d_swar" in [op.opname for op in module.walk()]
    check_exact(*model, builds=HOST, target=core)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("core", CORES)
def test_weights_that_are_too_great(core: str) -> None:
    """Two weights of -128 in a row leave the layer to the portable kernel."""
    build, inputs, consts = convolution(CASES["3x3"])
    weight, quant = consts[0]
    weight = weight.copy()
    weight.reshape(-1)[:2] = -128
    model = build, inputs, [(weight, quant), *consts[1:]]
    module, _ = lowered(quantised_module(*model), core)
    assert "k.conv2d_swar" not in [op.opname for op in module.walk()]
    check_exact(*model, builds=HOST, target=core)


@emulated
@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(("core", "route"), ROUTES)
def test_convolutions_on_core(core: str, route: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The assembly is exact, at -O1 and at -O3, where compilers clone functions for constant arguments."""
    for index, (name, pixels) in enumerate(SIZED):
        monkeypatch.setattr(swar_conv, "PIXELS", pixels)
        model = convolution(CASES[name])
        arrays = [a for a, _ in model[1]]
        expected = run(quantised_module(*model), arrays)[0]
        module, _ = lowered(quantised_module(*model), core)
        found, _ = on_core(module, arrays, core, route, ("-O3", "-O1")[index % 2])
        assert np.array_equal(found, expected), f"{np.sum(found != expected)} of {expected.size} differ"


def on_core(module: Module, arrays: Sequence[Any], core: str, route: Any, level: str) -> tuple[Array, int]:
    """The output on the emulated core, and the instructions it took."""
    done = run_on_target(program_of(module, "net", emit(module)), [tuple(arrays)], core,
                         compiler=core_compiler(core, prefer=route), flags=("-std=c99", level))
    return np.asarray(done.outputs[0][0]), done.instructions or 0


GATES = {
    "pointwise 64 to 64": (Case((12, 12, 64), (1, 1), 64), {"cortex-m0plus": 4.2, "rv32imc": 2.8}),
    "3x3 16 to 16": (Case((32, 32, 16), (3, 3), 16, pad=(1, 1, 1, 1)), {"cortex-m0plus": 3.6, "rv32imc": 2.9}),
    "3x3 32 to 32": (Case((16, 16, 32), (3, 3), 32, pad=(1, 1, 1, 1)), {"cortex-m0plus": 3.0, "rv32imc": 2.5}),
}
"""Layers, and the most instructions that they may take for a multiply-accumulate."""


@emulated
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", GATES)
def test_instructions(name: str, core: str) -> None:
    case, most = GATES[name]
    build, inputs, consts = convolution(case)
    drawn = np.random.default_rng(4).normal(0, 38, consts[0][0].shape)  # as trained weights are
    weight = np.clip(np.rint(drawn), -127, 127).astype(np.int8)
    module, _ = lowered(quantised_module(build, inputs, [(weight, consts[0][1]), *consts[1:]]), core)
    route = next(route for name, route in ROUTES if name == core)
    _, instructions = on_core(module, [a for a, _ in inputs], core, route, "-O2")
    height, width, inputs_ = case.image
    macs = height * width * case.outputs * case.kernel[0] * case.kernel[1] * inputs_
    assert instructions / macs <= most[core], instructions / macs


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("core", CORES)
def test_less_scratch(core: str) -> None:
    """Where memory is short a column has two pixels, and half as many words, or there is none."""
    module, _ = lowered(quantised_module(*convolution(CASES["3x3"])), core)
    kernel = next(op for op in module.walk() if isinstance(op, ConvSwar))
    assert [(t.attrs, t.elements) for t in kernel.tilings()] == [
        ({"pixels": 4}, 288), ({"pixels": 2}, 144), ({"pixels": 0}, 1)]
    for limit, pixels in ((1152, 4), (600, 2), (500, 0)):
        small = quantised_module(*convolution(CASES["3x3"]), scratch=limit)
        PassManager(parse_pipeline("lower-to-mem,fit-scratch")).run(small, Context(target_named(core)))
        assert next(op for op in small.walk() if isinstance(op, ConvSwar)).pixels == pixels


PAYS = {
    "many pixels, channels and inputs": (Case((12, 12, 16), (3, 3), 32, pad=(1, 1, 1, 1)), True),
    "one pixel": (Case((1, 1, 64), (1, 1), 64), False),
    "one channel": (Case((12, 12, 16), (1, 1), 1), False),
}


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", PAYS)
def test_where_it_pays(name: str, core: str) -> None:
    case, pays = PAYS[name]
    module, _ = lowered(quantised_module(*convolution(case)), core)
    assert ("k.conv2d_swar" in [op.opname for op in module.walk()]) == pays


# -- rows ------------------------------------------------------------------------------------------------------------

ROWS = {
    "pointwise": convolution(Case((11, 7, 8), (1, 1), 6)),
    "pointwise, odd channels": convolution(Case((11, 6, 7), (1, 1), 5)),
    "3x3": convolution(Case((11, 7, 8), (3, 3), 6, pad=(1, 1, 1, 1))),
    "3x3 stride 2": convolution(Case((11, 8, 3), (3, 3), 6, stride=(2, 2), pad=(0, 0, 1, 1))),
    "3x3, five columns, u8": convolution(Case((11, 5, 8), (3, 3), 9, pad=(1, 1, 1, 1), dtype=U8, x_zero=99)),
}


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(("core", "pixels"), [("cortex-m0plus", 4), ("rv32imc", 2), ("rv32imc", 0)])
@pytest.mark.parametrize("name", ROWS)
def test_rows(name: str, core: str, pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swar_conv, "PIXELS", pixels)
    model = ROWS[name]
    x = model[1][0][0]
    expected = run(quantised_module(*model), [x])[0]
    module, _ = lowered(quantised_module(*model), core)
    kernel = next(op for op in module.walk() if isinstance(op, ConvSwar))
    height = expected.shape[1]
    for rings, step in [((7, 2), 1), ((7, 3), 2), ((9, 5), 3), ((11, 4), 2), ((7, height), 2), ((11, height), 4)]:
        rows_of(kernel, x, expected, rings, step)


def rows_of(kernel: RowKernel, x: Array, expected: Array, rings: tuple[int, int], step: int) -> None:
    """Compute `expected` in steps of rows through rings, in C and in numpy; rows not in the ring yet would show."""
    ring, out_ring = rings
    kept = np.full((1, ring, *x.shape[2:]), 85, x.dtype)
    results = {who: np.zeros((1, out_ring, *expected.shape[2:]), expected.dtype) for who in ("C", "numpy")}
    xs, y = (Argument(BufferType(a.shape, dtype_of(a.dtype))) for a in (kept, results["C"]))
    columns, constants = kernel.writes[1], kernel.operands[1:6]
    data = [None if c is None else c.data for c in constants]  # type: ignore[attr-defined]
    known = 0
    for begin in range(0, expected.shape[1], step):
        rows = begin, min(begin + step, expected.shape[1])
        first, last = kernel.input_rows(rows)
        span = {"rows": rows, "x_base": first % ring, "y_base": begin % out_ring}
        op: Any = type(kernel).build([[xs], *([c] for c in constants), [y], [columns]], {**kernel.attrs, **span}, ())
        for row in range(known, last):
            kept[:, row % ring] = x[:, row]
        known = max(known, last)
        scratch = np.zeros(columns.shape, np.uint32)
        arrays = {id(c): d for c, d in zip(constants, data, strict=True) if c is not None}
        call_in_c(op, {**arrays, id(xs): kept, id(y): results["C"], id(columns): scratch})
        op.reference(kept, *data, results["numpy"], scratch)
        for who, result in results.items():
            found = np.stack([result[0, row % out_ring] for row in range(*rows)])
            assert np.array_equal(found, expected[0, slice(*rows)]), f"{who}, rows {rows}"
