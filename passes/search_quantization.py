"""Try ways to quantise, and keep the one whose outputs are closest to the float network's.

    search-quantization     ->     equalize-layers,calibrate{method=mse},quantize,round-weights      (for instance)

Every calibration method is tried with and without equalised layers; the best two of these also with corrected biases
and with rounded weights. Each attempt works on a copy; the winner is then run on the module, with all samples. What is
compared is the signal-to-noise ratio of the outputs (of a softmax: of its argument) on the calibration samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, cast, get_args

from tinyir.clone import clone_module
from tinyir.ir import Array, Level, Module, Value
from tinyir.pass_manager import Context, Pass, PassManager, option, parse_pipeline

from ._calibration import DATA, CalibrationData
from ._error import measure
from ._histogram import Method

TRIED = "quantisations_tried"
"""In ctx.options: pairs (pipeline, dB), best first."""

_FINISHES = ("correct-bias", "round-weights")


class SearchQuantization(Pass):
    """Quantise in the way that is found to be best."""

    name = "search-quantization"
    level: ClassVar[Level] = "graph"

    samples: int = option(48, "how many samples to try with")

    def run(self, module: Module, ctx: Context) -> None:
        methods = get_args(Method)
        first = [f"{front}calibrate{{method={method}}},quantize" for front in ("", "equalize-layers,")
                 for method in methods]
        tried = {text: self._attempt(text, module, ctx) for text in first}
        best = sorted(tried, key=lambda text: -tried[text])[:2]
        for text in [f"{text},{finish}" for text in best for finish in _FINISHES]:
            tried[text] = self._attempt(text, module, ctx)
        ranking = sorted(tried.items(), key=lambda item: -item[1])
        ctx.options[TRIED] = ranking
        for text, decibels in ranking:
            ctx.remark(f"{self.name}: {decibels:.1f} dB with {text}")
        PassManager(parse_pipeline(ranking[0][0])).run(module, ctx)
        ctx.current_pass = self.name
        ctx.stat("tried", len(ranking))
        ctx.stat("best", ranking[0][0])

    def _attempt(self, pipeline: str, module: Module, ctx: Context) -> float:
        """The score of `pipeline` on a copy of `module`."""
        copy, _ = clone_module(module)
        data = _Few(cast(CalibrationData, ctx.options.get(DATA)), self.samples)
        inner = Context(ctx.target, options={**ctx.options, DATA: data} if ctx.options.get(DATA) else {})
        PassManager(parse_pipeline(pipeline)).run(copy, inner)
        return measure(copy, inner, self.samples).score


@dataclass(frozen=True)
class _Few:
    """The first samples of `data`."""

    data: CalibrationData
    count: int

    def samples(self, inputs: Sequence[Value]) -> Iterator[list[Array]]:
        return islice(self.data.samples(inputs), self.count)
