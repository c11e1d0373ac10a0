"""`tinyc-check` and `tinyc --check`: verdicts, data files, layers, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from tinyc.tools import check, harness
from tinyc.tools.compare import argmax_agreement, compare_arrays
from tinyc.tools.harness import Run as HostRun
from tinyc.tools.program import Port
from tinyc.tools.samples import Transform, load_samples, random_samples

from tinyir.diag import CompileError
from tinyir.types import F32, I8

from .conftest import Run, conv_net, two_ports

KEYS = {"model", "target", "inputs", "values", "mismatches", "max_abs_error", "max_rel_error", "argmax_agreement",
        "arena_bytes", "const_bytes", "ok"}


def test_equal(run_check: Run, model: Path) -> None:
    answer = run_check(model)
    assert answer.status == 0
    assert "check ok: 20 random inputs" in answer.out


@pytest.mark.parametrize("level", ["0", "1", "2", "3", "s"])
def test_every_level(run_check: Run, model: Path, level: str) -> None:
    assert run_check(model, f"-O{level}").status == 0


def test_json(run_check: Run, model: Path) -> None:
    report = json.loads(run_check(model, "--json", "--samples", "3").out)
    assert set(report) >= KEYS
    assert (report["model"], report["inputs"], report["values"]) == ("tiny.onnx", 3, 15)
    assert report["ok"] is True
    assert report["mismatches"] == 0
    assert report["argmax_agreement"] == 1.0


def test_two_inputs_and_outputs(run_check: Run, tmp_path: Path) -> None:
    onnx.save(two_ports(), str(tmp_path / "two.onnx"))
    report = json.loads(run_check(tmp_path / "two.onnx", "--json").out)
    assert [output["name"] for output in report["outputs"]] == ["total", "y"]
    assert report["ok"] is True


def test_symbolic_batch(run_check: Run, tmp_path: Path) -> None:
    onnx.save(conv_net("N"), str(tmp_path / "batch.onnx"))
    assert run_check(tmp_path / "batch.onnx").status == 0


def test_layers(run_check: Run, model: Path) -> None:
    answer = run_check(model, "--layers", "--json")
    layers = json.loads(answer.out)["layers"]
    assert layers["first_wrong"] is None
    assert layers["compared"] >= 3
    assert [layer["tensor"] for layer in layers["all"]][-1] == "logits"


def test_layers_name_the_first_wrong_one(run_check: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinyc.tools import layers

    original = layers.record

    def broken(*arguments: object) -> list[list[np.ndarray]]:
        recorded = original(*arguments)  # type: ignore[arg-type]
        return [[a if i < 2 else a + 1 for i, a in enumerate(row)] for row in recorded]

    monkeypatch.setattr(layers, "record", broken)
    answer = run_check(model, "--layers", "-O0")
    compared = [line for line in answer.out.splitlines() if "first layer that differs" in line]
    assert "differs: 2" in compared[0] or "differs: 3" in compared[0]


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_input_layout(run_check: Run, run_tinyc: Run, model: Path, tmp_path: Path, layout: str) -> None:
    assert run_check(model, "--input-layout", layout).status == 0
    assert run_tinyc(model, "--input-layout", layout, "-o", f"{tmp_path}/out/").status == 0
    wanted = "{1, 12, 10, 3}" if layout == "nhwc" else "{1, 3, 12, 10}"
    assert wanted in (tmp_path / "out/tiny.h").read_text()


def test_difference_is_status_1(run_check: Run, run_tinyc: Run, model: Path, tmp_path: Path,
                                monkeypatch: pytest.MonkeyPatch) -> None:
    original = check.run_on_host

    def wrong(*arguments: object, **keywords: object) -> HostRun:
        run = original(*arguments, **keywords)  # type: ignore[arg-type]
        return HostRun([(outputs[0] + 0.5,) for outputs in run.outputs])

    monkeypatch.setattr(check, "run_on_host", wrong)
    answer = run_check(model)
    assert answer.status == 1
    assert "check FAILED" in answer.out
    assert run_tinyc(model, "--check", "-o", f"{tmp_path}/out/").status == 1


def test_c_that_crashes_is_our_bug(run_check: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*arguments: object, **keywords: object) -> HostRun:
        raise harness.failure("the C of tiny crashed on the host")

    monkeypatch.setattr(check, "run_on_host", crash)
    answer = run_check(model)
    assert answer.status == 70
    assert "run it again with: tinyc tiny.crash.tir" in answer.err
    assert Path("tiny.crash.tir").exists()


def test_check_with_caller_arena_and_sections(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    answer = run_tinyc(model, "--check", "--arena", "caller", "--hooks", "--section", "weights=.nn", "-o",
                       f"{tmp_path}/out/")
    assert answer.status == 0
    assert "check ok" in answer.err


def test_data_file(run_check: Run, model: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 12, 10)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", x=images, y=np.zeros(6, np.int64))
    report = json.loads(run_check(model, "--data", tmp_path / "data.npz", "--json", "--scale", "0.01").out)
    assert report["inputs"] == 6
    assert report["accuracy"] == report["accuracy_ort"]
    assert report["data"] == "6 samples of data.npz"


def test_data_beside_the_model_is_found(run_check: Run, model: Path) -> None:
    np.savez(model.with_name("tiny_test.npz"), image=np.ones((4, 1, 3, 12, 10), np.float32))
    assert json.loads(run_check(model, "--json").out)["data"] == "4 samples of tiny_test.npz"


@pytest.mark.parametrize(("arrays", "arguments", "said"), [
    ({"imagee": np.ones((2, 3, 12, 10))}, [], "no array for the input 'image'"),
    ({"x": np.ones((2, 3, 12, 11))}, [], "takes 1x3x12x10"),
    ({"x": np.array(["a", "b"])}, [], "not numbers"),
    ({"x": np.ones((2, 3, 12, 10))}, ["--labels", "class"], "no array 'class'"),
    ({"x": np.ones((2, 3, 12, 10)), "y": np.ones(3)}, ["--labels", "y"], "3 labels for 2 samples"),
])
def test_bad_data(run_check: Run, model: Path, tmp_path: Path, arrays: dict[str, np.ndarray], arguments: list[str],
                  said: str) -> None:
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
    answer = run_check(model, "--data", tmp_path / "data.npz", *arguments)
    assert answer.status == 1
    assert said in answer.err


def test_data_that_is_no_archive(run_check: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(b"PK\x03\x04 broken")
    assert "cannot read" in run_check(model, "--data", tmp_path / "data.npz").err
    np.save(tmp_path / "one.npy", np.ones(3))
    assert "not an archive" in run_check(model, "--data", tmp_path / "one.npy").err
    assert run_check(model, "--data", tmp_path / "none.npz").status == 1


def test_cc_and_cflags(run_check: Run, model: Path) -> None:
    assert run_check(model, "--cc", "no-such-compiler").status == 1
    answer = run_check(model, "--cflags", "--no-such-flag")
    assert answer.status == 1
    assert "check --cflags" in answer.err
    assert run_check(model, "--cflags", "-O3 -ffp-contract=fast").status == 0


# -- the parts ---------------------------------------------------------------------------------------------------------


def test_bound_is_absolute_and_relative() -> None:
    want = np.array([1.0, 0.0, -2.0], np.float32)
    assert compare_arrays(want, want).worst == 0
    just_inside = np.array([1.0, 1.9e-5, -2.0], np.float32)
    assert compare_arrays(just_inside, want).ok
    outside = np.array([1.0, 2.2e-5, -2.0], np.float32)
    assert compare_arrays(outside, want).mismatches == 1


def test_values_that_are_not_finite() -> None:
    want = np.array([np.nan, np.inf, 1.0], np.float32)
    assert compare_arrays(want.copy(), want).ok
    assert compare_arrays(np.array([0.0, np.inf, 1.0], np.float32), want).mismatches == 1
    assert compare_arrays(np.array([np.nan, 1.0, np.nan], np.float32), want).mismatches == 2


def test_integers_are_compared_exactly() -> None:
    want = np.array([1, 2, 3], np.int8)
    assert compare_arrays(want, want).ok
    found = compare_arrays(np.array([1, 2, 5], np.int8), want)
    assert (found.mismatches, found.max_abs_error) == (1, 2.0)


def test_argmax() -> None:
    a, b = np.array([0.1, 0.9]), np.array([0.8, 0.2])
    assert argmax_agreement([(a,), (b,)], [(a,), (a,)]) == 0.5


def test_random_samples_are_always_the_same() -> None:
    ports = [Port("a", (2, 2), F32), Port("b", (3,), I8)]
    first, second = random_samples(ports), random_samples(ports)
    assert len(first.inputs) == 20
    np.testing.assert_array_equal(first.inputs[7][0], second.inputs[7][0])
    assert first.inputs[0][1].dtype == np.int8


def test_transform(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.full((2, 4), 255, np.uint8))
    found = load_samples(tmp_path / "d.npz", [Port("input", (1, 4), F32)], transform=Transform(2 / 255, -1.0))
    np.testing.assert_array_equal(found.inputs[1][0], np.ones((1, 4), np.float32))
    with pytest.raises(CompileError, match="has shape"):
        load_samples(tmp_path / "d.npz", [Port("input", (1, 5), F32)])
