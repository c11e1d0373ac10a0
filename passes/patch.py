"""Compute the first layers tile by tile, as MCUNetV2 does: their activations need only be as large as a tile's.

    patch{grid=3x3,until=conv_4}

    %conv_2 = qnn.conv2d(%x, @w1, @b1) {stride = [2, 2], pad = [1, 1, 1, 1]} : tensor<1x48x48x16xi8>
    %dw_3 = qnn.depthwise_conv2d(%conv_2, @w2, @b2) {pad = [1, 1, 1, 1]} : tensor<1x48x48x16xi8>
    %conv_4 = qnn.conv2d(%dw_3, @w3, @b3) : tensor<1x48x48x8xi8>
        ->
    %conv_4 = sched.patch() {grid = [3, 3]} : tensor<1x48x48x8xi8> { ... }

Every tile computes as much of %conv_2 and %dw_3 as it needs; what two tiles need is computed twice, nothing else is.
`from` starts later than with the input. With `rows` the grid is 1xN, strips from top to bottom, and each strip runs row
by row. `until=auto` tries all depths and square grids, layer by layer within a tile and behind the patch, and takes the
one whose peak is least, among those that compute at most `overhead` of all multiply-accumulates again; the table is
told with --remarks.

Source: Lin et al., MCUNetV2: Memory-efficient Patch-based Inference for Tiny Deep Learning, 2021, section 3.1.
"""

from __future__ import annotations

import re
from typing import ClassVar

from tinyir.diag import CompileError, did_you_mean, error
from tinyir.ir import Func, Level, Module
from tinyir.opdef import Op
from tinyir.ops import Patch
from tinyir.pass_manager import Context, Pass, option
from tinyir.registry import load_plugins

from . import _strip_ways  # noqa: F401  (registers the ways to run in strips)
from ._patches import best_patch, put_in_patch
from .stream import prepare_rows


class PatchStage(Pass):
    """Compute a run of layers for one tile of their result after the other."""

    name = "patch"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant", "sched")
    to_level: ClassVar[Level] = "sched"
    grid: str = option("", "rows x columns of tiles, as 3x3")
    until: str = option("auto", "the last value to compute by tiles; auto: where the peak is least")
    from_: str = option("", "the first value to compute by tiles; default: from the input on")
    rows: int = option(0, "run each tile row by row, that many rows a step; 0: layer by layer")
    overhead: str = option("10%", "with until=auto: multiply-accumulates that may be computed again")

    def run(self, module: Module, ctx: Context) -> None:
        load_plugins()
        func, rewriter = module.main, self.rewriter(module, ctx)
        prepare_rows(func, rewriter)
        if self.until == "auto":
            self._choose(func, module, ctx)
        else:
            self._put(_grid(self.grid), _between(func, self.from_, self.until), func, module)
        ctx.stat("macs", sum(op.macs() for op in module.walk()))
        ctx.stat("recomputed-macs", sum(op.macs() for op in module.walk() if isinstance(op, Patch)))

    def _choose(self, func: Func, module: Module, ctx: Context) -> None:
        if self.rows:
            raise error("patch: until=auto is for tiles that run layer by layer, without rows",
                        help="the pass schedule chooses strips that run row by row")
        best = best_patch(func, ctx, _share(self.overhead))
        if best is None:
            ctx.remark("patch: none needs less than the network layer by layer")
            return
        group = func.ops[best.first:best.end]
        ctx.remark(f"patch: {best.grid[0]}x{best.grid[1]} tiles until %{group[-1].out.name}")
        ctx.stat("peak-bytes", best.peak)
        self._put(best.grid, group, func, module)

    def _put(self, grid: tuple[int, int], group: list[Op], func: Func, module: Module) -> None:
        patch = put_in_patch(grid, self.rows, (), group, func, module)
        try:
            for op in (patch,) if patch is not None else ():
                op.verify()
        except CompileError as problem:
            raise error(f"patch: {problem.diagnostics[0].message}", loc=problem.diagnostics[0].loc,
                        help="end the patch in front of it, with until=LAYER") from None


def _grid(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if found is None:
        raise error(f"patch: the grid is {text!r}, expected rows x columns of tiles, such as 3x3")
    return int(found[1]), int(found[2])


def _share(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)%", text)
    if found is None:
        raise error(f"patch: the overhead is {text!r}, expected a percentage, such as 10%")
    return float(found[1]) / 100


def _between(func: Func, first: str, last: str) -> list[Op]:
    """The ops from %first (or the first of all) to %last."""
    places = {result.name: index for index, op in enumerate(func.ops) for result in op.results}
    for name in filter(None, (first, last)):
        if name not in places:
            raise error(f"patch: there is no value %{name}", help=did_you_mean(name, places))
    begin, end = places[first] if first else 0, places[last] + 1
    if begin >= end:
        raise error(f"patch: %{first} is computed behind %{last}")
    return func.ops[begin:end]
