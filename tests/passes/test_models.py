"""-O1 and -O2 on real networks: what may not be left of them; the interpreter agrees with onnxruntime at mem level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinyir.interp import run
from tinyir.ir import Argument, Array, Module, Value
from tinyir.ops import BatchNorm, Pad, Reshape, Return, Transpose, activation_of
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.registry import FRONTENDS

# Transposes that stay: of inputs, of outputs, and one behind a mean that a padded convolution cannot take on.
TRANSPOSES = {
    "ad_autoencoder": (0, 0), "denoise_unet_resize": (0, 0), "face_slim320": (1, 0), "hello_world": (0, 0),
    "kws_conv1d": (1, 1), "kws_dscnn": (0, 0), "kws_dscnn_bn": (0, 0), "mbv2_w035_144": (1, 0), "mcunet_det": (4, 0),
    "micro_kws": (0, 0), "proxyless_w030_176": (1, 0), "resnet8": (0, 0), "textdir_mbv3": (1, 0),
    "vww_mobilenetv1": (1, 0),
}


def _load(shared: Path, name: str) -> tuple[Module, str]:
    path = str(shared / "models" / f"{name}_f32.onnx")
    return FRONTENDS.get("onnx")(path), path


def _graph_part(level: str, layout: str = "") -> str:
    """The passes of `level` in front of lower-to-mem."""
    text = ",".join(str(p) for p in parse_pipeline(level)).partition(",lower-to-mem")[0]
    return text.replace("layout-nhwc", f"layout-nhwc{{input-layout={layout}}}") if layout else text


def _origin(value: Value) -> Value:
    while (reshape := value.defining(Reshape)) is not None:
        value = reshape.x
    return value


@pytest.mark.parametrize("name", sorted(TRANSPOSES))
def test_graph(name: str, shared: Path) -> None:
    """No normalisation, no pad, no activation behind an op that could apply it, no transpose between layers."""
    module, _ = _load(shared, name)
    PassManager(parse_pipeline(_graph_part("O1"))).run(module)
    ops = list(module.walk())
    assert not [op for op in ops if isinstance(op, (BatchNorm, Pad))]
    for op in ops:
        if activation_of(op) is not None:
            before = op.operands[0]
            assert before is not None
            assert before.op is None or "act" not in before.op.attrs or len(before.uses) > 1
    left = [op for op in ops if isinstance(op, Transpose)]
    assert len(left) == TRANSPOSES[name][0]
    inner = [op for op in left if not isinstance(_origin(op.x), Argument)
             and not all(isinstance(user, Return) for user in op.out.users)]
    assert len(inner) == TRANSPOSES[name][1]


@pytest.mark.parametrize("name", sorted(n for n, (left, _) in TRANSPOSES.items() if left))
def test_input_layout_nhwc(name: str, shared: Path) -> None:
    """With images as NHWC at the boundary, only what is between layers stays."""
    module, _ = _load(shared, name)
    PassManager(parse_pipeline(_graph_part("O1", "nhwc"))).run(module)
    assert sum(isinstance(op, Transpose) for op in module.walk()) == TRANSPOSES[name][1]


@pytest.mark.parametrize("level", ["O0", "O2"])
@pytest.mark.parametrize("name", sorted(TRANSPOSES))
def test_numbers(name: str, level: str, shared: Path) -> None:
    """The module at mem level, in one arena, against onnxruntime; and the arena is close to the bound."""
    module, path = _load(shared, name)
    rng = np.random.Generator(np.random.PCG64(7))
    inputs = [rng.uniform(-1, 1, a.shape).astype(a.type.dtype.numpy) for a in module.main.inputs]
    ctx = PassManager(parse_pipeline(level)).run(module, Context())
    for found, wanted in zip(run(module, inputs), _onnxruntime(path, inputs), strict=True):
        bound = 1e-5 * np.abs(wanted).max() + 1e-4 * np.abs(wanted)
        assert (np.abs(found - wanted) <= bound).all()
    figures = ctx.stats["plan-arena"]
    peak, least = figures["peak-bytes"], figures["lower-bound-bytes"]
    assert isinstance(peak, int)
    assert isinstance(least, int)
    assert least <= peak <= 1.3 * least


def _onnxruntime(path: str, inputs: list[Array]) -> list[Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return list(session.run(None, dict(zip(names, inputs, strict=True))))
