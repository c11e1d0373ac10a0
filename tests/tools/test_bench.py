"""tinyc-bench: what it counts, that its two emulators agree, and what it says where a tool is missing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tinyc.tools import emulator, tinyc_bench
from tinyc.tools.bench import BenchSettings, measure_core
from tinyc.tools.bench_report import BenchReport, LayerFigures
from tinyc.tools.cli import Progress
from tinyc.tools.driver import Emission, Job, compile_job
from tinyc.tools.emulator import emulators_present, run_on_target
from tinyc.tools.samples import random_samples
from tinyc.tools.toolchain import core_compiler, routes_present

from .conftest import Answer, Run, _runner

FIELDS = {"model", "target", "opt", "instructions", "cycles", "macs", "arena_bytes", "stack_bytes", "code_bytes",
          "const_bytes", "layers"}


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls `tinyc-bench` in this process."""
    return _runner(tinyc_bench.main, capsys)


def need(*names: str, core: str = "cortex-m4") -> None:
    missing = set(names) - set(emulators_present())
    if missing or not routes_present(core):
        pytest.skip(f"not installed: {', '.join(sorted(missing)) or f'a compiler for {core}'}")


def figures(answer: Answer) -> dict[str, Any]:
    assert answer.status == 0, answer.err
    found: dict[str, Any] = json.loads(answer.out)
    return found


def test_json_has_every_figure(bench: Run, model: Path) -> None:
    need("unicorn")
    found = figures(bench(model, "--target", "cortex-m4", "--json"))
    assert set(found) >= FIELDS
    assert (found["model"], found["target"], found["opt"]) == ("tiny.onnx", "cortex-m4", "-O2")
    assert 1 < found["instructions"] / found["macs"] < 10
    assert found["instructions"] < found["cycles"] < 3 * found["instructions"]
    assert 0 < found["stack_bytes"] < 2048
    assert 500 < found["code_bytes"] < 20_000
    assert found["const_bytes"] >= 4 * (8 * 27 + 8 + 72 + 8 + 40 + 5)
    assert set(found["layers"][0]) >= {"name", "op", "macs", "instructions"}


def test_layers_add_up(bench: Run, model: Path) -> None:
    need("unicorn")
    found = figures(bench(model, "-O1", "--target", "cortex-m4", "--json"))
    ops = [layer["op"] for layer in found["layers"]]
    assert ops == ["k.transpose", "k.conv2d_f32", "k.depthwise_conv2d_f32", "k.reduce", "k.dense_f32"]
    assert found["layers"][1]["name"] == "conv1, norm1, relu1"
    total = sum(layer["instructions"] for layer in found["layers"])
    assert found["instructions"] - 100 < total <= found["instructions"]
    assert sum(layer["cycles"] for layer in found["layers"]) <= found["cycles"]
    assert all(layer["instructions"] >= layer["macs"] for layer in found["layers"])
    assert all(0 < layer["hot_bytes"] < found["code_bytes"] for layer in found["layers"])


@pytest.mark.parametrize("level", ["1", "2", "3"])
def test_marks_cost_next_to_nothing(model: Path, level: str) -> None:
    need("unicorn")
    compiled = compile_job(Job(str(model), target="cortex-m4", level=level))
    measured = measure_core(compiled, "net", BenchSettings(emulator="unicorn"), Progress("test", enabled=False))
    program = compiled.c_program(Emission("net"))
    plain = run_on_target(program, random_samples(program.inputs, 1).inputs, "cortex-m4", emulator="unicorn",
                          flags=("-std=c99", f"-O{level}"))
    assert measured.instructions == pytest.approx(plain.instructions, rel=2e-3)  # rows are marked one by one


def test_both_emulators_count_alike(bench: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("qemu", "unicorn")
    monkeypatch.delenv("TINYC_EMULATOR", raising=False)
    found = figures(bench(model, "--target", "cortex-m4", "--json"))
    assert found["ran_on"] == "qemu+unicorn"
    monkeypatch.setenv("TINYC_EMULATOR", "unicorn")
    assert figures(bench(model, "--target", "cortex-m4", "--json"))["ran_on"] == "unicorn"
    monkeypatch.delenv("TINYC_EMULATOR")
    assert abs(found["instructions"] - found["instructions_qemu"]) <= 40  # a tick of the board's timer
    alone = figures(bench(model, "--target", "cortex-m4", "--json", "--emulator", "qemu"))
    assert abs(found["instructions"] - alone["instructions"]) <= 40
    assert alone["stack_bytes"] == pytest.approx(found["stack_bytes"], abs=64)
    for one, other in zip(found["layers"], alone["layers"], strict=True):
        assert abs(one["instructions"] - other["instructions"]) <= 80


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m7", "cortex-m33", "cortex-m55", "rv32imc"])
def test_other_cores(bench: Run, model: Path, core: str) -> None:
    need("qemu" if core == "cortex-m55" else "unicorn", core=core)
    found = figures(bench(model, "--target", core, "--json"))
    assert found["target"] == core
    assert (found["cycles"] is not None) == (core == "cortex-m0plus")
    total = sum(layer["instructions"] for layer in found["layers"])
    assert total == pytest.approx(found["instructions"], rel=0.03)


def test_report_for_people(bench: Run, model: Path) -> None:
    need("unicorn")
    answer = bench(model, "--target", "cortex-m4", "--layers", "-O3")
    assert answer.out.startswith("tiny.onnx: -O3, cortex-m4 (")
    for row in ("MACs", "instructions", "modelled cycles", "arena", "stack", "code", "constants"):
        assert re.search(rf"^  {row} +[\d,]+", answer.out, re.MULTILINE), row
    assert re.search(r"^ +1  k.conv2d_f32 .* %", answer.out, re.MULTILINE)


def test_flags_of_the_user_reach_the_compiler(bench: Run, model: Path) -> None:
    need("unicorn")
    large = figures(bench(model, "--target", "cortex-m4", "--json", "--cflags", "-O3 -funroll-loops"))
    small = figures(bench(model, "--target", "cortex-m4", "--json", "--cflags", "-Os"))
    assert large["flags"].endswith("-O3 -funroll-loops")
    assert small["code_bytes"] < large["code_bytes"]
    answer = bench(model, "--target", "cortex-m4", "--cc", "no-such-compiler")
    assert answer.status == 1
    assert "there is no program 'no-such-compiler'" in answer.err


def test_integers_at_the_boundary(bench: Run, shared: Path) -> None:
    need("unicorn")
    path = shared / "models" / "mnist_lenet300_int8.onnx"
    floats = figures(bench(path, "--target", "cortex-m4", "--json"))
    integers = figures(bench(path, "--target", "cortex-m4", "--json", "--io", "int8"))
    assert integers["instructions"] < floats["instructions"]


def test_host_beside_onnxruntime(bench: Run, model: Path) -> None:
    found = figures(bench(model, "-O1", "--target", "host", "--peer", "ort", "--json"))
    assert found["instructions"] is None
    assert found["peer"] == "onnxruntime"
    assert found["peer_ratio"] == pytest.approx(found["seconds"] / found["peer_seconds"], rel=0.01)
    assert found["code_bytes"] > 500
    assert [layer["instructions"] for layer in found["layers"]] == [None] * 5
    answer = bench(model, "--target", "host", "--peer", "ort")
    assert re.search(r"onnxruntime +[\d.]+ +ours is [\d.]+ of it", answer.out)


def test_wrong_usage(bench: Run, model: Path) -> None:
    assert bench(model, "--peer", "ort", "--target", "cortex-m4").status == 2
    assert bench("part.tir", "--peer", "ort").status == 2
    assert bench().status == 2
    answer = bench(model, "--target", "cortex-m44")
    assert answer.status == 2
    assert "cortex-m" in answer.err
    assert bench("none.onnx").status == 1


def test_missing_emulators_are_named(bench: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "emulators_present", lambda: ["unicorn"])
    answer = bench(model, "--target", "cortex-m55")
    assert answer.status == 1
    assert "cortex-m55 needs qemu-system-arm, which was not found" in answer.err
    monkeypatch.setattr(emulator, "emulators_present", lambda: ["qemu"])
    answer = bench(model, "--target", "rv32imc")
    assert "rv32imc needs PyPI's unicorn, which was not found" in answer.err
    monkeypatch.setattr(emulator, "emulators_present", list)
    assert "no emulator was found" in bench(model, "--target", "cortex-m4").err


def test_lists_and_version(bench: Run) -> None:
    targets = bench("--list-targets").out
    assert all(name in targets for name in ("host", "generic", "cortex-m0plus", "cortex-m55", "rv32imc"))
    assert bench("--version").out.startswith("tinyc-bench ")


def test_large_hot_code_is_pointed_out() -> None:
    layer = LayerFigures(0, "conv", "k.conv2d_s8", 10, 100, 120, 5, 900)
    report = BenchReport("m.onnx", "cortex-m4", "-O3", 10, 1, 2, 3, "gcc", "-O3", 200, layers=(layer,))
    assert "hot code above" not in report.text(layers=True)
    large = replace(report, layers=(layer, replace(layer, number=1, hot_bytes=1100)))
    assert "hot code above 1024 bytes, a small flash cache: layers 1" in large.text(layers=True)


def test_compiler_of_each_core() -> None:
    for core in ("cortex-m0plus", "cortex-m4", "cortex-m33", "cortex-m55"):
        if "system" in routes_present(core):
            assert str(core_compiler(core, prefer="system")) == "arm-none-eabi-gcc"
