"""Turn float layers between dequantize and quantize into ops on stored integers: graph level becomes quant level.

    %xf = qnn.dequantize(%x) : tensor<1x8x8x3xf32>
    %wf = qnn.dequantize(@w) : tensor<8x3x3x3xf32>
    %c  = nn.conv2d(%xf, %wf) : tensor<1x6x6x8xf32>
    %r  = nn.relu(%c) : tensor<1x6x6x8xf32>
    %y  = qnn.quantize(%r) : tensor<1x6x6x8xi8, q<0.05:-128>>
        ->
    %y  = qnn.conv2d(%x, @w, none) : tensor<1x6x6x8xi8, q<0.05:-128>>

Integer kernels exist for what onnxruntime has them for (and for exact means, bilinear resizing, and every function of
one value, which become tables); the rest stays in float between its dequantize and quantize. A relu or clip before the
quantize vanishes where saturation implies it (here zero point -128 is real 0), else it is a clamp of stored integers.
Ops that only move elements work on the integers. A change of scale is a table of 256 entries. A constant bias in other
units than those of the accumulator is rounded to them. Weights that stay real are dequantized here, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

import numpy as np

from tinyir.arith import dequantize, quantize
from tinyir.geometry import Axis
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
    Gather,
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
    QResize,
    QSoftmax,
    Quantize,
    ReduceMax,
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
from tinyir.requant_mean import is_steady
from tinyir.rewrite import Rewriter, rewrites
from tinyir.types import Quant, TensorType

from ._calibration import kept
from ._points import is_kept
from ._quant_chains import Chain, chain_before, moved, stored_bounds, stored_source
from ._quant_islands import finish_islands
from ._quant_layers import Clamp, Layer, accumulator_bias, quantised_layer
from ._values import with_attrs

_AXES: tuple[Axis, Axis] = ("rows", "columns")


class FuseQuantized(Pass):
    """Make integer ops of float ops between dequantize and quantize."""

    name = "fuse-quantized"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")
    changes_results = True

    def run(self, module: Module, ctx: Context) -> None:
        super().run(module, ctx)
        finish_islands(module, self.rewriter(module, ctx))
        if any(op.opname.startswith("qnn.") for op in module.walk()):
            module.level = "quant"
        module.drop_unused_consts()

    @rewrites(Reshape, Transpose, Slice, BroadcastTo, Tile, Pad, Resize, MaxPool, Gather)
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

    @rewrites(ReduceMax)
    def maximum_of_image(self, op: ReduceMax, rw: Rewriter) -> None:
        """The greatest stored integer of an image is a pool over all of it."""
        stored = stored_source(op.x)
        if stored is None or stored.type.quant is None or stored.type.quant.axis is not None \
                or stored.type.rank != 4 or op.folded != (1, 2):
            return
        image = (stored.shape[1], stored.shape[2])
        shaped = rw.insert_before(op, MaxPool(stored, kernel=image), name=f"{op.out.name}_stored").out
        if not op.keepdims:
            result = TensorType(op.out.shape, stored.type.dtype, stored.type.quant)
            shaped = rw.insert_before(op, Reshape(shaped, result=result), name=f"{op.out.name}_stored").out
        rw.replace(op, Dequantize(shaped))

    @rewrites(Add)
    def absorb_bias(self, op: Add, rw: Rewriter) -> None:
        """A layer without a bias takes on the constant vector that is added behind it: MatMul and Add."""
        if op.act == "none" and not _with_bias(op, op.a, op.b, rw):
            _with_bias(op, op.b, op.a, rw)

    @rewrites(Quantize)
    def merge_equal(self, op: Quantize, rw: Rewriter) -> None:
        """A value that is quantised twice in the same way is quantised once."""
        block = op.block
        for other in op.x.users:
            if isinstance(other, Quantize) and other is not op and other.out.type == op.out.type \
                    and block is not None and other.block is block and block.ops.index(other) < block.ops.index(op):
                rw.replace(op, other.out)
                return

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
            made = moved(mover, value, chain.fills.get(mover))
            assert made is not None
            value = rw.insert_before(op, made, name=mover.results[0].name).results[0]
        value.name = op.out.name
        rw.replace(op, value)

    @rewrites(Lookup)
    def clamp(self, op: Lookup, rw: Rewriter) -> None:
        """A table that only clamps what a layer has just stored is the layer's clamp."""
        layer, table, dtype = op.x.op, op.table.data, op.x.type.dtype
        if not isinstance(layer, (QConv2D, QDense, QDepthwiseConv2D)) or len(op.x.uses) != 1 or table is None \
                or (op.x.type.quant, dtype) != (op.out.type.quant, op.out.type.dtype):
            return
        low, high = int(table.min()), int(table.max())
        if np.array_equal(table, np.clip(np.arange(dtype.range[0], dtype.range[1] + 1), low, high)):
            bounds = tuple(min(max(bound, low), high) for bound in layer.clamp or dtype.range)
            rw.replace(op, with_attrs(layer, clamp=bounds))


def _compute(op: Quantize, chain: Chain, rw: Rewriter) -> Value | None:
    """The stored result of the chain's base and unaries, in the base's shape; None where there is no integer form."""
    base = chain.base
    type_ = TensorType(base.shape, op.out.type.dtype, op.out.type.quant)
    bounds, stored = chain.bounds(), stored_source(base)
    if bounds is None and any(isinstance(mover, MaxPool) for mover in chain.movers):
        return None  # the maximum of functions is not the function of the maximum
    if stored is not None:
        return _table(op, chain, stored, type_, rw)
    producer = base.op
    if producer is None or bounds is None or len(base.uses) != 1 or is_kept(producer, kept(rw.ctx)):
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


def _with_bias(op: Add, value: Value, bias: Value, rw: Rewriter) -> bool:
    """Let the layer of stored integers that makes `value`, but for a reshape of its rows, add `bias`; say if it can."""
    reshape = value.defining(Reshape)
    source = value if reshape is None else reshape.x
    layer, channels = source.op, source.shape[-1:]
    if not isinstance(layer, (Conv2D, DepthwiseConv2D, Dense)) or layer.bias is not None or layer.act != "none":
        return False
    if stored_source(layer.x) is None or len(value.uses) != 1 or len(source.uses) != 1:
        return False
    if value.shape[-1:] != channels or op.out.shape != value.shape or bias.shape[-1:] != channels:
        return False
    vector = _vector(bias, op, rw)
    if vector is None:
        return False
    made = type(layer)(layer.x, layer.weight, vector, **layer.attrs)
    if reshape is not None:
        rw.insert_before(op, made, name=f"{op.out.name}_rows").loc = layer.loc
        rw.replace(op, Reshape(made.out, result=cast(TensorType, op.out.type)))
    else:
        rw.replace(op, made)
    return True


def _vector(bias: Value, op: Op, rw: Rewriter) -> Value | None:
    """A constant of shape [.., 1, 1, O], stored or real, as [O]; None if it is something else."""
    source = stored_source(bias) or bias
    data, quant = source.data, source.type.quant
    if data is None or data.size != bias.shape[-1] or (source is bias and quant is not None):
        return None
    if bias.type.rank == 1:
        return bias
    if quant is not None and quant.axis is not None:
        quant = Quant(quant.scales, quant.zero_points, 0)
    row = rw.const(data.reshape(-1), f"{source.name}", op.loc, TensorType((data.size,), source.type.dtype, quant))
    return row if source is bias else rw.insert_before(op, Dequantize(row), name=bias.name).out


def _convolution(op: Op, type_: TensorType, clamp: Clamp, rw: Rewriter) -> Op | None:
    layer = cast(Layer, op)
    x, weight = stored_source(layer.x), stored_source(layer.weight)
    if x is None or weight is None or weight.data is None or layer.act != "none":
        return None
    bias = accumulator_bias(layer, x, weight, rw)
    return None if layer.bias is not None and bias is None else quantised_layer(layer, x, weight, bias, type_, clamp)


def _matmul(op: Op, type_: TensorType, clamp: Clamp, rw: Rewriter) -> Op | None:
    a, b = (stored_source(v) for v in cast(MatMul, op).operands)
    return None if a is None or b is None or (b.type.quant and b.type.quant.axis is not None) else QMatMul(a, b, type_)


# -- the rest --------------------------------------------------------------------------------------------------------


def _add(op: Op, type_: TensorType, clamp: Clamp, rw: Rewriter) -> Op | None:
    add = cast(Add, op)
    if add.act != "none":
        return None
    return _pair(QAdd, add, type_)


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
    if x is None or pool.dilation != (1, 1) or (any(pool.ceil_pad) and pool.count_include_pad):
        return None
    if pool.kernel == x.shape[1:3] and not any(pool.pad) and not any(pool.ceil_pad):
        return QReduceMean(x, type_, axes=(1, 2), rule="single")
    top, left, bottom, right = pool.pad
    pad = (top, left, bottom + pool.ceil_pad[0], right + pool.ceil_pad[1])
    return QAvgPool(x, type_, kernel=pool.kernel, stride=pool.stride, pad=pad,
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


def _resize(op: Op, type_: TensorType, clamp: Clamp, rw: Rewriter) -> Op | None:
    """The op on integers rounds as onnxruntime's float kernel does.

    But for sequences, which are images of one row here: those have a kernel of their own in onnxruntime, which adds up
    eight terms. They stay in float unless the result is the same for all orders.
    """
    resize = cast(Resize, op)
    x = stored_source(resize.x)
    if x is None or resize.mode != "linear" or x.type.quant is None or x.type.quant.axis is not None \
            or (x.type.dtype.bits, type_.dtype.bits) != (8, 8):
        return None
    if op.out.shape[1] == resize.x.shape[1] == 1:
        down, across = (resize.linear_sources(axis)[2] for axis in _AXES)
        quants = x.type.quant, cast(Quant, type_.quant)
        if not is_steady(down, across, quants, (x.type.dtype, type_.dtype), terms=8):
            return None
    return QResize(x, coordinates=resize.coordinates, scales=resize.scales, result=type_)


def _concat(op: Op, type_: TensorType, clamp: Clamp, rw: Rewriter) -> Op | None:
    """Parts with another quantisation than the result change theirs by a table."""
    concat = cast(Concat, op)
    sources = [stored_source(v) for v in concat.inputs]
    if any(s is None or s.type.quant is None or s.type.quant.axis is not None or s.type.dtype.bits != 8
           for s in sources):
        return None
    parts = [_rescaled(concat, s, type_, rw) for s in sources if s is not None]
    return Concat(tuple(parts), axis=concat.axis)


def _rescaled(concat: Concat, stored: Value, type_: TensorType, rw: Rewriter) -> Value:
    if (stored.type.quant, stored.type.dtype) == (type_.quant, type_.dtype):
        return stored
    quant, dtype = cast(Quant, stored.type.quant), stored.type.dtype
    every = np.arange(dtype.range[0], dtype.range[1] + 1).astype(dtype.numpy)
    table = quantize(dequantize(every, quant), cast(Quant, type_.quant), type_.dtype)
    if stored.data is not None:
        return rw.const(table[stored.data.astype(np.int32) - dtype.range[0]], stored.name, concat.loc,
                        TensorType(stored.shape, type_.dtype, type_.quant))
    constant = rw.const(table, f"{stored.name}.table", concat.loc)
    result = TensorType(stored.shape, type_.dtype, type_.quant)
    return rw.insert_before(concat, Lookup(stored, constant, result), name=f"{stored.name}_rescaled").out


_MAKERS: dict[type[Any], Callable[[Op, TensorType, Clamp, Rewriter], Op | None]] = {
    Conv2D: _convolution, DepthwiseConv2D: _convolution, Dense: _convolution, MatMul: _matmul, Add: _add, Mul: _mul,
    AvgPool: _average, ReduceMean: _mean, Softmax: _softmax, Concat: _concat,
    Resize: _resize,
}

