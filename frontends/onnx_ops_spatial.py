"""Converters: convolutions, pools, resize, batch normalisation. ONNX has channels first, the IR has them last:

    Conv(x, w, b)  ->  %x_nhwc = nn.transpose(%x) {perm = [0, 2, 3, 1]}
                       %y = nn.conv2d(%x_nhwc, @w, @b)                  (weights are turned here, with numpy)
                       %y_nchw = nn.transpose(%y) {perm = [0, 3, 1, 2]}

One-dimensional operators become images of height 1: [N, C, L] -> [N, 1, L, C]. The pass layout-nhwc removes the
transposes between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from tinyir import ops
from tinyir.ir import Array, Value
from tinyir.types import Shape, TensorType

from .onnx_node import Node, Produced, converts
from .onnx_ops_linear import reshaped

__all__: list[str] = []

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]


def _to_nhwc(node: Node, x: Value) -> Value:
    """[N, C, H, W] or [N, C, L] as [N, H, W, C], where a line has the height 1."""
    rank = x.type.rank
    if rank not in (3, 4):
        raise node.unsupported(f"of a tensor of rank {rank}: only one and two spatial dimensions are")
    perm = (0, *range(2, rank), 1)
    last = node.emit(ops.Transpose(x, perm), f"{x.name}_nhwc")
    return last if rank == 4 else reshaped(node, last, (last.shape[0], 1, *last.shape[1:]), f"{x.name}_line")


def _from_nhwc(node: Node, y: Value, rank: int) -> Value:
    """The inverse of `_to_nhwc`."""
    if rank == 3:
        y = reshaped(node, y, (y.shape[0], *y.shape[2:]), f"{node.base()}_nlc")
    return node.emit(ops.Transpose(y, (0, rank - 1, *range(1, rank - 1))), f"{node.base()}_nchw")


# -- windows -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Window:
    """The geometry of a window for rows and columns, whatever the node leaves to defaults, auto_pad and ceil_mode."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    pad: Quad  # top, left, bottom, right
    extra: Pair = (0, 0)  # more rows below and columns to the right: ceil_mode


def _pair(values: Sequence[int] | None, spatial: int, default: int) -> Pair:
    """Numbers for rows and columns; a line has `default` for its rows."""
    found = tuple(values) if values is not None else (default,) * spatial
    if len(found) != spatial:
        raise ValueError(f"{list(found)} has {len(found)} entries, expected {spatial}")
    return (default, found[0]) if spatial == 1 else (found[0], found[1])


def _quad(values: Sequence[int] | None, spatial: int) -> Quad:
    """ONNX's pads, begins before ends, as top, left, bottom, right."""
    found = tuple(values) if values is not None else (0,) * (2 * spatial)
    if len(found) != 2 * spatial:
        raise ValueError(f"pads has {len(found)} entries, expected {2 * spatial}")
    return (0, found[0], 0, found[1]) if spatial == 1 else (found[0], found[1], found[2], found[3])


def _window(node: Node, kernel: Sequence[int]) -> _Window:
    spatial = len(kernel)
    extents = _pair(node.shape()[2:], spatial, 1)
    size = _pair(kernel, spatial, 1)
    stride = _pair(node.ints("strides"), spatial, 1)
    dilation = _pair(node.ints("dilations"), spatial, 1)
    spans = ((size[0] - 1) * dilation[0] + 1, (size[1] - 1) * dilation[1] + 1)
    if min((*size, *stride, *dilation)) < 1:
        raise node.error(f"kernel {size}, strides {stride} and dilations {dilation} have to be at least 1")
    pad = _auto_pad(node, node.text("auto_pad", "NOTSET"), extents, spans, stride)
    if pad is None:
        pad = _quad(node.ints("pads"), spatial)
    extra = (0, 0)
    if node.integer("ceil_mode", 0):
        extra = (_ceil_extra(extents[0], spans[0], stride[0], pad[0], pad[2]),
                 _ceil_extra(extents[1], spans[1], stride[1], pad[1], pad[3]))
    return _Window(size, stride, dilation, pad, extra)


def _auto_pad(node: Node, mode: str, extents: Pair, spans: Pair, stride: Pair) -> Quad | None:
    """What auto_pad stands for, or None if the pads are given."""
    if mode == "NOTSET":
        return None
    node.ints("pads")  # ignored with auto_pad
    if mode == "VALID":
        return 0, 0, 0, 0
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise node.error(f"auto_pad is {mode!r}, expected NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    totals = [max((-(-e // s) - 1) * s + k - e, 0) for e, k, s in zip(extents, spans, stride, strict=True)]
    less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (*less, *more) if mode == "SAME_UPPER" else (*more, *less)  # type: ignore[return-value]


def _ceil_extra(extent: int, span: int, stride: int, before: int, after: int) -> int:
    """How much further the last window of ceil_mode reaches; a window that would begin in that padding is dropped."""
    count = -(-(extent + before + after - span) // stride) + 1
    if (count - 1) * stride >= extent + before:
        count -= 1
    return max((count - 1) * stride + span - (extent + before + after), 0)


def _cropped(node: Node, x: Value, pad: Quad) -> tuple[Value, Quad]:
    """Negative padding of an NHWC value cuts rows and columns off before the window sees them."""
    if min(pad) >= 0:
        return x, pad
    top, left, bottom, right = (min(p, 0) for p in pad)
    cut = node.emit(ops.Pad(x, (0, top, left, 0), (0, bottom, right, 0)), f"{x.name}_cut")
    rest = tuple(max(p, 0) for p in pad)
    return cut, cast("Quad", rest)


# -- convolutions ------------------------------------------------------------------------------------------------------


def _bias(node: Node, index: int) -> Value | None:
    if not node.has(index):
        return None
    return node.weight_const(index, node.weight(index, "the bias"), "")


def _kernel_of(node: Node, weight: Array, spatial: int) -> Shape:
    kernel = tuple(weight.shape[2:])
    given = node.ints("kernel_shape")
    if weight.ndim != spatial + 2 or (given is not None and given != kernel):
        raise node.error(f"kernel_shape is {given}, the weight is {list(weight.shape)}")
    return kernel


def _check_single(node: Node) -> None:
    if node.dtype().bits < 32:
        raise node.unsupported(f"of {node.dtype()}: sums need at least 32 bits; export the model in float32")


def _image(weight: Array) -> Array:
    """[O, C, K] of a one-dimensional convolution as [O, C, 1, K]."""
    return weight if weight.ndim == 4 else weight[:, :, None, :]


@converts("Conv")
def conv(node: Node) -> Produced:
    _check_single(node)
    weight = node.weight(1, "the weight")
    rank = node.rank()
    x = _to_nhwc(node, node.value(0))
    window = _window(node, _kernel_of(node, weight, rank - 2))
    x, pad = _cropped(node, x, window.pad)
    image, bias, groups = _image(weight), _bias(node, 2), node.integer("group", 1)
    if groups > 1 and groups == x.shape[3] and image.shape[1] == 1:
        turned = node.weight_const(1, image[:, 0].transpose(1, 2, 0), "depthwise")
        y = node.emit(ops.DepthwiseConv2D(x, turned, bias, window.stride, pad, window.dilation))
    else:
        turned = node.weight_const(1, image.transpose(0, 2, 3, 1), "conv")
        y = node.emit(ops.Conv2D(x, turned, bias, window.stride, pad, window.dilation, groups))
    return _from_nhwc(node, y, rank)


@converts("ConvTranspose")
def conv_transpose(node: Node) -> Produced:
    _check_single(node)
    weight = node.weight(1, "the weight")  # [C, O / groups, KH, KW]
    rank, groups = node.rank(), node.integer("group", 1)
    x = _to_nhwc(node, node.value(0))
    kernel, image = _kernel_of(node, weight, rank - 2), _image(weight)
    channels, per_group, height, width = image.shape
    if channels != x.shape[3] or channels % groups:
        raise node.error(f"x has {x.shape[3]} channels, the weight is {list(weight.shape)} with {groups} groups")
    parts = image.reshape(groups, channels // groups, per_group, height, width)
    turned = parts.transpose(0, 2, 3, 4, 1).reshape(groups * per_group, height, width, channels // groups)
    stride, dilation = (_pair(node.ints(name), rank - 2, 1) for name in ("strides", "dilations"))
    pad, output_pad = _spread_pads(node, _pair(kernel, rank - 2, 1), stride, dilation, rank - 2)
    y = node.emit(ops.ConvTranspose2D(x, node.weight_const(1, turned, f"spread {groups}"), _bias(node, 2), stride,
                                      cast("Quad", tuple(max(p, 0) for p in pad)), output_pad, dilation, groups))
    if min(pad) < 0:
        top, left, bottom, right = (max(-p, 0) for p in pad)
        y = node.emit(ops.Pad(y, (0, top, left, 0), (0, bottom, right, 0)), f"{node.base()}_padded")
    return _from_nhwc(node, y, rank)


def _spread_pads(node: Node, kernel: Pair, stride: Pair, dilation: Pair, spatial: int) -> tuple[Quad, Pair]:
    """What a transposed convolution crops, and adds: from pads, or from output_shape or auto_pad."""
    output_pad = _pair(node.ints("output_padding"), spatial, 0)
    mode, wanted = node.text("auto_pad", "NOTSET"), node.ints("output_shape")
    given = _quad(node.ints("pads"), spatial)
    extents = _pair(node.shape()[2:], spatial, 1)
    if wanted is None and mode == "NOTSET":
        return given, output_pad
    if wanted is None and mode == "VALID":
        return (0, 0, 0, 0), output_pad
    out = _pair(wanted[-spatial:], spatial, 1) if wanted is not None else (extents[0] * stride[0],
                                                                           extents[1] * stride[1])
    full = [s * (e - 1) + o + (k - 1) * d + 1
            for s, e, o, k, d in zip(stride, extents, output_pad, kernel, dilation, strict=True)]
    totals = [max(f - o, 0) for f, o in zip(full, out, strict=True)]
    more = (max(out[0] - full[0], 0), max(out[1] - full[1], 0))
    half, rest = [t // 2 for t in totals], [t - t // 2 for t in totals]
    pad = (*half, *rest) if mode == "SAME_UPPER" else (*rest, *half)
    return cast("Quad", pad), (output_pad[0] + more[0], output_pad[1] + more[1])


@converts("BatchNormalization")
def batch_normalization(node: Node) -> Produced:
    if node.integer("training_mode", 0) or any(node.wants(i) for i in range(1, len(node.proto.output))):
        raise node.unsupported("in training mode; export the model in evaluation mode")
    node.number("momentum", 0.9)
    names = ("the scale", "the shift", "the mean", "the variance")
    scale, shift, mean, variance = (node.weight_const(i, node.weight(i, what), "") for i, what in enumerate(names, 1))
    x, rank, epsilon = node.value(0), node.rank(), node.number("epsilon", 1e-5)
    if rank <= 2:
        return node.emit(ops.BatchNorm(x, scale, shift, mean, variance, epsilon))
    last = node.emit(ops.Transpose(x, (0, *range(2, rank), 1)), f"{x.name}_nhwc")
    y = node.emit(ops.BatchNorm(last, scale, shift, mean, variance, epsilon))
    return node.emit(ops.Transpose(y, (0, rank - 1, *range(1, rank - 1))), f"{node.base()}_nchw")


# -- pools -------------------------------------------------------------------------------------------------------------


@converts("MaxPool", "AveragePool")
def pool(node: Node) -> Produced:
    rank, kernel = node.rank(), node.ints("kernel_shape")
    if node.wants(1):
        raise node.unsupported("with the output Indices")
    if node.integer("storage_order", 0):
        raise node.unsupported("with storage_order 1")
    x = _to_nhwc(node, node.value(0))
    if kernel is None or len(kernel) != rank - 2:
        raise node.error(f"kernel_shape is {kernel}, expected {rank - 2} entries")
    window = _window(node, kernel)
    if node.op_type == "MaxPool":
        top, left, bottom, right = window.pad
        pad = (top, left, bottom + window.extra[0], right + window.extra[1])
        y = node.emit(ops.MaxPool(x, window.kernel, window.stride, pad, window.dilation))
    else:
        counted = bool(node.integer("count_include_pad", 0))
        y = node.emit(ops.AvgPool(x, window.kernel, window.stride, window.pad, window.dilation, counted, window.extra))
    return _from_nhwc(node, y, rank)


@converts("GlobalAveragePool", "GlobalMaxPool")
def global_pool(node: Node) -> Produced:
    rank, average = node.rank(), node.op_type == "GlobalAveragePool"
    if rank not in (3, 4):
        return node.emit((ops.ReduceMean if average else ops.ReduceMax)(node.value(0), axes=tuple(range(2, rank))))
    x = _to_nhwc(node, node.value(0))
    # A window as large as the image, not a mean: what is quantised rounds each of the two in its own way.
    op = ops.AvgPool(x, kernel=(x.shape[1], x.shape[2])) if average else ops.ReduceMax(x, axes=(1, 2))
    return _from_nhwc(node, node.emit(op), rank)


# -- resize ------------------------------------------------------------------------------------------------------------

_COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric", "align_corners")
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@converts("Resize")
def resize(node: Node) -> Produced:
    mode, coordinates, nearest = _resize_rules(node)
    rank = node.rank()
    scales, shape = _resize_target(node)
    if any(shape[a] != node.shape()[a] or scales[a] != 1 for a in range(min(rank, 2))):
        raise node.unsupported("of batch or channels: only the spatial dimensions of NCHW can be resized")
    lengths = [s * d for s, d in zip(scales, node.shape(), strict=True)]
    if coordinates == "align_corners" and any(abs(n - o) > 1e-3 for n, o in zip(lengths, shape, strict=True)):
        raise node.unsupported("with align_corners and scales that make no whole sizes; give sizes instead")
    x = _to_nhwc(node, node.value(0))
    rows, columns = (1.0, scales[2]) if rank == 3 else (scales[2], scales[3])
    out = TensorType((x.shape[0], *_pair(shape[2:], rank - 2, 1), x.shape[3]), x.type.dtype, x.type.quant)
    y = node.emit(ops.Resize(x, mode, coordinates, (rows, columns), out, nearest))
    return _from_nhwc(node, y, rank)


def _resize_rules(node: Node) -> tuple[Literal["nearest", "linear"], ops.Coordinates, ops.NearestRounding]:
    mode = node.text("mode", "nearest")
    coordinates = node.text("coordinate_transformation_mode", "half_pixel")
    nearest = node.text("nearest_mode", "round_prefer_floor")
    node.number("cubic_coeff_a", -0.75)
    node.integer("exclude_outside", 0)  # about cubic
    node.number("extrapolation_value", 0.0)  # about tf_crop_and_resize
    if mode not in ("nearest", "linear"):
        raise node.unsupported(f"in mode {mode}: only nearest and linear are")
    if coordinates not in _COORDINATES:
        raise node.unsupported(f"with coordinate_transformation_mode {coordinates}")
    if nearest not in _ROUNDINGS:
        raise node.error(f"nearest_mode is {nearest!r}, expected one of {', '.join(_ROUNDINGS)}")
    if node.integer("antialias", 0):
        raise node.unsupported("with antialias")
    return (cast('Literal["nearest", "linear"]', mode), cast("ops.Coordinates", coordinates),
            cast("ops.NearestRounding", nearest))


def _resize_target(node: Node) -> tuple[list[float], Shape]:
    """The scale of each axis and the shape of the result; the node gives one of them."""
    rank, dims = node.rank(), node.shape()
    axes = [node.axis(a, rank) for a in node.ints("axes") or range(rank)]
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    scales, shape = [1.0] * rank, list(dims)
    given, sizes = node.optional_array(2, "scales"), node.integers(3, "sizes")
    if given is not None and given.size:
        for axis, scale in zip(axes, given.reshape(-1), strict=True):
            scales[axis], shape[axis] = float(scale), math.floor(dims[axis] * np.float32(scale))
        return scales, tuple(shape)
    if not sizes:
        raise node.error("neither scales nor sizes are given")
    ratios = {a: float(np.float32(s) / np.float32(dims[a])) for a, s in zip(axes, sizes, strict=True)}
    if policy != "stretch":
        common = min(ratios.values()) if policy == "not_larger" else max(ratios.values())
        ratios = dict.fromkeys(ratios, common)
        sizes = tuple(math.floor(common * dims[a] + 0.5) for a in axes)
    for axis, size in zip(axes, sizes, strict=True):
        scales[axis], shape[axis] = ratios[axis], size
    return scales, tuple(shape)
