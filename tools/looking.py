"""The instruments that the options ask for: --print-ir-..., --dump-dir, --time-passes, --stats, --check-each."""

from __future__ import annotations

from argparse import Namespace

from tinyir.diag import did_you_mean, error
from tinyir.instrument import CheckEach, DumpDir, PrintAfter, PrintBefore, Statistics, Timing, VerifyEach
from tinyir.ir import Module
from tinyir.pass_manager import Context, Instrument
from tinyir.printer import print_module
from tinyir.registry import PASSES, load_plugins

from .cli import note

__all__ = ["checks", "instruments", "print_diagnostics"]


class _PrintStart(Instrument):
    """Prints the module before the first pass."""

    def start(self, module: Module, ctx: Context) -> None:
        note(f"// before all passes\n{print_module(module)}")


class _PrintEnd(Instrument):
    """Prints the module after the last pass."""

    def finish(self, module: Module, ctx: Context) -> None:
        note(f"// after all passes\n{print_module(module)}")


def checks(options: Namespace) -> list[Instrument]:
    """The instruments that look for errors: the verifier always, the interpreter if asked for."""
    return [VerifyEach(), *([CheckEach()] if options.check_each else [])]


def instruments(options: Namespace) -> list[Instrument]:
    """All instruments, in the order in which they are called. Raises CompileError for a pass that does not exist."""
    found: list[Instrument] = []
    if options.print_ir_before is not None:
        found.append(PrintBefore([_known(options.print_ir_before, "--print-ir-before")])
                     if options.print_ir_before else _PrintStart())
    if options.dump_dir:
        found.append(DumpDir(options.dump_dir))
    if options.print_ir_after_all:
        found.append(PrintAfter())
    elif options.print_ir_after is not None:
        found.append(PrintAfter([_known(options.print_ir_after, "--print-ir-after")])
                     if options.print_ir_after else _PrintEnd())
    if options.stats:
        found.append(Statistics())
    found += checks(options)
    # The clock is started last and stopped first, so that it sees the pass alone.
    return [Timing(), *found] if options.time_passes else found


def _known(name: str, option: str) -> str:
    load_plugins()
    if PASSES.find(name) is None:
        raise error(f"{option}: {name!r} is not a pass", help=did_you_mean(name, [n for n, _ in PASSES.items()]))
    return name


def print_diagnostics(context: Context, remarks: bool) -> None:
    """The warnings, and the remarks if they are asked for."""
    for diagnostic in context.diagnostics:
        if diagnostic.severity != "remark" or remarks:
            note(diagnostic.render())
