"""Checks a module whole: SSA, uses, types, levels, terminators, constants. Reports all errors at once.

    error: nn.relu: the result is tensor<1x9xf32>, but its operands and attributes give tensor<1x8xf32>
      --> kws.tir:14:12

Operators check themselves (`infer`, `verify`); this module checks what holds between them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from .diag import UNKNOWN, CompileError, Diagnostic, Location
from .ir import LEVELS, Arena, Block, Const, DataPayload, Func, Module, RandomPayload, Result, SplatPayload, Value
from .literals import convert
from .opdef import Op
from .types import BufferType, TensorType, Type

__all__ = ["MAX_ERRORS", "verify"]

MAX_ERRORS = 20


def verify(module: Module, after: str | None = None) -> None:
    """Raise a CompileError with every error of `module` (at most 20), if there is one.

    `after` names the pass that has just run: its name is put in front of the messages, and the errors count as internal
    ones, since a pass must not make an invalid module out of a valid one.
    """
    found = _Verifier(module).run()
    if not found:
        return
    shown = found[:MAX_ERRORS]
    if len(found) > MAX_ERRORS:
        shown.append(Diagnostic("error", f"and {len(found) - MAX_ERRORS} more errors"))
    if after is not None:
        shown = [dataclasses.replace(d, severity="internal", message=f"after pass {after}: {d.message}") for d in shown]
    raise CompileError(tuple(shown))


class _Verifier:
    def __init__(self, module: Module) -> None:
        self.module = module
        self.found: list[Diagnostic] = []
        self.uses: dict[Value, set[tuple[Op, int]]] = {}

    def run(self) -> list[Diagnostic]:
        if self.module.level not in LEVELS:
            self._report(f"level should be one of {', '.join(LEVELS)}, not {self.module.level}", UNKNOWN)
        self._symbols()
        for func in self.module.funcs.values():
            self._func(func)
        self._use_lists()
        return self.found

    def _report(self, message: str, loc: Location, help: str | None = None) -> None:
        self.found.append(Diagnostic("error", message, loc, help=help))

    # -- symbols

    def _symbols(self) -> None:
        tables: Sequence[tuple[str, Iterable[tuple[str, Value | Func]]]] = (
            ("constant", self.module.consts.items()), ("arena", self.module.arenas.items()),
            ("function", self.module.funcs.items()))
        seen: dict[str, str] = {}
        for what, table in tables:
            for key, item in table:
                if key != item.name:
                    self._report(f"the {what} @{item.name} is registered as @{key}", item.loc)
                if key in seen:
                    self._report(f"@{key} is a {seen[key]} and a {what}", item.loc)
                seen[key] = what
        for const in self.module.consts.values():
            self._type(f"@{const.name}", const.type_, const.loc)
            self._const(const)

    def _const(self, const: Const) -> None:
        if not const.known or isinstance(const.payload, (RandomPayload, SplatPayload)):
            return
        try:
            data = const.data
        except CompileError as problem:
            self.found += [d if not isinstance(const.payload, DataPayload) else dataclasses.replace(d, loc=const.loc)
                           for d in problem.diagnostics]
            return
        if data is not None and (data.shape != const.shape or data.dtype != const.type.dtype.numpy):
            shape = "x".join(map(str, data.shape))
            self._report(f"@{const.name} is {const.type_}, but its data is {shape or 'a scalar'} {data.dtype}",
                         const.loc)

    def _type(self, what: str, type_: Type, loc: Location) -> None:
        """Buffers are for the mem level, tensors for those above."""
        if isinstance(type_, TensorType) and self.module.level == "mem":
            self._report(f"{what} is {type_}, but at mem level values are buffers", loc)
        elif isinstance(type_, BufferType) and self.module.level != "mem":
            self._report(f"{what} is {type_}, but buffers belong to mem level, not {self.module.level}", loc)
        if isinstance(type_, (TensorType, BufferType)):
            self._quant(what, type_, loc)

    def _quant(self, what: str, type_: TensorType | BufferType, loc: Location) -> None:
        quant = type_.quant
        if quant is None:
            return
        if not all(np.isfinite(s) and s > 0 for s in quant.scales):
            self._report(f"{what}: a scale should be a number above 0", loc)
        if quant.axis is None:
            return
        extent = type_.shape[quant.axis] if 0 <= quant.axis < type_.rank else 0
        if len(quant.scales) != extent or len(quant.zero_points) != extent:
            self._report(f"{what} has {len(quant.scales)} scales and {len(quant.zero_points)} zero points for "
                         f"{extent} entries of axis {quant.axis}", loc)

    # -- functions

    def _func(self, func: Func) -> None:
        if not 0 <= func.outputs <= len(func.args):
            self._report(f"@{func.name} has {len(func.args)} parameters, {func.outputs} of them outputs", func.loc)
        names = [arg.name for arg in func.args]
        for name in sorted({n for n in names if names.count(n) > 1}):
            self._report(f"@{func.name} has two parameters called %{name}", func.loc)
        if func.result_names and len(func.result_names) != len(func.results):
            self._report(f"@{func.name} has {len(func.result_names)} result names for {len(func.results)} results",
                         func.loc)
        if not func.ops:
            self._report(f"@{func.name} is empty, expected at least a return", func.loc)
        if func.block.parent is not func:
            self._report(f"the body of @{func.name} belongs to something else", func.loc)
        self._block(func.block, set())

    def _block(self, block: Block, outer: set[Value]) -> None:
        visible = outer | set(block.args)
        for arg in block.args:
            self._type(f"%{arg.name}", arg.type_, arg.loc)
        for index, op in enumerate(block.ops):
            self._op(op, visible)
            if op.block is not block:
                self._report(f"{op.opname} stands in a block that it does not know of", op.loc)
            if op.terminator and index + 1 < len(block.ops):
                self._report(f"{op.opname} ends the block, but {block.ops[index + 1].opname} follows it", op.loc)
            visible.update(op.results)
        if block.ops and not block.ops[-1].terminator:
            self._report(f"the block ends with {block.ops[-1].opname}, expected a terminator such as nn.return",
                         block.ops[-1].loc)

    # -- ops

    def _op(self, op: Op, visible: set[Value]) -> None:
        if self.module.level not in op.levels:
            levels = " or ".join(op.levels) or "no"
            self._report(f"{op.opname} belongs to {levels} level, the module is at {self.module.level}", op.loc)
        operands_good = [self._operand(op, index, value, visible) for index, value in enumerate(op.operands)]
        attrs_good = self._attrs(op)
        for result in op.results:
            self._type(f"%{result.name}", result.type_, op.loc)
        if all(operands_good) and attrs_good:
            self._ask(op, lambda: self._compare(op, op.infer()))
            self._ask(op, op.verify)
        for region in op.regions:
            if region.parent is not op:
                self._report(f"a region of {op.opname} belongs to something else", op.loc)
            self._block(region, visible)

    def _ask(self, op: Op, check: Callable[[], None]) -> None:
        """Let the op check itself. It says what is wrong with a CompileError; anything else is a bug in the op."""
        try:
            check()
        except CompileError as problem:
            self.found += problem.diagnostics
        except Exception as problem:
            message = f"{op.opname} cannot be checked: {type(problem).__name__}: {problem}"
            self.found.append(Diagnostic("internal", message, op.loc))

    def _operand(self, op: Op, index: int, value: Value | None, visible: set[Value]) -> bool:
        if value is None:
            return True
        self.uses.setdefault(value, set()).add((op, index))
        if isinstance(value, Const):
            good = self.module.consts.get(value.name) is value
            text = f"the constant @{value.name}, which is not in the module"
        elif isinstance(value, Arena):
            good = self.module.arenas.get(value.name) is value
            text = f"the arena @{value.name}, which is not in the module"
        else:
            good, text = value in visible, f"%{value.name}, {_whereabouts(value)}"
        if not good:
            self._report(f"{op.opname} uses {text}", op.loc)
        return good

    def _attrs(self, op: Op) -> bool:
        good = True
        for field in op.schema.attrs:
            try:
                convert(field.annotation, getattr(op, field.name))
            except ValueError as problem:
                self._report(f"{op.opname}: {field.name} {problem}", op.loc)
                good = False
        return good

    def _compare(self, op: Op, inferred: Type | tuple[Type, ...]) -> None:
        types = inferred if isinstance(inferred, tuple) else (inferred,)
        declared = tuple(r.type_ for r in op.results)
        if len(types) != len(declared):
            self._report(f"{op.opname} has {len(types)} results, declared are {len(declared)}", op.loc)
        elif types != declared:
            self._report(f"{op.opname}: the result is {_list(declared)}, "
                         f"but its operands and attributes give {_list(types)}", op.loc)

    # -- uses

    def _use_lists(self) -> None:
        """Every operand is in the use list of its value, and nothing else is."""
        values: dict[Value, None] = dict.fromkeys(self.uses)
        values.update(dict.fromkeys([*self.module.consts.values(), *self.module.arenas.values()]))
        for op in self.module.walk():
            values.update(dict.fromkeys(op.results))
        for value in values:
            listed = [(use.op, use.index) for use in value.uses]
            if set(listed) != self.uses.get(value, set()) or len(listed) != len(set(listed)):
                strays = [op.opname for op, _ in listed if op.block is None]
                help = f"{strays[0]} is in no block but still uses it" if strays else None
                self._report(f"the use list of %{value.name} is wrong: {len(listed)} entries, "
                             f"{len(self.uses.get(value, ()))} uses", value.loc, help)


def _whereabouts(value: Value) -> str:
    if not isinstance(value, Result):
        return "which belongs to another function or region"
    if value.op.block is None:
        return f"the result of a {value.op.opname} that is in no block"
    return f"which {value.op.opname} computes later or in another block"


def _list(types: Sequence[Type]) -> str:
    return str(types[0]) if len(types) == 1 else f"({', '.join(map(str, types))})"
