"""Ops that move bytes, and max pools, of quantised tensors: every byte, for both signs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tinyir import ops
from tinyir.ir import Value
from tinyir.opdef import Op
from tinyir.types import I8, U8, DType, TensorType

from .harness import COMPILERS
from .qharness import check_exact, per_tensor, stored

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
QUANT = per_tensor(0.05, 7)
QUICK = [("gcc", ("-O2",)), ("clang", ("-O3",))]


def sized(x: Value, *shape: int) -> TensorType:
    return TensorType(shape, x.type.dtype, QUANT)


MOVES: dict[str, Callable[[Value], Op]] = {
    "max_pool": lambda x: ops.MaxPool(x, (3, 2), (2, 2), (1, 0, 1, 1)),
    "max_pool in the padding": lambda x: ops.MaxPool(x, (3, 3), (1, 1), (2, 2, 2, 2)),
    "pad": lambda x: ops.Pad(x, (0, 1, 2, 0), (0, 1, 0, 3), "constant", 7.0),
    "pad with reflection": lambda x: ops.Pad(x, (0, 1, 2, 0), (0, 1, 0, 0), "reflect"),
    "transpose": lambda x: ops.Transpose(x, (0, 3, 1, 2)),
    "slice": lambda x: ops.Slice(x, begin=(0, 1, 5, 0), step=(1, 2, -2, 1), result=sized(x, 1, 3, 2, 4)),
    "resize": lambda x: ops.Resize(x, mode="nearest", coordinates="asymmetric", nearest="floor", scales=(2.0, 2.0),
                                   result=sized(x, 1, 16, 12, 4)),
    "tile": lambda x: ops.Tile(x, (1, 2, 1, 2)),
    "broadcast": lambda x: ops.BroadcastTo(x, sized(x, 3, 8, 6, 4)),
    "reshape": lambda x: ops.Reshape(x, sized(x, 1, 192)),
    "concat": lambda x: ops.Concat((x, x), 3),
    "clip": lambda x: ops.Clip(x, 3.0, 90.0),
    "reduce_max": lambda x: ops.ReduceMax(x, (1, 2)),
}


@pytest.mark.parametrize("dtype", [I8, U8])
@pytest.mark.parametrize("name", MOVES)
def test_bytes_are_moved(name: str, dtype: DType) -> None:
    x = stored(np.random.default_rng(1), dtype, 1, 8, 6, 4)
    if name == "max_pool in the padding":
        x[...] = dtype.range[0]  # padding must not win even against the least value
        x[0, 4, 3, 1] = dtype.range[0] + 1
    check_exact(MOVES[name], [(x, QUANT)], builds=QUICK)
