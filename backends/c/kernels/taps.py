"""Which rows of a window lie inside the image: the vertical side of convolutions, in C and for the numpy reference."""

from __future__ import annotations

from dataclasses import dataclass

from ..text import fill

__all__ = ["RowTaps", "clipped_pad", "factor"]

Quad = tuple[int, int, int, int]


@dataclass(frozen=True)
class RowTaps:
    """The vertical side of a window: `outputs` rows from `extent` input rows."""

    extent: int
    outputs: int
    kernel: int
    stride: int
    dilation: int
    pad: int

    @property
    def clipped_above(self) -> bool:
        """Whether some output row reads above the image."""
        return self.pad > 0

    @property
    def clipped_below(self) -> bool:
        """Whether some output row reads below the image."""
        return (self.outputs - 1) * self.stride - self.pad + (self.kernel - 1) * self.dilation >= self.extent

    @property
    def begin(self) -> str:
        """C expression for the first tap inside."""
        return "ky_begin" if self.clipped_above else "0"

    @property
    def end(self) -> str:
        """C expression for the tap behind the last one inside."""
        return "ky_end" if self.clipped_below else str(self.kernel)

    @property
    def whole(self) -> str:
        """C condition for a window that lies inside; empty if all do."""
        parts = [f"{self.begin} == 0"] * self.clipped_above + [f"{self.end} == {self.kernel}"] * self.clipped_below
        return " && ".join(parts)

    def first_row(self) -> str:
        """C expression for the first input row that the rows from `row_begin` on read."""
        row = _scaled("row_begin", self.stride)
        if not self.clipped_above:
            return row
        return f"{row} < {self.pad} ? 0 : {row} - {self.pad}"

    def declare(self) -> str:
        """C declarations for output row `row`: `top`, the input row of tap 0, and the taps that are inside."""
        row = _scaled("row", self.stride)
        lines = [f"const int32_t top = {row} - {self.pad};" if self.pad else f"const int32_t top = {row};"]
        if self.clipped_above:
            first = self._taps_in("-top")
            lines.append(f"const int32_t ky_begin = top < 0 ? {first} : 0;")
        if self.clipped_below:
            reach = (self.kernel - 1) * self.dilation + 1
            last = self._taps_in(f"({self.extent} - top)")
            lines.append(f"const int32_t ky_end = top > {self.extent - reach} ? {last} : {self.kernel};")
        return "\n".join(lines)

    def _taps_in(self, rows: str) -> str:
        """C expression for how many taps lie in that many rows."""
        if self.dilation == 1:
            return rows
        return f"({rows} + {self.dilation - 1}) / {self.dilation}"

    def row(self, tap: str) -> str:
        """C expression for the input row of a tap."""
        return f"top + {_scaled(tap, self.dilation)}"

    def loop(self, body: str) -> str:
        """`body` for each tap `ky` that is inside."""
        return fill("""
            for (int32_t ky = {begin}; ky < {end}; ky++) {
                {body}
            }
        """, begin=self.begin, end=self.end, body=body)


def _scaled(name: str, factor: int) -> str:
    return name if factor == 1 else f"{name} * {factor}"


def clipped_pad(rows: tuple[int, int], taps: RowTaps, pad: Quad) -> Quad:
    """The padding around the input rows that output rows `rows` read: none above or below where they stay inside."""
    begin = rows[0] * taps.stride - taps.pad
    end = (rows[1] - 1) * taps.stride - taps.pad + (taps.kernel - 1) * taps.dilation + 1
    return max(0, -begin), pad[1], max(0, end - taps.extent), pad[3]


def factor(expression: str) -> str:
    """The C expression as a factor of a product: in parentheses if it is a sum."""
    return f"({expression})" if " " in expression and not expression.startswith("tc_wrap(") else expression
