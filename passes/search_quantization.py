"""Try ways to quantise, and keep the one whose outputs are closest to the float network's.

    search-quantization     ->     equalize-layers,calibrate{method=mse},quantize,round-weights      (for instance)

Every calibration method is tried with and without equalised layers; the best two of these also with corrected biases
and with rounded weights. Each attempt works on a copy and sees every second sample; what is compared is the
signal-to-noise ratio of the outputs (of a softmax: of its argument) on the samples in between, so that what was learnt
by heart does not count. The winner is then run on the module, with all samples.
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
    changes_results = True

    samples: int = option(128, "how many samples to try with: half to quantise, half to compare")

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
        inner = Context(ctx.target, options=dict(ctx.options))
        data = ctx.options.get(DATA)
        if data is not None:
            inner.options[DATA] = _Half(cast(CalibrationData, data), self.samples, 0)
        PassManager(parse_pipeline(pipeline)).run(copy, inner)
        if data is not None:
            inner.options[DATA] = _Half(cast(CalibrationData, data), self.samples, 1)
        return measure(copy, inner, self.samples).score


@dataclass(frozen=True)
class _Half:
    """Of the first `count` samples of `data` every second one, from `first` on; all of them if there is only one."""

    data: CalibrationData
    count: int
    first: int

    def samples(self, inputs: Sequence[Value]) -> Iterator[list[Array]]:
        found = islice(self.data.samples(inputs), self.count)
        only = list(islice(found, 1))
        yield from only if self.first == 0 else ()
        rest = False
        for number, sample in enumerate(found, 1):
            rest = True
            if number % 2 == self.first:
                yield sample
        if not rest and self.first:
            yield from only
