"""Text in, passes, text out: `tinyc-opt FILE.tir -p PIPELINE`. For tests, bug reports and looking at one pass.

    tinyc-opt part.tir -p fold-batch-norm,canonicalize        the result on standard output
    tinyc-opt crash.tir                                       the pipeline of its `// RUN: ...` line

Large constants of the output go to an .npz file beside it with -o; on standard output they are marked `elided`.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinyir.diag import error

from .cli import DONE, Parser, chosen, guarded, version_text, write_files
from .options import add_target_option, parse_options

if TYPE_CHECKING:
    from tinyir.ir import Module

__all__ = ["main"]

_EXAMPLES = """\
examples:
  tinyc-opt part.tir -p fold-batch-norm,canonicalize
  tinyc-opt part.tir -p lower-to-mem,plan-arena{align=32} -o lowered.tir
  tinyc-opt crash.tir                     run the passes that its first line asks for: // RUN: a,b,c
  tinyc-opt part.tir -p '' --check-each   only read, verify and print
"""


def _parser() -> Parser:
    parser = Parser(prog="tinyc-opt", usage="tinyc-opt FILE.tir [-p PIPELINE] [-o PATH] [options]", epilog=_EXAMPLES,
                    description="Run passes on IR text and print the result.")
    parser.add_argument("source", nargs="?", metavar="FILE.tir", help="the text to read (- for standard input)")
    group = parser.add_argument_group("options")
    group.add_argument("-p", "--passes", metavar="PIPELINE", help="passes to run: a,b{option=value},c, or O2")
    group.add_argument("-o", dest="output", metavar="PATH", default="-", help="a .tir file (default: standard output)")
    add_target_option(group)
    group.add_argument("--load-pass", metavar="FILE.py", action="append", default=[], help="import a Python file first")
    group.add_argument("--facts", type=chosen("word", ("none", "header", "all")), default="header",
                       metavar="none|header|all", help="comments with sizes and work (default header)")
    group.add_argument("--no-locations", action="store_true", help="leave loc(...) out")
    group.add_argument("--print-ir-before", metavar="[=P]", help="print the IR before the first pass, or before P")
    group.add_argument("--print-ir-after", metavar="[=P]", help="print the IR after the last pass, or after P")
    group.add_argument("--print-ir-after-all", action="store_true", help="print the IR after every pass")
    group.add_argument("--dump-dir", metavar="DIR", help="write the IR after every pass into this directory")
    group.add_argument("--time-passes", action="store_true", help="how long each pass took")
    group.add_argument("--stats", action="store_true", help="what each pass counted")
    group.add_argument("--remarks", action="store_true", help="what was or was not optimised, and why")
    group.add_argument("--check-each", action="store_true", help="run the interpreter after every pass and compare")
    group.add_argument("--version", action="store_true", help="print the version")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `tinyc-opt` with `arguments` (default: those of the process); the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return guarded("tinyc-opt", lambda: _main(given))


def _main(arguments: Sequence[str]) -> int:
    parser = _parser()
    options = parse_options(arguments, parser)
    if options.version:
        print(f"tinyc-opt {version_text()}")
        return DONE
    if options.source is None:
        parser.error("which file?")
    _run(options)
    return DONE


def _run(options: Namespace) -> None:
    from tinyir.parser import parse, run_line
    from tinyir.pass_manager import Context, PassManager, parse_pipeline
    from tinyir.registry import load_file
    from tinyir.target import target_named
    from tinyir.verify import verify

    from .looking import instruments, print_diagnostics

    for path in options.load_pass:
        load_file(path)
    text, name = _read(options.source)
    pipeline = options.passes if options.passes is not None else run_line(text)
    if pipeline is None:
        raise error("which passes?", help="give -p PIPELINE, or begin the file with: // RUN: PIPELINE")
    passes = parse_pipeline(pipeline)
    module = parse(text, name)
    verify(module)
    context = PassManager(passes, instruments(options)).run(module, Context(target_named(options.target)))
    print_diagnostics(context, options.remarks)
    _write(options, module)


def _read(source: str) -> tuple[str, str]:
    """The text and what messages call it."""
    if source == "-":
        return sys.stdin.read(), "<stdin>"
    try:
        return Path(source).read_bytes().decode("utf-8"), source
    except OSError as problem:
        raise error(f"cannot read {source}: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise error(f"{source} is not text: byte {problem.start} is not UTF-8") from None


def _write(options: Namespace, module: Module) -> None:
    from .text import Style, module_files, module_text

    style = Style(locations=not options.no_locations, facts=options.facts)
    if options.output == "-":
        sys.stdout.write(module_text(module, style))
        sys.stdout.flush()
        return
    path = Path(options.output)
    if path.suffix != ".tir":
        raise error(f"-o {path}: the output is a .tir file")
    files = module_files(module, path.stem, style)
    write_files({path.parent / name: data for name, data in files.items()})


if __name__ == "__main__":
    sys.exit(main())
