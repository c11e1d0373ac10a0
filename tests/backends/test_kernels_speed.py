"""Instructions for each multiply-accumulate on an emulated Cortex-M4F: a kernel that gets slower is noticed here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tinyc.tools.emulator import emulators_present, run_on_target
from tinyc.tools.program import program_of
from tinyc.tools.toolchain import core_compiler, routes_present

from tinyir import ops
from tinyir.opdef import Op

from .harness import emit, module_of
from .test_conv import floats, lowered

pytestmark = pytest.mark.skipif(not routes_present("cortex-m4") or not emulators_present(),
                                reason="no compiler for Arm or no emulator")


@dataclass(frozen=True)
class Layer:
    """A layer and the most instructions it may take for a multiply-accumulate."""

    kind: Callable[..., Op]
    x: tuple[int, ...]
    weight: tuple[int, ...]
    attrs: dict[str, Any]
    most: float


SAME = {"pad": (1, 1, 1, 1), "act": "relu"}
LAYERS = {
    "conv_3_to_16": Layer(ops.Conv2D, (1, 32, 32, 3), (16, 3, 3, 3), SAME, 2.2),
    "conv_16_to_16": Layer(ops.Conv2D, (1, 16, 16, 16), (16, 3, 3, 16), SAME, 1.8),
    "conv_stride": Layer(ops.Conv2D, (1, 16, 16, 16), (32, 3, 3, 16), {"stride": (2, 2), "pad": (0, 0, 1, 1)}, 1.8),
    "conv_one_channel": Layer(ops.Conv2D, (1, 49, 10, 1), (64, 10, 4, 1), {"stride": (2, 2), "pad": (4, 1, 5, 1)}, 1.7),
    "pointwise_8": Layer(ops.Conv2D, (1, 16, 16, 8), (16, 1, 1, 8), {"act": "relu"}, 2.4),
    "pointwise_64": Layer(ops.Conv2D, (1, 25, 5, 64), (64, 1, 1, 64), {"act": "relu"}, 1.9),
    "depthwise_narrow": Layer(ops.DepthwiseConv2D, (1, 25, 5, 64), (3, 3, 64), SAME, 2.5),
    "depthwise_wide": Layer(ops.DepthwiseConv2D, (1, 24, 24, 32), (3, 3, 32), SAME, 2.6),
    "dense": Layer(ops.Dense, (1, 640), (128, 640), {"act": "relu"}, 2.5),
}


@pytest.mark.parametrize("name", LAYERS)
def test_instructions(name: str, tmp_path: Path) -> None:
    layer = LAYERS[name]
    outputs = layer.weight[-1] if layer.kind is ops.DepthwiseConv2D else layer.weight[0]
    x, consts = floats(*layer.x), [floats(*layer.weight), floats(outputs)]
    module = lowered(module_of(lambda x, w, b: layer.kind(x, w, b, **layer.attrs), [x], consts), "cortex-m4")
    macs = sum(op.macs() for op in module.walk())
    route = routes_present("cortex-m4")[0]
    done = run_on_target(program_of(module, "net", emit(module)), [(x,)], "cortex-m4", cache=tmp_path,
                         compiler=core_compiler("cortex-m4", prefer=route), flags=("-std=c99", "-O2"))
    assert done.instructions is not None
    assert done.instructions / macs <= layer.most
