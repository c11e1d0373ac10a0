"""Constants as C arrays: `const float kws_conv1_weight[432] = { ... };`, a fixed number of elements a line."""

from __future__ import annotations

import numpy as np

from tinyir.ir import Array, Const
from tinyir.types import DType

from .text import c_type, c_value, describe

__all__ = ["declaration", "definition", "elements"]

_PER_LINE = {"f32": 8, "f64": 5, "i8": 24, "u8": 24, "bool": 24, "i16": 16, "u16": 16}


def declaration(const: Const, symbol: str) -> str:
    """`const float kws_conv1_weight[432]`."""
    return f"const {c_type(const.type.dtype)} {symbol}[{max(const.type.elements, 1)}]"


def definition(const: Const, symbol: str, prefix: str) -> str:
    """The array with its elements, and a comment with its name, shape and size; `prefix` goes in front."""
    data = const.data
    if data is None:
        raise ValueError(f"@{const.name} has no elements")
    comment = f"/* @{const.name}: {describe(const.shape, const.type.dtype)}, {const.type.size_bytes} bytes */"
    lines = "".join(f"    {line},\n" for line in elements(data, const.type.dtype))
    return f"{comment}\n{prefix}{declaration(const, symbol)} = {{\n{lines}}};\n"


def elements(data: Array, dtype: DType) -> list[str]:
    """The elements as literals, grouped into lines without the last comma."""
    words = _float_words(data) if dtype.name == "f32" else [c_value(v, dtype) for v in data.ravel().tolist()]
    per_line = _PER_LINE.get(dtype.name, 8)
    return [", ".join(words[i:i + per_line]) for i in range(0, len(words), per_line)]


def _float_words(data: Array) -> list[str]:
    """Nine digits always read back to the same float32, and are ten times faster to write than the fewest digits."""
    flat = np.ascontiguousarray(data, np.float32).ravel()
    words = ("%.9gf " * flat.size % tuple(flat.tolist())).split()
    for index in np.flatnonzero((flat == np.trunc(flat)) | ~np.isfinite(flat)).tolist():
        words[index] = c_value(float(flat[index]), DType("f32", 32))
    return words
