"""The part of layout-nhwc that chooses the order of axes of a whole region of ops at once.

A region is a connected set of ops that do not care for the order of axes (element-wise ops, pads, concats, reductions,
slices, softmax). All of it is computed in one order; transposes stand only on its border. For each order that a
transpose on the border suggests, the cost is

1. the bytes that transposes on the border move (those of constants, those that move only axes of extent 1, and those
   that the columns of a dense layer take on, are free; a transpose next to another one merges with it),
2. then how many transposes, free ones too, are neither at an input nor at an output of the function, where they may be
   dropped,
3. then how many stand in front: behind a layer, the layer can take on what follows it.

The region changes to an order that costs less, never to one that costs the same: so this comes to an end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tinyir.ir import Argument, Block, Const, Value
from tinyir.opdef import Op
from tinyir.ops import Dense, Dequantize, QDense, Quantize, Reshape, Return, Transpose
from tinyir.rewrite import Rewriter
from tinyir.types import Shape, TensorType

from ._permutations import (
    Perm,
    attrs_below,
    compose,
    data_operands,
    identity,
    inverse,
    is_agnostic,
    moves_nothing,
    untransposed,
    with_shape,
)
from ._values import stem, tensor_type

Cost = tuple[int, int, int]


@dataclass(frozen=True)
class _Region:
    """Ops in textual order, all with results of `rank` dimensions."""

    ops: tuple[Op, ...]
    rank: int
    members: frozenset[Op]
    block: Block

    def inside(self, op: Op | None) -> bool:
        return op in self.members

    def inputs(self) -> list[Value]:
        """The values that come from outside, each once."""
        return list(dict.fromkeys(value for op in self.ops for index in data_operands(op)
                                  if (value := op.operands[index]) is not None and not self.inside(value.op)))

    def outputs(self) -> list[Value]:
        """The values that somebody outside reads."""
        return [result for op in self.ops for result in op.results if any(not self.inside(u) for u in result.users)]


def regions(block: Block) -> Iterator[_Region]:
    """The regions of a block, in order of their first ops."""
    parent: dict[Op, Op] = {op: op for op in block.ops if is_agnostic(op)}

    def root(op: Op) -> Op:
        while parent[op] is not op:
            op = parent[op]
        return op

    for op in parent:
        for index in data_operands(op):
            source = op.operands[index]
            if source is not None and source.op in parent and source.type.rank == op.out.type.rank:
                parent[root(op)] = root(source.op)
    members: dict[Op, list[Op]] = {}
    for op in parent:
        members.setdefault(root(op), []).append(op)
    for ops in members.values():
        yield _Region(tuple(ops), ops[0].out.type.rank, frozenset(ops), block)


def improve(region: _Region, rw: Rewriter) -> bool:
    """Change the region to a cheaper order of axes, if there is one."""
    if len({type(op) for op in region.ops}) == 1 and isinstance(region.ops[0], (Quantize, Dequantize)):
        return False  # transposes stand on the side of the stored integers, see `hop_quantize`
    here = identity(region.rank)
    best, least = here, _cost(region, here)
    for perm in _candidates(region):
        cost = _cost(region, perm)
        if cost < least:
            best, least = perm, cost
    if best == here:
        return False
    _Mover(region, best, rw).move()
    return True


def _candidates(region: _Region) -> list[Perm]:
    """The orders in which a transpose on the border disappears."""
    found: list[Perm] = []
    for value in region.inputs():
        before = value.defining(Transpose)
        if before is not None and len(before.perm) == region.rank:
            found.append(before.perm)
    for value in region.outputs():
        found += [inverse(user.perm) for user in value.users if isinstance(user, Transpose)]
    return sorted(set(found))


# -- cost ----------------------------------------------------------------------------------------------------------


def _cost(region: _Region, perm: Perm) -> Cost:
    """What transposes on the border cost if the region computes x where it now computes transpose(x, perm)."""
    parts = [_input_cost(region, value, perm) for value in region.inputs()]
    parts += [part for value in region.outputs() for part in _output_costs(region, value, perm)]
    moved, inner, front = (sum(column) for column in zip(*parts, strict=True)) if parts else (0, 0, 0)
    return moved, inner, front


def _input_cost(region: _Region, value: Value, perm: Perm) -> Cost:
    if isinstance(value, Const):
        return 0, 0, 0
    before = value.defining(Transpose)
    if perm == identity(region.rank):
        if before is None or not all(region.inside(user) for user in value.users):
            return 0, 0, 0  # there is no transpose, or it stays for others anyway
        source, way = before.x, before.perm
    elif before is not None and len(before.perm) == region.rank:
        source, way = before.x, compose(before.perm, inverse(perm))
    else:
        source, way = value, inverse(perm)
    if perm != identity(region.rank) and any(isinstance(u, Transpose) and u.perm == way for u in source.users):
        return 0, 0, 0  # somebody has that transpose already
    inner = int(way != identity(region.rank) and not _is_input(source))
    sizes = [_moved(with_shape(type_, _full_shape(source.shape, region.rank)), way)
             for type_ in _narrow_types(region, source, value)]
    return sum(sizes), inner, inner


def _is_input(value: Value) -> bool:
    """Whether `value` comes from the caller, stored integers included."""
    quantize = value.defining(Quantize)
    return isinstance(value if quantize is None else quantize.x, Argument)


def _narrow_types(region: _Region, source: Value, value: Value) -> list[TensorType]:
    """The types that a transpose of `source`, read by the region as `value`, has: it can stand behind quantizes."""
    inside = [user for user in value.users if region.inside(user)]
    if all(isinstance(user, Quantize) for user in inside):
        return [TensorType(source.shape, user.out.type.dtype) for user in inside]
    return [tensor_type(source)]


def _output_costs(region: _Region, value: Value, perm: Perm) -> list[Cost]:
    dequantize = value.defining(Dequantize)  # a transpose can stand in front of it
    narrow = value if dequantize is None else dequantize.x
    type_ = untransposed(TensorType(value.shape, narrow.type.dtype), perm)
    outside = [user for user in value.users if not region.inside(user)]
    ways = [compose(perm, user.perm) for user in outside if isinstance(user, Transpose)]
    readers = [user for user in outside if not isinstance(user, Transpose) and not absorbs(user)]
    inside = not _is_input(value)
    costs = [(_moved(type_, way), int(inside and way != identity(region.rank)), 0) for way in sorted(set(ways))]
    if readers and perm != identity(region.rank):
        inner = inside and any(not isinstance(user, Return) for user in readers)
        costs.append((_moved(type_, perm), int(inner), 0))
    return costs


def absorbs(reader: Op) -> bool:
    """Whether a transpose in front of `reader` ends up in the columns of dense layers."""
    return isinstance(reader, Reshape) and reader.out.shape[:1] == (1,) and bool(reader.out.uses) and all(
        isinstance(user, (Dense, QDense)) and user.weight.data is not None and user.x is reader.out
        for user in reader.out.users)


def _moved(type_: TensorType, perm: Perm) -> int:
    """How many bytes a transpose by `perm` moves."""
    return 0 if moves_nothing(type_.shape, perm) else type_.size_bytes


def _full_shape(shape: Shape, rank: int) -> Shape:
    """`shape` with leading dimensions of 1, as broadcasting sees it."""
    return (1,) * (rank - len(shape)) + tuple(shape)


# -- change ----------------------------------------------------------------------------------------------------------


@dataclass
class _Mover:
    """Builds the region anew in another order of axes: what was y = transpose(x, perm) becomes x."""

    region: _Region
    perm: Perm
    rw: Rewriter
    below: dict[Value, Value] = field(default_factory=dict)

    def move(self) -> None:
        for op in self.region.ops:
            self._rebuild(op)
        outputs = self.region.outputs()
        for value in outputs:
            self._give_back(value)
        for op in reversed(self.region.ops):
            if op.block is not None:  # else it went with its last reader
                self.rw.erase(op)

    def _rebuild(self, op: Op) -> None:
        moved = data_operands(op)
        groups, position = [], 0
        for group in op.operand_groups:
            new = [self._below(v, op) if v is not None and position + i in moved else v for i, v in enumerate(group)]
            groups.append(new)
            position += len(group)
        types = [untransposed(tensor_type(result), self.perm) for result in op.results]
        made = type(op).build(groups, attrs_below(op, self.perm), types, (), op.loc)
        self.rw.insert_before(op, made)
        for result, old in zip(made.results, op.results, strict=True):
            result.name = old.name
            self.below[old] = result

    def _below(self, value: Value, anchor: Op) -> Value:
        """The operand x such that `value`, with leading dimensions of 1, is transpose(x, perm)."""
        if value not in self.below:
            self.below[value] = self._transposed(value, anchor)
        return self.below[value]

    def _transposed(self, value: Value, anchor: Op) -> Value:
        way = inverse(self.perm)
        shape = _full_shape(value.shape, self.region.rank)
        if isinstance(value, Const) and value.data is not None:
            if value.data.size == 1:
                return value
            data = np.ascontiguousarray(value.data.reshape(shape).transpose(way))
            type_ = untransposed(with_shape(tensor_type(value), shape), self.perm)
            return self.rw.const(data, stem(value), value.loc, type_)
        if shape != value.shape:
            full = Reshape(value, result=with_shape(tensor_type(value), shape))
            value = self.rw.insert_before(anchor, full, name=value.name).out
        before = value.defining(Transpose)
        if before is not None:
            value, way = before.x, compose(before.perm, way)
        if way == identity(len(way)):
            return value
        return self._transpose(value, way, anchor)

    def _transpose(self, value: Value, way: Perm, anchor: Op) -> Value:
        """A transpose of `value` in front of `anchor`: one that is there already, or else a new one for all."""
        order = self.region.block.ops
        place = order.index(anchor)
        same = [op for op in value.users if isinstance(op, Transpose) and op.perm == way]
        before = next((op for op in same if order.index(op) < place), None)
        if before is not None:
            return before.out
        made = self.rw.insert_before(anchor, Transpose(value, perm=way), name=value.name)
        for op in same:
            self.rw.replace(op, made.out)
        return made.out

    def _give_back(self, value: Value) -> None:
        """Let the readers outside read a transpose of the new value."""
        new, old = self.below[value], value.op
        assert old is not None
        back = self.rw.insert_after(old, Transpose(new, perm=self.perm), name=value.name)
        for use in list(value.uses):
            if not self.region.inside(use.op):
                self.rw.set_operand(use.op, use.index, back.out)
