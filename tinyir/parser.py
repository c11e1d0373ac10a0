"""Text to module: looks up what `syntax.py` read, and makes values, ops and functions of it.

    module = parse(Path("kws.tir").read_text(), "kws.tir")

Result types are taken as they are declared; `verify` compares them with what the ops infer. Every op gets the location
that is written behind it, or else its place in the text. All errors that can be told apart are reported together.
"""

from __future__ import annotations

import linecache
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .diag import CompileError, Diagnostic, Location, TextLoc, did_you_mean, error
from .ir import LEVELS, Arena, Argument, Array, Block, Const, DataPayload, Func, Module, Payload, SplatPayload, Value
from .literals import convert, literal_text
from .opdef import MISSING, Op, OperandField
from .registry import OPS, load_plugins
from .types import BufferType, DType, IndexType, TensorType, Type

if TYPE_CHECKING:
    from .syntax import ArenaNode, ArgNode, AttrNode, ConstNode, FuncNode, ModuleNode, OpNode, RegionNode, Token

__all__ = ["MAX_ERRORS", "parse", "parse_file", "run_line"]

MAX_ERRORS = 20
_MAX_DEPTH = 50
_MAX_BYTES = 1 << 32


def parse(text: str, file: str = "<text>") -> Module:
    """The module that `text` describes. `file` names it in messages, and `data<...>` is looked for in its folder.

    Raises CompileError for anything that is wrong with the text: syntax, unknown names, operands, attributes.
    """
    from .syntax import TextError, read_syntax

    lines = text.split("\n")
    linecache.cache[file] = (len(text), None, [line + "\n" for line in lines], file)  # for the excerpts in messages
    builder = _Builder(file)
    try:
        node = read_syntax(text)
        builder.build(node)
    except TextError as problem:
        builder.report(problem)
    if builder.errors:
        raise CompileError(tuple(builder.errors[:MAX_ERRORS]))
    return builder.module


def parse_file(path: str | os.PathLike[str]) -> Module:
    """The module in the file `path`. Raises CompileError, also when the file cannot be read."""
    file = os.fspath(path)
    try:
        text = Path(file).read_bytes().decode("utf-8")
    except OSError as problem:
        raise error(f"cannot read {file}: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise error(f"{file} is not text: byte {problem.start} is not UTF-8") from None
    return parse(text, file)


def run_line(text: str) -> str | None:
    """The pipeline in a first line `// RUN: pipeline`, as tests and saved reproducers have it, or None."""
    match = re.match(r"//\s*RUN:[ \t]*([^\r\n]*)", text)
    return match[1].strip() if match else None


class _Builder:
    def __init__(self, file: str) -> None:
        from .syntax import TextError

        self.file = file
        self.module = Module("module")
        self.errors: list[Diagnostic] = []
        self._symbols: dict[str, Value] = {}
        self._scopes: list[dict[str, Value]] = []
        self._error = TextError

    # -- errors

    def report(self, problem: Any) -> None:
        """Keep a TextError to be raised with the others."""
        place = TextLoc(file=self.file, line=problem.line, column=problem.column)
        self.errors.append(Diagnostic("error", problem.message, place, help=problem.help))

    def _place(self, token: Token) -> TextLoc:
        return TextLoc(file=self.file, line=token.line or 1, column=token.column or 1)

    # -- module

    def build(self, node: ModuleNode) -> None:
        from .syntax import ArenaNode, ConstNode, FuncNode, symbol_name

        self.module.name = symbol_name(node.name)
        self._module_attrs(node.attrs)
        for item in node.items:
            try:
                self._new_symbol(item.name)
                if isinstance(item, ConstNode):
                    self._const(item)
                elif isinstance(item, ArenaNode):
                    self._arena(item)
            except self._error as problem:
                self.report(problem)
        for item in node.items:
            if isinstance(item, FuncNode):
                self._func(item)

    def _module_attrs(self, attrs: Sequence[AttrNode]) -> None:
        values = self._unique(attrs)
        level = values.pop("level", "graph")
        if level not in LEVELS:
            token = next(a.name for a in attrs if a.name == "level")
            raise self._error.at(token, f"level should be one of {', '.join(LEVELS)}, not {literal_text(level)}")
        self.module.level = level
        self.module.attrs = values

    def _unique(self, attrs: Sequence[AttrNode]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, value in attrs:
            if name in values:
                raise self._error.at(name, f"{name} is given twice")
            values[str(name)] = value
        return values

    def _fields(self, what: str, attrs: Sequence[AttrNode], known: dict[str, Any]) -> dict[str, Any]:
        """The attributes of an arena or a function, each converted to the annotation that `known` has for it."""
        values = self._unique(attrs)
        for name, value in attrs:
            if name not in known:
                raise self._error.at(name, f"{what} has no attribute {str(name)!r}", did_you_mean(name, known))
            values[name] = self._converted(name, what, known[name], value)
        return values

    def _converted(self, name: Token, what: str, annotation: Any, value: Any) -> Any:
        try:
            return convert(annotation, value)
        except ValueError as problem:
            raise self._error.at(name, f"{what}: {name} {problem}") from None

    def _new_symbol(self, token: Token) -> None:
        from .syntax import symbol_name

        name = symbol_name(token)
        if name in self._symbols:
            raise self._error.at(token, f"{token} is defined twice")
        self._symbols[name] = Value(IndexType())

    # -- constants and arenas

    def _const(self, node: ConstNode) -> None:
        from .syntax import symbol_name

        name, type_ = symbol_name(node.name), node.type
        if not isinstance(type_, (TensorType, BufferType)):
            raise self._error.at(node.name, f"{node.name}: a constant is a tensor or a buffer, not {type_}")
        if type_.size_bytes > _MAX_BYTES:
            raise self._error.at(node.name, f"{node.name} is too large: {type_.size_bytes:,} bytes")
        data, payload = self._payload(node, type_)
        const = Const(name, type_, data, payload, node.loc or self._place(node.name))
        self._symbols[name] = self.module.consts[name] = const

    def _payload(self, node: ConstNode, type_: TensorType | BufferType) -> tuple[Array | None, Payload | None]:
        """Elements that are written out, or where they come from; neither for `elided`."""
        from .syntax import DataRef, Dense, Splat

        written = node.payload
        if isinstance(written, Dense):
            return self._dense(node.name, type_, written.values), None
        if isinstance(written, Splat):
            return None, SplatPayload(self._element(node.name, type_.dtype, written.value))
        if isinstance(written, DataRef):
            return None, DataPayload(written.file, written.key, os.path.dirname(self.file))
        return None, written

    def _dense(self, token: Token, type_: TensorType | BufferType, values: Any) -> Array:
        items = values if isinstance(values, tuple) else (values,)
        if len(items) != type_.elements:
            raise self._error.at(token, f"{token} needs {type_.elements} elements for {type_}, found {len(items)}")
        elements = [self._element(token, type_.dtype, item) for item in items]
        return np.array(elements, type_.dtype.numpy).reshape(type_.shape)

    def _element(self, token: Token, dtype: DType, value: Any) -> Any:
        kind: type[Any] = bool if dtype.name == "bool" else float if dtype.is_float else int
        element = self._converted(token, "constant", kind, value) if not isinstance(value, tuple) else None
        if element is None:
            raise self._error.at(token, f"{token}: elements are written as one flat list")
        if kind is int and not dtype.range[0] <= element <= dtype.range[1]:
            raise self._error.at(token, f"{token}: {element} is out of the range of {dtype}")
        return element

    def _arena(self, node: ArenaNode) -> None:
        from .syntax import symbol_name

        name = symbol_name(node.name)
        given = self._fields("an arena", node.attrs, {"size": int, "align": int})
        arena = Arena(name, given.get("size"), given.get("align", 16), node.loc or self._place(node.name))
        self._symbols[name] = self.module.arenas[name] = arena

    # -- functions

    def _func(self, node: FuncNode) -> None:
        from .syntax import symbol_name

        self._scopes = [{}]
        try:
            given = self._fields("a function", node.attrs, {"outputs": int, "results": tuple[str, ...],
                                                            "arguments": tuple[str, ...]})
            block = self._block(node.args, node.body.ops)
            func = Func(symbol_name(node.name), block, given.get("outputs", 0), given.get("results", ()),
                        node.loc or self._place(node.name))
            self._check_func(node, func, given)
            for arg, name in zip(block.args, given.get("arguments", ()), strict=False):
                arg.name = name
            self.module.funcs[func.name] = func
        except self._error as problem:
            self.report(problem)

    def _check_func(self, node: FuncNode, func: Func, given: dict[str, Any]) -> None:
        names = given.get("arguments", ())
        if names and len(names) != len(func.args):
            raise self._error.at(node.name, f"{node.name} has {len(func.args)} parameters, "
                                            f"but arguments = [...] names {len(names)}")
        if not 0 <= func.outputs <= len(func.args):
            raise self._error.at(node.name, f"{node.name} has {len(func.args)} parameters, "
                                            f"but outputs = {func.outputs}")
        if self.errors or node.results is None or not func.ops or not func.ops[-1].terminator:
            return
        actual = [v.type_ for v in func.results] if not func.outputs else []
        if actual != node.results:
            raise self._error.at(node.name, f"{node.name} returns {_type_list(actual)}, "
                                            f"but is declared to return {_type_list(node.results)}")

    def _block(self, args: Sequence[ArgNode], ops: Sequence[OpNode]) -> Block:
        block = Block([Argument(a.type, a.name[1:], a.loc or self._place(a.name)) for a in args])
        for node, arg in zip(args, block.args, strict=True):
            self._define(node.name, arg)
        for op_node in ops:
            try:
                block.append(self._op(op_node))
            except self._error as problem:
                self.report(problem)
                self._define_placeholders(op_node)
        return block

    def _region(self, node: RegionNode, op_name: Token) -> Block:
        if len(self._scopes) > _MAX_DEPTH:
            raise self._error.at(op_name, f"regions are nested more than {_MAX_DEPTH} deep")
        self._scopes.append({})
        block = self._block(node.args, node.ops)
        self._scopes.pop()
        return block

    # -- values

    def _define(self, token: Token, value: Value) -> None:
        if any(token in scope for scope in self._scopes):
            raise self._error.at(token, f"{token} is defined twice")
        self._scopes[-1][str(token)] = value

    def _define_placeholders(self, node: OpNode) -> None:
        """Let the rest of the text refer to the results of an op that could not be made, so that it is checked too."""
        for index, token in enumerate(node.results):
            type_ = node.types[index] if index < len(node.types) else IndexType()
            self._scopes[-1].setdefault(str(token), Value(type_))

    def _operand(self, token: Token) -> Value | None:
        from .syntax import symbol_name

        if token.type == "NONE":
            return None
        if token.type == "SYMBOL":
            name = symbol_name(token)
            if name not in self._symbols:
                raise self._error.at(token, f"there is no symbol {token}", did_you_mean(name, self._symbols))
            return self._symbols[name]
        for scope in reversed(self._scopes):
            if token in scope:
                return scope[token]
        known = [name for scope in self._scopes for name in scope]
        raise self._error.at(token, f"{token} is not defined here", did_you_mean(token, known))

    # -- ops

    def _op(self, node: OpNode) -> Op:
        kind = self._kind(node.name)
        groups = self._groups(node, kind)
        attrs = self._attrs(node, kind)
        regions = [self._region(region, node.name) for region in node.regions]
        loc: Location = node.loc or self._place(node.name)
        self._check_results(node, kind, groups, attrs)
        op = kind.build(groups, attrs, node.types, regions, loc)
        for token, result in zip(node.results, op.results, strict=True):
            result.name = token[1:]
            self._define(token, result)
        return op

    def _kind(self, token: Token) -> type[Op]:
        import importlib

        for load in (lambda: None, lambda: importlib.import_module("tinyir.ops"), load_plugins):
            load()
            kind = OPS.find(token)
            if kind is not None:
                return kind
        raise self._error.at(token, f"there is no op called {str(token)!r}",
                             did_you_mean(token, [name for name, _ in OPS.items()]))

    def _groups(self, node: OpNode, kind: type[Op]) -> list[list[Value | None]]:
        fields = kind.schema.operands
        read = self._distribute(node, [f for f in fields if not f.written], node.operands, "reads")
        written = self._distribute(node, [f for f in fields if f.written], node.written, "writes")
        return [(written if f.written else read).pop(0) for f in fields]

    def _distribute(self, node: OpNode, fields: list[OperandField], tokens: list[Token], verb: str) \
            -> list[list[Value | None]]:
        """The values of `tokens`, one list a field; absent operands at the end may be left out."""
        single = [f for f in fields if not f.variadic]
        least = sum(not f.optional for f in single)
        if len(tokens) < least or (len(tokens) > len(single) and len(single) == len(fields)):
            names = ", ".join(f.name + ("..." if f.variadic else "?" if f.optional else "") for f in fields)
            raise self._error.at(node.name, f"{node.name} {verb} {names or 'nothing'}; found {len(tokens)} operands")
        values = [self._operand(t) for t in tokens]
        values += [None] * (len(single) - len(values))
        groups = [values[i:] if f.variadic else [values[i]] for i, f in enumerate(fields)]
        for field, group in zip(fields, groups, strict=True):
            if None in group and not field.optional:
                raise self._error.at(node.name, f"{node.name}: {field.name} may not be none")
        return groups

    def _attrs(self, node: OpNode, kind: type[Op]) -> dict[str, Any]:
        values = self._unique(node.attrs)
        for name, value in node.attrs:
            field = kind.schema.attr(name)
            if field is None:
                known = [a.name for a in kind.schema.attrs]
                hint = did_you_mean(name, known) if known else f"{node.name} has no attributes"
                raise self._error.at(name, f"{node.name} has no attribute {str(name)!r}", hint)
            values[name] = self._converted(name, str(node.name), field.annotation, value)
        for field in kind.schema.attrs:
            if field.default is MISSING and field.name not in values:
                raise self._error.at(node.name, f"{node.name} needs the attribute {field.name!r}")
        return values

    def _check_results(self, node: OpNode, kind: type[Op], groups: list[list[Value | None]],
                       attrs: dict[str, Any]) -> None:
        if len(node.results) == len(node.types):
            return
        help = None
        if not node.types and kind.schema.result_field is None and not node.regions:
            help = _inferred(kind, groups, attrs)
        raise self._error.at(node.name, f"{node.name} has {len(node.results)} names for its results, "
                                        f"but {len(node.types)} result types", help)


def _inferred(kind: type[Op], groups: list[list[Value | None]], attrs: dict[str, Any]) -> str | None:
    """A hint that spells out the missing result type."""
    try:
        types = kind.build(groups, attrs, ()).infer()
    except CompileError:
        return None
    return f"write `: {_type_list(types if isinstance(types, tuple) else (types,))}` behind it"


def _type_list(types: Sequence[Type]) -> str:
    return str(types[0]) if len(types) == 1 else f"({', '.join(map(str, types))})"
