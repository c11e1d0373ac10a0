"""Whether two modules are the same program, and if not, where they first differ.

Names of values inside functions are hints and do not count; names of constants, functions, parameters and results do,
and so do locations, attributes, types and the elements of constants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from .ir import Arena, Block, Const, Func, Module, Value
from .literals import literal_text
from .opdef import Op
from .printer import location_text

__all__ = ["structural_difference", "structurally_equal"]


def structurally_equal(a: Module, b: Module, *, locations: bool = True) -> bool:
    """Whether `a` and `b` are the same program; see `structural_difference`."""
    return structural_difference(a, b, locations=locations) is None


def structural_difference(a: Module, b: Module, *, locations: bool = True) -> str | None:
    """The first difference in one line, or None. A constant's data is loaded if it has to be compared."""
    return next(_Comparison(locations).modules(a, b), None)


class _Comparison:
    def __init__(self, locations: bool) -> None:
        self.locations = locations
        self.same: dict[Value, Value] = {}

    def _facts(self, what: str, a: Any, b: Any) -> Iterator[str]:
        if a != b:
            yield f"{what}: {a} and {b}"

    def _loc(self, what: str, a: Any, b: Any) -> Iterator[str]:
        if self.locations:
            yield from self._facts(f"{what}: location", location_text(a.loc), location_text(b.loc))

    def modules(self, a: Module, b: Module) -> Iterator[str]:
        yield from self._facts("module name", a.name, b.name)
        yield from self._facts("level", a.level, b.level)
        yield from self._facts("module attributes", _attr_texts(a.attrs), _attr_texts(b.attrs))
        for what in ("consts", "arenas", "funcs"):
            yield from self._facts(what, list(getattr(a, what)), list(getattr(b, what)))
        for name, const in a.consts.items():
            yield from self._consts(const, b.consts[name])
        for name, arena in a.arenas.items():
            yield from self._arenas(arena, b.arenas[name])
        for name, func in a.funcs.items():
            yield from self._funcs(func, b.funcs[name])

    def _consts(self, a: Const, b: Const) -> Iterator[str]:
        self.same[a] = b
        yield from self._facts(f"@{a.name}: type", a.type_, b.type_)
        yield from self._loc(f"@{a.name}", a, b)
        yield from self._facts(f"@{a.name}: has data", a.known, b.known)
        if a.known and (a.payload is None or a.payload != b.payload) and not _same_data(a, b):
            yield f"@{a.name}: the elements differ"

    def _arenas(self, a: Arena, b: Arena) -> Iterator[str]:
        self.same[a] = b
        yield from self._facts(f"@{a.name}: size and alignment", (a.size, a.align), (b.size, b.align))
        yield from self._loc(f"@{a.name}", a, b)

    def _funcs(self, a: Func, b: Func) -> Iterator[str]:
        what = f"@{a.name}"
        yield from self._facts(f"{what}: outputs", a.outputs, b.outputs)
        yield from self._facts(f"{what}: result names", a.result_names, b.result_names)
        yield from self._facts(f"{what}: parameter names", [v.name for v in a.args], [v.name for v in b.args])
        yield from self._loc(what, a, b)
        yield from self._blocks(what, a.block, b.block)

    def _blocks(self, what: str, a: Block, b: Block) -> Iterator[str]:
        yield from self._facts(f"{what}: parameters", [str(v.type_) for v in a.args], [str(v.type_) for v in b.args])
        self.same.update(zip(a.args, b.args, strict=False))
        for left, right in zip(a.args, b.args, strict=False):
            yield from self._loc(f"{what}: %{left.name}", left, right)
        for number, (mine, theirs) in enumerate(zip_longest(a.ops, b.ops)):
            if mine is None or theirs is None:
                yield f"{what}: {len(a.ops)} and {len(b.ops)} ops"
                return
            yield from self._ops(f"{what} op {number}", mine, theirs)

    def _ops(self, what: str, a: Op, b: Op) -> Iterator[str]:
        yield from self._facts(what, a.opname, b.opname)
        what = f"{what} ({a.opname})"
        yield from self._facts(f"{what}: operands", [len(g) for g in a.operand_groups],
                               [len(g) for g in b.operand_groups])
        for index, (mine, theirs) in enumerate(zip(a.operands, b.operands, strict=False)):
            matches = theirs is None if mine is None else mine in self.same and self.same[mine] is theirs
            if not matches:
                yield f"{what}: operand {index} is {mine!r} and {theirs!r}"
        yield from self._facts(f"{what}: attributes", _attr_texts(a.attrs), _attr_texts(b.attrs))
        yield from self._facts(f"{what}: result types", _type_texts(a.results), _type_texts(b.results))
        yield from self._loc(what, a, b)
        yield from self._facts(f"{what}: regions", len(a.regions), len(b.regions))
        self.same.update(zip(a.results, b.results, strict=False))
        for mine_region, their_region in zip(a.regions, b.regions, strict=False):
            yield from self._blocks(what, mine_region, their_region)


def _attr_texts(attrs: dict[str, Any]) -> dict[str, str]:
    return {name: literal_text(value) for name, value in attrs.items()}


def _type_texts(values: Sequence[Value]) -> list[str]:
    return [str(v.type_) for v in values]


def _same_data(a: Const, b: Const) -> bool:
    mine, theirs = a.data, b.data
    if mine is None or theirs is None:
        return mine is theirs
    return mine.dtype == theirs.dtype and mine.shape == theirs.shape and mine.tobytes() == theirs.tobytes()
