"""Every tensor of the shared quantised models: the interpreter beside onnxruntime, the C beside the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tinyc.tools.all_tensors import compare_all, compare_c
from tinyc.tools.driver import Emission, Job, compile_job

from tests.contract import same_bytes
from tinyir.ir import Array, Module
from tinyir.ops import QConv2D
from tinyir.pass_manager import PassManager, parse_pipeline
from tinyir.registry import FRONTENDS

MODELS = Path(__file__).parents[2].parent / "shared" / "models"
NAMES = sorted(path.stem for path in MODELS.glob("*.onnx") if not path.stem.endswith("_f32"))
LARGE = ("mcunetv2_large_int8", "mbv2_w035_144_ortq_int8", "mcunet_det_int8")
NO_KERNEL = {"mcunetv2_large_int8": 28, "mnist_lenet300_int8": 1}  # ReduceMean nodes; LogSoftmax
IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))
Prepare = Callable[[Array], Array]
REAL: dict[str, tuple[str, str, Prepare]] = {
    "resnet8_int8": ("cifar10_test500", "x", lambda x: (x.astype(np.int16) - 128).astype(np.int8)),
    "resnet8_ortq_u8s8": ("cifar10_test500", "x", lambda x: x.astype(np.float32)),
    "kws_dscnn_int8": ("kws_speech_commands180", "x", lambda x: _stored(x, 0.584702909, 83)),
    "kws_dscnn_int8_tf2onnx": ("kws_speech_commands180", "x", lambda x: _stored(x, 0.584702909, 83)),
    "micro_kws_qop_int8": ("micro_features180", "x", lambda x: x),
    "micro_speech_int8": ("micro_features180", "x", lambda x: _stored(x, 0.101715684, -128)),
    "vww_mobilenetv1_int8": ("person_images_96", "x", lambda x: (x.astype(np.int16) - 128).astype(np.int8)),
    "mnist_lenet300_int8": ("mnist_test500", "x", lambda x: (x[..., None] / 255).astype(np.float32)),
    "mcunet_det_int8": ("det_images_160x128", "x", lambda x: np.moveaxis(
        (x / 255 - IMAGENET[0]) / IMAGENET[1], -1, 1).astype(np.float32)),
}
"""Model -> file and array of the shared data, and what is done to all samples before the model sees them."""
PARAMETERS = [pytest.param(name, marks=[pytest.mark.long] * (name in LARGE)) for name in NAMES]


def _load(name: str, level: str = "O1") -> Module:
    """The module as it is before lower-to-mem."""
    module: Module = FRONTENDS.get("onnx")(str(MODELS / f"{name}.onnx"))
    pipeline = ",".join(str(p) for p in parse_pipeline(level)).partition(",lower-to-mem")[0]
    PassManager(parse_pipeline(pipeline)).run(module)
    return module


def random_samples(module: Module, count: int, seed: int = 0) -> list[tuple[Array, ...]]:
    rng = np.random.Generator(np.random.PCG64(seed))
    return [tuple(_random(a.shape, a.type.dtype.numpy, rng, spread) for a in module.main.inputs)
            for spread in np.linspace(0.3, 3, count)]


def _random(shape: tuple[int, ...], dtype: np.dtype[np.generic], rng: np.random.Generator, spread: float) -> Array:
    if dtype.kind == "f":
        return rng.normal(0, spread, shape).astype(dtype)
    info = np.iinfo(dtype)  # type: ignore[type-var]
    return rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype)


@same_bytes
@pytest.mark.parametrize("level", ["O0", "O1"])
@pytest.mark.parametrize("name", PARAMETERS)
def test_interpreter_and_onnxruntime(name: str, level: str) -> None:
    module = _load(name, level)
    report = compare_all(MODELS / f"{name}.onnx", module, random_samples(module, 2))
    assert (report.mismatches, report.first_mismatch) == (0, None)
    assert len(report.no_integer_kernel) == NO_KERNEL.get(name, 0)
    assert report.float_route <= 0.004 * report.values
    assert report.tensors >= 3
    assert len(report.unmatched) <= 1


@same_bytes
@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_interpreter_and_onnxruntime_on_many_inputs(name: str) -> None:
    """1000 below a million multiplications, 20 below thirty millions, 2 above."""
    module = _load(name)
    macs = sum(op.macs() for op in module.walk())
    count = 1000 if macs < 10**6 else 20 if macs < 30 * 10**6 else 2
    report = compare_all(MODELS / f"{name}.onnx", module, random_samples(module, count))
    assert (report.mismatches, report.first_mismatch) == (0, None)


@same_bytes
@pytest.mark.long
@pytest.mark.parametrize("name", sorted(REAL))
def test_interpreter_and_onnxruntime_on_real_data(name: str) -> None:
    module = _load(name)
    report = compare_all(MODELS / f"{name}.onnx", module, [(row,) for row in _real_data(name, module)])
    assert (report.mismatches, report.first_mismatch) == (0, None)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(REAL))
def test_c_and_interpreter_on_real_data(name: str) -> None:
    compiled = compile_job(Job(str(MODELS / f"{name}.onnx"), layerwise=True))
    report = compare_c(compiled, Emission("model"), [(row,) for row in _real_data(name, compiled.module)])
    assert (report.mismatches, report.first_mismatch) == (0, None)


def _stored(x: Array, scale: float, zero: int) -> Array:
    return np.clip(np.rint(x / np.float32(scale) + zero), -128, 127).astype(np.int8)


def _real_data(name: str, module: Module) -> Array:
    """All samples of the file, each as the model takes it."""
    file, key, prepare = REAL[name]
    with np.load(MODELS.parent / "data" / f"{file}.npz") as archive:
        rows = prepare(archive[key])
    return rows.reshape(len(rows), *module.main.inputs[0].shape)


@same_bytes
@pytest.mark.skipif(not NAMES, reason="the shared models are not here")
def test_finds_the_first_layer_that_differs() -> None:
    """One bias of the second convolution of resnet8 is wrong by a little."""
    module = _load("resnet8_int8")
    layer = [op for op in module.walk() if isinstance(op, QConv2D)][1]
    assert layer.bias is not None
    wrong = np.array(layer.bias.data)
    wrong[3] += 5000
    layer.replace_operand(2, module.add_const("wrong", wrong, type_=layer.bias.type))
    report = compare_all(MODELS / "resnet8_int8.onnx", module, random_samples(module, 1))
    assert report.mismatches > 0
    assert report.first_mismatch is not None
    assert report.first_mismatch.startswith("Conv_1")


@pytest.mark.parametrize("name", PARAMETERS)
def test_c_and_interpreter(name: str) -> None:
    compiled = compile_job(Job(str(MODELS / f"{name}.onnx"), layerwise=True))
    report = compare_c(compiled, Emission("model"), random_samples(compiled.module, 2))
    assert (report.mismatches, report.first_mismatch) == (0, None)
    assert report.tensors >= 3
