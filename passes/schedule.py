"""Choose how the network is executed: op by op, row by row, in strips, by rows or by columns.

    schedule{ram=min}            the least RAM at no further multiply-accumulates
    schedule{ram=min,macs=10%}   the least RAM with up to 10 % of the multiply-accumulates computed again
    schedule{ram=min,speed=5%}   the least RAM among schedules that are at most 5 % slower than the fastest
    schedule{ram=64K}            the fastest that fits
    schedule{ram=64K,flash=256K} ... into both: constants, and code as it is estimated
    schedule{ram=any}            the fastest
    schedule{ram=any,flash=min}  the one with the least code
    schedule{ram=any,weights=fast}   the fastest, where weights may take more room for it

Every provider of ways (`_ways`) is asked how parts of the network can be run; `_front` finds the points that no other
beats in peak bytes, multiply-accumulates, modelled instructions and bytes of code. That is done on copies of the
module: as it is (op by op), with rows prepared, and turned on its side. Which point is taken is told with --remarks and
--stats; all of them are in `ctx.found["schedule"]`. Where bytes are what counts, kernels are to do with little scratch:
the module's attribute `scratch` says so to `fit-scratch`. With a limit the arena of each candidate is planned, fastest
first, until one fits; where none does, schedules of the least scratch are looked at too, so that `ram=` takes what
`ram=min` finds. Float results of a network that is scanned by columns are summed in another order; `scan=rows` keeps
every bit.

Cost: near-linear in the depth of a chain, as tests/bench/SCALING.md shows. For n ops there are O(n s) segments, where s
is the most ops of one, which memory bounds and depth does not (`_front`). To look at a segment takes O(s h) for images
of h rows, vectorised over rows; what follows from ops that segments have in common is found once. The front takes
O(n s w k) for w ways of a segment and k <= 48 points at a cut. Each number of channels of a squeeze-excite block that
may be computed twice is tried on a copy of the block. Arenas are planned for three candidates at most where
there is no limit, on a fixed number of nodes (`tinyir.placement`), each O(m^2) for m slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tinyir.board import size_of
from tinyir.clone import clone_module
from tinyir.diag import CompileError, error
from tinyir.garbage import few_collections
from tinyir.ir import Func, Level, Module
from tinyir.opdef import Op
from tinyir.ops import Pull
from tinyir.pass_manager import Context, Pass, option
from tinyir.registry import WAYS, load_plugins

from ._front import Point, apply_ways, front_of
from ._larger_weights import allow_larger_weights, has_larger_weights, sizes_that_pay
from ._stored import Memory
from ._trial import Sizes, trial_sizes
from ._ways import Provider, Scene, whole
from .fit_scratch import FitScratch
from .scan_columns import ScanColumns
from .stream import prepare_rows

_SLACK = 1 / 1000
_CODE = 1 / 50


_NO_LIMIT = 1 << 60
_BEYOND = 3
"""How many schedules are tried whose planned bytes are too many."""
_SIZES = 4
"""How many limits of larger weights are tried."""
_NEAR = 1 / 10
"""Planned bytes may be this far off what an arena comes to."""


@dataclass(frozen=True)
class Candidate:
    """A point of the front of a copy of the module: whether images are gone through by rows or by columns."""

    scan: str
    module: Module
    func: Func
    point: Point

    def describe(self) -> list[str]:
        """A line for each group of ops that does not run op by op."""
        ops = Memory(self.func, 1).ops
        lines = [f"{_span(ops[w.first:w.end])}: {w.text}, {w.peak:,} bytes" for w in self.point.ways
                 if w.apply is not None]
        return [*lines, "weights in a larger form that is faster"] if has_larger_weights(self.module) else lines

    def applied(self) -> Module:
        """A copy of the module that is run like that."""
        copy, _ = clone_module(self.module)
        apply_ways(self.point.ways, copy.funcs[self.func.name], copy)
        copy.drop_unused_consts()
        return copy

    def facts(self) -> dict[str, Any]:
        """The point as plain data."""
        return {"peak_bytes": self.point.peak, "macs_again": self.point.macs, "instructions": self.point.instructions,
                "code_bytes": self.point.flash, "scan": self.scan, "schedule": self.describe()}


class Schedule(Pass):
    """Choose the execution: the least RAM, the fastest, or the least code."""

    name = "schedule"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant", "sched")
    to_level: ClassVar[Level] = "sched"
    ram: str = option("min", "min: the least that can be reached; any; or bytes (64K): the fastest that fits")
    flash: str = option("any", "min: the least code, then the least RAM; or bytes (256K) for constants and code")
    speed: str = option("any", "how much slower than the fastest schedule it may be, by modelled instructions: 5%")
    macs: str = option("0%", "how many of the multiply-accumulates may be computed again")
    scan: Literal["rows", "columns", "best"] = option("best", "the direction in which images are gone through")
    weights: Literal["plain", "fast"] = option("plain", "fast: they may take more room where that is faster")
    ways: str = option("", "names of the providers of ways to ask, a/b/c; default: all that there are")

    def run(self, module: Module, ctx: Context) -> None:
        load_plugins()
        limits = Sizes(_size("ram", self.ram), _size("flash", self.flash))
        macs, speed = _share("macs", self.macs), _share("speed", self.speed)
        providers = self._providers()
        ctx.found["schedule"] = {}
        for name in list(module.funcs):
            scenes = self._scenes(module, name, ctx, macs or 0.0)
            for scratch in self._scratches(limits):
                with few_collections():
                    tried = self._candidates(scenes, scratch, providers)
                points = _front(tried)
                chosen = self._chosen(_fast_enough(points, speed), limits, ctx)
                if chosen is not None:
                    break
            else:
                chosen = self._least(_fast_enough(points, speed), limits, name, ctx)
            for scan in dict.fromkeys(one.scan for one in tried[1:]):
                ctx.stat(f"bytes-by-{scan}", min(one.point.peak for one in tried if one.scan == scan))
            _tell(tried[0], points, chosen, ctx)
            copy = chosen.applied()
            module.funcs, module.consts, module.attrs = copy.funcs, copy.consts, copy.attrs
            module.version += 1

    def _scratches(self, limits: Sizes) -> list[str | int]:
        """What counts when kernels are tiled, for `fit-scratch`: bytes, how many there are, or speed. With a limit also
        what to try where nothing fits like that: the least, for which slower schedules are worth looking at.
        """
        if limits.arena != _NO_LIMIT:
            return [limits.arena, "least"]
        return ["least" if (self.ram, self.speed) == ("min", "any") else "full"]

    def _providers(self) -> list[Provider]:
        names = [n for n in self.ways.split("/") if n] or [n for n, _ in WAYS.items() if n != "whole"]
        return [whole, *(WAYS.get(name) for name in names if name != "whole")]

    def _scenes(self, module: Module, name: str, ctx: Context, macs: float) -> list[tuple[str, Scene]]:
        """Copies of the module, each gone through in its way; the first is the module as it is, op by op."""
        found: list[tuple[str, Scene]] = []
        weights = self._weights(module, module.funcs[name], ctx)
        for scan, most in [(scan, most) for scan in ("layers", "rows", "columns") for most in weights]:
            if self.scan not in (scan, "best") and scan != "layers":
                continue
            if scan == "columns" and any(isinstance(op, Pull) for op in module.walk()):
                continue  # the rows come one after the other
            copy, _ = clone_module(module)
            if most:
                allow_larger_weights(copy, most)
            func = _prepared(copy, name, scan, ctx)
            found.append((scan, Scene(func, copy, ctx.target, Memory(func, ctx.target.align), macs)))
        return found

    def _candidates(self, scenes: Sequence[tuple[str, Scene]], scratch: str | int, providers: list[Provider]) \
            -> list[Candidate]:
        """The points of all fronts; the first is the module as it is, op by op."""
        found: list[Candidate] = []
        for scan, scene in scenes:
            scene.module.attrs["scratch"] = scratch
            scene.tight, scene.spare = scratch != "full", FitScratch().percent if scratch == "least" else 0
            asked = providers[:1] if scan == "layers" else providers
            points = front_of(scene, asked, int(scene.recompute * sum(op.macs() for op in scene.ops)))
            found += [Candidate(scan, scene.module, scene.func, point) for point in points]
        return found

    def _weights(self, module: Module, func: Func, ctx: Context) -> list[int]:
        """What to try as the most bytes of a layer's weights in a larger form: 0, none; all; and what is between."""
        if self.weights == "plain" or self.flash == "min":
            return [0]
        sizes = sizes_that_pay(module, func, ctx.target)
        return [0, *(sizes[-1:] if self.flash == "any" else sizes[-_SIZES:])]

    def _chosen(self, points: list[Candidate], limits: Sizes, ctx: Context) -> Candidate | None:
        """The one that is wanted; None if none is found within the limits."""
        order = _least_code if self.flash == "min" else _least_ram if self.ram == "min" else _fastest
        if limits != (_NO_LIMIT, _NO_LIMIT):
            return _first_that_fits(sorted(points, key=order), limits, ctx)
        least = order is _least_ram and self.speed == "any"
        return _least_placed(points, ctx) if least else min(points, key=order)

    def _least(self, points: list[Candidate], limits: Sizes, name: str, ctx: Context) -> Candidate:
        """The smallest there is, if that is within the limits. Raises CompileError otherwise."""
        least = _least_placed(points, ctx)
        sizes = trial_sizes(least.applied(), ctx.target)
        if not _fits(sizes, limits):
            raise _too_large(least, sizes, points, limits, name, ctx)
        return least


def _fast_enough(points: Sequence[Candidate], speed: float | None) -> list[Candidate]:
    """Those that are slower than the fastest by no more than that share."""
    fastest = min(c.point.instructions for c in points)
    return [c for c in points if speed is None or c.point.instructions <= fastest * (1 + speed)]


def _least_ram(one: Candidate) -> tuple[float, ...]:
    return one.point.peak, one.point.macs, one.point.instructions, one.point.flash


def _fastest(one: Candidate) -> tuple[float, ...]:
    return one.point.instructions, one.point.peak, one.point.macs, one.point.flash


def _least_code(one: Candidate) -> tuple[float, ...]:
    return one.point.flash, one.point.peak, one.point.instructions, one.point.macs


def _front(candidates: list[Candidate]) -> list[Candidate]:
    """Those that no other one beats in everything, least peak first; small gains in speed and in code count nothing."""
    plain = candidates[0].point
    slack, step = plain.instructions * _SLACK, max(1.0, plain.flash * _CODE)
    kept: list[Candidate] = []
    for one in sorted(candidates, key=_least_ram):
        if not any(k.point.macs <= one.point.macs and k.point.instructions <= one.point.instructions + slack
                   and k.point.flash // step <= one.point.flash // step for k in kept):
            kept.append(one)
    return kept


def _prepared(copy: Module, name: str, scan: str, ctx: Context) -> Func:
    """The function called `name`, made ready to run that way."""
    trial = Context(ctx.target, current_pass=Schedule.name)
    if scan == "columns":
        ScanColumns().run(copy, trial)
    func = copy.funcs[name]
    if scan != "layers":
        prepare_rows(func, ScanColumns().rewriter(copy, trial))
    return func


def _first_that_fits(candidates: Sequence[Candidate], limits: Sizes, ctx: Context) -> Candidate | None:
    """The first whose arena, all scratch included, and whose flash are within the limits. Arenas may be smaller than
    planned, where tensors slide under each other: of those planned a little larger the few least are tried last.
    """
    within = [c for c in candidates if c.point.peak <= limits.arena]
    near = (c for c in candidates if limits.arena < c.point.peak <= limits.arena * (1 + _NEAR))
    beyond = sorted(near, key=_least_ram)[:_BEYOND]
    return next((c for c in (*within, *beyond) if _fits(trial_sizes(c.applied(), ctx.target), limits)), None)


def _least_placed(candidates: Sequence[Candidate], ctx: Context) -> Candidate:
    """The one with the least arena, all scratch included, of the few that are planned nearly as small as the least; of
    equal arenas the fastest. Of those that compute something again there are many: the least plan stands for them.
    """
    order = sorted(candidates, key=_least_ram)
    near = [c for c in order if c.point.peak <= order[0].point.peak * (1 + _NEAR)]
    plain = [c for c in near if not c.point.macs]
    tried = plain[:_BEYOND] if near[0] in plain else [near[0], *plain[:1]]
    return tried[0] if len(tried) == 1 else min(
        tried, key=lambda c: (trial_sizes(c.applied(), ctx.target).arena, *_fastest(c)))


def _fits(sizes: Sizes, limits: Sizes) -> bool:
    return all(size <= limit for size, limit in zip(sizes, limits, strict=True))


def _too_large(least: Candidate, sizes: Sizes, points: Sequence[Candidate], limits: Sizes, name: str, ctx: Context) \
        -> CompileError:
    """What to say where nothing fits: the smallest that exists, which has these sizes, and the segment that stops it.
    """
    worst, ops = least.point.worst, Memory(least.func, 1).ops
    layers = ops[worst.first:worst.end]
    if sizes.arena > limits.arena:
        return error(f"schedule: no schedule of @{name} fits into {limits.arena:,} bytes", loc=layers[0].loc,
                     notes=(f"the smallest that was found has {sizes.arena:,} bytes",
                            f"what stops it is {_span(layers)} ({worst.text or 'op by op'}): "
                            f"{worst.peak:,} bytes as planned"),
                     help="more may be computed again (--recompute 10%), or give it more RAM")
    lean = trial_sizes(min(points, key=_least_code).applied(), ctx.target)
    return error(f"schedule: constants and code of @{name} do not fit into {limits.flash:,} bytes",
                 notes=(f"the least that was found is about {lean.flash:,} bytes, with an arena of {lean.arena:,}",),
                 help="int8 takes a quarter of float: --quantize int8 --calibrate samples.npz")


def _span(ops: list[Op]) -> str:
    names = list(dict.fromkeys(r.name for op in (ops[0], ops[-1]) for r in op.results))
    return " to ".join(f"%{name}" for name in names)


def _tell(plain: Candidate, points: list[Candidate], chosen: Candidate, ctx: Context) -> None:
    point = chosen.point
    macs = sum(op.macs() for op in plain.func.ops)
    ctx.stat("planned-bytes", point.peak)
    ctx.stat("bytes-op-by-op", plain.point.peak)
    ctx.stat("instructions", point.instructions)
    ctx.stat("instructions-op-by-op", plain.point.instructions)
    ctx.stat("macs-again", point.macs)
    ctx.stat("scan", chosen.scan)
    ctx.stat("points", len(points))
    ctx.remark(f"schedule: {point.peak:,} bytes, {_percent(point.instructions, plain.point.instructions)} instructions "
               f"against {plain.point.peak:,} bytes op by op; " + ("; ".join(chosen.describe()) or "nothing streamed"))
    ctx.found["schedule"] = {
        "macs_layerwise": macs, "bytes_layerwise": plain.point.peak,
        "instructions_layerwise": plain.point.instructions, "chosen": points.index(chosen),
        "points": [candidate.facts() for candidate in points]}


def _percent(value: int, base: int) -> str:
    return f"{100 * value / base - 100:+.1f} %" if base else "+0 %"


def _size(name: str, text: str) -> int:
    """Bytes that a limit allows, many where it is `min` or `any`."""
    if text in ("min", "any"):
        return _NO_LIMIT
    try:
        return size_of(text)
    except ValueError:
        raise error(f"schedule: {name} should be min, any or a size such as 64K, not {text!r}") from None


def _share(name: str, text: str) -> float | None:
    """A share such as 5%; None where it is `any`."""
    if text == "any":
        return None
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not text.endswith("%") or share < 0:
        raise error(f"schedule: {name} should be a share such as 5%, not {text!r}")
    return share
