"""Numpy views for ops that slide a window over the rows and columns of an NHWC array; axis 0 is rows, 1 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..geometry import dilated
from ..ir import Array

__all__ = ["axis_pads", "pad_rows_columns", "tap_slices", "windows"]


def axis_pads(pad: Sequence[int], axis: int) -> tuple[int, int]:
    """Before and after along `axis`, out of top, left, bottom, right."""
    return pad[axis], pad[axis + 2]


def pad_rows_columns(x: Array, pad: Sequence[int], value: float) -> Array:
    """x [N, H, W, C] with `value` around; `pad` is top, left, bottom, right."""
    if not any(pad):
        return x
    top, left, bottom, right = pad
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def windows(x: Array, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Array:
    """A view [N, OH, OW, C, KH, KW] of all windows of x [N, H, W, C]."""
    spans = (dilated(kernel[0], dilation[0]), dilated(kernel[1], dilation[1]))
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(1, 2))
    return view[:, ::stride[0], ::stride[1], :, ::dilation[0], ::dilation[1]]


def tap_slices(x: Array, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) \
        -> Iterator[tuple[int, int, Array]]:
    """For each tap (ky, kx) of the window, in raster order, the view [N, OH, OW, C] of what all windows have there."""
    view = windows(x, kernel, stride, dilation)
    for ky, kx in np.ndindex(kernel[0], kernel[1]):
        yield ky, kx, view[..., ky, kx]
