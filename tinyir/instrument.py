"""What watches passes from outside: printing, dumping, timing, checking, and saving what a bug report needs.

    PassManager(passes, [VerifyEach(), Timing(), PrintAfter(["fold-batch-norm"])]).run(module)

None of them changes the module. They write to a stream, standard error unless another is given.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np

from .diag import CompileError, Diagnostic, error
from .interp import run
from .ir import Array, Module
from .pass_manager import Context, Instrument, Pass, is_user_error, print_pipeline
from .printer import Sidecar, print_module
from .verify import verify

__all__ = ["CheckEach", "DumpDir", "PrintAfter", "PrintBefore", "Reproducer", "Statistics", "Timing", "VerifyEach",
           "sample_inputs"]


def _write(stream: TextIO | None, text: str) -> None:
    (stream or sys.stderr).write(text)


@dataclass
class PrintBefore(Instrument):
    """Prints the module before the passes called `names`, or before every pass if that is None."""

    names: Sequence[str] | None = None
    stream: TextIO | None = None

    def before(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        if self.names is None or pass_.name in self.names:
            _write(self.stream, f"// before {number:02}-{pass_}\n{print_module(module)}\n")


@dataclass
class PrintAfter(Instrument):
    """Prints the module after the passes called `names`, or after every pass if that is None.

    With `only_changes`, a pass that changed nothing gets one line that says so.
    """

    names: Sequence[str] | None = None
    only_changes: bool = False
    stream: TextIO | None = None
    _before: str = field(default="", init=False)

    def before(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        if self.only_changes and self._wanted(pass_):
            self._before = print_module(module)

    def after(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        if not self._wanted(pass_):
            return
        text = print_module(module)
        if self.only_changes and text == self._before:
            _write(self.stream, f"// after {number:02}-{pass_}: no change\n")
        else:
            _write(self.stream, f"// after {number:02}-{pass_}\n{text}\n")

    def _wanted(self, pass_: Pass) -> bool:
        return self.names is None or pass_.name in self.names


@dataclass
class DumpDir(Instrument):
    """Writes the module to `folder` at the start and after every pass: `00-input.tir`, `01-canonicalize.tir`, ...

    The large constants of all of them are in one file, `constants.npz`, each version once.
    """

    folder: str
    _sidecar: Sidecar = field(default_factory=lambda: Sidecar("constants.npz"), init=False)

    def start(self, module: Module, ctx: Context) -> None:
        try:
            os.makedirs(self.folder, exist_ok=True)
        except OSError as problem:
            raise error(f"cannot make the folder {self.folder}: {problem.strerror}") from None
        self._dump("00-input", module)

    def after(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        self._dump(f"{number:02}-{pass_.name}", module)

    def _dump(self, stem: str, module: Module) -> None:
        text = print_module(module, sidecar=self._sidecar, facts="all")
        try:
            Path(self.folder, f"{stem}.tir").write_text(text, encoding="utf-8", newline="\n")
            self._sidecar.save(self.folder)
        except OSError as problem:
            raise error(f"cannot write to {self.folder}: {problem.strerror}") from None


@dataclass
class Timing(Instrument):
    """Measures each pass and prints a table at the end. `seconds` has (pass, seconds) in order."""

    stream: TextIO | None = None
    seconds: list[tuple[str, float]] = field(default_factory=list, init=False)
    _begin: float = field(default=0.0, init=False)

    def before(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        self._begin = time.perf_counter()

    def after(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        self.seconds.append((pass_.name, time.perf_counter() - self._begin))

    def finish(self, module: Module, ctx: Context) -> None:
        total = sum(seconds for _, seconds in self.seconds)
        width = max([len(name) for name, _ in self.seconds] + [5])
        lines = [f"{name:{width}}  {seconds * 1e3:9.1f} ms  {seconds / max(total, 1e-9):6.1%}\n"
                 for name, seconds in self.seconds]
        _write(self.stream, "".join(lines) + f"{'total':{width}}  {total * 1e3:9.1f} ms\n")


@dataclass
class Statistics(Instrument):
    """Prints at the end what passes recorded with `ctx.stat`."""

    stream: TextIO | None = None

    def finish(self, module: Module, ctx: Context) -> None:
        rows = [(f"{name}.{key}", value) for name, stats in ctx.stats.items() for key, value in stats.items()]
        width = max([len(name) for name, _ in rows] + [0])
        for name, value in rows:
            _write(self.stream, f"{name:{width}}  {value:,}\n" if isinstance(value, int) else
                   f"{name:{width}}  {value}\n")


@dataclass
class VerifyEach(Instrument):
    """Verifies the module at the start and after every pass; names the pass that broke it."""

    def start(self, module: Module, ctx: Context) -> None:
        verify(module)

    def after(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        verify(module, after=pass_.name)


def sample_inputs(module: Module, seed: int = 0) -> list[Array]:
    """The same inputs for @main on every machine: floats uniform in [-1, 1), 8-bit integers over their whole range,
    wider ones from 0 to 9."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return [_sample(rng, arg.type.dtype.numpy, arg.shape) for arg in module.main.inputs]


def _sample(rng: np.random.Generator, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Array:
    if dtype.kind == "f":
        return rng.uniform(-1, 1, shape).astype(dtype)
    if dtype.itemsize > 1 or dtype.kind == "b":
        return rng.integers(0, 2 if dtype.kind == "b" else 10, shape).astype(dtype)
    low, high = (-128, 127) if dtype.kind == "i" else (0, 255)
    return rng.integers(low, high, shape, endpoint=True).astype(dtype)


@dataclass
class CheckEach(Instrument):
    """Runs the interpreter at the start and after every pass, and names the first pass that changed the answer.

    Floats may differ by 1e-5 * max|expected| + 1e-4 * |expected|, integers not at all. A pass that changes the types of
    inputs or outputs, or is meant to change results, begins a new comparison, and a remark says so.
    """

    seed: int = 0
    _inputs: list[Array] = field(default_factory=list, init=False)
    _expected: list[Array] = field(default_factory=list, init=False)
    _signature: tuple[list[str], list[str]] = field(default=([], []), init=False)

    def start(self, module: Module, ctx: Context) -> None:
        self._begin(module)

    def _begin(self, module: Module) -> None:
        self._inputs = sample_inputs(module, self.seed)
        self._expected = run(module, self._inputs)
        self._signature = _signature(module)

    def after(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        if pass_.changes_results or _signature(module) != self._signature:
            what = "results" if pass_.changes_results else "the types of inputs or outputs"
            ctx.remark(f"{pass_.name} changed {what}: checked against a new start from here on")
            self._begin(module)
            return
        for index, (found, expected) in enumerate(zip(run(module, self._inputs), self._expected, strict=True)):
            difference = _difference(found, expected)
            if difference is not None:
                message = f"pass {pass_} changed the answer: output {index}{difference}"
                raise CompileError((Diagnostic("internal", message),))


def _signature(module: Module) -> tuple[list[str], list[str]]:
    """Types of inputs and outputs, without saying whether they are tensors or buffers."""
    def kinds(values: Sequence[object]) -> list[str]:
        return [str(getattr(v, "type_", "")).partition("<")[2] for v in values]

    return kinds(module.main.inputs), kinds(module.main.results)


def _difference(found: Array, expected: Array) -> str | None:
    """Where two arrays of one shape differ most, if that is too much."""
    with np.errstate(invalid="ignore", over="ignore"):
        a, b = found.astype(np.float64), expected.astype(np.float64)
        finite = np.abs(b[np.isfinite(b)])
        largest = finite.max() if finite.size else 0.0
        bound = 1e-5 * largest + 1e-4 * np.abs(b) if expected.dtype.kind == "f" else np.zeros_like(b)
        excess = np.where((a == b) | (np.isnan(a) & np.isnan(b)), -1.0, np.abs(a - b) - bound)
    excess = np.where(np.isnan(excess), np.inf, excess)
    if not excess.size or excess.max() <= 0:
        return None
    at = np.unravel_index(int(excess.argmax()), excess.shape)
    place = f"[{', '.join(str(int(i)) for i in at)}]"
    return (f"{place} was {expected[at]}, now is {found[at]}; "
            f"{int((excess > 0).sum()):,} of {excess.size:,} values differ too much")


@dataclass
class Reproducer(Instrument):
    """After an internal error, saves the module as it was before the pass to `path`, with a first line that names the
    passes from there on: `tinyc-opt` runs it again. Errors of the user are not saved.
    """

    passes: Sequence[Pass]
    path: str = "tinyc-crash.tir"
    stream: TextIO | None = None
    _text: str = field(default="", init=False)
    _sidecar: Sidecar = field(default_factory=lambda: Sidecar(""), init=False)

    def before(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        self._sidecar = Sidecar(Path(self.path).stem + ".npz")
        self._text = print_module(module, sidecar=self._sidecar)

    def failed(self, number: int, pass_: Pass, module: Module, ctx: Context, problem: BaseException) -> None:
        if is_user_error(problem) or not isinstance(problem, Exception):
            return
        rest = print_pipeline(self.passes[number - 1:])
        try:
            Path(self.path).write_text(f"// RUN: {rest}\n{self._text}", encoding="utf-8", newline="\n")
            self._sidecar.save(Path(self.path).parent)
        except OSError as trouble:
            _write(self.stream, f"note: the module could not be saved to {self.path}: {trouble.strerror}\n")
            return
        _write(self.stream, f"note: the module before {pass_.name} is saved; see the error again with\n"
                            f"      tinyc-opt {self.path}\n")
