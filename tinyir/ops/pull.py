"""The network's input, asked for row by row.

    %x = sched.pull(%image) : tensor<1x96x96x3xi8>
    %c = nn.conv2d(%x, @w, @b) {stride = [2, 2], pad = [0, 0, 1, 1]} : tensor<1x48x48x8xi8>

is %image, a parameter of the function; but the generated C has no pointer to it: the application gives a function that
fills one row, and each row is asked for once, in order, when it is due. The image is never stored as a whole if its
readers run row by row.
"""

from __future__ import annotations

from typing import final

import numpy as np

from ..geometry import Axis, Span
from ..ir import Argument, Array, Value
from ..types import TensorType
from .base import Spatial

__all__ = ["Pull"]


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
        self.require(isinstance(self.x, Argument), "%{} is not an input of the function", self.x.name)
        self.require(len(self.x.uses) == 1, "%{} is pulled row by row, so nothing else can read it", self.x.name)

    def reference(self, x: Array) -> Array:
        return np.ascontiguousarray(x).reshape(self.out.shape)

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        """The same span."""
        return out
