"""What used to end a region that runs row by row: softmax along rows, batch normalisation and padding of their own, and
parts of images.
"""

from __future__ import annotations

import numpy as np
import pytest
from tinyc.passes._streamable import can_stream

from tinyir.clone import clone_module
from tinyir.interp import run
from tinyir.ir import Module
from tinyir.ops import BatchNorm, LogSoftmax, Pad, Patch, QSoftmax, Return, Slice, Softmax, Stream, Transpose
from tinyir.parser import parse
from tinyir.pass_manager import PassManager, parse_pipeline
from tinyir.registry import load_plugins

from ..backends.harness import COMPILERS, run_c
from .test_stream import Network, assert_same

FLAGS = ("-O1", "-ffp-contract=off")


class Ends(Network):
    """Networks of convolutions, joins and these."""

    def activate(self) -> None:
        x, axis = self.pick(), int(self.rng.integers(2, 4))
        if self.quantised:
            self.images.append(self.build.add(QSoftmax(x, self.type(x.shape), axis)).out)
        else:
            self.images.append(self.build.add((Softmax, LogSoftmax)[int(self.rng.integers(2))](x, axis)).out)

    def enlarge(self) -> None:
        x = self.pick()
        if self.quantised:
            self.pool()
            return
        count = x.shape[3]
        vectors = [self.build.const("v", self.rng.uniform(0.5, 1, count).astype(np.float32)) for _ in range(4)]
        self.images.append(self.build.add(BatchNorm(x, *vectors)).out)

    def pool(self) -> None:
        x = self.pick()
        if self.rng.random() < 0.5:
            begin = [0, *(int(self.rng.integers(0, extent // 2 + 1)) for extent in x.shape[1:])]
            shape = [1, *(int(self.rng.integers(1, d - b + 1)) for d, b in zip(x.shape[1:], begin[1:], strict=True))]
            if min(shape[1:3]) >= 3:
                self.images.append(self.build.add(Slice(x, tuple(begin), (1,) * 4, self.type(shape))).out)
            return
        amounts = [(0, *(int(n) for n in self.rng.integers(-1, 3, 2)), int(self.rng.integers(0, 2))) for _ in range(2)]
        if min(x.shape[1:3]) >= 4 and x.type.elements < 1500:
            self.images.append(self.build.add(Pad(x, amounts[0], amounts[1], value=3.0)).out)


def both(seed: int, quantised: bool) -> tuple[Module, Module, Ends]:
    """A network layer by layer and row by row, at mem level."""
    network = Ends(seed, quantised)
    plain = network.grow(8)
    streamed, _ = clone_module(plain)
    PassManager(parse_pipeline(f"stream{network.cuts()},lower-to-mem,plan-arena")).run(streamed)
    PassManager(parse_pipeline("lower-to-mem,plan-arena")).run(plain)
    return plain, streamed, network


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_interpreter(seed: int, quantised: bool) -> None:
    plain, streamed, network = both(seed, quantised)
    x = network.input()
    assert_same(run(streamed, [x]), run(plain, [x]), exact=quantised)


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(50, 56))
def test_c(seed: int, quantised: bool) -> None:
    plain, streamed, network = both(seed, quantised)
    x = network.input()
    assert_same(run_c(streamed, [x], flags=FLAGS), run_c(plain, [x], flags=FLAGS), exact=True)


_NET = """
module @net {{
  const @w : tensor<4x3x3x2xf32> = random<1>
  const @v : tensor<4x3x3x4xf32> = random<2>
  const @n : tensor<4xf32> = splat<0.75>
  func @main(%x: tensor<1x12x8x2xf32>) -> tensor<1x12x8x4xf32> {{
    %a = nn.conv2d(%x, @w, none) {{pad = [1, 1, 1, 1]}} : tensor<1x12x8x4xf32>
    {before}
    %b = {op} : tensor<1x12x8x4xf32>
    %y = nn.conv2d(%b, @v, none) {{pad = [1, 1, 1, 1]}} : tensor<1x12x8x4xf32>
    nn.return(%y)
  }}
}}
"""
_OPS = {
    "softmax": "nn.softmax(%a)", "columns": "nn.softmax(%a) {axis = 2}", "logarithm": "nn.log_softmax(%a)",
    "batch-norm": "nn.batch_norm(%a, @n, @n, @n, @n)",
    "part": "nn.concat(%l, %r) {axis = 3}",
    "pad": "nn.pad(%a) {before = [0, 2, -1, 0], after = [0, -2, 1, 0], value = 1.0}",
}
_PARTS = """%l = nn.slice(%a) {begin = [0, 0, 0, 2], step = [1, 1, 1, 1]} : tensor<1x12x8x2xf32>
    %r = nn.slice(%a) {begin = [0, 0, 0, 0], step = [1, 1, 1, 1]} : tensor<1x12x8x2xf32>"""
_PIPELINES = ["stream{cuts=y}", "patch{grid=1x2,until=y,rows=1}", "patch{grid=2x2,until=y}",
              "scan-columns,stream{cuts=y}"]


@pytest.mark.parametrize(("op", "pipeline"), [(op, pipeline) for op in sorted(_OPS) for pipeline in _PIPELINES
                                              if op != "columns" or pipeline == _PIPELINES[0]])  # needs whole rows
def test_regions_go_on(op: str, pipeline: str) -> None:
    """By rows, in strips, by tiles and by columns: one region, whose values are no larger than its rings."""
    text = _NET.format(op=_OPS[op], before=_PARTS if op == "part" else "")
    module, plain = parse(text), parse(text)
    load_plugins()
    assert all(can_stream(o) or isinstance(o, Slice) for o in plain.main.ops[:-1])
    x = np.random.Generator(np.random.PCG64(1)).uniform(-1, 1, (1, 12, 8, 2)).astype(np.float32)
    PassManager(parse_pipeline(pipeline)).run(module)
    assert [type(o) for o in module.main.ops if not isinstance(o, (Return, Transpose))] in ([Stream], [Patch])
    PassManager(parse_pipeline("lower-to-mem,plan-arena")).run(module)
    np.testing.assert_allclose(run(module, [x])[0], run(plain, [x])[0], rtol=1e-4, atol=1e-5)
    if COMPILERS:
        np.testing.assert_allclose(run_c(module, [x], flags=FLAGS)[0], run(plain, [x])[0], rtol=1e-4, atol=1e-5)
    if pipeline == _PIPELINES[0]:
        assert module.arenas["arena"].size <= 9 * 8 * 4 * 4


_SWAPPED = """
module @net {
  const @w : tensor<4x3x3x2xf32> = random<1>
  const @v : tensor<6x1x1x4xf32> = random<2>
  func @main(%x: tensor<1x12x8x2xf32>) -> (tensor<1x8x12x6xf32>, tensor<1x144x4xf32>) {
    %a = nn.conv2d(%x, @w, none) {pad = [1, 1, 1, 1]} : tensor<1x12x8x4xf32>
    %b = nn.conv2d(%a, @v, none) : tensor<1x12x8x6xf32>
    %y = nn.transpose(%b) {perm = [0, 2, 1, 3]} : tensor<1x8x12x6xf32>
    %c = nn.max_pool(%a) {kernel = [2, 2], stride = [2, 1], pad = [0, 0, 0, 1]} : tensor<1x6x8x4xf32>
    %d = nn.transpose(%c) {perm = [0, 2, 1, 3]} : tensor<1x8x6x4xf32>
    %e = nn.transpose(%a) {perm = [0, 2, 1, 3]} : tensor<1x8x12x4xf32>
    %d1 = nn.reshape(%d) : tensor<1x48x4xf32>
    %e1 = nn.reshape(%e) : tensor<1x96x4xf32>
    %z = nn.concat(%d1, %e1) {axis = 1} : tensor<1x144x4xf32>
    nn.return(%y, %z)
  }
}
"""


@pytest.mark.parametrize("pipeline", ["lower-to-mem", "stream{cuts=e}", "stream{cuts=e,rows=3}",
                                      "patch{grid=1x2,until=y,rows=1}", "patch{grid=2x2,until=y}"])
def test_results_with_rows_and_columns_swapped(pipeline: str) -> None:
    """They are written row by row where the caller wants them: what lies in the arena is less than one of them."""
    module, plain = parse(_SWAPPED), parse(_SWAPPED)
    x = np.random.Generator(np.random.PCG64(2)).uniform(-1, 1, (1, 12, 8, 2)).astype(np.float32)
    rest = "" if pipeline == "lower-to-mem" else ",lower-to-mem"
    PassManager(parse_pipeline(f"{pipeline}{rest},plan-arena")).run(module)
    for found in (run(module, [x]), *([run_c(module, [x], flags=FLAGS)] if COMPILERS else [])):
        for one, other in zip(found, run(plain, [x]), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert "stream" not in pipeline or (module.arenas["arena"].size or 0) < 8 * 12 * 4 * 4


def test_columns_leave_as_they_come() -> None:
    """A network on its side, rows and columns of its results swapped: nothing is stored for that."""
    module, plain = parse(_NET.format(op=_OPS["softmax"], before="")), parse(_NET.format(op=_OPS["softmax"], before=""))
    x = np.random.Generator(np.random.PCG64(1)).uniform(-1, 1, (1, 12, 8, 2)).astype(np.float32)
    context = PassManager(parse_pipeline("scan-columns,stream,lower-to-mem,plan-arena")).run(module)
    np.testing.assert_allclose(run(module, [x])[0], run(plain, [x])[0], rtol=1e-4, atol=1e-5)
    assert context.stats["stream"]["groups"] == 1
    assert (module.arenas["arena"].size or 0) < 12 * 8 * 4 * 4


def test_rows_are_not_normalised_row_by_row() -> None:
    plain = parse(_NET.format(op="nn.softmax(%a) {axis = 1}", before=""))
    load_plugins()
    assert not can_stream(plain.main.ops[1])
