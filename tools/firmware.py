"""What turns generated C into an image that runs alone: memory map, linker script, startup code and a small main.

    files = harness_files(program, "cortex-m4", layout)      {"tinyc_startup.c": ..., "tinyc_main.c": ...}

The image takes its inputs from fixed addresses, where the emulator puts them, runs the model once for each sample and
sends one block of results through Arm semihosting:

    for each sample: status (i32), timer ticks (u32), stack bytes (u32)      then all outputs, sample after sample

An emulator that can call functions itself (unicorn) needs only the memory map and `NAME_run`: for a core that no board
of QEMU has, the image is just that and the memory functions. Code and constants of the harness have linker sections of
their own (.harness, .harness_data), so that what is in .text and .rodata belongs to the model.

Sources: Arm AN386 (memory map of the MPS2 board), Arm "Semihosting for AArch32 and AArch64", Armv7-M reference manual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyir.diag import error

from .cores import core_named
from .program import Program
from .rows import SUFFIX

__all__ = ["RESULT_FILE", "Board", "Layout", "board_of", "entry_of", "harness_files", "linker_script", "plan_layout"]

RESULT_FILE = "result.bin"


@dataclass(frozen=True)
class Timer:
    """A down-counter that QEMU drives: one nanosecond of emulated time for each instruction."""

    address: int
    start: str
    """C that starts it, `T` being its registers."""
    value: int
    """Index of the register that counts down."""
    mask: int
    instructions: float
    """Instructions a tick."""
    wraps: bool = False
    """Whether its exception has to count how often it came around."""


_APB = Timer(0x40000000, "T[1] = 0xFFFFFFFFu; T[2] = 0xFFFFFFFFu; T[0] = 1u;", 1, 0xFFFFFFFF, 40)
"""CMSDK APB timer of the MPS2 boards, at 25 MHz."""
_SYSTICK = Timer(0xE000E010, "T[1] = 0xFFFFFFu; T[2] = 0u; T[0] = 7u;", 2, 0xFFFFFF, 31.25, True)
"""The core's own timer, at the 32 MHz of the MPS3 board."""


@dataclass(frozen=True)
class Board:
    """Where the memories of an emulated board lie. Constants go to the large one, since float weights need it."""

    code: int = 0x00000000
    code_bytes: int = 4 << 20
    ram: int = 0x20000000
    ram_bytes: int = 4 << 20
    large: int = 0x21000000
    large_bytes: int = 16 << 20
    timer: Timer = _APB
    stack_bytes: int = 64 << 10
    traffic_bytes: int = 4 << 20
    """The end of the large memory, for inputs and outputs."""

    @property
    def stack_top(self) -> int:
        return self.ram + self.ram_bytes

    @property
    def traffic(self) -> int:
        return self.large + self.large_bytes - self.traffic_bytes


_BOARDS = {
    "cortex-m7": Board(large=0x60000000),
    "cortex-m55": Board(code_bytes=512 << 10, ram=0x21000000, large=0x60000000, timer=_SYSTICK),
    # Code and constants within reach of each other, and no address above 2 GB, which unicorn would sign-extend.
    "rv32imc": Board(code=0x10000000),
}


def board_of(target: str) -> Board:
    """The memory map of the board that stands for `target`."""
    return _BOARDS.get(core_named(target).name, Board())


def entry_of(program: Program, target: str) -> str:
    """The symbol where the image begins."""
    return "Reset_Handler" if core_named(target).machine is not None else f"{program.name}_run"


def harness_files(program: Program, target: str, layout: Layout, *, layers: int = 0) -> dict[str, bytes]:
    """What is built together with the C of `program`; `layers` > 0: the C calls `tinyc_mark` with smaller numbers."""
    if core_named(target).machine is None:
        return {"tinyc_startup.c": _MEMORY_FUNCTIONS.encode()}
    board = board_of(target)
    return {"tinyc_startup.c": _startup_source(board).encode(),
            "tinyc_main.c": _main_source(program, board, layout, layers).encode()}


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
  .harness : {{
    KEEP(*(.vectors)) *tinyc_startup.o(.text .text.*) *tinyc_main.o(.text .text.*) *{SUFFIX}.o(.text .text.*)
  }} > CODE
  .text : {{ *(.text .text.*) }} > CODE
  .ARM.exidx : {{ *(.ARM.exidx*) }} > CODE
  .harness_data : {{ *tinyc_startup.o(.rodata .rodata.*) *tinyc_main.o(.rodata .rodata.*) }} > LARGE
  .rodata : {{ *(.rodata .rodata.*) }} > LARGE
  .data : {{ *(.data .data.*) }} > RAM
  .bss (NOLOAD) : {{ *(.bss .bss.* COMMON) }} > RAM
  /DISCARD/ : {{ *(.ARM.extab* .ARM.attributes .riscv.attributes .comment .note*) }}
}}
"""


_MEMORY_FUNCTIONS = """\
#include <stddef.h>
#include <stdint.h>

/* Weak, so that a support library's own come first; volatile, so that no loop becomes a call of itself. */
#define MEMORY_FUNCTION __attribute__((weak, used))

MEMORY_FUNCTION void *memcpy(void *restrict to, const void *restrict from, size_t count)
{
    volatile unsigned char *t = to;
    const unsigned char *f = from;
    while (count-- > 0u) *t++ = *f++;
    return to;
}

MEMORY_FUNCTION void *memmove(void *to, const void *from, size_t count)
{
    volatile unsigned char *t = to;
    const volatile unsigned char *f = from;
    if ((uintptr_t)to < (uintptr_t)from) return memcpy(to, from, count);
    while (count-- > 0u) t[count] = f[count];
    return to;
}

MEMORY_FUNCTION void *memset(void *to, int value, size_t count)
{
    volatile unsigned char *t = to;
    while (count-- > 0u) *t++ = (unsigned char)value;
    return to;
}
"""


def _startup_source(board: Board) -> str:
    """Vector table, reset handler (switches the FPU on), fault handler, and the memory functions that every
    freestanding C compiler may call."""
    return f"""\
{_MEMORY_FUNCTIONS}
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

volatile uint32_t tinyc_wraps;

static void Timer_Handler(void)
{{
    tinyc_wraps++;
}}

typedef void (*handler)(void);
__attribute__((section(".vectors"), used)) static const handler vectors[16] = {{
    (handler){board.stack_top:#x}u, Reset_Handler, Fault_Handler, Fault_Handler,
    Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler,
    Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler,
    Fault_Handler, Fault_Handler, Fault_Handler, Timer_Handler,
}};
"""


def _now(timer: Timer) -> str:
    """C functions that start the timer and read the ticks since."""
    wraps = f"tinyc_wraps * {timer.mask + 1}u + " if timer.wraps else ""
    return f"""\
#define T ((volatile uint32_t *){timer.address:#x}u)
extern volatile uint32_t tinyc_wraps;

static void start_timer(void)
{{
    {timer.start}
}}

static inline uint32_t now(void)
{{
    return {wraps}{timer.mask:#x}u - T[{timer.value}];
}}
"""


_MARK = """
static uint32_t layer_ticks[{layers}], layer_start, layer_now;

/* The C calls this before each layer. */
void tinyc_mark(uint32_t layer)
{{
    const uint32_t time = now();
    layer_ticks[layer_now] += time - layer_start;
    layer_now = layer;
    layer_start = now();
}}
"""


def _main_source(program: Program, board: Board, layout: Layout, layers: int) -> str:
    """A main that runs every sample, measures each and writes the results to RESULT_FILE."""
    samples = len(layout.inputs)
    ports = max(1, len(program.inputs) + len(program.outputs))
    rows = [", ".join(f"{address:#x}u" for address in (*i, *o))
            for i, o in zip(layout.inputs, layout.outputs, strict=True)]
    table = "\n".join(f"    {{{row}}}," for row in rows)
    arguments = ", ".join(f"(void *)at[{n}]" for n in range(len(program.inputs) + len(program.outputs)))
    mark = _MARK.format(layers=layers) if layers else ""
    end = "tinyc_mark(0u);" if layers else ""
    return f"""\
#include <stddef.h>
#include <stdint.h>
#include "{program.header}"

{_now(board.timer)}{mark}
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
    start = now();
    result[sample].status = {program.name}_run({arguments});
    result[sample].ticks = now() - start;
    {end}
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
    start_timer();
    for (sample = 0; sample < {samples}u; sample++) measure(sample);
    file = semihost(0x01u, open);
    write_block(file, result, sizeof result);
    write_block(file, (const void *){layout.output_start:#x}u, {layout.end - layout.output_start}u);
    {"write_block(file, layer_ticks, sizeof layer_ticks);" if layers else ""}
    (void)semihost(0x02u, &file);
    return 0;
}}
"""
