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
from tinyir.diag import error
from tinyir.ir import Array, Level, Module, Value
from tinyir.pass_manager import Context, Pass, PassManager, option, parse_pipeline

from ._calibration import DATA, CalibrationData
from ._error import measure
from ._histogram import Method

TRIED = "quantisations_tried"
"""In ctx.options: pairs (pipeline, dB), best first."""

_FEW = 32
"""With so few samples or less the halves also change places."""
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
        data = cast("CalibrationData | None", ctx.options.get(DATA))
        if data is None:
            raise error(f"{self.name} needs samples of the model's inputs", help="give them with --calibrate FILE.npz")
        count = sum(1 for _ in islice(data.samples(module.main.inputs), self.samples))
        folds = (0, 1) if 1 < count <= _FEW else (0,)
        return sum(_score(pipeline, module, ctx, data, count, fold) for fold in folds) / len(folds)


def _score(pipeline: str, module: Module, ctx: Context, data: CalibrationData, count: int, fold: int) -> float:
    """Quantise a copy with one half of the samples, compare on the other."""
    copy, _ = clone_module(module)
    inner = Context(ctx.target, options={**ctx.options, DATA: _Half(data, count, fold)})
    PassManager(parse_pipeline(pipeline)).run(copy, inner)
    inner.options[DATA] = _Half(data, count, 1 - fold)
    return measure(copy, inner, count).score


@dataclass(frozen=True)
class _Half:
    """Of the first `count` samples of `data` every second one, from number `first` on; a single one is in both."""

    data: CalibrationData
    count: int
    first: int

    def samples(self, inputs: Sequence[Value]) -> Iterator[list[Array]]:
        return islice(self.data.samples(inputs), min(self.first, self.count - 1), self.count, 2)
