"""When which row is computed, in ops that run row by row, step by step.

    Pace(rows=1, steps=2, shift=-3)      floor((step - 3) / 2) rows are done before a step: one row every other step
    Pace(1, 2, -3).done(7, height=24)    2
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Keep", "Pace"]

Array = NDArray[np.int64]
Keep = tuple[int, int]
"""(every, phase): rows go into their ring in the steps that leave the remainder `phase` when divided by `every`."""


class Pace(NamedTuple):
    """floor((rows * step + shift) / steps) rows are done before step number `step`, but not less than 0, nor more than
    there are.
    """

    rows: int
    steps: int
    shift: int

    def done(self, step: int, height: int) -> int:
        """How many rows of `height` are done before step number `step`."""
        return min(max((self.rows * step + self.shift) // self.steps, 0), height)

    def done_array(self, steps: Array, height: int) -> Array:
        """`done` for many steps."""
        return np.minimum(np.maximum((self.rows * steps + self.shift) // self.steps, 0), height)

    def kept(self, step: int, height: int, keep: Keep) -> int:
        """How many rows of `height` have gone into their ring before step number `step`."""
        return self.done(step - (step - 1 - keep[1]) % keep[0], height)

    @property
    def start(self) -> int:
        """The number of the step before which the first row is done."""
        return -((self.shift - self.steps) // self.rows)

    def earlier(self, steps: int) -> Pace:
        """The same pace, `steps` steps earlier."""
        return Pace(self.rows, self.steps, self.shift + self.rows * steps)

    def step_behind(self, rows: Array) -> Array:
        """For row numbers: the number of the step before which the row is done for the first time."""
        return np.asarray(-((self.shift - self.steps * (rows + 1)) // self.rows))
