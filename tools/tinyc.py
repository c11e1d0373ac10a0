"""The compiler: `tinyc model.onnx -O2 --emit c`. See `tinyc --help`.

    model.onnx or FILE.tir -> passes -> model.c, model.h, model_weights.c (or .tir, or .dot)

Files appear whole or not at all, and only when everything before has worked.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tinyir.diag import error
from tinyir.target import target_named

from .cli import DONE, FAILED, Parser, Progress, guarded, note, table, version_text, write_files
from .options import make_parser, parse_options

if TYPE_CHECKING:
    from .driver import Compiled, Emission, Job
    from .report import Schedules
    from .reproducer import FailedPass
    from .stack import StackFigure

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `tinyc` with `arguments` (default: those of the process); the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--quantize" in given:
        # Small matrix products by the thousand: more threads than one only wait for each other.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return guarded("tinyc", lambda: _main(given))


def _main(arguments: Sequence[str]) -> int:
    parser = make_parser()
    options = parse_options(arguments, parser)
    if options.version:
        print(f"tinyc {version_text()}")
        return DONE
    if options.list_passes or options.list_ops or options.list_targets or options.print_target:
        return _print_lists(options)
    from .driver import job_of

    job = job_of(options, parser)
    if options.print_pipeline:
        return _print_pipeline(options, job)
    if options.source is None:
        parser.error("which model? give an .onnx or a .tir file")
    _check_usage(options, parser)
    return _Run(options, job, ["tinyc", *arguments]).run()


def _check_usage(options: Namespace, parser: Parser) -> None:
    if options.check and options.source.endswith(".tir"):
        parser.error("--check compares with onnxruntime, so it needs the .onnx file, not a .tir file")
    if options.check and options.emit != "c":
        parser.error(f"--check runs the C; it does not go with --emit {options.emit}")
    if options.stack and options.emit != "c":
        parser.error(f"--stack runs the C; it does not go with --emit {options.emit}")
    if options.stop_after and options.emit == "c":
        parser.error("--stop-after goes with --emit ir or --emit dot")


def _print_lists(options: Namespace) -> int:
    from . import lists

    if options.list_targets:
        print(lists.targets())
    if options.print_target:
        print(lists.target(options.print_target), end="")
    if options.list_passes:
        print(lists.passes(options.load_pass))
    if options.list_ops:
        print(lists.operators())
    return DONE


def _print_pipeline(options: Namespace, job: Job) -> int:
    from tinyir.pass_manager import print_pipeline
    from tinyir.registry import load_file

    from .driver import make_passes

    for path in options.load_pass:
        load_file(path)
    print(print_pipeline(make_passes(job)))
    return DONE


class _Run:
    """One compilation, from options to files."""

    def __init__(self, options: Namespace, job: Job, command: Sequence[str]) -> None:
        self.options = options
        self.job = job
        self.command = command
        self.started = time.monotonic()
        self.progress = Progress("tinyc", enabled=not options.quiet)
        self.schedules: Schedules | None = None
        self.stack: StackFigure | None = None

    def run(self) -> int:
        """Everything; the exit status. Raises CompileError; one that is our bug names a saved reproducer."""
        from .driver import is_internal
        from .looking import checks
        from .reproducer import FailedPass, explain

        failed = FailedPass()
        try:
            return self._run(failed)
        except Exception as problem:
            if is_internal(problem):
                raise explain(problem, self.job, failed, checks(self.options), self.command) from problem
            raise

    def _run(self, failed: FailedPass) -> int:
        if self.options.stack:
            self._check_stack()
        compiled, files = self._compile(failed)
        if self.options.stack:
            self._measure_stack(compiled)
        if self.options.pareto:
            self._print_front(compiled)
        written = self._write(compiled, files)
        if self.options.verbose:
            self._print_details(compiled)
        verdict = self._check(compiled) if self.options.check else DONE
        if not self.options.quiet:
            self._print_table(compiled, written)
        return verdict

    # -- compiling ---------------------------------------------------------------------------------------------------

    def _compile(self, failed: FailedPass) -> tuple[Compiled, dict[str, bytes]]:
        from .driver import compile_job
        from .looking import instruments, print_diagnostics

        watching = [*instruments(self.options), failed]
        if self.options.report:
            from .report import Schedules

            self.schedules = Schedules()
            watching.append(self.schedules)
        compiled = compile_job(self.job, instruments=watching, progress=self.progress)
        print_diagnostics(compiled.context, self.options.remarks)
        self._check_limits(compiled)
        with self.progress.stage(f"writing {self.options.emit}"):
            files = self._emit(compiled)
        return compiled, files

    def _check_limits(self, compiled: Compiled) -> None:
        """Raises CompileError where what came out is larger than the user allows."""
        if not self.job.limits.words or compiled.module.level != "mem":
            return
        from tinyir.costs import CostModel

        from .limits import check_limits

        code = CostModel(compiled.context.target, compiled.module.attrs).module(compiled.module).code_bytes
        check_limits(compiled.facts, code, self.job.limits)

    def _emission(self) -> Emission:
        from .driver import Emission
        from .memory_fit import sections_of

        sections = sections_of(target_named(self.job.target)) | cast("dict[str, str]", dict(self.options.section))
        single = self.options.output == "-"
        return Emission(self._name(), self.options.arena, self.options.hooks, single_file=single, sections=sections)

    def _name(self) -> str:
        """The prefix of C symbols, which is also the stem of the files unless -o names one."""
        from .driver import symbol_of

        return symbol_of(self.job)

    def _emit(self, compiled: Compiled) -> dict[str, bytes]:
        """The files by name."""
        from tinyir.registry import BACKENDS

        from .text import module_files, module_text

        name = self._name()
        if self.options.pareto and self.options.output is None:
            return {}
        if self.options.emit == "plot":
            return {f"{name}.svg": self._plot(compiled).encode()}
        if self.options.emit == "c":
            return compiled.c_files(self._emission())
        if self.options.emit in ("dot", "onnx", "rf"):
            return BACKENDS.get(self.options.emit)(compiled.module, name=name)
        if self.options.output == "-":
            return {f"{name}.tir": module_text(compiled.module).encode()}
        return module_files(compiled.module, _stem(self.options.output) or name)

    # -- writing -----------------------------------------------------------------------------------------------------

    def _write(self, compiled: Compiled, files: dict[str, bytes]) -> list[Path]:
        """Write the files and the report, or print the files."""
        report = self._report(compiled) if self.options.report else {}
        output = self.options.output
        if output == "-":
            written = write_files(report)
            sys.stdout.write(_one_text(files, self._name()))
            sys.stdout.flush()
            return written
        folder = Path(output or ".")
        if _stem(output) is not None:
            _check_suffix(folder, self.options.emit)
            files, folder = _renamed(files, self._name(), folder), folder.parent
        return write_files({**{folder / name: data for name, data in files.items()}, **report})

    def _report(self, compiled: Compiled) -> dict[Path, bytes]:
        import json

        from .report import Schedules, report_of

        report = report_of(compiled, self.schedules or Schedules(), points=self.options.pareto, stack=self.stack)
        return {Path(self.options.report): (json.dumps(report, indent=1) + "\n").encode()}

    def _plot(self, compiled: Compiled) -> str:
        from .front import front_of
        from .memory_plan import memory_plan
        from .plot import plot

        front = front_of(compiled.context, compiled.facts.const_bytes)
        plan = memory_plan(compiled.module, compiled.context.target) if compiled.module.level == "mem" else None
        if front is None and plan is None:
            raise error("there is nothing to draw: no schedule was chosen, and nothing is lowered to memory",
                        help="leave --stop-after and --passes out, or let them have schedule, or end with "
                             "lower-to-mem,plan-arena")
        return plot(Path(self.job.source).name, front, plan, self.job.options_text)

    # -- measuring ---------------------------------------------------------------------------------------------------

    def _check_stack(self) -> None:
        """Raises CompileError where it cannot be measured, before the schedule is looked for."""
        from .stack import StackSettings, check_stack

        check_stack(self.job.target, StackSettings.of(self.options))

    def _measure_stack(self, compiled: Compiled) -> None:
        from .stack import StackSettings, measure_stack

        self.stack = measure_stack(compiled, self._emission(), StackSettings.of(self.options), self.progress)

    # -- checking and telling ----------------------------------------------------------------------------------------

    def _print_front(self, compiled: Compiled) -> None:
        from .front import front_of

        front = front_of(compiled.context, compiled.facts.const_bytes)
        if front is None:
            raise error("--pareto shows what the pass schedule has to choose from, and these passes do not have it")
        print(front.text())

    def _check(self, compiled: Compiled) -> int:
        from .check import CheckSettings, check_compiled

        settings = CheckSettings.of(self.options)
        report = check_compiled(compiled, self._emission_for_check(), settings, self.progress)
        note(report.verdict())
        return DONE if report.ok else FAILED

    def _emission_for_check(self) -> Emission:
        from dataclasses import replace

        from .cores import is_emulated

        # Sections are for the user's linker script; where the C runs for a check they may not exist. On an emulated
        # core nobody passes an arena.
        emission = replace(self._emission(), single_file=False, sections={})
        return replace(emission, arena="static") if is_emulated(self.job.target) else emission

    def _print_details(self, compiled: Compiled) -> None:
        from tinyir.pass_manager import print_pipeline

        from .quantisation import quantisation_table

        note(f"pipeline  {print_pipeline(compiled.passes)}")
        note(f"target    {compiled.context.target}")
        errors = quantisation_table(compiled.context)
        if errors is not None:
            note(errors)

    def _print_table(self, compiled: Compiled, written: Sequence[Path]) -> None:
        from .quantisation import quantisation_lines

        facts = compiled.facts
        rows = [("operators", f"{facts.operators:,}", f"of {facts.nodes:,} ONNX nodes" if facts.nodes else ""),
                ("MACs", f"{facts.macs:,}", ""), ("parameters", f"{facts.parameters:,}", "")]
        if facts.level == "mem":
            rows += [("arena", f"{facts.arena_bytes:,}", "bytes"), ("constants", f"{facts.const_bytes:,}", "bytes")]
        if self.stack is not None:
            rows.append(("stack", f"{self.stack.bytes:,}", f"bytes, {self.stack.where}"))
        rows += quantisation_lines(compiled.context)
        rows.append(("time", f"{time.monotonic() - self.started:.2f}", "s"))
        note(f"{Path(self.job.source).name}: -O{self.job.level}, {self.job.target}" if self.job.passes is None
             else f"{Path(self.job.source).name}: {self.job.passes}, {self.job.target}")
        note(table(rows, right=(1,)))
        if written:
            note("  wrote       " + ", ".join(str(path) for path in written))


def _stem(output: str | None) -> str | None:
    """The stem of `-o FILE`, or None where the output is a folder or standard output."""
    if output is None or output == "-" or output.endswith("/") or Path(output).is_dir() or not Path(output).suffix:
        return None
    return Path(output).stem


def _check_suffix(path: Path, emit: str) -> None:
    wanted = {"c": ".c", "ir": ".tir", "dot": ".dot", "onnx": ".onnx", "rf": ".txt",
              "plot": ".svg"}[emit]
    if path.suffix != wanted:
        raise error(f"-o {path}: --emit {emit} writes a {wanted} file", help=f"-o {path.with_suffix(wanted)}, or DIR/")


def _renamed(files: dict[str, bytes], name: str, path: Path) -> dict[str, bytes]:
    """`files` of the model `name`, called after the file `path` instead; the C includes its header by the new name."""
    stem, old = path.stem, f'#include "{name}.h"'.encode()
    return {stem + file.removeprefix(name) if file.startswith(name) else file:
            data.replace(old, f'#include "{stem}.h"'.encode(), 1) for file, data in files.items()}


def _one_text(files: dict[str, bytes], name: str) -> str:
    """All files as one text that compiles: the header first, its include line dropped."""
    order = sorted(files, key=lambda file: (not file.endswith(".h"), file))
    text = "\n".join(files[file].decode() for file in order)
    return text.replace(f'#include "{name}.h"\n', "", 1)


if __name__ == "__main__":
    sys.exit(main())


