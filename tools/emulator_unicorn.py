"""The unicorn side of `emulator`: calls `NAME_run` on a bare emulated core and counts what it executes.

Unicorn calls a hook for each block of instructions that it enters. The hook is compiled C: it counts (address, size)
pairs in a hash table, at 50 to 150 million guest instructions a second. The instructions of a block are counted
afterwards from its bytes (a Thumb instruction has four bytes if its first halfword begins with 0b11101, 0b11110 or
0b11111, else two). Instructions that an IT block skips count as executed, as QEMU counts them.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from .elf import read_segments, symbol_address
from .firmware import BOARDS, Board, Layout
from .harness import Run, failure, pack, unpack
from .program import Program, Sample
from .toolchain import core_named, host_compiler, shared_library

__all__ = ["count_instructions", "run_in_unicorn"]

_SLOTS = 1 << 16
_STOP = 0x003FF000
"""A return address at the end of the code memory, where nothing lies: reaching it ends the run."""
_PAINT = b"\xa5"
_COUNTER_SOURCE = f"""\
#include <stdint.h>
typedef struct {{ uint64_t key, count; }} slot;
typedef struct {{ uint64_t lost; slot slots[{_SLOTS}]; }} table;

void count_block(void *engine, uint64_t address, uint32_t size, void *user)
{{
    table *t = user;
    const uint64_t key = (address << 16) | (size & 0xFFFFu);
    uint32_t at = (uint32_t)((key * 0x9E3779B97F4A7C15ull) >> 48) & {_SLOTS - 1}u;
    uint32_t tries;
    (void)engine;
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
    _fields_ = (("lost", ctypes.c_uint64), ("slots", _Slot * _SLOTS))


@lru_cache(maxsize=1)
def _counter() -> Any:
    """The compiled hook. The library stays loaded, its file goes."""
    with tempfile.TemporaryDirectory(prefix="tinyc-") as name:
        path = shared_library({"counter.c": _COUNTER_SOURCE}, host_compiler(), Path(name))
        return ctypes.CDLL(str(path)).count_block


def count_instructions(code: bytes) -> int:
    """How many Thumb instructions `code` holds."""
    count = at = 0
    while at < len(code):
        at += 4 if code[at + 1] >= 0xE8 else 2
        count += 1
    return count


def _page_up(size: int) -> int:
    return -(-size // 4096) * 4096


class _Core:
    """One emulated processor with an image in its memory."""

    def __init__(self, image: bytes, target: str, board: Board) -> None:
        # Its modules are only partly typed.
        self.unicorn: Any = import_module("unicorn")
        self.arm: Any = import_module("unicorn.arm_const")
        self.board = board
        self.engine = self.unicorn.Uc(self.unicorn.UC_ARCH_ARM,
                                      self.unicorn.UC_MODE_THUMB | self.unicorn.UC_MODE_MCLASS)
        self.engine.ctl_set_cpu_model(getattr(self.arm, core_named(target).unicorn))
        for start, size in ((board.code, board.code_bytes), (board.ram, board.ram_bytes),
                            (board.large, board.large_bytes), (0xE000E000, 4096)):
            self.engine.mem_map(start, _page_up(size))
        for segment in read_segments(image):
            self.engine.mem_write(segment.address, segment.data)
        self._enable_fpu()
        self.table = _Table()
        self._add_hook()

    def _enable_fpu(self) -> None:
        self.engine.reg_write(self.arm.UC_ARM_REG_C1_C0_2, 0xF << 20)
        self.engine.reg_write(self.arm.UC_ARM_REG_FPEXC, 1 << 30)

    def _add_hook(self) -> None:
        library = import_module("unicorn.unicorn_py3.unicorn").uclib
        handle = ctypes.c_size_t()
        callback = ctypes.cast(_counter(), ctypes.c_void_p)
        status = library.uc_hook_add(self.engine._uch, ctypes.byref(handle), self.unicorn.UC_HOOK_BLOCK, callback,
                                     ctypes.addressof(self.table), 1, 0)
        if status != 0:
            raise failure(f"unicorn: uc_hook_add: error {status}")

    def call(self, address: int, arguments: Sequence[int]) -> tuple[int, int]:
        """Call the function at `address` (AAPCS); its result and the bytes of stack it used."""
        board, engine, arm = self.board, self.engine, self.arm
        low = board.stack_top - board.stack_bytes
        engine.mem_write(low, _PAINT * board.stack_bytes)
        on_stack = arguments[4:]
        pointer = (board.stack_top - 4 * len(on_stack)) & ~7
        for index, value in enumerate(on_stack):
            engine.mem_write(pointer + 4 * index, value.to_bytes(4, "little"))
        registers = (arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R1, arm.UC_ARM_REG_R2, arm.UC_ARM_REG_R3)
        for register, value in zip(registers, arguments, strict=False):
            engine.reg_write(register, value)
        engine.reg_write(arm.UC_ARM_REG_SP, pointer)
        engine.reg_write(arm.UC_ARM_REG_LR, _STOP | 1)
        self._start(address)
        painted = bytes(engine.mem_read(low, board.stack_bytes))
        untouched = len(painted) - len(painted.lstrip(_PAINT))
        status = int(engine.reg_read(arm.UC_ARM_REG_R0))
        return status - (1 << 32) if status >> 31 else status, board.stack_bytes - untouched

    def _start(self, address: int) -> None:
        ctypes.memset(ctypes.addressof(self.table), 0, ctypes.sizeof(self.table))
        try:
            self.engine.emu_start(address | 1, _STOP)
        except self.unicorn.UcError as problem:
            where = self.engine.reg_read(self.arm.UC_ARM_REG_PC)
            raise failure(f"the C failed on the emulated core: {problem}", f"pc is {where:#x}") from None

    def instructions(self) -> int:
        """Instructions that the last call executed."""
        if self.table.lost:
            raise failure("the table of executed blocks is full")
        return sum(slot.count * count_instructions(bytes(self.engine.mem_read(slot.key >> 16, slot.key & 0xFFFF)))
                   for slot in self.table.slots if slot.count and slot.key >> 16 != _STOP)


def run_in_unicorn(image: Path, program: Program, samples: Sequence[Sample], target: str, layout: Layout) -> Run:
    """Run `program`, linked into `image`, on `samples`."""
    data = image.read_bytes()
    core = _Core(data, target, BOARDS[target])
    function = symbol_address(data, f"{program.name}_run")
    outputs, stacks = [], []
    for sample, inputs, places in zip(samples, layout.inputs, layout.outputs, strict=True):
        for block, address in zip(pack(program, sample), inputs, strict=True):
            core.engine.mem_write(address, block)
        status, stack = core.call(function & ~1, [*inputs, *places])
        if status != 0:
            raise failure(f"{program.name}_run returned {status}, not 0")
        stacks.append(stack)
        read = [bytes(core.engine.mem_read(a, p.size_bytes)) for a, p in zip(places, program.outputs, strict=True)]
        outputs.append(unpack(program, b"".join(read)))
    return Run(outputs, (), core.instructions(), max(stacks))
