"""Execute groups of ops row by row, so that only a few rows of what lies between them are in memory.

    %c = nn.conv2d(%x, @w1, @b1) {pad = [1, 1, 1, 1]} : tensor<1x48x48x8xf32>
    %d = nn.depthwise_conv2d(%c, @w2, @b2) {pad = [1, 1, 1, 1]} : tensor<1x48x48x8xf32>
        ->
    %d = sched.stream() {steps = 49, paces = [[1, 1, 0], [1, 1, -1]], rings = [2, 48], fresh = [1, 0]}
            : tensor<1x48x48x8xf32> {
      %c = nn.conv2d(%x, @w1, @b1) {pad = [1, 1, 1, 1]} : tensor<1x48x48x8xf32>
      %d_1 = nn.depthwise_conv2d(%c, @w2, @b2) {pad = [1, 1, 1, 1]} : tensor<1x48x48x8xf32>
      sched.yield(%d_1)
    }

Nothing is computed twice: rings keep the rows that are needed again, branches that join later wait in theirs.

The ops stay in order. `cuts` says behind which values a group ends (names, with `/` between them); `until` names the
value behind which nothing is streamed. With neither, the cuts are those with which the largest sum of bytes that are
needed at one time is smallest (`_front`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tinyir.diag import did_you_mean, error
from tinyir.ir import Argument, Block, Func, Level, Module
from tinyir.opdef import Op
from tinyir.ops import Dequantize, Quantize, Slice, Transpose
from tinyir.pass_manager import Context, Pass, option
from tinyir.registry import load_plugins
from tinyir.rewrite import Rewriter
from tinyir.types import TensorType

from ._crops import crops_of_slices
from ._front import apply_ways, front_of
from ._stored import Memory
from ._stream_ways import can_stream, patient_rows, row_way, rows
from ._ways import Scene, Way, whole


class StreamRows(Pass):
    """Execute groups of ops row by row, with ring buffers between them."""

    name = "stream"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant", "sched")
    to_level: ClassVar[Level] = "sched"
    cuts: str = option("", "values that groups end with, a/b/c; default: those that need the least memory")
    until: str = option("", "the last value to stream")
    rows: int = option(1, "rows that the fastest ops compute a step")

    def run(self, module: Module, ctx: Context) -> None:
        load_plugins()
        if self.rows < 1:
            raise error(f"stream: rows should be at least 1, not {self.rows}")
        for func in module.funcs.values():
            prepare_rows(func, self.rewriter(module, ctx))
            scene = Scene(func, module, ctx.target, Memory(func, ctx.target.align), rows=(self.rows,))
            ways = self._chosen(scene)
            ctx.stat("planned-bytes", max((way.peak for way in ways), default=0))
            groups = [scene.ops[way.first:way.end] for way in ways if way.apply is not None]
            apply_ways(ways, func, module)
            ctx.stat("groups", len(groups))
            ctx.stat("streamed-ops", sum(map(len, groups)))

    def _chosen(self, scene: Scene) -> tuple[Way, ...]:
        """How to run all ops: in groups of at least two each, neighbours in the order of execution, or one by one."""
        if not (self.until or self.cuts):
            return front_of(scene, [whole, rows])[0].ways
        stops = _ops_called([n for n in self.cuts.split("/") if n], scene.func)
        last = _ops_called([self.until], scene.func) if self.until else []
        groups = [g for run in streamable_runs(scene.ops) for g in _cut(run, stops, last, scene.func) if len(g) > 1]
        inside = {op for group in groups for op in group}
        alone = [way for i, op in enumerate(scene.ops) if op not in inside for way in whole(scene, i, i + 1) or ()]
        begins = [scene.memory.place[group[0]] for group in groups]
        return (*alone, *(_patient(scene, first, first + len(group), self.rows)
                          for first, group in zip(begins, groups, strict=True)))


def _patient(scene: Scene, first: int, end: int, rows: int) -> Way:
    return row_way(scene, first, end, rows, patient_rows(scene, first, end, rows))


def prepare_rows(func: Func, rewriter: Rewriter) -> None:
    """Put the ops that can run row by row side by side, and let those at both ends of the network work on rows."""
    _turn_before_quantize(func, rewriter)
    _turn_behind_dequantize(func, rewriter)
    crops_of_slices(func, rewriter)
    _sink(func)


def _turn_before_quantize(func: Func, rewriter: Rewriter) -> None:
    """Inputs that are quantised and then transposed: the other way round, so that both work on rows."""
    for op in list(func.ops):
        quantize = op.x.defining(Quantize) if isinstance(op, Transpose) else None
        if quantize is None or not isinstance(quantize.x, Argument) or len(quantize.out.uses) != 1:
            continue
        type_ = op.out.type
        if isinstance(type_, TensorType) and type_.quant is not None and type_.quant.axis is None:
            turned = rewriter.insert_before(op, Transpose(quantize.x, op.attrs["perm"]), name=f"{quantize.x.name}_nhwc")
            rewriter.replace(op, Quantize(turned.out, result=type_))


def _turn_behind_dequantize(func: Func, rewriter: Rewriter) -> None:
    """Results that are transposed and then dequantised: likewise."""
    for op in list(func.ops):
        turned = op.x.defining(Transpose) if isinstance(op, Dequantize) else None
        quant = None if turned is None else turned.out.type.quant
        if turned is None or quant is None or quant.axis is not None or len(turned.out.uses) != 1:
            continue
        real = rewriter.insert_before(turned, Dequantize(turned.x))
        rewriter.replace(op, Transpose(real.out, turned.perm))


def _sink(func: Func) -> None:
    """Move the ops that cannot stream down, each in front of its first user: they are not to part those that can.
    A part of a vector stays where the vector is, which some row needs the whole of.
    """
    block = func.block
    for op in reversed(list(block.ops)):
        if op.terminator or can_stream(op) or (isinstance(op, Slice) and op.out.type.elements == op.out.shape[-1]):
            continue
        places = [block.ops.index(_in_block(user, block)) for result in op.results for user in result.users]
        here = block.ops.index(op)
        if places and min(places) > here + 1:
            block.ops.insert(min(places), op)
            del block.ops[here]


def _in_block(op: Op, block: Block) -> Op:
    """The op of `block` that is `op`, or has it in its region."""
    while op.block is not block:
        assert op.block is not None
        parent = op.block.parent
        assert isinstance(parent, Op)
        op = parent
    return op


def streamable_runs(ops: Sequence[Op]) -> list[list[Op]]:
    """The longest runs of neighbours that can stream."""
    runs: list[list[Op]] = [[]]
    for op in ops:
        if can_stream(op):
            runs[-1].append(op)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _ops_called(names: Sequence[str], func: Func) -> list[Op]:
    by_name = {r.name: op for op in func.ops for r in op.results}
    for name in names:
        if name not in by_name:
            raise error(f"stream: there is no value %{name}", help=did_you_mean(name, by_name))
    return [by_name[name] for name in names]


def _cut(run: list[Op], stops: Sequence[Op], last: Sequence[Op], func: Func) -> list[list[Op]]:
    """`run` in groups that end with the ops `stops`, up to `last`."""
    order = {op: i for i, op in enumerate(func.ops)}
    end = order[last[0]] if last else len(order)
    groups: list[list[Op]] = [[]]
    for op in run:
        if order[op] > end:
            break
        groups[-1].append(op)
        if op in stops:
            groups.append([])
    return [g for g in groups if g]
