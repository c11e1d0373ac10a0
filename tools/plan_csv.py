"""Buffers with lifetimes as a table: MiniMalloc's CSV format, read and written.

    id,lower,upper,size              id,lower,upper,size,offset
    b1,0,3,4                  ->     b1,0,3,4,8
    b2,3,9,4                         b2,3,9,4,8

A buffer of `size` bytes is needed at the times `lower`, ..., `upper` - 1. The columns may come in any order; an
`offset` that is there already is not looked at.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyir.diag import CompileError, Diagnostic, did_you_mean, error
from tinyir.placement import Block

__all__ = ["Buffers", "read_buffers", "table_of"]

_COLUMNS = ("id", "lower", "upper", "size")
_SHOWN = 10  # problems of one file; more say nothing new


@dataclass(frozen=True)
class Buffers:
    """The rows of a file: names, and what is to be placed."""

    names: tuple[str, ...]
    blocks: tuple[Block, ...]


def read_buffers(path: Path) -> Buffers:
    """The buffers of a CSV file. Raises CompileError that names every line (up to ten) that is wrong."""
    rows = _rows(path)
    columns = _columns(path, rows[0][1] if rows else [])
    names: dict[str, int] = {}
    blocks: list[Block] = []
    problems: list[str] = []
    for line, row in rows[1:]:
        try:
            name, block = _buffer(row, columns)
            if name in names:
                raise ValueError(f"id {name!r} is that of line {names[name]} too")
            names[name] = line
            blocks.append(block)
        except ValueError as problem:
            problems.append(f"{path}:{line}: {problem}")
    if problems:
        raise CompileError([Diagnostic("error", problem) for problem in problems[:_SHOWN]] + _more(problems))
    return Buffers(tuple(names), tuple(blocks))


def _more(problems: Sequence[str]) -> list[Diagnostic]:
    rest = len(problems) - _SHOWN
    return [Diagnostic("error", f"and {rest} more")] if rest > 0 else []


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows that are not empty, each with its line number."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise error(f"{path} is not text: byte {problem.start} is not UTF-8") from None
    except csv.Error as problem:
        raise error(f"{path} is not CSV: {problem}") from None


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    """Where each column stands. What is not known may matter (an alignment, say), so it is refused."""
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise error(f"{path}: the first line should name the columns {', '.join(_COLUMNS)};"
                    f" there is no {' and no '.join(missing)}", notes=[f"it is {','.join(header)!r}"])
    for name in header:
        if header.count(name) > 1:
            raise error(f"{path}: there are {header.count(name)} columns {name!r}")
        if name not in (*_COLUMNS, "offset"):
            raise error(f"{path}: there is a column {name!r}, which means nothing here",
                        help=did_you_mean(name, [*_COLUMNS, "offset"]))
    return {name: header.index(name) for name in _COLUMNS}


def _buffer(row: list[str], columns: dict[str, int]) -> tuple[str, Block]:
    """Name and block of a row. Raises ValueError."""
    if len(row) <= max(columns.values()):
        raise ValueError(f"{len(row)} columns are too few: {','.join(row)!r}")
    lower, upper, size = (_whole(row[columns[name]], name) for name in _COLUMNS[1:])
    if size < 0:
        raise ValueError(f"size {size} is negative")
    if lower >= upper:
        raise ValueError(f"lower {lower} should be less than upper {upper}, the first time without the buffer")
    return row[columns["id"]], Block(lower, upper, size)


def _whole(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} should be a whole number, not {text!r}") from None


def table_of(buffers: Buffers, offsets: Sequence[int]) -> bytes:
    """The file with a column of offsets, in bytes."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_COLUMNS, "offset"])
    for name, block, offset in zip(buffers.names, buffers.blocks, offsets, strict=True):
        writer.writerow([name, block.lower, block.upper, block.size, offset])
    return out.getvalue().encode()
