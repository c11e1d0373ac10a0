"""Networks on their side compute what they computed: random ones, alone and run row by row."""

from __future__ import annotations

import pytest

from tinyir.clone import clone_module
from tinyir.interp import run
from tinyir.ops import Conv2D, QConv2D
from tinyir.pass_manager import PassManager, parse_pipeline
from tinyir.verify import verify

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
