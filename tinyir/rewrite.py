"""The only ways to change a module: `Builder` adds ops, `Rewriter` also replaces and removes them.

The rewriter keeps uses, names and locations right: an op that replaces another takes over its result names, and its
location is the fusion of all the ops that disappear with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from .diag import UNKNOWN, CompileError, Diagnostic, Location, fuse
from .ir import Array, Block, Const, Module, Value
from .opdef import Op
from .types import BufferType, TensorType

if TYPE_CHECKING:
    from .pass_manager import Context

__all__ = ["Builder", "Rewriter", "rewrites"]

OpT = TypeVar("OpT", bound=Op)
Method = TypeVar("Method", bound=Callable[..., None])


def rewrites(*kinds: type[Op]) -> Callable[[Method], Method]:
    """Mark a method of a pass as the rewrite to try on every op of these classes (exactly these: ops are final)."""

    def mark(method: Method) -> Method:
        method.__dict__["rewrites"] = kinds
        return method

    return mark


class Builder:
    """Appends ops to a block."""

    def __init__(self, module: Module, block: Block, loc: Location = UNKNOWN) -> None:
        self.module = module
        self.block = block
        self.loc = loc

    def add(self, op: OpT, *, name: str | None = None, loc: Location | None = None) -> OpT:
        """Append `op`; `name` names its first result."""
        op.loc = loc or self.loc
        if name is not None and op.results:
            op.results[0].name = name
        self.block.append(op)
        self.module.version += 1
        return op

    def const(self, name: str, data: Array, type_: TensorType | BufferType | None = None) -> Const:
        """A new constant of the module."""
        return self.module.add_const(name, data, self.loc, type_)


class Rewriter:
    """Changes ops in place on behalf of one pass; knows whether anything changed and what to look at again."""

    def __init__(self, module: Module, ctx: Context, by: str) -> None:
        self.module = module
        self.ctx = ctx
        self.by = by
        self.changed = False
        self.touched: list[Op] = []

    def _mark(self, ops: Iterable[Op] = ()) -> None:
        self.changed = True
        self.module.version += 1
        self.touched.extend(ops)

    def const(self, data: Array, name: str = "c", loc: Location = UNKNOWN,
              type_: TensorType | BufferType | None = None) -> Const:
        """A new constant of the module; make its name tell where it comes from (`conv1.weight`)."""
        return self.module.add_const(name, data, loc, type_)

    def insert_before(self, anchor: Op, op: OpT, *, name: str | None = None) -> OpT:
        """Put `op` in front of `anchor`, with the anchor's location unless it has one."""
        return self._insert(anchor, op, 0, name)

    def insert_after(self, anchor: Op, op: OpT, *, name: str | None = None) -> OpT:
        """Put `op` behind `anchor`, with the anchor's location unless it has one."""
        return self._insert(anchor, op, 1, name)

    def _insert(self, anchor: Op, op: OpT, offset: int, name: str | None) -> OpT:
        if op.loc is UNKNOWN:
            op.loc = anchor.loc
        if op.results:
            op.results[0].name = name or (anchor.results[0].name if anchor.results else op.results[0].name)
        block = _block_of(anchor)
        block.insert(block.ops.index(anchor) + offset, op)
        self._mark([op])
        return op

    def replace(self, old: Op, new: Op | Value | tuple[Value, ...]) -> None:
        """Let `new` take the place of `old`: an op not yet in a block, a value, or one value for each result.

        A new op is inserted where the old one stood and takes over its names. The old op goes, and with it the ops that
        only it used; the locations of all of them end up in the new op.
        """
        if isinstance(new, Op):
            self._adopt(old, new)
            values: tuple[Value, ...] = tuple(new.results)
        else:
            values = new if isinstance(new, tuple) else (new,)
        if len(values) != len(old.results):
            raise ValueError(f"{old.opname} has {len(old.results)} results, the replacement {len(values)}")
        for result, value in zip(old.results, values, strict=True):
            self.replace_uses(result, value)
        removed = self._erase_tree(old)
        if isinstance(new, Op):
            new.loc = fuse(self.by, [op.loc for op in reversed(removed)])

    def _adopt(self, old: Op, new: Op) -> None:
        if new.block is None:
            block = _block_of(old)
            block.insert(block.ops.index(old), new)
        for mine, theirs in zip(new.results, old.results, strict=False):
            mine.name = theirs.name
        self._mark([new])

    def replace_uses(self, old: Value, new: Value) -> None:
        """Let every op that uses `old` use `new` instead."""
        users = old.users
        for use in list(old.uses):
            use.op.replace_operand(use.index, new)
        if new.op is not None:
            users = [*users, new.op]
        self._mark(users)

    def set_operand(self, op: Op, index: int, value: Value | None) -> None:
        """Let operand number `index` of `op` be `value`."""
        op.replace_operand(index, value)
        self._mark([op])

    def erase(self, op: Op) -> None:
        """Remove `op`, whose results nobody may use any more, and the ops that only it used."""
        self._erase_tree(op)

    def _erase_tree(self, op: Op) -> list[Op]:
        if any(r.uses for r in op.results):
            raise ValueError(f"{op!r} still has uses")
        inner = {o: None for region in op.regions for o in region.walk()}
        producers = [v.op for o in (op, *inner) for v in o.operands if v is not None and v.op is not None]
        producers = [p for p in producers if p not in inner]
        for gone in (op, *inner):
            gone._unlink()
        block = _block_of(op)
        block.ops.remove(op)
        op.block = None
        removed = [op]
        for producer in dict.fromkeys(producers):
            if producer.block is not None and producer.pure and not any(r.uses for r in producer.results):
                removed += self._erase_tree(producer)
        self._mark([p for p in producers if p.block is not None])
        return removed

    def set_attr(self, op: Op, **attrs: Any) -> None:
        """Change attributes of `op` that its result types do not depend on."""
        for name, value in attrs.items():
            if op.schema.attr(name) is None:
                raise AttributeError(f"{op.opname} has no attribute {name!r}")
            op.__dict__[name] = value
        self._mark([op])

    def remark(self, op: Op, message: str) -> None:
        """Tell the user (with --remarks) what was or was not done at `op`, and why."""
        self.ctx.remark(f"{self.by}: {message}", op.loc)


def _block_of(op: Op) -> Block:
    if op.block is None:
        raise ValueError(f"{op!r} is not in a block")
    return op.block


def run_rewrites(module: Module, ctx: Context, by: str, table: dict[type[Op], list[Callable[[Op, Rewriter], None]]]) \
        -> bool:
    """Try the rewrites of `table` on every op, and again on what they touch, until nothing changes."""
    rewriter = Rewriter(module, ctx, by)
    work = list(dict.fromkeys(module.walk()))
    budget = 200 * (len(work) + 10)
    while work:
        pending, work = work, []
        for op in pending:
            for rewrite in table.get(type(op), ()):
                if op.block is None:
                    break
                rewrite(op, rewriter)
            budget -= 1
            if budget < 0:
                message = f"{by} does not come to an end: two rewrites undo each other"
                raise CompileError((Diagnostic("internal", message, op.loc),))
        work = [op for op in dict.fromkeys(rewriter.touched) if op.block is not None]
        work += [user for op in work for r in op.results for user in r.users]
        work = list(dict.fromkeys(work))
        rewriter.touched.clear()
    return rewriter.changed
