"""Convolutions over NHWC tensors, and the normalisation that goes with them.

    %y = nn.conv2d(%x, @w, @b) {stride = [2, 2], pad = [1, 1, 1, 1]} : tensor<1x8x8x16xf32>

`pad` is top, left, bottom, right. ONNX is NCHW; its frontend puts transposes around these ops and turns the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from ..geometry import (
    Axis,
    Box,
    Span,
    axis_index,
    dilated,
    spread_input_span,
    spread_output_extent,
    window_input_span,
    window_output_extent,
    window_part_pads,
)
from ..ir import Array, Value
from ..types import Shape, TensorType
from .activation import Activation, apply_activation, require_activation
from .base import Elementwise, NnOp, Spatial
from .window import axis_pads, pad_rows_columns, tap_slices, windows

__all__ = ["BatchNorm", "Conv2D", "ConvTranspose2D", "DepthwiseConv2D", "Pair", "Quad", "convolve",
           "convolve_depthwise", "require_groups", "window_pads", "window_shape", "window_span"]

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]


def _require_conv(op: NnOp, x: Value, weight: Value, bias: Value | None, channels: int) -> None:
    """Checks that all convolutions share; `channels` is what the bias must have."""
    op.require_float(x)
    op.require_same_dtype(x, weight, ("x", "weight"))
    if bias is not None:
        op.require_same_dtype(x, bias, ("x", "bias"))
        op.require_vector(bias, "bias", channels, "channels")


def _require_ranks(op: NnOp, x: Value, weight: Value, weight_rank: int, meaning: str) -> None:
    op.require_rank(x, 4, "x", "N, H, W, C")
    op.require_rank(weight, weight_rank, "weight", meaning)


def require_groups(op: NnOp, groups: int, inputs: int, outputs: int, per_group: int) -> None:
    """Raise CompileError unless `groups` divide both channels and x has `per_group` channels for each."""
    op.require(groups >= 1, "groups is {}, expected at least 1", groups)
    op.require(inputs == per_group * groups, "x has {} channels, weight expects {}{}", inputs, per_group * groups,
               f" ({per_group} for each of {groups} groups)" if groups > 1 else "")
    op.require(outputs % groups == 0, "{} output channels do not divide into {} groups", outputs, groups)


def convolve(x: Array, weight: Array, stride: Pair, pad: Quad, dilation: Pair, groups: int = 1) -> Array:
    """The sums of products of `nn.conv2d`, [N, OH, OW, O], in the element type of the arrays; x is zero outside."""
    view = windows(pad_rows_columns(x, pad, 0), weight.shape[1:3], stride, dilation)  # [N, OH, OW, C, KH, KW]
    batch, height, width = view.shape[:3]
    outputs, per_group = weight.shape[0] // groups, weight.shape[3]
    parts = []
    for g in range(groups):
        columns = view[:, :, :, g * per_group:(g + 1) * per_group].reshape(batch * height * width, -1)
        rows = weight[g * outputs:(g + 1) * outputs].transpose(0, 3, 1, 2).reshape(outputs, -1)
        parts.append(columns @ rows.T)
    return np.concatenate(parts, axis=1).reshape(batch, height, width, -1)


def convolve_depthwise(x: Array, weight: Array, stride: Pair, pad: Quad, dilation: Pair) -> Array:
    """The sums of products of `nn.depthwise_conv2d`, [N, OH, OW, C * M], in the element type of the arrays."""
    padded = pad_rows_columns(x, pad, 0)
    if weight.shape[2] != x.shape[3]:
        padded = np.repeat(padded, weight.shape[2] // x.shape[3], axis=3)
    taps = tap_slices(padded, weight.shape[:2], stride, dilation)
    products = (piece * weight[ky, kx] for ky, kx, piece in taps)
    sums = next(products)
    for product in products:
        sums += product
    return np.asarray(sums)


def _finish(sums: Array, bias: Array | None, act: Activation, act_args: tuple[float, ...]) -> Array:
    if bias is not None:
        sums = sums + bias
    return apply_activation(sums, act, act_args)


@final
class Conv2D(Spatial, opname="nn.conv2d"):
    """y[n, i, j, o] = act(bias[o] + sum over ky, kx, c of x[n, i*sy + ky*dy - top, j*sx + kx*dx - left, g*Cg + c]
    * weight[o, ky, kx, c]), where Cg = C / groups and g = o // (O / groups); x is zero outside. ONNX: Conv.
    """

    x: Value                                # [N, H, W, C]
    weight: Value                           # [O, KH, KW, C / groups]
    bias: Value | None = None               # [O]
    stride: Pair = (1, 1)
    pad: Quad = (0, 0, 0, 0)                # top, left, bottom, right
    dilation: Pair = (1, 1)
    groups: int = 1
    act: Activation = "none"
    act_args: tuple[float, ...] = ()

    @property
    def kernel(self) -> Pair:
        """Height and width of the window."""
        return self.weight.shape[1], self.weight.shape[2]

    def infer(self) -> TensorType:
        _require_ranks(self, self.x, self.weight, 4, "O, KH, KW, C / groups")
        outputs = self.weight.shape[0]
        _require_conv(self, self.x, self.weight, self.bias, outputs)
        require_groups(self, self.groups, self.x.shape[3], outputs, self.weight.shape[3])
        shape = window_shape(self, self.x, outputs, self.kernel, self.stride, self.pad, self.dilation)
        return self.result_of(shape, self.x.type.dtype)

    def verify(self) -> None:
        require_activation(self, self.act, self.act_args)

    def reference(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        sums = convolve(x, weight, self.stride, self.pad, self.dilation, self.groups)
        return _finish(sums, bias, self.act, self.act_args)

    def macs(self) -> int:
        return self.out.type.elements * int(np.prod(self.weight.shape[1:]))

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        return window_span(out, axis, self.x, self.kernel, self.stride, self.pad, self.dilation)

    def part_attrs(self, out: Box, given: Sequence[Box]) -> dict[str, Any] | None:
        return {"pad": window_pads(out, given[0], self.kernel, self.stride, self.pad, self.dilation)}


@final
class DepthwiseConv2D(Spatial, opname="nn.depthwise_conv2d"):
    """y[n, i, j, o] = act(bias[o] + sum over ky, kx of x[n, i*sy + ky*dy - top, j*sx + kx*dx - left, o // M]
    * weight[ky, kx, o]), where M is the channel multiplier; x is zero outside. ONNX: Conv with group = C.
    """

    x: Value                                # [N, H, W, C]
    weight: Value                           # [KH, KW, C * M]
    bias: Value | None = None               # [C * M]
    stride: Pair = (1, 1)
    pad: Quad = (0, 0, 0, 0)                # top, left, bottom, right
    dilation: Pair = (1, 1)
    act: Activation = "none"
    act_args: tuple[float, ...] = ()

    @property
    def kernel(self) -> Pair:
        """Height and width of the window."""
        return self.weight.shape[0], self.weight.shape[1]

    @property
    def multiplier(self) -> int:
        """Output channels for each input channel."""
        return self.weight.shape[2] // self.x.shape[3]

    def infer(self) -> TensorType:
        _require_ranks(self, self.x, self.weight, 3, "KH, KW, C * multiplier")
        channels, outputs = self.x.shape[3], self.weight.shape[2]
        self.require(outputs % channels == 0, "weight has {} channels, expected a multiple of the {} of x", outputs,
                     channels)
        _require_conv(self, self.x, self.weight, self.bias, outputs)
        shape = window_shape(self, self.x, outputs, self.kernel, self.stride, self.pad, self.dilation)
        return self.result_of(shape, self.x.type.dtype)

    def verify(self) -> None:
        require_activation(self, self.act, self.act_args)

    def reference(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        sums = convolve_depthwise(x, weight, self.stride, self.pad, self.dilation)
        return _finish(sums, bias, self.act, self.act_args)

    def macs(self) -> int:
        return self.out.type.elements * self.kernel[0] * self.kernel[1]

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        return window_span(out, axis, self.x, self.kernel, self.stride, self.pad, self.dilation)

    def part_attrs(self, out: Box, given: Sequence[Box]) -> dict[str, Any] | None:
        return {"pad": window_pads(out, given[0], self.kernel, self.stride, self.pad, self.dilation)}


@final
class ConvTranspose2D(Spatial, opname="nn.conv_transpose2d"):
    """Every x[n, i, j, c] adds x * weight[o, ky, kx, c'] to y[n, i*sy + ky*dy - top, j*sx + kx*dx - left, o], for all
    taps and the O / groups output channels o of its group; then bias and act. `pad` is cropped from the result,
    `output_pad` adds rows below and columns to the right before that. ONNX: ConvTranspose.
    """

    x: Value                                # [N, H, W, C]
    weight: Value                           # [O, KH, KW, C / groups]
    bias: Value | None = None               # [O]
    stride: Pair = (1, 1)
    pad: Quad = (0, 0, 0, 0)                # top, left, bottom, right
    output_pad: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    act: Activation = "none"
    act_args: tuple[float, ...] = ()

    @property
    def kernel(self) -> Pair:
        """Height and width of what one input element spreads over."""
        return self.weight.shape[1], self.weight.shape[2]

    def infer(self) -> TensorType:
        _require_ranks(self, self.x, self.weight, 4, "O, KH, KW, C / groups")
        outputs = self.weight.shape[0]
        _require_conv(self, self.x, self.weight, self.bias, outputs)
        require_groups(self, self.groups, self.x.shape[3], outputs, self.weight.shape[3])
        _require_steps(self, self.stride, self.pad, self.dilation)
        self.require_pair("output_pad", self.output_pad, 0)
        batch, *extents, _ = self.x.shape
        out = [spread_output_extent(extents[a], self.kernel[a], self.stride[a], self.dilation[a],
                                    axis_pads(self.pad, a), self.output_pad[a]) for a in (0, 1)]
        return self.result_of((batch, *out, outputs), self.x.type.dtype)

    def verify(self) -> None:
        require_activation(self, self.act, self.act_args)

    def reference(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        parts = [self._spread(xg, wg) for xg, wg in zip(np.split(x, self.groups, axis=3),
                                                        np.split(weight, self.groups, axis=0), strict=True)]
        top, left, _, _ = self.pad
        full = np.concatenate(parts, axis=3)
        height, width = self.out.shape[1:3]
        return _finish(full[:, top:top + height, left:left + width], bias, self.act, self.act_args)

    def _spread(self, x: Array, weight: Array) -> Array:
        """One group, before anything is cropped."""
        top, left, bottom, right = self.pad
        shape = (x.shape[0], self.out.shape[1] + top + bottom, self.out.shape[2] + left + right, weight.shape[0])
        full = np.zeros(shape, x.dtype)
        (sy, sx), (dy, dx) = self.stride, self.dilation
        height, width = x.shape[1:3]
        for ky, kx in np.ndindex(*self.kernel):
            rows = slice(ky * dy, ky * dy + (height - 1) * sy + 1, sy)
            columns = slice(kx * dx, kx * dx + (width - 1) * sx + 1, sx)
            full[:, rows, columns] += x @ weight[:, ky, kx].T
        return full

    def macs(self) -> int:
        return self.x.type.elements * int(np.prod(self.weight.shape[:3])) // self.groups

    def input_span(self, out: Span, axis: Axis, operand: int = 0) -> Span:
        a = axis_index(axis) - 1
        extent = self.x.shape[a + 1]
        return spread_input_span(out, self.kernel[a], self.stride[a], self.dilation[a], self.pad[a], extent)

    def part_attrs(self, out: Box, given: Sequence[Box]) -> dict[str, Any] | None:
        before = [o.begin + p - g.begin * s for o, p, g, s in zip(out, self.pad, given[0], self.stride, strict=False)]
        after = [(g.extent - 1) * s + dilated(k, d) - b - o.extent for o, g, s, k, d, b in
                 zip(out, given[0], self.stride, self.kernel, self.dilation, before, strict=True)]
        rows, columns = (max(a, 0) for a in after)
        return {"pad": (*before, rows, columns), "output_pad": (max(-after[0], 0), max(-after[1], 0))}


@final
class BatchNorm(Elementwise, opname="nn.batch_norm"):
    """y = (x - mean) / sqrt(variance + epsilon) * scale + shift, per channel of the last axis.
    ONNX: BatchNormalization in inference mode.
    """

    x: Value                                # [..., C]
    scale: Value                            # [C]
    shift: Value                            # [C]
    mean: Value                             # [C]
    variance: Value                         # [C]
    epsilon: float = 1e-5

    def infer(self) -> TensorType:
        self.require_float(self.x)
        self.require(self.x.type.rank >= 1, "x has no dimensions, expected channels last")
        channels = self.x.shape[-1]
        for name in ("scale", "shift", "mean", "variance"):
            value: Value = getattr(self, name)
            self.require_same_dtype(self.x, value, ("x", name))
            self.require_vector(value, name, channels, "channels")
        return self.result_of(self.x.shape, self.x.type.dtype)

    def reference(self, x: Array, scale: Array, shift: Array, mean: Array, variance: Array) -> Array:
        factor = scale / np.sqrt(variance + x.dtype.type(self.epsilon))
        return np.asarray((x - mean) * factor + shift)


def _require_steps(op: NnOp, stride: Sequence[int], pad: Sequence[int], dilation: Sequence[int]) -> None:
    op.require_pair("stride", stride)
    op.require_pair("dilation", dilation)
    op.require_pair("pad", pad, 0, 4)


def window_shape(op: NnOp, x: Value, channels: int, kernel: Pair, stride: Pair, pad: Quad, dilation: Pair) -> Shape:
    """[N, OH, OW, channels] for windows over x [N, H, W, C]. Raises CompileError for bad steps or no window."""
    _require_steps(op, stride, pad, dilation)
    batch, *extents, _ = x.shape
    out = [window_output_extent(extents[a], kernel[a], stride[a], dilation[a], axis_pads(pad, a)) for a in (0, 1)]
    return op.result_of((batch, *out, channels), x.type.dtype).shape


def window_pads(out: Box, given: Box, kernel: Pair, stride: Pair, pad: Sequence[int], dilation: Pair) -> Quad:
    """The padding of windows that compute the part `out` of the result from the part `given` of x."""
    (top, bottom), (left, right) = (window_part_pads(*spans) for spans in
                                    zip(out, given, kernel, stride, dilation, pad, strict=False))
    return top, left, bottom, right


def window_span(out: Span, axis: Axis, x: Value, kernel: Pair, stride: Pair, pad: Quad, dilation: Pair) -> Span:
    """The span of x [N, H, W, C] that the windows of the output span `out` read."""
    a = axis_index(axis) - 1
    return window_input_span(out, kernel[a], stride[a], dilation[a], pad[a], x.shape[a + 1])
