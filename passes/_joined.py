"""Parts of a result that are computed where they are joined: no memory of their own, no copy.

    %a4 = nn.reshape(%a) : tensor<1x3600x4xf32>
    %b4 = nn.reshape(%b) : tensor<1x600x4xf32>
    %boxes = nn.concat(%a4, %b4) {axis = 1} : tensor<1x4200x4xf32>      %boxes is returned: %a is computed in the first
    nn.return(%boxes)                                                   14,400 elements of it, %b behind that
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinyir.ir import Argument, Const, Value
from tinyir.opdef import Op
from tinyir.ops import Concat

__all__ = ["Joined", "joined_parts", "root_of"]


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


def joined_parts(ops: Sequence[Op], results: Sequence[Value], roots: Mapping[Value, Value]) -> dict[Value, Joined]:
    """For each value that can be computed as a part of a result: where. `roots` says whose bytes the bytes of a value
    are.
    """
    returned = {root_of(value, roots) for value in results}
    concats = [op for op in ops if isinstance(op, Concat) and op.out in returned]
    uses = Counter(root_of(value, roots) for op in concats for value in op.inputs)
    found: dict[Value, Joined] = {}
    for op in concats:
        parts = [root_of(value, roots) for value in op.inputs]
        alone = all(uses[part] == 1 and part not in returned and not isinstance(part, (Argument, Const))
                    for part in parts)
        axis = op.axis % op.out.type.rank
        if alone and all(extent == 1 for extent in op.out.shape[:axis]):
            begin = 0
            for part, piece in zip(parts, op.inputs, strict=True):
                place = [0] * op.out.type.rank
                place[axis] = begin
                found[part] = Joined(op, piece, tuple(place))
                begin += piece.shape[axis]
    return found
