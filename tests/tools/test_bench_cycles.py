"""The cycle model on sequences that were priced by hand, from the tables of the Cortex-M4's reference manual."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("capstone")

from tinyc.tools.blocks import Block, Mark, instruction_offsets, instructions_by_layer, split_at_marks
from tinyc.tools.cycles import CycleModel, decode
from tinyc.tools.emulator import build_image, emulators_present, run_image
from tinyc.tools.hot_code import hot_bytes
from tinyc.tools.program import Program
from tinyc.tools.toolchain import core_compiler, routes_present

from tinyir.board import Costs
from tinyir.target import target_named

PRICED = [
    ("08681a681044", 4, "ldr r0,[r1]; ldr r2,[r3]; add r0,r2: the second load is pipelined"),
    ("08680268", 5, "ldr r0,[r1]; ldr r2,[r0]: it has to wait for its address"),
    ("11440868", 4, "add r1,r2; ldr r0,[r1]: the address was computed right before"),
    ("51f8043b51f8044b", 3, "ldr r3,[r1],#4; ldr r4,[r1],#4: an updated address is ready in time"),
    ("08604870", 2, "str r0,[r1]; strb r0,[r1,#1]"),
    ("30b5", 4, "push {r4,r5,lr}"),
    ("10bd", 3, "pop {r4,pc}, without the branch"),
    ("d2e90001", 3, "ldrd r0,r1,[r2]"),
    ("1ec8", 5, "ldm r0!,{r1-r4}"),
    ("21fb020021fb0200", 2, "smlad r0,r1,r2,r0; smlad r0,r1,r2,r0"),
    ("e2fb0301", 1, "umlal r0,r1,r2,r3"),
    ("b1fbf2f0", 8, "udiv r0,r1,r2"),
    ("21f3471008bf0846", 3, "ssat r0,#8,r1,asr #5; it eq; moveq r0,r1"),
    ("a0ee810a", 3, "vfma.f32 s0,s1,s2"),
    ("20ee810a70ee001a", 3, "vmul.f32 s0,s1,s2; vadd.f32 s3,s0,s0: the operand was computed right before"),
    ("20ee810a70ee811a", 2, "vmul.f32 s0,s1,s2; vadd.f32 s3,s1,s2"),
    ("80ee000a90ed000a", 16, "vdiv.f32 s0,s0,s0; vldr s0,[r0]"),
    ("90ed000ad0ed010a", 3, "vldr s0,[r0]; vldr s1,[r0,#4]"),
    ("b0ec040a", 5, "vldmia r0!,{s0-s3}"),
]


@pytest.mark.parametrize(("code", "cycles"), [pytest.param(c, n, id=text.partition(":")[0]) for c, n, text in PRICED])
def test_cortex_m4(code: str, cycles: int) -> None:
    assert CycleModel(Costs()).cycles(bytes.fromhex(code)) == cycles


def test_prices_come_from_the_target() -> None:
    costs = target_named("cortex-m0plus").costs
    assert costs is not None
    assert CycleModel(costs).cycles(bytes.fromhex("08681a68")) == 4  # no pipelining of loads
    assert CycleModel(Costs(divide=20)).cycles(bytes.fromhex("b1fbf2f0")) == 20


def test_unknown_code_costs_a_cycle_an_instruction() -> None:
    assert [i.name for i in decode(bytes.fromhex("ffffffff0868"))] == ["unknown", "ldr"]


def test_taken_branches_refill_the_pipeline() -> None:
    code = bytes.fromhex("0868")
    blocks = [Block(0, code, 0, False, 10), Block(0, code, 0, True, 5), Block(0, code, 1, True, 1)]
    assert CycleModel(Costs()).by_layer(blocks) == {0: 10 * 2 + 5 * 4, 1: 4}


def test_lengths_of_instructions() -> None:
    assert instruction_offsets(bytes.fromhex("086851f8043b0868"), "arm") == [0, 2, 6]
    assert instruction_offsets(bytes.fromhex("0145b7000000"), "riscv") == [0, 2]


def test_marks_split_blocks_between_layers() -> None:
    def read(address: int, size: int) -> bytes:
        return bytes(range(address, address + size))

    marks = [Mark(10, 0), Mark(14, 1), Mark(14, 2), Mark(40, 3)]
    found = list(split_at_marks(8, 8, None, True, 5, marks, read))
    assert found == [Block(8, read(8, 2), None, True, 5), Block(10, read(10, 4), 0, False, 5),
                     Block(14, read(14, 2), 2, False, 5)]
    assert list(split_at_marks(10, 2, 7, True, 1, marks, read)) == [Block(10, read(10, 2), 0, True, 1)]
    assert list(split_at_marks(20, 2, 7, True, 1, marks, read)) == [Block(20, read(20, 2), 7, True, 1)]


@pytest.mark.parametrize(("instructions", "line", "least", "most"), [
    pytest.param(200, 16, 0, 80, id="a loop that fits waits once"),
    pytest.param(600, 16, 1450, 1650, id="a cycle for each line of 16 bytes"),
    pytest.param(600, 8, 8_900, 9_200, id="three cycles for each line of 8"),
])
def test_code_that_waits_for_flash(instructions: int, line: int, least: int, most: int, tmp_path: Path) -> None:
    if "unicorn" not in emulators_present() or not routes_present("cortex-m4"):
        pytest.skip("not installed: unicorn, or a compiler for Arm")
    source = f"""
        int toy_run(void)
        {{
            for (volatile int k = 0; k < 10; k++) __asm volatile(".rept {instructions}\\n nop.w\\n .endr");
            return 0;
        }}
    """
    program = Program("toy", {"toy.c": source.encode(), "toy.h": b"int toy_run(void);\n"}, (), ())
    image = build_image(program, "cortex-m4", 1, core_compiler("cortex-m4"), tmp_path)
    run = run_image("unicorn", image, program, [()], "cortex-m4", costs=Costs(fetch_line=line))
    assert least <= sum(run.fetch_stalls.values()) <= most
    assert not run_image("unicorn", image, program, [()], "cortex-m4").fetch_stalls


def test_instructions_and_hot_code_of_layers() -> None:
    loop, rest = bytes.fromhex("0868") * 40, bytes.fromhex("0868") * 600
    blocks = [Block(0, loop, 0, True, 1000), Block(100, rest, 0, False, 1), Block(0, loop, 1, True, 1)]
    assert instructions_by_layer(blocks, "arm") == {0: 40_600, 1: 40}
    assert hot_bytes(blocks, "arm") == {0: 80, 1: 80}


def test_hot_code_that_is_entered_in_its_middle_counts_once() -> None:
    loop = bytes.fromhex("0868") * 40
    blocks = [Block(40, loop[40:], 0, True, 10), Block(0, loop, 0, True, 100)]
    assert hot_bytes(blocks, "arm") == {0: 80}
