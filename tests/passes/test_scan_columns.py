"""Networks on their side compute what they computed: random ones, alone and run row by row."""

from __future__ import annotations

import numpy as np
import pytest

from tinyir.clone import clone_module
from tinyir.interp import run
from tinyir.ir import Value
from tinyir.opdef import Op
from tinyir.ops import Conv2D, QConv2D, ReduceMean
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.verify import verify

from ..backends.harness import module_of
from .test_stream import Network, assert_same


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(200, 220))
def test_random_networks(seed: int, quantised: bool) -> None:
    network = Network(seed, quantised)
    module = network.grow(8)
    x = network.input()
    expected = run(module, [x])
    turned, _ = clone_module(module)
    PassManager(parse_pipeline("scan-columns")).run(turned)
    verify(turned)
    assert_same(run(turned, [x]), expected, exact=quantised)
    PassManager(parse_pipeline("stream,lower-to-mem,plan-arena")).run(turned)
    verify(turned)
    assert_same(run(turned, [x]), expected, exact=quantised)


@pytest.mark.parametrize("quantised", [False, True])
def test_windows_are_turned(quantised: bool) -> None:
    network = Network(0, quantised)
    network.convolve()
    network.convolve()
    module = network.grow(0)
    kind = QConv2D if quantised else Conv2D
    before = [op.out.shape for op in module.walk() if isinstance(op, kind)]
    PassManager(parse_pipeline("scan-columns")).run(module)
    after = [op.out.shape for op in module.walk() if isinstance(op, kind)]
    assert [(s[0], s[2], s[1], s[3]) for s in after] == before


@pytest.mark.parametrize(("shape", "scanned"), [((1, 32, 6, 2), "rows"), ((1, 6, 32, 2), "columns")])
def test_the_shorter_side_is_kept(shape: tuple[int, ...], scanned: str) -> None:
    """schedule goes along the longer side of the images."""
    weight = np.ones((2, 3, 3, 2), np.float32)

    def build(x: Value, w: Value) -> Op:
        return Conv2D(x, w, None, pad=(1, 1, 1, 1))

    module = module_of(build, [np.zeros(shape, np.float32)], [weight])
    block = module.main.block
    end = block.ops.pop()
    first = end.operands[0]
    assert first is not None
    second = Conv2D(first, module.consts["w0"], None, pad=(1, 1, 1, 1))
    mean = ReduceMean(second.out, (1, 2))
    end.replace_operand(0, mean.out)
    for op in (second, mean, end):
        block.append(op)
    context = PassManager(parse_pipeline("schedule")).run(module, Context())
    stats = context.stats["schedule"]
    assert min(("rows", "columns"), key=lambda way: stats[f"bytes-by-{way}"]) == scanned
    verify(module)
