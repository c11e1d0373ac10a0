"""Quantising float networks: ranges, scales, what stays in float, and the passes that make the result better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pytest
from tinyc.passes._error import measure
from tinyc.passes._histogram import Histogram, Method

from tinyir.clone import clone_module
from tinyir.diag import CompileError
from tinyir.equality import structural_difference
from tinyir.interp import run
from tinyir.ir import Array, Module, Value
from tinyir.ops import Dequantize, Lookup, QConv2D, Quantize, Range
from tinyir.parser import parse
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.printer import print_module
from tinyir.requant import apply, solve, thresholds
from tinyir.types import I8
from tinyir.verify import verify

NETWORK = """
module @net {level = graph} {
  const @v : tensor<8x3x3x3xf32> = random<1>
  const @b : tensor<8xf32> = random<2>
  const @d : tensor<3x3x8xf32> = random<3>
  const @w : tensor<8x1x1x8xf32> = random<4>
  const @f : tensor<4x8xf32> = random<5>
  const @c : tensor<4xf32> = random<6>

  func @main(%x: tensor<1x8x8x3xf32>) -> tensor<1x4xf32> {
    %c0 = nn.conv2d(%x, @v, @b) {pad = [1, 1, 1, 1]} : tensor<1x8x8x8xf32> loc("first")
    %r0 = nn.relu(%c0) : tensor<1x8x8x8xf32>
    %m0 = nn.max_pool(%r0) {kernel = [2, 2], stride = [2, 2]} : tensor<1x4x4x8xf32>
    %c1 = nn.depthwise_conv2d(%m0, @d, none) {pad = [1, 1, 1, 1]} : tensor<1x4x4x8xf32> loc("second")
    %h1 = nn.hard_swish(%c1) : tensor<1x4x4x8xf32>
    %c2 = nn.conv2d(%h1, @w, none) : tensor<1x4x4x8xf32> loc("third")
    %s2 = nn.add(%c2, %m0) : tensor<1x4x4x8xf32>
    %p = nn.reduce_mean(%s2) {axes = [1, 2]} : tensor<1x1x1x8xf32>
    %q = nn.reshape(%p) : tensor<1x8xf32>
    %g = nn.dense(%q, @f, @c) : tensor<1x4xf32> loc("last")
    %y = nn.softmax(%g) : tensor<1x4xf32>
    nn.return(%y)
  }
}
"""


@dataclass(frozen=True)
class Samples:
    """Calibration data from arrays."""

    arrays: Sequence[Array]

    def samples(self, inputs: Sequence[Value]) -> Iterator[list[Array]]:
        for array in self.arrays:
            yield [array]


def images(count: int, shape: tuple[int, ...] = (1, 8, 8, 3), seed: int = 0) -> list[Array]:
    rng = np.random.Generator(np.random.PCG64(seed))
    return [rng.normal(0.3, 1, shape).astype(np.float32) for _ in range(count)]


def context(arrays: Sequence[Array] | None = None, **options: Any) -> Context:
    return Context(options={"calibration": Samples(images(40) if arrays is None else arrays), **options})


def quantised(pipeline: str, text: str = NETWORK, ctx: Context | None = None) -> tuple[Module, Context]:
    module, ctx = parse(text), ctx or context()
    PassManager(parse_pipeline(pipeline)).run(module, ctx)
    verify(module)
    return module, ctx


def score(pipeline: str, text: str = NETWORK) -> float:
    """Signal-to-noise ratio of the outputs, in dB."""
    module, ctx = quantised(pipeline, text)
    return measure(module, ctx, 40).score


# -- ranges ------------------------------------------------------------------------------------------------------------


def test_histogram_streams() -> None:
    """Data that comes in parts, with a growing range, gives what it gives in one piece."""
    data = np.concatenate([np.random.Generator(np.random.PCG64(i)).normal(0, 2.0**i, 5000) for i in range(6)])
    parts, whole = Histogram(), Histogram()
    for part in np.split(data, 30):
        parts.add(part)
    whole.add(np.concatenate([data[-1:], data[:-1]]))
    assert parts.count == whole.count == data.size
    assert parts.bins.sum() == whole.bins.sum()
    assert parts.range("minmax") == (data.min(), data.max())
    assert parts.reach < 2 * np.abs(data).max()


@pytest.mark.parametrize("method", get_args(Method))
def test_range_of_a_heavy_tail(method: Method) -> None:
    """No range goes beyond what was seen; percentile and entropy leave out one far outlier, which mse may not."""
    data = np.random.Generator(np.random.PCG64(0)).normal(0, 1, 100_000)
    data[17] = 1000.0
    histogram = Histogram()
    histogram.add(data)
    low, high = histogram.range(method)
    assert data.min() <= low < -1
    assert 1 < high <= 1000
    assert (high < 500) == (method in ("percentile", "entropy"))


def test_range_of_a_relu() -> None:
    """What is never negative has a range that begins at zero."""
    histogram = Histogram()
    histogram.add(np.maximum(np.random.Generator(np.random.PCG64(0)).normal(0, 1, 10_000), 0))
    for method in get_args(Method):
        assert histogram.range(method)[0] == 0


def test_range_of_nothing() -> None:
    histogram = Histogram()
    histogram.add(np.zeros(100))
    for method in get_args(Method):
        assert histogram.range(method) == (0, 0)


# -- what is quantised -------------------------------------------------------------------------------------------------


def test_ranges_stand_where_integers_will_be() -> None:
    """Not in front of a relu that belongs to a convolution, not behind what only moves; the text reads back."""
    module, _ = quantised("calibrate")
    assert [op.x.name for op in module.walk() if isinstance(op, Range)] == \
        ["x", "r0", "c1", "h1", "c2", "s2", "p", "g", "y"]
    assert structural_difference(parse(print_module(module, sidecar=None)), module) is None


def test_everything_becomes_integer() -> None:
    """One quantize, one dequantize, and integer ops in between."""
    module, _ = quantised("calibrate,quantize,fuse-quantized,canonicalize")
    names = [op.opname for op in module.main.ops]
    assert names == ["qnn.quantize", "qnn.conv2d", "nn.max_pool", "qnn.depthwise_conv2d", "qnn.lookup", "qnn.conv2d",
                     "qnn.add", "qnn.reduce_mean", "nn.reshape", "qnn.dense", "qnn.softmax", "qnn.dequantize",
                     "nn.return"]
    first = next(op for op in module.walk() if isinstance(op, QConv2D))
    quant = first.out.type.quant
    assert quant is not None
    assert quant.zero_point == -128  # the relu is in the saturation
    assert first.clamp is None
    assert module.main.results[0].defining(Dequantize).x.type.quant.scale == 1 / 256  # type: ignore[union-attr]


def test_integer_and_float_simulation_agree() -> None:
    """The integers compute what the float ops between dequantize and quantize do, but for single steps."""
    simulated, _ = quantised("calibrate,quantize")
    integers, _ = quantised("calibrate,quantize,fuse-quantized")
    for image in images(5, seed=9):
        [found], [wanted] = run(integers, [image]), run(simulated, [image])
        assert np.abs(found - wanted).max() <= 4 / 256


def test_keep_float() -> None:
    """A layer that is kept has float weights; one without weights is not fused either."""
    module, _ = quantised("calibrate,quantize,fuse-quantized", ctx=context(keep_float=("third", "s2")))
    names = [op.opname for op in module.main.ops]
    assert "nn.conv2d" in names
    assert "nn.add" in names
    assert names.count("qnn.conv2d") == 1
    with pytest.raises(CompileError, match="no node or value 'thrid'"):
        quantised("calibrate", ctx=context(keep_float=("thrid",)))


def test_concat_shares_its_scale() -> None:
    """What only a concat reads is stored as the concat wants it: nothing is left to change there."""
    module, _ = quantised("calibrate,quantize,fuse-quantized,canonicalize", """
module @net {level = graph} {
  const @v : tensor<4x1x1x3xf32> = random<1>
  const @w : tensor<4x1x1x3xf32> = random<2>
  func @main(%x: tensor<1x8x8x3xf32>) -> tensor<1x8x8x8xf32> {
    %a = nn.conv2d(%x, @v, none) : tensor<1x8x8x4xf32>
    %b = nn.conv2d(%x, @w, none) : tensor<1x8x8x4xf32>
    %r = nn.relu(%b) : tensor<1x8x8x4xf32>
    %y = nn.concat(%a, %r) {axis = 3} : tensor<1x8x8x8xf32>
    nn.return(%y)
  }
}
""")
    assert not [op for op in module.walk() if isinstance(op, Lookup)]
    layers = [op for op in module.walk() if isinstance(op, QConv2D)]
    assert len({op.out.type.quant for op in layers}) == 1
    quant = layers[1].out.type.quant
    assert quant is not None
    assert [op.clamp for op in layers] == [None, (quant.zero_point, 127)]  # the relu, in steps of the shared scale


def test_value_that_is_always_zero() -> None:
    """It gets a scale, and a remark."""
    ctx = context([np.zeros((1, 8, 8, 3), np.float32)])
    module, _ = quantised("calibrate,quantize,fuse-quantized", ctx=ctx)
    assert any("%x was zero in every sample" in d.message for d in ctx.diagnostics)
    run(module, images(1))


def test_errors() -> None:
    """No data, no samples, values without a range, a model that is quantised already."""
    with pytest.raises(CompileError, match="needs samples of the model's inputs"):
        PassManager(parse_pipeline("calibrate")).run(parse(NETWORK), Context())
    with pytest.raises(CompileError, match="no samples"):
        quantised("calibrate", ctx=context([]))
    with pytest.raises(CompileError, match="finds no ranges"):
        quantised("quantize")
    bad = images(1)
    bad[0][0, 0, 0, 0] = np.inf
    with pytest.raises(CompileError, match="not finite"):
        quantised("calibrate", ctx=context(bad))
    with pytest.raises(CompileError, match="quantised already"):
        quantised("calibrate,quantize,calibrate")
    with pytest.raises(CompileError, match="float model, which is not there"):
        PassManager(parse_pipeline("correct-bias")).run(parse(NETWORK), context())


# -- better ------------------------------------------------------------------------------------------------------------


def test_equalising_changes_nothing_in_float() -> None:
    text = NETWORK.replace("nn.add(%c2, %m0)", "nn.relu(%c2)").replace("nn.hard_swish(%c1)", "nn.relu(%c1)")
    plain = parse(text)
    module, ctx = quantised("equalize-layers", text)
    assert ctx.stats["equalize-layers"]["pairs"] == 2
    for image in images(3):
        np.testing.assert_allclose(run(module, [image])[0], run(plain, [image])[0], rtol=1e-4, atol=1e-6)


def test_corrections_help() -> None:
    """Corrected biases and rounded weights bring the outputs closer."""
    plain = score("calibrate{method=mse},quantize")
    assert score("calibrate{method=mse},quantize,round-weights") > plain + 1
    assert score("calibrate{method=percentile,percentile=99.0},quantize,correct-bias") > \
        score("calibrate{method=percentile,percentile=99.0},quantize")


def test_search_keeps_the_best() -> None:
    module, ctx = quantised("search-quantization")
    ranking = ctx.options["quantisations_tried"]
    assert len(ranking) == 12
    assert ranking == sorted(ranking, key=lambda item: -item[1])
    assert any(isinstance(op, Quantize) for op in module.walk())
    assert ctx.stats["search-quantization"]["best"] == ranking[0][0]


def test_nudged_layers_are_proved() -> None:
    """Every channel of every layer has a form with a rounding constant that is a multiple of 2^32."""
    _, before = quantised("calibrate,quantize,nudge-scales{reach=0}")
    module, after = quantised("calibrate,quantize,nudge-scales")
    assert before.stats["nudge-scales"]["layers-proved"] < 4
    assert after.stats["nudge-scales"]["layers-in-two-instructions"] == after.stats["nudge-scales"]["layers"] == 4
    for name, was in quantised("calibrate,quantize")[0].consts.items():
        old, new = was.type.quant, module.consts[name].type.quant
        assert old is not None
        assert new is not None
        np.testing.assert_allclose(new.scales, old.scales, rtol=2e-5)


def test_rounding_step() -> None:
    """`solve` with a step gives multiples of it, and its forms still hold at every threshold."""
    scale = np.float32([0.00213, 0.00317, 0.0029])
    low, high = np.full(3, -200_000), np.full(3, 200_000)
    form = solve(scale, 3, I8, low, high, shift=39, step=1 << 32)
    proved = form.proved
    assert (form.rounding[proved] % (1 << 32) == 0).all()
    limits = thresholds(scale, 3, I8)
    for channel in np.flatnonzero(proved):
        values = np.repeat(limits[channel][:, None], 3, axis=1)
        np.testing.assert_array_equal(apply(form, values)[:, channel], np.arange(-127, 128))


# -- the boundary ------------------------------------------------------------------------------------------------------


def test_io() -> None:
    """Integers at the boundary are those that the float boundary stores; and back."""
    module, _ = quantised("calibrate,quantize,fuse-quantized,canonicalize")
    stored, same = clone_module(module)
    PassManager(parse_pipeline("set-io{io=int8}")).run(stored, Context())
    verify(stored)
    quantize = next(op for op in module.walk() if isinstance(op, Quantize))
    last = module.main.results[0].defining(Dequantize)
    assert last is not None
    assert same
    image = images(1)[0]
    [found] = run(stored, [quantize.reference(image)])
    assert found.dtype == np.int8
    np.testing.assert_array_equal(last.reference(found), run(module, [image])[0])
    PassManager(parse_pipeline("set-io{io=float}")).run(stored, Context())
    assert structural_difference(stored, module) is None
