"""The arithmetic of windows against counting."""

from __future__ import annotations

import itertools

import pytest

from tinyir.geometry import (
    Span,
    dilated,
    spread_input_span,
    spread_output_extent,
    window_input_span,
    window_output_extent,
    window_output_span,
    window_ready_extent,
)

WINDOWS = [case for case in itertools.product((1, 2, 3, 5), (1, 2, 3), (1, 2), (0, 1, 2), (0, 1, 3), (5, 8))
           if case[5] + case[3] + case[4] >= dilated(case[0], case[2])]


def taps(row: int, kernel: int, stride: int, dilation: int, pad: int, extent: int) -> set[int]:
    """Input rows that the window of output row `row` reads."""
    rows = {row * stride - pad + k * dilation for k in range(kernel)}
    return {r for r in rows if 0 <= r < extent}


def spans(extent: int) -> list[Span]:
    return [Span(a, b) for a in range(extent) for b in range(a + 1, extent + 1)]


@pytest.mark.parametrize(("kernel", "stride", "dilation", "before", "after", "extent"), WINDOWS)
def test_window_spans(kernel: int, stride: int, dilation: int, before: int, after: int, extent: int) -> None:
    outputs = window_output_extent(extent, kernel, stride, dilation, (before, after))
    reads = [taps(o, kernel, stride, dilation, before, extent) for o in range(outputs)]
    for out in spans(outputs):
        needed = window_input_span(out, kernel, stride, dilation, before, extent)
        rows = set().union(*reads[out.begin:out.end])
        assert rows <= set(range(*needed))
        if dilation == 1 and stride <= kernel and all(reads):
            assert needed == Span(min(rows), max(rows) + 1)
    for rows_in in spans(extent):
        changed = window_output_span(rows_in, kernel, stride, dilation, before, outputs)
        assert {o for o in range(outputs) if reads[o] & set(range(*rows_in))} <= set(range(*changed))
    for available in range(extent + 1):
        ready = window_ready_extent(available, kernel, stride, dilation, before, extent, outputs)
        assert all(max(reads[o], default=-1) < available for o in range(ready))
        if after == 0 and dilation == 1 and all(reads) and ready < outputs:
            assert max(reads[ready]) >= available


@pytest.mark.parametrize(("kernel", "stride", "dilation", "before", "extent"),
                         [c for c in itertools.product((1, 2, 3, 4), (1, 2, 3), (1, 2), (0, 1, 2), (1, 4))])
def test_spread_spans(kernel: int, stride: int, dilation: int, before: int, extent: int) -> None:
    outputs = spread_output_extent(extent, kernel, stride, dilation, (before, 0))
    reached = [{i * stride + k * dilation - before for k in range(kernel)} for i in range(extent)]
    assert outputs == max(max(r) for r in reached) + 1
    for out in spans(max(outputs, 0)):
        needed = spread_input_span(out, kernel, stride, dilation, before, extent)
        assert {i for i in range(extent) if reached[i] & set(range(*out))} <= set(range(*needed))
        if dilation == 1 and stride <= kernel:
            assert all(reached[i] & set(range(*out)) for i in range(*needed))


def test_span_algebra() -> None:
    assert Span(-2, 5).clip(4) == (0, 4)
    assert Span(6, 9).clip(4).extent == 0
    assert Span(1, 3).hull(Span(5, 6)) == (1, 6)
    assert Span(1, 3).hull(Span(7, 7)) == (1, 3)
    assert Span(0, 4).covers(Span(1, 4))
    assert not Span(0, 4).covers(Span(1, 5))
    assert Span(1, 3).shift(2) == (3, 5)
    assert window_input_span(Span(3, 3), 3).extent == 0
