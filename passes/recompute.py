"""Compute some channels of a squeeze-and-excitation block twice, so that only the others are stored until the scale is
known.

    %e = qnn.conv2d(%x, @w1, @b1) : tensor<1x28x28x240xi8, q<0.02:-128>>
    %d = qnn.depthwise_conv2d(%e, @w2, @b2) {pad = [2, 2, 2, 2]} : tensor<1x28x28x240xi8, q<0.01:-128>>
    %m = qnn.reduce_mean(%d) {axes = [1, 2]} : tensor<1x1x1x240xi8, q<0.01:-128>>
    ...                                                                          %s: the scale, from %m
    %z = qnn.mul(%d, %s) : tensor<1x28x28x240xi8, q<0.01:-128>>
    %y = qnn.conv2d(%z, @w3, @b3) : tensor<1x28x28x40xi8, q<0.03:5>>
        ->  recompute{block=z, kept=48}
    %e, %d, %m of channels 0 ... 47; %e_1, %d_1, %m_1 of the other 192: of them only the mean is used
    %m_2 = nn.concat(%m, %m_1) {axis = 3}
    ...
    %z = qnn.mul(%d, %s_1)                                                       those that were kept, scaled
    %e_2, %d_2, %z_1 = qnn.mul(%d_2, %s_2)                                       the others, again
    %y = qnn.conv2d(%z, @w3, @b3) : tensor<1x28x28x40xi32, ...>                  the sums of those that were kept
    %y_1 = qnn.project(%z_1, @w3_1, %y) : tensor<1x28x28x40xi8, q<0.03:5>>

What is computed twice runs row by row the second time (`stream`), and for some channels at a time the first (`split`),
so that little of it is in memory at one time. Results are the same, but for the order of float sums.
"""

from __future__ import annotations

from typing import ClassVar

from tinyir.diag import did_you_mean, error
from tinyir.ir import Func, Level, Module
from tinyir.pass_manager import Context, Pass, option

from . import _recompute_ways  # noqa: F401  (registers the ways that compute channels twice)
from ._excite import Excite, excite_of, part_block


class Recompute(Pass):
    """Compute some channels of a squeeze-and-excitation block twice."""

    name = "recompute"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant", "sched")
    block: str = option("", "the value that is scaled, or the scaled one")
    kept: int = option(0, "channels that are stored; the others are computed twice")

    def run(self, module: Module, ctx: Context) -> None:
        block = _block_called(self.block, module.main)
        if not 0 <= self.kept < block.channels:
            raise error(f"recompute: kept should be 0 to {block.channels - 1}, not {self.kept}",
                        loc=block.scaled.loc)
        part_block(block, self.kept, module.main, module)
        dropped = module.drop_unused_consts()
        ctx.stat("channels-again", block.channels - self.kept)
        ctx.stat("macs-again", block.macs * (block.channels - self.kept) // block.channels)
        ctx.stat("constants-dropped", dropped)


def _block_called(name: str, func: Func) -> Excite:
    """The block whose scaled value, or what it is before, is called that."""
    blocks = [block for op in func.ops if (block := excite_of(op)) is not None]
    named = {value.name: block for block in blocks for value in (block.value, block.scaled.out)}
    if name in named:
        return named[name]
    values = [result.name for op in func.ops for result in op.results]
    if name not in values:
        raise error(f"recompute: there is no value %{name}", help=did_you_mean(name, values))
    raise error(f"recompute: %{name} is not scaled by a vector that is made of its mean, and then summed over its "
                "channels by a 1x1 convolution", help="blocks are " + (", ".join(sorted(named)) or "none"))
