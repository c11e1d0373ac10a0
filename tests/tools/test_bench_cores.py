"""Generated C on cores that only one of the emulators has: the bytes of this machine, without an FPU, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tinyc.tools.cores import core_named
from tinyc.tools.driver import Emission, Job, compile_job
from tinyc.tools.emulator import emulators_for, run_on_target
from tinyc.tools.harness import run_on_host
from tinyc.tools.program import Program, Sample
from tinyc.tools.samples import random_samples
from tinyc.tools.toolchain import Route, core_compiler, host_compiler, routes_present

CORES = ["cortex-m0plus", "cortex-m33", "cortex-m55", "rv32imc"]
ROUTES: list[Route] = ["system", "zig"]


def outputs(program: Program, samples: list[Sample], core: str, route: Route) -> tuple[list[Sample], list[Sample]]:
    """Of this machine, and of the emulated core."""
    if route not in routes_present(core) or not emulators_for(core_named(core)):
        pytest.skip(f"not installed: {route} compiler and emulator for {core}")
    host = run_on_host(program, samples, compiler=host_compiler())
    run = run_on_target(program, samples, core, compiler=core_compiler(core, prefer=route), flags=("-std=c99", "-O2"))
    assert run.instructions is not None
    assert run.instructions > 1000
    assert run.stack_bytes is not None
    assert 0 < run.stack_bytes < 2048
    return host.outputs, run.outputs


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("core", CORES)
def test_float_net(model: Path, core: str, route: Route) -> None:
    program = compile_job(Job(str(model), target=core)).c_program(Emission("net"))
    expected, found = outputs(program, random_samples(program.inputs, 2).inputs, core, route)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours[0], theirs[0], rtol=0, atol=1e-6 * max(1.0, float(np.abs(theirs[0]).max())))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("core", CORES)
def test_int8_net_to_the_byte(shared: Path, core: str, route: Route) -> None:
    job = Job(str(shared / "models" / "kws_dscnn_int8.onnx"), target=core)
    program = compile_job(job).c_program(Emission("net"))
    expected, found = outputs(program, random_samples(program.inputs, 2).inputs, core, route)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
