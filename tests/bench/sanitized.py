"""Schedules of models under sanitizers: AddressSanitizer, UndefinedBehaviorSanitizer, and an arena full of noise.

    sanitized(Path("resnet8_int8.onnx"), "generic", is_exact=True)
    {"wrong": 0, "runs": 6}

Each of -O2, `--ram min` and `--ram min --recompute 10%` is built twice with a guard in front of every call
(`tests/backends/guarded.py`): once so that a call can touch nothing but its own slots, once so that what no slot holds
is noise. Both give the outputs of the layer-by-layer program, floats within the bound, or what the sanitizer says is an
error.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tinyc.tools.compare import compare_arrays
from tinyc.tools.driver import Compiled, Job, compile_job
from tinyc.tools.limits import NO_LIMITS, Limits

from tinyir.ir import Array

__all__ = ["SANITIZED", "sanitized"]

ROOT = Path(__file__).resolve().parents[2]
SANITIZED = "sanitizers"
WAYS = (NO_LIMITS, Limits(ram="min"), Limits(ram="min", recompute="10%"))


def sanitized(model: Path, target: str, is_exact: bool) -> dict[str, Any]:
    """Wrong values of all runs. Raises AssertionError with what a sanitizer says."""
    guarded = _guarded()
    builds = [next((b for b in guarded.BUILDS if b[1] == kind), None) for kind in ("address", "fill")]
    if builds[0] is None:
        return {"reason": "no C compiler with sanitizers"}
    plain = compile_job(Job(str(model), level="1", target=target, layerwise=True))
    inputs = _inputs(plain)
    expected = _run(guarded, plain, inputs, builds[1])
    wrong = runs = 0
    for limits in WAYS:
        compiled = compile_job(Job(str(model), target=target, limits=limits))
        for build in builds:
            found = _run(guarded, compiled, inputs, build)
            wrong += sum(int(np.count_nonzero(a != b)) if is_exact else compare_arrays(a, b).mismatches
                         for a, b in zip(found, expected, strict=True))
            runs += 1
    return {"wrong": wrong, "runs": runs}


def _run(guarded: Any, compiled: Compiled, inputs: list[Array], build: Any) -> list[Array]:
    with tempfile.TemporaryDirectory(prefix="tinyc-") as folder:
        outputs: list[Array] = guarded.run_guarded(compiled.module, inputs, build, Path(folder))
        return outputs


def _inputs(compiled: Compiled) -> list[Array]:
    rng = np.random.Generator(np.random.PCG64(1))
    return [rng.uniform(-1, 1, v.shape).astype(np.float32) if v.type.dtype.is_float
            else rng.integers(*v.type.dtype.range, v.shape, endpoint=True).astype(v.type.dtype.numpy)
            for v in compiled.module.main.inputs]


def _guarded() -> Any:
    """The module that builds and runs the C with guards, which is a part of the tests."""
    folder = str(ROOT / "tests" / "backends")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module("guarded")
