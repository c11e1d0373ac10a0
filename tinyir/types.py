"""Types of the IR: element types, quantisation parameters, tensors, buffers.

All are frozen, hashable and print as they are written in the text:

    tensor<1x16x16x8xf32>                       a value without an address (graph, quant and sched level)
    tensor<1x10xi8, q<0.11:4>>                  real = 0.11 * (stored - 4)
    tensor<8x3x3x3xi8, q<axis 0, [..]:0>>       one scale for each index of axis 0
    buffer<1x16x16x8xf32>                       a value in memory (mem level)
    index                                       a loop counter
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np

__all__ = [
    "BOOL", "F16", "F32", "F64", "I4", "I8", "I16", "I32", "I64", "U4", "U8", "U16", "U32", "U64",
    "BufferType", "DType", "IndexType", "Quant", "Shape", "TensorType", "Type", "dtype", "dtype_of", "read_float",
    "shortest_float",
]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class DType:
    """An element type: its name in the text and its width. Types narrower than a byte are packed in memory."""

    name: str
    bits: int

    def __str__(self) -> str:
        return self.name

    @property
    def is_float(self) -> bool:
        return self.name.startswith("f")

    @property
    def is_signed(self) -> bool:
        return self.name[0] in "if"

    @property
    def is_integer(self) -> bool:
        return self.name[0] in "iu"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy type that holds one element (a 4-bit element occupies a whole int8 there)."""
        return np.dtype(_NUMPY[self.name])

    @property
    def range(self) -> tuple[int, int]:
        """Least and greatest integer, for integer types."""
        if self.is_signed:
            return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        return 0, (1 << self.bits) - 1


_NUMPY = {
    "f16": "float16", "f32": "float32", "f64": "float64", "i4": "int8", "i8": "int8", "i16": "int16", "i32": "int32",
    "i64": "int64", "u4": "uint8", "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64", "bool": "bool",
}
F16, F32, F64 = DType("f16", 16), DType("f32", 32), DType("f64", 64)
I4, I8, I16, I32, I64 = DType("i4", 4), DType("i8", 8), DType("i16", 16), DType("i32", 32), DType("i64", 64)
U4, U8, U16, U32, U64 = DType("u4", 4), DType("u8", 8), DType("u16", 16), DType("u32", 32), DType("u64", 64)
BOOL = DType("bool", 8)
_BY_NAME = {d.name: d for d in (F16, F32, F64, I4, I8, I16, I32, I64, U4, U8, U16, U32, U64, BOOL)}
_BY_NUMPY = {np.dtype(n): _BY_NAME[k] for k, n in _NUMPY.items() if k not in ("i4", "u4")}


def dtype(name: str) -> DType:
    """The element type called `name` in the text. Raises KeyError."""
    return _BY_NAME[name]


def dtype_of(array_dtype: np.dtype[np.generic]) -> DType:
    """The element type that numpy's `array_dtype` stands for. Raises KeyError for one that the IR does not have."""
    return _BY_NUMPY[np.dtype(array_dtype)]


def read_float(text: str) -> float:
    """The number that `text` stands for in the IR: the nearest float32, or with ten significant digits or more (and
    beyond float32's range) the nearest double."""
    value = float(text)
    digits = text.partition("e")[0].replace(".", "").lstrip("-0")
    if len(digits) >= 10 or not math.isfinite(value):
        return value
    try:
        single: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return value
    return single if single or not value else value


def shortest_float(value: float) -> str:
    """The shortest decimal that `read_float` takes back to `value`; has a point, an exponent, or is inf or nan."""
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    for text in (*_float32_texts(value), repr(value)):
        if read_float(text) == value:
            return text
    mantissa, exponent, power = repr(value).partition("e")
    point = "" if "." in mantissa else "."
    zeros = "0" * (10 - len(mantissa.replace(".", "").lstrip("-0")))
    return f"{mantissa}{point}{zeros}{exponent}{power}"


def _float32_texts(value: float) -> tuple[str, ...]:
    try:
        single = np.float32(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return ()
    scientific = np.format_float_scientific(single, unique=True, trim="0")
    if not (1e-5 <= abs(single) < 1e16 or single == 0):
        return (scientific,)
    return np.format_float_positional(single, unique=True, trim="0"), scientific


@dataclass(frozen=True)
class Quant:
    """Affine quantisation: real = scale * (stored - zero_point).

    `axis` is None for one scale over the whole tensor; else `scales` and `zero_points` have one entry for each index
    of that axis.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...] = (0,)
    axis: int | None = None

    def __post_init__(self) -> None:
        if self.axis is None and (len(self.scales) != 1 or len(self.zero_points) != 1):
            raise ValueError("a per-tensor quantisation has one scale and one zero point")

    @property
    def scale(self) -> float:
        """The scale of a per-tensor quantisation."""
        return self.scales[0]

    @property
    def zero_point(self) -> int:
        """The zero point of a per-tensor quantisation."""
        return self.zero_points[0]

    def __str__(self) -> str:
        if self.axis is None:
            return f"q<{shortest_float(self.scale)}:{self.zero_point}>"
        scales = ", ".join(shortest_float(s) for s in self.scales)
        if len(set(self.zero_points)) == 1:
            return f"q<axis {self.axis}, [{scales}]:{self.zero_points[0]}>"
        zeros = ", ".join(str(z) for z in self.zero_points)
        return f"q<axis {self.axis}, [{scales}]:[{zeros}]>"


@dataclass(frozen=True)
class _Shaped:
    shape: Shape
    dtype: DType
    quant: Quant | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes in memory; elements narrower than a byte are packed."""
        return (self.elements * self.dtype.bits + 7) // 8

    def _inside(self) -> str:
        dims = "".join(f"{d}x" for d in self.shape)
        return f"{dims}{self.dtype}" + (f", {self.quant}" if self.quant else "")


@dataclass(frozen=True)
class TensorType(_Shaped):
    """An array value with a static shape."""

    def __str__(self) -> str:
        return f"tensor<{self._inside()}>"

    def buffer(self) -> BufferType:
        return BufferType(self.shape, self.dtype, self.quant)


@dataclass(frozen=True)
class BufferType(_Shaped):
    """An array in memory, row-major and dense."""

    def __str__(self) -> str:
        return f"buffer<{self._inside()}>"

    def tensor(self) -> TensorType:
        return TensorType(self.shape, self.dtype, self.quant)


@dataclass(frozen=True)
class IndexType:
    """A loop counter or a row number."""

    def __str__(self) -> str:
        return "index"


Type = TensorType | BufferType | IndexType
