"""The inner block of integer convolutions and matrix products, in C: a few pixels times a few output channels.

Two pixels by two channels over 64 inputs; the weights of a channel lie behind each other, channels 64 apart:

    int32_t a0_0 = bo[0], a0_1 = bo[1];
    int32_t a1_0 = bo[0], a1_1 = bo[1];
    for (int32_t k = 0; k < 64; k += 4) {
        #pragma GCC unroll 4
        for (int32_t i = 0; i < 4; i++) {
            const int32_t w0 = ws[i], w1 = ws[i + 64];
            const int32_t x0 = xs[i], x1 = xs[i + 64];
            a0_0 += x0 * w0; a0_1 += x0 * w1;
            a1_0 += x1 * w0; a1_1 += x1 * w1;
        }
        xs += 4;
        ws += 4;
    }

so that sums stay in registers, each weight is loaded once for all pixels, and a compiler with vector instructions for
dot products can use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyir.types import DType

from ..text import fill
from .blocking import unroll

__all__ = ["SumTile", "channel_blocks", "difference", "plus"]

_STEPS = 4
"""Of the loop over inputs, written out."""


def plus(offset: int) -> str:
    """` + 8`, ` - 8` or nothing."""
    return f" {'+' if offset > 0 else '-'} {abs(offset)}" if offset else ""


def difference(element: str, zero: int, dtype: DType) -> str:
    """C expression for an element of type `dtype` less its zero point.

    The cast stands against a bug of gcc 12: in a dot product for VNNI it takes (uint8_t) - 128 for an unsigned byte.
    """
    if zero == 0:
        return element
    text = f"{element}{plus(-zero)}"
    return text if dtype.is_signed else f"(int16_t)({text})"


def channel_blocks(outputs: int, lanes: int) -> list[tuple[int, int, int]]:
    """`outputs` channels as (first, end, lanes of a block): whole blocks, and what is left."""
    whole = outputs // lanes * lanes
    blocks = [(0, whole, lanes)] if whole else []
    return [*blocks, (whole, outputs, outputs - whole)] if whole < outputs else blocks


@dataclass(frozen=True)
class SumTile:
    """The shape of an inner block: sum a<p>_<l> is pixel p, channel l.

    `apart` is the number of weights of one channel, `dtype` the element type of the inputs, `zero` what is subtracted
    from every input. `wraps` says that sums may leave int32 and have to wrap around, as the reference's do.
    """

    pixels: int
    lanes: int
    apart: int
    dtype: DType
    zero: int = 0
    wraps: bool = False

    @property
    def kind(self) -> str:
        """The C type of a sum."""
        return "uint32_t" if self.wraps else "int32_t"

    def start(self, bias: str, offsets: Sequence[int]) -> str:
        """Declarations: the sums of each pixel start as the biases of channels `o`, ... in its row of biases, which is
        `offsets` elements behind the C expression `bias`.
        """
        cast = f"({self.kind})" if self.wraps else ""
        lines = []
        for pixel, offset in enumerate(offsets):
            first = [f"a{pixel}_{lane} = {cast}{bias}[o{plus(offset + lane)}]" for lane in range(self.lanes)]
            lines.append(f"{self.kind} {', '.join(first)};")
        return "\n".join(lines)

    def total(self, pixel: int, lane: int) -> str:
        """C expression for a sum, int32_t."""
        return f"(int32_t)a{pixel}_{lane}" if self.wraps else f"a{pixel}_{lane}"

    def accumulate(self, pixels: tuple[int, int], length: int, pixel_step: int) -> str:
        """The loop over `length` inputs for pixels [begin, end), `pixel_step` elements apart.

        `xs` points at the first of them, `ws` at the weights.
        """
        counter = "i" if length > 1 else ""
        weights = ", ".join(f"w{i} = ws[{_at(counter, i * self.apart)}]" for i in range(self.lanes))
        inputs = ", ".join(f"x{p} = {difference(f'xs[{_at(counter, i * pixel_step)}]', self.zero, self.dtype)}"
                           for i, p in enumerate(range(*pixels)))
        sums = "\n".join(" ".join(self._multiply(p, lane) for lane in range(self.lanes)) for p in range(*pixels))
        body = f"const int32_t {weights};\nconst int32_t {inputs};\n{sums}"
        if length == 1:
            return body
        steps = unroll(length, _STEPS)
        written = fill("""
            #pragma GCC unroll {steps}
            for (int32_t i = 0; i < {steps}; i++) {
                {body}
            }
        """, steps=steps, body=body)
        if steps == length:
            return written
        return fill("""
            #pragma GCC unroll 1
            for (int32_t k = 0; k < {length}; k += {steps}) {
                {written}
                xs += {steps};
                ws += {steps};
            }
        """, length=length, steps=steps, written=written)

    def _multiply(self, pixel: int, lane: int) -> str:
        product = f"x{pixel} * w{lane}"
        return f"a{pixel}_{lane} += {f'(uint32_t)({product})' if self.wraps else product};"


def _at(counter: str, offset: int) -> str:
    if not counter:
        return str(offset)
    return f"{counter}{plus(offset)}"
