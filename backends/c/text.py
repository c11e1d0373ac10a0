"""Pieces of C text: templates, literals, types, identifiers.

    fill("for (i = 0; i < {count}; i++) {\\n    {body}\\n}", count=8, body="a();\\nb();")

gives

    for (i = 0; i < 8; i++) {
        a();
        b();
    }
"""

from __future__ import annotations

import re
from textwrap import dedent

import numpy as np

from tinyir.diag import Diagnostic, Unsupported
from tinyir.types import DType, Shape

__all__ = ["C_TYPES", "RESERVED", "c_float", "c_identifier", "c_int", "c_type", "c_value", "describe", "fill",
           "readable"]

_WHOLE_LINE = re.compile(r"^([ \t]*)\{([a-z_][a-z0-9_]*)\}[ \t]*$\n?", re.MULTILINE)
_COUNTER = re.compile(r"(row|slot|end)_[0-9]+")
"""What loops call their counters."""
_INLINE = re.compile(r"\{([a-z_][a-z0-9_]*)\}")

C_TYPES = {
    "f32": "float", "f64": "double", "i8": "int8_t", "i16": "int16_t", "i32": "int32_t", "i64": "int64_t",
    "u8": "uint8_t", "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t", "bool": "uint8_t",
}
# Keywords of C and C++, so that a header reads in both; macros and types of the headers and of GNU C; and the names
# that the generated files use themselves.
RESERVED = frozenset("""
    alignas alignof and asm auto bool break case catch char class const constexpr continue default delete do double else
    enum explicit export extern false float for friend goto if inline int long mutable namespace new noexcept not
    nullptr operator or private protected public register restrict return short signed sizeof static struct switch
    template this throw true try typedef typename union unsigned using virtual void volatile wchar_t while xor
    arena base hook hook_user user row step n NULL main linux unix size_t ptrdiff_t intptr_t uintptr_t int8_t int16_t
    int32_t int64_t uint8_t uint16_t uint32_t uint64_t
""".split())


def fill(template: str, **values: object) -> str:
    """`template`, dedented, with `{word}` replaced for each word given; other braces are C and stay.

    A placeholder alone on its line takes a text of any number of lines, each indented like the placeholder; an empty
    text removes the line.
    """
    text = dedent(template).strip("\n") + "\n"

    def whole_line(match: re.Match[str]) -> str:
        if match[2] not in values:
            return match[0]
        lines = str(values[match[2]]).strip("\n").splitlines()
        return "".join(f"{match[1]}{line}\n" if line else "\n" for line in lines)

    def inline(match: re.Match[str]) -> str:
        return str(values[match[1]]) if match[1] in values else match[0]

    return _INLINE.sub(inline, _WHOLE_LINE.sub(whole_line, text))


def c_type(dtype: DType) -> str:
    """The C type of one element (bool is a byte that is 0 or 1). Raises Unsupported for a type that C99 lacks."""
    if dtype.name not in C_TYPES:
        message = f"there is no C for elements of type {dtype}"
        raise Unsupported((Diagnostic("error", message, help=f"cast to one of {', '.join(C_TYPES)}"),))
    return C_TYPES[dtype.name]


def c_float(value: float) -> str:
    """A float literal: the shortest decimal that reads back to the same float32."""
    single = np.float32(value)
    if np.isnan(single):
        return '__builtin_nanf("")'
    if np.isinf(single):
        return "__builtin_inff()" if single > 0 else "-__builtin_inff()"
    return _decimal(single) + "f"


def _decimal(value: np.floating) -> str:
    magnitude = abs(float(value))
    if magnitude == 0 or 1e-4 <= magnitude < 1e7:
        return np.format_float_positional(value, unique=True, trim="0")
    text = np.format_float_scientific(value, unique=True, trim="-", exp_digits=1)
    return text.replace("e+", "e")


def _double(value: float) -> str:
    if np.isnan(value):
        return '__builtin_nan("")'
    if np.isinf(value):
        return "__builtin_inf()" if value > 0 else "-__builtin_inf()"
    return _decimal(np.float64(value))


def c_int(value: int, dtype: DType) -> str:
    """An integer literal of that type that no compiler warns about."""
    if dtype.name == "i64":
        return f"(-INT64_C({2**63 - 1}) - 1)" if value == -(2**63) else f"INT64_C({value})"
    if dtype.name == "u64":
        return f"UINT64_C({value})"
    if dtype.name == "u32":
        return f"{value}u"
    return "(-2147483647 - 1)" if value == -(2**31) else str(value)


def c_value(value: float | int, dtype: DType) -> str:
    """A literal for one element of type `dtype`."""
    if dtype.name == "f32":
        return c_float(float(value))
    if dtype.name == "f64":
        return _double(float(value))
    return c_int(int(value), dtype)


def c_identifier(name: str) -> str:
    """`name` as a C identifier: never empty, no keyword, no leading digit or underscore."""
    cleaned = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "v"
    if cleaned[0].isdigit():
        cleaned = f"t{cleaned}"
    taken = cleaned in RESERVED or cleaned.startswith("tc_") or _COUNTER.fullmatch(cleaned) is not None
    return f"{cleaned}_" if taken else cleaned


def describe(shape: Shape, dtype: DType) -> str:
    """A type for comments: `1x16x16x8 f32`."""
    return f"{'x'.join(map(str, shape)) or 'scalar'} {dtype}"


_LONG = 32
"""Characters from which on names are shortened."""
_NOISE = re.compile(r"_?(Dequantize|Quantize)Linear(_[Oo]utput)?(_0)?|_[Oo]utput(_0)?(?=_|$)|ConvBnFusion_")


def readable(name: str) -> str:
    """A long name without what exporters and optimisers put into it: the kinds of nodes that quantise, `output_0`, and
    names of parts that repeat those of the whole.

        features_features_2_c_c_0_c_0_2_Clip_output_0_QuantizeLinear_Output_row    ->    features_2_c_0_2_Clip_row
    """
    if len(name) <= _LONG:
        return name
    words = _NOISE.sub("", re.sub(r"[^A-Za-z0-9_]+", "_", name)).strip("_").split("_")
    at = 0
    while at < len(words):
        sizes = range((len(words) - at) // 2, 0, -1)
        size = next((k for k in sizes if words[at:at + k] == words[at + k:at + 2 * k]
                     and not all(word.isdigit() for word in words[at:at + k])), 0)
        del words[at:at + size]
        at = max(0, at - size) if size else at + 1
    return "_".join(words) or name
