"""The shared float models: each imports, and the interpreter agrees with onnxruntime on random inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.contract import same_bytes
from tinyir.diag import Unsupported
from tinyir.interp import run
from tinyir.ir import Array, Module
from tinyir.pass_manager import PassManager, parse_pipeline

MODELS = Path(__file__).parents[2].parent / "shared" / "models"
LARGE = ("face_slim320_f32", "mbv2_w035_144_f32", "proxyless_w030_176_f32")
UNSUPPORTED = {"mnist_lstm_f32": "recurrent layers: not yet", "mnist_vit_f32": "transformers: not yet",
               "mnist_vit_slim_f32": "transformers: not yet"}
FLOAT = sorted(path.stem for path in MODELS.glob("*_f32.onnx") if path.stem not in UNSUPPORTED)
INTEGER = sorted(path.stem for path in MODELS.glob("*.onnx") if not path.stem.endswith("_f32"))


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.long if n in LARGE else ()) for n in FLOAT])
def test_agrees_with_onnxruntime(name: str, import_onnx: Callable[..., Module],
                                 ort_run: Callable[..., list[Array]]) -> None:
    path = MODELS / f"{name}.onnx"
    module = import_onnx(path)
    rng = np.random.default_rng(3)
    inputs = [rng.standard_normal(a.shape).astype(np.float32) for a in module.main.inputs]
    for found, expected in zip(run(module, inputs), ort_run(path, inputs), strict=True):
        assert found.shape == expected.shape
        limit = 1e-5 * np.abs(expected).max() + 1e-4 * np.abs(expected)
        assert (np.abs(found - expected) <= limit).all()


@pytest.mark.parametrize("name", [n for n in UNSUPPORTED if (MODELS / f"{n}.onnx").exists()])
def test_names_what_is_not_supported_yet(name: str, import_onnx: Callable[..., Module]) -> None:
    with pytest.raises(Unsupported, match=UNSUPPORTED[name]):
        import_onnx(MODELS / f"{name}.onnx")


@same_bytes
@pytest.mark.parametrize("name", INTEGER)
def test_quantised_models_become_integer_ops(name: str, import_onnx: Callable[..., Module]) -> None:
    """Every byte of the outputs equals onnxruntime's integer path."""
    path = MODELS / f"{name}.onnx"
    module = import_onnx(path)
    PassManager(parse_pipeline("fuse-quantized")).run(module)
    assert module.level == "quant"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(3)
    inputs = [rng.integers(-128, 128, i.shape).astype(np.int8) if i.type == "tensor(int8)"
              else rng.normal(0, 1, i.shape).astype(np.float32) for i in session.get_inputs()]
    expected = session.run(None, dict(zip((i.name for i in session.get_inputs()), inputs, strict=True)))
    for found, wanted in zip(run(module, inputs), expected, strict=True):
        if name == "mnist_lenet300_int8":  # ends in a float LogSoftmax
            assert np.allclose(found, wanted, rtol=1e-5)
        else:
            assert np.array_equal(found, wanted)


def test_no_shape_arithmetic_is_left(import_onnx: Callable[..., Module]) -> None:
    path = MODELS / "textdir_mbv3_f32.onnx"  # a raw Paddle export: Constant nodes, a Shape-Slice-Cast-Concat tail
    if not path.exists():
        pytest.skip("the shared models are not here")
    module = import_onnx(path)
    assert all(value.type.dtype.name == "f32" for op in module.walk() for value in op.results)
