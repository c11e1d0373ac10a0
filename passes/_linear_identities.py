"""The part of canonicalize about weighted sums: matrix products and convolutions that have a simpler op.

    %y = nn.matmul(%x, @w) : tensor<1x10xf32>               // @w: 64x10
        ->
    %y = nn.dense(%x, @w_t, none) : tensor<1x10xf32>        // @w_t: 10x64
"""

from __future__ import annotations

import math

import numpy as np

from tinyir.ops import Conv2D, Dense, DepthwiseConv2D, MatMul, Reshape
from tinyir.rewrite import Rewriter, rewrites
from tinyir.types import TensorType

from ._values import is_float, stem


class LinearIdentities:
    """Rewrites of weighted sums; mixed into Canonicalize."""

    @rewrites(MatMul)
    def matmul_by_constant(self, op: MatMul, rw: Rewriter) -> None:
        """x @ W with a constant matrix W is a dense layer on the rows of x [..., K]."""
        data = op.b.data
        if data is None or data.ndim != 2 or not is_float(op.a):
            return
        inputs, outputs = data.shape
        weight = rw.const(np.ascontiguousarray(data.T), stem(op.b), op.b.loc)
        x, rows = op.a, math.prod(op.a.shape[:-1])
        if x.shape != (rows, inputs):
            x = rw.insert_before(op, Reshape(x, result=TensorType((rows, inputs), x.type.dtype)), name=x.name).out
        dense = Dense(x, weight)
        if op.out.shape == (rows, outputs):
            rw.replace(op, dense)
            return
        rw.insert_before(op, dense)
        rw.replace(op, Reshape(dense.out, result=TensorType(op.out.shape, op.out.type.dtype)))

    @rewrites(Conv2D)
    def one_channel_groups(self, op: Conv2D, rw: Rewriter) -> None:
        """Groups of one input channel each: [O, KH, KW, 1] is a depthwise [KH, KW, O]."""
        data = op.weight.data
        if data is None or op.groups == 1 or data.shape[3] != 1:
            return
        weight = rw.const(np.ascontiguousarray(data[..., 0].transpose(1, 2, 0)), stem(op.weight), op.weight.loc)
        rw.replace(op, DepthwiseConv2D(op.x, weight, op.bias, stride=op.stride, pad=op.pad, dilation=op.dilation,
                                       act=op.act, act_args=op.act_args))
