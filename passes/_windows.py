"""Parts of images that need no memory of their own: read, or written, where the whole lies.

    %s = nn.slice(%x) {begin = [0, 0, 6, 0], step = [1, 1, 1, 1]} : tensor<1x8x5x16xi8>     columns 6 ... 10 of %x, read
    %p = qnn.conv2d(%s, @w, @b) {...} : tensor<1x8x4x8xi8>                                  there by the convolution,
    %w_1 = nn.insert(%w, %p) {begin = [0, 0, 8, 0]} : tensor<1x8x12x8xi8>                   which writes to its place

The kernels of everything that can run row by row can do so: to them a part is rows that are further apart. What others
read or write is copied.
"""

from __future__ import annotations

from tinyir.ir import Argument, Const, Func, Value
from tinyir.lowering import Lowering
from tinyir.ops import Insert, Return, Slice, Transpose, Yield
from tinyir.row_schedule import folds_rows
from tinyir.tiles import is_image

from ._joined import root_of
from ._stream_ways import can_stream

__all__ = ["place_windows"]


def place_windows(func: Func, roots: dict[Value, Value], low: Lowering) -> None:
    """Tell `low` which values of `func` are parts of others; `roots` says whose bytes the bytes of a value are."""
    returned = {root_of(value, roots) for value in func.results}
    placed: set[Value] = set()
    for op in func.block.walk():
        if isinstance(op, Slice) and _is_read_in_place(op):
            low.window(op.out, op.x, op.begin)
        elif isinstance(op, Insert):
            part = root_of(op.part, roots)
            if part not in placed | returned and _is_written_in_place(op, part, roots):
                placed.add(part)
                low.window(part, op.whole, op.begin)


def _is_read_in_place(op: Slice) -> bool:
    """Whether all readers can find the rows in x, and the elements of a row lie behind each other."""
    users = op.out.users
    if not is_image(op.x) or set(op.step) != {1} or not all(can_stream(user) for user in users):
        return False
    return op.out.shape[3] == op.x.shape[3] or all(isinstance(user, Transpose) for user in users)


def _is_written_in_place(op: Insert, part: Value, roots: dict[Value, Value]) -> bool:
    """Whether the op that computes `part` can do that where it is inserted, and all others can read it there."""
    maker = part.op
    if maker is None or isinstance(part, (Argument, Const)) or not can_stream(maker):
        return False
    turned = isinstance(maker, Transpose) and folds_rows(maker)
    if not turned and (folds_rows(maker) or not is_image(part) or part.shape[3] != op.whole.shape[3]):
        return False
    users = [user for value in (part, *(v for v, root in roots.items() if root is part)) for user in value.users]
    return all(can_stream(user) or user is op or isinstance(user, (Slice, Yield)) for user in users) \
        and not any(isinstance(user, Return) for user in users)
