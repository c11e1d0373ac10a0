"""Offsets for buffers with known lifetimes: `tinyc-plan FILE.csv [--capacity N] [-o OUT.csv]`.

The same placement that the pass plan-arena uses, for tables of buffers from elsewhere. The offsets are verified from
the definition before anything is written.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tinyir.diag import CompileError, error

from .cli import DONE, Parser, Progress, guarded, note, version_text, write_files

if TYPE_CHECKING:
    from tinyir.placement import Block, Placement

__all__ = ["main"]

_EXAMPLES = """\
the file has the columns id,lower,upper,size: a buffer of `size` bytes is needed at the times lower, ..., upper - 1.

examples:
  tinyc-plan buffers.csv                      the smallest arena that holds all, and how it is known to be that
  tinyc-plan buffers.csv --capacity 1M        any placement within 1048576 bytes, or the reason why there is none
  tinyc-plan buffers.csv -o placed.csv        write the offsets: id,lower,upper,size,offset
  tinyc-plan buffers.csv --align 16 --json -o placed.csv

exit status: 0 done, 1 nothing fits or the file is wrong, 2 wrong usage, 70 a bug of tinyc-plan
"""
_TIME_LIMIT = 60.0
_NO_LIMIT = 1 << 62


def _parser() -> Parser:
    parser = Parser(prog="tinyc-plan", usage="tinyc-plan FILE.csv [--capacity N] [-o OUT.csv] [options]",
                    epilog=_EXAMPLES, description="Place buffers with known lifetimes in as few bytes as possible.")
    parser.add_argument("source", nargs="?", metavar="FILE.csv", help="buffers, in the format of MiniMalloc")
    group = parser.add_argument_group("options")
    group.add_argument("--capacity", metavar="N", type=_bytes, help="be content with a peak of N bytes (64K, 1M)")
    group.add_argument("-o", dest="output", metavar="OUT.csv", help="write the buffers with their offsets (-: print)")
    group.add_argument("--align", metavar="N", type=_count, default=1, help="offsets are multiples of N (default 1)")
    group.add_argument("--time-limit", metavar="S", type=_seconds, default=_TIME_LIMIT,
                       help=f"search for at most S seconds (default {_TIME_LIMIT:g})")
    group.add_argument("--json", action="store_true", help="print the result as one JSON object")
    group.add_argument("--version", action="store_true", help="print the version")
    return parser


def _bytes(text: str) -> int:
    factors = {"K": 1 << 10, "M": 1 << 20}
    digits, factor = (text[:-1], factors[text[-1]]) if text[-1:] in factors else (text, 1)
    return _count(digits) * factor


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes above zero")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above zero")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `tinyc-plan` with `arguments` (default: those of the process); the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return guarded("tinyc-plan", lambda: _main(given))


def _main(arguments: Sequence[str]) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.version:
        print(f"tinyc-plan {version_text()}")
        return DONE
    if options.source is None:
        parser.error("which file?")
    if options.json and options.output == "-":
        parser.error("--json and -o - both want standard output")
    _run(options)
    return DONE


def _run(options: Namespace) -> None:
    from tinyir.placement import verify

    from .plan_csv import read_buffers, table_of

    buffers = read_buffers(Path(options.source))
    begin = time.monotonic()
    with Progress("tinyc-plan").stage(f"placing {len(buffers.blocks)} buffers"):
        placement = _place(options, buffers.blocks, begin + options.time_limit)
    seconds = time.monotonic() - begin
    verify(buffers.blocks, placement.offsets, options.align)
    fits = options.capacity is None or placement.peak <= options.capacity
    _say(options, buffers.blocks, placement, seconds, fits)
    if not fits:
        raise _does_not_fit(options, buffers.blocks, placement)
    if options.output == "-":
        sys.stdout.write(table_of(buffers, placement.offsets).decode())
    elif options.output:
        write_files({Path(options.output): table_of(buffers, placement.offsets)})


def _place(options: Namespace, blocks: Sequence[Block], deadline: float) -> Placement:
    """Within the capacity, or else the best that a short search finds."""
    from tinyir.placement import place

    placement = place(blocks, options.align, capacity=options.capacity, nodes=_NO_LIMIT,
                      stop=lambda: time.monotonic() > deadline)
    if options.capacity is None or placement.peak <= options.capacity:
        return placement
    best = place(blocks, options.align)
    return replace(best, lower_bound=max(best.lower_bound, placement.lower_bound), nodes=best.nodes + placement.nodes)


def _say(options: Namespace, blocks: Sequence[Block], placement: Placement, seconds: float, fits: bool) -> None:
    """The result on standard output, or on standard error if the table goes there."""
    if options.json:
        print(json.dumps({
            "buffers": len(blocks), "arena_bytes": placement.peak, "lower_bound_bytes": placement.lower_bound,
            "optimal": placement.optimal, "capacity_bytes": options.capacity, "fits": fits, "align": options.align,
            "nodes": placement.nodes, "seconds": round(seconds, 3)}, indent=1))
        return
    gap = placement.peak - placement.lower_bound
    verdict = "optimal" if placement.optimal else f"at most {gap} bytes ({100 * gap / placement.peak:.1f} %) too many"
    lines = [f"buffers       {len(blocks)}", f"peak          {placement.peak} bytes, {verdict}",
             f"lower bound   {placement.lower_bound} bytes, proved",
             f"time          {seconds:.2f} s, {placement.nodes} nodes"]
    if fits and options.capacity is not None:
        lines.insert(3, f"capacity      {options.capacity} bytes: it fits")
    (note if options.output == "-" else print)("\n".join(lines))


def _does_not_fit(options: Namespace, blocks: Sequence[Block], placement: Placement) -> CompileError:
    """Why nothing fits into the capacity, or that it is not known."""
    from tinyir.placement import busiest_moment

    capacity, (moment, load) = options.capacity, busiest_moment(blocks, options.align)
    title = f"{options.source} does not fit into {capacity} bytes"
    if load > capacity:
        alive = sum(block.lower <= moment < block.upper for block in blocks)
        return error(title, notes=[f"at time {moment} {alive} buffers need {load} bytes together"])
    if placement.lower_bound > capacity:
        return error(title, notes=[f"no more than {load} bytes are needed at one time, but the search proved that"
                                   f" at least {placement.lower_bound} are necessary"])
    return error(f"{options.source}: nothing within {capacity} bytes was found in {options.time_limit:g} s",
                 notes=["that there is nothing is not proved"], help="--time-limit gives the search more time")


if __name__ == "__main__":
    sys.exit(main())
