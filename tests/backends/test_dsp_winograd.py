"""3x3 convolutions by Winograd's transforms on Cortex-M with DSP: every byte is that of the direct convolution, on the
host and on an emulated core; in fewer instructions; and weights and sums for which that is not certain are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinyc.backends.c.kernels.dsp_pack import Plan, Scalings
from tinyc.backends.c.kernels.dsp_winograd import pack_winograd, transformed, unpack_winograd, winograd_pays
from tinyc.tools.emulator import emulators_present
from tinyc.tools.toolchain import routes_present

from tinyir.interp import run
from tinyir.ir import Module
from tinyir.types import U8, Quant

from .guarded import BUILDS, Build, run_guarded
from .harness import COMPILERS
from .qharness import check_exact, lowered, quantised_module
from .test_dsp import HOST, Model, convolution, instructions_of, rows_of
from .test_qconv import Case

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
emulated = pytest.mark.skipif(not routes_present("cortex-m4") or not emulators_present(),
                              reason="no compiler for Arm or no emulator")
OPNAME = "k.conv2d_winograd"
AROUND = (1, 1, 1, 1)

CASES = {
    "whole columns": Case((8, 8, 16), (3, 3), 16, pad=AROUND),
    "odd rows and columns": Case((7, 9, 4), (3, 3), 6, pad=AROUND),
    "odd output channels": Case((6, 6, 8), (3, 3), 5, pad=AROUND),
    "two passes and a half": Case((6, 8, 40), (3, 3), 4, pad=AROUND),
    "three fours": Case((4, 6, 12), (3, 3), 4, pad=AROUND),
    "seven fours": Case((4, 6, 28), (3, 3), 4, pad=AROUND),
    "no padding": Case((9, 7, 20), (3, 3), 4),
    "padding above and on the right": Case((5, 6, 12), (3, 3), 6, pad=(1, 0, 0, 1)),
    "padding below and on the left": Case((5, 7, 12), (3, 3), 6, pad=(0, 1, 1, 0)),
    "small image": Case((2, 2, 8), (3, 3), 4, pad=AROUND),
    "one result": Case((3, 3, 8), (3, 3), 4),
    "one row": Case((1, 9, 8), (3, 3), 4, pad=AROUND),
    "zero point at the end": Case((5, 5, 8), (3, 3), 4, pad=AROUND, x_zero=-128),
    "u8": Case((6, 6, 8), (3, 3), 8, pad=AROUND, dtype=U8, x_zero=200),
    "u8, zero point 0": Case((6, 11, 8), (3, 3), 8, pad=AROUND, dtype=U8, x_zero=0),
    "batch": Case((5, 5, 4), (3, 3), 4, pad=AROUND, batch=3),
    "no bias": Case((5, 5, 8), (3, 3), 8, bias=None, pad=AROUND),
    "great biases": Case((5, 5, 8), (3, 3), 8, bias=2**27, pad=AROUND),
    "one scale": Case((5, 5, 8), (3, 3), 8, one_scale=True, pad=AROUND),
}
FAST = {"larger_weights": 1 << 20}


def extreme(sign: int, x: int) -> Model:
    """All weights -128 or 127 and all inputs `x`: the greatest sums and transformed values that there are."""
    build, inputs, consts = convolution(Case((6, 6, 64), (3, 3), 4, pad=AROUND, x_zero=-128, bias=None))
    weight = np.full(consts[0][0].shape, -128 if sign < 0 else 127, np.int8)
    return build, [(np.full_like(inputs[0][0], x), inputs[0][1])], [(weight, consts[0][1])]


def alternating() -> Model:
    """Inputs and weights whose differences are the greatest."""
    build, inputs, consts = convolution(Case((8, 8, 16), (3, 3), 4, pad=AROUND, bias=None))
    x = np.where(np.indices(inputs[0][0].shape)[1:3].sum(axis=0) % 4 < 2, 127, -128).astype(np.int8)
    weight = np.where(np.indices(consts[0][0].shape)[1:3].sum(axis=0) % 2 < 1, 127, -128).astype(np.int8)
    return build, [(x, inputs[0][1])], [(weight, consts[0][1])]


EXTREMES = [*(extreme(sign, x) for sign in (-1, 1) for x in (-128, 127)), alternating()]


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it does not pay."""
    monkeypatch.setattr("tinyc.backends.c.kernels.dsp_winograd.winograd_pays", lambda *sizes: True)


def tiled(model: Model, target: str = "cortex-m4") -> Module:
    return lowered(quantised_module(*model, **FAST), target)[0]


def opnames(module: Module) -> list[str]:
    return [op.opname for op in module.walk()]


def check(model: Model, builds: int = 1) -> None:
    assert OPNAME in opnames(tiled(model))
    check_exact(*model, builds=HOST[:builds], target="cortex-m4", **FAST)


@pytest.mark.parametrize("name", CASES)
def test_twin(name: str, always: None) -> None:
    check(convolution(CASES[name]), builds=len(HOST))


@pytest.mark.parametrize("index", range(len(EXTREMES)))
def test_extremes(index: int, always: None) -> None:
    check(EXTREMES[index])


@pytest.mark.parametrize("seed", range(6))
def test_random_shapes(seed: int, always: None) -> None:
    rng = np.random.default_rng(seed)
    height, width, outputs = (int(rng.integers(1, most)) for most in (12, 20, 10))
    pad = tuple(int(p) for p in rng.integers(0, 2, 4))
    image = max(height, 3 - pad[0] - pad[2]), max(width, 3 - pad[1] - pad[3]), 4 * int(rng.integers(1, 12))
    case = Case(image, (3, 3), outputs, pad=pad, x_zero=int(rng.integers(-128, 128)))  # type: ignore[arg-type]
    check(convolution(case, seed))


@emulated
@pytest.mark.parametrize("route", routes_present("cortex-m4"))
def test_on_core(route: Any, always: None) -> None:
    """-O3 is where gcc clones functions for constant arguments."""
    names = "whole columns", "odd rows and columns", "odd output channels", "two passes and a half", "three fours", \
        "seven fours", "padding below and on the left", "one result", "u8", "batch"
    for model in [*(convolution(CASES[name], least=True) for name in names), *EXTREMES[1:3], EXTREMES[-1]]:
        arrays = [a for a, _ in model[1]]
        expected = run(quantised_module(*model), arrays)[0]
        found, _ = instructions_of(tiled(model), arrays, route, "-O3")
        assert np.array_equal(found, expected), f"{np.sum(found != expected)} of {expected.size} differ"


@pytest.mark.parametrize("name", ["odd rows and columns", "whole columns", "u8", "two passes and a half"])
def test_rows(name: str, always: None) -> None:
    """In steps of one to four rows, through rings, with a row that is not there yet below the last."""
    case = CASES[name]
    model = convolution(Case((11, case.image[1], case.image[2]), (3, 3), case.outputs, pad=AROUND, dtype=case.dtype,
                             x_zero=case.x_zero))
    x = model[1][0][0]
    expected = run(quantised_module(*model), [x])[0]
    kernel: Any = next(op for op in tiled(model).walk() if op.opname == OPNAME)
    for rings, step in [((3, 2), 1), ((4, 3), 2), ((5, 5), 3), ((11, 4), 2), ((7, 11), 2), ((11, 11), 4)]:
        rows_of(kernel, x, expected, rings, step)


@pytest.mark.skipif(not BUILDS, reason="no C compiler with sanitizers")
@pytest.mark.parametrize("build", BUILDS, ids=lambda build: "-".join(map(str, build)))
def test_honest_bytes(build: Build, tmp_path: Path, always: None) -> None:
    """Nothing but operands is touched, nothing is read before it is written."""
    for name in ("odd rows and columns", "padding above and on the right", "no padding"):
        model = convolution(CASES[name])
        arrays = [a for a, _ in model[1]]
        expected = run(quantised_module(*model), arrays)[0]
        assert np.array_equal(run_guarded(tiled(model), arrays, build, tmp_path)[0], expected)


def test_stream_is_undone() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(-128, 128, (5, 9 * 8)).astype(np.int8)
    scalings = Scalings(*(rng.integers(0, 2**31, 5).astype(np.uint32) for _ in range(2)))
    plan = Plan(weight, rng.integers(-1000, 1000, 5), "plain", 8, 6, scalings)
    back, bias, pairs = unpack_winograd(pack_winograd(plan, 8, 0), (5, 8), 6)
    assert np.array_equal(back.reshape(5, -1), weight)
    assert np.array_equal(bias, plan.bias)
    assert np.array_equal(pairs.multiplier, scalings.multiplier)
    assert np.array_equal(pairs.rounding, scalings.rounding)


def test_greatest_transformed_weights() -> None:
    assert np.abs(transformed(np.full((1, 3, 3, 4), -128))).max() == 9 * 128


def test_sums_that_are_too_great(always: None) -> None:
    """Four times as great they might not fit in 32 bits."""
    build, inputs, consts = extreme(1, 127)
    scales = Quant((2.0**-22,) * 4, (0,) * 4, 0)
    for bias, fits in ((2**29 - 2**25, True), (2**29, False)):
        model = build, inputs, [(consts[0][0], scales), (np.full(4, bias, np.int32), None)]
        assert (OPNAME in opnames(tiled(model))) == fits
        check_exact(*model, builds=HOST[:1], target="cortex-m4", **FAST)


@pytest.mark.parametrize("case", [
    Case((8, 8, 16), (3, 3), 16, stride=(2, 2), pad=AROUND),
    Case((8, 8, 16), (3, 3), 16, pad=(2, 1, 2, 1), dilation=(2, 1)),
    Case((8, 8, 16), (3, 3), 16, pad=(2, 2, 2, 2)),
    Case((8, 8, 16), (5, 5), 16, pad=(2, 2, 2, 2)),
    Case((8, 8, 18), (3, 3), 16, pad=AROUND),
])
def test_refused(case: Case, always: None) -> None:
    """Other windows, and channels that are no fours."""
    model = convolution(case)
    assert OPNAME not in opnames(tiled(model))
    check_exact(*model, builds=HOST[:1], target="cortex-m4", **FAST)


def test_only_where_wanted() -> None:
    model = convolution(CASES["whole columns"])
    assert OPNAME not in opnames(lowered(quantised_module(*model), "cortex-m4")[0])
    limits = {"larger_weights": 8384}, {"larger_weights": 8383}
    found = [OPNAME in opnames(lowered(quantised_module(*model, **some), "cortex-m4")[0]) for some in limits]
    assert found == [True, False]
    for target in ("generic", "cortex-m0plus", "cortex-m55", "rv32imc"):
        assert OPNAME not in opnames(tiled(model, target))
    for target in ("cortex-m4", "cortex-m7", "cortex-m33"):
        assert OPNAME in opnames(tiled(model, target))


@pytest.mark.parametrize(("sizes", "pays"), [
    ((16, 16, 32, 32), True), ((64, 64, 8, 8), True), ((64, 64, 8, 1), True), ((16, 16, 32, 1), False),
    ((16, 16, 1, 1), False), ((4, 1, 1, 32), False)])
def test_pays(sizes: tuple[int, int, int, int], pays: bool) -> None:
    assert winograd_pays(*sizes) == pays


GATES = {"16 to 16": ((32, 32, 16), 16, 0.51), "32 to 32": ((16, 16, 32), 32, 0.43), "64 to 64": ((8, 8, 64), 64, 0.38)}


@emulated
@pytest.mark.parametrize("name", GATES)
def test_instructions(name: str) -> None:
    image, outputs, most = GATES[name]
    model = convolution(Case(image, (3, 3), outputs, pad=AROUND))
    _, instructions = instructions_of(tiled(model), [model[1][0][0]], routes_present("cortex-m4")[0])
    assert instructions / (image[0] * image[1] * 9 * image[2] * outputs) <= most
