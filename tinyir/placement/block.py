"""The facts: a block to be placed, a placement, and the independent check of one against the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..diag import CompileError, Diagnostic

__all__ = ["Block", "Placement", "rounded", "verify"]


@dataclass(frozen=True)
class Block:
    """`size` bytes that are needed at the times `lower`, ..., `upper` - 1."""

    lower: int
    upper: int
    size: int

    def meets(self, other: Block) -> bool:
        """Whether both are needed at the same time."""
        return self.lower < other.upper and other.lower < self.upper


def rounded(size: int, align: int) -> int:
    """`size` up to a multiple of `align`."""
    return -(-size // align) * align


@dataclass(frozen=True)
class Placement:
    """Where each block begins, in bytes; `peak` is the end of the last byte used, and no placement ends below
    `lower_bound`. `nodes` is the work that the search did."""

    offsets: tuple[int, ...]
    peak: int
    lower_bound: int
    nodes: int = 0

    @property
    def optimal(self) -> bool:
        """Whether it is proved that no placement has a lower peak."""
        return self.peak == self.lower_bound

    def __str__(self) -> str:
        if self.optimal:
            return f"{self.peak} bytes, optimal"
        gap = self.peak - self.lower_bound
        return f"{self.peak} bytes, at most {gap} ({100 * gap / self.peak:.1f} %) above the optimum"


def verify(blocks: Sequence[Block], offsets: Sequence[int], align: int = 1,
           pairs: Mapping[tuple[int, int], int] | None = None) -> None:
    """Check, from the definition alone, that offsets are aligned and that blocks that meet do not overlap, or are as
    far apart as they have to be (`pairs`, see `distances`).

    Raises CompileError (internal: only a bug leads here) with every pair that is wrong.
    """
    pairs = pairs or {}
    if len(blocks) != len(offsets):
        raise _wrong([f"{len(blocks)} blocks have {len(offsets)} offsets"])
    problems = [f"block {i} lies at {offset}, which is not a multiple of {align}, or negative"
                for i, offset in enumerate(offsets) if offset < 0 or offset % align]
    for i, one in enumerate(blocks):
        for j in range(i):
            other = blocks[j]
            apart = offsets[j] - offsets[i] >= pairs.get((j, i), one.size) \
                or offsets[i] - offsets[j] >= pairs.get((i, j), other.size)
            if not apart and one.meets(other):
                problems.append(f"blocks {j} and {i} are needed at the same time and share bytes")
    if problems:
        raise _wrong(problems)


def _wrong(problems: list[str]) -> CompileError:
    return CompileError((Diagnostic("internal", "a placement is wrong", notes=tuple(problems)),))
