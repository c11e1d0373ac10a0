"""The unicorn side of `emulator`: calls `NAME_run` on a bare emulated core and counts what it executes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tinyir.board import Costs

from .block_counter import BlockCounter
from .blocks import MARK_PREFIX, Mark, instructions_by_layer
from .cores import Core, core_named
from .elf import read_segments, read_symbols, symbol_address
from .firmware import Board, Layout, board_of
from .harness import Run, failure, pack, unpack
from .program import Program, Sample

__all__ = ["marks_of", "run_in_unicorn"]

_STOP = 0x3FF000
"""A return address at the end of the code memory, relative to its begin, where nothing lies: reaching it ends the
run."""
_PAINT = b"\xa5"


def marks_of(image: bytes) -> list[Mark]:
    """The marks in an image: symbols `tinyc_layer_NUMBER_...`."""
    return sorted(Mark(s.address & ~1, int(s.name[len(MARK_PREFIX):].partition("_")[0]))
                  for s in read_symbols(image) if s.section and s.name.startswith(MARK_PREFIX))


def _page_up(size: int) -> int:
    return -(-size // 4096) * 4096


class _Registers:
    """The registers of the calling convention (AAPCS, or the RISC-V one), as unicorn calls them."""

    def __init__(self, core: Core) -> None:
        arm = core.family == "arm"
        # Its modules are only partly typed.
        constants: Any = import_module("unicorn.arm_const" if arm else "unicorn.riscv_const")
        prefix, names = ("UC_ARM_REG_", "R0 R1 R2 R3") if arm else ("UC_RISCV_REG_", "A0 A1 A2 A3 A4 A5 A6 A7")
        self.arguments = [getattr(constants, prefix + name) for name in names.split()]
        self.sp, self.pc = getattr(constants, prefix + "SP"), getattr(constants, prefix + "PC")
        self.link = getattr(constants, prefix + ("LR" if arm else "RA"))
        self.model = getattr(constants, core.unicorn or "")


class _Machine:
    """One emulated processor with an image in its memory."""

    def __init__(self, image: bytes, core: Core, board: Board, costs: Costs | None) -> None:
        self.unicorn: Any = import_module("unicorn")
        self.core, self.board, self.registers = core, board, _Registers(core)
        self.engine = self._engine()
        for start, size in ((board.code, board.code_bytes), (board.ram, board.ram_bytes),
                            (board.large, board.large_bytes), (0xE000E000, 4096)):
            self.engine.mem_map(start, _page_up(size))
        for segment in read_segments(image):
            self.engine.mem_write(segment.address, segment.data)
        if core.fpu:
            self._enable_fpu()
        self.counter = BlockCounter(self.engine, marks_of(image), costs)

    def _engine(self) -> Any:
        u = self.unicorn
        if self.core.family == "arm":
            engine = u.Uc(u.UC_ARCH_ARM, u.UC_MODE_THUMB | u.UC_MODE_MCLASS)
        else:
            engine = u.Uc(u.UC_ARCH_RISCV, u.UC_MODE_RISCV32)
        engine.ctl_set_cpu_model(self.registers.model)
        return engine

    def _enable_fpu(self) -> None:
        arm: Any = import_module("unicorn.arm_const")
        self.engine.reg_write(arm.UC_ARM_REG_C1_C0_2, 0xF << 20)
        self.engine.reg_write(arm.UC_ARM_REG_FPEXC, 1 << 30)

    @property
    def _thumb(self) -> int:
        return 1 if self.core.family == "arm" else 0

    @property
    def stop(self) -> int:
        """Where a call returns to."""
        return self.board.code + _STOP

    def call(self, address: int, arguments: Sequence[int]) -> tuple[int, int]:
        """Call the function at `address`; its result and the bytes of stack it used."""
        board, engine, registers = self.board, self.engine, self.registers
        low = board.stack_top - board.stack_bytes
        engine.mem_write(low, _PAINT * board.stack_bytes)
        on_stack = arguments[len(registers.arguments):]
        pointer = (board.stack_top - 4 * len(on_stack)) & ~15
        for index, value in enumerate(on_stack):
            engine.mem_write(pointer + 4 * index, value.to_bytes(4, "little"))
        for register, value in zip(registers.arguments, arguments, strict=False):
            engine.reg_write(register, value)
        engine.reg_write(registers.sp, pointer)
        engine.reg_write(registers.link, self.stop | self._thumb)
        self._start(address)
        painted = bytes(engine.mem_read(low, board.stack_bytes))
        untouched = len(painted) - len(painted.lstrip(_PAINT))
        status = int(engine.reg_read(registers.arguments[0])) & 0xFFFFFFFF
        return status - (1 << 32) if status >> 31 else status, board.stack_bytes - untouched

    def _start(self, address: int) -> None:
        self.counter.clear()
        try:
            self.engine.emu_start(address | self._thumb, self.stop)
        except self.unicorn.UcError as problem:
            where = self.engine.reg_read(self.registers.pc)
            raise failure(f"the C failed on the emulated core: {problem}", f"pc is {where:#x}") from None

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the emulated memory."""
        return bytes(self.engine.mem_read(address, size))


def run_in_unicorn(image: Path, program: Program, samples: Sequence[Sample], target: str, layout: Layout,
                   costs: Costs | None = None) -> Run:
    """Run `program`, linked into `image`, on `samples`; `costs` describe the flash, if code has to wait for it."""
    data = image.read_bytes()
    core = core_named(target)
    machine = _Machine(data, core, board_of(target), costs)
    function = symbol_address(data, f"{program.name}_run") & ~1
    outputs, stacks = [], []
    for sample, inputs, places in zip(samples, layout.inputs, layout.outputs, strict=True):
        for block, address in zip(pack(program, sample), inputs, strict=True):
            machine.engine.mem_write(address, block)
        status, stack = machine.call(function, [*inputs, *places])
        if status != 0:
            raise failure(f"{program.name}_run returned {status}, not 0")
        stacks.append(stack)
        read = [machine.read(a, p.size_bytes) for a, p in zip(places, program.outputs, strict=True)]
        outputs.append(unpack(program, b"".join(read)))
    blocks = machine.counter.blocks(machine.read, machine.stop)
    counts = instructions_by_layer(blocks, core.family)
    return Run(outputs, (), sum(counts.values()), max(stacks), blocks=blocks, fetch_stalls=machine.counter.stalls())
