"""How each op is written as ONNX nodes: one small function an op, in a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from tinyir import ops
from tinyir.diag import error
from tinyir.ir import Array, Value
from tinyir.opdef import Op
from tinyir.types import Quant

from .onnx import Layout, Writer

WRITERS: dict[type[Op], Callable[[Writer, Any], None]] = {}

WriterT = TypeVar("WriterT", bound=Callable[..., None])
_NCHW_OF = (0, 2, 3, 1)
"""Where axis i of NHWC is in NCHW."""


def writes(*kinds: type[Op]) -> Callable[[WriterT], WriterT]:
    """Register a function as the writer of these ops."""

    def mark(function: WriterT) -> WriterT:
        WRITERS.update(dict.fromkeys(kinds, function))
        return function

    return mark


def _axis(axis: int, layout: Layout, rank: int) -> int:
    """Where axis number `axis` of the module is in the layout."""
    axis %= rank
    return _NCHW_OF[axis] if layout == "nchw" else axis


def _per_axis(values: Sequence[Any], layout: Layout) -> list[Any]:
    """One entry an axis, in the order of the layout."""
    return [values[0], values[3], values[1], values[2]] if layout == "nchw" else list(values)


# -- quantisation ------------------------------------------------------------------------------------------------------


@writes(ops.Quantize)
def _quantize(w: Writer, op: ops.Quantize) -> None:
    layout = w.layout_for(op.x)
    quant = cast(Quant, op.out.type.quant)
    w.define(op.out, layout, w.quantized(w.name(op.x, layout), quant, op.out.type.dtype, op.out.name))


@writes(ops.Dequantize)
def _dequantize(w: Writer, op: ops.Dequantize) -> None:
    """Written where it is read, in the layout that is wanted there."""


@writes(ops.Reinterpret, ops.Range)
def _same(w: Writer, op: ops.Reinterpret | ops.Range) -> None:
    layout = w.layout_for(op.x)
    w.define(op.out, layout, w.name(op.x, layout))


# -- layers ------------------------------------------------------------------------------------------------------------

_ACTIVATIONS = {"relu": "Relu", "leaky_relu": "LeakyRelu", "hard_swish": "HardSwish", "hard_sigmoid": "HardSigmoid"}


def _activated(w: Writer, op: Any, made: str) -> str:
    """`made` with the activation of `op` applied."""
    args = tuple(float(a) for a in op.act_args)
    if op.act == "none":
        return made
    if op.act == "clip":
        return _clip(w, made, args[0], args[1], op.out)
    names = {"leaky_relu": ("alpha",), "hard_sigmoid": ("alpha", "beta")}.get(op.act, ())
    return w.node(_ACTIVATIONS[op.act], [made], op.out.name, **dict(zip(names, args, strict=True)))


def _clip(w: Writer, x: str, low: float, high: float, out: Value) -> str:
    numpy_type = out.type.dtype.numpy
    bounds = [w.constant(np.asarray(b, numpy_type), f"{out.name}_bound") if np.isfinite(b) else "" for b in (low, high)]
    return w.node("Clip", [x, *bounds], out.name)


def _layer(w: Writer, op: Any, op_type: str, inputs: list[str], layout: Layout, **attributes: Any) -> None:
    if op.bias is not None:
        inputs.append(w.weight(op.bias, (0,)))
    w.define(op.out, layout, _activated(w, op, w.node(op_type, inputs, op.out.name, **attributes)))


def _window(op: Any) -> dict[str, Any]:
    return {"kernel_shape": op.kernel, "strides": op.stride, "pads": op.pad, "dilations": op.dilation}


@writes(ops.Conv2D)
def _conv(w: Writer, op: ops.Conv2D) -> None:
    inputs = [w.name(op.x, "nchw"), w.weight(op.weight, (0, 3, 1, 2))]
    _layer(w, op, "Conv", inputs, "nchw", group=op.groups, **_window(op))


@writes(ops.DepthwiseConv2D)
def _depthwise(w: Writer, op: ops.DepthwiseConv2D) -> None:
    height, width = op.kernel
    weight = w.weight(op.weight, (2, 0, 1), (op.out.shape[3], 1, height, width))
    _layer(w, op, "Conv", [w.name(op.x, "nchw"), weight], "nchw", group=op.x.shape[3], **_window(op))


@writes(ops.ConvTranspose2D)
def _conv_transpose(w: Writer, op: ops.ConvTranspose2D) -> None:
    weight = op.weight.data
    if weight is None:
        raise op.error("its weights are not known")
    outputs, height, width, inner = weight.shape
    grouped = weight.reshape(op.groups, outputs // op.groups, height, width, inner).transpose(0, 4, 1, 2, 3)
    name = w.constant(grouped.reshape(-1, outputs // op.groups, height, width), op.weight.name)
    _layer(w, op, "ConvTranspose", [w.name(op.x, "nchw"), name], "nchw", group=op.groups,
           output_padding=op.output_pad, **_window(op))


@writes(ops.Dense)
def _dense(w: Writer, op: ops.Dense) -> None:
    _layer(w, op, "Gemm", [w.name(op.x), w.weight(op.weight, (0, 1))], "plain", transB=1)


@writes(ops.MatMul)
def _matmul(w: Writer, op: ops.MatMul) -> None:
    w.result(op, "MatMul", [w.name(op.a), w.name(op.b)])


@writes(ops.BatchNorm)
def _batch_norm(w: Writer, op: ops.BatchNorm) -> None:
    scale, shift, mean, variance = (_known(op, v).astype(np.float64) for v in op.reads[1:])
    factor = scale / np.sqrt(variance + op.epsilon)
    parts = [w.constant(a.astype(op.x.type.dtype.numpy), f"{op.out.name}_{n}")
             for a, n in ((factor, "factor"), (shift - mean * factor, "offset"))]
    w.result(op, "Add", [w.node("Mul", [w.name(op.x), parts[0]], op.out.name), parts[1]])


def _known(op: Op, value: Value) -> Array:
    if value.data is None:
        raise op.error(f"%{value.name} is not constant")
    return value.data


# -- pools and reductions ----------------------------------------------------------------------------------------------


@writes(ops.MaxPool)
def _max_pool(w: Writer, op: ops.MaxPool) -> None:
    w.result(op, "MaxPool", [w.name(op.x, "nchw")], "nchw", **_window(op))


@writes(ops.AvgPool)
def _avg_pool(w: Writer, op: ops.AvgPool) -> None:
    x = w.name(op.x, "nchw")
    if op.kernel == op.x.shape[1:3] and not any((*op.pad, *op.ceil_pad)) and op.dilation == (1, 1):
        w.result(op, "GlobalAveragePool", [x], "nchw")
        return
    if op.dilation != (1, 1):
        raise op.error(f"an average pool with dilation {list(op.dilation)} needs a later opset than is written")
    w.result(op, "AveragePool", [x], "nchw", kernel_shape=op.kernel, strides=op.stride, pads=op.pad,
             ceil_mode=int(any(op.ceil_pad)), count_include_pad=int(op.count_include_pad))


_REDUCTIONS = {ops.ReduceMean: "ReduceMean", ops.ReduceMax: "ReduceMax", ops.ReduceMin: "ReduceMin",
               ops.ReduceProd: "ReduceProd"}


@writes(*_REDUCTIONS)
def _reduce(w: Writer, op: Any) -> None:
    layout = w.layout_for(op.x) if op.keepdims else "plain"
    axes = [_axis(a, layout, op.x.type.rank) for a in op.folded]
    w.result(op, _REDUCTIONS[type(op)], [w.name(op.x, layout)], layout, axes=axes, keepdims=int(op.keepdims))


@writes(ops.ReduceSum)
def _reduce_sum(w: Writer, op: ops.ReduceSum) -> None:
    axes = w.constant(np.asarray(op.folded, np.int64), f"{op.out.name}_axes")
    w.result(op, "ReduceSum", [w.name(op.x), axes], keepdims=int(op.keepdims))


@writes(ops.ArgMax, ops.ArgMin)
def _arg_extreme(w: Writer, op: ops.ArgMax | ops.ArgMin) -> None:
    w.result(op, type(op).__name__, [w.name(op.x)], axis=op.axis, keepdims=int(op.keepdims),
             select_last_index=int(op.select_last))


@writes(ops.Softmax, ops.LogSoftmax)
def _softmax(w: Writer, op: ops.Softmax | ops.LogSoftmax) -> None:
    layout = w.layout_for(op.x)
    w.result(op, type(op).__name__, [w.name(op.x, layout)], layout, axis=_axis(op.axis, layout, op.x.type.rank))


# -- element by element ------------------------------------------------------------------------------------------------

_UNARY: dict[type[Op], tuple[str, tuple[str, ...]]] = {
    ops.Relu: ("Relu", ()), ops.LeakyRelu: ("LeakyRelu", ("alpha",)), ops.Sigmoid: ("Sigmoid", ()),
    ops.Tanh: ("Tanh", ()), ops.HardSigmoid: ("HardSigmoid", ("alpha", "beta")), ops.HardSwish: ("HardSwish", ()),
    ops.Elu: ("Elu", ("alpha",)), ops.Selu: ("Selu", ()), ops.Softplus: ("Softplus", ()),
    ops.Softsign: ("Softsign", ()), ops.Erf: ("Erf", ()), ops.Exp: ("Exp", ()), ops.Log: ("Log", ()),
    ops.Sqrt: ("Sqrt", ()), ops.Neg: ("Neg", ()), ops.Abs: ("Abs", ()), ops.Reciprocal: ("Reciprocal", ()),
    ops.Floor: ("Floor", ()), ops.Ceil: ("Ceil", ()), ops.Round: ("Round", ()), ops.Sign: ("Sign", ()),
}
_BINARY: dict[type[Op], str] = {
    ops.Add: "Add", ops.Sub: "Sub", ops.Mul: "Mul", ops.Div: "Div", ops.Pow: "Pow", ops.Minimum: "Min",
    ops.Maximum: "Max", ops.PRelu: "PRelu",
}


@writes(*_UNARY)
def _unary(w: Writer, op: Any) -> None:
    op_type, names = _UNARY[type(op)]
    layout = w.layout_for(op.x)
    w.result(op, op_type, [w.name(op.x, layout)], layout, **{name: float(getattr(op, name)) for name in names})


@writes(ops.Clip)
def _clip_alone(w: Writer, op: ops.Clip) -> None:
    layout = w.layout_for(op.x)
    w.define(op.out, layout, _clip(w, w.name(op.x, layout), op.low, op.high, op.out))


@writes(ops.Gelu)
def _gelu(w: Writer, op: ops.Gelu) -> None:
    layout = w.layout_for(op.x)
    x, out = w.name(op.x, layout), op.out.name

    def number(value: float) -> str:
        return w.constant(np.asarray(value, op.x.type.dtype.numpy), f"{out}_factor")

    if op.approximate == "tanh":
        cube = w.node("Mul", [w.node("Mul", [w.node("Mul", [x, x], out), x], out), number(0.044715)], out)
        bend = w.node("Tanh", [w.node("Mul", [w.node("Add", [x, cube], out), number(np.sqrt(2 / np.pi))], out)], out)
    else:
        bend = w.node("Erf", [w.node("Mul", [x, number(np.sqrt(0.5))], out)], out)
    half = w.node("Mul", [x, number(0.5)], out)
    w.result(op, "Mul", [half, w.node("Add", [bend, number(1.0)], out)], layout)


@writes(*_BINARY)
def _binary(w: Writer, op: Any) -> None:
    operands = cast("list[Value]", op.operands)
    layout = w.layout_for(*operands)
    made = w.node(_BINARY[type(op)], [w.name(v, layout, op.out.type.rank) for v in operands], op.out.name)
    w.define(op.out, layout, _activated(w, op, made) if op.schema.attr("act") else made)


@writes(ops.Cast)
def _cast(w: Writer, op: ops.Cast) -> None:
    from onnx import helper

    layout = w.layout_for(op.x)
    w.result(op, "Cast", [w.name(op.x, layout)], layout, to=helper.np_dtype_to_tensor_dtype(op.out.type.dtype.numpy))


# -- moves -------------------------------------------------------------------------------------------------------------


@writes(ops.Transpose)
def _transpose(w: Writer, op: ops.Transpose) -> None:
    """Between NHWC and NCHW nothing is moved: it is one of the two names that the result or the operand has."""
    if op.perm == (0, 2, 3, 1):
        w.define(op.out, "nchw", w.name(op.x))
    elif op.perm == (0, 3, 1, 2):
        w.define(op.out, "plain", w.name(op.x, "nchw"))
    else:
        w.result(op, "Transpose", [w.name(op.x)], perm=op.perm)


@writes(ops.Reshape)
def _reshape(w: Writer, op: ops.Reshape) -> None:
    w.result(op, "Reshape", [w.name(op.x), w.constant(np.asarray(op.out.shape, np.int64), f"{op.out.name}_shape")])


@writes(ops.Concat)
def _concat(w: Writer, op: ops.Concat) -> None:
    layout = w.layout_for(*op.inputs)
    names = [w.name(v, layout) for v in op.inputs]
    w.result(op, "Concat", names, layout, axis=_axis(op.axis, layout, op.out.type.rank))


@writes(ops.Pad)
def _pad(w: Writer, op: ops.Pad) -> None:
    layout = w.layout_for(op.x)
    pads = [*_per_axis(op.before, layout), *_per_axis(op.after, layout)]
    inputs = [w.name(op.x, layout), w.constant(np.asarray(pads, np.int64), f"{op.out.name}_pads")]
    if op.mode == "constant":
        inputs.append(w.constant(np.asarray(op.value, op.x.type.dtype.numpy), f"{op.out.name}_fill"))
    elif op.mode == "wrap":
        raise op.error("mode wrap needs a later opset than is written")
    w.result(op, "Pad", inputs, layout, mode=op.mode)


@writes(ops.Slice)
def _slice(w: Writer, op: ops.Slice) -> None:
    layout = w.layout_for(op.x)
    begin, step, size = (_per_axis(v, layout) for v in (op.begin, op.step, op.out.shape))
    ends = [b + s * n for b, s, n in zip(begin, step, size, strict=True)]
    ends = [e if e >= 0 else np.iinfo(np.int64).min for e in ends]
    words = {"begin": begin, "end": ends, "axes": range(len(begin)), "step": step}
    parts = [w.constant(np.asarray(list(v), np.int64), f"{op.out.name}_{n}") for n, v in words.items()]
    w.result(op, "Slice", [w.name(op.x, layout), *parts], layout)


@writes(ops.BroadcastTo)
def _broadcast(w: Writer, op: ops.BroadcastTo) -> None:
    w.result(op, "Expand", [w.name(op.x), w.constant(np.asarray(op.out.shape, np.int64), f"{op.out.name}_shape")])


@writes(ops.Tile)
def _tile(w: Writer, op: ops.Tile) -> None:
    w.result(op, "Tile", [w.name(op.x), w.constant(np.asarray(op.repeats, np.int64), f"{op.out.name}_repeats")])


@writes(ops.Gather)
def _gather(w: Writer, op: ops.Gather) -> None:
    w.result(op, "Gather", [w.name(op.x), w.name(op.indices)], axis=op.axis)


@writes(ops.Resize)
def _resize(w: Writer, op: ops.Resize) -> None:
    if op.coordinates == "half_pixel_symmetric":
        raise error("resize with half_pixel_symmetric needs a later opset than is written", loc=op.loc)
    before, after = op.x.shape[1:3], op.out.shape[1:3]
    exact = all(int(np.floor(np.float32(s) * b)) == a for s, b, a in zip(op.scales, before, after, strict=True))
    scales = w.constant(np.asarray((1, 1, *op.scales), np.float32), f"{op.out.name}_scales")
    shape = np.asarray(_per_axis(op.out.shape, "nchw"), np.int64)
    inputs = [scales] if exact else ["", w.constant(shape, f"{op.out.name}_sizes")]
    w.result(op, "Resize", [w.name(op.x, "nchw"), "", *inputs], "nchw", mode=op.mode,
             coordinate_transformation_mode=op.coordinates, nearest_mode=op.nearest)
