"""Every .tir file here is a test: a pipeline, a module, and what the pipeline makes of it.

    // RUN: fold-batch-norm
    // What this case is about.
    module @before { ... }
    // -----
    module @after { ... }

The text behind the line is compared whole (`pytest --update-golden` rewrites it). The module is also interpreted before
and after the pipeline on the same seeded inputs, and printed, parsed and printed again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinyir.interp import run
from tinyir.ir import Array, Module, Value
from tinyir.parser import parse, run_line
from tinyir.pass_manager import PassManager, parse_pipeline
from tinyir.printer import print_module
from tinyir.verify import verify

FOLDER = Path(__file__).parent
CASES = sorted(FOLDER.glob("*.tir"))
CUT = "// -----\n"
SEEDS = (1, 2, 3)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_pass(path: Path, update_golden: bool) -> None:
    """Text and numbers of one file."""
    before, _, expected = path.read_text().partition(CUT)
    pipeline = run_line(before)
    assert pipeline is not None, "the first line should be // RUN: pipeline"
    module, plain = parse(before, path.name), parse(before, path.name)
    verify(plain)
    PassManager(parse_pipeline(pipeline)).run(module)
    verify(module)
    text = print_module(module, locations="loc(" in before)
    if update_golden:
        path.write_text(f"{before}{CUT}{text}")
    else:
        assert text == expected
    assert print_module(parse(text), locations="loc(" in before) == text
    for seed in SEEDS:
        _compare(plain, module, seed)


def _compare(before: Module, after: Module, seed: int) -> None:
    """Both modules give the same results, but for rounding; an argument that changed its layout is turned."""
    rng = np.random.Generator(np.random.PCG64(seed))
    inputs = [_random(argument, rng) for argument in before.main.inputs]
    turned = [_turned(a, argument.shape) for a, argument in zip(inputs, after.main.inputs, strict=True)]
    wanted, found = run(before, inputs), run(after, turned)
    for w, f in zip(wanted, found, strict=True):
        bound = 1e-5 * float(np.abs(w[np.isfinite(w)]).max(initial=0)) if w.dtype.kind == "f" else 0
        np.testing.assert_allclose(f, _turned(w, f.shape), rtol=1e-5 if bound else 0, atol=bound)


def _random(value: Value, rng: np.random.Generator) -> Array:
    numpy_type = value.type.dtype.numpy
    if numpy_type.kind == "f":
        return rng.uniform(-4, 4, value.shape).astype(numpy_type)
    return rng.integers(0, 2 if numpy_type.kind == "b" else 100, value.shape).astype(numpy_type)


def _turned(array: Array, shape: tuple[int, ...]) -> Array:
    """The array in the layout that has `shape`."""
    if array.shape == shape:
        return array
    return next(t for perm in ((0, 2, 3, 1), (0, 3, 1, 2)) if (t := array.transpose(perm)).shape == shape)
