"""Converters: quantised operators. Every form becomes float operators between dequantize and quantize.

    QLinearConv(x, xs, xz, w, ws, wz, ys, yz, b)  ->  %xf = qnn.dequantize(%x)
                                                      %wf = qnn.dequantize(@w)
                                                      %bf = qnn.dequantize(@b)          (scale xs * ws)
                                                      %y  = nn.conv2d(%xf, %wf, %bf)
                                                      %q  = qnn.quantize(%y)

which is what the QDQ form says in so many nodes; `fuse-quantized` makes one integer op of it. Scale and zero point go
into the type of the stored value; where readers of one value disagree, `qnn.reinterpret` stands in between.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyir import ops
from tinyir.ir import Array, Value
from tinyir.types import F32, I8, I32, U8, DType, Quant, Shape, TensorType, dtype_of

from .onnx_node import Known, Node, Operand, Produced, converts, element_type
from .onnx_stored import Dequantized

__all__: list[str] = []


_STORED = ("int8", "uint8", "int32")
"""Types of zero points: of activations and weights, and of biases."""

# -- scales and zero points ------------------------------------------------------------------------------------------


def _quant(node: Node, scale: int, zero: int, axis: int, index: int) -> Quant:
    """The quantisation that inputs number `scale` and `zero` give to input number `index`."""
    scales, zeros = node.array(scale, "the scale"), _zeros(node, zero)
    if scales.dtype != np.float32:
        raise node.unsupported(f"a scale of type {scales.dtype}: only float32 is")
    if not bool(np.isfinite(scales).all()) or not bool((scales > 0).all()):
        bad = scales[~(np.isfinite(scales) & (scales > 0))]
        raise node.error(f"the scale {node.input_name(scale)!r} has {bad.size} values that are not positive (first: "
                         f"{bad.reshape(-1)[0]})")
    if scales.ndim > 1:
        raise node.unsupported(f"scales of rank {scales.ndim}: only one scale, or one for each channel, is")
    if scales.size == 1 == zeros.size:
        return Quant((float(scales.reshape(-1)[0]),), (int(zeros[0]),))
    return _per_axis(node, scales.reshape(-1), zeros, node.axis(axis, node.rank(index)), node.shape(index))


def _per_axis(node: Node, scales: Array, zeros: Array, axis: int, shape: Shape) -> Quant:
    if zeros.size not in (1, scales.size):
        raise node.error(f"{scales.size} scales but {zeros.size} zero points")
    if scales.size != shape[axis]:
        raise node.error(f"{scales.size} scales, but axis {axis} of {list(shape)} has {shape[axis]} entries")
    whole = np.broadcast_to(zeros, scales.shape)
    return Quant(tuple(float(s) for s in scales), tuple(int(z) for z in whole), axis)


def _zeros(node: Node, index: int) -> Array:
    """The zero points, [n]."""
    if not node.has(index):
        return np.zeros(1, np.int64)
    zeros = node.array(index, "the zero point").reshape(-1)
    if zeros.dtype.name not in _STORED:
        raise node.unsupported(f"stored values of type {zeros.dtype}: only int8 and uint8 are")
    return zeros.astype(np.int64)


def _zero_type(node: Node, zero: int, default: DType) -> DType:
    """The element type of a zero point, which is that of the stored values."""
    return node.dtype(zero) if node.has(zero) else default


# -- the two bridges -------------------------------------------------------------------------------------------------


@converts("QuantizeLinear")
def quantize_linear(node: Node) -> Produced:
    """QuantizeLinear(x, scale, zero point)."""
    _no_blocks(node)
    node.integer("saturate", 1)
    declared = node.integer("output_dtype", 0)
    default = element_type(declared, "the output") if declared else dtype_of(np.dtype(np.uint8))
    if node.dtype() != F32:
        raise node.unsupported(f"of {node.dtype()}: only float32 values are")
    dtype = _zero_type(node, 2, default)
    if dtype not in (I8, U8):
        raise node.unsupported(f"to {dtype}: only int8 and uint8 are")
    return _quantized(node, node.value(0), _quant(node, 1, 2, node.integer("axis", 1), 0), dtype)


@converts("DequantizeLinear")
def dequantize_linear(node: Node) -> Produced:
    """DequantizeLinear(x, scale, zero point)."""
    _no_blocks(node)
    node.integer("output_dtype", 0)
    stored = node.known(0)
    kind = node.dtype().numpy.name if stored is None else stored.dtype.name
    if kind not in _STORED:
        raise node.unsupported(f"stored values of type {kind}: only int8 and uint8 (and int32 biases) are")
    if node.has(2) and node.dtype(2) != node.dtype():
        raise node.error(f"the stored values are {node.dtype()}, their zero point {node.dtype(2)}")
    return _real(node, 0, _quant(node, 1, 2, node.integer("axis", 1), 0))


def _no_blocks(node: Node) -> None:
    if node.integer("block_size", 0):
        raise node.unsupported("block-wise scales")


def _quantized(node: Node, real: Value, quant: Quant, dtype: DType) -> Value:
    return node.emit(ops.Quantize(real, TensorType(real.shape, dtype, quant)))


def _real(node: Node, index: int, quant: Quant) -> Operand:
    """Input number `index`, stored with `quant`, as real values."""
    stored = node.operand(index)
    if not isinstance(stored, Value):
        return Dequantized.of(stored, quant)
    if stored.type.quant != quant:
        type_ = TensorType(stored.shape, stored.type.dtype, quant)
        stored = node.emit(ops.Reinterpret(stored, type_), f"{stored.name}_stored")
    return node.emit(ops.Dequantize(stored), f"{stored.name}_real")


# -- operators with a float form -------------------------------------------------------------------------------------


def _triple(node: Node, first: int, axis: int = 0) -> Operand:
    """Inputs number `first`, `first` + 1, `first` + 2 (stored values, scale, zero point) as real values."""
    return _real(node, first, _quant(node, first + 1, first + 2, axis, first))


def _through_float(node: Node, operator: str, inputs: Sequence[tuple[str, Operand]], scale: int, zero: int,
                   ignored: Sequence[str] = (), opset: int | None = None) -> Value:
    """Convert as the float `operator` of real values, then quantize with inputs number `scale` and `zero`."""
    real = node.as_operator(operator, inputs, ignored, opset)
    return _quantized(node, real, _quant(node, scale, zero, 1, 0), node.dtype(zero))


def _bias(node: Node, index: int, x: Quant, weight: Quant) -> Operand:
    """A stored int32 bias, in units of the accumulator: its scale is f32(xs * ws) of each channel."""
    scales = np.float32(x.scale) * np.asarray(weight.scales, np.float32)
    quant = Quant(tuple(float(s) for s in scales), (0,) * scales.size, 0 if scales.size > 1 else None)
    return _real(node, index, quant)


@converts("QLinearConv")
def qlinear_conv(node: Node) -> Produced:
    """QLinearConv(x, xs, xz, w, ws, wz, ys, yz, bias)."""
    x, weight = _quant(node, 1, 2, 1, 0), _quant(node, 4, 5, 0, 3)
    inputs = [(node.input_name(0), _real(node, 0, x)), (node.input_name(3), _real(node, 3, weight))]
    if node.has(8):
        inputs.append((node.input_name(8), _bias(node, 8, x, weight)))
    return _through_float(node, "Conv", inputs, 6, 7)


@converts("QLinearMatMul")
def qlinear_matmul(node: Node) -> Produced:
    """QLinearMatMul(a, as, az, b, bs, bz, ys, yz); a scale per channel of b is one per column."""
    inputs = [(node.input_name(0), _triple(node, 0)), (node.input_name(3), _triple(node, 3, node.rank(3) - 1))]
    return _through_float(node, "MatMul", inputs, 6, 7)


@converts("QGemm")
def qgemm(node: Node) -> Produced:
    """com.microsoft.QGemm(a, as, az, b, bs, bz, c, ys, yz); without ys the result is real."""
    columns = 0 if node.integer("transB", 0) else 1
    a, b = _quant(node, 1, 2, 0, 0), _quant(node, 4, 5, columns, 3)
    inputs = [(node.input_name(0), _real(node, 0, a)), (node.input_name(3), _real(node, 3, b))]
    if node.has(6):
        inputs.append((node.input_name(6), _bias(node, 6, a, b)))
    if not node.has(7):
        return node.as_operator("Gemm", inputs)
    return _through_float(node, "Gemm", inputs, 7, 8)


@converts("QLinearAdd", "QLinearMul")
def qlinear_binary(node: Node) -> Produced:
    """com.microsoft.QLinearAdd and QLinearMul(a, as, az, b, bs, bz, ys, yz)."""
    inputs = [(node.input_name(0), _triple(node, 0)), (node.input_name(3), _triple(node, 3))]
    return _through_float(node, node.op_type.removeprefix("QLinear"), inputs, 6, 7)


@converts("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearAveragePool", "QLinearGlobalAveragePool")
def qlinear_unary(node: Node) -> Produced:
    """com.microsoft.QLinear* of one tensor: (x, xs, xz, ys, yz)."""
    if node.integer("channels_last", 0):
        raise node.unsupported("channels_last = 1")
    opset = node.integer("opset", node.opset)  # of the Softmax that QLinearSoftmax stands for
    if "axis" not in node.given_attributes():
        opset = max(opset, 13)  # its axis is the last one then
    return _through_float(node, node.op_type.removeprefix("QLinear"), [(node.input_name(0), _triple(node, 0))], 3, 4,
                          ("channels_last", "opset"), opset)


@converts("QLinearConcat")
def qlinear_concat(node: Node) -> Produced:
    """com.microsoft.QLinearConcat(ys, yz, x0, xs0, xz0, x1, ...)."""
    inputs = [(node.input_name(i), _triple(node, i)) for i in range(2, len(node.inputs), 3)]
    return _through_float(node, "Concat", inputs, 0, 1)


# -- integer results -------------------------------------------------------------------------------------------------


@converts("ConvInteger", "MatMulInteger")
def integer_product(node: Node) -> Produced:
    """ConvInteger and MatMulInteger(x, w, xz, wz): the int32 accumulator, which is a product with all scales 1."""
    channels = 0 if node.op_type == "ConvInteger" else node.rank(1) - 1  # of the weight
    quants = (_unit(node, 0, 2, node.rank() - 2), _unit(node, 1, 3, channels))
    inputs = [(node.input_name(i), _real(node, i, quant)) for i, quant in enumerate(quants)]
    real = node.as_operator(node.op_type.removesuffix("Integer"), inputs)
    stored = _quantized(node, real, Quant((1.0,)), I32)
    return node.emit(ops.Reinterpret(stored, TensorType(stored.shape, I32)))


def _unit(node: Node, index: int, zero: int, axis: int) -> Quant:
    """The quantisation with scale 1 of input number `index`, whose zero points are input number `zero`."""
    zeros = _zeros(node, zero)
    if zeros.size == 1:
        return Quant((1.0,), (int(zeros[0]),))
    if node.known(index) is None:
        raise node.unsupported("a zero point for each row or column of an activation")
    return _per_axis(node, np.ones(zeros.size, np.float32), zeros, axis, node.shape(index))


@converts("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node) -> Produced:
    """DynamicQuantizeLinear(x): only of what is known; a range that depends on the input has no static scale."""
    x = node.array(0, "x, whose range would have to be found at run time,")
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = np.float32((high - low) / 255) if high > low else np.float32(1)
    zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
    stored: Known = np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8)
    return [stored, np.asarray(scale), np.asarray(zero)]
