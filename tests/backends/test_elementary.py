"""The numpy twins of exp and log have the bits of the C, built without fused operations."""

from __future__ import annotations

import ctypes
import importlib
import subprocess
from pathlib import Path

import numpy as np
import pytest

RUNTIME = Path(__file__).parents[2] / "backends" / "c" / "runtime"
_SOURCE = """
#include <stdint.h>
typedef union { float value; uint32_t bits; } word;
static inline uint32_t tc_to_bits(float value) { word u; u.value = value; return u.bits; }
static inline float tc_from_bits(uint32_t bits) { word u; u.bits = bits; return u.value; }
%s
void run(const float *x, float *y, int n) { for (int i = 0; i < n; i++) y[i] = tc_%s(x[i]); }
"""


@pytest.mark.parametrize(("name", "low", "high"), [("exp", -110.0, 0.0), ("log", 1e-30, 1e30)])
def test_twin(name: str, low: float, high: float, tmp_path: Path) -> None:
    from tinyc.tools.toolchain import host_compiler

    source, library = tmp_path / "f.c", tmp_path / "f.so"
    source.write_text(_SOURCE % ((RUNTIME / f"{name}.c").read_text(), name))
    compiler = host_compiler()
    flags = ("-std=c99", "-O2", "-ffp-contract=off", "-shared", "-fPIC")
    subprocess.run([*compiler.command, *flags, "-o", library, source], check=True)
    rng = np.random.default_rng(2)
    x = rng.uniform(low, high, 200_000) if name == "exp" else np.exp(rng.uniform(np.log(low), np.log(high), 200_000))
    x = np.append(x, [1.0, 2.0, 0.5] if name == "log" else [0.0, -0.0, -87.5]).astype(np.float32)
    y = np.empty_like(x)
    pointers = (a.ctypes.data_as(ctypes.POINTER(ctypes.c_float)) for a in (x, y))
    ctypes.CDLL(str(library)).run(*pointers, x.size)
    twin = getattr(importlib.import_module("tinyc.backends.c.elementary"), f"{name}32")
    assert np.array_equal(twin(x).view(np.uint32), y.view(np.uint32))
