"""Integer kernels for Cortex-M with DSP: op reference, kernel reference, the C twin on the host and the assembly on an
emulated core, built by each compiler that is here, agree in every byte; and they do not get slower.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinyc.backends.c.kernels.base import Kernel, RowKernel
from tinyc.backends.c.kernels.qeltwise import PairS8
from tinyc.backends.c.library import needed
from tinyc.tools.driver import Emission, Job, compile_job
from tinyc.tools.emulator import emulators_present, run_on_target
from tinyc.tools.program import program_of
from tinyc.tools.toolchain import core_compiler, routes_present

from tinyir.interp import run
from tinyir.ir import Argument, Array, Module, Value
from tinyir.opdef import Op
from tinyir.ops import QAdd, QConv2D, QDense, QDepthwiseConv2D
from tinyir.registry import PIPELINES
from tinyir.types import I8, U8, BufferType, DType, Quant, TensorType, dtype_of

from .harness import COMPILERS, compile_library, emit
from .qharness import Tensor, check_exact, lowered, per_tensor, quantised_module, stored
from .test_qconv import Case, biases, result_type, weight_quant

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
emulated = pytest.mark.skipif(not routes_present("cortex-m4") or not emulators_present(),
                              reason="no compiler for Arm or no emulator")
KEYWORDS = Path(__file__).resolve().parents[2] / "../shared/models/kws_dscnn_int8.onnx"
SPEECH = Path(__file__).resolve().parents[2] / "../shared/models/micro_speech_int8.onnx"
Model = tuple[Callable[..., Op], list[Tensor], list[Tensor]]
HOST = [("gcc", ("-O2",)), ("clang", ("-std=gnu11", "-O3", "-ffp-contract=fast"))]


def narrow(rng: np.random.Generator, case: Case, *shape: int) -> np.ndarray[Any, Any]:
    """Weights that have no -128, as quantisers make them."""
    return np.maximum(stored(rng, case.weight, *shape), -127 if case.weight == I8 else 0)


def convolution(case: Case, seed: int = 1, least: bool = False) -> Model:
    """A convolution and its operands; with `least` some weights are -128."""
    rng = np.random.default_rng(seed)
    x = stored(rng, case.dtype, case.batch, *case.image), per_tensor(0.02, case.x_zero)
    shape = case.outputs, *case.kernel, case.image[2]
    weight = stored(rng, case.weight, *shape) if least else narrow(rng, case, *shape)
    result = result_type(case, case.output_shape(), case.kernel[0] * case.kernel[1] * case.image[2])

    def build(x: Value, weight: Value, bias: Value | None = None) -> Op:
        return QConv2D(x, weight, bias, result, stride=case.stride, pad=case.pad, dilation=case.dilation)

    return build, [x], [(weight, weight_quant(rng, case, 0)), *biases(rng, case)]


CONVOLUTIONS = {
    "pointwise": Case((5, 6, 8), (1, 1), 12),
    "pointwise, odd run": Case((3, 5, 20), (1, 1), 6),
    "pointwise, three channels": Case((3, 5, 3), (1, 1), 6),
    "pointwise, odd channels": Case((4, 4, 7), (1, 1), 5),
    "pointwise, one channel": Case((4, 4, 1), (1, 1), 1),
    "3x3, odd channels": Case((5, 4, 5), (3, 3), 9, pad=(1, 1, 1, 1)),
    "pointwise with stride": Case((7, 7, 4), (1, 1), 6, stride=(2, 2)),
    "3x3": Case((8, 8, 16), (3, 3), 8, pad=(1, 1, 1, 1)),
    "3x3, three channels": Case((9, 7, 3), (3, 3), 16, pad=(1, 1, 1, 1), x_zero=-128),
    "3x3 stride 2": Case((9, 8, 4), (3, 3), 6, stride=(2, 2), pad=(0, 0, 1, 1)),
    "10x4 of one channel": Case((20, 10, 1), (10, 4), 8, stride=(2, 2), pad=(4, 1, 5, 1), x_zero=83),
    "5x5 on a small image": Case((3, 2, 12), (5, 5), 4, pad=(2, 2, 2, 2)),
    "rows dilated": Case((9, 6, 4), (3, 3), 6, pad=(2, 1, 2, 1), dilation=(2, 1)),
    "batch": Case((5, 5, 4), (3, 3), 4, pad=(1, 1, 1, 1), batch=3),
    "u8": Case((6, 6, 8), (3, 3), 8, pad=(1, 1, 1, 1), dtype=U8, x_zero=128),
    "u8, zero point 0": Case((6, 6, 3), (3, 3), 8, pad=(1, 1, 1, 1), dtype=U8, x_zero=0),
    "one scale": Case((5, 5, 8), (3, 3), 8, one_scale=True, pad=(1, 1, 1, 1)),
    "no bias": Case((5, 5, 8), (3, 3), 8, bias=None),
    "great biases, plain": Case((4, 4, 8), (1, 1), 8, bias=2**25),
    "many inputs": Case((2, 3, 300), (1, 1), 4),
}


def check_twin(model: Model, kernel: str) -> None:
    """The kernel is the one for the core, and its C twin is exact."""
    module, _ = lowered(quantised_module(*model), "cortex-m4")
    assert kernel in [op.opname for op in module.walk()]
    check_exact(*model, builds=HOST, target="cortex-m4")


def on_core(models: Sequence[Model], route: Any) -> None:
    """The assembly is exact. -O3 is where gcc clones functions for constant arguments."""
    for build, inputs, consts in models:
        arrays = [a for a, _ in inputs]
        expected = run(quantised_module(build, inputs, consts), arrays)[0]
        module, _ = lowered(quantised_module(build, inputs, consts), "cortex-m4")
        found = instructions_of(module, arrays, route, "-O3")
        assert np.array_equal(found[0], expected), f"{np.sum(found[0] != expected)} of {expected.size} differ"


def instructions_of(module: Module, arrays: Sequence[Any], route: Any, level: str = "-O2") -> tuple[Any, int]:
    """The output on the emulated core, and the instructions it took."""
    done = run_on_target(program_of(module, "net", emit(module)), [tuple(arrays)], "cortex-m4",
                         compiler=core_compiler("cortex-m4", prefer=route), flags=("-std=c99", level))
    return done.outputs[0][0], done.instructions or 0


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name: str) -> None:
    check_twin(convolution(CONVOLUTIONS[name]), "k.conv2d_dsp")


def test_weights_that_do_not_pair() -> None:
    check_twin(convolution(CONVOLUTIONS["3x3"], least=True), "k.conv2d_dsp")


@emulated
@pytest.mark.parametrize("route", routes_present("cortex-m4"))
def test_convolutions_on_core(route: Any) -> None:
    on_core([*(convolution(case) for case in CONVOLUTIONS.values()), convolution(CONVOLUTIONS["3x3"], least=True)],
            route)


def depthwise(case: Case, seed: int = 1) -> Model:
    rng = np.random.default_rng(seed)
    x = stored(rng, case.dtype, case.batch, *case.image), per_tensor(0.02, case.x_zero)
    weight = stored(rng, case.weight, *case.kernel, case.outputs), weight_quant(rng, case, 2)
    result = result_type(case, case.output_shape(), case.kernel[0] * case.kernel[1])

    def build(x: Value, weight: Value, bias: Value | None = None) -> Op:
        return QDepthwiseConv2D(x, weight, bias, result, stride=case.stride, pad=case.pad)

    return build, [x], [weight, *biases(rng, case)]


DEPTHWISE = {
    "3x3": Case((8, 8, 8), (3, 3), 8, pad=(1, 1, 1, 1)),
    "3x3, six columns": Case((7, 6, 4), (3, 3), 4, pad=(1, 1, 1, 1), x_zero=-128),
    "3x3, seven columns": Case((5, 7, 4), (3, 3), 4, pad=(1, 1, 1, 1)),
    "3x3, thirteen columns": Case((4, 13, 4), (3, 3), 4, pad=(0, 2, 1, 0)),
    "3x3 stride 2": Case((9, 16, 4), (3, 3), 4, stride=(2, 2), pad=(0, 0, 1, 1)),
    "3x3 stride 2, seven columns": Case((9, 13, 8), (3, 3), 8, stride=(2, 2), pad=(1, 1, 1, 1)),
    "5x5": Case((6, 10, 4), (5, 5), 4, pad=(2, 2, 2, 2)),
    "5x5 stride 2": Case((11, 15, 4), (5, 5), 4, stride=(2, 2), pad=(2, 2, 2, 2)),
    "7x7": Case((8, 8, 4), (7, 7), 4, pad=(3, 3, 3, 3)),
    "7x7 stride 2": Case((14, 14, 4), (7, 7), 4, stride=(2, 2), pad=(3, 3, 3, 3)),
    "7x4": Case((8, 9, 4), (7, 4), 4, pad=(3, 2, 3, 1)),
    "2x6 stride 2": Case((8, 16, 4), (2, 6), 4, stride=(2, 2), pad=(0, 2, 0, 2)),
    "bands": Case((40, 24, 4), (3, 3), 4, pad=(1, 1, 1, 1)),
    "bands, stride 2": Case((60, 48, 4), (3, 3), 4, stride=(2, 2), pad=(1, 1, 1, 1)),
    "u8": Case((6, 8, 4), (3, 3), 4, pad=(1, 1, 1, 1), dtype=U8, x_zero=128),
    "batch": Case((5, 8, 4), (3, 3), 4, pad=(1, 1, 1, 1), batch=2),
    "five channels": Case((5, 8, 5), (3, 3), 5, pad=(1, 1, 1, 1)),
    "seven channels": Case((5, 7, 7), (3, 3), 7, pad=(1, 2, 1, 0)),
    "wide padding": Case((5, 3, 4), (3, 7), 4, pad=(1, 4, 1, 3)),
    "many channels": Case((5, 8, 72), (3, 3), 72, pad=(1, 1, 1, 1)),
    "great biases": Case((5, 8, 4), (3, 3), 4, pad=(1, 1, 1, 1), bias=2**25),
}


@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise(name: str) -> None:
    check_twin(depthwise(DEPTHWISE[name]), "k.depthwise_conv2d_dsp")


@emulated
@pytest.mark.parametrize("route", routes_present("cortex-m4"))
def test_depthwise_on_core(route: Any) -> None:
    on_core([depthwise(case) for case in DEPTHWISE.values()], route)


def dense(batch: int, inputs: int, outputs: int, dtype: DType, least: bool = False) -> Model:
    rng = np.random.default_rng(inputs)
    case = Case((1, 1, inputs), (1, 1), outputs, dtype=dtype, x_zero=int(rng.integers(*dtype.range)))
    x = stored(rng, dtype, batch, inputs), per_tensor(0.02, case.x_zero)
    weight = stored(rng, I8, outputs, inputs) if least else narrow(rng, case, outputs, inputs)
    result = result_type(case, (batch, outputs), inputs)
    return lambda x, w, b: QDense(x, w, b, result), [x], [(weight, weight_quant(rng, case, 0)), *biases(rng, case)]


LAYERS = [(1, 64, 10, I8), (3, 33, 7, I8), (2, 5, 1, U8), (2, 102, 64, U8), (1, 640, 129, I8)]


@pytest.mark.parametrize("least", [False, True])
@pytest.mark.parametrize("layer", LAYERS)
def test_dense(layer: tuple[int, int, int, DType], least: bool) -> None:
    check_twin(dense(*layer, least), "k.dense_dsp")


@emulated
@pytest.mark.parametrize("route", routes_present("cortex-m4"))
def test_dense_on_core(route: Any) -> None:
    on_core([dense(*layer, least) for layer in LAYERS for least in (False, True)], route)


def addition(scales: tuple[float, float, float], shape: tuple[int, ...], dtype: DType = I8) -> Model:
    rng = np.random.default_rng(len(shape))
    zeros = [int(rng.integers(*dtype.range)) for _ in scales]
    quants = [per_tensor(scale, zero) for scale, zero in zip(scales, zeros, strict=True)]
    result = TensorType(shape, dtype, quants[2])
    return lambda a, b: QAdd(a, b, result), [(stored(rng, dtype, *shape), q) for q in quants[:2]], []


ADDITIONS = {
    "narrow": addition((0.021, 0.053, 0.048), (1, 3, 5, 8)),
    "odd": addition((0.021, 0.053, 0.048), (1, 3, 3, 7)),
    "three": addition((0.02, 0.03, 0.06), (1, 1, 1, 3)),
    "wide": addition((0.0412378, 0.10907, 0.0532588), (1, 4, 4, 9)),
    "u8": addition((0.021, 0.053, 0.048), (1, 3, 5, 8), U8),
    "vectors": addition((0.5, 0.053, 0.3), (2, 30)),
}


@pytest.mark.parametrize("name", ADDITIONS)
def test_addition(name: str) -> None:
    check_twin(ADDITIONS[name], "k.pair_s8")


@emulated
@pytest.mark.parametrize("route", routes_present("cortex-m4"))
def test_additions_on_core(route: Any) -> None:
    on_core(list(ADDITIONS.values()), route)


@pytest.mark.parametrize("width", ["narrow", "wide"])
@pytest.mark.parametrize("dtype", [I8, U8])
def test_all_sums(width: str, dtype: DType) -> None:
    """The C twin and the instructions compute what the form says, for all pairs of values."""
    wide = width == "wide"
    form = (415133429, 1098017566, -19706031644, 29, 0, 1) if wide else (440825, 1114032, -63808778, 19, 0, 0)
    a, b = (np.ascontiguousarray(v).astype(dtype.numpy) for v in np.meshgrid(np.arange(256), np.arange(256)))
    op = PairS8(Argument(BufferType(a.shape, dtype)), Argument(BufferType(a.shape, dtype)), None,
                Argument(BufferType(a.shape, dtype)), "add", form, dsp=True)
    expected, found = np.zeros_like(a), np.zeros_like(a)
    op.reference(a, b, None, expected)
    call_in_c(op, {id(v): array for v, array in zip((op.a, op.b, op.y), (a, b, found), strict=True)})
    assert np.array_equal(found, expected)


def test_channels_that_are_constant() -> None:
    """A channel whose scale makes all results equal does not force another coding on its layer."""
    build, inputs, consts = convolution(CONVOLUTIONS["3x3"])
    weight, quant = consts[0]
    assert quant is not None
    tiny = (1e-10, *quant.scales[1:])
    bias = np.concatenate([[2**30], consts[1][0][1:]]).astype(np.int32)
    model = build, inputs, [(weight, Quant(tiny, quant.zero_points, 0)), (bias, None)]
    module, _ = lowered(quantised_module(*model), "cortex-m4")
    kernel = next(op for op in module.walk() if op.opname == "k.conv2d_dsp")
    assert kernel.attrs["coding"] == "paired"
    check_exact(*model, builds=HOST, target="cortex-m4")


def rows_of(kernel: RowKernel, x: Array, expected: Array, rings: tuple[int, int], step: int) -> None:
    """Compute `expected` in steps of rows through rings, in C and in numpy; rows not in the ring yet would show."""
    ring, out_ring = rings
    kept = np.full((1, ring, *x.shape[2:]), 85, x.dtype)
    results = {who: np.zeros((1, out_ring, *expected.shape[2:]), expected.dtype) for who in ("C", "numpy")}
    scratch = [np.zeros(v.shape, v.type.dtype.numpy) for v in kernel.writes[1:]]
    xs, y = (Argument(BufferType(a.shape, dtype_of(a.dtype))) for a in (kept, results["C"]))
    known = 0
    for begin in range(0, expected.shape[1], step):
        rows = begin, min(begin + step, expected.shape[1])
        groups = [[xs], [kernel.reads[1]], [y], [*kernel.writes[1:]] or [None]]
        first, last = kernel.input_rows(rows)
        span = {"rows": rows, "x_base": first % ring, "y_base": begin % out_ring}
        op: Any = type(kernel).build(groups, {**kernel.attrs, **span}, ())
        for row in range(known, last):
            kept[:, row % ring] = x[:, row]
        known = max(known, last)
        stream = kernel.reads[1].data
        spare = {id(value): array for value, array in zip(kernel.writes[1:], scratch, strict=True)}
        call_in_c(op, {id(xs): kept, id(kernel.reads[1]): stream, id(y): results["C"], **spare})
        op.reference(kept, stream, results["numpy"], *(scratch or [None]))
        for who, result in results.items():
            found = np.stack([result[0, row % out_ring] for row in range(*rows)])
            assert np.array_equal(found, expected[0, slice(*rows)]), f"{who}, rows {rows}"


def call_in_c(op: Kernel, arrays: dict[int, Any]) -> None:
    text = op.source().replace("{name}", "kernel").replace("static void kernel", "void kernel", 1)
    files = {"kernel.c": "\n".join(["#include <stdint.h>", "#include <stddef.h>", *needed([text]), text]).encode()}
    library = compile_library(files, flags=("-O1", "-Wno-unused-function"))
    library.kernel(*(ctypes.c_int32(a) if isinstance(a, int) else ctypes.c_void_p(arrays[id(a)].ctypes.data)
                     for a in op.arguments()))


ROWS = {
    "pointwise": convolution(Case((11, 7, 8), (1, 1), 6)),
    "pointwise, odd channels": convolution(Case((11, 6, 7), (1, 1), 5)),
    "3x3": convolution(Case((11, 7, 8), (3, 3), 6, pad=(1, 1, 1, 1))),
    "3x3 stride 2": convolution(Case((11, 8, 3), (3, 3), 6, stride=(2, 2), pad=(0, 0, 1, 1))),
    "depthwise": depthwise(Case((11, 7, 6), (3, 3), 6, pad=(1, 1, 1, 1))),
    "pointwise, six columns": convolution(Case((11, 6, 8), (1, 1), 6)),
    "3x3, five columns": convolution(Case((11, 5, 8), (3, 3), 6, pad=(1, 1, 1, 1))),
    "depthwise, four columns": depthwise(Case((11, 4, 6), (3, 3), 6, pad=(1, 1, 1, 1))),
    "depthwise, five columns": depthwise(Case((11, 5, 4), (3, 3), 4, pad=(1, 1, 1, 1), dtype=U8, x_zero=99)),
    "depthwise 3x3 stride 2": depthwise(Case((11, 11, 7), (3, 3), 7, stride=(2, 2), pad=(0, 0, 1, 1))),
    "depthwise 5x5": depthwise(Case((11, 8, 4), (5, 5), 4, pad=(2, 2, 2, 2))),
    "depthwise stride 2": depthwise(Case((11, 15, 4), (5, 5), 4, stride=(2, 2), pad=(2, 2, 2, 2))),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows(name: str) -> None:
    model = ROWS[name]
    x = model[1][0][0]
    expected = run(quantised_module(*model), [x])[0]
    module, _ = lowered(quantised_module(*model), "cortex-m4")
    kernel = next(op for op in module.walk() if isinstance(op, RowKernel))
    assert kernel.opname.endswith("_dsp")
    height = expected.shape[1]
    for rings, step in [((7, 2), 1), ((7, 3), 2), ((9, 5), 3), ((11, 4), 2), ((7, height), 2), ((11, height), 4)]:
        rows_of(kernel, x, expected, rings, step)


@dataclass(frozen=True)
class Layer:
    """A layer and the most instructions that it may take for a multiply-accumulate."""

    model: Model
    macs: int
    most: float


GATES = {
    "pointwise 64 to 64": Layer(convolution(Case((25, 5, 64), (1, 1), 64)), 125 * 64 * 64, 0.96),
    "pointwise 16 to 64": Layer(convolution(Case((12, 12, 16), (1, 1), 64)), 144 * 16 * 64, 1.35),
    "3x3 3 to 16": Layer(convolution(Case((32, 32, 3), (3, 3), 16, pad=(1, 1, 1, 1))), 1024 * 27 * 16, 1.5),
    "3x3 16 to 16": Layer(convolution(Case((32, 32, 16), (3, 3), 16, pad=(1, 1, 1, 1))), 1024 * 144 * 16, 1.08),
    "depthwise 3x3": Layer(depthwise(Case((12, 12, 48), (3, 3), 48, pad=(1, 1, 1, 1))), 144 * 9 * 48, 2.5),
    "depthwise 3x3, five columns": Layer(depthwise(Case((25, 5, 64), (3, 3), 64, pad=(1, 1, 1, 1))), 125 * 9 * 64, 3.7),
    "depthwise 3x3 stride 2": Layer(depthwise(Case((24, 24, 32), (3, 3), 32, stride=(2, 2), pad=(0, 0, 1, 1))),
                                    144 * 9 * 32, 3.2),
    "depthwise 5x5": Layer(depthwise(Case((12, 12, 48), (5, 5), 48, pad=(2, 2, 2, 2))), 144 * 25 * 48, 1.5),
    "pointwise, five pixels": Layer(convolution(Case((1, 5, 64), (1, 1), 64)), 5 * 64 * 64, 1.05),
    "dense 640 to 128": Layer(dense(1, 640, 128, I8), 640 * 128, 1.0),
}


@emulated
@pytest.mark.parametrize("name", GATES)
def test_instructions(name: str) -> None:
    layer = GATES[name]
    arrays = [a for a, _ in layer.model[1]]
    module, _ = lowered(quantised_module(*layer.model), "cortex-m4")
    _, instructions = instructions_of(module, arrays, routes_present("cortex-m4")[0])
    assert instructions / layer.macs <= layer.most


@emulated
@pytest.mark.skipif(not KEYWORDS.exists(), reason="no shared models")
@pytest.mark.parametrize("rows", [1, 2])
def test_rows_cost_no_speed(rows: int) -> None:
    """Row by row takes at most 5 % more instructions than layer by layer, and gives the same bytes."""
    found = []
    for passes in ("", f"stream{{rows={rows}}},"):
        pipeline = PIPELINES.get("O1").replace("expand-patches", f"{passes}expand-patches")
        compiled = compile_job(Job(str(KEYWORDS), target="cortex-m4", passes=pipeline))
        x = np.random.default_rng(1).uniform(-5, 5, compiled.module.main.inputs[0].shape).astype(np.float32)
        done = run_on_target(compiled.c_program(Emission("net")), [(x,)], "cortex-m4", flags=("-std=c99", "-O2"))
        found.append((done.outputs[0][0], done.instructions or 0))
    assert np.array_equal(found[0][0], found[1][0])
    assert found[1][1] <= 1.05 * found[0][1]


@emulated
@pytest.mark.skipif(not SPEECH.exists(), reason="no shared models")
@pytest.mark.parametrize("level", ["-O2", "-O3"])
def test_layers_in_one_arena(level: str) -> None:
    """A dense layer's inputs and their column lie in one arena: gcc 12 must not drop the call that unpacks them."""
    compiled = compile_job(Job(str(SPEECH), target="cortex-m4"))
    x = np.random.default_rng(1).integers(-128, 128, compiled.module.main.inputs[0].shape).astype(np.int8)
    expected = run(compiled.module, [x])[0]
    done = run_on_target(compiled.c_program(Emission("net")), [(x,)], "cortex-m4", flags=("-std=c99", level))
    assert np.array_equal(done.outputs[0][0].reshape(expected.shape), expected)
