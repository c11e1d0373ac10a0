"""Every dump of real compilations reads back as it is, is valid, and computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinyir import DumpDir, Module, PassManager, parse_file, parse_pipeline, print_module, run, verify
from tinyir.instrument import sample_inputs
from tinyir.registry import FRONTENDS

MODELS = Path(__file__).parents[2] / ".." / "shared" / "models"
SMALL = ["hello_world_f32", "kws_dscnn_f32", "micro_kws_f32"]
LARGE = ["denoise_unet_resize_f32", "mcunet_det_f32", "resnet8_f32", "textdir_mbv3_f32"]


def load(model: str) -> Module:
    path = MODELS / f"{model}.onnx"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    return FRONTENDS.get("onnx")(str(path))


@pytest.mark.parametrize("model", [*SMALL, *(pytest.param(m, marks=pytest.mark.long) for m in LARGE)])
def test_dumps_read_back(model: str, tmp_path: Path) -> None:
    module = load(model)
    inputs = sample_inputs(module)
    expected = run(module, inputs)
    PassManager(parse_pipeline("O2"), [DumpDir(str(tmp_path))]).run(module)
    dumps = sorted(tmp_path.glob("*.tir"))
    assert len(dumps) > 3
    for dump in dumps:
        again = parse_file(dump)
        assert print_module(again, facts="all") == dump.read_text(encoding="utf-8"), dump.name
        verify(again)
    for found, wanted in zip(run(parse_file(dumps[-1]), inputs), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * float(np.abs(wanted).max()))
