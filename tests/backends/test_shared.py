"""Kernels whose texts differ in dimensions only share a C function, and compute what they did."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pytest
from tinyc.backends.c.kernels.base import Kernel
from tinyc.backends.c.shared import share

from tinyir.interp import run
from tinyir.ir import Argument, Block, Func, Module
from tinyir.ops import QDepthwiseConv2D, QMul, QReduceMean, Return
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.rewrite import Builder
from tinyir.target import target_named
from tinyir.types import I8, Quant, TensorType

from .harness import COMPILERS, call, compile_library, emit

HEAD = "static void {name}(const int8_t *x)"
REST = "    h(x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x);\n" * 3
"""Makes functions so long that it pays to share them."""


@dataclass(eq=False)
class Text:
    """As much of a kernel as sharing looks at."""

    body: str
    named: dict[str, int] = field(default_factory=dict)
    function: str = "f"

    def source(self) -> str:
        return f"{HEAD}\n{{\n    {self.body}\n{REST}}}\n"

    def stem(self) -> str:
        return self.function

    def dimensions(self) -> dict[str, int]:
        return self.named


def shared(*texts: Text) -> list[tuple[str, tuple[int, ...]]]:
    """The parameters and the body of the function of each text, and what calls pass."""
    found = share(cast("list[Kernel]", list(texts)))
    lines = [text.replace(REST, "").replace("\n    ", "\n").splitlines() for text, _ in found.values()]
    return [(" | ".join(line for line in some[1:-1] if line != "{"), dimensions)
            for some, (_, dimensions) in zip(lines, found.values(), strict=True)]


def test_what_differs_becomes_a_parameter_and_the_rest_stays() -> None:
    a = Text("g(x, 8, 3, 8, 0x8u, 8u, x8);", {"channels": 8, "taps": 3})
    b = Text("g(x, 9, 3, 9, 0x8u, 8u, x8);", {"channels": 9, "taps": 3})
    body = "int32_t channels) | g(x, channels, 3, channels, 0x8u, 8u, x8);"
    assert shared(a, b) == [(body, (8,)), (body, (9,))]


def test_the_first_name_that_fits_all_is_taken() -> None:
    one, other = {"height": 8, "width": 8, "half": 4}, {"height": 9, "width": 6, "half": 5}
    found = shared(Text("g(8, 4);", one), Text("g(6, 5);", other))
    assert found[1] == ("int32_t width, int32_t half) | g(width, half);", (6, 5))


@pytest.mark.parametrize(("one", "other"), [
    (Text("g(8);", {"n": 8}), Text("g(9);", {"m": 9})),
    (Text("g(8);", {"n": 8}), Text("g(9);", {"n": 9}, "f_2")),
    (Text("int s[8];", {"n": 8}), Text("int s[9];", {"n": 9})),
    (Text("static const int s[2] = {8, 1};", {"n": 8}), Text("static const int s[2] = {9, 1};", {"n": 9})),
    (Text("g(8.5f);", {"n": 8}), Text("g(9.5f);", {"n": 9})),
    (Text("int n = 8;", {"n": 8}), Text("int n = 9;", {"n": 9})),
    (Text("g(8);", {"n": 8}), Text("h(9);", {"n": 9})),
], ids=["other names", "other kernels", "an array", "a constant", "floats", "a name that is taken", "other texts"])
def test_what_cannot_be_shared_is_not(one: Text, other: Text) -> None:
    assert [dimensions for _, dimensions in shared(one, other)] == [(), ()]
    assert list(share(cast("list[Kernel]", [one, other])).values()) == [(one.source(), ()), (other.source(), ())]


def test_texts_that_differ_in_other_numbers_are_shared_apart() -> None:
    texts = [Text(f"g({n}, {shift});", {"n": n}) for n, shift in ((8, 1), (9, 2), (7, 1), (6, 2), (5, 3))]
    one, two = "int32_t n) | g(n, 1);", "int32_t n) | g(n, 2);"
    assert shared(*texts) == [(one, (8,)), (two, (9,)), (one, (7,)), (two, (6,)), ("g(5, 3);", ())]


def test_functions_of_their_own_for_less_code() -> None:
    def text(n: int, m: int) -> Text:
        return Text(f"g({n}, {m});", {"n": n, "m": m})

    few = [text(n, 1 + n % 2) for n in range(3, 7)]
    assert len({body for body, _ in shared(*few)}) == 1
    many = [text(n, 1 + n % 2) for n in range(3, 43)]
    assert {body for body, _ in shared(*many)} == {"int32_t n) | g(n, 1);", "int32_t n) | g(n, 2);"}


def test_functions_that_are_shared_are_not_inlined() -> None:
    texts = cast("list[Kernel]", [Text("g(8);", {"n": 8}), Text("g(9);", {"n": 9}), Text("h(1);")])
    assert ["noinline" in text for text, _ in share(texts).values()] == [True, True, False]


def network() -> Module:
    """Two depthwise layers, two means and two products, each pair in two sizes."""
    module, rng, quant = Module("net", "quant"), np.random.Generator(np.random.PCG64(1)), Quant((0.05,), (3,))
    images = [Argument(TensorType((1, side, side, channels), I8, quant), f"x{side}")
              for side, channels in ((6, 8), (9, 5))]
    block = Block(images)
    module.funcs["main"] = Func("main", block, result_names=("y6", "y9"))
    build, made = Builder(module, block), []
    for index, image in enumerate(images):
        channels = image.shape[3]
        weight = build.const(f"w{index}", rng.integers(-127, 128, (5, 5, channels)).astype(np.int8),
                             TensorType((5, 5, channels), I8, Quant((0.004,))))
        a = build.add(QDepthwiseConv2D(image, weight, None, pad=(2, 2, 2, 2), result=image.type))
        mean = build.add(QReduceMean(a.out, TensorType((1, 1, 1, channels), I8, Quant((0.03,), (3,))), axes=(1, 2)))
        made.append(build.add(QMul(a.out, mean.out, TensorType(a.out.shape, I8, Quant((0.11 + index / 9,), (3,))))))
    build.add(Return(tuple(op.out for op in made)))
    return module


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
def test_shared_functions_compute_the_same() -> None:
    images = [np.random.default_rng(2).integers(-128, 128, (1, side, side, channels)).astype(np.int8)
              for side, channels in ((6, 8), (9, 5))]
    expected, module = run(network(), images), network()
    PassManager(parse_pipeline("lower-to-mem,plan-arena")).run(module, Context(target_named("cortex-m4")))
    files = emit(module)
    text = files["net.c"].decode("ascii")
    assert len(re.findall(r"^static .*void depthwise_conv2d_dsp_i8", text, re.M)) == 1
    for compiler in sorted(COMPILERS):
        found = call(compile_library(files, compiler, ("-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror")), module,
                     images)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True)), compiler
