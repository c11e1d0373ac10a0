"""Kernels that fold axes: k.reduce (sum, mean, max, min, prod) and k.arg_extreme.

Where the last axis stays, as in global pooling of an NHWC image, a few neighbouring results are accumulated at a time
in registers while the loops run over what is folded; where it is folded, one result at a time.
"""

from __future__ import annotations

from typing import Any, Literal, final

import numpy as np

from tinyir import ops
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Op, Written
from tinyir.types import Shape

from ..text import c_type, c_value, fill
from .base import Kernel, evaluate
from .loops import Strides, collapse, index, nest, row_major
from .scalar import binary_expression

__all__ = ["ArgExtreme", "Reduce"]

ReduceFunction = Literal["mean", "sum", "max", "min", "prod"]
_KINDS: dict[str, type[Op]] = {"mean": ops.ReduceMean, "sum": ops.ReduceSum, "max": ops.ReduceMax,
                               "min": ops.ReduceMin, "prod": ops.ReduceProd}
_STEPS = {"mean": "add", "sum": "add", "max": "max", "min": "min", "prod": "mul"}
_BLOCK = 8  # results in registers at a time


@final
class Reduce(Kernel, opname="k.reduce"):
    """y = x folded over `axes`."""

    x: Value
    y: Written
    function: ReduceFunction
    axes: tuple[int, ...]                  # counted from the front, in order

    def stem(self) -> str:
        return f"reduce_{self.function}_{self.x.type.dtype}"

    def reference(self, x: Array, y: Array) -> None:
        y[...] = evaluate(_KINDS[self.function], x, axes=self.axes, keepdims=True).reshape(y.shape)

    def _step(self, result: str) -> str:
        """Statement that takes {x} into `result`."""
        expression = binary_expression(_STEPS[self.function], result, "{x}", self.x.type.dtype)
        return f"{result} = {expression};"

    def _initial(self) -> str:
        dtype = self.x.type.dtype
        if self.function in ("mean", "sum"):
            return c_value(0, dtype)
        if self.function == "prod":
            return c_value(1, dtype)
        low, high = (-np.inf, np.inf) if dtype.is_float else dtype.range
        return c_value(low if self.function == "max" else high, dtype)

    def _finish(self, result: str) -> str:
        folded = self.x.type.elements // self.y.type.elements
        return f"{result} / {c_value(folded, self.x.type.dtype)}" if self.function == "mean" else result

    def source(self) -> str:
        shape = self.x.shape
        kept = [a for a in range(len(shape)) if a not in self.axes]
        folded = [a for a in range(len(shape)) if a in self.axes and shape[a] != 1]
        dense = row_major(shape)
        inner = next((a for a in reversed(range(len(shape))) if shape[a] != 1), None)
        if inner is None or inner in self.axes or not folded:
            body = self._one_by_one([(shape[a], dense[a]) for a in kept], [(shape[a], dense[a]) for a in folded])
        else:
            body = self._by_blocks([(shape[a], dense[a]) for a in kept], [(shape[a], dense[a]) for a in folded])
        kind = c_type(self.x.type.dtype)
        return fill("static void {name}(const {kind} *restrict x, {kind} *restrict y)\n{\n    {body}\n}", kind=kind,
                    body=body)

    def _one_by_one(self, kept: list[tuple[int, int]], folded: list[tuple[int, int]]) -> str:
        """Every result is finished before the next begins."""
        shape, strides = tuple(e for e, _ in kept), tuple(s for _, s in kept)
        inside = _folding_loops(folded, self._step("result"), "from")
        body = fill("""
            const {kind} *from = &{x};
            {kind} result = {start};
            {inside}
            {y} = {finish};
        """, kind=c_type(self.x.type.dtype), start=self._initial(), inside=inside, finish=self._finish("result"))
        return nest(shape, {"x": strides, "y": row_major(shape)}, body)

    def _by_blocks(self, kept: list[tuple[int, int]], folded: list[tuple[int, int]]) -> str:
        """Blocks of neighbours of the last kept axis (merged with those that lie right in front of it)."""
        shape = tuple(e for e, _ in kept)
        extents, merged = collapse(shape, {"x": tuple(s for _, s in kept), "y": row_major(shape)})
        outer = (extents[:-1], merged["x"][:-1], merged["y"][:-1])
        whole, rest = divmod(extents[-1], _BLOCK)
        parts = [self._block(outer, folded, 0, whole, _BLOCK)] if whole else []
        return "\n".join(parts + ([self._block(outer, folded, whole * _BLOCK, 1, rest)] if rest else []))

    def _block(self, outer: tuple[Shape, Strides, Strides], folded: list[tuple[int, int]], first: int, blocks: int,
               width: int) -> str:
        extents, x_strides, y_strides = outer
        shape = (*extents, blocks)
        # Written out: in a small array, the results would stay in memory at -O2 and -Os.
        kind, sums = c_type(self.x.type.dtype), [f"s{c}" for c in range(width)]
        steps = "\n".join(self._step(name).replace("{x}", f"line[{c}]") for c, name in enumerate(sums))
        body = fill("""
            const {kind} *from = &{x};
            {kind} {starts};
            {inside}
            {kind} *to = &{y};
            {results}
        """, kind=kind, starts=", ".join(f"{name} = {self._initial()}" for name in sums),
            inside=_folding_loops(folded, steps, "from", f"const {kind} *line"),
            results="\n".join(f"to[{c}] = {self._finish(name)};" for c, name in enumerate(sums)))
        strides = {"x": (*x_strides, _BLOCK), "y": (*y_strides, _BLOCK)}
        loops = nest(shape, strides, body, {"x": first, "y": first})
        return loops if loops.startswith("for") else fill("{\n    {loops}\n}", loops=loops)


def _folding_loops(folded: list[tuple[int, int]], body: str, origin: str, line: str = "") -> str:
    """Loops over the folded axes, counters j0, j1, ...; {x} in `body` is the element at `origin`, or `line` declares a
    pointer to it.
    """
    extents, merged = collapse(tuple(e for e, _ in folded), {"x": tuple(s for _, s in folded)})
    at = index(merged["x"]).replace("i", "j")
    lines = fill(body, x=f"{origin}[{at}]").rstrip("\n").splitlines()
    if line:
        lines = [f"{line} = {origin} + {at};", *lines]
    for axis in reversed(range(len(extents))):
        head = f"for (int32_t j{axis} = 0; j{axis} < {extents[axis]}; j{axis}++) {{"
        lines = [head, *(f"    {text}" for text in lines), "}"]
    return "\n".join(lines)


@final
class ArgExtreme(Kernel, opname="k.arg_extreme"):
    """y = position of the greatest (least) x along `axis`; of equal ones the first, or the last if `select_last`."""

    x: Value
    y: Written
    axis: int                              # counted from the front
    greatest: bool
    select_last: bool = False

    def stem(self) -> str:
        return f"arg_{'max' if self.greatest else 'min'}_{self.x.type.dtype}"

    def reference(self, x: Array, y: Array) -> None:
        kind = ops.ArgMax if self.greatest else ops.ArgMin
        y[...] = evaluate(kind, x, axis=self.axis, keepdims=True, select_last=self.select_last).reshape(y.shape)

    def source(self) -> str:
        shape = self.x.shape
        sign = (">" if self.greatest else "<") + ("=" if self.select_last else "")
        return fill("""
            static void {name}(const {kind} *restrict x, int64_t *restrict y)
            {
                for (int32_t outer = 0; outer < {outer}; outer++) {
                    for (int32_t i = 0; i < {inner}; i++) {
                        const {kind} *from = x + outer * {block} + i;
                        int32_t best = 0;
                        for (int32_t k = 1; k < {extent}; k++) {
                            best = from[k * {inner}] {sign} from[best * {inner}] ? k : best;
                        }
                        y[outer * {inner} + i] = best;
                    }
                }
            }
        """, kind=c_type(self.x.type.dtype), outer=int(np.prod(shape[:self.axis])), sign=sign,
            extent=shape[self.axis], inner=(inner := int(np.prod(shape[self.axis + 1:]))),
            block=shape[self.axis] * inner)


def _lower_reduce(op: Any, low: Lowering) -> None:
    function = op.opname.removeprefix("nn.reduce_")
    low.emit(Reduce(low.buffer(op.x), low.result(op.out), function, op.folded))


for _kind in _KINDS.values():
    lowers(_kind)(_lower_reduce)


@lowers(ops.ArgMax)
def lower_arg_max(op: ops.ArgMax, low: Lowering) -> None:
    axis = op.axis % op.x.type.rank
    low.emit(ArgExtreme(low.buffer(op.x), low.result(op.out), axis, True, op.select_last))


@lowers(ops.ArgMin)
def lower_arg_min(op: ops.ArgMin, low: Lowering) -> None:
    axis = op.axis % op.x.type.rank
    low.emit(ArgExtreme(low.buffer(op.x), low.result(op.out), axis, False, op.select_last))
