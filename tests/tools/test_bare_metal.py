"""Generated C on emulated Cortex-M cores: the same results as on this machine, by each of the two routes.

The routes are gcc with QEMU (installed programs) and zig with unicorn (Python packages); each is skipped where its
tools are not there. `-k gcc_qemu` and `-k zig_unicorn` choose one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from tinyc.tools.driver import Compiled, Emission, Job, compile_job
from tinyc.tools.elf import read_symbols
from tinyc.tools.emulator import Emulator, emulators_present, run_on_target
from tinyc.tools.harness import Run, run_on_host
from tinyc.tools.program import Port, Sample
from tinyc.tools.samples import random_samples
from tinyc.tools.toolchain import (
    STRICT,
    Route,
    compile_objects,
    core_compiler,
    host_compiler,
    routes_present,
    undefined_symbols,
)

from .conftest import conv_net, two_ports

ALLOWED = {"__aeabi_unwind_cpp_pr0", "__aeabi_unwind_cpp_pr1"}
"""Symbols that an object may leave to the linker: clang's markers for unwind tables, which no code calls."""
PEERS = {"kws_dscnn_f32": 15_600_000, "resnet8_f32": 88_068_560}
"""The fewest instructions that any peer in ../shared/reference/baselines.md needs."""


@dataclass(frozen=True)
class Tools:
    """One way to build and run bare-metal code."""

    route: Route
    emulator: Emulator


ROUTES = [pytest.param(Tools("system", "qemu"), id="gcc_qemu"), pytest.param(Tools("zig", "unicorn"), id="zig_unicorn")]


@pytest.fixture(params=ROUTES)
def tools(request: pytest.FixtureRequest) -> Tools:
    found: Tools = request.param
    if found.route not in routes_present("cortex-m4") or found.emulator not in emulators_present():
        pytest.skip(f"not installed: {found.route} compiler for Arm and {found.emulator}")
    return found


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


def compiled(path: Path, target: str = "cortex-m4") -> Compiled:
    return compile_job(Job(str(path), target=target))


def inputs_of(program_inputs: tuple[Port, ...], count: int = 2) -> list[Sample]:
    return random_samples(program_inputs, count).inputs


def on_both(path: Path, tools: Tools, cache: Path, target: str = "cortex-m4") -> tuple[Run, Run]:
    """The same C on this machine and on the emulated core."""
    program = compiled(path, target).c_program(Emission("net"))
    samples = inputs_of(program.inputs)
    host = run_on_host(program, samples, compiler=host_compiler(), cache=cache)
    core = run_on_target(program, samples, target, compiler=core_compiler(target, prefer=tools.route),
                         emulator=tools.emulator, cache=cache)
    return host, core


def assert_close(host: Run, core: Run) -> None:
    """Within 1e-6 of the host's results, relative to the largest of each output."""
    for ours, theirs in zip(core.outputs, host.outputs, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * max(1.0, float(np.abs(b).max())))


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7"])
def test_small_net(tools: Tools, model: Path, cache: Path, target: str) -> None:
    host, core = on_both(model, tools, cache, target)
    assert_close(host, core)
    assert core.stack_bytes is not None
    assert core.stack_bytes < 2048


def test_several_ports_and_elementary_functions(tools: Tools, tmp_path: Path, cache: Path) -> None:
    onnx.save(two_ports(), str(tmp_path / "two.onnx"))
    assert_close(*on_both(tmp_path / "two.onnx", tools, cache))


@pytest.mark.parametrize("arena", ["static", "caller"])
def test_needs_no_symbol(tools: Tools, model: Path, tmp_path: Path, arena: str) -> None:
    program = compiled(model).c_program(Emission("net", arena=arena, hooks=True))
    objects = compile_objects(program.files, core_compiler("cortex-m4", prefer=tools.route), tmp_path, ("-O3", *STRICT))
    assert undefined_symbols(objects) <= ALLOWED


def test_two_models_in_one_firmware(tools: Tools, tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for name, made in (("first", conv_net()), ("second", two_ports())):
        onnx.save(made, str(tmp_path / f"{name}.onnx"))
        files |= compiled(tmp_path / f"{name}.onnx").c_program(Emission(name)).files
    compiler = core_compiler("cortex-m4", prefer=tools.route)
    objects = compile_objects(files, compiler, tmp_path / "build", ("-O3", *STRICT))
    assert undefined_symbols(objects) <= ALLOWED
    defined = [s.name for o in objects for s in read_symbols(o.read_bytes()) if s.section and s.binding]
    assert len(defined) == len(set(defined))
    assert {"first_run", "second_run"} <= set(defined)


SHARED = ["hello_world_f32", "kws_dscnn_f32", pytest.param("resnet8_f32", marks=pytest.mark.long)]


@pytest.mark.parametrize("name", SHARED)
def test_shared_models(tools: Tools, shared: Path, cache: Path, name: str) -> None:
    host, core = on_both(shared / "models" / f"{name}.onnx", tools, cache)
    assert_close(host, core)
    if name in PEERS:
        assert core.instructions is not None
        assert core.instructions < PEERS[name]
