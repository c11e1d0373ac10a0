"""Real networks, row by row: the C gives the bits that the layer-by-layer program gives, from a smaller arena."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinyir.ir import Array, Module
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.registry import FRONTENDS, PIPELINES
from tinyir.target import target_named
from tinyir.verify import verify

from ..backends.harness import COMPILERS, run_c

MODELS = Path(__file__).resolve().parents[2].parent / "shared" / "models"
SHRINKS = {
    "kws_dscnn_int8": 3_700, "resnet8_int8": 9_300, "vww_mobilenetv1_int8": 11_600, "denoise_unet_resize_f32": 23_000,
    "mbv2_w035_144_ortq_int8": 29_200, "mcunet_det_int8": 25_900, "micro_kws_qop_int8": 7_000,
    "resnet8_ortq_u8s8": 10_900, "proxyless_w030_176_f32": 188_600, "face_slim320_f32": 390_000,
    "mcunetv2_large_int8": 260_000,
}
"""By model: the most that the arena may have."""
QUICK = ("kws_dscnn_int8", "resnet8_int8", "denoise_unet_resize_f32")
FLAGS = ("-O1", "-ffp-contract=off")

pytestmark = [pytest.mark.skipif(not MODELS.exists(), reason="the shared models are absent"),
              pytest.mark.skipif(not COMPILERS, reason="no C compiler")]


def compiled(name: str, extra: str, target: str) -> Module:
    module = FRONTENDS.get("onnx")(str(MODELS / f"{name}.onnx"), name="net", ctx=Context())
    pipeline = PIPELINES.get("O1").replace("lower-to-mem", f"{extra}lower-to-mem")
    PassManager(parse_pipeline(pipeline)).run(module, Context(target_named(target)))
    verify(module)
    return module


def inputs(module: Module) -> list[Array]:
    rng = np.random.Generator(np.random.PCG64(1))
    return [rng.uniform(-1, 1, v.shape).astype(np.float32) if v.type.dtype.is_float
            else rng.integers(*v.type.dtype.range, v.shape, endpoint=True).astype(v.type.dtype.numpy)
            for v in module.main.inputs]


@pytest.mark.parametrize("target", ["generic", "cortex-m4"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.long) for n in SHRINKS])
def test_same_bits(name: str, target: str) -> None:
    plain, streamed = (compiled(name, extra, target) for extra in ("", "schedule{scan=rows},"))
    xs = inputs(plain)
    for found, wanted in zip(run_c(streamed, xs, flags=FLAGS), run_c(plain, xs, flags=FLAGS), strict=True):
        np.testing.assert_array_equal(found, wanted)
    if target == "generic":
        assert sum(arena.size or 0 for arena in streamed.arenas.values()) <= SHRINKS[name]


@pytest.mark.long
@pytest.mark.parametrize("options", ["rows=2", "rows=3", "until=conv_12", "cuts=conv_4/conv_12/add_16"])
def test_forced_choices(options: str) -> None:
    plain, streamed = (compiled("mcunet_det_int8", extra, "generic") for extra in ("", f"stream{{{options}}},"))
    xs = inputs(plain)
    for found, wanted in zip(run_c(streamed, xs, flags=FLAGS), run_c(plain, xs, flags=FLAGS), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_columns_keep_integers() -> None:
    plain, streamed = (compiled("resnet8_int8", extra, "generic") for extra in ("", "schedule{scan=columns},"))
    xs = inputs(plain)
    for found, wanted in zip(run_c(streamed, xs, flags=FLAGS), run_c(plain, xs, flags=FLAGS), strict=True):
        np.testing.assert_array_equal(found, wanted)
