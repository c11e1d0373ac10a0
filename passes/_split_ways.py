"""Chains that run for some channels at a time: what they need, and what they cost, with parts of several sizes.

The bytes while a chain runs: what is stored whole and lives then, the sums of a layer over all channels, and of what
lies between, a part. Where the parts run row by row, a few rows of a part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from tinyir.ir import Value
from tinyir.opdef import Op
from tinyir.ops import ChannelRole, Place, channel_role
from tinyir.row_schedule import RowSchedule, folds_rows, has_rows, schedule_rows
from tinyir.types import I32

from ._split import is_pixel, put_in_split, split_roles
from ._stream_ways import STEP, all_stream, is_held, rate, scratch_of, sums_of
from ._ways import Scene, Way, provides

__all__ = ["TYPICAL", "Chain", "chain_of", "part_sizes", "split_bytes", "split_way"]

TYPICAL, _LEAST, _MOST = 8, 4, 64
"""Channels of a part that are tried."""
_COPY = 5
"""Instructions to put an element to its place."""
_READ = 2
"""Instructions to read an element of what a chain begins with once more: each part does."""
_CALL = 60


@dataclass(frozen=True)
class Chain:
    """The ops of a segment and what puts their parts together; `kept` are the values that are stored whole, and for
    each of them the value of the function that it is.
    """

    ops: tuple[Op, ...]
    roles: tuple[ChannelRole, ...]
    kept: dict[Value, Value]

    @property
    def channels(self) -> int:
        return self.ops[0].out.shape[-1]

    def readers(self, value: Value) -> list[int]:
        """The places of the ops of the chain that read a value of it."""
        return [place for place, op in enumerate(self.ops) if value in op.reads]


def chain_of(scene: Scene, first: int, end: int) -> Chain | None:
    """Ops first ... end - 1 as a chain; None if they are none."""
    ops: list[Op] = []
    roles: list[ChannelRole] = []
    kept: dict[Value, Value] = {}
    for op, role in split_roles(scene.ops[first:end]).items():
        if role is None:
            return None
        ops.append(op)
        roles.append(role)
        if not scene.memory.needed_behind(op.out, end):
            continue
        if role != "sums" and not is_pixel(op.out):
            if not has_rows(op.out):
                return None  # several images: the parts of one do not lie beside each other
            place = Place(op.out)
            place._unlink()  # the network is not to know of it: it is tried out
            ops.append(place)
            roles.append("follows")
            kept[place.out] = op.out
        else:
            kept[op.out] = op.out
    return Chain(tuple(ops), tuple(roles), kept)


@provides("split")
def split(scene: Scene, first: int, end: int) -> Iterable[Way] | None:
    """Two ops or more, for about 8 channels at a time, row by row and on whole images; for others, as variants."""
    roles = split_roles(scene.ops[first:end])
    if any(role is None and not _could_follow(op) for op, role in roles.items()):
        return None
    chain = chain_of(scene, first, end) if end - first > 1 else None
    sizes = () if chain is None or not chain.kept else part_sizes(chain.channels)
    if chain is None or not sizes:
        return []
    size = min(sizes, key=lambda s: abs(s - TYPICAL))
    by_rows = (0, 1) if all_stream(scene, first, end) else (0,)
    others = [s for s in sizes if s != size]
    return [split_way(scene, (first, end), chain, size, rows, others) for rows in by_rows]


def _could_follow(op: Op) -> bool:
    """Whether the op goes on with channels if what it reads comes part by part."""
    return bool(op.reads) and channel_role(op, {op.reads[0]}) == "follows"


def part_sizes(channels: int) -> tuple[int, ...]:
    """Channels of a part to try: divisors from 4 to 64, even ones if there are some; smaller ones if there is none."""
    divisors = [d for d in range(1, channels // 2 + 1) if channels % d == 0]
    good = [d for d in divisors if _LEAST <= d <= _MOST] or divisors[-1:]
    return tuple([d for d in good if d % 2 == 0] or good)


def split_way(scene: Scene, span: tuple[int, int], chain: Chain, size: int, rows: int, others: Sequence[int] = ()) \
        -> Way:
    """The segment `span` for `size` channels at a time, `rows` rows a step or (0) on whole images; with others as
    variants.
    """
    parts = chain.channels // size
    schedule = schedule_rows(chain.ops, set(chain.kept), rows, scene.needs) if rows else None
    peak, held = split_bytes(scene, span[0], chain, parts, schedule)
    rates = [None if schedule is None else rate(schedule, i) for i in range(len(chain.ops))]
    works = [scene.work(op, rows_a_step, parts=True) for op, rows_a_step in zip(chain.ops, rates, strict=True)
             if not isinstance(op, Place)]
    placed = sum(op.out.type.elements for op in chain.ops if isinstance(op, Place))
    read = sum(op.reads[0].type.elements for op, role in zip(chain.ops, chain.roles, strict=True) if role == "makes")
    calls = len(chain.ops) * (_CALL if schedule is None else _CALL + schedule.steps * STEP)
    text = f"parts of {size}" + (f", rows {rows}" if rows else "")
    variants = None if not others else partial(_variants, scene, span, chain, rows, others)
    return Way(*span, peak, held, sum(w.instructions for w in works) + placed * _COPY + (parts - 1) * read * _READ +
               parts * calls, flash=sum(w.flash for w in works), text=text,
               apply=partial(put_in_split, parts, schedule), variants=variants)


def _variants(scene: Scene, span: tuple[int, int], chain: Chain, rows: int, sizes: Sequence[int]) -> list[Way]:
    return [split_way(scene, span, chain, size, rows) for size in sizes]


def split_bytes(scene: Scene, first: int, chain: Chain, parts: int, schedule: RowSchedule | None) -> tuple[int, int]:
    """The most bytes that are live at one time while a chain that begins with op number `first` runs, and of these
    those of what is stored whole.
    """
    memory = scene.memory
    held = sum(memory.size(value) for value in chain.kept.values())
    held += sum(memory.aligned(op.out.type.elements * I32.bits // 8)
                for op, role in zip(chain.ops, chain.roles, strict=True) if role == "sums" and _has_sums(op))
    rings, flight = 0, [0] * len(chain.ops)
    for index, op in enumerate(chain.ops):
        if not isinstance(op, Place):
            scratch = scratch_of(scene, op, None if schedule is None else rate(schedule, index))
            flight[index] += memory.aligned(scratch)
        if schedule is not None and folds_rows(op):
            rings += memory.aligned(sums_of(op) // parts)
        if op.out in chain.kept:
            continue
        ring, moving = _part_bytes(scene, chain, index, parts, schedule)
        rings += ring
        for place in range(index, max(chain.readers(op.out), default=index) + 1):
            flight[place] += moving
    return memory.before[first] + held + rings + max(flight), held


def _has_sums(op: Op) -> bool:
    """Whether the sums of a layer need memory of their own: stored results are narrower."""
    return op.out.type.quant is not None and op.out.type.dtype != I32


def _part_bytes(scene: Scene, chain: Chain, index: int, parts: int, schedule: RowSchedule | None) -> tuple[int, int]:
    """Bytes of a part of a result that are held from one step to the next, and those from its op to its last reader."""
    value = chain.ops[index].out
    size = value.type.size_bytes // parts
    if schedule is None:
        return 0, scene.memory.aligned(size)
    if folds_rows(chain.ops[index]):
        return scene.memory.aligned(size), 0
    ring, fresh = (scene.memory.aligned(size // value.shape[1] * rows)
                   for rows in (schedule.rings[index], schedule.fresh[index]))
    if fresh or is_held(scene, index, chain.readers(value), chain.ops, schedule):
        return ring, fresh
    return 0, ring
