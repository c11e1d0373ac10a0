"""What passes tell about what they did not do, with --remarks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyir.parser import parse
from tinyir.pass_manager import PassManager, parse_pipeline

FOLDER = Path(__file__).parent


@pytest.mark.parametrize(("case", "pipeline", "expected"), [
    ("fold_batch_norm_alone", "fold-batch-norm", [
        "fold-batch-norm: becomes a product and a sum: an input before it has no weights",
        "fold-batch-norm: becomes a product and a sum: %f has 2 readers",
        "fold-batch-norm: becomes a product and a sum: nn.dense before it applies relu",
    ]),
    ("fuse_activation", "fuse-activation", [
        "fuse-activation: nn.relu stays behind nn.dense: %f has 2 readers",
    ]),
    ("layout_residual", "layout-nhwc", [
        "layout-nhwc: a transpose of 120 elements stays: input %x comes in another order of axes"
        " (--input-layout changes that)",
        "layout-nhwc: a transpose of 240 elements stays: an output of the model has another order of axes"
        " (--input-layout changes that)",
        "layout-nhwc: a transpose of 120 elements stays: an output of the model has another order of axes"
        " (--input-layout changes that)",
    ]),
    ("layout_shuffle", "layout-nhwc", [
        "layout-nhwc: a transpose of 120 elements stays: nn.conv2d and nn.reshape need different orders of axes",
    ]),
])
def test_remarks(case: str, pipeline: str, expected: list[str]) -> None:
    text = (FOLDER / f"{case}.tir").read_text().partition("// -----")[0]
    ctx = PassManager(parse_pipeline(pipeline)).run(parse(text))
    assert [d.message for d in ctx.diagnostics] == expected
