"""The assembly of `swar_columns` for RISC-V with 32 registers and multiplications: two channels at a time.

    lb t4; lb t5                        two weights
    lw t6; mul; add; mul; add           a word, two pixels of both channels
    lw s9; mul; add; mul; add           the other word

for an input of four pixels; what takes sums out of a segment's words (`srai`, two additions for each of four) starts
the next one, too: the first product is added to the offset of the lower sums.
Source: The RISC-V Instruction Set Manual, Volume I (RV32I, M).
"""

from __future__ import annotations

__all__ = ["RISCV", "RISCV_SPOILED", "riscv_text"]

RISCV = "!defined(TINYC_NO_ASM) && defined(__riscv_mul) && __riscv_xlen == 32 && !defined(__riscv_32e)"
"""Where the C compiler takes these instructions."""
RISCV_SPOILED = "a0 a1 a2 a3 a4 a5 a6 a7 t0 t1 t2 t3 t4 t5 t6 memory"
_SAVED = 12
_WORDS, _UPPER, _SUMS = ("s0", "s4", "s2", "s6"), ("s1", "s5", "s3", "s7"), ("t0", "t1", "t2", "t3")
"""Sums of words, upper sums and sums of a segment: of both words of the first channel, then of the second."""


def riscv_text(pixels: int) -> str:
    """The instructions of tc_swar_sums_2_of<pixels>."""
    words = pixels // 2
    used = [2 * channel + word for channel in range(2) for word in range(words)]
    next_ = [f"addi    a6, a6, {8 * words}", "addi    a7, a7, 16"]
    lines = [f"addi    sp, sp, -{4 * _SAVED}", *(f"sw      s{i}, {4 * i}(sp)" for i in range(_SAVED)), "lui     s10, 8",
             "1: // two channels",
             "mv      a6, a0", "mv      a7, a1",
             *(f"lw      {_WORDS[i]}, {4 * i}(a2)" for i in (0, 2)),
             *(f"lw      {_UPPER[i]}, {4 * i + 4}(a2)" for i in (0, 2)),
             *(f"mv      {registers[i + 1]}, {registers[i]}" for registers in (_WORDS, _UPPER) for i in (0, 2)
               if words > 1),
             "j       4f",
             "2: // the first two inputs of a segment", *_input(0, words, "s10"), *_input(1, words), *next_,
             "beq     a6, s8, 3f",
             "20: // two inputs", *_input(0, words), *_input(1, words), *next_, "bne     a6, s8, 20b",
             "3: // the end of a segment",
             *(f"add     {_WORDS[i]}, {_WORDS[i]}, {_SUMS[i]}" for i in used),
             *(f"srai    {_SUMS[i]}, {_SUMS[i]}, 16" for i in used),
             *(f"add     {_UPPER[i]}, {_UPPER[i]}, {_SUMS[i]}" for i in used),
             "4:", "lbu     s8, 0(a3)", "addi    a3, a3, 1", f"slli    s8, s8, {pixels // 2 + 2}",
             "add     s8, s8, a6", "bne     s8, a6, 2b",
             *(f"slli    {_SUMS[i]}, {_UPPER[i]}, 16" for i in used),
             *(f"sub     {_WORDS[i]}, {_WORDS[i]}, {_SUMS[i]}" for i in used),
             *(f"sw      {register}, {4 * place}(a5)" for place, register in
               enumerate(r for i in used for r in (_WORDS[i], _UPPER[i]))),
             "addi    a1, a1, 2", "addi    a2, a2, 16", f"addi    a5, a5, {8 * pixels}", "addi    a4, a4, -2",
             "bgtz    a4, 1b",
             *(f"lw      s{i}, {4 * i}(sp)" for i in range(_SAVED)), f"addi    sp, sp, {4 * _SAVED}", "ret"]
    return "\n".join(line if line[0].isdigit() else f"    {line}" for line in lines)


def _input(k: int, words: int, begin: str = "") -> list[str]:
    """Instructions for input `k` of two: two channels times its words, added to the register `begin`, or to sums."""
    lines = [f"lb      t4, {8 * k}(a7)", f"lb      t5, {8 * k + 1}(a7)",
             *(f"lw      {x}, {4 * (words * k + word)}(a6)" for word, x in enumerate(("t6", "s9")[:words]))]
    for word, x in enumerate(("t6", "s9")[:words]):
        for channel, weight in enumerate(("t4", "t5")):
            total = _SUMS[2 * channel + word]
            lines += [f"mul     s11, {weight}, {x}", f"add     {total}, {begin or total}, s11"]
    return lines
