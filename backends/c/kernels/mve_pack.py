"""What the kernels for MVE read of constants: one stream of words in the order in which they do.

    for each group of 2 (tc_mve_run) or 8 (tc_mve_vector) output channels:
        for each 16 inputs 16 weights of each channel | a bias for each | a scale for each, in single precision

The first 16 inputs are those that are left when whole sixteens are taken from the end, behind weights of zero. Groups
of two that do not come out even have their last channel but one twice. In groups of eight biases and scales are in the
order of the vectors: those of channels 0, 2, 4, 6 in front of the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyir.arith import output_multiplier
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering
from tinyir.opdef import Op
from tinyir.ops.quant import quant_of
from tinyir.types import I8

from .qrequant import clamp_of, sum_range

__all__ = ["Coded", "group_channels", "pack_groups", "plan_mve", "unpack_groups"]

_LEAST_SCALE, _GREATEST_SCALE = np.float32(2.0**-30), np.float32(2.0**7)
_ORDER = {2: [0, 1], 8: [0, 2, 4, 6, 1, 3, 5, 7]}


@dataclass(frozen=True, eq=False)
class Coded:
    """A layer as the vector kernels compute it: the zero point of x is in the biases."""

    weight: Array  # [O, K] i8
    bias: Array    # [O] i64
    scale: Array   # [O] f32


def plan_mve(op: Op, operands: tuple[Value, Value], weight: Array, bias: Array | None, low: Lowering) -> Coded | None:
    """How to compute `op`, a sum of products of `operands`, with `weight` [O, K] (differences from the zero point) and
    `bias` [O]; None if the vector kernels cannot.
    """
    x, stored = operands
    dtype, zero = op.out.type.dtype, quant_of(x).zero_point
    if not low.target.mve or low.integer_only or low.in_parts or not weight.size:
        return None
    if not x.type.dtype == dtype == I8 or weight.dtype != np.int8:
        return None
    if clamp_of(dtype, getattr(op, "clamp", None)) != dtype.range:
        return None
    scale = output_multiplier(quant_of(x), quant_of(stored), quant_of(op.out)).reshape(-1)
    scale = np.asarray(np.broadcast_to(scale, len(weight)), np.float32)
    bounds = sum_range(dtype, zero, weight, bias)
    if max(-int(bounds[0].min()), int(bounds[1].max())) >= 2**31 or scale.max() >= _GREATEST_SCALE:
        return None
    if scale.min() < _LEAST_SCALE:
        return None
    start = (0 if bias is None else bias.astype(np.int64)) - zero * weight.astype(np.int64).sum(axis=1)
    return Coded(weight, np.asarray(start), scale)


def group_channels(outputs: int, lanes: int) -> Array:
    """The channels of each group, [groups, lanes]; behind the last one of eight there are -1."""
    if lanes == 2:
        first = np.minimum(np.arange(0, outputs, 2), outputs - 2)
        return np.stack([first, first + 1], axis=1)
    channels = np.arange(-(-outputs // lanes) * lanes)
    return np.where(channels < outputs, channels, -1).reshape(-1, lanes)


def pack_groups(coded: Coded, lanes: int) -> Array:
    """The stream [groups, words] u32 of `lanes` channels a group."""
    outputs, inputs = coded.weight.shape
    steps = -(-inputs // 16)
    full = np.zeros((outputs + 1, steps * 16), np.int8)  # the last is for channels that are not there
    full[:outputs, steps * 16 - inputs:] = coded.weight
    chosen = group_channels(outputs, lanes)
    groups = len(chosen)
    weights = full[chosen].reshape(groups, lanes, steps, 16).transpose(0, 2, 1, 3).reshape(groups, -1)
    order = chosen[:, _ORDER[lanes]]
    bias = np.append(coded.bias, 0).astype(np.int32)[order]
    scale = np.append(coded.scale, 0).astype(np.float32)[order]
    return np.ascontiguousarray(np.concatenate(
        [np.ascontiguousarray(weights).view(np.uint32), bias.view(np.uint32), scale.view(np.uint32)], axis=1))


def unpack_groups(stream: Array, lanes: int, shape: tuple[int, int]) -> Coded:
    """The inverse of `pack_groups` for weights of `shape` [O, K]."""
    outputs, inputs = shape
    steps, groups = -(-inputs // 16), len(stream)
    bytes_ = np.ascontiguousarray(stream[:, :4 * steps * lanes]).view(np.int8)
    weights = bytes_.reshape(groups, steps, lanes, 16).transpose(0, 2, 1, 3).reshape(groups, lanes, -1)
    chosen = group_channels(outputs, lanes)
    weight, bias = np.zeros((outputs + 1, inputs), np.int8), np.zeros(outputs + 1, np.int64)
    scale = np.zeros(outputs + 1, np.float32)
    weight[chosen] = weights[:, :, steps * 16 - inputs:]
    order = chosen[:, _ORDER[lanes]]
    rest = np.ascontiguousarray(stream[:, 4 * steps * lanes:])
    bias[order] = rest[:, :lanes].view(np.int32)
    scale[order] = np.ascontiguousarray(rest[:, lanes:]).view(np.float32)
    return Coded(weight[:outputs], bias[:outputs], scale[:outputs])
