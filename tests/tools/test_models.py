"""Every float model that the product is promised for: compiled, built without a warning, and equal to onnxruntime on
real data where there is some. Skipped where the models are not there."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from tinyc.tools.driver import Emission, Job, compile_job
from tinyc.tools.toolchain import STRICT, compile_objects, host_compiler

from ..bench.models import MODELS, Model
from .conftest import Run

QUICK = {"hello_world_f32", "kws_conv1d_f32", "kws_dscnn_bn_f32", "ad_autoencoder_f32"}
EACH = [pytest.param(m, id=m.name, marks=() if m.name in QUICK else pytest.mark.long) for m in MODELS.values()]
MOST_SAMPLES = 100
SCHEDULE_SECONDS = 10.0
"""What choosing a schedule may take on top."""


def need(model: Model) -> Path:
    if not model.path.is_file():
        pytest.skip("the shared models are not here")
    return model.path


@pytest.mark.parametrize("model", EACH)
def test_equals_onnxruntime(model: Model, run_check: Run, tmp_path: Path) -> None:
    path = need(model)
    arguments: list[object] = [path, "--json", "--samples", MOST_SAMPLES if model.data else 20]
    arrays = model.arrays()
    if arrays is not None:
        np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
        arguments += ["--data", tmp_path / "data.npz"]
    answer = run_check(*arguments)
    assert answer.status == 0, answer.err
    report = json.loads(answer.out)
    assert report["ok"] is True
    assert report["mismatches"] == 0
    if model.classifies:
        assert report["argmax_agreement"] == 1.0
    if model.labels is not None:
        assert report["accuracy"] == report["accuracy_ort"]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("model", EACH)
def test_builds_without_a_warning(model: Model, compiler: str, tmp_path: Path) -> None:
    path = need(model)
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    program = compile_job(Job(str(path))).c_program(Emission("net"))
    compile_objects(program.files, host_compiler(cc=compiler), tmp_path, ("-O2", *STRICT))


@pytest.mark.parametrize("model", EACH)
@pytest.mark.parametrize(("level", "more"), [("-O1", 0.0), ("-O2", SCHEDULE_SECONDS)])
def test_compiles_quickly(level: str, more: float, model: Model, run_tinyc: Run, tmp_path: Path) -> None:
    path = need(model)
    start = time.process_time()
    assert run_tinyc(path, level, "-o", f"{tmp_path}/out/", "-q").status == 0
    assert time.process_time() - start < model.seconds + more


@pytest.mark.parametrize("name", ["mnist_lstm_f32", "mnist_vit_f32"])
def test_what_is_not_supported_is_named(name: str, run_tinyc: Run, shared: Path, tmp_path: Path) -> None:
    answer = run_tinyc(shared / "models" / f"{name}.onnx", "-o", f"{tmp_path}/out/")
    assert answer.status == 1
    assert "not supported" in answer.err
    assert "operator" in answer.err
    assert not (tmp_path / "out").exists()
