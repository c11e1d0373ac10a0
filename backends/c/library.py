"""The hand-written C functions of runtime/: which of them a text needs, and their text.

    needed(["y[i] = tc_sigmoid(x[i]);"])     the texts of tc_bits, tc_exp and tc_sigmoid, in this order

A file holds one function, `tc_<name of the file>`, with the comment that belongs to it; it may use others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

__all__ = ["FUNCTIONS", "function_text", "needed"]

_FOLDER = Path(__file__).parent / "runtime"
_NAME = re.compile(r"\btc_([a-z0-9_]+)\b")
FUNCTIONS = tuple(sorted(path.stem for path in _FOLDER.glob("*.c")))


@cache
def function_text(name: str) -> str:
    """The text of runtime/<name>.c. Raises FileNotFoundError."""
    return (_FOLDER / f"{name}.c").read_text(encoding="utf-8")


def needed(texts: Iterable[str]) -> list[str]:
    """The functions of runtime/ that `texts` use, directly or not, each behind those that it uses itself."""
    order: dict[str, str] = {}

    def visit(name: str) -> None:
        if name in order or name not in FUNCTIONS:
            return
        text = function_text(name)
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
