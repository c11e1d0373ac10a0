"""Module to text, so that `parse(print_module(m))` is `m` again.

    // 160 MACs, 160 parameters, 640 bytes
    module @kws {level = graph} {
      const @fc.weight : tensor<10x16xf32> = random<7>

      func @main(%x: tensor<1x16xf32>) -> tensor<1x10xf32> {
        %y = nn.dense(%x, @fc.weight, none) {act = relu} : tensor<1x10xf32> loc("Gemm_6")
        nn.return(%y)
      }
    }

Values keep their names, made unique. Attributes that have their default value are not printed. What can be recomputed
(MACs, bytes, live ranges) is in comments.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .diag import UNKNOWN, CompileError, Location, TextLoc
from .ir import (
    Arena,
    Argument,
    Array,
    Block,
    Const,
    DataPayload,
    Func,
    Module,
    RandomPayload,
    SplatPayload,
    Value,
    sanitise,
)
from .literals import attribute_text, literal_text, quote, symbol_text
from .opdef import MISSING, Op

__all__ = ["Facts", "Sidecar", "location_text", "print_module", "write_module"]

Facts = Literal["none", "header", "all"]
_WIDTH = 120
_DENSE_LIMIT = 16
_FIRST_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass
class Sidecar:
    """The .npz file beside the text: constants that are too large to be written in it. One may serve many texts."""

    name: str
    arrays: dict[str, Array] = field(default_factory=dict)
    _saved: int = 0

    def key(self, name: str, data: Array) -> str:
        """Keep `data`; the key to find it by is `name`, with a number behind it if other data has that name."""
        candidate, number = name, 1
        while candidate in self.arrays and not _same(self.arrays[candidate], data):
            number += 1
            candidate = f"{name}#{number}"
        self.arrays[candidate] = data
        return candidate

    def save(self, folder: str | os.PathLike[str] = "") -> None:
        """Write the arrays to the file in `folder`; those that came since the last time are added to it."""
        path = os.path.join(folder, self.name)
        new = list(self.arrays.items())[self._saved:]
        if not new:
            return
        with zipfile.ZipFile(path, "a" if self._saved else "w") as archive:
            for key, array in new:
                stream = io.BytesIO()
                np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{key}.npy", _FIRST_DATE), stream.getvalue())
        self._saved = len(self.arrays)


def _same(a: Array, b: Array) -> bool:
    return a is b or (a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())


def print_module(module: Module, *, elide_consts: bool = False, sidecar: str | Sidecar | None = None,
                 locations: bool = True, facts: Facts = "header") -> str:
    """The text of `module`, with a newline at the end.

    Constants of at most 16 elements are written in full, larger ones refer to `sidecar` (pass a `Sidecar` to get their
    data), or are marked `elided` without one. With `elide_consts` constants are left out: easier to read, but it
    cannot be parsed. `facts` says which comments there are: a first line of totals, or also one an op.
    """
    return _Printer(module, elide_consts, sidecar, locations, facts).text()


def write_module(module: Module, path: str | os.PathLike[str]) -> None:
    """Write the text to `path` and its large constants to the .npz file of the same stem beside it."""
    folder, name = os.path.split(os.fspath(path))
    side = Sidecar(os.path.splitext(name)[0] + ".npz")
    text = print_module(module, sidecar=side)
    side.save(folder)
    with open(path, "w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)


def location_text(loc: Location) -> str | None:
    """What is written in `loc(...)`, or None for a location that is not written."""
    return None if loc is UNKNOWN or isinstance(loc, TextLoc) else str(loc)


def _types(types: Sequence[Any]) -> str:
    return str(types[0]) if len(types) == 1 else f"({', '.join(map(str, types))})"


@dataclass(frozen=True)
class _Piece:
    """A part of a line that is kept together if it fits: `before`, items with commas between them, `after`."""

    before: str
    items: tuple[str, ...] = ()
    after: str = ""

    def __str__(self) -> str:
        return self.before + ", ".join(self.items) + self.after

    @property
    def words(self) -> list[str]:
        """The parts that a line may be broken between, each with what has to follow it."""
        if not self.items:
            return [self.before + self.after]
        words = [f"{item}," for item in self.items[:-1]] + [self.items[-1] + self.after]
        return [self.before + words[0], *words[1:]]


def _layout(pieces: Iterable[_Piece], indent: int) -> list[str]:
    """Lines of at most 120 columns: broken between pieces, and inside a piece only where it is too long for a line."""
    lines, current, margin = [], "", " " * indent
    for piece in pieces:
        whole = str(piece)
        words = [whole] if len(margin) + 8 + len(whole) <= _WIDTH else piece.words
        for word in words:
            if current and len(current) + 1 + len(word) > _WIDTH:
                lines.append(current)
                current = margin + " " * 8 + word
            else:
                current = f"{current} {word}" if current else margin + word
    return [*lines, current]


class _Printer:
    def __init__(self, module: Module, elide_consts: bool, sidecar: str | Sidecar | None, locations: bool,
                 facts: Facts) -> None:
        self.module = module
        self.elide_consts = elide_consts
        self.sidecar = Sidecar(sidecar) if isinstance(sidecar, str) else sidecar
        self.locations = locations
        self.facts = facts
        self.lines: list[str] = []
        self.body = 0
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()

    def text(self) -> str:
        if self.facts != "none":
            self.lines.append(_header(self.module))
        attrs = {"level": self.module.level, **self.module.attrs}
        self._line(0, _Piece(f"module {symbol_text(self.module.name)}"), _attr_piece(attrs), _Piece("{"))
        self.body = len(self.lines)
        for arena in self.module.arenas.values():
            self._arena(arena)
        if not self.elide_consts:
            for const in self.module.consts.values():
                self._line(2, _Piece(f"const {symbol_text(const.name)} : {const.type_}"),
                           self._payload(const), *self._loc(const.loc))
        for func in self.module.funcs.values():
            self._func(func)
        self.lines += ["}", ""]
        return "\n".join(self.lines)

    def _line(self, indent: int, *pieces: _Piece, comment: str = "") -> None:
        lines = _layout(pieces, indent)
        if comment and len(lines[-1]) + len(comment) + 5 <= _WIDTH:
            lines[-1] += f"  // {comment}"
        elif comment:
            lines.insert(0, f"{' ' * indent}// {comment}")
        self.lines += lines

    def _loc(self, loc: Location) -> list[_Piece]:
        text = location_text(loc) if self.locations else None
        return [_Piece(f"loc({text})")] if text is not None else []

    # -- symbols

    def _arena(self, arena: Arena) -> None:
        size = {} if arena.size is None else {"size": arena.size}
        align = {} if arena.align == 16 else {"align": arena.align}
        attrs = {**size, **align}
        self._line(2, _Piece(f"arena {symbol_text(arena.name)}"), *([_attr_piece(attrs)] if attrs else []),
                   *self._loc(arena.loc))

    def _payload(self, const: Const) -> _Piece:
        payload = const.payload
        if isinstance(payload, SplatPayload):
            return _Piece(f"= splat<{literal_text(payload.value)}>")
        if isinstance(payload, RandomPayload):
            return _Piece(f"= random<{payload.seed}>")
        if isinstance(payload, DataPayload) and self.sidecar is None:
            return _Piece(f"= data<{quote(payload.file)}, {quote(payload.key)}>")
        data = const.data
        return _Piece("= elided") if data is None else self._data(const.name, data)

    def _data(self, name: str, data: Array) -> _Piece:
        if data.size and _all_equal(data):
            return _Piece(f"= splat<{literal_text(data.flat[0])}>")
        if data.size <= _DENSE_LIMIT:
            return _Piece("= dense<[", tuple(literal_text(item) for item in data.flat), "]>")
        if self.sidecar is None:
            return _Piece("= elided")
        return _Piece(f"= data<{quote(self.sidecar.name)}, {quote(self.sidecar.key(name, data))}>")

    # -- functions

    def _func(self, func: Func) -> None:
        self.names, self.taken = {}, set()
        args = [self._arg(a) for a in func.args]
        ends = func.ops[-1] if func.ops and func.ops[-1].terminator else None
        results = [v.type_ for v in ends.operands if v is not None] if ends is not None and not func.outputs else []
        attrs: dict[str, Any] = {}
        if any(self.names[a] != a.name for a in func.args):
            attrs["arguments"] = tuple(a.name for a in func.args)
        if func.result_names:
            attrs["results"] = func.result_names
        if func.outputs:
            attrs["outputs"] = func.outputs
        if len(self.lines) > self.body:
            self.lines.append("")
        self._line(2, _Piece(f"func {symbol_text(func.name)}(", tuple(args), ")"),
                   *([_Piece(f"-> {_types(results)}")] if results else []),
                   *([_attr_piece(attrs)] if attrs else []), _Piece("{"))
        live = _live_ranges(func) if self.facts == "all" else {}
        self._ops(func.block, 4, live)
        self._line(2, _Piece("}"), *self._loc(func.loc))

    def _arg(self, arg: Argument) -> str:
        loc = "".join(f" {piece}" for piece in self._loc(arg.loc))
        return f"%{self._define(arg)}: {arg.type_}{loc}"

    def _define(self, value: Value) -> str:
        stem = sanitise(value.name)
        candidate, number = stem, 1
        while candidate in self.taken:
            candidate, number = f"{stem}_{number}", number + 1
        self.taken.add(candidate)
        self.names[value] = candidate
        return candidate

    def _name(self, value: Value | None) -> str:
        if value is None:
            return "none"
        if isinstance(value, (Const, Arena)):
            return symbol_text(value.name)
        return f"%{self.names[value] if value in self.names else self._define(value)}"

    def _ops(self, block: Block, indent: int, live: dict[Op, str]) -> None:
        for op in block.ops:
            self._op(op, indent, live)

    def _op(self, op: Op, indent: int, live: dict[Op, str]) -> None:
        read, written = self._operands(op)
        results = tuple(f"%{self._define(r)}" for r in op.results)
        attrs = _given_attrs(op)
        pieces = [_Piece("", results, " =")] if results else []
        pieces += [_Piece(f"{op.opname}(", read, ")")]
        pieces += [_Piece("-> (", written, ")")] if written else []
        pieces += [_text_piece(attrs)] if attrs else []
        pieces += [_Piece(f": {_types([r.type_ for r in op.results])}")] if op.results else []
        comment = ", ".join(filter(None, (_op_facts(op), live.get(op)))) if self.facts == "all" else ""
        for index, region in enumerate(op.regions):
            head = _Piece("{") if index == 0 else _Piece("} {")
            self._line(indent, *(pieces if index == 0 else []), head, comment=comment if index == 0 else "")
            self._region(region, indent, live)
            pieces = [_Piece("}")]
        self._line(indent, *pieces, *self._loc(op.loc), comment="" if op.regions else comment)

    def _region(self, block: Block, indent: int, live: dict[Op, str]) -> None:
        if block.args:
            self._line(indent, _Piece("^body(", tuple(self._arg(a) for a in block.args), "):"))
        self._ops(block, indent + 2, live)

    def _operands(self, op: Op) -> tuple[tuple[str, ...], tuple[str, ...]]:
        fields = list(zip(op.schema.operands, op.operand_groups, strict=True))
        read = tuple(self._name(v) for f, group in fields if not f.written for v in group)
        return read, tuple(self._name(v) for f, group in fields if f.written for v in group)


def _given_attrs(op: Op) -> dict[str, str]:
    """The attributes that do not have their default value, as text."""
    texts = {a.name: (attribute_text(a.annotation, getattr(op, a.name)), a) for a in op.schema.attrs}
    return {name: text for name, (text, a) in texts.items()
            if a.default is MISSING or text != attribute_text(a.annotation, a.default)}


def _attr_piece(attrs: dict[str, Any]) -> _Piece:
    return _text_piece({name: literal_text(value) for name, value in attrs.items()})


def _text_piece(texts: dict[str, str]) -> _Piece:
    return _Piece("{", tuple(f"{name} = {text}" for name, text in texts.items()), "}")


def _all_equal(data: Array) -> bool:
    flat = data.ravel()
    if flat[:4].tobytes() != flat[0].tobytes() * len(flat[:4]):
        return False
    first: bytes = flat[0].tobytes()
    return bool(flat.tobytes() == first * flat.size)


# -- comments


def _header(module: Module) -> str:
    macs = sum(_macs(op) for op in module.walk())
    parameters = sum(c.type.elements for c in module.consts.values())
    size = sum(c.type.size_bytes for c in module.consts.values())
    arenas = [f"arena {a.name} {a.size:,} bytes" for a in module.arenas.values() if a.size is not None]
    return "// " + ", ".join([f"{macs:,} MACs", f"{parameters:,} parameters", f"{size:,} bytes", *arenas])


def _macs(op: Op) -> int:
    from .loops import runs_of

    try:
        return op.macs() * runs_of(op)
    except (CompileError, ArithmeticError, LookupError, TypeError, ValueError):
        return 0  # a broken module is printed too: that is how one finds out what is wrong with it


def _op_facts(op: Op) -> str:
    macs = _macs(op)
    size = sum(getattr(r.type_, "size_bytes", 0) for r in op.results)
    return ", ".join([*([f"{macs:,} MACs"] if macs else []), *([f"{size:,} bytes"] if size else [])])


def _live_ranges(func: Func) -> dict[Op, str]:
    """`live [first, last]` for each op that takes a place in an arena: numbers of the ops that use it, or a view of it,
    counted from 0 in the function's body."""
    number = {op: index for index, op in enumerate(func.ops)}
    for index, op in enumerate(func.ops):
        for region in op.regions:
            number.update(dict.fromkeys(region.walk(), index))
    slots = [op for op in func.ops if any(isinstance(v, Arena) for v in op.operands) and op.results]
    found = {op: sorted(number[user] for user in _all_users(op) if user in number) for op in slots}
    return {op: f"live [{at[0]}, {at[-1]}]" for op, at in found.items() if at}


def _all_users(op: Op) -> list[Op]:
    """The ops that use its results, or a view of them."""
    from .ops.mem import View

    users: list[Op] = []
    for user in (u for r in op.results for u in r.users):
        users += _all_users(user) if isinstance(user, View) else [user]
    return users
