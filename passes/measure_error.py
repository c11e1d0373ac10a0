"""Compare a quantised network with the float network, and keep the figures for the report.

    qnn points, in order              sqnr     own      dB of all error so far, and of the error made right there
    %conv_0    nn.relu                42.1    42.3
    %conv_1    nn.relu                37.9    39.8

Changes nothing. See `_error` for what the figures mean.
"""

from __future__ import annotations

from typing import ClassVar

from tinyir.ir import Level, Module
from tinyir.pass_manager import Context, Pass, option

from ._error import measure

ERRORS = "quantisation_error"
"""In ctx.options: the figures, an `Errors`."""


class MeasureError(Pass):
    """Signal-to-noise ratio of each quantised value."""

    name = "measure-error"
    level: ClassVar[Level] = "graph"

    samples: int = option(32, "how many samples to look at")

    def run(self, module: Module, ctx: Context) -> None:
        errors = measure(module, ctx, self.samples)
        ctx.options[ERRORS] = errors
        ctx.stat("output-sqnr-db", round(errors.score, 2))
        if errors.values:
            worst = min(errors.values, key=lambda value: value.own)
            ctx.stat("worst-layer", worst.name)
            ctx.stat("worst-layer-own-db", round(worst.own, 2))
