"""Compilers, the host harness and emulated cores, on a few lines of hand-written C."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tinyc.tools.elf import read_symbols
from tinyc.tools.emulator import emulators_present, find_emulator, run_on_target
from tinyc.tools.harness import run_on_host
from tinyc.tools.program import Port, Program, Sample
from tinyc.tools.toolchain import (
    STRICT,
    Route,
    compile_objects,
    core_compiler,
    host_compiler,
    routes_present,
    undefined_symbols,
)

from tinyir.diag import CompileError
from tinyir.types import F32, I8

HEADER = b"""
#include <stdint.h>
int toy_run(const float *a, const float *b, const int8_t *c, float *sum, int8_t *neg);
"""
SOURCE = b"""
#include "toy.h"
extern const float toy_w[4];
int toy_run(const float *a, const float *b, const int8_t *c, float *sum, int8_t *neg)
{
    int i;
    for (i = 0; i < 4; i++) sum[i] = a[i] / b[i] + toy_w[i];
    for (i = 0; i < 3; i++) neg[i] = (int8_t)(-c[i]);
    return STATUS;
}
"""
WEIGHTS = b"extern const float toy_w[4];\nconst float toy_w[4] = {1.0f, 2.0f, 3.0f, 4.0f};\n"


def toy(status: str = "0", body: bytes = SOURCE) -> Program:
    files = {"toy.h": HEADER, "toy.c": body.replace(b"STATUS", status.encode()), "toy_weights.c": WEIGHTS}
    return Program("toy", files, (Port("a", (2, 2), F32), Port("b", (4,), F32), Port("c", (3,), I8)),
                   (Port("sum", (4,), F32), Port("neg", (3,), I8)))


def samples() -> list[Sample]:
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(2, 2)).astype(np.float32), rng.uniform(1, 2, 4).astype(np.float32),
             rng.integers(-9, 9, 3).astype(np.int8)) for _ in range(3)]


def check(outputs: list[Sample]) -> None:
    for (total, negative), (a, b, c) in zip(outputs, samples(), strict=True):
        np.testing.assert_allclose(total, a.reshape(4) / b + np.arange(1, 5), rtol=1e-6)
        np.testing.assert_array_equal(negative, -c)


def need(route: Route, target: str | None = None, emulator: str | None = None) -> None:
    if route not in routes_present(target) or (emulator and emulator not in emulators_present()):
        pytest.skip(f"the tools of this route are not installed ({route}, {emulator})")


@pytest.mark.parametrize("route", ["system", "zig"])
def test_host_library(route: Route) -> None:
    need(route)
    run = run_on_host(toy(), samples(), compiler=host_compiler(prefer=route), repeat=3)
    check(run.outputs)
    assert len(run.seconds) == 3


@pytest.mark.parametrize(("route", "emulator"), [("system", "qemu"), ("zig", "unicorn"), ("system", "unicorn")])
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7"])
def test_emulated_core(route: Route, emulator: str, target: str) -> None:
    need(route, target, emulator)
    run = run_on_target(toy(), samples(), target, compiler=core_compiler(target, prefer=route),
                        emulator=find_emulator(emulator))  # type: ignore[arg-type]
    check(run.outputs)
    assert run.instructions is not None
    assert 20 < run.instructions < 400
    assert run.stack_bytes is not None
    assert 0 < run.stack_bytes < 512


def test_emulators_count_alike() -> None:
    need("system", "cortex-m4", "qemu")
    need("system", "cortex-m4", "unicorn")
    loop = b"for (k = 0; k < 5000; k++) t[k & 3] = t[(k + 1) & 3] * 0.5f + a[k & 3];\n"
    body = SOURCE.replace(b"int i;", b"int i, k; static volatile float t[4];\n" + loop)
    counts = [run_on_target(toy(body=body), samples()[:1], "cortex-m4", emulator=find_emulator(e)).instructions
              for e in ("qemu", "unicorn")]
    assert counts[0] is not None
    assert counts[1] is not None
    assert abs(counts[0] - counts[1]) <= 40  # a tick of the board's timer


def test_error_status_is_an_internal_error() -> None:
    with pytest.raises(CompileError, match="toy_run returned -3, not 0"):
        run_on_host(toy("-3"), samples(), compiler=host_compiler())


def test_crash_is_reported() -> None:
    body = SOURCE.replace(b"int i;", b"int i; volatile int *p = (volatile int *)8; *p = 1;")
    with pytest.raises(CompileError, match="crashed on the host"):
        run_on_host(toy(body=body), samples(), compiler=host_compiler())


def test_write_outside_of_an_output_is_found() -> None:
    body = SOURCE.replace(b"int i;", b"int i; sum[4] = 1.0f;")
    with pytest.raises(CompileError, match="outside of its output"):
        run_on_host(toy(body=body), samples(), compiler=host_compiler())


def test_broken_c_shows_the_compiler_message() -> None:
    with pytest.raises(CompileError, match="does not build the C") as caught:
        run_on_host(toy(body=b"int toy_run(void) { return x; }\n"), samples(), compiler=host_compiler())
    assert caught.value.diagnostics[0].severity == "internal"
    assert any("toy.c:1" in note for note in caught.value.diagnostics[0].notes)


def test_bad_user_flags_are_a_user_error() -> None:
    compiler = host_compiler(cflags="-std=c89 -pedantic-errors -Dint=")
    with pytest.raises(CompileError, match="check --cflags") as caught:
        run_on_host(toy(), samples(), compiler=compiler)
    assert caught.value.diagnostics[0].severity == "error"


def test_missing_compiler_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("TINYC_TOOLCHAIN", "system")
    with pytest.raises(CompileError, match=r"tinyc\[cc\]"):
        host_compiler()
    with pytest.raises(CompileError, match=r"tinyc\[cc\]"):
        core_compiler("cortex-m4")


def test_missing_emulator_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CompileError, match=r"tinyc\[emulate\]"):
        find_emulator("qemu")


def test_unknown_cc() -> None:
    with pytest.raises(CompileError, match="no program 'gccc'"):
        host_compiler(cc="gccc")


def test_undefined_symbols(tmp_path: Path) -> None:
    files = {"a.c": b"extern int g(int);\nint f(int x);\nint f(int x) { return g(x) + 1; }\n"}
    objects = compile_objects(files, host_compiler(), tmp_path, STRICT)
    assert "g" in undefined_symbols(objects)
    assert "f" not in undefined_symbols(objects)
    assert {s.name for s in read_symbols(objects[0].read_bytes())} >= {"f", "g"}


def test_weights_are_compiled_once(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for _ in range(2):
        run_on_host(toy(), samples(), compiler=host_compiler(), cache=cache)
    assert len(list(cache.iterdir())) == 1


def test_preferred_compiler_is_the_installed_one() -> None:
    if shutil.which("cc") is None:
        pytest.skip("no cc here")
    assert str(host_compiler()) == "cc"
