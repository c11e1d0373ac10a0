"""A module at mem level -> model.c, model.h, model_weights.c.

    k.dense_f32(%x, @fc.weight, none) -> (%y)     one line of the IR

        /* 4: k.dense_f32(%x, @fc.weight, none) -> (%y)
         *    ONNX: Gemm_6   640 MACs */
        dense_f32(x, kws_fc_weight, y);           one statement of C

The C is freestanding C99: it includes <stdint.h> and <stddef.h> only, calls nothing outside, and its only mutable
object is the arena. Equal modules give equal bytes.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Literal

from tinyir.ir import Arena, Const, Module
from tinyir.loops import bases_of
from tinyir.ops.mem import Loop, Part
from tinyir.registry import BACKENDS

from . import kernels as _kernels  # noqa: F401  (registers kernels and lowering rules)
from .data import declaration, definition
from .header import (
    arena_names,
    banner,
    comment_safe,
    header_text,
    hook_user,
    hooked_prototype,
    parameters,
    place_prototype,
    prototype,
)
from .kernels.base import Kernel, RowKernel
from .library import needed
from .loop import Around, loop_lines, pace_text
from .options import Options
from .plan import plan_text, slots_by_statement
from .program import Call, PlacedSlot, Program, Tensor, gather, op_text
from .text import c_identifier, c_type, describe, fill

__all__ = ["emit_c"]

_MODEL = """
    {banner}

    #include "{header}"

    #if defined(__cplusplus) && !defined(restrict)
    #define restrict __restrict__
    #endif

    {placement}

    /* No loop below may become a call of memcpy or memset: there may be no library to link with. */
    #if defined(__clang__)
    #pragma clang attribute push(__attribute__((no_builtin)), apply_to = function)
    #elif defined(__GNUC__)
    #pragma GCC optimize("no-tree-loop-distribute-patterns")
    #endif

    {hiding}

    {constants}

    {plan}
    {arena}

    {library}

    {marks}

    {functions}

    {run}

    #if defined(__clang__)
    #pragma clang attribute pop
    #endif
"""

_WEIGHTS = """
    {banner}

    #include <stdint.h>

    {placement}

    #ifdef __cplusplus
    extern "C" {
    #endif

    {declarations}

    {definitions}

    #ifdef __cplusplus
    }
    #endif
"""

_MARKS = """\
#ifndef TINYC_LAYER
#define TINYC_LAYER(number)
#endif"""

_HIDING = """
    /* The compiler is not to know where an arena lies. gcc 12 copies functions for addresses that it knows, and a copy
     * that stores through the difference of two addresses in one array it takes for one that stores nothing. */
    #if defined(__GNUC__) && !defined(__clang__)
    #define TC_HIDE(pointer) __asm__("" : "+r"(pointer))
    #else
    #define TC_HIDE(pointer) (void)(pointer)
    #endif
"""

_PLACEMENT = """
    /* Where {what} go{es}; a definition on the command line of the compiler wins. */
    #ifndef {macro}
    #define {macro}{default}
    #endif
"""


def emit_c(module: Module, *, name: str = "", arena: Literal["static", "caller"] = "static", hooks: bool = False,
           marks: bool = False, single_file: bool = False,
           sections: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """The files of `module` by name: `<name>.c`, `<name>.h` and, unless `single_file`, `<name>_weights.c`.

    `name` is also the prefix of every external symbol; by default it is the module's. The opening comment shows the
    module attributes model_file, model_sha256, options, target and pipeline where they are present. Raises
    CompileError if the module is not at level mem or its slots are not placed.
    """
    options = Options(arena, hooks, marks, single_file, dict(sections or {}))
    stem = name if name.isidentifier() and name.isascii() else c_identifier(name or module.name)
    program = gather(module, stem)
    files = {f"{stem}.c": _model_text(program, options, stem), f"{stem}.h": header_text(program, options, f"{stem}.h")}
    if program.consts and not single_file:
        files[f"{stem}_weights.c"] = _weights_text(program, options, stem)
    return {file: text.encode("ascii") for file, text in files.items()}


BACKENDS.add("c", emit_c)


def _model_text(program: Program, options: Options, stem: str) -> str:
    run = _run(program, options)
    texts = [*program.functions.values(), run]
    commented = [f"{_function_comment(program, name)}\n{text.strip()}" for name, text in program.functions.items()]
    placed = []
    if program.arenas and options.arena == "static":
        placed.append(_placement(program, options, "arena"))
    if program.consts and options.single_file:
        placed.append(_placement(program, options, "weights"))
    return _tidy(_MODEL, banner=banner(program, f"{stem}.c", "the network."), header=f"{stem}.h",
                 placement="\n\n".join(placed), constants=_constants(program, options), plan=plan_text(program),
                 arena=_arena(program, options), hiding=fill(_HIDING) if program.slots else "",
                 library=_library(texts), marks=_MARKS if options.marks else "",
                 functions="\n\n".join(commented), run=run)


def _function_comment(program: Program, name: str) -> str:
    """`/* k.concat, 1x8x8x4 f32, 1x8x8x2 f32 -> 1x8x8x6 f32: call 5 */`; no types where the calls differ in them."""
    calls = [call for call in program.calls if call.function == name]
    types = {" -> ".join(", ".join(describe(v.shape, v.type.dtype) for v in values if not isinstance(v, Const))
                         for values in (call.op.reads, call.op.writes)) for call in calls}
    shown = f", {types.pop()}" if len(types) == 1 else ""
    numbers = ", ".join(str(call.number) for call in calls)
    text = f"{calls[0].op.opname}{shown}: call{'s' if len(calls) > 1 else ''} {numbers}"
    return "/* " + "\n * ".join(textwrap.wrap(text, 110)) + " */"


def _library(texts: list[str]) -> str:
    """The functions of runtime/ that the kernels use, kept from fusing multiplications with additions: their results
    are to be the same on every core."""
    used = "\n\n".join(t.strip() for t in needed(texts))
    return fill("""
        /* Functions that the kernels use; which ones depends on the core too. */
        #if defined(__clang__)
        #pragma STDC FP_CONTRACT OFF
        #pragma clang diagnostic push
        #pragma clang diagnostic ignored "-Wunused-function"
        #endif

        {used}

        #if defined(__clang__)
        #pragma clang diagnostic pop
        #pragma STDC FP_CONTRACT DEFAULT
        #endif
    """, used=used) if used else ""


def _weights_text(program: Program, options: Options, stem: str) -> str:
    macro = f"{program.macro}_WEIGHTS_ATTRIBUTE"
    around = _tidy(_WEIGHTS, banner=banner(program, f"{stem}_weights.c", "the constants."),
                   placement=_placement(program, options, "weights"),
                   declarations="\n".join(f"extern {declaration(c, s)};" for c, s in program.consts.items()))
    # Megabytes: put in last, so that they are not searched for placeholders.
    definitions = "\n".join(definition(c, s, f"{macro} ") for c, s in program.consts.items())
    return around.replace("{definitions}\n", definitions)


def _tidy(template: str, **values: object) -> str:
    """`fill`, without the blank lines around texts that turned out empty."""
    return re.sub(r"\n{3,}", "\n\n", fill(template, **values))


def _placement(program: Program, options: Options, what: Literal["arena", "weights"]) -> str:
    section = options.sections.get(what)
    default = f' __attribute__((section("{section}")))' if section else ""
    noun = "the constants" if what == "weights" else "the arena"
    return fill(_PLACEMENT, what=noun, es="" if what == "weights" else "es", default=default,
                macro=f"{program.macro}_{what.upper()}_ATTRIBUTE")


def _constants(program: Program, options: Options) -> str:
    if options.single_file:
        prefix = f"{program.macro}_WEIGHTS_ATTRIBUTE static "
        return "\n".join(definition(c, s, prefix) for c, s in program.consts.items())
    if not program.consts:
        return ""
    lines = [f"extern {declaration(c, s)}; /* {describe(c.shape, c.type.dtype)} */" for c, s in program.consts.items()]
    return "\n".join(["#ifdef __cplusplus", 'extern "C" {', "#endif", *lines, "#ifdef __cplusplus", "}", "#endif"])


def _arena(program: Program, options: Options) -> str:
    if options.arena == "caller":
        return ""
    attribute = f"{program.macro}_ARENA_ATTRIBUTE"
    return "\n".join(f"static uint8_t {name}[{arena.size}] __attribute__((aligned({arena.align}))) {attribute};"
                     for name, arena in zip(arena_names(program), program.arenas, strict=False))


def _run(program: Program, options: Options) -> str:
    """run(), or run_hooked() and a run() that calls it."""
    places = "".join(_place(tensor, program, options) for tensor in program.inputs if tensor.held is not None)
    body = "\n".join(f"    {line}" if line else "" for line in _body(program, options))
    if not options.hooks:
        return f"{places}{prototype(program, options)}\n{{\n{body}\n}}\n"
    names = [re.split(r"[ *]", p)[-1] for p in parameters(program, options)]
    call = f"return {program.run_name}_hooked({', '.join([*names, 'NULL', 'NULL'])});"
    return (f"{places}{hooked_prototype(program, options)}\n{{\n{body}\n}}\n\n"
            f"{prototype(program, options)}\n{{\n    {call}\n}}\n\n{_layer_names(program)}")


def _place(tensor: Tensor, program: Program, options: Options) -> str:
    """The function that says where an input lies in the arena."""
    assert tensor.held is not None
    slot = next(slot for slot in program.slots if slot.value in bases_of(tensor.held.y))
    name = dict(zip(program.arenas, arena_names(program), strict=False))[slot.arena]
    kind, base = c_type(slot.value.type.dtype), f"(uint8_t *){name}" if options.arena == "caller" else name
    return f"{place_prototype(tensor, program, options)}\n{{\n" \
        f"    return ({kind} *)(void *)({base} + {slot.offset});\n}}\n\n"


def _body(program: Program, options: Options) -> list[str]:
    lines = [*_checks(program, options), *_bases(program, options)]
    calls = {call.op: call for call in program.calls}
    slots, names = slots_by_statement(program, at_top=options.hooks), _base_names(program)
    around = Around(_call_comment, lambda op: [_slot_pointer(s, names[s.arena]) for s in slots.get(op, ())],
                    lambda call: [f"TINYC_LAYER({call.number});"] if options.marks else [], _statement)
    for op in program.module.main.ops:
        if isinstance(op, Loop):
            lines += [*around.declare(op), *loop_lines(program, op, around)]
            for inner in (calls[o] for o in op.regions[0].walk() if o in calls):
                lines += _hook_lines(program, options, inner)
        elif isinstance(op, Kernel):
            call = calls[op]
            lines += [*around.comment(call), *around.declare(op), *around.mark(call), *_statement(program, call),
                      *_hook_lines(program, options, call), ""]
    return [*lines, "return 0;"]


def _checks(program: Program, options: Options) -> list[str]:
    users = {tensor.user for tensor in program.inputs}
    names = [name for p in parameters(program, options) if (name := re.split(r"[ *]", p)[-1]) not in users]
    lines = []
    if names:
        condition = textwrap.fill(" || ".join(f"{n} == NULL" for n in names), 100, subsequent_indent="    ",
                                  break_long_words=False)
        lines += [*f"if ({condition}) {{".splitlines(), f"    return {program.macro}_ERROR_NULL;", "}"]
    if options.arena == "caller":
        for name, arena in zip(arena_names(program), program.arenas, strict=False):
            lines += [f"if ((uintptr_t){name} % {arena.align}u != 0u) {{",
                      f"    return {program.macro}_ERROR_ALIGN;", "}"]
    return [*lines, ""]


def _base_names(program: Program) -> dict[Arena, str]:
    """The local variables that have the addresses of the arenas."""
    return {arena: name.replace("arena", "base", 1)
            for name, arena in zip(arena_names(program), program.arenas, strict=False)}


def _bases(program: Program, options: Options) -> list[str]:
    cast = "(uint8_t *)" if options.arena == "caller" else ""
    used = {slot.arena for slot in program.slots}
    names = zip(arena_names(program), _base_names(program).items(), strict=False)
    lines = [line for name, (arena, base) in names if arena in used
             for line in (f"uint8_t *{base} = {cast}{name};", f"TC_HIDE({base});")]
    return [*lines, ""] if lines else []


def _slot_pointer(slot: PlacedSlot, base: str) -> str:
    kind = c_type(slot.value.type.dtype)
    return f"{kind} *const {slot.name} = ({kind} *)(void *)({base} + {slot.offset});"


def _hook_lines(program: Program, options: Options, call: Call) -> list[str]:
    """What tells the hook of a call; those in a loop are told behind it, what is in a ring by then as it is."""
    if not options.hooks:
        return []
    written, user = call.op.writes[0], hook_user(program)
    part = written.defining(Part)
    written = written if part is None else part.x  # behind its loop a part is nowhere
    return ["if (hook != NULL) {",
            f"    hook({user}, {call.number}, {program.address(written)}, {written.type.size_bytes}u);", "}"]


def _call_comment(call: Call) -> list[str]:
    macs = call.macs
    text = f"{call.number}: {op_text(call.op)}"
    origin = "; ".join([f"ONNX: {', '.join(call.nodes) or 'none'}", *([f"{macs} MACs"] if macs else []),
                        *([pace_text(call.op)] if isinstance(call.op, RowKernel) and call.op.pace else [])])
    lines = [*textwrap.wrap(comment_safe(text), 104), *textwrap.wrap(comment_safe(origin), 104)]
    return [("/* " if i == 0 else " *    ") + line + (" */" if i == len(lines) - 1 else "")
            for i, line in enumerate(lines)]


def _statement(program: Program, call: Call) -> list[str]:
    batch = call.op.batch()
    steps = {id(getattr(call.op, name)) for name in call.op.batched} if batch > 1 else set()
    arguments = []
    for argument in (*call.op.arguments(), *call.dimensions):
        if isinstance(argument, int):
            arguments.append(str(argument))
        elif id(argument) in steps:
            arguments.append(f"{program.address(argument)} + n * {argument.type.elements // batch}")
        else:
            arguments.append(program.address(argument))
    statement = textwrap.wrap(f"{call.function}({', '.join(arguments)});", 108, subsequent_indent="    ",
                              break_long_words=False, break_on_hyphens=False)
    if not call.function:
        return []
    if batch == 1:
        return statement
    return [f"for (int32_t n = 0; n < {batch}; n++) {{", *(f"    {line}" for line in statement), "}"]


def _layer_names(program: Program) -> str:
    names = [comment_safe(", ".join(call.nodes) or call.op.opname) for call in program.calls]
    table = "".join('        "' + n.replace("\\", "\\\\").replace('"', '\\"') + '",\n' for n in names)
    return fill("""
        const char *{symbol}_layer_name(int32_t layer)
        {
            static const char *const names[] = {
        {table}
            };
            return layer >= 0 && layer < {count} ? names[layer] : NULL;
        }
    """, symbol=program.symbol, table=table or "        NULL,\n", count=len(names))
