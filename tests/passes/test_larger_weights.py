"""schedule{weights=fast}: weights take more room where that is faster, the core has a use for it, and limits allow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tinyir.clone import clone_module
from tinyir.interp import run
from tinyir.ir import Argument, Array, Block, Func, Module
from tinyir.ops import QConv2D, Return
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.target import target_named
from tinyir.types import I8, Quant, TensorType

from ..backends.harness import COMPILERS, run_c
from .test_stream import Network

SHAPE = 1, 12, 12, 16
LARGER = "k.conv2d_winograd"


def network(channels: int = 16) -> Module:
    """Two 3x3 convolutions of 16 and of `channels` channels."""
    rng = np.random.default_rng(0)
    quant = Quant((0.02,), (-3,))
    module = Module("net", "quant")
    value: Any = Argument(TensorType(SHAPE, I8, quant), "x")
    block = Block([value])
    for name, inputs, outputs in (("a", 16, channels), ("b", channels, 2 * channels)):
        weight = rng.integers(-127, 128, (outputs, 3, 3, inputs)).astype(np.int8)
        scales = Quant((0.01,) * outputs, (0,) * outputs, 0)
        const = module.add_const(name, weight, type_=TensorType(weight.shape, I8, scales))
        result = TensorType((*SHAPE[:3], outputs), I8, Quant((0.5,), (1,)))
        layer = QConv2D(value, const, None, result, pad=(1, 1, 1, 1))
        block.append(layer)
        value = layer.out
    block.append(Return((value,)))
    module.funcs["main"] = Func("main", block, result_names=("y",))
    return module


def scheduled(options: str, target: str = "cortex-m4") -> Module:
    module = network()
    passes = parse_pipeline(f"schedule{{{options}}},expand-patches,lower-to-mem,fit-scratch,plan-arena")
    PassManager(passes).run(module, Context(target_named(target)))
    return module


def kernels(module: Module) -> list[str]:
    return [op.opname for op in module.walk() if op.opname.startswith("k.conv")]


def const_bytes(module: Module) -> int:
    return sum(const.type.size_bytes for const in module.consts.values())


def answers(module: Module) -> Array:
    x = np.random.default_rng(1).integers(-128, 128, SHAPE).astype(np.int8)
    return run(module, [x])[0]


def test_fastest() -> None:
    plain, fast = scheduled("ram=any"), scheduled("ram=any,weights=fast")
    assert kernels(plain) == ["k.conv2d_dsp"] * 2
    assert kernels(fast) == [LARGER] * 2
    assert const_bytes(fast) > 3 * const_bytes(plain)
    assert np.array_equal(answers(plain), answers(network()))
    assert np.array_equal(answers(fast), answers(network()))


@pytest.mark.parametrize("options", ["ram=any,flash=min,weights=fast", "ram=any,flash=16K,weights=fast", "ram=min"])
def test_too_large(options: str) -> None:
    assert LARGER not in kernels(scheduled(options))


@pytest.mark.parametrize("target", ["generic", "cortex-m0plus", "cortex-m55", "rv32imc"])
def test_no_kernel_for_it(target: str) -> None:
    fast = scheduled("ram=any,weights=fast", target)
    assert "larger_weights" not in fast.attrs
    assert kernels(fast) == kernels(scheduled("ram=any", target))


def test_some_layers() -> None:
    """Those with small weights have them larger, where there is no room for more."""
    assert kernels(scheduled("ram=any,flash=26K,weights=fast")) == [LARGER, "k.conv2d_dsp"]


def test_least_ram_goes_on() -> None:
    """Within a limit rows stream, and the answer is the same."""
    whole = scheduled("ram=any,weights=fast")
    limit = whole.arenas["arena"].size
    assert limit is not None
    less = scheduled(f"ram={limit - 2048},weights=fast")
    size = less.arenas["arena"].size
    assert size is not None
    assert size <= limit - 2048
    assert np.array_equal(answers(less), answers(network()))


class OfFours(Network):
    """A random network whose convolutions are what has a larger form, wherever there are fours of channels."""

    def convolve(self) -> None:
        x, outputs = self.pick(), int(self.rng.choice([3, 4, 8, 12]))
        window = (3, 3) if x.shape[3] % 4 == 0 and min(x.shape[1:3]) > 2 else (1, 1)
        pad = tuple(int(p) for p in self.rng.integers(0, 2, 4)) if window == (3, 3) else (0, 0, 0, 0)
        rows, columns = (x.shape[i + 1] + pad[i] + pad[i + 2] - window[i] + 1 for i in (0, 1))
        weight, bias = self.weight(outputs, *window, x.shape[3]), self.bias(outputs)
        result = self.type((1, rows, columns, outputs))
        self.images.append(self.build.add(QConv2D(x, weight, bias, result, pad=pad)).out)  # type: ignore[arg-type]

    pointwise = convolve


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
@pytest.mark.parametrize("how", ["", "stream{rows=3},", "schedule{ram=min,macs=30%},"])
def test_random_networks(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layer by layer, row by row and in tiles the answers are those of the network."""
    monkeypatch.setattr("tinyc.backends.c.kernels.dsp_winograd.winograd_pays", lambda *sizes: True)
    tiled = 0
    for seed in range(8):
        network = OfFours(seed, quantised=True)
        plain, x = network.grow(8), network.input()
        module, _ = clone_module(plain)
        module.attrs["larger_weights"] = 1 << 20
        passes = parse_pipeline(f"{how}expand-patches,lower-to-mem,plan-arena")
        PassManager(passes).run(module, Context(target_named("cortex-m4")))
        tiled += kernels(module).count(LARGER)
        in_c = run_c(module, [x], flags=("-O1",))
        for wanted, *others in zip(run(plain, [x]), run(module, [x]), in_c, strict=True):
            assert all(np.array_equal(found, wanted) for found in others)
    assert tiled > 4
