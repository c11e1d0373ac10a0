"""Squeeze-and-excitation blocks: what they are made of, and how they are parted by channels.

    %e = conv(%x)  %d = depthwise(%e)       `made`: what makes the value that is scaled
    %m = mean(%d)                           `folds`
    %s = ...(%m)                            the scale
    %z = mul(%d, %s)                        `scaled`
    %y = conv(%z)                           `behind` (nothing here) and `project`, which sums over the channels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyir.ir import Const, Func, Module, Value
from tinyir.opdef import Op
from tinyir.ops import (
    Add,
    Concat,
    Conv2D,
    DepthwiseConv2D,
    Mul,
    QConv2D,
    QDepthwiseConv2D,
    QMul,
    QProject,
    QReduceMean,
    ReduceMean,
    Slice,
    channel_role,
)
from tinyir.ops.quant import quant_of
from tinyir.types import I32, Quant, TensorType

from ._split import is_pixel
from ._values import stem, tensor_type

__all__ = ["Excite", "Rewritten", "excite_of", "part_block"]


@dataclass(frozen=True)
class Excite:
    """A block, its ops in order of execution."""

    made: tuple[Op, ...]
    folds: tuple[Op, ...]
    scaled: Op
    value: Value
    scale: Value
    behind: tuple[Op, ...]
    project: Op

    @property
    def channels(self) -> int:
        """Channels of what the first op makes."""
        return self.made[0].out.shape[-1]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all that may be computed again."""
        return sum(op.macs() for op in self.made)


def excite_of(scaled: Op) -> Excite | None:
    """The block whose channels `scaled`, a product, scales; None if it is not one."""
    if not isinstance(scaled, (Mul, QMul)):
        return None
    for value, scale in (scaled.reads[:2], scaled.reads[1::-1]):
        made, folds = _made(value), _folds(value, scaled)
        behind = _behind(scaled)
        if made and folds and behind and is_pixel(scale) and not isinstance(scale, Const) and scale.type.rank == 4 \
                and scale.shape[-1] == value.shape[-1]:
            return Excite(made, folds, scaled, value, scale, behind[:-1], behind[-1])
    return None


def _made(value: Value) -> tuple[Op, ...]:
    """The ops that make a value channel by channel, from the layer that makes the channels on; empty if there are none.
    """
    ops: list[Op] = []
    while (op := value.op) is not None and value.type.rank == 4 and len(op.reads) > 0:
        ops.append(op)
        if channel_role(op, set()) == "makes":
            return tuple(reversed(ops)) if _has_constants(ops) else ()
        value = op.reads[0]
        if channel_role(op, {value}) != "follows" or len(value.uses) != 1:
            return ()
    return ()


def _has_constants(ops: Sequence[Op]) -> bool:
    return all(v.data is not None for op in ops for v in op.reads if isinstance(v, Const))


def _folds(value: Value, scaled: Op) -> tuple[Op, ...]:
    """The ops that take the mean of a value that nothing reads but they and `scaled`."""
    others = [op for op in value.users if op is not scaled]
    ops: list[Op] = []
    while len(others) == 1 and isinstance(others[0], (QReduceMean, ReduceMean)) \
            and channel_role(others[0], {others[0].x}) == "follows":
        ops.append(others[0])
        if is_pixel(others[0].out) and others[0].out.type.rank == 4:
            return tuple(ops)
        others = list(others[0].out.users)
    return ()


def _behind(scaled: Op) -> tuple[Op, ...]:
    """The ops behind the product, channel by channel, up to the one that sums over all channels; empty if none does."""
    ops: list[Op] = []
    value: Value = scaled.out
    while len(value.uses) == 1:
        op = value.users[0]
        role = channel_role(op, {value})
        ops.append(op)
        if role == "sums" and isinstance(op, (Conv2D, QConv2D)):
            return tuple(ops) if _has_constants(ops) else ()
        if role != "follows" or op.out.type.rank != 4 or op.out.shape[:3] != value.shape[:3]:
            return ()
        value = op.out
    return ()


@dataclass(frozen=True)
class Rewritten:
    """What a block has become, each in order of execution: the channels that are kept, with their means; the means of
    the others; what scales those that were kept; and what computes the others again, scales and sums.
    """

    kept: tuple[Op, ...]
    others: tuple[Op, ...]
    scaled: tuple[Op, ...]
    again: tuple[Op, ...]


def part_block(block: Excite, kept: int, func: Func, module: Module) -> Rewritten:
    """Let the first `kept` channels of `block` be stored until they are scaled, and the others be computed twice."""
    return _Parting(block, kept, func, module).run()


class _Parting:
    def __init__(self, block: Excite, kept: int, func: Func, module: Module) -> None:
        self.block, self.kept, self.func, self.module = block, kept, func, module
        self._consts: dict[tuple[Const, int, int, int], Const] = {}

    def run(self) -> Rewritten:
        block, total = self.block, self.block.channels
        x, end = block.made[0].reads[0], block.folds[-1]
        kept = self._parted((*block.made, *block.folds), x, (0, self.kept)) if self.kept else []
        others = self._parted((*block.made, *block.folds), x, (self.kept, total))
        joined = [self._like(end, Concat((kept[-1].out, others[-1].out), axis=3))] if kept else []
        self._insert([*kept, *others, *joined], end)
        mean = joined[-1].out if joined else others[-1].out
        _replace_uses(end.out, mean)
        scales = self._scales()
        self._insert(scales, block.scaled)
        scale = scales[-1].out if scales else block.scale
        scaled = self._scaled(kept[len(block.made) - 1].out, scales[0].out, (0, self.kept)) if kept else []
        again = self._parted(block.made, x, (self.kept, total))
        again += self._scaled(again[-1].out, scale, (self.kept, total))
        again += self._project(scaled[-1].out if scaled else None, again[-1].out)
        self._insert([*scaled, *again], block.project)
        _replace_uses(block.project.out, again[-1].out)
        for op in (block.project, *reversed(block.behind), block.scaled, *reversed(block.folds), *reversed(block.made)):
            op._unlink()
            self.func.block.ops.remove(op)
        self.module.version += 1
        return Rewritten(tuple(kept), tuple(others), tuple(scaled), tuple(again))

    def _parted(self, ops: Sequence[Op], x: Value, channels: tuple[int, int]) -> list[Op]:
        """`ops`, each of which reads the one before, for the channels [begin, end) of the block."""
        made: list[Op] = []
        for op in ops:
            span = self._span(op.out, channels)
            groups: list[list[Value | None]] = [[x], *([self._part(v, op, span)] for v in op.operands[1:])]
            made.append(self._like(op, type(op).build(groups, op.attrs, [_narrow(op.out, span)])))
            x = made[-1].out
        return made

    def _span(self, value: Value, channels: tuple[int, int]) -> tuple[int, int]:
        """The channels of `value` that belong to channels [begin, end) of what the block begins with."""
        fan = value.shape[-1] // self.block.channels
        return channels[0] * fan, channels[1] * fan

    def _part(self, value: Value | None, op: Op, span: tuple[int, int]) -> Value | None:
        """A constant operand of a layer, for some output channels; tables are for all."""
        if not isinstance(value, Const) or not isinstance(op, (Conv2D, QConv2D, DepthwiseConv2D, QDepthwiseConv2D)):
            return value
        depthwise = isinstance(op, (DepthwiseConv2D, QDepthwiseConv2D)) and value is op.weight
        return self._slice(value, 2 if depthwise else 0, span)

    def _slice(self, const: Const, axis: int, span: tuple[int, int]) -> Const:
        key = const, axis, *span
        data = const.data
        assert data is not None  # else the block would not have been found
        if key not in self._consts:
            part = np.ascontiguousarray(data[(slice(None),) * axis + (slice(*span),)])
            type_ = tensor_type(const)
            made = TensorType(part.shape, type_.dtype, _part_of_quant(type_.quant, axis, span))
            self._consts[key] = self.module.add_const(stem(const), part, const.loc, made)
        return self._consts[key]

    def _scales(self) -> list[Op]:
        """The scale, parted; nothing if there is one part."""
        scale = self.block.scale
        found: list[Op] = []
        for channels in ((0, self.kept), (self.kept, self.block.channels)) if self.kept else ():
            span = self._span(scale, channels)
            part = Slice(scale, (0, 0, 0, span[0]), (1, 1, 1, 1), _narrow(scale, span))
            part.loc, part.out.name = self.block.scaled.loc, scale.name
            found.append(part)
        return found

    def _scaled(self, value: Value, scale: Value, channels: tuple[int, int]) -> list[Op]:
        """The product of some channels, and what is done to each channel of it."""
        old = self.block.scaled
        groups: list[list[Value | None]] = [[value if v is self.block.value else scale] for v in old.operands]
        made = self._like(old, type(old).build(groups, old.attrs, [_narrow(old.out, (0, value.shape[-1]))]))
        return [made, *self._parted(self.block.behind, made.out, channels)]

    def _project(self, early: Value | None, late: Value) -> list[Op]:
        """The sums over the channels `early`, and on top of them those over the channels `late`."""
        op = self.block.project
        if early is None:
            return [self._like(op, op.clone({op.reads[0]: late}))]
        assert isinstance(op, (Conv2D, QConv2D))
        count, weight = early.shape[-1], op.weight
        assert isinstance(weight, Const)
        first, second = (self._slice(weight, 3, span) for span in ((0, count), (count, weight.shape[3])))
        if isinstance(op, Conv2D):
            sums: Op = Conv2D(early, first, op.bias)
            rest = Conv2D(late, second, None)
            return [self._like(op, o) for o in (sums, rest, Add(sums.out, rest.out, op.act, op.act_args))]
        sums = QConv2D(early, first, op.bias, result=_sums_type(op))
        return [self._like(op, o) for o in (sums, QProject(late, second, sums.out, tensor_type(op.out), op.clamp))]

    def _like(self, old: Op, made: Op) -> Op:
        """`made`, called as `old` is."""
        made.loc = old.loc
        made.out.name = old.out.name
        return made

    def _insert(self, ops: Sequence[Op], anchor: Op) -> None:
        for op in ops:
            self.func.block.insert(self.func.ops.index(anchor), op)


def _sums_type(op: QConv2D) -> TensorType:
    """The type of the sums of `op`: their scales are the products of those of x and the weight."""
    weight, x = quant_of(op.weight), np.float32(quant_of(op.x).scale)
    scales = tuple(float(x * np.float32(s)) for s in weight.scales)
    quant = Quant(scales, (0,) * len(scales), 3 if len(scales) > 1 else None)
    return TensorType(op.out.shape, I32, quant)


def _narrow(value: Value, span: tuple[int, int]) -> TensorType:
    type_ = tensor_type(value)
    return TensorType((*type_.shape[:-1], span[1] - span[0]), type_.dtype,
                      _part_of_quant(type_.quant, type_.rank - 1, span))


def _part_of_quant(quant: Quant | None, axis: int, span: tuple[int, int]) -> Quant | None:
    if quant is None or quant.axis != axis:
        return quant
    zeros = quant.zero_points if len(quant.zero_points) == len(quant.scales) else quant.zero_points * len(quant.scales)
    return Quant(quant.scales[slice(*span)], zeros[slice(*span)], axis)


def _replace_uses(old: Value, new: Value) -> None:
    for use in list(old.uses):
        use.op.replace_operand(use.index, new)
