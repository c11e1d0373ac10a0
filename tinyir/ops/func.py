"""The end of a function above mem level.

    nn.return(%probabilities)
"""

from __future__ import annotations

from typing import final

from ..ir import Array, Value
from ..types import Type
from .base import NnOp

__all__ = ["Return"]


@final
class Return(NnOp, opname="nn.return"):
    """The function's results, in order. Has no result itself: its reference gives back what it was given."""

    pure = False
    terminator = True

    values: tuple[Value, ...]

    def infer(self) -> tuple[Type, ...]:
        return ()

    def reference(self, values: list[Array]) -> tuple[Array, ...]:
        return tuple(values)
