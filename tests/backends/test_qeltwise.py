"""Integer sums, products and tables: op reference, kernel reference and C agree in every byte."""

from __future__ import annotations

import numpy as np
import pytest

from tinyir.ir import Array
from tinyir.ops import Lookup, QAdd, QMul
from tinyir.types import I8, U8, DType, TensorType

from .harness import COMPILERS
from .qharness import check_exact, per_tensor, stored

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
QUICK = [("gcc", ("-O2",))]


def every_pair(dtype: DType) -> tuple[Array, Array]:
    every = np.arange(dtype.range[0], dtype.range[1] + 1).astype(dtype.numpy)
    a, b = np.meshgrid(every, every, indexing="ij")
    return np.ascontiguousarray(a), np.ascontiguousarray(b)


SCALES = {
    "plain": (0.05, 0.031, 0.077), "equal": (0.02, 0.02, 0.02), "powers of two": (0.5, 0.25, 0.5),
    "no linear sum": (0.00449406, 0.02372768, 0.16161065), "large ratio": (4.0, 0.001, 0.003),
}


@pytest.mark.parametrize("name", SCALES)
@pytest.mark.parametrize("dtype", [I8, U8])
@pytest.mark.parametrize("kind", [QAdd, QMul])
def test_every_pair_of_inputs(kind: type[QAdd] | type[QMul], dtype: DType, name: str) -> None:
    a, b = every_pair(dtype)
    zeros = (59, -70, 67) if dtype is I8 else (179, 58, 195)
    qa, qb, qc = (per_tensor(s, z) for s, z in zip(SCALES[name], zeros, strict=True))
    result = TensorType(a.shape, dtype, qc)
    check_exact(lambda x, y: kind(x, y, result), [(a, qa), (b, qb)])


def test_a_sum_without_a_proved_form_is_remarked() -> None:
    a, b = every_pair(U8)
    qa, qb, qc = (per_tensor(s, z) for s, z in zip(SCALES["no linear sum"], (179, 58, 195), strict=True))
    remarks = check_exact(lambda x, y: QAdd(x, y, TensorType(a.shape, U8, qc)), [(a, qa), (b, qb)], builds=QUICK)
    assert remarks == [
        "qnn.add: no linear form could be proved over all pairs of inputs, the single-precision sum is computed"]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", [QAdd, QMul])
def test_random_scales(kind: type[QAdd] | type[QMul], seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = (I8, U8)[seed % 2]
    scales = np.exp2(rng.uniform(-9, -1, 3) if seed % 3 else rng.integers(-9, 0, 3))
    qa, qb, qc = (per_tensor(s, int(rng.integers(*dtype.range))) for s in scales)
    a, b = every_pair(dtype)
    check_exact(lambda x, y: kind(x, y, TensorType(a.shape, dtype, qc)), [(a, qa), (b, qb)], builds=QUICK)


@pytest.mark.parametrize(("first", "second"), [((1, 5, 6, 8), (1, 1, 1, 8)), ((2, 3, 1, 4), (2, 3, 5, 4)),
                                               ((1, 5, 6, 8), (8,)), ((1,), (3, 7)), ((6, 1), (1, 9))])
@pytest.mark.parametrize("kind", [QAdd, QMul])
def test_broadcast(kind: type[QAdd] | type[QMul], first: tuple[int, ...], second: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    a, b = stored(rng, I8, *first), stored(rng, I8, *second)
    result = TensorType(np.broadcast_shapes(first, second), I8, per_tensor(0.04, 5))
    check_exact(lambda x, y: kind(x, y, result), [(a, per_tensor(0.03, -7)), (b, per_tensor(0.02, 9))], builds=QUICK)


def test_mixed_signs() -> None:
    rng = np.random.default_rng(1)
    a, b = stored(rng, I8, 300), stored(rng, U8, 300)
    result = TensorType((300,), U8, per_tensor(0.04, 130))
    check_exact(lambda x, y: QAdd(x, y, result), [(a, per_tensor(0.03, -7)), (b, per_tensor(0.02, 90))], builds=QUICK)


@pytest.mark.parametrize("source", [I8, U8])
@pytest.mark.parametrize("target", [I8, U8])
def test_lookup(source: DType, target: DType) -> None:
    rng = np.random.default_rng(3)
    x, table = stored(rng, source, 3, 5, 7), stored(rng, target, 256)
    quant = per_tensor(0.1, 3)
    result = TensorType(x.shape, target, quant)
    check_exact(lambda x, t: Lookup(x, t, result), [(x, per_tensor(0.1))], [(table, quant)])
