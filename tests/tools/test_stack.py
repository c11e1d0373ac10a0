"""tinyc --stack: the stack of one inference, measured on the emulated core, in the table and in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tinyc.tools import emulator, stack
from tinyc.tools.bench import BenchSettings, measure_core
from tinyc.tools.cli import Progress
from tinyc.tools.driver import Emission, Job, compile_job
from tinyc.tools.emulator import emulators_present
from tinyc.tools.toolchain import routes_present

from .conftest import Run

QUIET = Progress("test", enabled=False)


@pytest.fixture
def core() -> str:
    """The Cortex-M4, where it can be built for and emulated."""
    if not emulators_present() or not routes_present("cortex-m4"):
        pytest.skip("no emulator, or no compiler for the Cortex-M4")
    return "cortex-m4"


def reported(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_report_and_table(run_tinyc: Run, model: Path, core: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    answer = run_tinyc(model, "--target", core, "--stack", "--report", path, "-o", f"{tmp_path}/out/")
    assert answer.status == 0, answer.err
    found = reported(path)
    assert 0 < found["stack_bytes"] < 2048
    assert found["peak_bytes"] == found["arena_bytes"] + found["stack_bytes"]
    assert found["stack_measured"].startswith(f"{core} (")
    assert "-O2" in found["stack_measured"]
    assert f"{found['stack_bytes']:,}  bytes, {found['stack_measured']}" in answer.err


def test_the_compiler_counts(run_tinyc: Run, model: Path, core: str, tmp_path: Path) -> None:
    """Options are passed on, and said."""
    path = tmp_path / "report.json"
    assert run_tinyc(model, "-O1", "--target", core, "--stack", "--cflags", "-O0", "--report", path, "-q", "-o",
                     f"{tmp_path}/out/").status == 0
    assert reported(path)["stack_measured"].endswith("-O1 -O0)")


def test_as_the_bench_measures(model: Path, core: str) -> None:
    compiled = compile_job(Job(str(model), target=core))
    emission = Emission("net", single_file=True, sections={"arena": ".nowhere"})
    found = stack.measure_stack(compiled, emission, stack.StackSettings(), QUIET)
    measured = measure_core(compiled, "net", BenchSettings(), QUIET).stack_bytes
    assert measured is not None
    assert abs(found.bytes - measured) <= 64  # the bench's C has marks


@pytest.mark.parametrize("options", [("--arena", "caller"), ("--input", "rows"), ("--section", "arena=.x", "--hooks")])
def test_however_the_c_is_written(run_tinyc: Run, model: Path, core: str, options: tuple[str, ...],
                                  tmp_path: Path) -> None:
    answer = run_tinyc(model, "--target", core, "--stack", "--check", "--samples", 1, "-o", f"{tmp_path}/o/", *options)
    assert answer.status == 0, answer.err
    assert "  stack" in answer.err


def test_null_where_it_was_not_asked_for(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    assert run_tinyc(model, "--report", path, "-q", "-o", f"{tmp_path}/out/").status == 0
    found = reported(path)
    assert (found["stack_bytes"], found["peak_bytes"], found["stack_measured"]) == (None, None, None)


def test_a_core_is_needed(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    answer = run_tinyc(model, "--stack", "-o", f"{tmp_path}/out/")
    assert answer.status == 1
    assert "--stack runs the C on an emulated core, and generic is none" in answer.err
    assert "--target cortex-m4" in answer.err
    assert not (tmp_path / "out").exists()


def test_missing_tools_are_named_before_anything_is_done(run_tinyc: Run, model: Path, core: str, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    answer = run_tinyc(model, "--target", core, "--stack", "--cc", "no-such-compiler", "-o", f"{tmp_path}/out/")
    assert answer.status == 1
    assert "there is no program 'no-such-compiler'" in answer.err
    monkeypatch.setattr(emulator, "emulators_present", list)
    answer = run_tinyc(model, "--target", core, "--stack", "-o", f"{tmp_path}/out/")
    assert answer.status == 1
    assert "no emulator was found" in answer.err
    assert "pip install" in answer.err
    assert not (tmp_path / "out").exists()


def test_it_goes_with_c_only(run_tinyc: Run, model: Path) -> None:
    answer = run_tinyc(model, "--target", "cortex-m4", "--stack", "--emit", "ir")
    assert answer.status == 2
    assert "--stack runs the C; it does not go with --emit ir" in answer.err
