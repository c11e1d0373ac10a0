"""Honest bytes: no call touches anything but its operands, and nothing is read before it is written, by the sanitizers
of gcc and clang and with noise in all bytes that hold nothing; streamed networks with all that they have.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinyir.interp import run
from tinyir.ir import Array, Module
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.registry import FRONTENDS, PIPELINES
from tinyir.target import target_named

from ..passes.test_stream import made
from .guarded import BUILDS, Build, run_guarded
from .harness import run_c
from .test_pull import LOWER, images, lowered, net

MODELS = Path(__file__).resolve().parents[2].parent / "shared" / "models"
QUICK = ("kws_dscnn_int8",)
MORE = ("resnet8_int8", "vww_mobilenetv1_int8", "mbv2_w035_144_ortq_int8", "mcunet_det_int8", "micro_kws_qop_int8",
        "denoise_unet_resize_f32")
FLAGS = ("-O1", "-ffp-contract=off")
builds = pytest.mark.parametrize("build", BUILDS, ids=lambda build: "-".join(map(str, build)))

pytestmark = pytest.mark.skipif(not BUILDS, reason="no C compiler with sanitizers")


def compiled(name: str, extra: str, target: str) -> Module:
    module = FRONTENDS.get("onnx")(str(MODELS / f"{name}.onnx"), name="net", ctx=Context())
    pipeline = PIPELINES.get("O1").replace("lower-to-mem", f"{extra}lower-to-mem")
    PassManager(parse_pipeline(pipeline)).run(module, Context(target_named(target)))
    return module


def inputs(module: Module) -> list[Array]:
    rng = np.random.Generator(np.random.PCG64(1))
    return [rng.uniform(-1, 1, v.shape).astype(np.float32) if v.type.dtype.is_float
            else rng.integers(*v.type.dtype.range, v.shape, endpoint=True).astype(v.type.dtype.numpy)
            for v in module.main.inputs]


@pytest.mark.skipif(not MODELS.exists(), reason="the shared models are absent")
@pytest.mark.parametrize("target", ["generic", "cortex-m4"])
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.long) for n in MORE)])
@builds
def test_models_by_rows(name: str, target: str, build: Build, tmp_path: Path) -> None:
    """The input comes by rows too."""
    plain = compiled(name, "pull-input,", target)
    streamed = compiled(name, "pull-input,schedule{ram=min},", target)
    xs = inputs(streamed)
    expected = run_guarded(plain, xs, BUILDS[-1], tmp_path)
    for found, wanted in zip(run_guarded(streamed, xs, build, tmp_path), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", [200, *(pytest.param(s, marks=pytest.mark.long) for s in range(201, 212))])
@builds
def test_random_networks(seed: int, quantised: bool, build: Build, tmp_path: Path) -> None:
    plain, streamed, x = made(seed, quantised)
    expected = run_c(plain, [x], flags=FLAGS)
    for module in (plain, streamed):
        for found, wanted in zip(run_guarded(module, [x], build, tmp_path), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


@builds
def test_input_in_the_arena(build: Build, tmp_path: Path) -> None:
    """Rows of the input are overwritten as soon as nothing reads them any more."""
    module, x = net(), images((1, 24, 6, 3))
    expected = run(net(), x)[0]
    PassManager(parse_pipeline(f"hold-input,stream{{cuts=b}},{LOWER}")).run(module)
    np.testing.assert_allclose(run_guarded(module, x, build, tmp_path)[0], expected, rtol=1e-5, atol=1e-6)


@builds
def test_guard_catches(build: Build, tmp_path: Path) -> None:
    """A call that writes into another's slot, and rows that are not in their ring when they are read."""
    module, x = lowered(net(), f"stream{{cuts=b}},{LOWER}"), images((1, 24, 6, 3))
    expected = run_guarded(module, x, build, tmp_path)[0]
    where, instead = ("keep_rows_f32_2(a_row", "(void)(a_row") if build[1] != "address" else ("+ 144)", "+ 160)")

    def edit(text: str) -> str:
        assert text.count(where) == 1
        return text.replace(where, instead)

    if build[1] == "fill":
        assert not np.array_equal(run_guarded(module, x, build, tmp_path, edit=edit)[0], expected)
    else:
        with pytest.raises(AssertionError, match="Sanitizer"):
            run_guarded(module, x, build, tmp_path, edit=edit)
