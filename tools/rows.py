"""Programs whose inputs come row by row, made to take them as wholes: what the harnesses run.

    int vww_run_rows(vww_row row, void *user, int8_t *output);             the C of the model
    int vww_whole_run(const void *input, void *output);                    around it: copies the rows of `input`

The function around the model also watches that each row is asked for once, in order: its status is 1 if not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tinyir.ir import Module

from .program import Program

__all__ = ["SUFFIX", "RowInput", "row_inputs", "takes_wholes"]

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
    status = {name}_run_rows({arguments});
{end}
    return status != 0 ? status : wrong;
}}
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
    status = {name}_run_rows_hooked({arguments}, hook, hook_user);
{end}
    return status != 0 ? status : wrong;
}}
"""


def takes_wholes(program: Program, inputs: tuple[RowInput | None, ...], *, hooks: bool = False) -> Program:
    """A program around `program` that takes pointers to all inputs; `program` itself if it does so already."""
    if not any(inputs):
        return program
    whole = f"{program.name}{SUFFIX}"
    arenas = ["arena"] if program.caller_arena is not None else []
    names = [*arenas, *(f"in_{i}" for i in range(len(inputs))), *(f"out_{i}" for i in range(len(program.outputs)))]
    passed = [*arenas, *(f"in_{i}" if rows is None else f"row_{i}, in_{i}" for i, rows in enumerate(inputs)),
              *(f"out_{i}" for i in range(len(program.outputs)))]
    numbers = [(i, rows) for i, rows in enumerate(inputs) if rows is not None]
    values = {
        "name": program.name, "whole": whole, "header": program.header, "arguments": ", ".join(passed),
        "parameters": ", ".join(f"void *{name}" for name in names),
        "begin": "\n".join(f"    next_{i} = 0;" for i, _ in numbers),
        "end": "\n".join(f"    if (next_{i} != {rows.rows}) wrong = 1;" for i, rows in numbers),
        "callbacks": "".join(_callback(i, rows) for i, rows in numbers),
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
