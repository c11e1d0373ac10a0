"""The options of `tinyc`: one list of names, in groups, with examples at the end of --help.

Only argparse and small tables are loaded here: `tinyc --help` has to answer at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tinyir.board import size_of
from tinyir.target import TARGETS

from .cli import Parser, chosen

__all__ = ["EMITS", "LEVELS", "add_build_options", "add_input_options", "add_level_options", "add_limit_options",
           "add_target_option", "make_parser", "pairs", "parse_options"]

LEVELS = ("0", "1", "2", "3", "s")
EMITS = ("c", "ir", "dot", "onnx", "rf", "plot")
CALIBRATIONS = ("minmax", "percentile", "entropy", "mse")
_OPTIONAL_VALUE = ("--print-ir-before", "--print-ir-after")

_EXAMPLES = """\
examples:
  tinyc model.onnx                            model.c, model.h and model_weights.c, in the current directory
  tinyc model.onnx -O2 --emit c -o out/       the same in another directory (made if it is not there)
  tinyc model.onnx --target cortex-m4 --check compile, run the C on an emulated core, compare with onnxruntime
  tinyc model.onnx --emit ir --stop-after=fuse-activation -o -
                                              print the IR as it is after one pass
  tinyc part.tir -p canonicalize,fuse-activation --emit ir -o -
                                              run some passes on IR that you have written or edited
  tinyc model.onnx --print-ir-after=layout-nhwc --time-passes
  tinyc model.onnx --input-dim H=96 --input-dim W=96 --name person
  tinyc --print-target cortex-m4 > board.toml && tinyc model.onnx --target board.toml
                                              your own board: its memories, their sizes and sections
  tinyc model.onnx --input rows               model.h has model_run_rows(), which asks you for the image row by row:
                                              from a camera or a file, without ever storing all of it
  tinyc model.onnx --target cortex-m4 --pareto
                                              what less RAM costs: every schedule that is worth a thought
  tinyc model.onnx --target cortex-m4 --ram 64K --flash 256K
                                              the fastest that fits, or why nothing does
  tinyc model.onnx --ram min --recompute 10% --report report.json
                                              the least RAM, up to 10 % of the work done twice
  tinyc model.onnx --target cortex-m4 --stack --report report.json
                                              arena_bytes, stack_bytes as measured, and peak_bytes, their sum
  tinyc model.onnx --ram min --emit plot -o memory.svg
                                              schedules, and what lies where in the arena when, to look at
  tinyc model.onnx --section arena=.dtcm --section weights=.rodata.nn
  tinyc model.onnx --quantize int8 --calibrate samples.npz
                                              store a float model as 8-bit integers, then compile that
  tinyc model.onnx --quantize int8 --calibrate samples.npz --search --emit onnx -o model_int8.onnx
                                              the same, the best of several ways, as an ONNX model
  tinyc model.onnx --load-pass my_pass.py -p drop-softmax,canonicalize --emit ir

exit status: 0 done, 1 an error in the model or the options, 2 wrong usage, 70 a bug of tinyc
"""


def add_level_options(group: argparse._ArgumentGroup) -> None:
    """-O and --passes."""
    group.add_argument("-O", dest="level", metavar="LEVEL", default="2", type=chosen("level", LEVELS),
                       help="-O0, -O1, -O2 (default), -O3 or -Os: how much to optimise")
    group.add_argument("-p", "--passes", metavar="PIPELINE", help="run these passes instead: a,b{option=value},c")


def add_target_option(group: argparse._ArgumentGroup) -> None:
    """--target and --requant."""
    group.add_argument("--target", metavar="NAME|FILE.toml", default="generic", type=_target,
                       help="the core to compile for (--list-targets; default generic: portable C99), or a file "
                            "BOARD.toml that extends one (--print-target)")
    group.add_argument("--requant", metavar="integer", type=chosen("arithmetic", ("integer",)),
                       help="quantised ops without any float arithmetic, as on a core without FPU")


def add_limit_options(group: argparse._ArgumentGroup) -> None:
    """--ram, --flash, --recompute."""
    group.add_argument("--ram", metavar="SIZE|min", type=_limit,
                       help="the arena may have at most this many bytes (65536, 64K, 1M): the fastest schedule that "
                            "fits is taken, or it is an error (status 1) that says what the least is, and which layers "
                            "stop it; min: the least that there is, whatever the speed")
    group.add_argument("--flash", metavar="SIZE|min", type=_limit,
                       help="the same for constants and code, which is estimated")
    group.add_argument("--recompute", metavar="PERCENT", type=_percent,
                       help="how many of the multiply-accumulates a schedule may compute again, such as 10%%: that "
                            "needs less RAM (default: none)")


def add_input_options(group: argparse._ArgumentGroup) -> None:
    """--input, --input-dim, --input-shape, --input-layout."""
    group.add_argument("--input", type=chosen("way", ("whole", "rows", "arena")), metavar="whole|rows|arena",
                       default="whole",
                       help="whole (default): run() takes a pointer to each input; rows: NAME_run_rows() calls a "
                            "function of yours for each row of an image, so that it need not be stored; arena: you "
                            "write the input to where NAME_input() says, and its bytes are used again")
    group.add_argument("--input-dim", metavar="N=1", action="append", default=[], type=_dim,
                       help="the size of a dimension that the model leaves open (may be repeated)")
    group.add_argument("--input-shape", metavar="X=1x3x96x96", action="append", default=[], type=_shape,
                       help="the whole shape of an input (may be repeated)")
    group.add_argument("--input-layout", type=chosen("layout", ("nchw", "nhwc")), metavar="nchw|nhwc",
                       help="the layout in which the C takes images (default: that of the ONNX file)")


def add_build_options(group: argparse._ArgumentGroup) -> None:
    """--cc, --cflags, --data and its relatives: what a check needs."""
    group.add_argument("--data", metavar="FILE.npz",
                       help="inputs to check with: arrays named after the inputs (or x), first axis = samples; "
                            "default MODEL_test.npz beside the model, else random inputs")
    group.add_argument("--samples", metavar="N", type=_count, help="use at most N samples (random inputs: 20)")
    group.add_argument("--labels", metavar="KEY", help="the array of --data with the true classes (default y)")
    group.add_argument("--scale", type=float, default=1.0, metavar="F", help="multiply the elements of --data by F ...")
    group.add_argument("--offset", type=float, default=0.0, metavar="F", help="... and add F (default 1 and 0)")
    group.add_argument("--cc", metavar="COMMAND", help="the C compiler for the check (default: the first one found)")
    group.add_argument("--cflags", metavar="FLAGS", default="", help="further flags for it")


def make_parser() -> Parser:
    """The parser of `tinyc`."""
    parser = Parser(prog="tinyc", usage="tinyc MODEL.onnx|FILE.tir [options]", epilog=_EXAMPLES, add_help=False,
                    description="Compile an ONNX model to freestanding C99 for microcontrollers.")
    parser.add_argument("source", nargs="?", metavar="MODEL.onnx|FILE.tir", help="what to compile")
    _add_output_group(parser)
    group = parser.add_argument_group("the model's inputs")
    add_input_options(group)
    _add_compile_group(parser)
    _add_quantize_group(parser)
    group = parser.add_argument_group("checking against onnxruntime")
    group.add_argument("--check", action="store_true",
                       help="build the C, run it (Cortex-M targets: on an emulated core), compare; "
                            "status 1 if it differs")
    add_build_options(group)
    _add_look_group(parser)
    _add_help_group(parser)
    return parser


def _add_output_group(parser: Parser) -> None:
    group = parser.add_argument_group("what to write")
    group.add_argument("--emit", metavar="|".join(EMITS), default="c", type=chosen("output", EMITS),
                       help="C (default), the IR as text, a drawing for Graphviz, an ONNX model, a table of receptive "
                            "fields and of what patches would recompute, or an SVG drawing of the schedules and of "
                            "the memory over time")
    group.add_argument("-o", dest="output", metavar="PATH",
                       help="a directory (DIR/), a file, or - for standard output; default: the current directory")
    group.add_argument("--name", metavar="SYMBOL", help="prefix of every C symbol (default: the model's file name)")
    group.add_argument("--arena", type=chosen("arena", ("static", "caller")), default="static",
                       metavar="static|caller", help="who owns the working memory (caller: it is passed to run())")
    group.add_argument("--section", metavar="WHAT=NAME", action="append", default=[], type=_section,
                       help="linker section of the arena or of the weights, as arena=.dtcm")
    group.add_argument("--hooks", action="store_true", help="also write NAME_run_hooked(), which reports each layer")
    group.add_argument("--report", metavar="FILE.json",
                       help="write sizes, work, the schedule, layers and the memory plan as JSON")
    group.add_argument("--stack", action="store_true",
                       help="also measure the stack, for the table and the report: build the C (--cc, --cflags) and "
                            "run it once on the emulated core of --target")


def _add_compile_group(parser: Parser) -> None:
    group = parser.add_argument_group("how to compile")
    add_level_options(group)
    add_target_option(group)
    add_limit_options(group)
    group.add_argument("--pareto", action="store_true",
                       help="print the schedules that no other one beats: RAM, MACs, instructions, flash; C is written "
                            "only where -o says so")
    group.add_argument("--stop-after", metavar="PASS", help="stop after this pass (with --emit ir or dot)")
    group.add_argument("--load-pass", metavar="FILE.py", action="append", default=[],
                       help="import a Python file, so that its passes can be used (may be repeated)")
    group.add_argument("--print-pipeline", action="store_true", help="print the passes that would run, and stop")


def _add_quantize_group(parser: Parser) -> None:
    group = parser.add_argument_group("quantisation")
    group.add_argument("--quantize", metavar="int8", type=chosen("scheme", ("int8",)),
                       help="store a float model as 8-bit integers (needs --calibrate)")
    group.add_argument("--calibrate", metavar="FILE.npz",
                       help="samples of the inputs: arrays named after them (or x), first axis = samples; --scale and "
                            "--offset apply to these too")
    group.add_argument("--calibration", metavar="METHOD", type=chosen("method", CALIBRATIONS),
                       help="how ranges follow from the samples: minmax, percentile, entropy or mse (default)")
    group.add_argument("--search", action="store_true", help="try several ways to quantise and keep the best")
    group.add_argument("--keep-float", metavar="NAME", action="append", default=[],
                       help="do not quantise this node (may be repeated)")
    group.add_argument("--io", metavar="float|int8", type=chosen("kind", ("float", "int8")),
                       help="what the C takes and returns where a model is quantised at its boundary (default: what "
                            "the ONNX file has)")


def _add_look_group(parser: Parser) -> None:
    group = parser.add_argument_group("looking inside (on standard error)")
    group.add_argument("--print-ir-before", metavar="[=P]", help="print the IR before the first pass, or before P")
    group.add_argument("--print-ir-after", metavar="[=P]", help="print the IR after the last pass, or after P")
    group.add_argument("--print-ir-after-all", action="store_true", help="print the IR after every pass")
    group.add_argument("--dump-dir", metavar="DIR", help="write the IR after every pass into this directory")
    group.add_argument("--time-passes", action="store_true", help="how long each pass took")
    group.add_argument("--stats", action="store_true", help="what each pass counted")
    group.add_argument("--remarks", action="store_true", help="what was or was not optimised, and why")
    group.add_argument("--check-each", action="store_true",
                       help="run the numpy interpreter after every pass; name the first that changes the answer")
    group.add_argument("-v", "--verbose", action="store_true", help="also print the pipeline and the target")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress and no table at the end")


def _add_help_group(parser: Parser) -> None:
    group = parser.add_argument_group("help")
    group.add_argument("-h", "--help", action="help", help="this text")
    group.add_argument("--version", action="store_true", help="print the version")
    group.add_argument("--list-passes", action="store_true", help="every pass with its options")
    group.add_argument("--list-ops", action="store_true", help="every ONNX operator that can be compiled")
    group.add_argument("--list-targets", action="store_true", help="every target")
    group.add_argument("--print-target", metavar="NAME", type=_target,
                       help="a target as TOML, to be copied and changed: --target BOARD.toml")


def _split(text: str, example: str) -> tuple[str, str]:
    key, equals, value = text.rpartition("=")
    if not equals or not key or not value:
        raise argparse.ArgumentTypeError(f"expected {example}, got {text!r}")
    return key, value


def _target(text: str) -> str:
    """A built-in target, or a file, which is read later."""
    return text if text.endswith(".toml") else chosen("target", TARGETS)(text)


def _dim(text: str) -> tuple[str, int]:
    key, value = _split(text, "NAME=SIZE")
    if not value.isdecimal() or int(value) == 0:
        raise argparse.ArgumentTypeError(f"the size of {key} should be a positive number, not {value!r}")
    return key, int(value)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    key, value = _split(text, "INPUT=1x3x96x96")
    sizes = value.replace(",", "x").split("x")
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise argparse.ArgumentTypeError(f"the shape of {key} should be like 1x3x96x96, not {value!r}")
    return key, tuple(map(int, sizes))


def _section(text: str) -> tuple[str, str]:
    key, value = _split(text, "arena=.section or weights=.section")
    return chosen("section", ("arena", "weights"))(key), value


def _limit(text: str) -> str:
    """Bytes, or `min`: as it was written."""
    if text != "min":
        try:
            size_of(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a size like 65536, 64K or 1M, or min, got {text!r}") from None
    return text


def _percent(text: str) -> str:
    """A percentage, with its sign: `10` is `10%`."""
    number = text.removesuffix("%")
    try:
        good = 0 <= float(number) < 1e6
    except ValueError:
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"expected a percentage like 10%, got {text!r}")
    return f"{number}%"


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return int(text)


def pairs(parser: Parser, what: str, given: Sequence[tuple[str, object]]) -> dict[str, object]:
    """`key=value` options as a dictionary; a key may be given once."""
    keys = [key for key, _ in given]
    for key in keys:
        if keys.count(key) > 1:
            parser.error(f"{what} {key} is given twice")
    return dict(given)


def parse_options(arguments: Sequence[str], parser: Parser) -> argparse.Namespace:
    """Parse. `--print-ir-before` and `--print-ir-after` take their value behind an equals sign only; the value of
    `--cflags` may begin with a dash."""
    words = [f"{word}=" if word in _OPTIONAL_VALUE else word for word in arguments]
    for at in reversed(range(len(words) - 1)):
        if words[at] == "--cflags":
            words[at:at + 2] = [f"--cflags={words[at + 1]}"]
    return parser.parse_args(words)
