"""Run the float network over samples of its inputs and write down the range of each value that is to be quantised.

    %r = nn.relu(%c) : tensor<1x8x8x16xf32>
        ->
    %r = nn.relu(%c) : tensor<1x8x8x16xf32>
    %s = qnn.range(%r) {low = 0.0, high = 5.4} : tensor<1x8x8x16xf32>

The samples stream by: each value has a histogram of fixed size. See `_histogram` for the methods, `_points` for the
values. The ranges are text like all else, so they can be looked at and edited before `quantize` reads them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import numpy as np

from tinyir.diag import did_you_mean, error, origins
from tinyir.interp import run
from tinyir.ir import Argument, Array, Level, Module, Value
from tinyir.opdef import Op
from tinyir.ops import Dequantize, Quantize, Range
from tinyir.pass_manager import Context, Pass, option
from tinyir.rewrite import Rewriter

from ._calibration import REFERENCE, FloatReference, kept, samples
from ._histogram import Histogram, Method
from ._points import Points


class Calibrate(Pass):
    """Measure the ranges of the values that are to be quantised."""

    name = "calibrate"
    level: ClassVar[Level] = "graph"

    method: Method = option("mse", "how a range follows from what was seen")
    percentile: float = option(99.99, "for method percentile: the share of elements inside the range")

    def run(self, module: Module, ctx: Context) -> None:
        _refuse_quantised(module)
        _refuse_unknown(kept(ctx), module)
        points = list(Points(module, kept(ctx)))
        if not points:
            raise error("there is nothing in this model that integers can compute")
        histograms, count = _measure(module, points, ctx)
        ctx.options[REFERENCE] = FloatReference.of(module)
        rewriter = self.rewriter(module, ctx)
        for value in points:
            low, high = histograms[value].range(self.method, self.percentile)
            _mark(value, low, high, rewriter)
            if low == high:
                ctx.remark(f"calibrate: %{value.name} was zero in all {count} samples", value.loc)
        ctx.stat("samples", count)
        ctx.stat("values", len(points))


def _refuse_quantised(module: Module) -> None:
    found = next((op for op in module.walk() if isinstance(op, (Quantize, Dequantize))), None)
    if found is not None:
        raise error("this model is quantised already", loc=found.loc,
                    help="--quantize is for float models; leave it out, the model is computed on its integers")


def _refuse_unknown(names: Collection[str], module: Module) -> None:
    """Each name of an op to keep in float must be one."""
    known = {name for op in module.main.ops for name in (*origins(op.loc), *(r.name for r in op.results))}
    for name in names:
        if name not in known:
            raise error(f"--keep-float: there is no node or value {name!r}", help=did_you_mean(name, known))


def _measure(module: Module, points: list[Value], ctx: Context) -> tuple[dict[Value, Histogram], int]:
    """A histogram of each point, and the number of samples."""
    histograms = {value: Histogram() for value in points}
    arguments = [a for a in module.main.inputs if a in histograms]

    def observe(op: Op, results: list[Array]) -> None:
        for value, array in zip(op.results, results, strict=True):
            if value in histograms:
                _count(value, array, histograms[value])

    count = 0
    for sample in samples(module, ctx):
        by_argument = dict(zip(module.main.inputs, sample, strict=True))
        for argument in arguments:
            _count(argument, by_argument[argument], histograms[argument])
        run(module, sample, observe)
        count += 1
    if not count:
        raise error("there are no samples to calibrate with")
    return histograms, count


def _count(value: Value, array: Array, histogram: Histogram) -> None:
    if not np.isfinite(array).all():
        raise error(f"%{value.name} is not finite for one of the samples, so it has no range", loc=value.loc)
    histogram.add(array)


def _mark(value: Value, low: float, high: float, rw: Rewriter) -> None:
    """Let all readers of `value` read it through a range."""
    made = Range(value, low=float(np.float32(low)), high=float(np.float32(high)))
    if isinstance(value, Argument):
        rw.insert_before(rw.module.main.ops[0], made, name=f"{value.name}_range")
        made.loc = value.loc
    else:
        assert value.op is not None
        rw.insert_after(value.op, made, name=f"{value.name}_range")
    for use in list(value.uses):
        if use.op is not made:
            rw.set_operand(use.op, use.index, made.out)
