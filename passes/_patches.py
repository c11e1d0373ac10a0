"""How patches are made, and which one needs the least memory: (depth, grid) as MCUNetV2 chooses them.

A patch from the first op that can be computed by tiles to any depth is tried with grids of 2 x 2 to 8 x 8 tiles (of
1 x 2 to 1 x 8 strips that run row by row). The bytes while it runs: what is stored whole and lives then, its results,
and the most that is live at one time within a tile. Behind it the network runs layer by layer.

Cost: O(depth^2 x tiles).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tinyir.ir import Func, Module, Value
from tinyir.opdef import Op
from tinyir.ops import Patch
from tinyir.pass_manager import Context
from tinyir.tiles import Spans, check_tiles, recomputed_macs, tile_problem, tile_spans

from ._stored import Memory
from ._stream_ways import put_in_region

__all__ = ["Choice", "best_patch", "put_in_patch"]

_MOST = 8
"""Tiles along an axis."""


def put_in_patch(grid: tuple[int, int], rows: int, waits: tuple[int, ...], group: list[Op], func: Func,
                 module: Module) -> Patch | None:
    """Move the ops of `group`, which follow each other, into a patch; None if nobody uses what they compute."""
    return put_in_region(Patch, {"grid": grid, "rows": rows, "waits": waits}, group, func, module)


@dataclass(frozen=True)
class Choice:
    """Ops first ... end - 1 by tiles of a grid: the peak of the whole network in bytes, and what is computed again."""

    first: int
    end: int
    grid: tuple[int, int]
    peak: int
    macs: int


def best_patch(func: Func, ctx: Context, overhead: float) -> Choice | None:
    """The patch with the least peak that computes at most `overhead` of all multiply-accumulates again; None if the
    network needs no more layer by layer.
    """
    memory = Memory(func, ctx.target.align)
    first, last = _tileable(memory.ops)
    most = overhead * sum(op.macs() for op in memory.ops)
    singles = [memory.single(index) for index in range(len(memory.ops))]
    found = []
    for end in range(first + 1, last + 1):
        choices = [choice for n in range(2, _MOST + 1) if (choice := _choice(memory, singles, first, end, (n, n)))]
        table = ", ".join(f"{c.grid[0]}x{c.grid[1]} {c.peak:,} bytes +{c.macs:,} MACs" for c in choices)
        if choices:
            ctx.remark(f"patch: until %{memory.ops[end - 1].out.name}: {table}")
        found += [choice for choice in choices if choice.macs <= most]
    best = min(found, key=lambda c: (c.peak, c.macs), default=None)
    ctx.remark(f"patch: layer by layer {max(singles, default=0):,} bytes")
    return best if best is not None and best.peak < max(singles) else None


def _tileable(ops: Sequence[Op]) -> tuple[int, int]:
    """The first run of ops that can be computed by tiles."""
    good = [tile_problem(op, ()) is None for op in ops]
    first = good.index(True) if any(good) else 0
    return first, next((i for i in range(first, len(ops)) if not good[i]), len(ops))


def _choice(memory: Memory, singles: Sequence[int], first: int, end: int, grid: tuple[int, int]) -> Choice | None:
    body = memory.ops[first:end]
    kept = [op.out for op in body if memory.needed_behind(op.out, end)]
    if not kept or check_tiles(body, kept, grid) is not None:
        return None
    tiles = itertools.product(tile_spans(body, kept, grid[0], "rows"), tile_spans(body, kept, grid[1], "columns"))
    within = max(_tile_bytes(memory, body, kept, rows, columns) for rows, columns in tiles)
    peak = memory.before[first] + sum(memory.size(value) for value in kept) + within
    return Choice(first, end, grid, max(peak, *singles[:first], *singles[end:], 0),
                  recomputed_macs(body, kept, grid))


def _tile_bytes(memory: Memory, body: Sequence[Op], kept: Collection[Value], rows: Spans, columns: Spans) -> int:
    """The most bytes of one tile that are live at one time; what is kept lies where the whole is."""
    place = {op: index for index, op in enumerate(body)}
    live = [0] * len(body)
    for index, op in enumerate(body):
        if op.out in kept or op.out not in rows:
            continue
        pixels = op.out.shape[1] * op.out.shape[2]
        size = memory.size(op.out) // pixels * rows[op.out].extent * columns[op.out].extent
        for step in range(index, max(place[user] for user in op.out.users if user in place) + 1):
            live[step] += memory.aligned(size)
    return max(live, default=0)
