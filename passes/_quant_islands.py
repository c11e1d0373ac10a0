"""What fuse-quantized does at last with the ops that stay in float.

    %xf = qnn.dequantize(%x)                     %a = qnn.dense(%x, @w, @b) : tensor<1x10xi32, q<0.0004:0>>
    %wf = qnn.dequantize(@w)               ->    %y = qnn.dequantize(%a) : tensor<1x10xf32>
    %y = nn.dense(%xf, %wf, %bf)

A layer whose result nobody quantises is computed on integers all the same: onnxruntime does so for matrix products,
and it is exact. A bias that is not in units of the accumulator is added in float. Constants that only float ops read
are dequantized here, once.
"""

from __future__ import annotations

from tinyir.ir import Module
from tinyir.ops import Add, DepthwiseConv2D, Dequantize
from tinyir.rewrite import Rewriter
from tinyir.types import I32, TensorType

from ._quant_chains import stored_source
from ._quant_layers import LAYERS, Layer, accumulator_fits, accumulator_units, exact_bias, quantised_layer, unit_quant


def finish_islands(module: Module, rw: Rewriter) -> None:
    """Accumulate in integers where a layer reads stored integers; dequantize constants for the other float ops."""
    for op in list(module.walk()):
        if isinstance(op, LAYERS):
            _accumulate(op, rw)
    for op in list(module.walk()):
        if isinstance(op, Dequantize):
            _dequantize_constant(op, rw)


def _accumulate(op: Layer, rw: Rewriter) -> None:
    x, weight = stored_source(op.x), stored_source(op.weight)
    if x is None or weight is None or weight.data is None or op.act != "none":
        return
    units = accumulator_units(x, weight)
    axis = 2 if isinstance(op, DepthwiseConv2D) else 0
    if units is None or x.type.dtype.bits != 8:
        return
    bias = exact_bias(op, units)
    if not accumulator_fits(x, weight, bias, axis):
        return
    type_ = TensorType(op.out.shape, I32, unit_quant(units, op.out.type.rank - 1))
    sums = rw.insert_before(op, quantised_layer(op, x, weight, bias, type_, None), name=f"{op.out.name}_sums")
    sums.loc = op.loc
    if op.bias is None or bias is not None:
        rw.replace(op, Dequantize(sums.out))
        return
    real = rw.insert_before(op, Dequantize(sums.out), name=f"{op.out.name}_product")
    rw.replace(op, Add(real.out, op.bias))


def _dequantize_constant(op: Dequantize, rw: Rewriter) -> None:
    data = op.x.data
    if data is None:
        return
    if data.size > 1:
        readers = ", ".join(sorted({user.opname for user in op.out.users}))
        rw.remark(op, f"{data.size} stored constants become floats, since {readers} is computed in float")
    rw.replace(op, rw.const(op.reference(data).reshape(op.out.shape), op.out.name, op.loc))
