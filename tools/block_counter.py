"""Counts the blocks that unicorn executes, in compiled C: 50 to 150 million guest instructions a second.

Unicorn calls a hook for each block that it enters. The hook counts (address, size, layer, entered by a branch) in a
hash table. The layer changes where a block contains a mark.

It also walks the lines of the block through a model of the cache in front of a flash: all lines equal, the one unused
for longest goes, and while a line runs the next one is fetched. Going on into a line that is not there waits for what
is left of its fetch (a cycle for every four bytes has passed meanwhile); jumping into one waits for all of it.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from tinyir.board import Costs

from .blocks import Block, Mark, split_at_marks
from .harness import failure
from .toolchain import host_compiler, shared_library

__all__ = ["BlockCounter"]

_SLOTS = 1 << 17
_MARKS = 1 << 13
_LINES = 256
_SOURCE = f"""\
#include <stdint.h>
typedef struct {{ uint64_t key, count; }} slot;
typedef struct {{
    uint64_t lost;
    uint32_t end, layer, marks, low, high;
    uint32_t mark_address[{_MARKS}], mark_layer[{_MARKS}];
    uint32_t wait, line_bits, lines, last, last_bytes, clock;
    uint32_t tag[{_LINES}], used[{_LINES}];
    uint8_t place[65536];
    uint64_t stalls[{_MARKS + 1}];
    slot slots[{_SLOTS}];
}} table;

static void replace_line(table *t, uint32_t line)
{{
    uint32_t oldest = 0, i;
    for (i = 1; i < t->lines; i++) if (t->used[i] < t->used[oldest]) oldest = i;
    t->tag[oldest] = line;
    t->place[line & 0xFFFFu] = (uint8_t)oldest;
}}

static void fetch(table *t, uint32_t address, uint32_t end)
{{
    while (address < end) {{
        const uint32_t line = (address >> t->line_bits) + 1u; /* 0 is an empty place */
        const uint32_t behind = line << t->line_bits, bytes = (behind < end ? behind : end) - address;
        address += bytes;
        if (line == t->last) {{
            t->last_bytes += bytes;
            continue;
        }}
        if (t->tag[t->place[line & 0xFFFFu]] != line) {{
            const uint32_t passed = line == t->last + 1u ? (t->last_bytes + 3u) / 4u : 0u;
            t->stalls[t->layer] += t->wait > passed ? t->wait - passed : 0u;
            replace_line(t, line);
        }}
        t->used[t->place[line & 0xFFFFu]] = ++t->clock;
        t->last = line;
        t->last_bytes = bytes;
    }}
}}

static void enter_layer(table *t, uint32_t address, uint32_t end)
{{
    uint32_t low = 0, high = t->marks;
    while (low < high) {{ /* the marks in front of `end` */
        const uint32_t middle = (low + high) / 2u;
        if (t->mark_address[middle] < end) low = middle + 1u; else high = middle;
    }}
    if (low > 0u && t->mark_address[low - 1u] >= address) t->layer = t->mark_layer[low - 1u] + 1u;
}}

void count_block(void *engine, uint64_t where, uint32_t size, void *user)
{{
    table *t = user;
    const uint32_t address = (uint32_t)where;
    const uint64_t taken = address != t->end;
    const uint64_t key = ((uint64_t)address << 32) | ((uint64_t)(size & 0xFFFFu) << 16) | (t->layer << 1) | taken;
    uint32_t at = (uint32_t)((key * 0x9E3779B97F4A7C15ull) >> 47) & {_SLOTS - 1}u;
    uint32_t tries;
    (void)engine;
    t->end = address + size;
    if (t->wait > 0u) fetch(t, address, t->end);
    if (address < t->high && t->end > t->low) enter_layer(t, address, t->end);
    for (tries = 0; tries < 64u; tries++, at = (at + 1u) & {_SLOTS - 1}u) {{
        if (t->slots[at].key == key || t->slots[at].count == 0u) {{
            t->slots[at].key = key;
            t->slots[at].count++;
            return;
        }}
    }}
    t->lost++;
}}
""".encode()


class _Slot(ctypes.Structure):
    _fields_ = (("key", ctypes.c_uint64), ("count", ctypes.c_uint64))


class _Table(ctypes.Structure):
    _fields_ = (("lost", ctypes.c_uint64), ("end", ctypes.c_uint32), ("layer", ctypes.c_uint32),
                ("marks", ctypes.c_uint32), ("low", ctypes.c_uint32), ("high", ctypes.c_uint32),
                ("mark_address", ctypes.c_uint32 * _MARKS), ("mark_layer", ctypes.c_uint32 * _MARKS),
                ("wait", ctypes.c_uint32), ("line_bits", ctypes.c_uint32), ("lines", ctypes.c_uint32),
                ("last", ctypes.c_uint32), ("last_bytes", ctypes.c_uint32), ("clock", ctypes.c_uint32),
                ("tag", ctypes.c_uint32 * _LINES), ("used", ctypes.c_uint32 * _LINES),
                ("place", ctypes.c_uint8 * 65536), ("stalls", ctypes.c_uint64 * (_MARKS + 1)),
                ("slots", _Slot * _SLOTS))


@lru_cache(maxsize=1)
def _hook() -> Any:
    """The compiled hook. The library stays loaded, its file goes."""
    with tempfile.TemporaryDirectory(prefix="tinyc-") as name:
        path = shared_library({"counter.c": _SOURCE}, host_compiler(), Path(name))
        return ctypes.CDLL(str(path)).count_block


class BlockCounter:
    """Counts what `engine`, a unicorn.Uc, executes. Marks are where layers begin; `costs` describe the flash."""

    def __init__(self, engine: Any, marks: Sequence[Mark] = (), costs: Costs | None = None) -> None:
        self.marks = sorted(marks)
        self.costs = costs
        self._table = _Table()
        self._attach(engine)
        self.clear()

    def _attach(self, engine: Any) -> None:
        # Its modules are only partly typed.
        library: Any = import_module("unicorn.unicorn_py3.unicorn").uclib
        handle = ctypes.c_size_t()
        callback = ctypes.cast(_hook(), ctypes.c_void_p)
        status = library.uc_hook_add(engine._uch, ctypes.byref(handle), import_module("unicorn").UC_HOOK_BLOCK,
                                     callback, ctypes.addressof(self._table), 1, 0)
        if status != 0:
            raise failure(f"unicorn: uc_hook_add: error {status}")

    def clear(self) -> None:
        """Forget what was counted."""
        table = self._table
        ctypes.memset(ctypes.addressof(table), 0, ctypes.sizeof(table))
        if len(self.marks) > _MARKS:
            raise failure(f"the C has {len(self.marks)} calls, too many to tell apart")
        table.marks = len(self.marks)
        for index, mark in enumerate(self.marks):
            table.mark_address[index], table.mark_layer[index] = mark.address, mark.layer
        if self.marks:
            table.low, table.high = self.marks[0].address, self.marks[-1].address + 1
        if self.costs is not None:
            table.wait, table.line_bits = self.costs.fetch_wait, self.costs.fetch_line.bit_length() - 1
            table.lines = max(1, min(_LINES, self.costs.fetch_cache // self.costs.fetch_line))

    def stalls(self) -> dict[int | None, int]:
        """Cycles that each layer waited for its code."""
        found = {layer - 1 if layer else None: self._table.stalls[layer]
                 for layer in (0, *sorted({m.layer + 1 for m in self.marks}))}
        return {layer: cycles for layer, cycles in found.items() if cycles}

    def blocks(self, read: Callable[[int, int], bytes], stop: int) -> tuple[Block, ...]:
        """What ran since `clear`, by address; `read(address, size)` gives the code, `stop` is not counted."""
        if self._table.lost:
            raise failure("the table of executed blocks is full")
        return tuple(sorted(self._pieces(read, stop), key=lambda b: (b.address, b.layer or 0, b.taken)))

    def _pieces(self, read: Callable[[int, int], bytes], stop: int) -> Iterator[Block]:
        for slot in self._table.slots:
            address, size, layer, taken = slot.key >> 32, slot.key >> 16 & 0xFFFF, slot.key >> 1 & 0x7FFF, slot.key & 1
            if slot.count and address != stop:
                yield from split_at_marks(address, size, layer - 1 if layer else None, bool(taken), slot.count,
                                          self.marks, read)
