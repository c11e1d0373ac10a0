"""What op classes of the `nn` dialect share: checks of operands and results, and abstract families.

`Spatial` ops answer which input rows (or columns) an output span needs; `Elementwise` ops compute each element of the
result from the elements at the same place: that question is trivial, and the result may take over an operand's memory.
`AlongAxis` ops compute each line along an axis from the same line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..geometry import Axis, Box, Span, axis_index
from ..ir import Const, Value
from ..opdef import Op
from ..types import BOOL, DType, Quant, Shape, TensorType

__all__ = ["AlongAxis", "Elementwise", "NnOp", "Spatial", "normal_axis"]


def normal_axis(axis: int, rank: int) -> int:
    """`axis` counted from the front; the caller has checked its range."""
    return axis + rank if axis < 0 else axis


class NnOp(Op):
    """Checks that many ops make. All raise CompileError with what was found and what was expected."""

    def result_of(self, shape: Sequence[int], dtype: DType, quant: Quant | None = None) -> TensorType:
        """The result type; refuses an empty or negative dimension."""
        text = "x".join(map(str, shape))
        self.require(all(d >= 1 for d in shape), "the result would be {}, every dimension must be at least 1", text)
        return TensorType(tuple(shape), dtype, quant)

    def require_rank(self, value: Value, rank: int, name: str, meaning: str = "") -> None:
        found, names = value.type.rank, f" ({meaning})" if meaning else ""
        self.require(found == rank, "{} has {} dimensions, expected {}{}", name, found, rank, names)

    def require_vector(self, value: Value, name: str, count: int, what: str) -> None:
        found = "x".join(map(str, value.shape))
        self.require(value.shape == (count,), "{} is {}, expected one entry for each of {} {}", name, found,
                     count, what)

    def require_float(self, value: Value, name: str = "x") -> None:
        self.require(value.type.dtype.is_float, "{} is {}, expected floats", name, value.type.dtype)

    def require_number(self, value: Value, name: str = "x") -> None:
        self.require(value.type.dtype != BOOL, "{} is bool, expected numbers", name)

    def require_same_dtype(self, first: Value, second: Value, names: tuple[str, str]) -> None:
        found, other = first.type.dtype, second.type.dtype
        self.require(found == other, "{} is {} and {} is {}, expected the same type", names[0], found, names[1], other)

    def require_axis(self, axis: int, rank: int) -> int:
        """`axis` counted from the front."""
        self.require(-rank <= axis < rank, "axis is {}, expected {} to {}", axis, -rank, rank - 1)
        return normal_axis(axis, rank)

    def require_pair(self, name: str, value: Sequence[int], least: int = 1, count: int = 2) -> None:
        """A tuple of `count` integers, each at least `least`."""
        good = len(value) == count and all(v >= least for v in value)
        self.require(good, "{} is {}, expected {} integers of at least {}", name, list(value), count, least)


class Spatial(NnOp):
    """An op that knows which rows and columns of its operands a span of its result depends on."""

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        """The span of `operand` (its position in `operands`) that the span `out` of the result needs.

        Spans count along dimension 1 (rows) or 2 (columns) of NHWC tensors. The result is clipped to the operand.
        """
        raise NotImplementedError(f"{type(self).__name__}.input_span")

    def part_attrs(self, out: Box, given: Sequence[Box]) -> dict[str, Any] | None:
        """How the attributes change for an op that computes only the part `out` of the result, from the parts `given`
        of the operands (which are what `input_span` says); None if there is no such op.
        """
        return None


class AlongAxis(Spatial):
    """Computes each line of the only result, all elements along `axis`, from the same line of its operand."""

    if TYPE_CHECKING:
        @property
        def axis(self) -> int: ...

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        """The same span, or all of it along the axis of the lines."""
        dimension = axis_index(axis)
        whole = dimension == normal_axis(self.axis, self.out.type.rank) and out.extent
        return Span(0, self.out.shape[dimension]) if whole else out

    def part_attrs(self, out: Box, given: Sequence[Box]) -> dict[str, Any] | None:
        return None if normal_axis(self.axis, self.out.type.rank) in (1, 2) else {}

    def reuses(self) -> tuple[int, ...]:
        return (0,)


class Elementwise(Spatial):
    """Operands broadcast numpy-style to the shape of the only result; element by element from there."""

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        """The same span, or the only row of an operand that is broadcast along this axis."""
        value, from_end = self.operands[operand], self.out.type.rank - axis_index(axis)
        if value is None or from_end <= 0 or not out.extent:
            return out
        broadcast = from_end > value.type.rank or value.shape[-from_end] == 1
        return Span(0, 1) if broadcast else out

    def part_attrs(self, out: Box, given: Sequence[Box]) -> dict[str, Any] | None:
        return {}

    def reuses(self) -> tuple[int, ...]:
        """The operands that fill as many bytes as the result and are no constants."""
        size = self.out.type.size_bytes
        return tuple(index for index, value in enumerate(self.operands) if value is not None
                     and not isinstance(value, Const) and _same_layout(value, self.out.shape, size))

    def broadcast(self, *values: Value) -> Shape:
        """The common shape of `values`."""
        try:
            return tuple(np.broadcast_shapes(*(v.shape for v in values)))
        except ValueError:
            shapes = " and ".join("x".join(map(str, v.shape)) for v in values)
            raise self.error(f"shapes {shapes} do not broadcast",
                             help="dimensions are matched from the last; each pair must be equal or have a 1") from None


def _same_layout(value: Value, shape: Shape, size: int) -> bool:
    return value.shape == shape and value.type.size_bytes == size
