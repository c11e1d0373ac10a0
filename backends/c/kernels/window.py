"""What row kernels of convolutions and pools have in common: a result reads a window of the input.

    class ConvF32(WindowKernel, opname="k.conv2d_f32"):
        stride: tuple[int, int]                # kernel, stride and pad: what the window is and where it goes
        ...                                    # its rows of input, the taps that lie inside: follow from them
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tinyir.geometry import Span, window_input_span, window_output_extent

from .base import RowKernel
from .taps import RowTaps

__all__ = ["ConvKernel", "WindowKernel"]

Pair = tuple[int, int]


class WindowKernel(RowKernel):
    """A row kernel over windows. Subclasses have `kernel`, `stride` and `pad` as attributes or properties, and say
    `row_dilation` where their taps may lie apart."""

    batched: ClassVar[tuple[str, ...]] = ("x", "y")

    if TYPE_CHECKING:
        @property
        def kernel(self) -> Pair: ...
        @property
        def stride(self) -> Pair: ...
        @property
        def pad(self) -> tuple[int, int, int, int]: ...

    @property
    def row_dilation(self) -> int:
        """Rows from one tap to the next."""
        return 1

    @property
    def taps(self) -> RowTaps:
        """The vertical side of the window."""
        return RowTaps(self.height, self.out_height(), self.kernel[0], self.stride[0], self.row_dilation, self.pad[0])

    def out_height(self) -> int:
        pads = self.pad[0], self.pad[2]
        return window_output_extent(self.height, self.kernel[0], self.stride[0], self.row_dilation, pads)

    def input_rows(self, rows: Pair) -> Pair:
        return window_input_span(Span(*rows), self.kernel[0], self.stride[0], self.row_dilation, self.pad[0],
                                 self.height)

    def first_row(self) -> str:
        return self.taps.first_row()


class ConvKernel(WindowKernel):
    """A window over all channels of the input, which each output channel multiplies with weights of its own."""

    @property
    def inputs(self) -> int:
        """Elements of a window."""
        return self.kernel[0] * self.kernel[1] * self.reads[0].shape[3]

    @property
    def pointwise(self) -> bool:
        """Whether output pixel i reads input pixel i and nothing else."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and not any(self.pad)

    def macs(self) -> int:
        images, _, width, outputs = self.writes[0].shape
        return images * (self.rows[1] - self.rows[0]) * width * outputs * self.inputs
