"""Every `.tir` file here is wrong; its comments say which errors must be reported, and on which line.

    // error: TEXT      the next line that is no such comment has an error whose message contains TEXT
    // help: TEXT       and that error's help contains TEXT
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tinyir import CompileError, Diagnostic, FileLoc, parse_file, verify

HERE = Path(__file__).parent


class Expected(NamedTuple):
    line: int
    message: str
    help: str


def expectations(text: str) -> list[Expected]:
    found: list[Expected] = []
    waiting: list[tuple[str, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        kind, colon, rest = line.strip().partition(": ")
        if colon and kind == "// error":
            waiting.append((rest, ""))
        elif colon and kind == "// help":
            waiting[-1] = (waiting[-1][0], rest)
        elif waiting:
            found += [Expected(number, message, help) for message, help in waiting]
            waiting = []
    return found


def errors_of(path: Path) -> list[Diagnostic]:
    with pytest.raises(CompileError) as caught:
        verify(parse_file(path))
    return list(caught.value.diagnostics)


@pytest.mark.parametrize("path", sorted(HERE.glob("*.tir")), ids=lambda p: p.stem)
def test_reports(path: Path) -> None:
    expected = expectations(path.read_text(encoding="utf-8"))
    assert expected
    found = errors_of(path)
    shown = "\n".join(d.render() for d in found)
    assert len(found) == len(expected), shown
    for diagnostic, wanted in zip(sorted(found, key=line_of), expected, strict=True):
        assert diagnostic.severity == "error"
        assert (line_of(diagnostic), wanted.message in diagnostic.message) == (wanted.line, True), shown
        assert wanted.help in (diagnostic.help or ""), shown


def line_of(diagnostic: Diagnostic) -> int:
    return diagnostic.loc.line if isinstance(diagnostic.loc, FileLoc) else 0


def test_points_at_the_place() -> None:
    path = HERE / "element_type.tir"
    assert errors_of(path)[0].render() == f"""\
error: there is no element type 'f31'
  --> {path}:4:21
  |
4 |   const @w : tensor<4xf31> = splat<0>
  |                     ^
help: did you mean 'f32'?"""


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"cannot read .*nowhere\.tir: No such file"):
        parse_file(tmp_path / "nowhere.tir")
    (tmp_path / "binary.tir").write_bytes(b"module\xff")
    with pytest.raises(CompileError, match="is not text: byte 6 is not UTF-8"):
        parse_file(tmp_path / "binary.tir")
