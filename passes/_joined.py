"""Parts of a result that are computed where they are joined: no memory of their own, no copy.

    %a4 = nn.reshape(%a) : tensor<1x3600x4xf32>
    %b4 = nn.reshape(%b) : tensor<1x600x4xf32>
    %boxes = nn.concat(%a4, %b4) {axis = 1} : tensor<1x4200x4xf32>      %boxes is returned: %a is computed in the first
    nn.return(%boxes)                                                   14,400 elements of it, %b behind that

Likewise what an op that works in place turns into a result: it is computed where the result is wanted.

    %all = nn.concat(%a2, %b2) {axis = 1} : tensor<1x4200x2xf32>        the exponentials are taken in %scores, and %all,
    %scores = nn.softmax(%all) : tensor<1x4200x2xf32>                   that is %a and %b, is computed there too
    nn.return(%boxes, %scores)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tinyir.ir import Argument, Const, Value
from tinyir.opdef import Op
from tinyir.ops import Concat, Insert, Reinterpret, Reshape, Yield

from ._streamable import can_stream

__all__ = ["Joined", "joined_parts", "overwritten", "root_of"]

_SAME_BYTES = (Reinterpret, Reshape)


@dataclass(frozen=True)
class Joined:
    """The bytes of a value are those of the result of `concat` from element `begin` on, seen as `piece` there."""

    concat: Concat
    piece: Value
    begin: tuple[int, ...]


def root_of(value: Value, roots: Mapping[Value, Value]) -> Value:
    """The value whose bytes those of `value` are."""
    while value in roots:
        value = roots[value]
    return value


def overwritten(ops: Sequence[Op], results: Sequence[Value], roots: Mapping[Value, Value]) -> list[Value]:
    """The values that ops on whole tensors turn into results in place, and that nobody else reads, whatever the order
    of execution; last first. `roots` says whose bytes the bytes of a value are.
    """
    return _overwritten(ops, results, _Readers(ops, roots))


def _overwritten(ops: Sequence[Op], results: Sequence[Value], readers: _Readers) -> list[Value]:
    roots = readers.roots
    owned = {root_of(value, roots) for value in results}
    found: list[Value] = []
    for op in reversed(ops):
        if len(op.results) != 1 or root_of(op.out, roots) not in owned or isinstance(op, _SAME_BYTES) or can_stream(op):
            continue
        operands = [root_of(value, roots) for index in op.reuses() if (value := op.operands[index]) is not None]
        taken = next((value for value in operands if value not in owned and _same_layout(value, op.out)
                      and readers.are_only(op, value)), None)
        if taken is not None:
            owned.add(taken)
            found.append(taken)
    return found


@dataclass(frozen=True)
class _Readers:
    """Who reads the bytes of a value, be they read by that name or by another; found out when somebody asks."""

    ops: Sequence[Op]
    roots: Mapping[Value, Value]

    def are_only(self, op: Op, value: Value) -> bool:
        """Whether `op` is the only one."""
        return self._known.get(value) == {op}

    @cached_property
    def _known(self) -> dict[Value, set[Op]]:
        """For each value: which of `ops` read its bytes, or have an op in them that does; not what names it anew."""
        found: dict[Value, set[Op]] = {}
        for top in self.ops:
            for op in (top, *(inner for region in top.regions for inner in region.walk())):
                for value in op.reads if not isinstance(op, (*_SAME_BYTES, Yield)) else ():
                    if not isinstance(op, Insert) or value is not op.whole:
                        found.setdefault(root_of(value, self.roots), set()).add(top)
        return found


def _same_layout(value: Value, result: Value) -> bool:
    """Whether the elements of both are of one type, and as many; constants and arguments are not to be written."""
    same = value.type.dtype == result.type.dtype and value.type.elements == result.type.elements
    return same and not isinstance(value, (Argument, Const))


def joined_parts(ops: Sequence[Op], results: Sequence[Value], roots: Mapping[Value, Value]) -> dict[Value, Joined]:
    """For each value that can be computed as a part of a result, or of what becomes one in place: where. `roots` says
    whose bytes the bytes of a value are.
    """
    readers = _Readers(ops, roots)
    returned, lost = {root_of(value, roots) for value in results}, set(_overwritten(ops, results, readers))
    concats = [op for op in ops if isinstance(op, Concat) and op.out in returned | lost]
    uses = Counter(root_of(value, roots) for op in concats for value in op.inputs)
    found: dict[Value, Joined] = {}
    for op in concats:
        parts = [root_of(value, roots) for value in op.inputs]
        alone = all(uses[part] == 1 and part not in returned | lost and not isinstance(part, (Argument, Const))
                    and (op.out not in lost or readers.are_only(op, part)) for part in parts)
        axis = op.axis % op.out.type.rank
        if alone and all(extent == 1 for extent in op.out.shape[:axis]):
            begin = 0
            for part, piece in zip(parts, op.inputs, strict=True):
                place = [0] * op.out.type.rank
                place[axis] = begin
                found[part] = Joined(op, piece, tuple(place))
                begin += piece.shape[axis]
    return found
