"""Lower a module to mem level: tensors become buffers, each op becomes the kernels that the backend has for it.

    func @main(%x: tensor<1x4x4x2xf32>) -> tensor<1x32xf32> {
      %a = nn.relu(%x) : tensor<1x4x4x2xf32>
      %b = nn.tanh(%a) : tensor<1x4x4x2xf32>
      %y = nn.reshape(%b) : tensor<1x32xf32>
      nn.return(%y)
    }
        ->
    func @main(%x: buffer<1x4x4x2xf32>, %y: buffer<1x32xf32>) {
      %a = mem.slot(@arena) : buffer<1x4x4x2xf32>
      k.map(%x) -> (%a) {function = relu}
      %b = mem.view(%y) : buffer<1x4x4x2xf32>
      k.map(%a) -> (%b) {function = tanh}
      mem.return()
    }

Results are passed by destination: what the function returns is computed where the caller wants it, through any number
of reshapes, which cost nothing; and so is what becomes a result in place (`_destinations`). A returned input or
constant, and a value returned twice, are copied at the end. The kernels come from rules that backends register
(`tinyir.lowering`); every op without a rule is listed in one error.

A `sched.stream` becomes a `mem.loop` of the row forms of its kernels, each with its pace; what is kept of a value is a
slot with that many rows. A `sched.split` becomes one over its parts, of the part forms of its kernels; what is made
part by part is a slot for one part. A `sched.patch` that is still there becomes its tiles first (`expand-patches`).
"""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from typing import ClassVar

from tinyir.diag import CompileError, Diagnostic
from tinyir.ir import Argument, Block, Const, Func, Level, Module, Value, sanitise
from tinyir.loops import base_of
from tinyir.lowering import COPY, Lowering
from tinyir.opdef import Op
from tinyir.ops import Empty, Hold, Insert, MemReturn, Reinterpret, Reshape, Return, Slice, Split, Stream, Yield
from tinyir.pass_manager import Context, Pass
from tinyir.registry import LOWERINGS, load_plugins

from ._crops import slices_of_crops
from ._destinations import use_outputs
from ._joined import joined_parts, overwritten
from ._kept_rows import kept_behind
from ._values import tensor_type
from ._windows import place_windows
from .expand_patches import ExpandPatches

_SAME_BYTES = (Reshape, Reinterpret)
"""Ops that cost nothing: their result is their operand under another type."""
_STRUCTURE = (Empty, Return, Split, Stream, Yield)


class LowerToMem(Pass):
    """Turn tensors into buffers and ops into the kernels of the backend."""

    name = "lower-to-mem"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant", "sched")
    to_level: ClassVar[Level] = "mem"

    def run(self, module: Module, ctx: Context) -> None:
        load_plugins()
        ExpandPatches().run(module, ctx)
        for func in module.funcs.values():
            slices_of_crops(func, self.rewriter(module, ctx))
        _require_rules(module)
        arena = module.add_arena("arena", ctx.target.align)
        module.consts = {}  # each rule adds what its kernels read
        for func in module.funcs.values():
            block = Block()
            low = Lowering(module, block, ctx.target, arena, ctx.remark)
            _lower_func(func, block, low)
        if not arena.uses:
            del module.arenas[arena.name]
        module.version += 1


def _require_rules(module: Module) -> None:
    """One error that lists every kind of op without a lowering rule."""
    missing = [op for op in module.walk() if not isinstance(op, (*_SAME_BYTES, *_STRUCTURE))
               and LOWERINGS.find(op.opname) is None]
    if not missing:
        return
    counts = Counter(op.opname for op in missing)
    table = tuple(f"{name}: {count} of them" for name, count in sorted(counts.items()))
    message = f"no kernel for {len(counts)} kind{'s' if len(counts) > 1 else ''} of op: {', '.join(sorted(counts))}"
    raise CompileError((Diagnostic("error", message, missing[0].loc, table,
                                   "a backend gives kernels to ops by tinyir.lowering.lowers"),))


def _lower_func(func: Func, block: Block, low: Lowering) -> None:
    results = func.results
    for argument in func.args:
        made = Argument(tensor_type(argument).buffer(), argument.name, argument.loc)
        block.args.append(made)
        low.bind(argument, made)
    outputs = []
    for index, value in enumerate(results):
        output = _output(func, index, value, {argument.name for argument in block.args})
        low.bind(output, output)
        outputs.append(output)
        block.args.append(output)
    roots = _alias_reshapes(func, low)
    place_windows(func, roots, low)
    copied = _bind_results(results, outputs, roots, low)
    lost = overwritten(func.ops, results, roots)
    joined = _join_parts(func, roots, low)
    for op in sorted(func.ops, key=lambda op: not isinstance(op, Hold)):  # what is held is there from the beginning
        if op not in joined:
            _lower_op(op, low)
    low.location = func.loc
    for value, output in copied:
        LOWERINGS.get(COPY)(low.buffer(value), output, low)
    low.emit(MemReturn())
    use_outputs(block, [base_of(low.buffer(value)) for value in lost])
    func.block, block.parent, func.outputs = block, func, len(outputs)


def _output(func: Func, index: int, value: Value, taken: set[str]) -> Argument:
    """The parameter for result number `index`, named like it."""
    name = stem = sanitise(func.result_names[index] if index < len(func.result_names) else value.name)
    number = 0
    while name in taken:
        number += 1
        name = f"{stem}_out" if number == 1 else f"{stem}_out{number}"
    return Argument(tensor_type(value).buffer(), name, value.loc)


def _alias_reshapes(func: Func, low: Lowering) -> dict[Value, Value]:
    """Let every reshape be the bytes of what it reads; returns for each value the one that its bytes belong to."""
    roots: dict[Value, Value] = {}
    for op in func.ops:
        if isinstance(op, _SAME_BYTES):
            roots[op.out] = roots.get(op.x, op.x)
            low.alias(op.out, op.x)
        if isinstance(op, Insert):
            roots[op.out] = roots.get(op.whole, op.whole)
            low.alias(op.out, op.whole)
        for region in (op, *(op.body if isinstance(op, Split) else ())):
            _alias_results(region, roots, low)
    return roots


def _alias_results(region: Op, roots: dict[Value, Value], low: Lowering) -> None:
    """Let the results of a region be the bytes of what it yields."""
    if isinstance(region, (Split, Stream)):
        for result, value in zip(region.results, region.yielded, strict=True):
            roots[result] = region.root(value) if isinstance(region, Split) else value
            low.alias(result, roots[result])


def _bind_results(results: list[Value], outputs: list[Argument], roots: dict[Value, Value], low: Lowering) \
        -> list[tuple[Value, Argument]]:
    """Let what is returned live in the output buffers; returns the pairs that have to be copied at the end."""
    taken: set[Value] = set()
    copied: list[tuple[Value, Argument]] = []
    for value, output in zip(results, outputs, strict=True):
        root = roots.get(value, value)
        if root in taken or isinstance(root, (Argument, Const)):
            copied.append((value, output))
            continue
        taken.add(root)
        low.alias(root, output)
    return copied


def _join_parts(func: Func, roots: dict[Value, Value], low: Lowering) -> set[Op]:
    """Let what is joined to a result be computed where it belongs; returns the concats that need no code then."""
    parts = joined_parts(func.ops, func.results, roots)
    for value, joined in parts.items():
        piece = Value(joined.piece.type, joined.piece.name)
        low.window(piece, joined.concat.out, joined.begin)
        low.alias(value, piece)
    return {joined.concat for joined in parts.values()}


def _lower_op(op: Op, low: Lowering) -> None:
    if isinstance(op, Stream):
        _lower_stream(op, low)
    elif isinstance(op, Split):
        _lower_split(op, low)
    elif not isinstance(op, (*_SAME_BYTES, Empty, Return)) and not _is_in_place(op, low):
        low.begin(op)
        LOWERINGS.get(op.opname)(op, low)


def _is_in_place(op: Op, low: Lowering) -> bool:
    """Whether the op needs no code: it makes a part of something of it, or the other way round, where that lies."""
    if isinstance(op, Slice):
        return low.is_window(op.out, op.x)
    return isinstance(op, Insert) and low.is_window(op.part, op.whole)


def _lower_stream(stream: Stream, low: Lowering) -> None:
    schedule, body = stream.schedule, stream.body
    kept = kept_behind(body, schedule)
    with low.loop(schedule.steps):
        for index, op in enumerate(body):
            if isinstance(op, Slice):
                continue
            low.location = op.loc
            low.in_rows(op, schedule.paces[index], schedule.rings[index], schedule.fresh[index],
                        schedule.keeps[index])
            LOWERINGS.get(op.opname)(op, low)
            for source, last in kept.items():
                if last == index:
                    low.keep(source)
        low.location = stream.loc


def _lower_split(split: Split, low: Lowering) -> None:
    cut = {op.out for op, role in split.roles().items() if role != "sums"}
    stored = {split.root(value) for value in split.yielded} & cut
    with low.parts(split.parts, cut, stored) if split.parts > 1 else nullcontext():
        for op in split.body:
            _lower_op(op, low)
        low.location = split.loc
