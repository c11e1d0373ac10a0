"""Single-precision arithmetic with integers: the functions of the C against numpy, bit for bit."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tinyc.backends.c.library import needed

from tinyir.ir import Array

from .harness import COMPILERS, STRICT

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
COUNT = 200_000
_SOURCE = """
void add(const uint32_t *a, const uint32_t *b, uint32_t *y, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = tc_soft_add(a[i], b[i]);
    }
}
void multiply(const uint32_t *a, const uint32_t *b, uint32_t *y, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = tc_soft_multiply(a[i], b[i]);
    }
}
void divide(const uint32_t *a, const uint32_t *b, uint32_t *y, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = tc_soft_divide(a[i], b[i]);
    }
}
void soft_quantized(const uint32_t *x, int32_t *y, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = tc_soft_quantized(x[i], 3, -128, 127);
    }
}
void quantized(const float *x, int32_t *y, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = tc_quantized(x[i], 3, -128, 127);
    }
}
"""
# Which exponents the random floats have.
KINDS = {"any": (0, 255), "near": (120, 136), "small": (0, 30), "whole": (127, 150)}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("soft")
    text = "\n".join(["#include <stdint.h>", *needed([_SOURCE]), _SOURCE])
    Path(folder / "soft.c").write_text(text)
    subprocess.run([COMPILERS[0], *STRICT, "-Wno-missing-prototypes", "-O2", "-fPIC", "-shared", "soft.c", "-o",
                    "soft.so"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "soft.so"))


def floats(kind: str, seed: int) -> Array:
    """Random finite floats of that kind; a quarter of them have few digits, so that ties are frequent."""
    rng = np.random.default_rng(seed)
    fraction = rng.integers(0, 2**23, COUNT) & np.where(rng.random(COUNT) < 0.25, 0x700000, 0x7FFFFF)
    bits = rng.integers(0, 2, COUNT) << 31 | rng.integers(*KINDS[kind], COUNT) << 23 | fraction
    return bits.astype(np.uint32).view(np.float32)


def call(library: ctypes.CDLL, name: str, *arrays: Array) -> None:
    library[name](*(ctypes.c_void_p(a.ctypes.data) for a in arrays), COUNT)


@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_operations(library: ctypes.CDLL, first: str, second: str) -> None:
    a, b = floats(first, 1), floats(second, 2)
    b = np.where(b == 0, np.float32(1), b)
    y = np.zeros(COUNT, np.float32)
    with np.errstate(all="ignore"):
        for name, expected in (("add", a + b), ("multiply", a * b), ("divide", a / b)):
            call(library, name, a, b, y)
            assert np.array_equal(y, expected), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["quantized", "soft_quantized"])
def test_rounding(library: ctypes.CDLL, name: str, kind: str) -> None:
    x = floats(kind, 3)
    x[:1000] = np.arange(1000) / 2 - 250
    y = np.zeros(COUNT, np.int32)
    call(library, name, x, y)
    assert np.array_equal(y, np.clip(np.rint(np.clip(x, -1e6, 1e6)).astype(np.int64) + 3, -128, 127))
