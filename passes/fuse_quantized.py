"""Turn float layers between dequantize and quantize into ops on stored integers: graph level becomes quant level.

    %xf = qnn.dequantize(%x) : tensor<1x8x8x3xf32>
    %wf = qnn.dequantize(@w) : tensor<8x3x3x3xf32>
    %c  = nn.conv2d(%xf, %wf) : tensor<1x6x6x8xf32>
    %r  = nn.relu(%c) : tensor<1x6x6x8xf32>
    %y  = qnn.quantize(%r) : tensor<1x6x6x8xi8, q<0.05:-128>>
        ->
    %y  = qnn.conv2d(%x, @w, none) : tensor<1x6x6x8xi8, q<0.05:-128>>

Integer kernels exist for what onnxruntime has them for (and for exact means and every function of one value, which
become tables); the rest stays in float between its dequantize and quantize. A relu or clip before the quantize vanishes
where saturation implies it (here zero point -128 is real 0), else it is a clamp of stored integers. Ops that only move
elements work on the integers. A change of scale is a table of 256 entries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

import numpy as np

from tinyir.arith import dequantize, quantize
from tinyir.ir import Argument, Array, Const, Level, Module, Value
from tinyir.opdef import Op
from tinyir.ops import (
    Add,
    AvgPool,
    BroadcastTo,
    Concat,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dequantize,
    Lookup,
    MatMul,
    MaxPool,
    Mul,
    Pad,
    QAdd,
    QAvgPool,
    QConv2D,
    QDense,
    QDepthwiseConv2D,
    QMatMul,
    QMul,
    QReduceMean,
    QSoftmax,
    Quantize,
    ReduceMean,
    Reinterpret,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Tile,
    Transpose,
)
from tinyir.pass_manager import Context, Pass
from tinyir.rewrite import Rewriter, rewrites
from tinyir.types import I32, Quant, TensorType

from ._quant_chains import Chain, chain_before, moved, stored_bounds, stored_source

Layer = Conv2D | DepthwiseConv2D | Dense
Clamp = tuple[int, int] | None


class FuseQuantized(Pass):
    """Make integer ops of float ops between dequantize and quantize."""

    name = "fuse-quantized"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")

    def run(self, module: Module, ctx: Context) -> None:
        super().run(module, ctx)
        if any(op.opname.startswith("qnn.") for op in module.walk()):
            module.level = "quant"
        module.drop_unused_consts()

    @rewrites(Reshape, Transpose, Slice, BroadcastTo, Tile, Pad, Resize, MaxPool)
    def move_stored(self, op: Op, rw: Rewriter) -> None:
        """Move stored integers, then dequantize."""
        stored = stored_source(op.operands[0])
        made = None if stored is None else moved(op, stored)
        if made is not None:
            inner = rw.insert_before(op, made, name=f"{op.results[0].name}_stored")
            rw.replace(op, Dequantize(inner.results[0]))

    @rewrites(Reinterpret)
    def name_stored(self, op: Reinterpret, rw: Rewriter) -> None:
        """Stored integers without a quantisation get it where they come from: at an argument of the function."""
        mover = op.x.op
        if op.x.type.quant is not None or len(op.x.uses) != 1:
            return
        if isinstance(op.x, Argument):
            op.x.type_ = op.out.type_
            rw.replace(op, op.x)
        elif mover is not None and isinstance(mover, (Reshape, Transpose, Slice)) and op.out.type.quant is not None:
            source = TensorType(mover.x.shape, mover.x.type.dtype, op.out.type.quant)
            named = rw.insert_before(mover, Reinterpret(mover.x, source), name=mover.x.name)
            made = moved(mover, named.out)
            assert made is not None
            rw.replace(op, made)

    @rewrites(Concat)
    def join_stored(self, op: Concat, rw: Rewriter) -> None:
        """Join stored integers that have one quantisation, then dequantize."""
        parts = [stored_source(v) for v in op.inputs]
        if any(p is None or p.type.quant is None or p.type.quant.axis is not None for p in parts):
            return
        known = [p for p in parts if p is not None]
        if len({(p.type.quant, p.type.dtype) for p in known}) == 1:
            joined = rw.insert_before(op, Concat(tuple(known), axis=op.axis), name=f"{op.out.name}_stored")
            rw.replace(op, Dequantize(joined.out))

    @rewrites(Quantize)
    def fuse(self, op: Quantize, rw: Rewriter) -> None:
        """Find what the quantize belongs to, compute that on stored integers, and move the result instead."""
        if op.out.type.quant is None or op.out.type.quant.axis is not None:
            return
        chain = chain_before(op.x)
        value = _compute(op, chain, rw)
        if value is None:
            return
        for mover in chain.movers:
            made = moved(mover, value)
            assert made is not None
            value = rw.insert_before(op, made, name=mover.results[0].name).results[0]
        value.name = op.out.name
        rw.replace(op, value)


def _compute(op: Quantize, chain: Chain, rw: Rewriter) -> Value | None:
    """The stored result of the chain's base and unaries, in the base's shape; None where there is no integer form."""
    base = chain.base
    type_ = TensorType(base.shape, op.out.type.dtype, op.out.type.quant)
    stored = stored_source(base)
    if stored is not None:
        return _table(op, chain, stored, type_, rw)
    producer = base.op
    bounds = chain.bounds()
    if producer is None or bounds is None or len(base.uses) != 1:
        return None
    clamp = stored_bounds(bounds, type_)
    make = _MAKERS.get(type(producer))
    made = None if make is None else make(producer, type_, clamp, rw)
    return None if made is None else _inserted(op, producer, made, clamp, rw)


def _inserted(op: Quantize, producer: Op, made: Op, clamp: Clamp, rw: Rewriter) -> Value:
    """Put the integer op in front of the quantize, and a clamp behind it where it has none of its own."""
    made.loc = producer.loc
    value: Value = rw.insert_before(op, made, name=op.out.name).results[0]
    if clamp is None or made.schema.attr("clamp") is not None:
        return value
    dtype = value.type.dtype
    every = np.arange(dtype.range[0], dtype.range[1] + 1)
    return _lookup(op, value, np.clip(every, *clamp).astype(dtype.numpy), cast(TensorType, value.type), rw)


# -- functions of one value ------------------------------------------------------------------------------------------


def _table(op: Quantize, chain: Chain, stored: Value, type_: TensorType, rw: Rewriter) -> Value | None:
    """The function between a dequantize and the quantize as a table; nothing if it changes no stored value."""
    quant, dtype = stored.type.quant, stored.type.dtype
    if quant is None or quant.axis is not None or isinstance(stored, Const):
        return None
    if not chain.unaries and (quant, dtype) == (type_.quant, type_.dtype):
        return stored
    if dtype.bits != 8 or not dtype.is_integer:
        return None
    every = np.arange(dtype.range[0], dtype.range[1] + 1).astype(dtype.numpy)
    real = dequantize(every, quant)
    for unary in chain.unaries:
        real = np.asarray(unary.reference(real))
    return _lookup(op, stored, quantize(real, cast(Quant, type_.quant), type_.dtype), type_, rw)


def _lookup(op: Quantize, stored: Value, table: Array, type_: TensorType, rw: Rewriter) -> Value:
    constant = rw.const(table, f"{op.out.name}.table", op.loc)
    return rw.insert_before(op, Lookup(stored, constant, type_), name=op.out.name).out


# -- layers ----------------------------------------------------------------------------------------------------------


def _layer(op: Layer, type_: TensorType, bias: Value | None, clamp: Clamp) -> Op | None:
    """A convolution or dense layer of stored integers."""
    x, weight = stored_source(op.x), stored_source(op.weight)
    if x is None or weight is None or weight.data is None or op.act != "none":
        return None
    accumulator = _accumulator_bias(bias, x, weight)
    if bias is not None and accumulator is None:
        return None
    if isinstance(op, Dense):
        return QDense(x, weight, accumulator, type_, clamp)
    if isinstance(op, Conv2D):
        return QConv2D(x, weight, accumulator, type_, stride=op.stride, pad=op.pad, dilation=op.dilation,
                       groups=op.groups, clamp=clamp)
    return QDepthwiseConv2D(x, weight, accumulator, type_, stride=op.stride, pad=op.pad, dilation=op.dilation,
                            clamp=clamp)


def _accumulator_bias(bias: Value | None, x: Value, weight: Value) -> Value | None:
    """The stored int32 bias if its scale is that of the accumulator (input scale * weight scale)."""
    stored = stored_source(bias)
    if stored is None or stored.type.dtype != I32 or stored.data is None:
        return None
    qb, qx, qw = stored.type.quant, x.type.quant, weight.type.quant
    if qb is None or qx is None or qw is None or any(qb.zero_points) or qx.axis is not None:
        return None
    expected = np.float32(qx.scale) * np.asarray(qw.scales, np.float32)
    return stored if np.allclose(np.asarray(qb.scales, np.float32), expected, rtol=1e-4, atol=0) else None


def _convolution(op: Op, type_: TensorType, clamp: Clamp, rw: Rewriter) -> Op | None:
    layer = cast(Layer, op)
    return _layer(layer, type_, layer.bias, clamp)


def _matmul(op: Op, type_: TensorType, clamp: Clamp, rw: Rewriter) -> Op | None:
    a, b = (stored_source(v) for v in cast(MatMul, op).operands)
    return None if a is None or b is None or (b.type.quant and b.type.quant.axis is not None) else QMatMul(a, b, type_)


# -- the rest --------------------------------------------------------------------------------------------------------


def _add(op: Op, type_: TensorType, clamp: Clamp, rw: Rewriter) -> Op | None:
    add = cast(Add, op)
    if add.act != "none":
        return None
    return _with_bias(add.a, add.b, type_, clamp) or _with_bias(add.b, add.a, type_, clamp) or _pair(QAdd, add, type_)


def _with_bias(value: Value, bias: Value, type_: TensorType, clamp: Clamp) -> Op | None:
    """A layer without a bias, and a sum with one entry a channel: exporters that write MatMul and Add."""
    layer = value.op
    if not isinstance(layer, (Conv2D, DepthwiseConv2D, Dense)) or layer.bias is not None or len(value.uses) != 1:
        return None
    vector = bias.type.rank == 1 and bias.shape[0] == value.shape[-1] and value.shape == type_.shape
    return _layer(layer, type_, bias, clamp) if vector else None


def _mul(op: Op, type_: TensorType, clamp: Clamp, rw: Rewriter) -> Op | None:
    return _pair(QMul, cast(Mul, op), type_) if cast(Mul, op).act == "none" else None


def _pair(kind: type[QAdd] | type[QMul], op: Add | Mul, type_: TensorType) -> Op | None:
    a, b = stored_source(op.a), stored_source(op.b)
    if a is None or b is None or any(v.type.quant is None or v.type.quant.axis is not None or v.type.dtype.bits != 8
                                     for v in (a, b)):
        return None
    return kind(a, b, type_)


def _average(op: Op, type_: TensorType, clamp: Clamp, rw: Rewriter) -> Op | None:
    """A window as large as the image has one f32 factor, as a global average; a smaller one f32 sums."""
    pool = cast(AvgPool, op)
    x = stored_source(pool.x)
    if x is None or pool.dilation != (1, 1) or any(pool.ceil_pad):
        return None
    if pool.kernel == x.shape[1:3] and not any(pool.pad):
        return QReduceMean(x, type_, axes=(1, 2), rule="single")
    return QAvgPool(x, type_, kernel=pool.kernel, stride=pool.stride, pad=pool.pad,
                    count_include_pad=pool.count_include_pad)


def _mean(op: Op, type_: TensorType, clamp: Clamp, rw: Rewriter) -> Op | None:
    mean = cast(ReduceMean, op)
    x = stored_source(mean.x)
    return None if x is None else QReduceMean(x, type_, axes=mean.axes, keepdims=mean.keepdims, rule="exact")


def _softmax(op: Op, type_: TensorType, clamp: Clamp, rw: Rewriter) -> Op | None:
    softmax = cast(Softmax, op)
    x = stored_source(softmax.x)
    if x is None or x.type.dtype.bits != 8:
        return None
    steps = 1.0 / cast(Quant, type_.quant).scale
    if int(steps) != round(steps):
        rw.remark(op, f"softmax with the output scale 1/{steps:.3f}: onnxruntime rounds its inverse down to "
                      f"{int(steps)}, which costs accuracy; a scale of 1/256 would be exact")
    return QSoftmax(x, type_, axis=softmax.axis)


def _concat(op: Op, type_: TensorType, clamp: Clamp, rw: Rewriter) -> Op | None:
    """Parts with another quantisation than the result change theirs by a table."""
    concat = cast(Concat, op)
    sources = [stored_source(v) for v in concat.inputs]
    if any(s is None or isinstance(s, Const) or s.type.dtype.bits != 8 for s in sources):
        return None
    parts = [_rescaled(concat, s, type_, rw) for s in sources if s is not None]
    return Concat(tuple(parts), axis=concat.axis)


def _rescaled(concat: Concat, stored: Value, type_: TensorType, rw: Rewriter) -> Value:
    if (stored.type.quant, stored.type.dtype) == (type_.quant, type_.dtype):
        return stored
    quant, dtype = cast(Quant, stored.type.quant), stored.type.dtype
    every = np.arange(dtype.range[0], dtype.range[1] + 1).astype(dtype.numpy)
    table = quantize(dequantize(every, quant), cast(Quant, type_.quant), type_.dtype)
    constant = rw.const(table, f"{stored.name}.table", concat.loc)
    result = TensorType(stored.shape, type_.dtype, type_.quant)
    return rw.insert_before(concat, Lookup(stored, constant, result), name=f"{stored.name}_rescaled").out


_MAKERS: dict[type[Any], Callable[[Op, TensorType, Clamp, Rewriter], Op | None]] = {
    Conv2D: _convolution, DepthwiseConv2D: _convolution, Dense: _convolution, MatMul: _matmul, Add: _add, Mul: _mul,
    AvgPool: _average, ReduceMean: _mean, Softmax: _softmax, Concat: _concat,
}
