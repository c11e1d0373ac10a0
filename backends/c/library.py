"""The hand-written C functions of runtime/: which of them a text needs, and their text.

    needed(["y[i] = tc_sigmoid(x[i]);"])     the texts of tc_bits, tc_exp and tc_sigmoid, in this order

A file holds one function, `tc_<name of the file>`, with the comment that belongs to it; it may use others. Functions
that exist in many variants, which the name tells apart, are written by a `family`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

__all__ = ["FUNCTIONS", "family", "function_text", "needed"]

_FOLDER = Path(__file__).parent / "runtime"
_NAME = re.compile(r"\btc_([a-z0-9_]+)\b")
FUNCTIONS = tuple(sorted(path.stem for path in _FOLDER.glob("*.c")))
_FAMILIES: list[tuple[re.Pattern[str], Callable[..., str]]] = []


def family(pattern: str) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """Let the decorated function give the text of every `tc_<name>` whose name matches `pattern`; it gets the name and
    the groups of the match.
    """
    def register(write: Callable[..., str]) -> Callable[..., str]:
        _FAMILIES.append((re.compile(pattern), write))
        return write

    return register


@cache
def function_text(name: str) -> str:
    """The text of tc_<name>: runtime/<name>.c, or what its family writes; empty if there is no such function."""
    if name in FUNCTIONS:
        return (_FOLDER / f"{name}.c").read_text(encoding="utf-8")
    for pattern, write in _FAMILIES:
        if (match := pattern.fullmatch(name)) is not None:
            return write(name, *match.groups())
    return ""


def needed(texts: Iterable[str]) -> list[str]:
    """The functions of runtime/ that `texts` use, directly or not, each behind those that it uses itself."""
    order: dict[str, str] = {}

    def visit(name: str) -> None:
        text = "" if name in order else function_text(name)
        if not text:
            return
        for other in _mentioned(text):
            if other != name:
                visit(other)
        order[name] = text

    for text in texts:
        for name in _mentioned(text):
            visit(name)
    return list(order.values())


def _mentioned(text: str) -> list[str]:
    return sorted(set(_NAME.findall(text)))
