"""All op classes, one file a family. Importing this registers them.

Graph level and up: nn.*; mem level: mem.*. Kernel ops (k.*) belong to the backends.
"""

from __future__ import annotations

from .activation import ACTIVATION_ARGS, Activation, activation_of, apply_activation
from .base import Elementwise, NnOp, Spatial
from .conv import BatchNorm, Conv2D, ConvTranspose2D, DepthwiseConv2D
from .eltwise import (
    Abs,
    Add,
    Binary,
    Cast,
    Ceil,
    Clip,
    Div,
    Elu,
    Erf,
    Exp,
    Floor,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Log,
    Maximum,
    Minimum,
    Mul,
    Neg,
    Pow,
    PRelu,
    Reciprocal,
    Relu,
    Round,
    Selu,
    Sigmoid,
    Sign,
    Softplus,
    Softsign,
    Sqrt,
    Sub,
    Tanh,
    Unary,
)
from .func import Return
from .linear import Dense, MatMul
from .mem import Join, Loop, MemReturn, Next, Part, Slot, View, Window
from .pool import AvgPool, MaxPool
from .pull import Hold, Pull
from .qconcat import QConcat
from .qconv import QConv2D, QDense, QDepthwiseConv2D, QMatMul
from .qeltwise import QAdd, QAvgPool, QMul, QReduceMean, QSoftmax
from .qproject import QProject
from .qresize import QResize
from .quant import Dequantize, Lookup, Quantize, Range, Reinterpret
from .reduce import (
    ArgMax,
    ArgMin,
    LogSoftmax,
    Reduce,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
    Softmax,
)
from .resize import Coordinates, NearestRounding, Resampling, Resize
from .sched import Empty, Patch, Stream, Yield
from .shape import BroadcastTo, Concat, Gather, Insert, Pad, PadMode, Reshape, Slice, Tile, Transpose
from .split import ChannelRole, Place, Split, channel_role

__all__ = [
    "ACTIVATION_ARGS", "Abs", "Activation", "Add", "ArgMax", "ArgMin", "AvgPool", "BatchNorm", "Binary", "BroadcastTo",
    "Cast", "Ceil", "ChannelRole", "Clip", "Concat", "Conv2D", "ConvTranspose2D", "Coordinates", "Dense",
    "DepthwiseConv2D", "Dequantize", "Div", "Elementwise", "Elu", "Empty", "Erf", "Exp", "Floor", "Gather", "Gelu",
    "HardSigmoid", "HardSwish", "Hold", "Insert", "Join", "LeakyRelu", "Log", "LogSoftmax", "Lookup", "Loop", "MatMul",
    "MaxPool", "Maximum", "MemReturn", "Minimum", "Mul", "NearestRounding", "Neg", "Next", "NnOp", "PRelu", "Pad",
    "PadMode", "Part", "Patch", "Place", "Pow", "Pull", "QAdd", "QAvgPool", "QConcat", "QConv2D", "QDense",
    "QDepthwiseConv2D", "QMatMul", "QMul", "QProject", "QReduceMean", "QResize", "QSoftmax", "Quantize", "Range",
    "Reciprocal", "Reduce", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Reinterpret", "Relu",
    "Resampling", "Reshape", "Resize", "Return", "Round", "Selu", "Sigmoid", "Sign", "Slice", "Slot", "Softmax",
    "Softplus", "Softsign", "Spatial", "Split", "Sqrt", "Stream", "Sub", "Tanh", "Tile", "Transpose", "Unary", "View",
    "Window", "Yield", "activation_of", "apply_activation", "channel_role",
]
