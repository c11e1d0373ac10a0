"""Turn the network on its side: what runs row by row afterwards goes through the columns of the images.

    %i = nn.transpose(%x) {perm = [0, 2, 3, 1]} : tensor<1x2x96x3xf32>                         48 rows of ...
    %y = nn.conv2d(%i, @w, none) {stride = [1, 2], pad = [1, 0, 1, 0]} : tensor<1x2x48x8xf32>
        ->
    %i = nn.transpose(%x) {perm = [0, 3, 2, 1]} : tensor<1x96x2x3xf32>
    %y = nn.conv2d(%i, @w_1, none) {stride = [2, 1], pad = [0, 1, 0, 1]} : tensor<1x48x2x8xf32>

For images that are wider than high: rings of columns are shorter than rings of rows. Windows, strides, padding and
weights are turned; images are turned where they come in, and back in front of what is not about rows and columns.
Integers keep every bit; floats are summed in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from tinyir.ir import Argument, Const, Func, Level, Module, Value
from tinyir.opdef import Op
from tinyir.ops import (
    AvgPool,
    Concat,
    Conv2D,
    ConvTranspose2D,
    DepthwiseConv2D,
    Elementwise,
    MaxPool,
    Pad,
    QAvgPool,
    QConcat,
    QConv2D,
    QDepthwiseConv2D,
    QReduceMean,
    QResize,
    Reduce,
    Resize,
    Slice,
    Transpose,
)
from tinyir.ops.base import AlongAxis
from tinyir.pass_manager import Context, Pass
from tinyir.rewrite import Rewriter
from tinyir.types import TensorType

_WINDOWS = (Conv2D, QConv2D, ConvTranspose2D, DepthwiseConv2D, QDepthwiseConv2D, MaxPool, AvgPool, QAvgPool)
_PAIRS = ("stride", "dilation", "kernel", "output_pad", "ceil_pad", "scales")
_SWAP = (0, 2, 1, 3)
_AXES = {0: 0, 1: 2, 2: 1, 3: 3}


class ScanColumns(Pass):
    """Swap the rows and columns of all images."""

    name = "scan-columns"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")

    def run(self, module: Module, ctx: Context) -> None:
        rewriter = self.rewriter(module, ctx)
        for func in module.funcs.values():
            _Turner(func, rewriter).run()
        module.drop_unused_consts()


def _is_image(value: Value) -> bool:
    return value.type.rank == 4 and value.shape[0] == 1


def _swapped(type_: Any) -> TensorType:
    shape = type_.shape
    return TensorType((shape[0], shape[2], shape[1], shape[3]), type_.dtype, type_.quant)


class _Turner:
    """Goes through a function; `turned` has, for each image that is on its side, the value that is."""

    def __init__(self, func: Func, rewriter: Rewriter) -> None:
        self.func = func
        self.rewriter = rewriter
        self.turned: dict[Value, Value] = {}

    def run(self) -> None:
        for op in list(self.func.ops):
            made = self._turn(op)
            if made is not None:
                self.rewriter.insert_before(op, made, name=op.out.name)
                made.loc = op.loc
                self.turned[op.out] = made.out
            else:
                self._turn_back(op)
        for op in reversed(list(self.func.ops)):
            if op.block is not None and op.results and op.pure and not any(r.uses for r in op.results):
                self.rewriter.erase(op)

    def _turn(self, op: Op) -> Op | None:
        """The op on turned images, if it can be."""
        if isinstance(op, Transpose):
            begins = op.perm == (0, 2, 3, 1) and _is_image(op.out) and op.x not in self.turned
            return Transpose(op.x, (0, 3, 2, 1)) if begins else None
        begins = isinstance(op, _WINDOWS) and isinstance(op.operands[0], Argument)
        if len(op.results) != 1 or not _is_image(op.out) or not (begins or any(v in self.turned for v in op.reads)):
            return None
        if isinstance(op, _WINDOWS):
            return self._clone(op, self._window_attrs(op), self._weight)
        if isinstance(op, Resize):
            return self._clone(op, self._window_attrs(op), self._image)
        if isinstance(op, QResize):
            return self._clone(op, {**self._window_attrs(op), "turned": not op.turned}, self._image)
        if isinstance(op, (AlongAxis, Concat)):
            return self._clone(op, {"axis": _AXES[op.axis % 4]}, self._image)
        if isinstance(op, (Pad, Slice)):
            amounts = {"before": op.before, "after": op.after} if isinstance(op, Pad) else \
                {"begin": op.begin, "step": op.step}
            return self._clone(op, {n: (a[0], a[2], a[1], a[3]) for n, a in amounts.items()}, self._image)
        if isinstance(op, (Reduce, QReduceMean)):
            return self._clone(op, {"axes": tuple(sorted(_AXES[a % 4] for a in op.axes))}, self._image)
        if isinstance(op, (Elementwise, QConcat)) and all(_turns(v) for v in op.reads):
            return self._clone(op, {}, self._image)
        return None

    def _window_attrs(self, op: Op) -> dict[str, Any]:
        attrs = {name: tuple(reversed(getattr(op, name))) for name in _PAIRS if op.schema.attr(name) is not None}
        if op.schema.attr("pad") is not None:
            top, left, bottom, right = op.attrs["pad"]
            attrs["pad"] = (left, top, right, bottom)
        return attrs

    def _clone(self, op: Op, attrs: dict[str, Any], operand: Callable[[Op, int, Value], Value]) -> Op:
        groups, index = [], 0
        for group in op.operand_groups:
            made: list[Value | None] = []
            for value in group:
                made.append(None if value is None else operand(op, index, value))
                index += 1
            groups.append(made)
        return type(op).build(groups, {**op.attrs, **attrs}, [_swapped(op.out.type)], (), op.loc)

    def _weight(self, op: Op, index: int, value: Value) -> Value:
        """Operand number `index` of an op with a window: the weights have rows and columns too."""
        if index == 0:
            return self._image(op, index, value)
        axes = {3: (1, 0, 2), 4: (0, 2, 1, 3)}.get(value.type.rank)
        return value if axes is None else self._turned_const(value, axes)

    def _turned_const(self, value: Value, axes: Sequence[int]) -> Value:
        data = value.data
        if not isinstance(value, Const) or data is None:
            return value
        shape = tuple(value.shape[a] for a in axes)
        return self.rewriter.const(np.ascontiguousarray(data.transpose(axes)), value.stem, value.loc,
                                   TensorType(shape, value.type.dtype, value.type.quant))

    def _image(self, op: Op, index: int, value: Value) -> Value:
        """An operand on its side: a value that is, a constant that is turned now, or what has no rows and columns."""
        if value in self.turned:
            return self.turned[value]
        if value.type.rank != 4 or value.shape[1:3] == (1, 1):
            return value
        if isinstance(value, Const):
            return self._turned_const(value, _SWAP)
        turned = self.rewriter.insert_before(op, Transpose(value, _SWAP), name=value.name)
        self.turned[value] = turned.out
        return turned.out

    def _turn_back(self, op: Op) -> None:
        """Let an op that stays as it is read images as they were."""
        for index, value in enumerate(op.operands):
            turned = self.turned.get(value) if value is not None else None
            if turned is None or value is None:
                continue
            if isinstance(op, Transpose) and op.perm == (0, 3, 1, 2):
                self.rewriter.replace(op, Transpose(turned, (0, 3, 2, 1)))
                return
            if value.shape[1:3] == (1, 1):
                self.rewriter.set_operand(op, index, turned)
                continue
            back = Transpose(turned, _SWAP)
            if turned.op is not None and value.users == [op]:  # so that it can leave while it is computed
                self.rewriter.insert_after(turned.op, back, name=value.name)
            else:
                self.rewriter.insert_before(op, back, name=value.name)
            self.rewriter.set_operand(op, index, back.out)


def _turns(value: Value) -> bool:
    """Whether an operand of an element-wise op is an image, or one vector for all pixels."""
    return _is_image(value) or value.type.rank <= 1
