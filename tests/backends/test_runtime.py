"""The elementary functions of runtime/ alone, against numpy in double, over floats of every size and special values."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from tinyc.backends.c.library import FUNCTIONS, function_text, needed

from tinyir.ir import Array

from .harness import COMPILERS, compile_library

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")

SPECIAL = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.1754942e-38, 3.4028235e38, -3.4028235e38,
                    88.72283, 88.72284, -87.33655, -103.97, -104.5, 0.5, 1.5, 2.5, -0.5, -1.5, 8388607.5, -8388607.5,
                    1, -1], np.float32)


def sigmoid(x: Array) -> Array:
    power = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + power), power / (1 + power))


def erf(x: Array) -> Array:
    return np.array([math.erf(v) for v in x.tolist()])


# Each function, its meaning in double, and the greatest error in units of the last place.
EXPECTED: dict[str, tuple[Callable[[Array], Array], float]] = {
    "exp": (np.exp, 1.1), "expm1": (np.expm1, 2), "tanh": (np.tanh, 2), "log": (np.log, 1), "sigmoid": (sigmoid, 3),
    "softplus": (lambda x: np.logaddexp(0, x), 2), "erf": (erf, 2), "sqrt": (np.sqrt, 0.5), "floor": (np.floor, 0),
    "ceil": (np.ceil, 0), "round": (np.rint, 0), "sign": (np.sign, 0), "abs": (np.abs, 0),
}


@cache
def floats(count: int) -> Array:
    """Every so many encodings of a float, all signs and exponents, and more of those between -10 and 10."""
    rng = np.random.default_rng(1)
    every = np.linspace(0, 2**32 - 1, count).astype(np.uint64).astype(np.uint32).view(np.float32)
    return np.concatenate([SPECIAL, every, *(rng.uniform(-m, m, count).astype(np.float32) for m in (10, 1))])


def library(compiler: str, flags: tuple[str, ...] = ("-O2",)) -> ctypes.CDLL:
    names = [*EXPECTED, "pow"]
    lines = ["#include <stdint.h>", *needed([" ".join(f"tc_{name}" for name in names)])]
    for name in EXPECTED:
        lines.append(f"void v_{name}(const float *x, float *y, int32_t n)\n"
                     f"{{\n    for (int32_t i = 0; i < n; i++) {{\n        y[i] = tc_{name}(x[i]);\n    }}\n}}")
    lines.append("void v_pow(const float *x, const float *z, float *y, int32_t n)\n"
                 "{\n    for (int32_t i = 0; i < n; i++) {\n        y[i] = tc_pow(x[i], z[i]);\n    }\n}")
    return compile_library({"math.c": "\n".join(lines).encode()}, compiler, flags)


def computed(functions: ctypes.CDLL, name: str, *inputs: Array) -> Array:
    result = np.empty_like(inputs[0])
    functions[f"v_{name}"](*(ctypes.c_void_p(a.ctypes.data) for a in (*inputs, result)), len(result))
    return result


def units(found: Array, exact: Array) -> Array:
    """The errors in units of the last place of the correctly rounded result."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float32)
        place = np.spacing(np.abs(rounded)).astype(np.float64)
        error = np.abs(found.astype(np.float64) - exact) / np.where(np.isfinite(place), place, 1)
    return np.where((found == rounded) | (np.isnan(found) & np.isnan(exact)), 0, error)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_accuracy(name: str, compiler: str) -> None:
    x = floats(20_000 if name == "erf" else 200_000)
    meaning, bound = EXPECTED[name]
    with np.errstate(all="ignore"):
        error = units(computed(library(compiler), name, x), meaning(x.astype(np.float64)))
    worst = int(np.argmax(error))
    assert error[worst] <= bound, f"{name}({x[worst]!r}) is {error[worst]:.2f} units off"


@pytest.mark.parametrize("compiler", COMPILERS)
def test_power(compiler: str) -> None:
    rng = np.random.default_rng(2)
    base = np.concatenate([np.exp(rng.uniform(-80, 80, 100_000)), rng.uniform(0, 2, 100_000), -rng.uniform(0, 9, 1000),
                           np.repeat(SPECIAL, len(SPECIAL))]).astype(np.float32)
    exponent = np.concatenate([rng.uniform(-40, 40, 100_000), rng.uniform(-300, 300, 100_000),
                               rng.integers(-20, 20, 1000), np.tile(SPECIAL, len(SPECIAL))]).astype(np.float32)
    with np.errstate(all="ignore"):
        exact = np.power(base.astype(np.float64), exponent.astype(np.float64))
        error = units(computed(library(compiler), "pow", base, exponent), exact)
    worst = int(np.argmax(error))
    assert error[worst] <= 1, f"pow({base[worst]!r}, {exponent[worst]!r}) is {error[worst]:.2f} units off"


@pytest.mark.skipif(len(COMPILERS) < 2, reason="needs gcc and clang")
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_compilers_agree_to_the_bit(name: str) -> None:
    x = floats(20_000)
    assert computed(library("gcc"), name, x).tobytes() == computed(library("clang"), name, x).tobytes()


def test_square_root_without_an_instruction() -> None:
    x = floats(200_000)
    with np.errstate(all="ignore"):
        error = units(computed(library("gcc", ("-O2", "-U__SSE__")), "sqrt", x), np.sqrt(x.astype(np.float64)))
    assert error.max() <= 0.5


def test_a_file_holds_the_function_that_it_is_named_after() -> None:
    for name in FUNCTIONS:
        assert re.search(rf"\btc_{name}\b", function_text(name)), name
        assert function_text(name).startswith(("/*", "#if")), f"{name}.c does not say what it is"
