"""Run a network op by op over all samples at once, stopping in front of a layer to look at what it reads.

    both = Lockstep(module, ctx)
    for layer in both.layers():
        both.inputs(layer)       what the quantised layer reads, sample by sample
        both.wanted(layer)       what the float layer made of the same samples

Whatever is changed at a layer is what later layers see. Only values that are still to be read are held; the number of
samples is limited so that they fit in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np

from tinyir.ir import Array, Const, Module, Value
from tinyir.opdef import Op
from tinyir.ops import Dequantize
from tinyir.pass_manager import Context
from tinyir.types import I8

from ._calibration import reference, samples
from ._points import LAYERS, Layer

_MEMORY = 256 * 2**20


class Stepper:
    """One module, run over several samples side by side."""

    def __init__(self, module: Module, inputs: Sequence[list[Array]]) -> None:
        self.ops = module.main.ops
        self.next = 0
        self.arrays: list[dict[Value, Array]] = [dict(zip(module.main.inputs, s, strict=True)) for s in inputs]
        self._constants: dict[Value, Array] = {}
        self._last = {value: op for op in self.ops for value in op.reads}  # not by number: layers may get a bias

    def advance(self, op: Op) -> None:
        """Run all ops in front of `op`."""
        end = self.ops.index(op)
        while self.next < end:
            self._run(self.ops[self.next])
            self.next += 1

    def values(self, value: Value) -> list[Array]:
        """What `value` is in each sample."""
        return [self._array(arrays, value) for arrays in self.arrays]

    def _run(self, op: Op) -> None:
        if _is_weight(op):
            return
        for arrays in self.arrays:
            arguments = [[self._array(arrays, v) for v in group] if field.variadic else
                         self._array(arrays, group[0])
                         for field, group in zip(op.schema.operands, op.operand_groups, strict=True)]
            found = op.reference(*arguments)
            arrays.update(zip(op.results, found if isinstance(found, tuple) else (found,), strict=True))
        for value in op.reads:
            if self._last.get(value) is op:
                for arrays in self.arrays:
                    arrays.pop(value, None)

    def _array(self, arrays: dict[Value, Array], value: Value | None) -> Any:
        if value is None:
            return None
        if value in arrays:
            return arrays[value]
        if isinstance(value, Const):
            return value.data
        stored = cast(Dequantize, value.op).x
        if stored not in self._constants:
            self._constants[stored] = cast(Dequantize, value.op).reference(cast(Array, stored.data))
        return self._constants[stored]


def _is_weight(op: Op) -> bool:
    return isinstance(op, Dequantize) and isinstance(op.x, Const)


def stored_layer(op: Op) -> Layer | None:
    """`op` if it is a layer whose weights are stored as 8-bit integers."""
    if not isinstance(op, LAYERS):
        return None
    weight = op.weight.defining(Dequantize)
    known = weight is not None and isinstance(weight.x, Const) and weight.x.type.dtype == I8
    return op if known else None


class Lockstep:
    """A quantised module and the float network that it came from, on the same samples."""

    def __init__(self, module: Module, ctx: Context, limit: int) -> None:
        self.float = reference(ctx)
        elements = max((v.type.elements for op in module.main.ops for v in op.results), default=1)
        count = max(4, min(limit, _MEMORY // (32 * elements)))
        inputs = list(samples(module, ctx, count))
        self.module = module
        self._quantised = Stepper(module, inputs)
        self._wanted = Stepper(self.float.module, inputs)

    def layers(self) -> Iterator[Layer]:
        """Every stored layer in order; when it is given, everything before it has been computed."""
        for op in list(self.module.main.ops):
            layer = stored_layer(op)
            if layer is None or layer.out not in self.float.same:
                continue
            self._quantised.advance(layer)
            self._wanted.advance(cast(Op, self.float.same[layer.out].op))
            yield layer

    def inputs(self, layer: Layer) -> list[Array]:
        """What the quantised layer reads."""
        return self._quantised.values(layer.x)

    def wanted(self, layer: Layer) -> list[Array]:
        """What the float layer computes."""
        plain = self.float.same[layer.out].op
        assert isinstance(plain, LAYERS)
        bias = None if plain.bias is None else plain.bias.data
        weight = cast(Array, plain.weight.data)
        return [np.asarray(plain.reference(x, weight, bias)) for x in self._wanted.values(plain.x)]
