"""What turns generated C into an image that runs alone: memory map, linker script, startup code and a small main.

The image takes its inputs from fixed addresses, where the emulator puts them, runs the model once for each sample and
sends one block of results through Arm semihosting:

    for each sample: status (i32), timer ticks (u32), stack bytes (u32)      then all outputs, sample after sample

An emulator that can call functions itself (unicorn) needs only the memory map and `NAME_run`.
Sources: Arm AN386 (memory map of the MPS2 board), Arm "Semihosting for AArch32 and AArch64", Armv7-M reference manual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyir.diag import error

from .program import Program

__all__ = ["BOARDS", "RESULT_FILE", "TICK", "Board", "Layout", "linker_script", "main_source", "plan_layout",
           "startup_source"]

RESULT_FILE = "result.bin"
TICK = 40
"""Instructions a tick of the board's 25 MHz timer, when each instruction takes one nanosecond of emulated time."""


@dataclass(frozen=True)
class Board:
    """Where the memories of an emulated board lie. Constants go to the large one, since float weights need it."""

    code: int = 0x00000000
    code_bytes: int = 4 << 20
    ram: int = 0x20000000
    ram_bytes: int = 4 << 20
    large: int = 0x21000000
    large_bytes: int = 16 << 20
    timer: int = 0x40000000
    stack_bytes: int = 64 << 10
    traffic_bytes: int = 4 << 20
    """The end of the large memory, for inputs and outputs."""

    @property
    def stack_top(self) -> int:
        return self.ram + self.ram_bytes

    @property
    def traffic(self) -> int:
        return self.large + self.large_bytes - self.traffic_bytes


BOARDS = {"cortex-m4": Board(), "cortex-m7": Board(large=0x60000000)}


@dataclass(frozen=True)
class Layout:
    """Addresses of one run: each sample's inputs and outputs, then nothing."""

    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    output_start: int
    end: int


def _place(sizes: Sequence[int], samples: int, address: int) -> tuple[tuple[tuple[int, ...], ...], int]:
    rows = []
    for _ in range(samples):
        row = []
        for size in sizes:
            row.append(address)
            address += -(-size // 16) * 16
        rows.append(tuple(row))
    return tuple(rows), address


def plan_layout(program: Program, board: Board, samples: int) -> Layout:
    """Where the inputs and outputs of `samples` runs lie. Raises CompileError when even they do not fit."""
    inputs, middle = _place([p.size_bytes for p in program.inputs], samples, board.traffic)
    outputs, end = _place([p.size_bytes for p in program.outputs], samples, middle)
    if end > board.traffic + board.traffic_bytes:
        raise error(f"inputs and outputs of {samples} sample(s) take {end - board.traffic} bytes; the emulated board "
                    f"has {board.traffic_bytes}", help="run it on the host: --target generic")
    return Layout(inputs, outputs, middle, end)


def linker_script(board: Board) -> str:
    """Code first, constants in the large memory, the arena and other variables in RAM, below the stack."""
    return f"""\
MEMORY
{{
  CODE (rx) : ORIGIN = {board.code:#x}, LENGTH = {board.code_bytes:#x}
  RAM (rwx) : ORIGIN = {board.ram:#x}, LENGTH = {board.ram_bytes - board.stack_bytes:#x}
  LARGE (rw) : ORIGIN = {board.large:#x}, LENGTH = {board.large_bytes - board.traffic_bytes:#x}
}}
SECTIONS
{{
  .text : {{ KEEP(*(.vectors)) *(.text .text.*) }} > CODE
  .ARM.exidx : {{ *(.ARM.exidx*) }} > CODE
  .rodata : {{ *(.rodata .rodata.*) }} > LARGE
  .data : {{ *(.data .data.*) }} > RAM
  .bss (NOLOAD) : {{ *(.bss .bss.* COMMON) }} > RAM
  /DISCARD/ : {{ *(.ARM.extab* .ARM.attributes .comment .note*) }}
}}
"""


def startup_source(board: Board) -> bytes:
    """Vector table, reset handler (switches the FPU on), fault handler, and the memory functions that every
    freestanding C compiler may call."""
    return f"""\
#include <stddef.h>
#include <stdint.h>

int main(void);
void Reset_Handler(void);
void Fault_Handler(void);

static void semihost(uint32_t operation, const void *argument)
{{
    __asm volatile("mov r0, %0\\n mov r1, %1\\n bkpt 0xAB" : : "r"(operation), "r"(argument) : "r0", "r1", "memory");
}}

void Fault_Handler(void)
{{
    semihost(0x04u, "fault\\n");
    semihost(0x18u, (const void *)0x20023u); /* ADP_Stopped_RunTimeErrorUnknown */
    for (;;) {{ }}
}}

void Reset_Handler(void)
{{
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: full access to CP10 and CP11 */
    __asm volatile("dsb\\n isb" : : : "memory");
    (void)main();
    semihost(0x18u, (const void *)0x20026u); /* ADP_Stopped_ApplicationExit */
    for (;;) {{ }}
}}

typedef void (*handler)(void);
__attribute__((section(".vectors"), used)) static const handler vectors[16] = {{
    (handler){board.stack_top:#x}u, Reset_Handler, Fault_Handler, Fault_Handler,
    Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler,
    Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler,
    Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler,
}};

/* Weak, so that a support library's own come first; volatile, so that no loop becomes a call of itself. */
#define MEMORY_FUNCTION __attribute__((weak, used))

MEMORY_FUNCTION void *memcpy(void *restrict to, const void *restrict from, size_t count)
{{
    volatile unsigned char *t = to;
    const unsigned char *f = from;
    while (count-- > 0u) *t++ = *f++;
    return to;
}}

MEMORY_FUNCTION void *memmove(void *to, const void *from, size_t count)
{{
    volatile unsigned char *t = to;
    const volatile unsigned char *f = from;
    if ((uintptr_t)to < (uintptr_t)from) return memcpy(to, from, count);
    while (count-- > 0u) t[count] = f[count];
    return to;
}}

MEMORY_FUNCTION void *memset(void *to, int value, size_t count)
{{
    volatile unsigned char *t = to;
    while (count-- > 0u) *t++ = (unsigned char)value;
    return to;
}}
""".encode()


def main_source(program: Program, board: Board, layout: Layout) -> bytes:
    """A main that runs every sample, measures each and writes the results to RESULT_FILE."""
    samples = len(layout.inputs)
    ports = max(1, len(program.inputs) + len(program.outputs))
    rows = [", ".join(f"{address:#x}u" for address in (*i, *o))
            for i, o in zip(layout.inputs, layout.outputs, strict=True)]
    table = "\n".join(f"    {{{row}}}," for row in rows)
    arguments = ", ".join(f"(void *)at[{n}]" for n in range(len(program.inputs) + len(program.outputs)))
    return f"""\
#include <stddef.h>
#include <stdint.h>
#include "{program.header}"

#define TIMER ((volatile uint32_t *){board.timer:#x}u)

static const uint32_t address[{samples}][{ports}] = {{
{table}
}};
static struct {{ int32_t status; uint32_t ticks; uint32_t stack; }} result[{samples}];

static uint32_t semihost(uint32_t operation, const void *argument)
{{
    uint32_t answer;
    __asm volatile("mov r0, %1\\n mov r1, %2\\n bkpt 0xAB\\n mov %0, r0"
                   : "=r"(answer) : "r"(operation), "r"(argument) : "r0", "r1", "memory");
    return answer;
}}

static void __attribute__((noinline)) measure(uint32_t sample)
{{
    const uint32_t *at = address[sample];
    volatile uint32_t *low = (volatile uint32_t *){board.stack_top - board.stack_bytes:#x}u;
    volatile uint32_t *word;
    uint32_t here, start;
    (void)at;
    __asm volatile("mov %0, sp" : "=r"(here));
    for (word = low; (uintptr_t)word < here; word++) *word = 0xA5A5A5A5u;
    start = TIMER[1];
    result[sample].status = {program.name}_run({arguments});
    result[sample].ticks = start - TIMER[1];
    for (word = low; (uintptr_t)word < here && *word == 0xA5A5A5A5u; word++) {{ }}
    result[sample].stack = here - (uint32_t)(uintptr_t)word;
}}

static void write_block(uint32_t file, const void *data, uint32_t size)
{{
    uint32_t arguments[3] = {{file, (uint32_t)(uintptr_t)data, size}};
    (void)semihost(0x05u, arguments);
}}

int main(void)
{{
    uint32_t sample, file;
    static const char path[] = "{RESULT_FILE}";
    uint32_t open[3] = {{(uint32_t)(uintptr_t)path, 5u, sizeof path - 1u}};
    TIMER[1] = 0xFFFFFFFFu; /* value */
    TIMER[2] = 0xFFFFFFFFu; /* reload */
    TIMER[0] = 1u;
    for (sample = 0; sample < {samples}u; sample++) measure(sample);
    file = semihost(0x01u, open);
    write_block(file, result, sizeof result);
    write_block(file, (const void *){layout.output_start:#x}u, {layout.end - layout.output_start}u);
    (void)semihost(0x02u, &file);
    return 0;
}}
""".encode()
