"""The graph part of the pipelines on the shared quantised models: no byte changes, no inner transpose stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinyir.instrument import VerifyEach
from tinyir.interp import run
from tinyir.ir import Array, Module
from tinyir.ops import Pad, Transpose
from tinyir.pass_manager import PassManager, parse_pipeline
from tinyir.registry import FRONTENDS

# Transposes that stay at -O1: of inputs and outputs that the model file has as NCHW.
TRANSPOSES = {
    "ad_autoencoder_int8": 0, "hello_world_int8": 0, "kws_dscnn_int8": 0, "kws_dscnn_int8_tf2onnx": 0,
    "mbv2_w035_144_ortq_int8": 1, "mcunet_det_int8": 4, "mcunetv2_large_int8": 1, "micro_kws_qop_int8": 0,
    "micro_speech_int8": 0, "mnist_lenet300_int8": 0, "resnet8_int8": 0, "resnet8_ortq_u8s8": 0,
    "vww_mobilenetv1_int8": 0,
}
LARGE = ("mcunetv2_large_int8", "mbv2_w035_144_ortq_int8", "mcunet_det_int8")


def _load(shared: Path, name: str) -> Module:
    module: Module = FRONTENDS.get("onnx")(str(shared / "models" / f"{name}.onnx"))
    return module


def _graph_part(level: str) -> str:
    return ",".join(str(p) for p in parse_pipeline(level)).partition(",lower-to-mem")[0]


def random_input(module: Module, seed: int) -> list[Array]:
    """Normal numbers for floats, all stored values for integers."""
    rng = np.random.Generator(np.random.PCG64(seed))
    inputs: list[Array] = []
    for argument in module.main.inputs:
        dtype = argument.type.dtype
        inputs.append(rng.normal(0, 1, argument.shape).astype(dtype.numpy) if dtype.is_float else
                      rng.integers(*dtype.range, argument.shape, endpoint=True).astype(dtype.numpy))
    return inputs


@pytest.mark.parametrize("name", sorted(TRANSPOSES))
def test_transposes(name: str, shared: Path) -> None:
    module = _load(shared, name)
    PassManager(parse_pipeline(_graph_part("O1"))).run(module)
    assert sum(isinstance(op, Transpose) for op in module.walk()) == TRANSPOSES[name]
    assert not [op for op in module.walk() if isinstance(op, Pad)]


@pytest.mark.parametrize("level", ["O0", "O2"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.long] * (n in LARGE)) for n in sorted(TRANSPOSES)])
def test_bytes(name: str, level: str, shared: Path) -> None:
    before, after = _load(shared, name), _load(shared, name)
    PassManager(parse_pipeline("fuse-quantized")).run(before)
    PassManager(parse_pipeline(_graph_part(level)), [VerifyEach()]).run(after)
    inputs = random_input(before, 1)
    for found, wanted in zip(run(after, inputs), run(before, inputs), strict=True):
        np.testing.assert_array_equal(found, wanted)
