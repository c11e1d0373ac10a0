"""Text to syntax nodes: what lark reads, with the position of everything, before names are looked up.

Types, literals and locations are complete here; values, symbols, ops and attributes are still words. `parser.py` makes
a module of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from .diag import FileLoc, FusedLoc, Location, NamedLoc, did_you_mean
from .ir import RandomPayload
from .literals import unquote
from .types import BufferType, DType, IndexType, Quant, Shape, TensorType, Type, dtype, read_float

__all__ = ["ArenaNode", "ArgNode", "AttrNode", "ConstNode", "DataRef", "Dense", "FuncNode", "ModuleNode", "OpNode",
           "RegionNode", "Splat", "TextError", "Token", "read_syntax", "symbol_name"]

if TYPE_CHECKING:
    _Base = Transformer[Token, Any]
else:
    _Base = Transformer


class TextError(Exception):
    """Something is wrong with the text at `line` and `column` (both count from 1)."""

    def __init__(self, message: str, line: int, column: int, help: str | None = None) -> None:
        super().__init__(message)
        self.message, self.line, self.column, self.help = message, line, column, help

    @classmethod
    def at(cls, token: Token, message: str, help: str | None = None) -> TextError:
        """An error at `token`."""
        return cls(message, token.line or 1, token.column or 1, help)


class AttrNode(NamedTuple):
    name: Token
    value: Any


class ArgNode(NamedTuple):
    name: Token
    type: Type
    loc: Location | None


@dataclass(frozen=True)
class RegionNode:
    args: list[ArgNode]
    ops: list[OpNode]


@dataclass(frozen=True)
class OpNode:
    results: list[Token]
    name: Token
    operands: list[Token]
    written: list[Token]
    attrs: list[AttrNode]
    types: list[Type]
    regions: list[RegionNode]
    loc: Location | None


class Dense(NamedTuple):
    values: Any


class Splat(NamedTuple):
    value: Any


class DataRef(NamedTuple):
    file: str
    key: str


class ConstNode(NamedTuple):
    name: Token
    type: Type
    payload: Dense | Splat | DataRef | RandomPayload | None
    loc: Location | None


class ArenaNode(NamedTuple):
    name: Token
    attrs: list[AttrNode]
    loc: Location | None


@dataclass(frozen=True)
class FuncNode:
    name: Token
    args: list[ArgNode]
    results: list[Type] | None
    attrs: list[AttrNode]
    body: RegionNode
    loc: Location | None


@dataclass(frozen=True)
class ModuleNode:
    name: Token
    attrs: list[AttrNode]
    items: list[ConstNode | ArenaNode | FuncNode]


def symbol_name(token: Token) -> str:
    """The name that a `@symbol` token stands for."""
    text = token[1:]
    return unquote(text) if text.startswith('"') else text


def _given(children: Iterable[Any]) -> list[Any]:
    return [c for c in children if c is not None]


class _Syntax(_Base):
    """Called by the parser as it reduces; one method a rule of the grammar."""

    def start(self, c: list[Any]) -> ModuleNode:
        node: ModuleNode = c[0]
        return node

    def module(self, c: list[Any]) -> ModuleNode:
        return ModuleNode(c[0], c[1] or [], c[2:])

    def const(self, c: list[Any]) -> ConstNode:
        return ConstNode(*c)

    def arena(self, c: list[Any]) -> ArenaNode:
        return ArenaNode(c[0], c[1] or [], c[2])

    def func(self, c: list[Any]) -> FuncNode:
        name, args, results, attrs, body, loc = c
        return FuncNode(name, args or [], results, attrs or [], body, loc)

    def arg(self, c: list[Any]) -> ArgNode:
        return ArgNode(*c)

    def region(self, c: list[Any]) -> RegionNode:
        return RegionNode(c[0] or [], c[1:])

    def label(self, c: list[Any]) -> list[ArgNode]:
        args: list[ArgNode] = c[1] or []
        return args

    def op(self, c: list[Any]) -> OpNode:
        results, name, operands, written, attrs, types = c[:6]
        return OpNode(results or [], name, operands or [], written or [], attrs or [], types or [], c[6:-1], c[-1])

    def written(self, c: list[Any]) -> list[Token]:
        operands: list[Token] = c[0]
        return operands

    def _items(self, c: list[Any]) -> list[Any]:
        return _given(c)

    args = results = operands = types = numbers = attrs = _items

    # -- payloads

    def dense(self, c: list[Any]) -> Dense:
        return Dense(c[0])

    def splat(self, c: list[Any]) -> Splat:
        return Splat(c[0])

    def random(self, c: list[Token]) -> RandomPayload:
        return RandomPayload(_integer(c[0]))

    def data(self, c: list[Token]) -> DataRef:
        return DataRef(unquote(c[0]), unquote(c[1]))

    def elided(self, c: list[Token]) -> None:
        return None

    # -- types

    def tensor(self, c: list[Any]) -> TensorType:
        return TensorType(*_shaped(c[0]), c[1])

    def buffer(self, c: list[Any]) -> BufferType:
        return BufferType(*_shaped(c[0]), c[1])

    def index(self, c: list[Any]) -> IndexType:
        return IndexType()

    def per_tensor(self, c: list[Any]) -> Quant:
        return Quant((float(c[0]),), (_integer(c[1]),))

    def per_axis(self, c: list[Any]) -> Quant:
        scales = tuple(float(s) for s in c[1] or [])
        zeros = c[2] if len(c[2]) > 1 else c[2] * len(scales)
        if len(zeros) != len(scales):
            raise TextError.at(c[0], f"there are {len(scales)} scales and {len(zeros)} zero points")
        return Quant(scales, zeros, _integer(c[0]))

    def zero_points(self, c: list[Token]) -> tuple[int, ...]:
        return tuple(_integer(t) for t in c)

    # -- literals

    def attr(self, c: list[Any]) -> AttrNode:
        return AttrNode(*c)

    def integer(self, c: list[Token]) -> int:
        return _integer(c[0])

    def real(self, c: list[Token]) -> Any:
        return read_float(c[0])

    def string(self, c: list[Token]) -> str:
        return unquote(c[0])

    def word(self, c: list[Token]) -> str:
        return str(c[0])

    def none(self, c: list[Token]) -> None:
        return None

    def true(self, c: list[Token]) -> bool:
        return True

    def false(self, c: list[Token]) -> bool:
        return False

    def sequence(self, c: list[Any]) -> tuple[Any, ...]:
        return tuple(c)

    # -- locations

    def loc(self, c: list[Location]) -> Location:
        return c[0]

    def named(self, c: list[Token]) -> NamedLoc:
        return NamedLoc(unquote(c[0]))

    def file(self, c: list[Token]) -> FileLoc:
        return FileLoc(file=unquote(c[0]), line=_integer(c[1]), column=_integer(c[2]))

    def fused(self, c: list[Any]) -> FusedLoc:
        return FusedLoc(unquote(c[0]), tuple(c[1:]))


def _integer(token: Token) -> int:
    if len(token) > 40:
        raise TextError.at(token, "this number is too large")
    return int(token)


def _shaped(token: Token) -> tuple[Shape, DType]:
    name = re.sub(r"^([0-9]+x)*", "", token)
    dims = token[:len(token) - len(name)].split("x")[:-1]
    try:
        element = dtype(name)
    except KeyError:
        known = ["f16", "f32", "f64", "i4", "i8", "i16", "i32", "i64", "u4", "u8", "u16", "u32", "u64", "bool"]
        raise TextError.at(token, f"there is no element type {name!r}", did_you_mean(name, known)) from None
    if any(len(d) > 18 for d in dims):
        raise TextError.at(token, "this dimension is too large")
    return tuple(int(d) for d in dims), element


@lru_cache(maxsize=1)
def _lark() -> Lark:
    """The parser; building its tables takes 0.2 s, so that is done once a process, when first needed."""
    grammar = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", transformer=_Syntax(), maybe_placeholders=True)


def read_syntax(text: str) -> ModuleNode:
    """The syntax of one module. Raises TextError."""
    try:
        node: Any = _lark().parse(text)
    except UnexpectedInput as problem:
        raise _syntax_error(text, problem) from None
    module: ModuleNode = node
    return module


_TERMINALS = {
    "VALUE": "a value (%name)", "SYMBOL": "a symbol (@name)", "OPNAME": "an operation (dialect.op)", "WORD": "a name",
    "SHAPED": "a shape and element type (1x16xf32)", "INT": "a whole number", "FLOAT": "a number",
    "STRING": 'a string ("...")', "LABEL": "a label (^name)",
}
_UNHELPFUL = {"INFINITY", "MINUS_INFINITY", "NAN", "TRUE", "FALSE", "COMMENT", "WHITE"}


def _syntax_error(text: str, problem: UnexpectedInput) -> TextError:
    if isinstance(problem, UnexpectedToken):
        expected = problem.accepts or problem.expected
        found = "the end of the text" if problem.token.type == "$END" else repr(str(problem.token))
    elif isinstance(problem, UnexpectedCharacters):
        expected = problem.allowed or set()
        found = repr(_word_at(text, problem.pos_in_stream))
    else:
        expected, found = set(), "the end of the text"
    line, column = problem.line, problem.column
    if line < 1:
        lines = text.splitlines() or [""]
        line, column = len(lines), len(lines[-1]) + 1
    wanted = _describe(expected)
    return TextError(f"found {found}" + (f", expected {wanted}" if wanted else ""), line, column)


def _word_at(text: str, position: int | None) -> str:
    rest = text[position or 0:].split(None, 1)
    return rest[0][:20] if rest else ""


def _describe(terminals: Iterable[str]) -> str:
    """The terminals in words, the common ones first; one word for what begins a literal."""
    names = set(terminals) - _UNHELPFUL
    if {"INT", "FLOAT", "STRING"} <= names:
        names = (names - {"INT", "FLOAT", "STRING", "WORD", "NONE", "LSQB"}) | {"literal"}
    literals = {t.name: t.pattern.value for t in _lark().terminals}
    shown = [_TERMINALS.get(n) or (repr(literals[n]) if n in literals else {"$END": "the end of the text"}.get(
        n, "a value such as 1, 0.5, word, \"text\" or [1, 2]")) for n in sorted(names)]
    if len(shown) > 1:
        return ", ".join(shown[:-1]) + f" or {shown[-1]}"
    return shown[0] if shown else ""
