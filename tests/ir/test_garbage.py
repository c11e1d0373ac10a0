"""Searches for garbage are fewer for a while, and as often as before behind it."""

from __future__ import annotations

import gc

import pytest

from tinyir.garbage import few_collections


def test_thresholds_come_back() -> None:
    before = gc.get_threshold()
    with few_collections():
        outer = gc.get_threshold()
        assert outer[0] > before[0]
        with few_collections():
            assert gc.get_threshold() == outer
        assert gc.get_threshold() == outer
    assert gc.get_threshold() == before


def test_thresholds_come_back_after_an_error() -> None:
    before = gc.get_threshold()
    with pytest.raises(RuntimeError), few_collections():
        raise RuntimeError
    assert gc.get_threshold() == before
