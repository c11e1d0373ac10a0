"""Evaluate what does not depend on the input.

    %w = nn.transpose(@w0) {perm = [1, 0]} : tensor<10x64xf32>
    %y = nn.dense(%x, %w, none) : tensor<1x10xf32>
        ->
    %y = nn.dense(%x, @w, none) : tensor<1x10xf32>

Each op is evaluated by its own numpy reference. A result that is larger than `limit` bytes and larger than what it was
made of stays: a constant broadcast to the size of an image costs more flash than code.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from tinyir.ir import Array, Const, Level, Module, Value
from tinyir.opdef import Op
from tinyir.pass_manager import Context, Pass, option
from tinyir.rewrite import Rewriter

from ._values import is_constant


class FoldConstants(Pass):
    """Replace ops whose operands are all constant by their value."""

    name = "fold-constants"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")
    limit: int = option(4096, "bytes that a result may have although its operands are smaller")

    def run(self, module: Module, ctx: Context) -> None:
        rewriter = self.rewriter(module, ctx)
        folded = 0
        for func in module.funcs.values():
            for op in list(func.ops):
                if op.block is not None and self._foldable(op):
                    _fold(op, rewriter)
                    folded += 1
        module.drop_unused_consts()
        ctx.stat("folded", folded)

    def _foldable(self, op: Op) -> bool:
        values = [v for v in op.operands if v is not None]
        if not op.pure or op.regions or not op.results or not values or not all(map(is_constant, values)):
            return False
        made = sum(r.type.size_bytes for r in op.results)
        return made <= max(self.limit, sum(v.type.size_bytes for v in values))


def _fold(op: Op, rw: Rewriter) -> None:
    result = op.reference(*_arguments(op))
    arrays: tuple[Array, ...] = result if isinstance(result, tuple) else (result,)
    rw.replace(op, tuple(_constant(op, index, array, rw) for index, array in enumerate(arrays)))


def _arguments(op: Op) -> list[Any]:
    """What `reference` takes: an array or None for each operand, a list of them for the variadic one."""
    arguments: list[Any] = []
    for operand, group in zip(op.schema.operands, op.operand_groups, strict=True):
        arrays = [_data(value) for value in group]
        arguments.append(arrays if operand.variadic else arrays[0])
    return arguments


def _data(value: Value | None) -> Array | None:
    return None if value is None else value.data


def _constant(op: Op, index: int, array: Array, rw: Rewriter) -> Const:
    result = op.results[index]
    data = np.ascontiguousarray(array, result.type.dtype.numpy).reshape(result.shape)
    return rw.const(data, result.name, op.loc, result.type)
