"""Copies of modules, to try something out or to keep what was before.

    copy, same = clone_module(module)             same[value of module] is the value of copy that stands for it
    copy, same = clone_ops(ops, func, module)     some ops of a function alone
"""

from __future__ import annotations

from collections.abc import Sequence

from .ir import Arena, Argument, Block, Const, Func, Module, Value
from .opdef import Op

__all__ = ["clone_module", "clone_ops", "stand_in"]


def clone_module(module: Module) -> tuple[Module, dict[Value, Value]]:
    """A module that shares nothing with `module` but the elements of its constants, and what became of each value."""
    copy = Module(module.name, module.level, dict(module.attrs))
    same: dict[Value, Value] = {}
    for name, const in module.consts.items():
        same[const] = copy.consts[name] = _clone_const(const)
    for name, arena in module.arenas.items():
        same[arena] = copy.arenas[name] = Arena(name, arena.size, arena.align, arena.loc)
    for name, func in module.funcs.items():
        block = _clone_block(func.block, same)
        copy.funcs[name] = Func(func.name, block, func.outputs, func.result_names, func.loc)
    return copy, same


def clone_ops(ops: Sequence[Op], func: Func, module: Module) -> tuple[Module, dict[Value, Value]]:
    """A module with nothing but these ops, which have no regions, in a function of the same name without a terminator.
    What other ops compute are values there that nothing computes.
    """
    copy, block = Module(module.name, module.level, dict(module.attrs)), Block()
    same: dict[Value, Value] = {}
    for op in ops:
        for value in op.operands:
            if isinstance(value, Const) and value not in same:
                same[value] = copy.consts[value.name] = _clone_const(value)
            elif value is not None and value not in same:
                same[value] = stand_in(value)
        block.append(_clone_op(op, same))
    copy.funcs[func.name] = Func(func.name, block, loc=func.loc)
    return copy, same


def stand_in(value: Value) -> Value:
    """A value that nothing computes, in place of one that is computed elsewhere; an argument for an argument."""
    return (Argument if isinstance(value, Argument) else Value)(value.type_, value.name, value.loc)


def _clone_const(const: Const) -> Const:
    data = const.data if const.payload is None else None
    made = Const(const.name, const.type, data, const.payload, const.loc)
    made.stem = const.stem
    return made


def _clone_block(block: Block, same: dict[Value, Value]) -> Block:
    arguments = [Argument(a.type_, a.name, a.loc) for a in block.args]
    same.update(zip(block.args, arguments, strict=True))
    copy = Block(arguments)
    for op in block.ops:
        copy.append(_clone_op(op, same))
    return copy


def _clone_op(op: Op, same: dict[Value, Value]) -> Op:
    made = op.clone(same)
    made.regions = [_clone_block(region, same) for region in op.regions]
    for region in made.regions:
        region.parent = made
    for old, new in zip(op.results, made.results, strict=True):
        new.name, new.loc = old.name, old.loc
        same[old] = new
    return made
