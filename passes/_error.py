"""How far a quantised network is from the float network that it came from, value by value.

| figure | what is compared with what                                                                               |
|--------|----------------------------------------------------------------------------------------------------------|
| sqnr   | the value in the quantised network with that in the float network: the error that has gathered so far     |
| own    | the value in the quantised network with what the float op makes of the quantised inputs: its own error    |

Both are signal-to-noise ratios in dB, 10 log10(sum of signal^2 / sum of error^2), over all samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from tinyir.diag import origins
from tinyir.interp import run
from tinyir.ir import Array, Const, Module, Value
from tinyir.opdef import Op
from tinyir.ops import Softmax
from tinyir.pass_manager import Context

from ._calibration import FloatReference, reference, samples

POINTS = "quantised_points"
"""In ctx.options: which dequantized value stands for which value of the float network."""


@dataclass(frozen=True)
class PointError:
    """The errors of one value; infinite where there is none."""

    name: str
    op: str
    nodes: tuple[str, ...]
    sqnr: float
    own: float


@dataclass
class _Sums:
    signal: float = 0.0
    noise: float = 0.0
    own: float = 0.0

    def add(self, wanted: Array, found: Array, local: Array) -> None:
        wide = found.astype(np.float64)
        self.signal += float((wanted.astype(np.float64) ** 2).sum())
        self.noise += float(((wide - wanted) ** 2).sum())
        self.own += float(((wide - local) ** 2).sum())


def decibel(signal: float, noise: float) -> float:
    """The ratio in dB; infinite without noise."""
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


@dataclass
class Errors:
    """The errors of all values of one module, and of its outputs."""

    values: list[PointError] = field(default_factory=list)
    outputs: list[float] = field(default_factory=list)

    @property
    def score(self) -> float:
        """What to compare quantisations by: the mean over the outputs; of a softmax its argument counts."""
        return float(np.mean([min(v, 200.0) for v in self.outputs])) if self.outputs else 0.0


def measure(module: Module, ctx: Context, limit: int) -> Errors:
    """Run both networks over up to `limit` samples. `module` is at graph level, behind quantize."""
    plain = reference(ctx)
    points = cast("dict[Value, Value]", ctx.options.get(POINTS, {}))
    sums: dict[Value, _Sums] = {value: _Sums() for value in points}
    watched = _outputs(plain)
    finals = [_Sums() for _ in watched]
    for sample in samples(module, ctx, limit):
        exact, found, local = _Trace(plain.module, sample).run(), _found(module, sample, points), {}
        mixed = _Trace(plain.module, sample, found)
        values = mixed.run()
        local = mixed.local
        for value, total in sums.items():
            if value in found:
                total.add(exact[value], found[value], local[value])
        for value, total in zip(watched, finals, strict=True):
            total.add(exact[value], values[value], values[value])
    rows = [_row(value, total) for value, total in sums.items()]
    return Errors(rows, [decibel(t.signal, t.noise) for t in finals])


def _row(value: Value, total: _Sums) -> PointError:
    op = value.op
    nodes = tuple(origins(op.loc if op is not None else value.loc))
    return PointError(value.name, "input" if op is None else op.opname, nodes, decibel(total.signal, total.noise),
                       decibel(total.signal, total.own))


def _outputs(plain: FloatReference) -> list[Value]:
    """The results of the float network; of a softmax its argument."""
    results = plain.module.main.results
    softmaxes = [value.defining(Softmax) for value in results]
    return [value if softmax is None else softmax.x for value, softmax in zip(results, softmaxes, strict=True)]


def _found(module: Module, sample: list[Array], points: dict[Value, Value]) -> dict[Value, Array]:
    """What the quantised network has for each point of the float network."""
    stands_for = {real: value for value, real in points.items()}
    found: dict[Value, Array] = {}

    def observe(op: Op, results: list[Array]) -> None:
        if op.results and op.results[0] in stands_for:
            found[stands_for[op.results[0]]] = results[0]

    run(module, sample, observe)
    return found


class _Trace:
    """All values of the float network for one sample; where `given` has a value, that one is used from there on, and
    what the op made is `local`."""

    def __init__(self, module: Module, sample: list[Array], given: dict[Value, Array] | None = None) -> None:
        self.module = module
        self.given = given or {}
        self.local: dict[Value, Array] = {}
        self.values: dict[Value, Array] = {}
        for argument, array in zip(module.main.inputs, sample, strict=True):
            self._set(argument, array)

    def run(self) -> dict[Value, Array]:
        """The values."""
        for op in self.module.main.ops:
            if op.terminator:
                break
            arguments = [[self._get(v) for v in group] if operand.variadic else self._get(group[0])
                         for operand, group in zip(op.schema.operands, op.operand_groups, strict=True)]
            found = op.reference(*arguments)
            for result, array in zip(op.results, found if isinstance(found, tuple) else (found,), strict=True):
                self._set(result, array)
        return self.values

    def _set(self, value: Value, array: Array) -> None:
        if value in self.given:
            self.local[value] = array
        self.values[value] = self.given.get(value, array)

    def _get(self, value: Value | None) -> Any:
        if value is None:
            return None
        return value.data if isinstance(value, Const) else self.values[value]
