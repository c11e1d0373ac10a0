"""Saves what is needed to see an internal error again: the module right before the pass that failed.

    kws.crash.tir         // RUN: fuse-activation,canonicalize,...
    help: run it again with: tinyc-opt kws.crash.tir

The compilation is repeated for this (it is deterministic), so that a compilation that succeeds pays nothing.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tinyir.diag import CompileError
from tinyir.instrument import Reproducer
from tinyir.ir import Module
from tinyir.pass_manager import Context, Instrument, Pass, PassManager
from tinyir.printer import write_module
from tinyir.target import target_named

from .cli import internal_error
from .driver import Job, load_module, make_passes, symbol_of

__all__ = ["FailedPass", "explain"]


class FailedPass(Instrument):
    """Remembers whether a pass failed."""

    def __init__(self) -> None:
        self.name: str | None = None

    def failed(self, number: int, pass_: Pass, module: Module, ctx: Context, problem: BaseException) -> None:
        self.name = pass_.name


def explain(problem: BaseException, job: Job, failed: FailedPass, checks: Sequence[Instrument],
            command: Sequence[str]) -> CompileError:
    """The internal error `problem` with help that names a saved reproducer, or else the command that shows it again.

    `checks` are the instruments that may raise (verifier, interpreter), fresh ones.
    """
    shown = problem if isinstance(problem, CompileError) else internal_error(problem)
    try:
        path = _save(job, failed, checks)
        again = f"tinyc-opt {path}" if failed.name is not None else f"tinyc {path}"
        text = f"this is a bug of tinyc; {path} reproduces it, run it again with: {again}"
    except Exception:  # the model cannot be read, or the file cannot be written: the command is all there is
        text = f"this is a bug of tinyc; run it again with: {shlex.join(command)}"
    first = shown.diagnostics[0]
    where = (*first.notes, f"in pass {failed.name}") if failed.name is not None else first.notes
    return CompileError((replace(first, notes=where, help=text), *shown.diagnostics[1:]))


def _save(job: Job, failed: FailedPass, checks: Sequence[Instrument]) -> Path:
    """Save the module as it was before the failed pass, or after all of them where the backend failed."""
    context = Context(target_named(job.target))
    module = load_module(job, context)
    passes = make_passes(job, module.level)
    path = _writable_folder() / f"{symbol_of(job)}.crash.tir"
    if failed.name is None:
        PassManager(passes).run(module, context)
        write_module(module, path)
        return path
    saver = Reproducer(passes, str(path), io.StringIO())
    with contextlib.suppress(Exception):
        PassManager(passes, [*checks, saver]).run(module, context)
    if not path.exists():
        raise FileNotFoundError(path)
    return path


def _writable_folder() -> Path:
    """The current directory, or the one for temporary files."""
    here = Path.cwd()
    return Path() if os.access(here, os.W_OK) else Path(tempfile.gettempdir())
