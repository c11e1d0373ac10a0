"""Where the network's inputs come from, other than a buffer of the caller: row by row, or out of the arena.

    %x = sched.pull(%image) : tensor<1x96x96x3xi8>
    %c = nn.conv2d(%x, @w, @b) {stride = [2, 2], pad = [0, 0, 1, 1]} : tensor<1x48x48x8xi8>

is %image, a parameter of the function; but the generated C has no pointer to it: the application gives a function that
fills one row, and each row is asked for once, in order, when it is due. The image is never stored as a whole if its
readers run row by row.

    %x = sched.hold(%image) : tensor<1x96x96x3xi8>

is %image too, held in the arena: the application writes it there before each run, and as the network goes through its
rows other values take their place.
"""

from __future__ import annotations

from typing import final

import numpy as np

from ..geometry import Axis, Span
from ..ir import Argument, Array, Value
from ..opdef import Op
from ..types import TensorType
from .base import Spatial

__all__ = ["Hold", "Pull"]


def _verify_input(op: Op, value: Value) -> None:
    op.require(isinstance(value, Argument), "%{} is not an input of the function", value.name)
    op.require(len(value.uses) == 1, "%{} does not come as a pointer, so nothing else can read it", value.name)


@final
class Pull(Spatial, opname="sched.pull"):
    """The elements of x, a parameter that nothing else reads, as one image [1, H, W, C]; they come row by row."""

    x: Value
    result: TensorType

    def infer(self) -> TensorType:
        found, expected = self.result, self.x.type
        same = (found.elements, found.dtype, found.quant) == (expected.elements, expected.dtype, expected.quant)
        self.require(same, "the rows are {}, expected {} elements of {}", found, expected.elements, expected.dtype)
        self.require(found.rank == 4 and found.shape[0] == 1, "the rows are {}, expected one image", found)
        return found

    def verify(self) -> None:
        _verify_input(self, self.x)

    def reference(self, x: Array) -> Array:
        return np.ascontiguousarray(x).reshape(self.out.shape)

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        """The same span."""
        return out


@final
class Hold(Op, opname="sched.hold"):
    """The elements of x, a parameter that nothing else reads; they are in the arena when the function is called."""

    x: Value
    result: TensorType

    def infer(self) -> TensorType:
        found, expected = self.result, self.x.type
        same = (found.elements, found.dtype, found.quant) == (expected.elements, expected.dtype, expected.quant)
        self.require(same, "the result is {}, expected {} elements of {}", found, expected.elements, expected.dtype)
        return found

    def verify(self) -> None:
        _verify_input(self, self.x)

    def reference(self, x: Array) -> Array:
        return np.ascontiguousarray(x).reshape(self.out.shape)
