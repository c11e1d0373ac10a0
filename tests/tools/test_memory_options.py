"""RAM as a user asks for it: --ram, --flash, --recompute, --pareto, --emit plot, and what the report says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import onnx
import pytest
from tinyc.tools.driver import Job, compile_job
from tinyc.tools.front import front_of
from tinyc.tools.limits import Limits, with_limits
from tinyc.tools.memory_plan import memory_plan
from tinyc.tools.plot import plot

from tinyir.diag import CompileError
from tinyir.parser import parse
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.registry import PIPELINES, load_plugins

from .conftest import Run, conv_net

DIGITS = Path(__file__).parents[2] / "examples" / "digits_cnn.onnx"


def reported(run_tinyc: Run, folder: Path, *options: str) -> dict[str, Any]:
    """What the report on the example says."""
    answer = run_tinyc(DIGITS, "-q", "-o", f"{folder}/", "--report", folder / "report.json", *options)
    assert answer.status == 0, answer.err
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


# -- limits ------------------------------------------------------------------------------------------------------------


def test_the_least_ram_is_less_than_layer_by_layer(run_tinyc: Run, tmp_path: Path) -> None:
    plain = reported(run_tinyc, tmp_path / "plain", "-O1")
    least = reported(run_tinyc, tmp_path / "least", "--ram", "min")
    assert least["arena_bytes"] < plain["arena_bytes"]
    assert least["macs"] == least["macs_layerwise"] == plain["macs"]
    assert plain["schedule"] == []
    assert any("stream" in line for line in least["schedule"])
    assert "--ram min" in (tmp_path / "least" / "digits_cnn.c").read_text()


@pytest.mark.parametrize("level", ["-O1", "-O2", "-O3", "-Os"])
def test_the_least_ram_is_the_same_at_every_level(level: str, run_tinyc: Run, tmp_path: Path) -> None:
    least = reported(run_tinyc, tmp_path / "least", "--ram", "min")["arena_bytes"]
    assert reported(run_tinyc, tmp_path / "other", "--ram", "min", level)["arena_bytes"] == least


def test_a_limit_takes_what_fits(run_tinyc: Run, tmp_path: Path) -> None:
    least = reported(run_tinyc, tmp_path / "least", "--ram", "min")["arena_bytes"]
    plain = reported(run_tinyc, tmp_path / "plain", "-O1")["arena_bytes"]
    between = (least + plain) // 2
    assert reported(run_tinyc, tmp_path / "between", "--ram", str(between))["arena_bytes"] <= between
    assert reported(run_tinyc, tmp_path / "exact", "--ram", str(least))["arena_bytes"] <= least


def test_what_does_not_fit_names_the_least_and_the_layers(run_tinyc: Run, tmp_path: Path) -> None:
    answer = run_tinyc(DIGITS, "--ram", "1K", "-o", f"{tmp_path}/out/")
    assert answer.status == 1
    assert "1,024 bytes" in answer.err
    assert "the smallest that was found has" in answer.err
    assert "what stops it is %" in answer.err
    assert not (tmp_path / "out").exists()


def test_flash_that_does_not_suffice(run_tinyc: Run, tmp_path: Path) -> None:
    answer = run_tinyc(DIGITS, "--flash", "8K", "-o", f"{tmp_path}/out/")
    assert answer.status == 1
    assert "8,192" in answer.err
    assert "the least that was found is about" in answer.err
    assert run_tinyc(DIGITS, "--flash", "1M", "-q", "-o", f"{tmp_path}/out/").status == 0


def test_text_that_is_scheduled_already_has_to_fit(run_tinyc: Run, tmp_path: Path) -> None:
    text = tmp_path / "net.tir"
    assert run_tinyc(DIGITS, "--ram", "min", "--emit", "ir", "--stop-after=schedule", "-q", "-o", text).status == 0
    assert run_tinyc(text, "--ram", "64K", "-q", "-o", f"{tmp_path}/out/").status == 0
    answer = run_tinyc(text, "--ram", "1K", "-o", f"{tmp_path}/other/")
    assert answer.status == 1
    assert "--ram 1K: the arena has" in answer.err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("option", "value"), [("--ram", "64Q"), ("--ram", "-1"), ("--flash", "lots"),
                                               ("--recompute", "much"), ("--recompute", "-3%")])
def test_wrong_limits_are_wrong_usage(run_tinyc: Run, option: str, value: str) -> None:
    answer = run_tinyc(DIGITS, f"{option}={value}")
    assert answer.status == 2
    assert "expected a" in answer.err


def test_limits_need_a_place_in_the_passes() -> None:
    load_plugins()
    with pytest.raises(CompileError, match="do not get that far"):
        with_limits(parse_pipeline("canonicalize"), Limits(ram="min"))


def test_limits_become_options_of_the_pass() -> None:
    load_plugins()
    passes = with_limits(parse_pipeline("canonicalize,lower-to-mem"), Limits(ram="64K", recompute="10%"))
    assert [p.name for p in passes] == ["canonicalize", "schedule", "lower-to-mem"]
    assert (passes[1].ram, passes[1].macs) == ("64K", "10%")  # type: ignore[attr-defined]


# -- the front ---------------------------------------------------------------------------------------------------------


def test_pareto_prints_the_front_and_writes_nothing(run_tinyc: Run, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run_tinyc(DIGITS, "--target", "cortex-m4", "--pareto", "-q")
    assert answer.status == 0
    head, *rows = answer.out.splitlines()
    assert head.split() == ["RAM", "MACs", "instructions", "flash", "schedule"]
    assert sum(row.startswith("  >") for row in rows) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_points_are_a_front(run_tinyc: Run, tmp_path: Path) -> None:
    report = reported(run_tinyc, tmp_path, "--target", "cortex-m4", "--ram", "min", "--pareto")
    points = report["points"]
    assert [p["peak_bytes"] for p in points] == sorted(p["peak_bytes"] for p in points)
    assert [p["chosen"] for p in points].count(True) == 1
    assert all(p["macs_factor"] >= 1 and p["instructions"] > 0 and p["flash_bytes"] > 0 for p in points)
    costs = [(p["peak_bytes"], p["instructions"], p["macs_again"]) for p in points]
    for one in costs:
        assert not any(other != one and all(a < b for a, b in zip(other, one, strict=True)) for other in costs)


# -- the report and the plan -------------------------------------------------------------------------------------------


def test_activations_and_scratch_are_the_arena(run_tinyc: Run, tmp_path: Path) -> None:
    report = reported(run_tinyc, tmp_path, "--target", "cortex-m4", "--ram", "min")
    assert report["activation_bytes"] + report["scratch_bytes"] == report["arena_bytes"]
    assert report["lower_bound_bytes"] <= report["arena_bytes"]
    assert report["input_streamed"] is False
    assert report["modelled_instructions"] > report["macs"]
    assert report["modelled_code_bytes"] > 0


def test_an_input_by_rows_is_streamed(run_tinyc: Run, tmp_path: Path) -> None:
    assert reported(run_tinyc, tmp_path, "--ram", "min", "--input", "rows")["input_streamed"] is True


def test_scratch_is_what_one_kernel_writes_and_nobody_reads() -> None:
    model = Path("net.onnx")
    onnx.save(conv_net(), model)
    compiled = compile_job(Job(str(model), target="cortex-m4"))
    plan = memory_plan(compiled.module, compiled.context.target)
    assert plan.arena_bytes == compiled.facts.arena_bytes
    assert plan.calls
    for slot in plan.slots:
        assert 0 <= slot.first <= slot.last < len(plan.calls)
        assert slot.offset + slot.bytes <= plan.arena_bytes
        assert not slot.scratch or slot.first == slot.last


def test_what_a_fold_carries_along_is_no_scratch() -> None:
    load_plugins()
    onnx.save(conv_net(), "net.onnx")
    module = compile_job(Job("net.onnx", passes=f"{_graph()},stream,lower-to-mem,plan-arena")).module
    folds = [op for op in module.walk() if getattr(op, "held", ())]
    assert folds
    held = {getattr(op, name).name for op in folds for name in op.held}  # type: ignore[attr-defined]
    assert not any(slot.scratch and slot.name in held for slot in memory_plan(module, Context().target).slots)


def _graph() -> str:
    return PIPELINES.get("O1").replace(",lower-to-mem,plan-arena", "")


# -- the drawing -------------------------------------------------------------------------------------------------------


def test_the_plot_is_one_file_that_needs_nothing_else(run_tinyc: Run, tmp_path: Path) -> None:
    path = tmp_path / "memory.svg"
    assert run_tinyc(DIGITS, "--target", "cortex-m4", "--ram", "min", "--emit", "plot", "-q", "-o", path).status == 0
    text = path.read_text()
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert "prefers-color-scheme: dark" in text
    assert "href" not in text
    assert "url(" not in text
    kinds = [element.get("class", "") for element in root.iter()]
    assert any("slot0" in kind for kind in kinds)
    assert "chosen" in kinds
    assert [p.name for p in tmp_path.iterdir()] == ["memory.svg"]


def test_a_plot_of_a_plan_alone(run_tinyc: Run, tmp_path: Path) -> None:
    answer = run_tinyc(DIGITS, "-p", f"{_graph()},lower-to-mem,plan-arena", "--emit", "plot", "-q", "-o", "-")
    assert answer.status == 0
    assert "The arena over time" in answer.out
    assert "Schedules that" not in answer.out


def test_nothing_to_draw(run_tinyc: Run) -> None:
    answer = run_tinyc(DIGITS, "-p", "canonicalize", "--emit", "plot", "-o", "-")
    assert answer.status == 1
    assert "nothing to draw" in answer.err


def test_names_are_escaped() -> None:
    assert "a &lt; b" in plot("a < b", None, None, "")


def test_no_front_without_the_pass() -> None:
    load_plugins()
    module = parse("module @m {level = graph} {\n  func @main(%x: tensor<2xf32>) -> tensor<2xf32> {\n"
                          "    nn.return(%x)\n  }\n}\n")
    context = Context()
    PassManager(parse_pipeline("canonicalize")).run(module, context)
    assert front_of(context, 0) is None
