"""Fewer searches for garbage, where much is made that lives on: the IR is full of cycles, which are looked through."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["few_collections"]

_OBJECTS = 100_000
"""How many more there are before the youngest are looked through."""
_OFTEN = 10
"""After so many times those that were there longer are, too."""


@contextmanager
def few_collections() -> Iterator[None]:
    """While it is open: to choose the schedule of a network of 150 layers takes a fifth less time."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _OBJECTS), max(before[1], _OFTEN), max(before[2], _OFTEN))
    try:
        yield
    finally:
        gc.set_threshold(*before)
