"""Locations and diagnostics: what the compiler says, and where in the user's files it points.

    error: nn.conv2d: x has 3 channels, weight expects 4
      --> kws.tir:14:12
       |
    14 |     %c1 = nn.conv2d(%image, @conv1.weight, none) : tensor<1x16x16x8xf32>
       |           ^^^^^^^^^
    note: %image is tensor<1x32x32x3xf32>
    help: ONNX weights are OIHW; the frontend turns them to OHWI

Three severities for three audiences: an *error* is about the user's model or options, an *internal* error is a bug of
ours (the driver saves a reproducer), a *remark* says what was or was not optimised and why.
"""

from __future__ import annotations

import difflib
import linecache
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["UNKNOWN", "CompileError", "Diagnostic", "FileLoc", "FusedLoc", "Location", "NamedLoc", "Severity",
           "Unsupported", "did_you_mean", "error", "fuse", "origins"]

Severity = Literal["error", "internal", "warning", "remark"]


@dataclass(frozen=True)
class NamedLoc:
    """A node of the imported model, by its name there."""

    name: str

    def __str__(self) -> str:
        return f'"{escape(self.name)}"'


@dataclass(frozen=True, kw_only=True)
class FileLoc:
    """A place in a text file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f'"{escape(self.file)}":{self.line}:{self.column}'


@dataclass(frozen=True, kw_only=True)
class TextLoc(FileLoc):
    """Where the op itself stands in the text that it was read from. Not printed: the next printing is another text."""


@dataclass(frozen=True)
class FusedLoc:
    """Several places that `by` (a pass) merged into one op."""

    by: str
    parts: tuple[Location, ...]

    def __str__(self) -> str:
        return f'fused<"{escape(self.by)}">[{", ".join(str(p) for p in self.parts)}]'


@dataclass(frozen=True)
class _UnknownLoc:
    def __str__(self) -> str:
        return '"?"'


Location = NamedLoc | FileLoc | FusedLoc | _UnknownLoc
UNKNOWN = _UnknownLoc()


def escape(text: str) -> str:
    """`text` as it stands between the double quotes of a string of the IR."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")


def fuse(by: str, locations: Iterable[Location]) -> Location:
    """One location for an op that `by` made out of ops at `locations`; nested fusions by the same pass are flat."""
    parts: list[Location] = []
    for loc in locations:
        inner = loc.parts if isinstance(loc, FusedLoc) and loc.by == by else (loc,)
        parts.extend(p for p in inner if p not in parts and not isinstance(p, _UnknownLoc))
    if not parts:
        return UNKNOWN
    return parts[0] if len(parts) == 1 else FusedLoc(by, tuple(parts))


def origins(loc: Location) -> list[str]:
    """The names of the model's nodes behind `loc`, in order, each once."""
    if isinstance(loc, NamedLoc):
        return [loc.name]
    if isinstance(loc, FusedLoc):
        return list(dict.fromkeys(name for part in loc.parts for name in origins(part)))
    return []


@dataclass(frozen=True)
class Diagnostic:
    """One message. `notes` add facts, `help` says what to do about it, `excerpt` is the source line pointed at
    (None: the line is looked up)."""

    severity: Severity
    message: str
    loc: Location = UNKNOWN
    notes: tuple[str, ...] = ()
    help: str | None = None
    excerpt: str | None = None

    def render(self) -> str:
        """The message as the user reads it, without a final newline."""
        label = "internal error" if self.severity == "internal" else self.severity
        lines = [f"{label}: {self.message}", *self._where()]
        lines += [f"note: {note}" for note in self.notes]
        if self.help:
            lines.append(f"help: {self.help}")
        return "\n".join(lines)

    def _where(self) -> list[str]:
        place = _file_of(self.loc)
        if place is None:
            names = origins(self.loc)
            return [f"  --> node {', '.join(repr(n) for n in names)}"] if names else []
        lines = [f"  --> {place.file}:{place.line}:{place.column}"]
        excerpt = self.excerpt if self.excerpt is not None else linecache.getline(place.file, place.line).rstrip()
        if excerpt:
            margin = " " * len(str(place.line))
            caret = " " * (place.column - 1) + "^"
            lines += [f"{margin} |", f"{place.line} | {excerpt}", f"{margin} | {caret}"]
        return lines


def _file_of(loc: Location) -> FileLoc | None:
    if isinstance(loc, FileLoc):
        return loc
    if isinstance(loc, FusedLoc):
        return next((f for part in loc.parts if (f := _file_of(part)) is not None), None)
    return None


@dataclass
class CompileError(Exception):
    """The compiler stops: these diagnostics say why. The only exception that passes, frontends and backends raise."""

    diagnostics: Sequence[Diagnostic] = field(default_factory=tuple)

    def __str__(self) -> str:
        return "\n".join(d.render() for d in self.diagnostics)


@dataclass
class Unsupported(CompileError):
    """The model is well formed, but asks for something that this compiler does not do.

    `inputs` names the inputs of the model that are read where a constant is needed: with those bound it would go on.
    """

    inputs: tuple[str, ...] = ()


def error(message: str, *, loc: Location = UNKNOWN, notes: Iterable[str] = (), help: str | None = None) -> CompileError:
    """An exception with one error, ready to be raised."""
    return CompileError((Diagnostic("error", message, loc, tuple(notes), help),))


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A hint that names the closest of `known`, or lists them when there are few, or None."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    if 0 < len(choices) <= 16:
        return "known: " + ", ".join(choices)
    return None
