"""The inner block of convolutions and matrix products, in C: a few pixels times a few output channels.

Every accumulator is a named variable, so that each compiler keeps it in a register; each weight is loaded once for all
pixels, each input once for all channels. Two pixels by two channels, two steps at a time:

    for (int32_t k = 0; k < 64; k += 2) {
        w0 = ws[0]; w1 = ws[1];
        v = xs[0]; a0_0 = tc_fma(v, w0, a0_0); a0_1 = tc_fma(v, w1, a0_1);
        v = xs[64]; a1_0 = tc_fma(v, w0, a1_0); a1_1 = tc_fma(v, w1, a1_1);
        w0 = ws[2]; w1 = ws[3];
        v = xs[1]; ...
        xs += 2;
        ws += 4;
    }

With vectors an accumulator is a register of neighbouring channels and v is spread over its lanes.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyir.ops.activation import Activation

from ..text import fill
from .blocking import unroll
from .epilogue import activation

__all__ = ["Tile"]

_REACH = 1020 // 4   # floats that a load instruction of a small core reaches from its base register


@dataclass(frozen=True)
class Tile:
    """The shape of an inner block and how it is written.

    Accumulator a<p>_<l> is pixel p, lane l (a<p> if there is one lane). `kind` is its C type; a lane is one channel
    (float) or one vector of channels, then `spread` floats lie between the weights of two lanes and `apart` channels
    between what they are.
    """

    pixels: int
    lanes: int
    block: int
    kind: str = "float"
    spread: int = 1
    apart: int = 1
    fma: bool = False

    @property
    def vector(self) -> bool:
        return self.kind != "float"

    def describe(self, pixels: str = "pixels") -> str:
        """How much it computes at a time, for comments."""
        lanes = "vector" if self.vector else "channel"
        return f"{self.pixels} {pixels[:-1] if self.pixels == 1 else pixels} by {self.lanes} {lanes}" \
            f"{'s' if self.lanes > 1 else ''}"

    @property
    def fills_block(self) -> bool:
        """Whether a lane (of vectors) or all lanes (of scalars) are a whole packed block."""
        return self.block == 4 if self.vector else self.lanes == self.block

    def load(self, pointer: str, offset: int) -> str:
        """C expression for an accumulator's worth of floats."""
        if not self.vector:
            return f"{pointer}[{offset}]"
        return f"*(const {self.kind} *)({pointer} + {offset})" if offset else f"*(const {self.kind} *){pointer}"

    def total(self, pixel: int, lane: int = 0) -> str:
        """The name of an accumulator."""
        return f"a{pixel}_{lane}" if self.lanes > 1 else f"a{pixel}"

    def start(self, pixels: int, bias: str) -> str:
        """Declarations: the accumulators of `pixels` pixels start as the bias of their channel, or as 0 without one."""
        rows = []
        for p in range(pixels):
            first = [self._first(p, i, bias) for i in range(self.lanes)]
            rows.append(", ".join(f"{self.total(p, i)} = {value}" for i, value in enumerate(first)))
        if self.lanes == 1:
            return f"{self.kind} {', '.join(rows)};"
        return "\n".join(f"{self.kind} {row};" for row in rows)

    def _first(self, pixel: int, lane: int, bias: str) -> str:
        if not bias:
            return "{0}" if self.vector else "0.0f"
        return self.total(0, lane) if pixel else self.load(bias, lane * self.apart)

    def step(self, pixels: tuple[int, int], x: list[str], w: str, first: int) -> str:
        """One step: weights from `w` at offset `first`, the input of each active pixel from `x`."""
        weights = " ".join(f"w{i} = {self.load(w, first + i * self.spread)};" for i in range(self.lanes))
        if self.lanes == 1:
            sums = [self.multiply(self.total(p), "w0", source) for p, source in zip(range(*pixels), x, strict=True)]
            return "\n".join([weights, *(" ".join(sums[i:i + 4]) for i in range(0, len(sums), 4))])
        lines = [weights]
        for p, source in zip(range(*pixels), x, strict=True):
            sums = [self.multiply(self.total(p, lane), f"w{lane}") for lane in range(self.lanes)]
            lines.append(f"v = {source}; {' '.join(sums)}")
        return "\n".join(lines)

    def multiply(self, total: str, weight: str, x: str = "v") -> str:
        """One multiply-accumulate."""
        return f"{total} = tc_fma({x}, {weight}, {total});" if self.fma else f"{total} += {x} * {weight};"

    def declare(self) -> str:
        """Declarations of what `step` assigns."""
        weights = f"{self.kind} {', '.join(f'w{lane}' for lane in range(self.lanes))};"
        return f"{weights}\nfloat v;" if self.lanes > 1 else weights

    def accumulate(self, pixels: tuple[int, int], length: int, pixel_step: int, short: bool = False) -> str:
        """The loop over `length` inputs, with `xs` at the first of the active pixels and `ws` at the weights.

        Pixels are `pixel_step` floats apart. The loop moves both pointers. `short` asks for little code.
        """
        count = self._steps(length, pixels[1] - pixels[0], short)
        pointers = self._pointers(pixels[1] - pixels[0], pixel_step, count)
        body = []
        for u in range(count):
            sources = [f"{pointers[p][0]}[{pointers[p][1] + u}]" for p in range(pixels[1] - pixels[0])]
            body.append(self.step(pixels, sources, "ws", u * self.block))
        names = list(dict.fromkeys(name for name, _ in pointers))
        extra = "\n".join(f"const float *{n} = xs + {int(n[2:]) * pixel_step};" for n in names[1:])
        if count == length:
            return "\n".join(filter(None, [extra, *body]))
        moves = "\n".join([*(_advance(n, count) for n in names), _advance("ws", count * self.block)])
        return fill("""
            {extra}
            for (int32_t k = 0; k < {length}; {step}) {
                {body}
                {moves}
            }
        """, extra=extra, length=length, step=_advance("k", count).rstrip(";"), body="\n".join(body), moves=moves)

    def _steps(self, length: int, pixels: int, short: bool) -> int:
        """Inputs for each turn of the loop: all of a short one; four scalars pay for the loop, two vectors do."""
        if length <= 8 and length * pixels <= 32:
            return length
        return unroll(length, 1 if short else 2 if self.vector else 4)

    def _pointers(self, pixels: int, pixel_step: int, count: int) -> list[tuple[str, int]]:
        """For each pixel the pointer it is read through and its offset there: `xs` and, out of its reach, `xs<p>`."""
        places: list[tuple[str, int]] = []
        base, name = 0, "xs"
        for p in range(pixels):
            if not self.vector and (p - base) * pixel_step + count > _REACH:
                base, name = p, f"xs{p}"
            places.append((name, (p - base) * pixel_step))
        return places

    def finish(self, pixels: int, y: str, pixel_step: int, act: Activation, act_args: tuple[float, ...],
               left: str) -> str:
        """Stores: the activation of each accumulator to `y`, pixels `pixel_step` floats apart.

        `left` is a C expression for the channels that there are from the first lane on, if they may be fewer than
        the block has, else empty.
        """
        lines = []
        for p in range(pixels):
            stores = []
            for lane in range(self.lanes):
                value = activation(self.total(p, lane), act, act_args, self.kind)
                stores.append(self._store(y, p * pixel_step, lane, value, left))
            lines.append(" ".join(stores) if not left or self.vector else "\n".join(stores))
        return "\n".join(lines)

    def _store(self, y: str, offset: int, lane: int, value: str, left: str) -> str:
        offset += lane * self.apart
        if not self.vector:
            guard = f"if ({left} > {lane}) " if left and lane else ""
            return f"{guard}{y}[{offset}] = {value};"
        place = f"{y} + {offset}" if offset else y
        if not left:
            return f"*({self.kind} *)({place}) = {value};" if offset else f"*({self.kind} *){place} = {value};"
        remaining = f"{left} - {lane * self.apart}" if lane else left
        return f"tc_part_{self.kind.removeprefix('tc_')}({place}, {value}, {remaining});"


def _advance(name: str, count: int) -> str:
    return f"{name}++;" if count == 1 else f"{name} += {count};"
