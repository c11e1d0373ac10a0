"""How fast, how large? `tinyc-bench MODEL.onnx --target cortex-m4 [--layers] [--json]`.

Builds the C for the target and runs one inference on an emulated core: instructions, modelled cycles, stack, flash,
layer by layer. For this machine (--target host or generic) it takes times, beside onnxruntime's with --peer ort.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .cli import DONE, Parser, Progress, chosen, guarded, version_text
from .options import add_input_options, add_level_options, add_limit_options, add_target_option, parse_options

if TYPE_CHECKING:
    from .bench_report import BenchReport
    from .driver import Job
    from .reproducer import FailedPass

__all__ = ["main"]

_EXAMPLES = """\
what is counted:
  instructions   those that one inference executes: by unicorn exactly, by qemu-system-arm (-icount shift=0) in ticks
                 of its board's timer, 40 instructions. Where both are installed both run. They are the same on every
                 machine and with every run.
  by the scheduler's prices   what the compiler takes the C for when it chooses a schedule: prices of kernels that are
                 fitted to counted instructions, and how far they are off.
  cycles         a model of a core that issues one instruction at a time, in order, from memory without wait states
                 (the Cortex-M4's timing table; --print-target of tinyc shows the prices). A load behind a load costs 1,
                 a taken branch 2 more, an address or a float operand that was computed right before 1 more; what an IT
                 block skips costs as if it ran. Not modelled: flash wait states, unaligned data, buses in contention.
                 On silicon, convolutional networks take about 1.25 times as many; dense ones, whose weights stream from
                 flash, up to 1.6 times.
  waiting for code  beside the cycles: a flash of 5 wait states with a cache of 1 KB in lines of 16 bytes, which fetches
                 the next line while one runs (fetch_... in [costs] of a board's file).
  hot code       the bytes of code that 95 % of a layer's instructions lie in. Above 1 KB they do not stay in the small
                 cache in front of a microcontroller's flash.
  stack          painted before the run; what is overwritten afterwards.
  code           .text of the linked image: the model and what it calls of the compiler's support library.
  constants      .rodata and .data: weights, biases, tables.

examples:
  tinyc-bench model.onnx --target cortex-m4
  tinyc-bench model.onnx --target cortex-m4 -O3 --layers
  tinyc-bench model.onnx --target cortex-m4 --ram min           what the least RAM costs in instructions
  tinyc-bench model.onnx --target rv32imc --json
  tinyc-bench model.onnx --target cortex-m4 --cc clang --cflags "-O3 -fno-vectorize"
  tinyc-bench model.onnx --target host --peer ort

The C is built with the -O of the model's level (-O0 and -O1: -O1); --cflags comes behind and wins.

exit status: 0 done, 1 an error, 2 wrong usage, 70 a bug of tinyc
"""


def _parser() -> Parser:
    parser = Parser(prog="tinyc-bench", usage="tinyc-bench MODEL.onnx|FILE.tir [options]", epilog=_EXAMPLES,
                    description="Measure one inference of the generated C.")
    parser.add_argument("source", nargs="?", metavar="MODEL.onnx|FILE.tir", help="the model")
    group = parser.add_argument_group("what to show")
    group.add_argument("--layers", action="store_true", help="a line for each layer")
    group.add_argument("--json", action="store_true", help="print one JSON object, layers included")
    group.add_argument("--peer", metavar="ort", type=chosen("peer", ("ort",)),
                       help="time onnxruntime side by side (--target host or generic)")
    group = parser.add_argument_group("how to build and run")
    group.add_argument("--cc", metavar="COMMAND", help="the C compiler (default: the first one found)")
    group.add_argument("--cflags", metavar="FLAGS", default="", help="further flags for it")
    group.add_argument("--emulator", metavar="qemu|unicorn", default="auto",
                       type=chosen("emulator", ("auto", "qemu", "unicorn")),
                       help="run this one only (default: all that are installed and have the core)")
    group = parser.add_argument_group("how to compile")
    add_level_options(group)
    add_target_option(group)
    add_limit_options(group)
    add_input_options(group)
    group.add_argument("--io", metavar="float|int8", type=chosen("kind", ("float", "int8")),
                       help="what the C takes and returns where a model is quantised at its boundary (default: what "
                            "the ONNX file has)")
    group.add_argument("--load-pass", metavar="FILE.py", action="append", default=[],
                       help="import a Python file, so that its passes can be used")
    group.add_argument("--list-targets", action="store_true", help="every target")
    group.add_argument("--version", action="store_true", help="print the version")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `tinyc-bench` with `arguments` (default: those of the process); the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return guarded("tinyc-bench", lambda: _main(given))


def _main(arguments: Sequence[str]) -> int:
    parser = _parser()
    options = parse_options(arguments, parser)
    if options.version:
        print(f"tinyc-bench {version_text()}")
        return DONE
    if options.list_targets:
        from . import lists

        print(lists.targets())
        return DONE
    if options.source is None:
        parser.error("which model? give an .onnx or a .tir file")
    report = _measure(options, parser, ["tinyc-bench", *arguments])
    print(json.dumps(report.as_json(), indent=1) if options.json else report.text(layers=options.layers))
    return DONE


def _measure(options: Namespace, parser: Parser, command: Sequence[str]) -> BenchReport:
    from .cores import is_emulated
    from .driver import is_internal, job_of
    from .reproducer import FailedPass, explain

    job, failed = job_of(options, parser), FailedPass()
    job = dataclasses.replace(job, quantization=dataclasses.replace(job.quantization, io=options.io))
    if options.peer is not None and is_emulated(job.target):
        parser.error("--peer goes with --target host or generic: onnxruntime does not run on microcontrollers")
    if options.peer is not None and job.is_text:
        parser.error("--peer runs the model in onnxruntime, so it needs the .onnx file, not a .tir file")
    try:
        return _report(job, options, failed)
    except Exception as problem:
        if is_internal(problem):
            raise explain(problem, job, failed, [], command) from problem
        raise


def _report(job: Job, options: Namespace, failed: FailedPass) -> BenchReport:
    from .bench import BenchSettings, measure_core
    from .bench_host import measure_host
    from .cores import is_emulated
    from .driver import compile_job, symbol_of

    progress = Progress("tinyc-bench")
    compiled = compile_job(job, instruments=[failed], progress=progress)
    settings = BenchSettings(options.cc, options.cflags, options.emulator, options.layers or options.json)
    if is_emulated(job.target):
        return measure_core(compiled, symbol_of(job), settings, progress)
    return measure_host(compiled, symbol_of(job), settings, options.peer, progress)


if __name__ == "__main__":
    sys.exit(main())
