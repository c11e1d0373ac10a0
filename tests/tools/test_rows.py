"""`--input rows` through the tools: what is checked and measured asks for the input row by row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tinyc.tools.driver import Emission, Job, compile_job
from tinyc.tools.emulator import emulators_present
from tinyc.tools.harness import run_on_host
from tinyc.tools.samples import random_samples
from tinyc.tools.toolchain import host_compiler, routes_present

from tinyir.diag import CompileError

from .conftest import Run

CALL = b"fill(user, row, "


def test_check(run_check: Run, model: Path) -> None:
    report = json.loads(run_check(model, "--input", "rows", "--json", "--layers").out)
    assert report["ok"] is True
    assert report["layers"]["first_wrong"] is None


@pytest.mark.skipif(not routes_present("cortex-m4") or not emulators_present(), reason="no cross compiler, no emulator")
def test_on_the_emulated_core(run_check: Run, model: Path) -> None:
    assert run_check(model, "--input", "rows", "--target", "cortex-m4", "--samples", "2").status == 0


def test_compiler_records_the_option(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    assert run_tinyc(model, "--input", "rows", "-o", f"{tmp_path}/").status == 0
    names = sorted(file.name for file in tmp_path.glob("tiny*.[ch]"))
    assert names == ["tiny.c", "tiny.h", "tiny_weights.c"]
    header = (tmp_path / "tiny.h").read_text()
    assert "--input rows" in header
    assert "int tiny_run_rows(tiny_row row, void *user, float *logits);" in header
    assert "#define TINY_IMAGE_SHAPE {1, 12, 10, 3}" in header


@pytest.mark.parametrize("options", [(), ("--ram", "min")])
def test_input_in_the_arena(run_check: Run, run_tinyc: Run, model: Path, options: tuple[str, ...],
                            tmp_path: Path) -> None:
    assert run_tinyc(model, "--input", "arena", "--check", *options, "-o", f"{tmp_path}/").status == 0
    assert "float *tiny_input(void);" in (tmp_path / "tiny.h").read_text()
    assert run_check(model, "--input", "arena", "--layers", "--samples", "2").status == 0


def test_columns_are_no_choice(model: Path) -> None:
    passes = "layout-nhwc,schedule{scan=columns},lower-to-mem,plan-arena"
    compiled = compile_job(Job(str(model), passes=passes, input="rows"))
    assert "bytes-by-columns" not in compiled.context.stats["schedule"]


@pytest.mark.parametrize("text", ["row + 1", "0"])
def test_wrong_order_is_noticed(model: Path, text: str) -> None:
    compiled = compile_job(Job(str(model), input="rows"))
    program = compiled.c_program(Emission("tiny"))
    wrong = program.files["tiny.c"].replace(CALL, f"fill(user, {text}, ".encode())
    assert wrong != program.files["tiny.c"]
    with pytest.raises(CompileError, match="returned 1, not 0"):
        run_on_host(replace(program, files={**program.files, "tiny.c": wrong}),
                    random_samples(program.inputs, 1).inputs, compiler=host_compiler())


@pytest.mark.parametrize("ram", ["min", "64K"])
def test_with_a_schedule(run_check: Run, run_tinyc: Run, model: Path, ram: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert run_tinyc(model, "--input", "rows", "--ram", ram, "--check", "--report", report).status == 0
    assert json.loads(report.read_text())["input_streamed"] is True


def test_text_that_is_scheduled(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    text = tmp_path / "net.tir"
    assert run_tinyc(model, "--input", "rows", "--emit", "ir", "--stop-after=pull-input", "-o", text).status == 0
    assert run_tinyc(text, "-o", f"{tmp_path}/").status == 0
    assert "net_run_rows" in (tmp_path / "net.h").read_text()
    answer = run_tinyc(text, "--input", "rows", "-o", f"{tmp_path}/")
    assert answer.status == 1
    assert "it is settled how inputs come" in answer.err
