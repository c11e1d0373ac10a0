"""Attribute values: as Python objects, as text, and checked against an op's annotations.

    literal_text((1, 2.5, "relu", None))        '[1, 2.5, relu, none]'
    convert(tuple[int, int], (1, 2))            (1, 2)
    convert(Literal["none", "relu"], "rellu")   ValueError: ... one of none, relu
"""

from __future__ import annotations

import re
import types as pytypes
import typing
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from .diag import escape
from .types import shortest_float

__all__ = ["attribute_text", "convert", "describe", "literal_text", "quote", "symbol_text", "unquote"]

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_RESERVED = frozenset({"true", "false", "none", "inf", "nan"})
_UNESCAPES = {"n": "\n", "r": "\r"}


def quote(text: str) -> str:
    """`text` as a string of the IR, in double quotes."""
    return f'"{escape(text)}"'


def unquote(text: str) -> str:
    """The inverse of `quote`."""
    return re.sub(r"\\(.)", lambda m: _UNESCAPES.get(m[1], m[1]), text[1:-1])


def symbol_text(name: str) -> str:
    """`name` as a symbol: `@conv1.weight`, or `@"torch-jit-export"` if it is not made of letters, digits and dots."""
    return f"@{name}" if _SYMBOL.fullmatch(name) else "@" + quote(name)


def literal_text(value: Any) -> str:
    """An attribute value as it is written. Raises TypeError for a value that attributes cannot have."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) and value not in _RESERVED else quote(value)
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(literal_text(item) for item in value)}]"
    return _number_text(value)


def attribute_text(annotation: Any, value: Any) -> str:
    """An attribute value where the annotation is known: the word `none` needs no quotes where it is a choice."""
    return "none" if value == "none" and typing.get_origin(annotation) is typing.Literal else literal_text(value)


def _number_text(value: Any) -> str:
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return "true" if value else "false"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return shortest_float(float(value))
    raise TypeError(f"an attribute cannot be a {type(value).__name__}")


def describe(annotation: Any, many: bool = False) -> str:
    """What a value of this annotation looks like, for messages: `a list of 2 whole numbers`."""
    members = _members(annotation)
    if len(members) > 1:
        return " or ".join(describe(m, many) for m in members)
    if typing.get_origin(annotation) is typing.Literal:
        return "one of " + ", ".join(attribute_text(annotation, word) for word in typing.get_args(annotation))
    if typing.get_origin(annotation) is tuple:
        return _describe_list(typing.get_args(annotation), many)
    one, several = _NOUNS.get(annotation, (str(annotation), str(annotation)))
    return several if many else one


def _describe_list(items: Sequence[Any], many: bool) -> str:
    noun = "lists of" if many else "a list of"
    if not items:
        return "an empty list"
    if items[-1] is Ellipsis:
        return f"{noun} {describe(items[0], True)}"
    if len(set(map(str, items))) == 1:
        return f"{noun} {len(items)} {describe(items[0], True)}"
    return f"{noun} " + ", ".join(describe(item) for item in items)


_NOUNS: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"), float: ("a number", "numbers"), bool: ("true or false", "true or false"),
    str: ("a string", "strings"), type(None): ("none", "none"), Any: ("a value", "values"),
}


def _members(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, pytypes.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def convert(annotation: Any, value: Any) -> Any:
    """`value` as the annotation wants it (an int where a float is wanted becomes one). Raises ValueError."""
    for member in _members(annotation):
        try:
            return _convert_one(member, value)
        except ValueError:
            continue
    raise ValueError(f"should be {describe(annotation)}, not {_shown(value)}")


def _shown(value: Any) -> str:
    try:
        return literal_text(value)
    except TypeError:
        return repr(value)


def _convert_one(kind: Any, value: Any) -> Any:
    if kind is Any:
        return value
    if typing.get_origin(kind) is typing.Literal:
        return _choice(typing.get_args(kind), "none" if value is None else value)
    if typing.get_origin(kind) is tuple:
        return _convert_list(typing.get_args(kind), value)
    if kind is float and isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise ValueError(kind)


def _choice(words: Sequence[Any], value: Any) -> Any:
    for word in words:
        if word == value and type(word) is type(value):
            return word
    raise ValueError("no such word")


def _convert_list(items: Sequence[Any], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)):
        raise ValueError("not a list")
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(convert(items[0], v) for v in value)
    if len(items) != len(value):
        raise ValueError("wrong length")
    return tuple(convert(item, v) for item, v in zip(items, value, strict=True))
