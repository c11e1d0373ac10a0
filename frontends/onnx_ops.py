"""Loads all converters. To support another ONNX operator, add a function with `@converts("Name")` to the right file:

| file             | family                                                                          |
|------------------|---------------------------------------------------------------------------------|
| onnx_ops_math    | element-wise arithmetic and activations, casts                                  |
| onnx_ops_linear  | Gemm, MatMul, reductions, softmax, arg max                                      |
| onnx_ops_spatial | convolutions, pools, resize, batch normalisation: NCHW becomes NHWC here        |
| onnx_ops_shape   | reshape, transpose, concat, slice, split, pad, gather, ...                      |
| onnx_ops_quant   | quantised operators: float ones between dequantize and quantize                 |
| onnx_ops_known   | what exists at compile time only: Constant, Shape, Range, comparisons, ...      |
"""

from __future__ import annotations

from . import onnx_ops_known as onnx_ops_known
from . import onnx_ops_linear as onnx_ops_linear
from . import onnx_ops_math as onnx_ops_math
from . import onnx_ops_quant as onnx_ops_quant
from . import onnx_ops_shape as onnx_ops_shape
from . import onnx_ops_spatial as onnx_ops_spatial
