"""Small ONNX models that the tests of the tools make for themselves, and a way to run the programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tinyc.tools import tinyc, tinyc_check, tinyc_opt, tinyc_plan


def make_model(nodes: Sequence[onnx.NodeProto], inputs: dict[str, Sequence[Any]], outputs: dict[str, Sequence[Any]],
               weights: dict[str, Any]) -> onnx.ModelProto:
    """A float model with opset 17."""
    def infos(ports: dict[str, Sequence[Any]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ports.items()]

    graph = helper.make_graph(list(nodes), "tiny", infos(inputs), infos(outputs),
                              [numpy_helper.from_array(np.asarray(a, np.float32), n) for n, a in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def conv_net(batch: int | str = 1) -> onnx.ModelProto:
    """Convolution, normalisation, activation, pooling, a dense layer: one of everything that a classifier has."""
    rng = np.random.default_rng(7)
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["c1", "s", "t", "m", "v"], ["n1"], "norm1"),
        helper.make_node("Relu", ["n1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "conv2", pads=[1, 1, 1, 1], group=8),
        helper.make_node("Clip", ["c2", "low", "high"], ["r2"], "clip2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], "dense", transB=1),
    ]
    weights = {
        "w1": rng.normal(size=(8, 3, 3, 3)), "b1": rng.normal(size=8), "s": rng.uniform(0.5, 1.5, 8),
        "t": rng.normal(size=8), "m": rng.normal(size=8), "v": rng.uniform(0.5, 1.5, 8),
        "w2": rng.normal(size=(8, 1, 3, 3)), "low": np.float32(0), "high": np.float32(6),
        "w3": rng.normal(size=(5, 8)), "b3": rng.normal(size=5),
    }
    return make_model(nodes, {"image": [batch, 3, 12, 10]}, {"logits": [batch, 5]}, weights)


def two_ports() -> onnx.ModelProto:
    """Two inputs and two outputs."""
    nodes = [helper.make_node("Add", ["a", "b"], ["total"], "add"), helper.make_node("Tanh", ["total"], ["y"], "tanh")]
    return make_model(nodes, {"a": [2, 3], "b": [2, 3]}, {"total": [2, 3], "y": [2, 3]}, {})


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty directory: what appears without -o appears there."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The file of `conv_net`."""
    path = tmp_path / "tiny.onnx"
    onnx.save(conv_net(), str(path))
    return path


@dataclass(frozen=True)
class Answer:
    """What a program said."""

    status: int
    out: str
    err: str


Run = Callable[..., Answer]


def _runner(main: Callable[[Sequence[str]], int], capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> Answer:
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return Answer(status, captured.out, captured.err)

    return run


@pytest.fixture
def run_tinyc(capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls `tinyc` in this process."""
    return _runner(tinyc.main, capsys)


@pytest.fixture
def run_opt(capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls `tinyc-opt` in this process."""
    return _runner(tinyc_opt.main, capsys)


@pytest.fixture
def run_check(capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls `tinyc-check` in this process."""
    return _runner(tinyc_check.main, capsys)


@pytest.fixture
def run_plan(capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls `tinyc-plan` in this process."""
    return _runner(tinyc_plan.main, capsys)
