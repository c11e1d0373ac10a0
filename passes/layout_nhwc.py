"""Make transposes meet and cancel: the frontend puts one in front of each spatial op and one behind.

    %t = nn.transpose(%c1) {perm = [0, 3, 1, 2]} : tensor<1x16x8x8xf32>       // NHWC -> NCHW
    %r = nn.relu(%t) : tensor<1x16x8x8xf32>
    %u = nn.transpose(%r) {perm = [0, 2, 3, 1]} : tensor<1x8x8x16xf32>        // NCHW -> NHWC
    %c2 = nn.conv2d(%u, @w2, @b2) : tensor<1x8x8x32xf32>
        ->
    %r = nn.relu(%c1) : tensor<1x8x8x16xf32>
    %c2 = nn.conv2d(%r, @w2, @b2) : tensor<1x8x8x32xf32>

Regions of ops that do not care for the order of axes are computed in the order that leaves the fewest elements to move
(`_layout_regions`); transposes sink below reshapes and into the columns of dense layers (`_layout_reshapes`). What is
left at the end is a real transpose, for instance at an NCHW input; --remarks tells which, and why.

`input-layout` says how the C takes the inputs and outputs of four dimensions: `onnx` as the model file has them, `nhwc`
or `nchw` in that order wherever the model treats them as images. The argument types change with it, and the module's
attributes `nhwc` and `nchw` name the arguments and results whose order differs from that of the model file.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from tinyir.diag import CompileError, Diagnostic
from tinyir.ir import Argument, Func, Level, Module, Value
from tinyir.opdef import Op
from tinyir.ops import (
    AvgPool,
    BatchNorm,
    Binary,
    Cast,
    Conv2D,
    ConvTranspose2D,
    Dense,
    DepthwiseConv2D,
    Dequantize,
    Lookup,
    MaxPool,
    QAdd,
    QAvgPool,
    QConv2D,
    QDense,
    QDepthwiseConv2D,
    QMul,
    QResize,
    Quantize,
    Reinterpret,
    Reshape,
    Resize,
    Return,
    Transpose,
    Unary,
)
from tinyir.pass_manager import Context, Pass, option
from tinyir.registry import OPS
from tinyir.rewrite import Rewriter, run_rewrites

from ._layout_regions import improve, regions
from ._layout_reshapes import (
    hoist_reshape,
    hoist_transpose,
    hop_dequantize,
    hop_quantize,
    merge_reshapes,
    merge_transposes,
    permute_columns,
    reshape_instead,
    share_transpose,
    sink_reshape,
    sink_reshapes,
    sink_transpose,
)
from ._permutations import Perm, inverse, is_agnostic, untransposed
from ._values import tensor_type

_TO_NHWC: Perm = (0, 2, 3, 1)
_TO_NCHW: Perm = (0, 3, 1, 2)
_ROUNDS = 4  # a region of one op moves a few times at most, and each time costs less
_SPATIAL = (Conv2D, DepthwiseConv2D, ConvTranspose2D, MaxPool, AvgPool, Resize, QConv2D, QDepthwiseConv2D,
            QAvgPool, QResize)


class LayoutNhwc(Pass):
    """Cancel transposes against each other; choose the layout of inputs and outputs."""

    name = "layout-nhwc"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")
    input_layout: Literal["onnx", "nhwc", "nchw"] = option("onnx", "order of axes of 4-D inputs and outputs in the C")
    push: bool = option(True, "push transposes through other ops; if not, only pairs that meet cancel")

    def run(self, module: Module, ctx: Context) -> None:
        rewriter = self.rewriter(module, ctx)
        self._merge(module, ctx, _MERGES)
        if self.input_layout != "onnx":
            for func in module.funcs.values():
                _change_boundary(func, self.input_layout, rewriter)
            self._merge(module, ctx, _MERGES)
        if self.push:
            self._push(module, ctx, rewriter)
        self._merge(module, ctx, {Transpose: [merge_transposes, reshape_instead], Reshape: [merge_reshapes]})
        module.drop_unused_consts()
        _report(module, ctx, rewriter)

    def _push(self, module: Module, ctx: Context, rewriter: Rewriter) -> None:
        for _ in range(_ROUNDS * (sum(1 for _ in module.walk()) + 1)):
            self._merge(module, ctx, {**_MERGES, **_sinking()})
            if not any(_improve_first(func, rewriter) for func in module.funcs.values()):
                return
        raise CompileError((Diagnostic("internal", f"{self.name} does not come to an end"),))

    def _merge(self, module: Module, ctx: Context, table: dict[type[Op], list[Any]]) -> None:
        run_rewrites(module, ctx, self.name, table)


_MERGES: dict[type[Op], list[Any]] = {Transpose: [merge_transposes], Reshape: [merge_reshapes]}


def _sinking() -> dict[type[Op], list[Any]]:
    """The rewrites that move transposes and reshapes towards the results."""
    table: dict[type[Op], list[Any]] = {Transpose: [merge_transposes, share_transpose, hoist_transpose, hop_dequantize],
                                        Reshape: [merge_reshapes, sink_transpose, hoist_reshape],
                                        Dense: [permute_columns], QDense: [permute_columns]}
    for _, kind in OPS.items():
        if issubclass(kind, (Unary, Cast, BatchNorm, Quantize, Dequantize, Reinterpret, Lookup)):
            table[kind] = [sink_reshape]
        elif issubclass(kind, (Binary, QAdd, QMul)):
            table[kind] = [sink_reshapes]
    table[Quantize] = [*table[Quantize], hop_quantize]
    return table


def _improve_first(func: Func, rewriter: Rewriter) -> bool:
    return any(improve(region, rewriter) for region in regions(func.block))


# -- inputs and outputs ----------------------------------------------------------------------------------------------


def _change_boundary(func: Func, layout: str, rw: Rewriter) -> None:
    """Let images come and go in `layout`: the types of arguments and results change, transposes undo that inside."""
    perm = _TO_NHWC if layout == "nhwc" else _TO_NCHW
    changed: list[str] = []
    first = func.ops[0]
    for argument in func.args:
        if argument.type.rank == 4 and _is_image(argument, layout):
            _turn_argument(argument, perm, first, rw)
            changed.append(argument.name)
    terminator = func.ops[-1]
    for index, value in enumerate(list(terminator.operands)):
        if value is not None and value.type.rank == 4 and _makes_image(value, layout):
            turned = rw.insert_before(terminator, Transpose(value, perm=perm), name=value.name)
            rw.set_operand(terminator, index, turned.out)
            changed.append(func.result_names[index] if index < len(func.result_names) else value.name)
    if changed:
        rw.module.attrs[layout] = tuple(changed)


def _is_image(argument: Argument, layout: str) -> bool:
    """Whether the model turns the argument to `layout` (or, for nchw, reads it as NHWC), before or behind other ops."""
    pending: list[Value] = [argument]
    seen: set[Value] = set()
    while pending:
        value = pending.pop()
        seen.add(value)
        for user in value.users:
            if _turns(user, _TO_NHWC if layout == "nhwc" else _TO_NCHW, layout):
                return True
            if is_agnostic(user) and user.out.type.rank == 4 and user.out not in seen:
                pending.append(user.out)
    return False


def _makes_image(result: Value, layout: str) -> bool:
    """Whether the model turned the result from `layout` (or, for nchw, made it as NHWC), before or behind other ops."""
    pending, seen = [result], set[Value]()
    while pending:
        value = pending.pop()
        seen.add(value)
        op = value.op
        if op is None:
            continue
        if _turns(op, _TO_NCHW if layout == "nhwc" else _TO_NHWC, layout):
            return True
        if is_agnostic(op):
            pending += [v for v in op.reads if v.type.rank == 4 and v not in seen]
    return False


def _turns(op: Op, perm: Perm, layout: str) -> bool:
    return (isinstance(op, Transpose) and op.perm == perm) or (layout == "nchw" and isinstance(op, _SPATIAL))


def _turn_argument(argument: Argument, perm: Perm, first: Op, rw: Rewriter) -> None:
    """Change the type of `argument` to transpose(old, perm); its readers read the old order."""
    users = [(use.op, use.index) for use in argument.uses]
    argument.type_ = untransposed(tensor_type(argument), inverse(perm))
    back = rw.insert_before(first, Transpose(argument, perm=inverse(perm)), name=argument.name)
    for op, index in users:
        rw.set_operand(op, index, back.out)


# -- report ----------------------------------------------------------------------------------------------------------


def _report(module: Module, ctx: Context, rw: Rewriter) -> None:
    """Say which transposes are left, and why."""
    left = [op for op in module.walk() if isinstance(op, Transpose)]
    for op in left:
        rw.remark(op, f"a transpose of {op.x.type.elements} elements stays: {_reason(op)}")
    ctx.stat("transposes", len(left))
    ctx.stat("transposed-elements", sum(op.x.type.elements for op in left))


def _reason(op: Transpose) -> str:
    origin = op.x
    while isinstance(origin.op, (Reshape, Quantize)):
        origin = origin.op.x
    if isinstance(origin, Argument):
        return f"input %{origin.name} comes in another order of axes (--input-layout changes that)"
    if all(_is_boundary(user) for user in op.out.users):
        return "an output of the model has another order of axes (--input-layout changes that)"
    source = origin.op.opname if origin.op is not None else "a constant"
    readers = ", ".join(sorted({user.opname for user in op.out.users}))
    return f"{source} and {readers} need different orders of axes"


def _is_boundary(user: Op) -> bool:
    """Whether what `user` reads is a result of the function, stored integers of one included."""
    return isinstance(user, Return) or (isinstance(user, Dequantize) and all(map(_is_boundary, user.out.users)))
