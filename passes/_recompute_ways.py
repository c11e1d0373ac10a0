"""Squeeze-and-excitation blocks of which some channels are computed twice: what they need, for how many that are kept.

    ops       e  d  mean | fc  fc | mul  y  add           a block, and what follows it row by row
    first     the channels that are kept, and the means of all, some channels at a time
    then      the scale
    then      row by row: the other channels again, all scaled, summed and added

Blocks that are less than a quarter of the largest one are left as they are. Each number of kept channels is tried on a
copy of the block and of what follows it, so that the bytes are those of what is made of it; layers are priced as their
share of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import takewhile
from typing import cast

from tinyir.clone import clone_ops
from tinyir.costs import Cost, CostModel
from tinyir.ir import Func, Module
from tinyir.opdef import Op
from tinyir.ops import Concat, QProject, Return, Slice

from ._excite import Excite, Rewritten, excite_of, part_block
from ._split_ways import TYPICAL, chain_of, part_sizes, split_way
from ._stored import Memory
from ._stream_ways import can_stream, row_way
from ._ways import Scene, Way, provides, whole

__all__ = ["recompute"]

_BEHIND = 3
"""Ops behind a block that are tried in its last stage."""
_SMALLEST = Fraction(1, 4)
_FIRST, _FINE = 4, 16
"""How many numbers of kept channels are tried at first, and where that turns out useful; then those in between."""


@dataclass(frozen=True)
class _Block:
    """A block and the places of its first op, its product and its last one in the order of execution; those of up to
    three ops behind it, which can run row by row, lie in front of `end`.
    """

    excite: Excite
    first: int
    scaled: int
    last: int
    end: int


@provides("recompute")
def recompute(scene: Scene, first: int, end: int) -> Iterable[Way] | None:
    """A block and up to three ops behind it."""
    if scene.recompute <= 0:
        return None
    if "recompute" not in scene.memo:
        scene.memo["recompute"] = _blocks(scene)
    near = [block for block in scene.memo["recompute"] if block.last < end <= block.end]
    if not near or first < min(block.first for block in near):
        return None
    return [way for block in near if block.first == first
            for way in _ways(scene, block, _counts(block.excite.channels, _FIRST), end, 0)]


def _blocks(scene: Scene) -> list[_Block]:
    """The blocks that are worth it, ops of which follow each other."""
    found = []
    place = scene.memory.place
    for op in scene.ops:
        block = excite_of(op)
        if block is None:
            continue
        first, last = place[block.made[0]], place[block.project]
        front = [*block.made, *block.folds]
        if scene.ops[first:first + len(front)] == front and all(place[o] > place[op] for o in block.behind):
            behind = scene.ops[last + 1:last + 1 + _BEHIND]
            end = last + 1 + len([*takewhile(can_stream, behind)])
            if not any(inner.regions for inner in scene.ops[first:end]):
                found.append(_Block(block, first, place[op], last, end))
    most = max((block.excite.value.type.size_bytes for block in found), default=0)
    return [block for block in found if block.excite.value.type.size_bytes >= most * _SMALLEST]


def _counts(channels: int, steps: int) -> list[int]:
    """Numbers of channels to keep, so many of them, from none on."""
    return sorted({channels * step // steps // 2 * 2 for step in range(steps)})


def _near(channels: int, kept: int) -> list[int]:
    """The numbers between those that are tried before, around one of them: even ones, with which parts are no single
    channels.
    """
    reach = channels // _FINE // 2 + 1
    some = range(max(2, kept - reach), min(channels - 1, kept + reach + 1))
    return [k for k in some if k % 2 == 0 and k != kept and _suits(k) and _suits(channels - k)]


def _suits(channels: int) -> bool:
    return channels <= TYPICAL or max(part_sizes(channels)) >= TYPICAL // 2


def _ways(scene: Scene, block: _Block, counts: Iterable[int], end: int, level: int) -> list[Way]:
    """The block with so many channels kept; others are variants, the closer the higher the level."""
    found = []
    for kept in counts:
        trial = _Trial.of(scene, block, kept)
        ways = [*trial.stages, _by_rows(trial.scene, trial.made.again, end - 1 - block.last)]
        text = f"{kept} channels kept, {', '.join(dict.fromkeys(way.text for way in ways))}"
        apply = partial(_apply, block.scaled - block.first, block.last - block.first, kept,
                        tuple(way.apply for way in ways if way.apply is not None))
        variants = partial(_more, scene, block, kept, end, level + 1) if level < 2 else None
        macs = block.excite.macs * (block.excite.channels - kept) // block.excite.channels
        every = (*ways, *trial.alone)
        found.append(Way(block.first, end, max(way.peak for way in every), ways[-1].held,
                         sum(way.instructions for way in every), macs, sum(way.flash for way in every), text, apply,
                         variants))
    return found


def _more(scene: Scene, block: _Block, kept: int, end: int, level: int) -> list[Way]:
    """The same with more numbers of channels that are kept, those around `kept`."""
    channels = block.excite.channels
    if level == 2:
        return _ways(scene, block, _near(channels, kept), end, level)
    reach = channels // _FIRST // 2 + 1
    some = [k for k in _counts(channels, _FINE) if 0 < abs(k - kept) <= reach and k not in _counts(channels, _FIRST)]
    return _ways(scene, block, some, end, level)


def _by_parts(scene: Scene, ops: Sequence[Op]) -> Way:
    """The way to run a chain for some channels at a time, row by row if it can, that needs the fewest bytes."""
    span = scene.memory.place[ops[0]], scene.memory.place[ops[-1]] + 1
    chain = chain_of(scene, *span)
    assert chain is not None
    sizes = part_sizes(chain.channels)
    rows = 1 if all(map(can_stream, ops)) else 0
    size = min(sizes, key=lambda s: abs(s - TYPICAL)) if sizes else chain.channels
    return split_way(scene, span, chain, size, rows)


def _by_rows(scene: Scene, ops: Sequence[Op], behind: int) -> Way:
    """The way to run some ops, and as many behind them, row by row."""
    place = scene.memory.place
    return row_way(scene, place[ops[0]], place[ops[-1]] + 1 + behind, 1)


_Apply = Callable[[list[Op], Func, Module], None]


def _apply(scaled: int, last: int, kept: int, stages: Sequence[_Apply], group: list[Op], func: Func, module: Module) \
        -> None:
    """Part the block in `group`, whose product and last op have these places in it, and run its stages."""
    block = excite_of(group[scaled])
    assert block is not None
    made = part_block(block, kept, func, module)
    parts = (made.kept, made.others, made.scaled, (*made.again, *group[last + 1:]))
    for apply, ops in zip(stages, [list(ops) for ops in parts if ops], strict=True):
        apply(ops, func, module)


@dataclass(frozen=True)
class _Trial:
    """A copy of a block, and of what follows it row by row, in which it is parted."""

    scene: Scene
    made: Rewritten
    stages: tuple[Way, ...]
    """How its first stages run: what is kept, the means of the others, the scaling of what was kept."""
    alone: tuple[Way, ...]
    """How the ops between them run."""

    @staticmethod
    def of(scene: Scene, block: _Block, kept: int) -> _Trial:
        key = f"recompute {block.first} {kept}"
        if key not in scene.memo:
            ops = scene.ops[block.first:block.end]
            copy, same = clone_ops(ops, scene.func, scene.module)
            func, around = copy.funcs[scene.func.name], scene.memory.around(block.first, block.end, same)
            func.block.append(Return((*around.outputs, *around.behind)))
            origins = dict(zip(func.ops, ops, strict=False))
            excite = excite_of(func.ops[block.scaled - block.first])
            assert excite is not None
            made = part_block(excite, kept, func, copy)
            memory = Memory(func, scene.memory.align, around)
            trial = Scene(func, copy, scene.target, memory, scene.recompute, scene.rows)
            trial.__dict__["model"] = _Shares(scene.model, origins, block.excite)
            stages = [_by_parts(trial, ops) for ops in (made.kept, made.others) if ops]
            stages += [_by_rows(trial, made.scaled, 0)] if made.scaled else []
            place = trial.memory.place
            between = range(place[made.others[-1]] + 1, place[(made.scaled or made.again)[0]])
            alone = [way for i in between for way in whole(trial, i, i + 1) or ()]
            scene.memo[key] = _Trial(trial, made, tuple(stages), tuple(alone))
        return cast(_Trial, scene.memo[key])


class _Shares(CostModel):
    """Prices the ops of a parted block as shares of those that they were made of."""

    def __init__(self, model: CostModel, origins: Mapping[Op, Op], block: Excite) -> None:
        self.target = model.target
        self._model, self._origins = model, origins
        ops = (*block.made, *block.folds, block.scaled, *block.behind, block.project)
        self._named = {op.out.name: op for op in ops}

    def of(self, op: Op, rows: int | None = None, kept: bool = False, parts: bool = False) -> Cost:
        if op in self._origins:
            return self._model.of(self._origins[op], rows, kept, parts)
        if isinstance(op, (Concat, Slice)):
            return Cost(8 * op.out.type.elements)
        old = self._named[op.out.name]
        cost = self._model.of(old, rows, kept, parts)
        share = Fraction(op.reads[0].type.elements, old.reads[0].type.elements) if isinstance(op, QProject) or \
            op.out.type.dtype != old.out.type.dtype else Fraction(op.out.type.elements, old.out.type.elements)
        return replace(cost, instructions=round(cost.instructions * share))
