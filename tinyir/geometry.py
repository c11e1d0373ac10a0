"""Which input rows an output row needs: the arithmetic of sliding windows, one axis at a time.

    a 3-row window, stride 2, one row of padding, over 16 rows:
        window_output_extent(16, kernel=3, stride=2, pads=(1, 1))                               -> 8
        window_input_span(Span(0, 4), kernel=3, stride=2, pad_before=1, input_extent=16)         -> Span(0, 8)

Spans are half-open. An input span is clipped to the input: padding is never part of it. It may hold rows between the
first and the last one that are not read (dilation, stride greater than the kernel), but every row read lies in it.
Formulas: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", with dilation.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Axis", "Box", "Span", "axis_index", "dilated", "spread_input_span", "spread_output_extent",
           "window_input_span", "window_output_extent", "window_output_span", "window_part_pads", "window_ready_extent"]

Axis = Literal["rows", "columns"]


def axis_index(axis: Axis) -> int:
    """The dimension of an NHWC tensor that `axis` names."""
    return 1 if axis == "rows" else 2


class Span(NamedTuple):
    """The rows `begin`, ..., `end - 1`."""

    begin: int
    end: int

    @property
    def extent(self) -> int:
        """Number of rows."""
        return max(0, self.end - self.begin)

    def clip(self, extent: int) -> Span:
        """The part of it that lies in the rows 0, ..., extent - 1; an empty span stays inside that range too."""
        begin = min(max(self.begin, 0), extent)
        return Span(begin, min(max(self.end, begin), extent))

    def shift(self, offset: int) -> Span:
        """The rows `offset` further down."""
        return Span(self.begin + offset, self.end + offset)

    def hull(self, other: Span) -> Span:
        """The smallest span that holds both; an empty one adds nothing."""
        if not self.extent or not other.extent:
            return self if self.extent else other
        return Span(min(self.begin, other.begin), max(self.end, other.end))

    def covers(self, other: Span) -> bool:
        """Whether every row of `other` is in it."""
        return not other.extent or (self.begin <= other.begin and other.end <= self.end)


class Box(NamedTuple):
    """A part of an image."""

    rows: Span
    columns: Span

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.rows.extent * self.columns.extent


def dilated(kernel: int, dilation: int) -> int:
    """Rows from the first tap of a window to its last, both counted."""
    return (kernel - 1) * dilation + 1


def window_output_extent(input_extent: int, kernel: int, stride: int = 1, dilation: int = 1,
                         pads: tuple[int, int] = (0, 0)) -> int:
    """Number of windows that fit; zero or negative if none does."""
    return (input_extent + sum(pads) - dilated(kernel, dilation)) // stride + 1


def window_input_span(out: Span, kernel: int, stride: int = 1, dilation: int = 1, pad_before: int = 0,
                      input_extent: int = 1 << 30) -> Span:
    """The input rows that the windows of the output rows `out` read."""
    if not out.extent:
        return Span(0, 0)
    begin = out.begin * stride - pad_before
    end = (out.end - 1) * stride - pad_before + dilated(kernel, dilation)
    return Span(begin, end).clip(input_extent)


def window_output_span(rows: Span, kernel: int, stride: int = 1, dilation: int = 1, pad_before: int = 0,
                       output_extent: int = 1 << 30) -> Span:
    """The output rows whose windows overlap the input rows `rows`: what changes when those do."""
    if not rows.extent:
        return Span(0, 0)
    first = -((dilated(kernel, dilation) - 1 - rows.begin - pad_before) // stride)
    last = (rows.end - 1 + pad_before) // stride
    return Span(first, last + 1).clip(output_extent)


def window_ready_extent(available: int, kernel: int, stride: int = 1, dilation: int = 1, pad_before: int = 0,
                        input_extent: int = 1 << 30, output_extent: int = 1 << 30) -> int:
    """How many output rows, from the first on, can be computed from the first `available` input rows."""
    if available >= input_extent:
        return output_extent
    complete = (available + pad_before - dilated(kernel, dilation)) // stride + 1
    return min(max(complete, 0), output_extent)


def window_part_pads(out: Span, given: Span, kernel: int, stride: int = 1, dilation: int = 1, pad_before: int = 0) \
        -> tuple[int, int]:
    """The padding before and after, for windows that compute the output rows `out` from the input rows `given`.

    `given` is what `window_input_span` says, or has rows behind these that make no window more.
    """
    begin = out.begin * stride - pad_before
    end = (out.end - 1) * stride - pad_before + dilated(kernel, dilation)
    return given.begin - begin, max(0, end - given.end)


def spread_output_extent(input_extent: int, kernel: int, stride: int = 1, dilation: int = 1,
                         pads: tuple[int, int] = (0, 0), output_pad: int = 0) -> int:
    """Output rows of a transposed convolution; `pads` are cropped from its result."""
    return (input_extent - 1) * stride + dilated(kernel, dilation) + output_pad - sum(pads)


def spread_input_span(out: Span, kernel: int, stride: int = 1, dilation: int = 1, pad_before: int = 0,
                      input_extent: int = 1 << 30) -> Span:
    """The input rows of a transposed convolution that reach the output rows `out`."""
    if not out.extent:
        return Span(0, 0)
    first = -((dilated(kernel, dilation) - 1 - out.begin - pad_before) // stride)
    last = (out.end - 1 + pad_before) // stride
    return Span(first, last + 1).clip(input_extent)
