"""Store a calibrated float network as 8-bit integers: dequantize and quantize around everything that integers can do.

    %s = qnn.range(%x) {low = -1.0, high = 3.0}
    %c = nn.conv2d(%s, @w, @b)
    %r = nn.relu(%c)
    %t = qnn.range(%r) {low = 0.0, high = 6.0}
        ->
    %q = qnn.quantize(%x) : tensor<1x8x8x3xi8, q<0.015686275:-64>>
    %d = qnn.dequantize(%q)
    %wd = qnn.dequantize(@w)                                    // @w : i8, one scale a channel, symmetric
    %bd = qnn.dequantize(@b)                                    // @b : i32, scale = that of x * that of w
    %c = nn.conv2d(%d, %wd, %bd)
    %p = qnn.quantize(%c) : tensor<1x8x8x16xi8, q<0.023529412:-128>>        // the relu is implied by saturation
    %e = qnn.dequantize(%p)

That is the form in which quantised models are imported, so `fuse-quantized` makes integer ops of both.
Source of the scheme: Jacob et al., arXiv:1712.05877; per-channel weights: Krishnamoorthi, arXiv:1806.08342.
"""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import numpy as np

from tinyir.diag import error
from tinyir.ir import Array, Const, Level, Module, Value
from tinyir.opdef import Op
from tinyir.ops import Add, AvgPool, Concat, Dequantize, MatMul, Mul, Quantize, Range, ReduceMean, Unary
from tinyir.pass_manager import Context, Pass, option
from tinyir.rewrite import Rewriter
from tinyir.types import I8, Quant, TensorType

from ._calibration import REFERENCE, kept
from ._error import POINTS
from ._points import Layer, Points, quantised_layer
from ._quant_chains import chain_before, stored_bounds
from ._quantised_values import (
    WeightRange,
    bias_type,
    stored_bias,
    stored_constant,
    stored_quant,
    stored_weight,
    weight_scales,
    weight_type,
)
from ._scales import scales_of
from ._values import stem


class QuantizeFloats(Pass):
    """Put quantize and dequantize around every op that integers can compute."""

    name = "quantize"
    level: ClassVar[Level] = "graph"
    changes_results = True

    scheme: Literal["int8"] = option("int8", "what to store")
    weights: WeightRange = option("minmax", "how the scale of a channel of weights follows from its elements")

    def run(self, module: Module, ctx: Context) -> None:
        ranges = [op for op in module.main.ops if isinstance(op, Range)]
        if not ranges:
            raise error("quantize finds no ranges in this module", help="run calibrate before it")
        rewriter = self.rewriter(module, ctx)
        points = Points(module, kept(ctx))
        for op in points.islands():
            if not isinstance(op, Range):
                rewriter.remark(op, f"{op.opname} stays in float")
        _whole_image_means(module, points, rewriter)
        reals = {op.x: _store(op, quant, points, rewriter) for op, quant in scales_of(ranges).items()}
        plain = ctx.options.get(REFERENCE)
        ctx.options[POINTS] = {plain.same[value]: real for value, real in reals.items()
                               if value in plain.same} if plain is not None else {}
        for op in list(module.main.ops):
            self._constants(op, points, rewriter)
        module.drop_unused_consts()
        ctx.stat("values", len(ranges))

    def _constants(self, op: Op, points: Points, rw: Rewriter) -> None:
        if not points.integer(op):
            return
        layer = quantised_layer(op)
        if layer is not None:
            _store_layer(layer, self.weights, rw)
        elif isinstance(op, (Add, Mul, MatMul, Concat)):
            _store_operands(op, rw)


def _whole_image_means(module: Module, points: Points, rw: Rewriter) -> None:
    """A mean over the image becomes a pool over all of it: integers compute the two by different rules, and the pool's
    is the one that onnxruntime has a kernel for."""
    for op in list(module.main.ops):
        if isinstance(op, ReduceMean) and op.x.type.rank == 4 and op.folded == (1, 2) and op.keepdims \
                and points.integer(op):
            rw.replace(op, AvgPool(op.x, kernel=(op.x.shape[1], op.x.shape[2])))


# -- activations -------------------------------------------------------------------------------------------------------


def _store(op: Range, quant: Quant, points: Points, rw: Rewriter) -> Value:
    """Quantize and dequantize in the place of a range; relus and clips that saturation implies go. The new value."""
    type_ = TensorType(op.x.shape, I8, quant)
    if op.low == op.high:
        rw.remark(op, f"%{op.x.name} was zero in every sample; its scale is {quant.scale}")
    source, name = op.x, op.x.name
    chain = chain_before(op.x)
    bounds = chain.bounds()
    if chain.unaries and not chain.movers and bounds is not None and chain.base.op is not None \
            and points.integer(chain.base.op) and not isinstance(chain.base.op, Unary):
        if stored_bounds(bounds, type_) is None:
            source = chain.base
        else:
            inner = rw.insert_after(chain.base.op, Quantize(chain.base, type_), name=f"{chain.base.name}_all")
            outer = rw.insert_after(inner, Dequantize(inner.out), name=f"{chain.base.name}_real")
            rw.set_operand(chain.unaries[0], 0, outer.out)
    stored = rw.insert_before(op, Quantize(source, type_), name=name)
    if source.op is not None:
        source.name = f"{name}_float"  # the name belongs to what is stored, in files that are written too
    real = Dequantize(stored.out)
    rw.replace(op, real)
    return real.out


# -- constants ---------------------------------------------------------------------------------------------------------


def _store_layer(layer: Layer, method: WeightRange, rw: Rewriter) -> None:
    """Weights and bias of a layer as integers."""
    x = stored_quant(layer.x)
    weight, bias = layer.weight.data, None if layer.bias is None else layer.bias.data
    assert weight is not None
    if x is None:
        return
    scales = weight_scales(layer, weight, bias, x.scale, method)
    type_ = weight_type(layer, scales)
    if not np.any(weight):
        rw.remark(layer, f"@{layer.weight.name} holds nothing but zeros")
    _set_constant(layer, 1, stored_weight(layer, weight, scales), type_, rw)
    if bias is not None and type_.quant is not None:
        wide = bias_type(x, type_.quant)
        _set_constant(layer, 2, stored_bias(bias, wide), wide, rw)


def _store_operands(op: Op, rw: Rewriter) -> None:
    """Known operands of a sum, a product or a concat. In a concat they take on the quantisation of the result."""
    quant = None
    if isinstance(op, Concat):
        user = op.out.only_user(Quantize)
        quant = None if user is None else user.out.type.quant
    for index, value in enumerate(op.operands):
        if isinstance(value, Const) and value.data is not None:
            _set_constant(op, index, *stored_constant(value.data, quant), rw)


def _set_constant(op: Op, index: int, data: Array, type_: TensorType, rw: Rewriter) -> None:
    """Let operand `index` of `op`, a constant, be the dequantization of `data`."""
    old = cast(Const, op.operands[index])
    made = rw.const(data, stem(old), old.loc, type_)
    real = rw.insert_before(op, Dequantize(made), name=f"{stem(old)}_real")
    rw.set_operand(op, index, real.out)
