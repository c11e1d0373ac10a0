"""Cycles of straight machine code on a single-issue Arm core in order, by the table of its target.

    CycleModel(Costs()).cycles(code)        ldr r0,[r1]; ldr r2,[r3]; add r0,r2     2 + 1 + 1 = 4

Memory never waits (no flash wait states, no contention, no penalty for unaligned data), and what an IT block skips
costs as if it ran. A load right behind a load is pipelined unless its address is that load's result. A branch that is
taken costs the refill of the pipeline, which who counts the branches adds.

Source: Arm Cortex-M4 Technical Reference Manual, sections 3.3.1 and 3.3.3. CoreMark comes out at 2.3 to 2.4 a MHz, and
boards with that core and the same family of compilers reach 2.2 to 2.6 (tests/bench/coremark.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from tinyir.board import Costs

from .blocks import Block, instruction_offsets

__all__ = ["ASSUMPTIONS", "CycleModel", "Instruction", "decode"]

ASSUMPTIONS = ("single issue, in order; memory without wait states; a load behind a load is pipelined; a taken branch "
               "refills the pipeline; +1 for an address or a float operand that was computed right before")

_STACK = ("push", "pop", "vpush", "vpop")
_MULTIPLE = ("ldm", "stm", "vldm", "vstm")
_PAIRS = ("ldrd", "strd", "ldrexd", "strexd")
_LOADS = ("ldr", "ldm", "pop", "vldr", "vldm", "vpop", "tbb", "tbh")
_STORES = ("str", "stm", "push", "vstr", "vstm", "vpush")
_MOVES = ("vmov", "vmrs", "vmsr")
_FUSED = ("vmla", "vmls", "vnmla", "vnmls", "vfma", "vfms", "vfnma", "vfnms")
_LONG = ("umull", "smull", "umlal", "smlal", "umaal")


@dataclass(frozen=True)
class Instruction:
    """What the model needs to know of one instruction."""

    name: str
    """Mnemonic without condition and width: ldr, smlad, vfma."""
    loaded: frozenset[int]
    """Registers that a load fills."""
    computed: frozenset[int]
    """Registers that something else fills, the updated address of a load included."""
    used: frozenset[int]
    address: frozenset[int]
    """Registers that the address of a load or store is made of."""
    words: int
    """Registers that a multiple load or store moves."""

    @property
    def is_multiple(self) -> bool:
        return self.name.startswith((*_MULTIPLE, *_STACK, *_PAIRS))

    @property
    def is_load(self) -> bool:
        return self.name.startswith(_LOADS)

    @property
    def is_memory(self) -> bool:
        """Whether it loads or stores."""
        return self.name.startswith((*_LOADS, *_STORES))

    @property
    def is_float(self) -> bool:
        """Whether it computes with floats."""
        return self.name.startswith("v") and not self.is_memory and self.name not in _MOVES

    @property
    def slow(self) -> frozenset[int]:
        """What the address of the next instruction had better not need; an updated address is ready in time."""
        return self.loaded if self.is_memory else self.computed


@lru_cache(maxsize=1)
def _decoder() -> Any:
    # Its modules are only partly typed.
    capstone: Any = import_module("capstone")
    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    decoder.detail = True
    return decoder


def decode(code: bytes) -> list[Instruction]:
    """The Thumb instructions of `code`. One that capstone does not know is called "unknown" and touches nothing."""
    offsets = instruction_offsets(code, "arm")
    return [_decode_one(code[start:end]) for start, end in zip(offsets, [*offsets[1:], len(code)], strict=True)]


def _decode_one(code: bytes) -> Instruction:
    found = next(_decoder().disasm(code, 0, 1), None)
    nothing: frozenset[int] = frozenset()
    return Instruction("unknown", nothing, nothing, nothing, nothing, 0) if found is None else _instruction(found)


def _instruction(found: Any) -> Instruction:
    name = str(found.insn_name())
    used, written = (frozenset(group) for group in found.regs_access())
    registers = [o.reg for o in found.operands if o.type == 1]
    memory = [register for o in found.operands if o.type == 3 for register in (o.mem.base, o.mem.index) if register]
    address = registers[:1] if name.startswith(_MULTIPLE) else memory
    moved = _moved(name, registers)
    loaded = frozenset(moved if name.startswith(_LOADS) else ())
    return Instruction(name, loaded, written - loaded, used, frozenset(address), len(moved))


def _moved(name: str, registers: list[int]) -> list[int]:
    """The registers whose contents a load or store moves."""
    if name.startswith(_STACK):
        return registers
    if name.startswith(_MULTIPLE):
        return registers[1:]
    return registers[:2 if name.startswith(_PAIRS) else 1]


class CycleModel:
    """Prices blocks of Thumb code by `costs`; each distinct one is decoded once."""

    def __init__(self, costs: Costs) -> None:
        self.costs = costs
        self._known: dict[bytes, int] = {}

    def by_layer(self, blocks: Sequence[Block]) -> dict[int | None, int]:
        """Cycles of each layer."""
        found: dict[int | None, int] = {}
        for block in blocks:
            each = self.cycles(block.code) + (self.costs.branch if block.taken else 0)
            found[block.layer] = found.get(block.layer, 0) + block.count * each
        return found

    def cycles(self, code: bytes) -> int:
        """Cycles of `code`, run once from its begin to its end."""
        if code not in self._known:
            instructions = decode(code)
            pairs = zip([None, *instructions], instructions, strict=False)
            self._known[code] = sum(self._price(before, now) for before, now in pairs)
        return self._known[code]

    def _price(self, before: Instruction | None, now: Instruction) -> int:
        cycles = self._alone(now)
        if before is None:
            return cycles
        if now.is_load and not now.is_multiple and before.is_load and not before.loaded & now.address:
            cycles = self.costs.load_next
        if before.slow & now.address:
            cycles += self.costs.address
        if before.is_float and before.computed & now.used:
            cycles += self.costs.float_use
        return cycles

    def _alone(self, now: Instruction) -> int:
        if now.is_multiple:
            return 1 + now.words
        if now.is_memory:
            return self.costs.load if now.is_load else self.costs.store
        return self._computing(now.name)

    def _computing(self, name: str) -> int:
        costs = self.costs
        if name in ("sdiv", "udiv"):
            return costs.divide
        if name in ("vdiv", "vsqrt"):
            return costs.float_divide
        if name in _FUSED:
            return costs.float_fma
        if name in ("mul", "muls", "mla", "mls"):
            return costs.multiply
        return costs.long_multiply if name in _LONG else 1
