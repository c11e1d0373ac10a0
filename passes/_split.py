"""Chains of ops that are computed for some channels at a time: which they are, and how they get into a region."""

from __future__ import annotations

from collections.abc import Sequence

from tinyir.ir import Func, Module, Value
from tinyir.opdef import Op
from tinyir.ops import ChannelRole, Place, Split, Stream, channel_role
from tinyir.row_schedule import RowSchedule

from ._stream_ways import put_in_region, put_in_stream

__all__ = ["is_pixel", "put_in_split", "split_roles", "with_places"]


def split_roles(ops: Sequence[Op]) -> dict[Op, ChannelRole | None]:
    """What each of `ops`, which follow each other, can be in a `sched.split` of them all; None: nothing."""
    inside: set[Value] = set()
    roles: dict[Op, ChannelRole | None] = {}
    for op in ops:
        roles[op] = channel_role(op, inside)
        summed = {op.out for op, role in roles.items() if role == "sums"}
        if any(value in summed for value in op.reads):
            roles[op] = None
        inside.update(op.results)
    return roles


def put_in_split(parts: int, schedule: RowSchedule | None, chain: list[Op], func: Func, module: Module) -> None:
    """Move the ops of `chain`, which follow each other, into a region for `parts` parts of their channels; each part
    runs row by row if there is a schedule, made for the ops of `with_places`.
    """
    group = with_places(chain, func)
    if schedule is not None:
        put_in_stream(schedule, group, func, module)
        group = [op for op in func.ops if isinstance(op, Stream) and group[0] in op.body]
    put_in_region(Split, {"parts": parts}, group, func, module)


def with_places(chain: list[Op], func: Func) -> list[Op]:
    """`chain` with an op behind each whose result is used outside, that puts its parts together."""
    roles, inside = split_roles(chain), set(chain)
    group: list[Op] = []
    for op in chain:
        group.append(op)
        outside = [use for use in op.out.uses if use.op not in inside]
        if not outside or roles[op] == "sums" or is_pixel(op.out):
            continue
        place = Place(op.out)
        place.loc, place.out.name = op.loc, op.out.name
        func.block.insert(func.ops.index(op) + 1, place)
        for use in outside:
            use.op.replace_operand(use.index, place.out)
        group.append(place)
    return group


def is_pixel(value: Value) -> bool:
    """Whether all elements of a value are channels of one pixel, so that its parts lie behind each other."""
    return value.type.elements == value.shape[-1]
