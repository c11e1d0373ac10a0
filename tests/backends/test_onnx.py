"""Modules written as ONNX: onnxruntime computes what the interpreter computes; quantised ones byte for byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyir.diag import CompileError
from tinyir.interp import run
from tinyir.ir import Array, Module, Value
from tinyir.parser import parse
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.registry import BACKENDS, FRONTENDS, PIPELINES


@dataclass(frozen=True)
class Samples:
    """Calibration data from arrays."""

    arrays: Sequence[Array]

    def samples(self, inputs: Sequence[Value]) -> Iterator[list[Array]]:
        for array in self.arrays:
            yield [array]


def session(data: bytes | str) -> Any:
    """A session on the contract's integer path."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def written(module: Module) -> bytes:
    [(name, data)] = BACKENDS.get("onnx")(module, name="net").items()
    assert name == "net.onnx"
    return data


def random_inputs(module: Module, seed: int) -> list[Array]:
    rng = np.random.Generator(np.random.PCG64(seed))
    found = []
    for argument in module.main.inputs:
        numpy_type = argument.type.dtype.numpy
        floats = numpy_type.kind == "f"
        made = rng.normal(0, 1, argument.shape) if floats else rng.integers(-128, 128, argument.shape)
        found.append(made.astype(numpy_type))
    return found


# -- float ops ---------------------------------------------------------------------------------------------------------

IMAGE = "tensor<1x6x8x4xf32>"
OPS = {
    "conv2d": ("nn.conv2d(%x, @w, @b) {stride = [2, 1], pad = [1, 0, 1, 2], act = clip, act_args = [-1.0, 2.0]}",
               "tensor<1x3x8x8xf32>",
               "const @w : tensor<8x3x3x4xf32> = random<1>\nconst @b : tensor<8xf32> = random<2>"),
    "groups": ("nn.conv2d(%x, @w, none) {groups = 2, act = hard_swish}", "tensor<1x6x8x6xf32>",
               "const @w : tensor<6x1x1x2xf32> = random<1>"),
    "depthwise": ("nn.depthwise_conv2d(%x, @w, none) {pad = [1, 1, 1, 1], act = leaky_relu, act_args = [0.1]}",
                  "tensor<1x6x8x8xf32>", "const @w : tensor<3x3x8xf32> = random<1>"),
    "conv_transpose": ("nn.conv_transpose2d(%x, @w, none) {stride = [2, 2], groups = 2, output_pad = [1, 0]}",
                       "tensor<1x14x17x6xf32>", "const @w : tensor<6x3x3x2xf32> = random<1>"),
    "batch_norm": ("nn.batch_norm(%x, @a, @a, @a, @v)", IMAGE,
                   "const @a : tensor<4xf32> = random<1>\nconst @v : tensor<4xf32> = splat<0.5>"),
    "max_pool": ("nn.max_pool(%x) {kernel = [2, 3], stride = [2, 2], pad = [0, 1, 0, 1]}", "tensor<1x3x4x4xf32>", ""),
    "avg_pool": ("nn.avg_pool(%x) {kernel = [3, 3], pad = [1, 1, 1, 1]}", IMAGE, ""),
    "mean": ("nn.reduce_mean(%x) {axes = [2, 3]}", "tensor<1x6x1x1xf32>", ""),
    "sum": ("nn.reduce_sum(%x) {axes = [1], keepdims = false}", "tensor<1x8x4xf32>", ""),
    "softmax": ("nn.softmax(%x) {axis = 3}", IMAGE, ""),
    "gelu": ("nn.gelu(%x)", IMAGE, ""),
    "gelu_tanh": ("nn.gelu(%x) {approximate = tanh}", IMAGE, ""),
    "hard_sigmoid": ("nn.hard_sigmoid(%x) {alpha = 0.3}", IMAGE, ""),
    "scaled": ("nn.mul(%x, @k) {act = relu}", IMAGE, "const @k : tensor<4xf32> = random<3>"),
    "prelu": ("nn.prelu(%x, @k)", IMAGE, "const @k : tensor<4xf32> = random<3>"),
    "pad": ("nn.pad(%x) {before = [0, 1, 0, 2], after = [0, 0, 3, 0], value = 1.5}", "tensor<1x7x11x6xf32>", ""),
    "reflect": ("nn.pad(%x) {before = [0, 1, 2, 0], after = [0, 1, 0, 0], mode = reflect}", "tensor<1x8x10x4xf32>", ""),
    "slice": ("nn.slice(%x) {begin = [0, 5, 1, 0], step = [1, -2, 1, 1]}", "tensor<1x3x5x4xf32>", ""),
    "transpose": ("nn.transpose(%x) {perm = [0, 2, 1, 3]}", "tensor<1x8x6x4xf32>", ""),
    "nchw": ("nn.transpose(%x) {perm = [0, 3, 1, 2]}", "tensor<1x4x6x8xf32>", ""),
    "tile": ("nn.tile(%x) {repeats = [1, 2, 1, 1]}", "tensor<1x12x8x4xf32>", ""),
    "gather": ("nn.gather(%x, @i) {axis = 2}", "tensor<1x6x3x4xf32>", "const @i : tensor<3xi64> = dense<[7, 0, -2]>"),
    "nearest": ("nn.resize(%x) {mode = nearest, coordinates = asymmetric, scales = [2.0, 3.0], nearest = floor}",
                "tensor<1x12x24x4xf32>", ""),
    "linear": ("nn.resize(%x) {mode = linear, coordinates = half_pixel, scales = [2.0, 1.5]}", "tensor<1x12x12x4xf32>",
               ""),
    "cast": ("nn.cast(%x)", "tensor<1x6x8x4xi32>", ""),
}


@pytest.mark.parametrize("name", sorted(OPS))
@pytest.mark.parametrize("behind", ["", "nchw"])
def test_op(name: str, behind: str) -> None:
    """One op, on an input as it is, and behind a convolution, whose result has channels in front."""
    call, result, constants = OPS[name]
    first = f"%x = nn.conv2d(%i, @one, none) : {IMAGE}" if behind else f"%x = nn.relu(%i) : {IMAGE}"
    module = parse(f"""
module @net {{level = graph}} {{
  const @one : tensor<4x1x1x4xf32> = random<9>
  {constants}
  func @main(%i: {IMAGE}) -> {result} {{
    {first}
    %y = {call} : {result}
    nn.return(%y)
  }}
}}""")
    ours = random_inputs(module, 3)
    runner = session(written(module))
    [found] = runner.run(None, {runner.get_inputs()[0].name: ours[0]})
    np.testing.assert_allclose(found, run(module, ours)[0], rtol=1e-4, atol=1e-5)


def test_errors() -> None:
    """Below the graph there is nothing to write; what ONNX has not is named."""
    text = f"""
module @net {{level = graph}} {{
  func @main(%x: {IMAGE}) -> tensor<1x8x8x4xf32> {{
    %y = nn.pad(%x) {{before = [0, 1, 0, 0], after = [0, 1, 0, 0], mode = wrap}} : tensor<1x8x8x4xf32>
    nn.return(%y)
  }}
}}"""
    with pytest.raises(CompileError, match="wrap needs a later opset"):
        written(parse(text))
    module = parse(text.replace("mode = wrap", "mode = edge"))
    PassManager(parse_pipeline("lower-to-mem")).run(module)
    with pytest.raises(CompileError, match="at level graph; this one is at level mem"):
        written(module)


# -- quantised models --------------------------------------------------------------------------------------------------

FLOAT_MODELS = ["denoise_unet_resize_f32", "kws_conv1d_f32", "kws_dscnn_bn_f32", "micro_kws_f32", "resnet8_f32"]
LARGER = ["face_slim320_f32", "mcunet_det_f32", "textdir_mbv3_f32", "vww_mobilenetv1_f32"]
QUANTISED = ["ad_autoencoder_int8", "hello_world_int8", "kws_dscnn_int8", "mcunet_det_int8", "micro_kws_qop_int8",
             "micro_speech_int8", "resnet8_int8", "resnet8_ortq_u8s8", "vww_mobilenetv1_int8"]


@pytest.mark.parametrize("name", [*FLOAT_MODELS, *(pytest.param(n, marks=pytest.mark.long) for n in LARGER)])
def test_quantised_bytes(name: str, shared: Path) -> None:
    """A float model, quantised here: onnxruntime gives every byte of what the integers of the module give."""
    module = FRONTENDS.get("onnx")(str(shared / "models" / f"{name}.onnx"))
    ctx = Context(options={"calibration": Samples([random_inputs(module, seed)[0] for seed in range(6)])})
    PassManager(parse_pipeline(PIPELINES.get("quantize-int8"))).run(module, ctx)
    runner = session(written(module))
    PassManager(parse_pipeline("fuse-quantized,canonicalize")).run(module, ctx)
    for seed in range(20, 30):
        ours = random_inputs(module, seed)
        theirs = runner.run(None, {runner.get_inputs()[0].name: ours[0]})
        for found, wanted in zip(run(module, ours), theirs, strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", QUANTISED)
def test_imported_bytes(name: str, shared: Path) -> None:
    """A model that came quantised goes out again and computes the same."""
    path = str(shared / "models" / f"{name}.onnx")
    module = FRONTENDS.get("onnx")(path)
    before, ours = session(path), [random_inputs(module, seed) for seed in range(3)]
    PassManager(parse_pipeline(PIPELINES.get("quantised-graph"))).run(module)
    after = session(written(module))
    for sample in ours:
        wanted = before.run(None, {p.name: a for p, a in zip(before.get_inputs(), sample, strict=True)})
        found = after.run(None, {p.name: a for p, a in zip(after.get_inputs(), sample, strict=True)})
        for f, w in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(f, w)
