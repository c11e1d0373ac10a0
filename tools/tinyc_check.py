"""Does the C compute what onnxruntime computes? `tinyc-check MODEL.onnx [--data FILE.npz] [--target cortex-m4]`.

Builds the C, runs it on this machine or on an emulated core, and compares every output value; with --layers also what
every layer computes, to find the first that is wrong. Exit status 1 when something differs.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .cli import DONE, FAILED, Parser, Progress, guarded, version_text
from .options import (
    add_build_options,
    add_input_options,
    add_level_options,
    add_limit_options,
    add_target_option,
    parse_options,
)

if TYPE_CHECKING:
    from .check import CheckReport
    from .driver import Job
    from .reproducer import FailedPass

__all__ = ["main"]

_EXAMPLES = """\
the data file:
  numpy.savez("test.npz", image=images, y=labels)     `image` is the name of the model's input (or x, if there is only
                                                      one); images.shape[0] is the number of samples
  Elements are converted to the input's type. Save them as the model expects them; --scale and --offset do the
  simplest preparation: --scale 0.00392156862745098 turns bytes into 0..1.

examples:
  tinyc-check model.onnx
  tinyc-check model.onnx --data test.npz --samples 50 --target cortex-m4
  tinyc-check model.onnx --layers             compare layer by layer and name the first that differs
  tinyc-check model.onnx --json               one JSON object on standard output

exit status: 0 equal within bounds, 1 different or an error, 2 wrong usage, 70 a bug of tinyc
"""


def _parser() -> Parser:
    parser = Parser(prog="tinyc-check", usage="tinyc-check MODEL.onnx [options]", epilog=_EXAMPLES,
                    description="Compare the generated C with onnxruntime.")
    parser.add_argument("source", nargs="?", metavar="MODEL.onnx", help="the model")
    group = parser.add_argument_group("what to compare")
    add_build_options(group)
    group.add_argument("--layers", action="store_true", help="also compare layer by layer (built for this machine)")
    group.add_argument("--json", action="store_true", help="print the result as one JSON object")
    group = parser.add_argument_group("how to compile")
    add_level_options(group)
    add_target_option(group)
    add_limit_options(group)
    add_input_options(group)
    group.add_argument("--load-pass", metavar="FILE.py", action="append", default=[],
                       help="import a Python file, so that its passes can be used")
    group.add_argument("--version", action="store_true", help="print the version")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `tinyc-check` with `arguments` (default: those of the process); the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return guarded("tinyc-check", lambda: _main(given))


def _main(arguments: Sequence[str]) -> int:
    parser = _parser()
    options = parse_options(arguments, parser)
    if options.version:
        print(f"tinyc-check {version_text()}")
        return DONE
    if options.source is None:
        parser.error("which model? give an .onnx file")
    if options.source.endswith(".tir"):
        parser.error("a check compares with onnxruntime, so it needs the .onnx file, not a .tir file")
    from tinyir.instrument import VerifyEach

    from .driver import is_internal, job_of
    from .reproducer import FailedPass, explain

    job, failed = job_of(options, parser), FailedPass()
    try:
        report = _check(job, options, failed)
    except Exception as problem:
        if is_internal(problem):
            raise explain(problem, job, failed, [VerifyEach()], ["tinyc-check", *arguments]) from problem
        raise
    print(json.dumps(report.as_json(), indent=1) if options.json else report.verdict())
    return DONE if report.ok else FAILED


def _check(job: Job, options: Namespace, failed: FailedPass) -> CheckReport:
    from tinyir.instrument import VerifyEach

    from .check import CheckSettings, check_compiled
    from .driver import Emission, compile_job, symbol_of

    progress = Progress("tinyc-check")
    compiled = compile_job(job, instruments=[VerifyEach(), failed], progress=progress)
    return check_compiled(compiled, Emission(symbol_of(job)), CheckSettings.of(options), progress)


if __name__ == "__main__":
    sys.exit(main())
