"""What `schedule` chooses: it computes the same as layer by layer, keeps its limits, and says what it found.

Random networks, whatever is chosen for them: the fastest, the least RAM, less RAM for more multiply-accumulates, less
code, limits between, and segments that are forced to run in ways that nobody would choose.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from tinyc.passes._front import apply_ways, ways_of
from tinyc.passes._stored import Memory
from tinyc.passes._ways import Scene, Way, whole
from tinyc.passes.stream import prepare_rows

from tinyir.clone import clone_module
from tinyir.diag import CompileError
from tinyir.interp import run
from tinyir.ir import Array, Module
from tinyir.ops import Conv2D, ReduceMean, Return
from tinyir.parser import parse
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.registry import FRONTENDS, PIPELINES, WAYS, load_plugins
from tinyir.rewrite import Rewriter
from tinyir.target import target_named
from tinyir.verify import verify

from ..backends.harness import COMPILERS, run_c
from .test_stream import Network, assert_same

FLAGS = ("-O1", "-ffp-contract=off")
LOWER = "expand-patches,lower-to-mem,fit-scratch,plan-arena"
OPTIONS = ("", "speed=5%", "ram=any", "ram=any,flash=min", "macs=50%", "macs=200%,scan=rows", "scan=columns",
           "ways=rows", "ways=split", "ways=strips,macs=100%")
MODELS = Path(__file__).resolve().parents[2].parent / "shared" / "models"


def arena(module: Module) -> int:
    return sum(a.size or 0 for a in module.arenas.values())


def scheduled(module: Module, options: str, target: str) -> tuple[Module, Context]:
    copy, _ = clone_module(module)
    context = Context(target_named(target))
    PassManager(parse_pipeline(f"order,schedule{{{options}}}")).run(copy, context)
    verify(copy)
    return copy, context


def lowered(module: Module, target: str) -> Module:
    PassManager(parse_pipeline(LOWER)).run(module, Context(target_named(target)))
    verify(module)
    return module


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(300, 309))
def test_interpreter(seed: int, quantised: bool) -> None:
    network = Network(seed, quantised)
    plain, x = network.grow(7), network.input()
    expected = run(plain, [x])
    for number, options in enumerate(OPTIONS):
        if (seed + number) % 3 == 0:
            copy, _ = scheduled(plain, options, "cortex-m4" if seed % 2 else "generic")
            assert_same(run(copy, [x]), expected, exact=quantised)
            assert_same(run(lowered(copy, "generic"), [x]), expected, exact=quantised)


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(320, 326))
def test_c(seed: int, quantised: bool) -> None:
    network = Network(seed, quantised)
    plain, x = network.grow(8), network.input()
    target = "cortex-m4" if seed % 2 else "generic"
    copy, _ = scheduled(plain, OPTIONS[seed % len(OPTIONS)], target)
    expected = run_c(lowered(plain, target), [x], flags=FLAGS)
    assert_same(run_c(lowered(copy, target), [x], flags=FLAGS), expected, exact=quantised)


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(340, 352))
def test_forced_choices(seed: int, quantised: bool) -> None:
    """Any way that a provider has for a segment, taken at random."""
    load_plugins()
    network = Network(seed, quantised)
    plain, x = network.grow(7), network.input()
    expected = run(plain, [x])
    prepare_rows(plain.main, Rewriter(plain, Context(), "test"))
    scene = Scene(plain.main, plain, Context().target, Memory(plain.main, 16), 2.0)
    found = ways_of(scene, [whole, *(provider for name, provider in WAYS.items() if name != "whole")])
    chosen, end = [], len(found)
    while end > 0:
        here = [v for way in found[end - 1] for v in (way, *(way.variants() if way.variants is not None else ()))]
        chosen.append(here[int(network.rng.integers(len(here)))])
        end = chosen[-1].first
    apply_ways(chosen, plain.main, plain)
    plain.level = "sched"
    verify(plain)
    assert_same(run(plain, [x]), expected, exact=quantised)
    assert_same(run(lowered(plain, "generic"), [x]), expected, exact=quantised)


@pytest.mark.parametrize("seed", range(360, 366))
def test_limits(seed: int) -> None:
    """What fits is taken, the fastest first; what cannot be is an error that says how much it takes, and where."""
    plain = Network(seed, True).grow(8)
    least, context = scheduled(plain, "", "generic")
    points = context.found["schedule"]["points"]
    assert points == sorted(points, key=lambda point: point["peak_bytes"])
    smallest = arena(lowered(least, "generic"))
    if smallest == 0:
        return
    for limit in (smallest, max(smallest, (smallest + int(points[-1]["peak_bytes"])) // 2)):
        fitted, _ = scheduled(plain, f"ram={limit}", "generic")
        assert arena(lowered(fitted, "generic")) <= limit
    with pytest.raises(CompileError) as caught:
        scheduled(plain, f"ram={smallest // 4}", "generic")
    text = str(caught.value)
    assert "no schedule of @main fits" in text
    assert "what stops it is %" in text


@pytest.mark.parametrize(("options", "message"), [
    ("ram=lots", "min, any or a size"), ("macs=10", "a share such as 5%"), ("speed=-5%", "a share such as 5%"),
    ("ways=rowz", "no provider of ways called 'rowz'"),
])
def test_wrong_options(options: str, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        scheduled(Network(3, False).grow(4), options, "generic")


def test_cost_grows_with_depth() -> None:
    """Chains: about as many segments are looked at for each op of a deep one as of a shallow one."""
    load_plugins()
    asked: dict[int, int] = {16: 0, 64: 0}
    for depth in asked:
        module = chain(depth)

        def counting(scene: Scene, first: int, end: int, depth: int = depth) -> Iterable[Way] | None:
            asked[depth] += 1
            found: Iterable[Way] | None = WAYS.get("rows")(scene, first, end)
            return found

        ways_of(Scene(module.main, module, Context().target, Memory(module.main, 16)), [whole, counting])
    assert asked[64] / 64 <= 2 * asked[16] / 16


def chain(depth: int) -> Module:
    """3x3 convolutions of one size."""
    network = Network(1, False)
    image = network.build.add(Conv2D(network.images[0], network.weight(4, 3, 3, network.images[0].shape[3]), None,
                                     pad=(1, 1, 1, 1))).out
    for _ in range(depth):
        image = network.build.add(Conv2D(image, network.weight(4, 3, 3, 4), None, pad=(1, 1, 1, 1))).out
    network.build.add(Return((network.build.add(ReduceMean(image, (1, 2))).out,)))
    return network.module


@pytest.mark.long
@pytest.mark.skipif(not MODELS.exists(), reason="the shared models are absent")
def test_the_least_arena_is_not_the_least_plan() -> None:
    """Schedules that are planned nearly as small as the least are placed before one is taken."""
    def compiled(options: str) -> tuple[Module, Context]:
        module = FRONTENDS.get("onnx")(str(MODELS / "micro_kws_qop_int8.onnx"), name="net", ctx=Context())
        context = Context(target_named("cortex-m4"))
        pipeline = PIPELINES.get("O2").replace("speed=5%", options)
        PassManager(parse_pipeline(pipeline)).run(module, context)
        return module, context

    module, context = compiled("ram=min")
    found = context.found["schedule"]
    assert found["chosen"] == 1
    assert found["points"][1]["peak_bytes"] > found["points"][0]["peak_bytes"]
    with pytest.raises(CompileError, match="fits into"):
        compiled(f"ram={arena(module) // 8 * 7}")


@pytest.mark.long
@pytest.mark.skipif(not MODELS.exists(), reason="the shared models are absent")
@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
@pytest.mark.parametrize("name", ["kws_dscnn_int8", "resnet8_int8", "vww_mobilenetv1_int8", "mcunet_det_int8",
                                  "mbv2_w035_144_ortq_int8", "micro_kws_qop_int8", "denoise_unet_resize_f32"])
def test_models_at_four_limits(name: str) -> None:
    """From the least on, to near layer by layer: the arena keeps the limit, the bytes are the same."""
    def compiled(extra: str) -> tuple[Module, Context]:
        module = FRONTENDS.get("onnx")(str(MODELS / f"{name}.onnx"), name="net", ctx=Context())
        context = Context(target_named("cortex-m4"))
        pipeline = PIPELINES.get("O1").replace("expand-patches,lower-to-mem", f"{extra}expand-patches,lower-to-mem,"
                                                                              "fit-scratch")
        PassManager(parse_pipeline(pipeline)).run(module, context)
        return module, context

    plain, _ = compiled("")
    smallest, most = arena(compiled("schedule{scan=rows},")[0]), arena(plain)
    rng = np.random.Generator(np.random.PCG64(1))
    xs: list[Array] = [rng.uniform(-1, 1, v.shape).astype(np.float32) if v.type.dtype.is_float
                       else rng.integers(*v.type.dtype.range, v.shape, endpoint=True).astype(v.type.dtype.numpy)
                       for v in plain.main.inputs]
    expected = run_c(plain, xs, flags=FLAGS)
    for share in (0, 0.02, 0.2, 0.6):
        limit = smallest + int((most - smallest) * share)
        module, _ = compiled(f"order,schedule{{ram={limit},scan=rows}},")
        assert arena(module) <= limit
        assert_same(run_c(module, xs, flags=FLAGS), expected, exact=True)


@pytest.mark.parametrize("options", ["", "speed=5%", "ram=any,flash=min"])
def test_nothing_to_run(options: str) -> None:
    """A network that is a constant, all of whose ops were folded, needs no memory."""
    module = parse("module @m {level = graph} {\n  func @main(%x: tensor<2xf32>) -> tensor<2xf32> {\n"
                   "    nn.return(%x)\n  }\n}\n")
    copy, _ = scheduled(module, options, "generic")
    assert arena(lowered(copy, "generic")) == 0
