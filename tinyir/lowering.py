"""What a lowering rule works with: from an op on tensors to kernel ops on buffers.

A backend registers one rule per `nn` (or `qnn`) op; `lower-to-mem` calls the rules in execution order:

    @lowers(Relu)
    def lower_relu(op: Relu, low: Lowering) -> None:
        low.emit(ReluF32(low.buffer(op.x), low.result(op.out)))

    %a = nn.relu(%x) : tensor<1x4x4x8xf32>
        ->
    %a = mem.slot(@arena) : buffer<1x4x4x8xf32>
    k.relu_f32(%x) -> (%a)

Results are passed by destination: the rule is told which buffer to fill, and does not know whether that is a slot of
the arena or an output of the function.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from .diag import UNKNOWN, Location, error
from .ir import Arena, Array, Block, Const, Module, Value
from .opdef import Op
from .ops.mem import Join, Loop, Next, Part, Slot, View, Window
from .pace import Keep, Pace
from .registry import KEEPS, LOWERINGS, PART_FORMS, ROW_FORMS, STREAMS
from .target import Target
from .types import BufferType, dtype_of

__all__ = ["COPY", "KEEP", "Lowering", "copies", "keeps", "lowers", "part_form", "row_form", "streams"]

COPY = "copy"
"""The name in LOWERINGS of the rule that copies one buffer to another."""

KEEP = "keep"
"""The name in KEEPS of the rule that copies the rows of a step to the ring that keeps them."""

OpT = TypeVar("OpT", bound=Op)


@dataclass
class _Fresh:
    """A result whose rows lie in a place of their own in the step that computes them."""

    op: Op
    pace: Pace
    rows: Value
    ring: Value
    keep: Keep


@dataclass
class _OpenLoop:
    """The loop that kernels go into, and when the rows of the op at hand are due."""

    block: Block
    pace: Pace | None = None
    source: Op | None = None
    rings: dict[Value, int] = field(default_factory=dict)
    fresh: dict[Value, _Fresh] = field(default_factory=dict)


@dataclass
class _OpenParts:
    """The loop over parts of channels that kernels go into."""

    block: Block
    count: int
    cut: Collection[Value]
    stored: Collection[Value]
    buffers: dict[Value, Value] = field(default_factory=dict)
    consts: dict[tuple[Value, int], Value] = field(default_factory=dict)
    behind: list[Op] = field(default_factory=list)


class Lowering:
    """The mem-level function under construction, as the rules see it.

    `location` is that of the op being lowered. Buffers of values are found with `buffer`, or `result` where the rule
    writes; slots are declared in front of the first op that needs them.
    """

    def __init__(self, module: Module, block: Block, target: Target, arena: Arena,
                 report: Callable[[str, Location], None] | None = None) -> None:
        self.module = module
        self.target = target
        self.location: Location = UNKNOWN
        self._report = report
        self._block = block
        self._arena = arena
        self._buffers: dict[Value, Value] = {}
        self._bases: dict[Value, Value] = {}
        self._consts: dict[tuple[BufferType, bytes], Const] = {}
        self._loop: _OpenLoop | None = None
        self._parts: _OpenParts | None = None
        self.memo: dict[Hashable, Any] = {}  # what rules have found out about the function, for its other ops
        self.for_parts = False  # whether to emit what has part forms, though no loop over parts is open: to price it
        self._windows: dict[Value, tuple[Value, tuple[int, ...]]] = {}
        self._source: Op | None = None

    def bind(self, value: Value, buffer: Value) -> None:
        """Let `buffer`, an argument of the new function, hold `value`."""
        self._buffers[value] = self._buffers[buffer] = buffer

    def alias(self, value: Value, base: Value) -> None:
        """Let `value` be the same bytes as `base` (a tensor, or an argument of the new function), in another shape."""
        self._bases[value] = base

    def window(self, value: Value, base: Value, begin: tuple[int, ...]) -> None:
        """Let `value` lie in `base`, from its element `begin` on: the op that has it reads or writes it there."""
        self._windows[value] = base, begin

    def is_window(self, value: Value, base: Value) -> bool:
        """Whether the bytes of `value` lie in `base`."""
        while value in self._bases and value not in self._windows:
            value = self._bases[value]
        return value in self._windows and self._windows[value][0] is base

    def begin(self, op: Op) -> None:
        """Lower `op` next, outside of loops."""
        self._source, self.location = op, op.loc

    def buffer(self, value: Value) -> Value:
        """The buffer that holds `value`: a slot, a view, an argument or a constant."""
        if self._parts is not None and self.is_cut(value):
            root, known = self._root(value), self._parts.buffers
            if root not in known:
                known[root] = self._make_part(root)
            return known[root]
        if value not in self._buffers:
            self._buffers[value] = self._make_buffer(value)
        return self._buffers[value]

    def result(self, value: Value) -> Value:
        """The buffer that the rule has to fill for `value`, a result of the op being lowered."""
        fresh = self._loop.fresh.get(value) if self._loop is not None else None
        return fresh.rows if fresh is not None else self.buffer(value)

    def const(self, name: str, data: Array) -> Const:
        """A constant in the order in which the kernel reads it; equal elements are stored once."""
        return self._intern(name, BufferType(data.shape, dtype_of(data.dtype)), data)

    def scratch(self, type_: BufferType, name: str) -> Value:
        """A slot for the kernel's own use, that lives only during this op."""
        return self._slot(type_, name)

    def scratch_instead(self, slot: Value, type_: BufferType) -> Value:
        """Scratch of another size than `slot`, which the rule has asked for, and which nothing has to use now."""
        old = slot.defining(Slot)
        assert old is not None
        self._block.ops.remove(old)
        old._unlink()
        return self.scratch(type_, slot.name)

    def emit(self, op: Op) -> None:
        """Append a mem-level op; it stems from the op being lowered."""
        if isinstance(op, (Slot, View)):
            self._append(self._block, op)
            return
        block = self._block if self._parts is None else self._parts.block
        if self._loop is not None and not isinstance(op, Part):
            block = self._loop.block
        if isinstance(op, (Join, Loop, Part)):
            self._append(block, op)
            return
        fresh = self._loop.fresh.get(self.source.out) if self._loop is not None else None
        for kernel in self._forms(op):
            self._append(block, kernel)
            if fresh is not None:
                kernel.__dict__["fresh"] = tuple(f.name for f in kernel.schema.operands if f.written
                                                 and getattr(kernel, f.name) is fresh.rows)
                kernel.__dict__["keep"] = fresh.keep

    def _forms(self, op: Op) -> list[Op]:
        """The kernels that do what `op` does: row by row in a loop over rows, for a part in one over parts."""
        kernels, given = [op], set(op.reads)
        windowed = any(v.defining(Window) for v in (*op.reads, *op.writes))
        for inside, forms in ((self._loop is not None or windowed, ROW_FORMS), (self._parts is not None, PART_FORMS)):
            if not inside:
                continue
            made = [form for kernel in kernels for form in forms.get(kernel.opname)(kernel, self)]
            for kernel in kernels:
                if kernel not in made:
                    kernel._unlink()
            kernels = made
        self._forget([v for v in given if isinstance(v, Const) and not v.uses])
        return kernels

    def _forget(self, consts: Collection[Const]) -> None:
        """Drop constants that a kernel was made with and another form of it does not read."""
        for const in consts:
            self.module.consts.pop(const.name, None)
        self._consts = {key: const for key, const in self._consts.items() if const not in consts} if consts \
            else self._consts

    def _append(self, block: Block, op: Op) -> None:
        op.loc = self.location
        block.append(op)

    @contextmanager
    def loop(self, steps: int) -> Iterator[None]:
        """Kernels that are emitted inside go into a loop of `steps` steps; what they work on lies outside of it.

        `in_rows` has to be called before each op is lowered.
        """
        self._loop = opened = _OpenLoop(Block())
        yield
        self._loop = None
        opened.block.append(Next())
        made = Loop(steps=steps)
        made.regions, opened.block.parent = [opened.block], made
        self.emit(made)

    @contextmanager
    def parts(self, count: int, cut: Collection[Value], stored: Collection[Value]) -> Iterator[None]:
        """Kernels that are emitted inside go into a loop over `count` parts of the channels of the values `cut`; those
        in `stored` are there as a whole behind it. What they work on lies outside of it.
        """
        self._parts = opened = _OpenParts(Block(), count, cut, stored)
        yield
        self._parts = None
        opened.block.append(Next())
        made = Loop(steps=count, over="parts")
        made.regions, opened.block.parent = [opened.block], made
        self.emit(made)
        for op in opened.behind:
            self._append(self._block, op)

    @property
    def part_count(self) -> int:
        """How many parts there are of the channels: 1 outside of loops over parts."""
        return 1 if self._parts is None else self._parts.count

    @property
    def in_parts(self) -> bool:
        """Whether kernels compute a part of the channels at a time."""
        return self.for_parts or self.part_count > 1

    def is_cut(self, value: Value) -> bool:
        """Whether, where kernels go into a loop over parts, only a part of the channels of `value` is there."""
        return self._parts is not None and self._root(value) in self._parts.cut

    def channels_of(self, value: Value) -> int:
        """Channels of `value` that are there at a time."""
        return value.shape[-1] // (self.part_count if self.is_cut(value) else 1)

    def part_of(self, const: Value, axis: int) -> Value:
        """In a loop over parts, the part of a constant that belongs to the step: of equal slices along `axis`."""
        assert self._parts is not None
        key = const, axis
        if key not in self._parts.consts:
            data, count = const.data, self._parts.count
            assert data is not None
            stacked = np.concatenate(np.split(data, count, axis), axis=0)
            self._parts.consts[key] = self._part(self.const(const.name, stacked), 0, const.name)
            self._forget([const] if isinstance(const, Const) and not const.uses else [])
        return self._parts.consts[key]

    def before_parts(self, op: Op) -> None:
        """Append a kernel op that runs once, in front of all parts."""
        self._append(self._block, op)

    def behind_parts(self, op: Op) -> None:
        """Append a kernel op that runs once, behind all parts."""
        assert self._parts is not None
        op.loc = self.location
        self._parts.behind.append(op)

    def in_rows(self, op: Op, pace: Pace, ring: int, fresh: int = 0, keep: Keep = (1, 0)) -> None:
        """Lower `op` next, which goes through its rows at `pace`; `ring` rows of its result are kept. The rows of a
        step are written to a place for `fresh` rows, if that is not 0; `keep` takes them from there.
        """
        assert self._loop is not None
        if fresh:
            type_ = self._type_of(op.out)
            places = [self._slot(BufferType((1, rows, *type_.shape[2:]), type_.dtype, type_.quant), name)
                      for rows, name in ((fresh, f"{op.out.name}_row"), (ring, op.out.name))]
            self._loop.fresh[op.out] = _Fresh(op, pace, places[0], places[1], keep)
        self._loop.pace, self._loop.source, self._loop.rings[op.out] = pace, op, ring

    def keep(self, op: Op) -> None:
        """Copy the fresh rows of the result of `op` to its ring, where all that is read of it from now on is."""
        assert self._loop is not None
        made = self._loop.fresh.pop(op.out)
        self._buffers[op.out] = made.ring
        self._forget_parts(op.out)
        self._append(self._loop.block, KEEPS.get(KEEP)(made.rows, made.ring, made.pace, made.keep, op.out.shape[1]))

    def _forget_parts(self, value: Value) -> None:
        """Parts of `value` that are asked for from now on lie in the buffer that it has now."""
        for part in [part for part, (base, _) in self._windows.items() if base is value]:
            self._buffers.pop(part, None)
            self._forget_parts(part)

    @property
    def pace(self) -> Pace | None:
        """When the rows of the op being lowered are due, in a loop; None outside: all of them, at once."""
        return self._loop.pace if self._loop is not None else None

    def rows_of_call(self, height: int) -> int:
        """How many of `height` rows the kernel of the op being lowered computes in one call, at most."""
        pace = None if self._loop is None else self._loop.pace
        return height if pace is None else min(height, -(-pace.rows // pace.steps))

    @property
    def source(self) -> Op:
        """The op being lowered."""
        source = self._loop.source if self._loop is not None else self._source
        assert source is not None
        return source

    def remark(self, message: str) -> None:
        """Tell the user, with --remarks, what was or was not done for the op being lowered, and why."""
        if self._report is not None:
            self._report(message, self.location)

    @property
    def integer_only(self) -> bool:
        """Whether quantised ops have to do without float arithmetic: the core has no FPU, or the module's attribute
        `requant` is `integer`."""
        return self.target.float_registers == 0 or self.module.attrs.get("requant") == "integer"

    def _make_buffer(self, value: Value) -> Value:
        if isinstance(value, Const):
            return self._buffer_const(value)
        join = self._join(value)
        if join is not None:
            return join
        if value in self._windows:
            return self._window(value)
        base = self._bases.get(value)
        if base is None:
            return self._slot(self._kept_type(value), value.name)
        return self._view(self.buffer(base), _buffer_type(value), value.name)

    def _kept_type(self, value: Value) -> BufferType:
        """The buffer for a value: as many rows as are kept of it."""
        type_ = self._type_of(value)
        ring = self._loop.rings.get(value) if self._loop is not None else None
        if ring is None or type_.rank != 4 or ring >= type_.shape[1]:
            return type_
        return BufferType((type_.shape[0], ring, *type_.shape[2:]), type_.dtype, type_.quant)

    def _join(self, value: Value) -> Value | None:
        """The ring and the fresh rows of a value that has both."""
        fresh = self._loop.fresh.get(value) if self._loop is not None else None
        if fresh is None:
            return None
        join = Join(fresh.ring, fresh.rows, height=value.shape[1], pace=fresh.pace, keep=fresh.keep)
        join.out.name = value.name
        self.emit(join)
        return join.out

    def _window(self, value: Value) -> Value:
        """The part of another buffer that is the buffer of `value`: of the rows that are there, in a loop."""
        base, begin = self._windows[value]
        within, type_ = self.buffer(base), _buffer_type(value)
        inside = self._loop is not None and base in self._loop.rings
        if inside:
            type_ = BufferType((1, within.shape[1], *type_.shape[2:]), type_.dtype, type_.quant)
        window = Window(within, begin, type_)
        window.out.name = value.name
        self._append(self._loop.block if inside and self._loop is not None else self._block, window)
        return window.out

    def _make_part(self, value: Value) -> Value:
        """The buffer for the part of a value that belongs to a step."""
        assert self._parts is not None
        if value not in self._parts.stored:
            return self._join(value) or self._slot(self._kept_type(value), value.name)
        if value not in self._buffers:
            base = self._bases.get(value)
            type_ = _buffer_type(value)
            self._buffers[value] = self._slot(type_, value.name) if base is None \
                else self._view(self.buffer(base), type_, value.name)
        return self._part(self._buffers[value], value.type.rank - 1, value.name)

    def _part(self, whole: Value, axis: int, name: str) -> Value:
        assert self._parts is not None
        shape = list(whole.shape)
        shape[axis] //= self._parts.count
        part = Part(whole, axis, BufferType(tuple(shape), whole.type.dtype, whole.type.quant))
        part.out.name = f"{name}_part"
        self.emit(part)
        return part.out

    def _root(self, value: Value) -> Value:
        """The value in the region of a split that `value` stands for."""
        assert self._parts is not None
        while value not in self._parts.cut and value in self._bases:
            value = self._bases[value]
        return value

    def _type_of(self, value: Value) -> BufferType:
        """The type of the buffer for a value, or for the part of it that is there at a time."""
        type_ = _buffer_type(value)
        if self._parts is None or not self.is_cut(value):
            return type_
        return BufferType((*type_.shape[:-1], type_.shape[-1] // self._parts.count), type_.dtype, type_.quant)

    def _view(self, base: Value, type_: BufferType, name: str) -> Value:
        inner = base.defining(View)
        if inner is not None:
            base = inner.x
        if base.type == type_:
            return base
        view = View(base, result=type_)
        view.out.name = name
        self.emit(view)
        return view.out

    def _slot(self, type_: BufferType, name: str) -> Value:
        slot = Slot(self._arena, result=type_)
        slot.out.name = name
        self.emit(slot)
        return slot.out

    def _buffer_const(self, const: Const) -> Const:
        data = const.data
        if data is None:
            raise error(f"constant @{const.name} has no elements: they were left out of the text", loc=const.loc,
                        help="print the module with a sidecar file, or give the constant a payload")
        made = self._intern(const.name, _buffer_type(const), data, const.loc)
        made.payload = const.payload
        return made

    def _intern(self, name: str, type_: BufferType, data: Array, loc: Location = UNKNOWN) -> Const:
        key = (type_, hashlib.sha256(data.tobytes()).digest())
        if key not in self._consts:
            self._consts[key] = self.module.add_const(name, data, self.location if loc is UNKNOWN else loc, type_)
        return self._consts[key]


def _buffer_type(value: Value) -> BufferType:
    type_ = value.type
    return type_ if isinstance(type_, BufferType) else type_.buffer()


def lowers(kind: type[OpT]) -> Callable[[Callable[[OpT, Lowering], None]], Callable[[OpT, Lowering], None]]:
    """Register the decorated function as the rule that lowers every `kind`."""

    def register(rule: Callable[[OpT, Lowering], None]) -> Callable[[OpT, Lowering], None]:
        LOWERINGS.add(kind.opname, rule)
        return rule

    return register


def streams(*kinds: type[Op], where: Callable[[Op], bool] = lambda op: True) -> None:
    """Declare that the kernels of these ops can run row by row, for those ops for which `where` holds."""
    for kind in kinds:
        STREAMS.add(kind.opname, where)


def row_form(kind: type[OpT]) -> Callable[[Callable[[OpT, Lowering], list[Op]]],
                                          Callable[[OpT, Lowering], list[Op]]]:
    """Register the decorated function as the one that makes the kernels which do what the kernel op `kind` does row by
    row: `form(kernel, low)`, where `low.source` is what the kernel was made for and `low.pace` its pace.
    """

    def register(form: Callable[[OpT, Lowering], list[Op]]) -> Callable[[OpT, Lowering], list[Op]]:
        ROW_FORMS.add(kind.opname, form)
        return form

    return register


def part_form(kind: type[OpT]) -> Callable[[Callable[[OpT, Lowering], list[Op]]],
                                           Callable[[OpT, Lowering], list[Op]]]:
    """Register the decorated function as the one that makes the kernels which do what the kernel op `kind` does for a
    part of the channels: `form(kernel, low)`, where the operands of `kernel` that are cut (`low.is_cut`) are parts
    already and the constants, made for all channels, are not (`low.part_of`).
    """

    def register(form: Callable[[OpT, Lowering], list[Op]]) -> Callable[[OpT, Lowering], list[Op]]:
        PART_FORMS.add(kind.opname, form)
        return form

    return register


def copies(rule: Callable[[Value, Value, Lowering], None]) -> Callable[[Value, Value, Lowering], None]:
    """Register the decorated function as the rule that copies: `rule(source, destination, low)`, two buffers.

    lower-to-mem needs it where a function returns an input, a constant, or the same value twice.
    """
    LOWERINGS.add(COPY, rule)
    return rule


def keeps(rule: Callable[[Value, Value, Pace, Keep, int], Op]) -> Callable[[Value, Value, Pace, Keep, int], Op]:
    """Register the decorated function as the rule that keeps rows: `rule(fresh, ring, pace, keep, height)` gives the
    kernel op that copies the rows of a step of a loop to a ring, in the steps that `keep` says.
    """
    KEEPS.add(KEEP, rule)
    return rule
