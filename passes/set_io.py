"""Say which side of the quantisation at its boundary a function takes: floats, or stored integers.

    func @main(%x: tensor<1x8xf32>) -> tensor<1x4xf32>          set-io{io=int8}
      %q = qnn.quantize(%x) : tensor<1x8xi8, q<0.05:3>>
      ...
      %y = qnn.dequantize(%s)
        ->
    func @main(%q: tensor<1x8xi8, q<0.05:3>>) -> tensor<1x4xi8, q<0.1:0>>

and back with io=float. Scale and zero point stay in the types, and so in the C header. An input that is read in any
other way than by one quantisation, and a result that is not a dequantized value, stay as they are; a remark says so.
"""

from __future__ import annotations

from typing import ClassVar, Literal, cast

from tinyir.ir import Argument, Level, Module, Value
from tinyir.opdef import Op
from tinyir.ops import Dequantize, Quantize, Reshape, Return, Slice, Transpose
from tinyir.pass_manager import Context, Pass, option
from tinyir.rewrite import Rewriter
from tinyir.types import F32, TensorType

from ._quant_chains import moved, stored_source
from ._values import tensor_type


class SetIo(Pass):
    """Take and return floats, or stored integers."""

    name = "set-io"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")

    io: Literal["float", "int8"] = option("int8", "what inputs and outputs are")

    def run(self, module: Module, ctx: Context) -> None:
        rewriter = self.rewriter(module, ctx)
        for argument in module.main.inputs:
            self._input(argument, rewriter)
        last = module.main.ops[-1]
        assert isinstance(last, Return)
        for index, value in enumerate(list(last.values)):
            self._output(last, index, value, rewriter)
        module.version += 1

    def _input(self, argument: Argument, rw: Rewriter) -> None:
        type_ = tensor_type(argument)
        if self.io == "float" and type_.quant is not None:
            _float_input(argument, rw)
        elif self.io == "int8" and type_.dtype == F32:
            wanted = _quantised_as(argument)
            if wanted is None:
                rw.ctx.remark(f"{self.name}: input %{argument.name} stays f32: it is not quantised right away, and in "
                              "one way", argument.loc)
                return
            argument.type_ = TensorType(type_.shape, wanted.dtype, wanted.quant)
            _read_stored(argument, argument, rw)

    def _output(self, last: Return, index: int, value: Value, rw: Rewriter) -> None:
        if self.io == "float" and value.type.quant is not None:
            made = rw.insert_before(last, Dequantize(value), name=value.name)
            rw.set_operand(last, index, made.out)
        elif self.io == "int8" and value.type.dtype == F32:
            stored = _stored_result(value, last, rw)
            if stored is None:
                rw.ctx.remark(f"{self.name}: output %{value.name} stays f32: it is not a dequantized value", value.loc)
                return
            old = value.op
            rw.set_operand(last, index, stored)
            if old is not None and not any(r.uses for r in old.results):
                rw.erase(old)


_MOVERS = (Reshape, Transpose, Slice)


def _quantised_as(value: Value) -> TensorType | None:
    """The one type that all readers of `value` quantise it to, moves aside."""
    found: set[TensorType] = set()
    for user in value.users:
        if isinstance(user, Quantize):
            found.add(TensorType((), user.out.type.dtype, user.out.type.quant))
        else:
            inner = _quantised_as(user.results[0]) if isinstance(user, _MOVERS) else None
            if inner is None:
                return None
            found.add(inner)
    only = found.pop() if len(found) == 1 else None
    return only if only is not None and only.quant is not None and only.quant.axis is None else None


def _read_stored(old: Value, stored: Value, rw: Rewriter) -> None:
    """Let the readers of float `old` read `stored`; their quantizes go."""
    for user in list(old.users):
        if isinstance(user, Quantize):
            rw.replace(user, stored)
            continue
        made = cast(Op, moved(user, stored))
        inner = rw.insert_before(user, made, name=user.results[0].name)
        _read_stored(user.results[0], inner.results[0], rw)
        if user.block is not None:
            rw.erase(user)


def _float_input(argument: Argument, rw: Rewriter) -> None:
    """Quantize a float argument where the stored one was."""
    stored = tensor_type(argument)
    argument.type_ = TensorType(stored.shape, F32)
    made = rw.insert_before(rw.module.main.ops[0], Quantize(argument, stored), name=f"{argument.name}_stored")
    made.loc = argument.loc
    for use in list(argument.uses):
        if use.op is not made:
            rw.set_operand(use.op, use.index, made.out)


def _stored_result(value: Value, last: Op, rw: Rewriter) -> Value | None:
    """The stored integers of a returned value, also where moves stand behind the dequantize."""
    stored = stored_source(value)
    if stored is not None:
        return stored
    op = value.op
    inner = None if not isinstance(op, _MOVERS) else _stored_result(op.x, last, rw)
    made = None if inner is None or op is None else moved(op, inner)
    return None if made is None else rw.insert_before(last, made, name=value.name).results[0]
