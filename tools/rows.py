"""Programs whose inputs do not come as pointers, made to take them so: what the harnesses run.

    int vww_run_rows(vww_row row, void *user, int8_t *output);             the C of the model
    int vww_whole_run(const void *input, void *output);                    around it: copies the rows of `input`

The function around the model also watches that each row is asked for once, in order: its status is 1 if not. Inputs
that lie in the arena are copied there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tinyir.ir import Module

from .program import Program

__all__ = ["SUFFIX", "RowInput", "held_inputs", "row_inputs", "takes_wholes"]

SUFFIX = "_whole"
"""What the name of such a program ends with, and the stem of the file that it has more."""
_ELEMENTS = {"f32": "float", "f64": "double", "bool": "uint8_t"}


@dataclass(frozen=True)
class RowInput:
    """An input that comes row by row."""

    rows: int
    row_bytes: int
    element: str
    """The C type of an element."""


def row_inputs(module: Module) -> tuple[RowInput | None, ...]:
    """For each input of a module at mem level: how its rows are asked for; None if it comes as a pointer."""
    pulls = {op.reads[0]: op for op in module.walk() if op.opname == "k.pull_rows"}
    found: list[RowInput | None] = []
    for value in module.main.inputs:
        pull, type_ = pulls.get(value), value.type
        rows = 0 if pull is None else int(pull.attrs["height"])
        name = type_.dtype.name
        element = _ELEMENTS.get(name) or f"{'u' if name[0] == 'u' else ''}int{type_.dtype.bits}_t"
        found.append(RowInput(rows, type_.size_bytes // rows, element) if rows else None)
    return tuple(found)


def held_inputs(module: Module) -> tuple[int, ...]:
    """For each input of a module at mem level: its bytes if it lies in the arena, else 0."""
    held = {op.reads[0] for op in module.walk() if op.opname == "k.hold_input"}
    return tuple(value.type.size_bytes if value in held else 0 for value in module.main.inputs)


_SOURCE = """\
#include <stddef.h>
#include <stdint.h>
#include "{header}"
#include "{whole}.h"

static int32_t wrong;
{callbacks}
int {whole}_run({parameters})
{{
    int status;
    wrong = 0;
{begin}
    status = {name}_{run}({arguments});
{end}
    return status != 0 ? status : wrong;
}}
"""
_COPY = """
static void copy(void *to, const void *from, size_t size)
{
    for (size_t i = 0; i < size; i++) ((volatile unsigned char *)to)[i] = ((const unsigned char *)from)[i];
}
"""
_CALLBACK = """
typedef {word} __attribute__((may_alias)) word_{i};
static int32_t next_{i};
static void row_{i}(void *user, int32_t row, {element} *to)
{{
    const word_{i} *from = (const word_{i} *)(const void *)((const unsigned char *)user + row * {row_bytes});
    for (int32_t i = 0; i < {words}; i++) ((word_{i} *)(void *)to)[i] = from[i];
    if (row != next_{i}) wrong = 1;
    next_{i} = row + 1;
}}
"""
_HOOKED = """
int {whole}_run_hooked({parameters}, {name}_hook hook, void *hook_user)
{{
    int status;
    wrong = 0;
{begin}
    status = {name}_{run}_hooked({arguments}, hook, hook_user);
{end}
    return status != 0 ? status : wrong;
}}
"""


def takes_wholes(program: Program, module: Module, *, hooks: bool = False) -> Program:
    """A program around `program`, the C of `module`, that takes pointers to all inputs; itself if it does so itself."""
    inputs, held = row_inputs(module), held_inputs(module)
    if not any(inputs) and not any(held):
        return program
    whole = f"{program.name}{SUFFIX}"
    arenas = ["arena"] if program.caller_arena is not None else []
    outputs = [f"out_{i}" for i in range(len(program.outputs))]
    names = [*arenas, *(f"in_{i}" for i in range(len(inputs))), *outputs]
    passed = [*arenas, *(f"in_{i}" if rows is None else f"row_{i}, in_{i}"
                         for i, (rows, size) in enumerate(zip(inputs, held, strict=True)) if not size), *outputs]
    numbers = [(i, rows) for i, rows in enumerate(inputs) if rows is not None]
    copies = [f"    copy({program.name}_input{f'_{i}' if len(held) > 1 else ''}({''.join(arenas)}), in_{i}, {size});"
              for i, size in enumerate(held) if size]
    values = {
        "name": program.name, "whole": whole, "header": program.header, "arguments": ", ".join(passed),
        "run": "run_rows" if numbers else "run", "parameters": ", ".join(f"void *{name}" for name in names),
        "begin": "\n".join([*(f"    next_{i} = 0;" for i, _ in numbers), *copies]),
        "end": "\n".join(f"    if (next_{i} != {rows.rows}) wrong = 1;" for i, rows in numbers),
        "callbacks": (_COPY if copies else "") + "".join(_callback(i, rows) for i, rows in numbers),
    }
    source = _SOURCE.format(**values) + (_HOOKED.format(**values) if hooks else "")
    header = f"#include \"{program.header}\"\nint {whole}_run({values['parameters']});\n"
    if hooks:
        header += f"int {whole}_run_hooked({values['parameters']}, {program.name}_hook hook, void *hook_user);\n"
    return replace(program, name=whole, files={**program.files, f"{whole}.c": source.encode(),
                                               f"{whole}.h": header.encode()})


def _callback(number: int, rows: RowInput) -> str:
    """Copies words where rows consist of them: both images and rings begin at multiples of 16 bytes."""
    word, size = ("uint32_t", 4) if rows.row_bytes % 4 == 0 else ("uint8_t", 1)
    return _CALLBACK.format(i=number, element=rows.element, word=word, words=rows.row_bytes // size,
                            row_bytes=rows.row_bytes)
