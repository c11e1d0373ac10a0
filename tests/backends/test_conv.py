"""Convolution-like kernels: graph reference, kernel reference and C agree for every target and compiler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tinyir import ops
from tinyir.interp import run
from tinyir.ir import Array, Const, Module
from tinyir.opdef import Op
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.target import target_named

from .harness import COMPILERS, emit, module_of, run_c, seeded

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
# Without SSE2 as far as the preprocessor knows, portable C takes the scalars.
BUILDS: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "generic": [("gcc", ("-O2", "-U__SSE2__")), ("gcc", ("-O2", "-mavx2")), ("clang", ("-O1", "-march=native"))],
    "host": [("gcc", ("-O3", "-march=native")), ("clang", ("-O1",))],
    "cortex-m4": [("gcc", ("-O2",)), ("clang", ("-O1",))],
    "cortex-m0plus": [("gcc", ("-O1",))],
}


TARGETS = list(BUILDS)


def floats(*shape: int) -> Array:
    """Small integers: their sums of products are exact in any order."""
    return seeded().integers(-3, 4, shape).astype(np.float32)


def lowered(module: Module, target: str) -> Module:
    """At mem level, all slots placed, for `target`."""
    PassManager(parse_pipeline("lower-to-mem,plan-arena")).run(module, Context(target=target_named(target)))
    return module


def check_everywhere(build: Callable[..., Op], inputs: Sequence[Array], consts: Sequence[Array] = ()) -> None:
    expected = run(module_of(build, inputs, consts), inputs)[0]
    for target in TARGETS:
        module = lowered(module_of(build, inputs, consts), target)
        found = {"numpy": run(module, inputs)[0]}
        for compiler, flags in BUILDS[target]:
            if compiler in COMPILERS:
                found[f"{compiler} {' '.join(flags)}"] = run_c(module, inputs, compiler, flags)[0]
        for who, result in found.items():
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5, err_msg=f"{target}, {who}")


CONVS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "same": ((1, 8, 8, 16), (16, 3, 3, 16), {"pad": (1, 1, 1, 1), "act": "relu"}),
    "wide": ((1, 3, 40, 7), (20, 1, 3, 7), {"pad": (0, 1, 0, 1)}),
    "tall_kernel": ((1, 13, 10, 1), (64, 10, 4, 1), {"stride": (2, 2), "pad": (4, 1, 5, 1), "act": "leaky_relu",
                                                     "act_args": (0.125,)}),
    "groups_dilation": ((1, 9, 11, 6), (14, 3, 3, 3), {"stride": (2, 1), "pad": (2, 2, 2, 2), "dilation": (2, 2),
                                                       "groups": 2, "act": "clip", "act_args": (-8.0, 8.0)}),
    "big_window": ((1, 9, 17, 3), (10, 7, 7, 3), {"pad": (3, 3, 3, 3)}),
    "no_pad_stride": ((1, 12, 12, 7), (7, 2, 2, 7), {"stride": (3, 3), "pad": (0, 0, 2, 2)}),
    "pointwise": ((2, 5, 5, 8), (12, 1, 1, 8), {"act": "clip", "act_args": (0.0, 6.0)}),
    "pointwise_rest": ((1, 3, 7, 24), (32, 1, 1, 24), {}),
    "pointwise_groups": ((1, 3, 3, 4), (6, 1, 1, 2), {"groups": 2}),
    "all_padding": ((1, 4, 4, 6), (4, 1, 1, 6), {"pad": (3, 3, 3, 3)}),
    "one_channel": ((1, 6, 6, 2), (1, 3, 3, 2), {"pad": (1, 1, 1, 1)}),
}
DEPTHWISES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "narrow": ((1, 8, 5, 16), (3, 3, 16), {"pad": (1, 1, 1, 1), "act": "relu"}),
    "stride": ((1, 12, 12, 32), (3, 3, 32), {"pad": (0, 0, 1, 1), "stride": (2, 2)}),
    "multiplier": ((1, 3, 3, 7), (3, 3, 21), {"pad": (1, 1, 1, 1)}),
    "written_in_a_loop": ((2, 13, 19, 24), (5, 5, 24), {"pad": (2, 2, 2, 2), "stride": (2, 1)}),
    "dilation": ((1, 13, 19, 20), (7, 7, 20), {"pad": (3, 3, 3, 3), "dilation": (2, 1)}),
    "wide": ((1, 4, 50, 4), (3, 3, 4), {"pad": (1, 1, 1, 1)}),
    "no_padding": ((1, 9, 9, 8), (3, 3, 8), {}),
    "all_padding": ((1, 4, 4, 6), (3, 1, 6), {"pad": (9, 9, 3, 3)}),
}
TRANSPOSED: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "double": ((1, 7, 9, 16), (32, 2, 2, 16), {"stride": (2, 2), "act": "relu"}),
    "output_pad": ((2, 5, 6, 8), (12, 3, 3, 8), {"stride": (2, 2), "pad": (1, 1, 1, 1), "output_pad": (1, 1)}),
    "groups_dilation": ((1, 5, 6, 8), (6, 3, 4, 4), {"stride": (3, 2), "pad": (1, 0, 2, 1), "dilation": (2, 2),
                                                     "groups": 2}),
    "no_stride": ((1, 5, 11, 8), (5, 3, 3, 8), {"pad": (1, 1, 1, 1)}),
    "holes": ((1, 5, 3, 8), (5, 2, 2, 8), {"stride": (4, 4)}),
}


@pytest.mark.parametrize("name", CONVS)
def test_conv2d(name: str) -> None:
    x, weight, attrs = CONVS[name]
    check_everywhere(lambda x, w, b: ops.Conv2D(x, w, b, **attrs), [floats(*x)], [floats(*weight), floats(weight[0])])


@pytest.mark.parametrize("name", DEPTHWISES)
def test_depthwise(name: str) -> None:
    x, weight, attrs = DEPTHWISES[name]
    check_everywhere(lambda x, w, b: ops.DepthwiseConv2D(x, w, b, **attrs), [floats(*x)],
                     [floats(*weight), floats(weight[-1])])


@pytest.mark.parametrize("name", TRANSPOSED)
def test_conv_transpose2d(name: str) -> None:
    x, weight, attrs = TRANSPOSED[name]
    check_everywhere(lambda x, w, b: ops.ConvTranspose2D(x, w, b, **attrs), [floats(*x)],
                     [floats(*weight), floats(weight[0])])


@pytest.mark.parametrize(("batch", "inputs", "outputs"), [(1, 64, 12), (1, 64, 128), (7, 9, 10), (4, 33, 17),
                                                          (1, 5, 1)])
def test_dense(batch: int, inputs: int, outputs: int) -> None:
    check_everywhere(lambda x, w, b: ops.Dense(x, w, b, act="relu"), [floats(batch, inputs)],
                     [floats(outputs, inputs), floats(outputs)])


@pytest.mark.parametrize(("a", "b"), [
    ((9, 7), (7, 21)), ((2, 3, 9, 8), (2, 1, 8, 16)), ((3, 9, 8), (2, 1, 8, 5)), ((2, 3, 9, 8), (8, 5)),
    ((8,), (8, 5)), ((4, 3, 8), (8,)), ((8,), (8,)), ((8,), (3, 8, 5)),
])
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check_everywhere(ops.MatMul, [floats(*a), floats(*b)])


@pytest.mark.parametrize("act", [("relu", ()), ("clip", (0.0, 6.0)), ("leaky_relu", (0.1,)), ("hard_swish", ()),
                                 ("hard_sigmoid", (0.2, 0.5))])
def test_activations(act: tuple[Any, tuple[float, ...]]) -> None:
    """In each form: vectors of each width, and scalars."""
    for outputs in (16, 8, 4):
        check_everywhere(lambda x, w, b: ops.Conv2D(x, w, b, act=act[0], act_args=act[1]), [floats(1, 2, 3, 4)],
                         [floats(outputs, 1, 1, 4), floats(outputs)])


def test_relu_keeps_nan() -> None:
    x = np.array([[np.nan, -1, 1, np.inf]], np.float32)
    eye = np.eye(4, dtype=np.float32)
    module = lowered(module_of(lambda x, w: ops.Dense(x, w, act="relu"), [x], [eye]), "generic")
    assert np.isnan(run_c(module, [x])[0]).all()


@pytest.mark.parametrize("target", TARGETS)
def test_computed_weights(target: str) -> None:
    """Weights that are not constants are packed by a kernel."""
    cases: list[tuple[Callable[..., Op], list[Array]]] = [
        (lambda x, w, b: ops.Conv2D(x, w, b, groups=2), [floats(1, 7, 7, 6), floats(14, 3, 3, 3), floats(14)]),
        (lambda x, w: ops.DepthwiseConv2D(x, w), [floats(1, 7, 7, 6), floats(3, 3, 6)]),
        (lambda x, w: ops.DepthwiseConv2D(x, w), [floats(1, 7, 7, 16), floats(3, 3, 16)]),
        (lambda x, w, b: ops.Dense(x, w, b), [floats(4, 33), floats(17, 33), floats(17)]),
    ]
    for build, inputs in cases:
        module = lowered(module_of(build, inputs), target)
        expected = run(module_of(build, inputs), inputs)[0]
        np.testing.assert_allclose(run(module, inputs)[0], expected, rtol=1e-5)
        np.testing.assert_allclose(run_c(module, inputs)[0], expected, rtol=1e-5)


def test_layers_of_one_shape_share_a_function() -> None:
    from tinyir.ir import Argument, Block, Func
    from tinyir.types import F32, TensorType

    module = Module("net")
    x = Argument(TensorType((1, 6, 6, 8), F32), "x")
    first = ops.Conv2D(x, module.add_const("w1", floats(8, 3, 3, 8)), pad=(1, 1, 1, 1))
    second = ops.Conv2D(first.out, module.add_const("w2", floats(8, 3, 3, 8)), pad=(1, 1, 1, 1))
    block = Block([x])
    for op in (first, second, ops.Return((second.out,))):
        block.append(op)
    module.funcs["main"] = Func("main", block)
    text = emit(lowered(module, "cortex-m4"))["net.c"].decode()
    assert text.count("static void conv2d_f32") == 1


def test_weights_are_packed_into_constants() -> None:
    """What the plan and the dumps show is what the kernel reads."""
    module = lowered(module_of(lambda x, w, b: ops.Conv2D(x, w, b), [floats(1, 4, 4, 8)],
                               [floats(10, 3, 3, 8), floats(10)]), "cortex-m4")
    kernel = next(op for op in module.walk() if op.opname == "k.conv2d_f32")
    weight = kernel.reads[1]
    assert isinstance(weight, Const)
    assert weight.shape == (2, 3, 3, 8, 5)


def test_other_element_types_are_refused() -> None:
    from tinyir.diag import CompileError

    x, w = np.zeros((1, 4)), np.zeros((2, 4))
    with pytest.raises(CompileError, match="no kernel for f64, only for f32"):
        lowered(module_of(lambda x, w: ops.Dense(x, w), [x], [w]), "generic")
