"""Choose the order of execution of a branching network with which the least memory is needed, layer by layer.

    %a = ...                 %a = ...                    %b1 and %b2 are large, %c1 and %c2 small:
    %b1 = big(%a)            %b1 = big(%a)               one branch after the other keeps only
    %b2 = big(%a)      ->    %c1 = small(%b1)            one large value at a time
    %c1 = small(%b1)         %b2 = big(%a)
    %c2 = small(%b2)         %c2 = small(%b2)

Ops that every other op comes before or behind (all ops of a chain) part the network; between two of them the order is
searched by itself: best first over the sets of ops that have run, the one with the least peak so far next, so that the
first complete set is the optimum. An op that frees as much as it needs, without a new peak, runs at once: no order
gains by running it later. Above `states` sets the search goes on as a beam search, which may miss the optimum; a remark
says so. The model's order stays where no other one makes the whole need less.

Cost: O(n) for chains; for a part with k ops O(d k) with d sets that can have run, at most `states` of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tinyir.ir import Level, Module, Value
from tinyir.opdef import Op
from tinyir.pass_manager import Context, Pass, option

from ._stored import Memory

_BEAM = 64


class Order(Pass):
    """Reorder ops so that the least memory is needed."""

    name = "order"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")
    states: int = option(20_000, "sets of ops that are looked at before the search is cut short, for each part")

    def run(self, module: Module, ctx: Context) -> None:
        before, after = 0, 0
        for func in module.funcs.values():
            memory = Memory(func, ctx.target.align)
            before = max([before, *map(memory.single, range(len(memory.ops)))])
            places, exact = best_order(memory, self.states)
            if places != list(range(len(places))):
                func.block.ops[:] = [*(memory.ops[i] for i in places), *func.ops[len(places):]]
            after = max([after, *map(Memory(func, ctx.target.align).single, range(len(places)))])
            if not exact:
                ctx.remark(f"order: a better one may exist, the search was cut short at {self.states:,} sets",
                           func.loc)
        ctx.stat("bytes-before", before)
        ctx.stat("bytes", after)
        if after < before:
            ctx.remark(f"order: {after:,} bytes layer by layer, {before:,} in the order of the model")


def best_order(memory: Memory, states: int) -> tuple[list[int], bool]:
    """The numbers of all ops in the best order that was found, and whether no other one is better."""
    parts = _parts(memory.ops)
    graphs = [_Graph.of(memory, part) for part in parts]
    searched = [graph.search(states) for graph in graphs]
    needed = max((least for least, _, _ in searched), default=0)
    found: list[int] = []
    for part, graph, (_, order, _) in zip(parts, graphs, searched, strict=True):
        stays = graph.peak(range(len(part))) <= needed
        found += part if stays else [part[i] for i in order]
    return found, all(exact for _, _, exact in searched)


def _parts(ops: Sequence[Op]) -> list[list[int]]:
    """Runs of neighbours, such that all ops of one come before all ops of the next in every order."""
    place = {op: i for i, op in enumerate(ops)}
    before = _counts(ops, [[place[v.op] for v in op.reads if v.op in place] for op in ops])
    readers = [[place[user] for r in op.results for user in r.users if user in place] for op in ops]
    behind = _counts(ops[::-1], [[len(ops) - 1 - i for i in found] for found in reversed(readers)])[::-1]
    parts: list[list[int]] = [[]]
    for index in range(len(ops)):
        parts[-1].append(index)
        if before[index] + behind[index] == len(ops) - 1:
            parts.append([])
    return [part for part in parts if part]


def _counts(ops: Sequence[Op], sources: Sequence[Sequence[int]]) -> list[int]:
    """How many ops each op depends on, directly or not."""
    masks: list[int] = []
    for found in sources:
        mask = 0
        for source in found:
            mask |= masks[source] | 1 << source
        masks.append(mask)
    return [mask.bit_count() for mask in masks]


@dataclass
class _Graph:
    """Ops between two that part the network. Sets of ops are bits; sizes in bytes.

    `needs[i]` are the ops that have to run before op i, `made[i]` is the size of what it makes, `dead[i]` of that part
    of it which nobody reads; `read[i]` are the values that it reads, size and readers. Readers behind the part are a
    bit that is never set. `over[i]` are the readers of those that its result may take the place of. `start` bytes are
    needed in front of the part.
    """

    needs: list[int]
    made: list[int]
    read: list[list[tuple[int, int]]]
    dead: list[int]
    over: list[list[int]]
    start: int

    @staticmethod
    def of(memory: Memory, part: Sequence[int]) -> _Graph:
        """The ops with these numbers."""
        ops = [memory.ops[i] for i in part]
        place = {op: i for i, op in enumerate(ops)}
        readers = _readers(memory, place)
        live = memory.live_in(part[0])
        return _Graph(
            [sum({1 << place[v.op] for v in op.reads if v.op in place}) for op in ops],
            [sum(memory.size(r) for r in op.results) for op in ops],
            [[(memory.size(v), readers[v]) for v in dict.fromkeys(memory.root.get(v, v) for v in op.reads)
              if memory.size(v)] for op in ops],
            [sum(memory.size(r) for r in op.results if not readers.get(r)) for op in ops],
            [[readers[v] for v in memory.reusable(op)] for op in ops],
            sum(memory.size(v) for v in live))

    def run(self, op: int, done: int, live: int) -> tuple[int, int]:
        """The bytes while an op runs behind the ops `done`, with `live` bytes needed, and those needed then."""
        needed, after = live + self.made[op], done | 1 << op
        freed = sum(size for size, readers in self.read[op] if readers & ~after == 0)
        taken = self.made[op] if any(readers & ~after == 0 for readers in self.over[op]) else 0
        return needed - taken, needed - freed - self.dead[op]

    def search(self, states: int) -> tuple[int, list[int], bool]:
        """The least peak that was found, the order that has it, and whether that is proved."""
        given = self.peak(range(len(self.needs)))
        best, order, exact = self._best_first(states, given)
        return (best, order, exact) if best < given else (given, list(range(len(self.needs))), exact)

    def peak(self, order: Sequence[int]) -> int:
        """The most bytes that are needed at one time in that order."""
        done, live, most = 0, self.start, 0
        for op in order:
            peak, live = self.run(op, done, live)
            most, done = max(most, peak), done | 1 << op
        return most

    def _best_first(self, states: int, given: int) -> tuple[int, list[int], bool]:
        """Sets in the order of the least peak that leads to them; only those below the peak that is known."""
        count = len(self.needs)
        heap: list[tuple[int, int, int, int]] = [(0, -0, 0, self.start)]
        came: dict[int, tuple[int, int]] = {0: (-1, 0)}
        known = {0: 0}
        while heap:
            peak, ran, done, live = heapq.heappop(heap)
            if -ran == count:
                return peak, _way_to(done, came), True
            if known[done] < peak:
                continue
            if len(known) > states:
                return *self._beam(peak, done, live, came), False
            for op, most, after in self._steps(done, live, peak):
                there = done | 1 << op
                if most < given and most < known.get(there, given):
                    known[there], came[there] = most, (op, done)
                    heapq.heappush(heap, (most, ran - 1, there, after))
        return given, list(range(count)), True

    def _steps(self, done: int, live: int, peak: int) -> list[tuple[int, int, int]]:
        """What can run next: the op, the peak so far, the bytes that are needed then."""
        found = []
        for op, needs in enumerate(self.needs):
            if done >> op & 1 or needs & ~done:
                continue
            most, after = self.run(op, done, live)
            if after <= live and most <= peak:
                return [(op, peak, after)]
            found.append((op, max(peak, most), after))
        return found

    def _beam(self, peak: int, done: int, live: int, came: dict[int, tuple[int, int]]) -> tuple[int, list[int]]:
        """From a set of ops on, the best of a few sets with each number of ops."""
        front = {done: (peak, live)}
        way = {done: _way_to(done, came)}
        while way and any(set_.bit_count() < len(self.needs) for set_ in front):
            grown: dict[int, tuple[int, int, list[int]]] = {}
            for here, (most, needed) in front.items():
                for op, found, after in self._steps(here, needed, most):
                    there = here | 1 << op
                    if there not in grown or found < grown[there][0]:
                        grown[there] = found, after, [*way[here], op]
            kept = sorted(grown.items(), key=lambda item: (item[1][0], item[1][1], item[0]))[:_BEAM]
            front = {set_: (most, needed) for set_, (most, needed, _) in kept}
            way = {set_: ops for set_, (_, _, ops) in kept}
        best = min(front, key=lambda set_: (front[set_], set_))
        return front[best][0], way[best]


def _readers(memory: Memory, place: dict[Op, int]) -> dict[Value, int]:
    """By value that is stored: the ops that read it, or something that is the same bytes, as bits."""
    end = max(memory.place[op] for op in place)
    found: dict[Value, int] = {}
    for number, op in enumerate(memory.ops):
        bit = 1 << place.get(op, len(place)) if op in place or number > end else 0
        for value in op.reads:
            root = memory.root.get(value, value)
            found[root] = found.get(root, 0) | bit
    return found


def _way_to(done: int, came: dict[int, tuple[int, int]]) -> list[int]:
    order: list[int] = []
    while done:
        op, done = came[done]
        order.append(op)
    return order[::-1]
