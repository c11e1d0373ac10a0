"""When the rows that a step of a stream has computed go into the ring that keeps them.

    step t:  %b computes row t     %c reads rows t - 2 ... t     %d reads row t - 1     ring of %b: rows t - 2, t - 1
                                                            ^ here: row t takes the place of row t - 2

Behind the last reader, or earlier: as soon as nobody reads what is overwritten. Readers behind that find all they need
in the ring, and the place for the fresh rows is free for others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tinyir.ir import Value
from tinyir.opdef import Op
from tinyir.ops import Slice
from tinyir.row_schedule import RowNeeds, RowSchedule, work_rows

__all__ = ["kept_behind"]


def kept_behind(body: Sequence[Op], schedule: RowSchedule, needs: RowNeeds | None = None) -> dict[Op, int]:
    """For each op whose rows have a place of their own in the step: the number of the op behind which they are kept."""
    place, known = {op: index for index, op in enumerate(body)}, needs or RowNeeds()
    return {op: max((number for number, rows in _reading(op, index, place, schedule, known)
                     if rows > schedule.rings[index] or schedule.keeps[index][0] > 1), default=index)
            for index, op in enumerate(body) if schedule.fresh[index]}


def _reading(op: Op, index: int, place: Mapping[Op, int], schedule: RowSchedule, needs: RowNeeds) \
        -> Iterator[tuple[int, int]]:
    """The numbers of the readers, and the most rows from the first that each needs in a step to the last that is there.
    """
    for reader, operand in _uses(op.out):
        if reader in place:
            number, height = place[reader], work_rows(op)
            found = needs.of(reader, operand)
            step = schedule.paces[number].step_behind(np.arange(work_rows(reader)))
            done = schedule.paces[index].done_array(step, height)
            yield number, height if found is None else int(np.max(done - found.first))


def _uses(value: Value) -> Iterator[tuple[Op, int]]:
    """The ops that read the rows of a value, or of a slice of its columns, and as which operand."""
    for use in value.uses:
        if isinstance(use.op, Slice):
            yield from _uses(use.op.out)
        else:
            yield use.op, use.index
