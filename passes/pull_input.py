"""Let the application hand over inputs in another way than by a pointer to its own buffer: row by row, or in the arena.

    func @main(%x: tensor<1x3x96x96xf32>) -> ...
      %t = nn.transpose(%x) {perm = [0, 2, 3, 1]} : tensor<1x96x96x3xf32>
      %c = nn.conv2d(%t, @w, @b) : tensor<1x94x94x8xf32>
        ->
    func @main(%x: tensor<1x96x96x3xf32>) -> ...
      %t = sched.pull(%x) : tensor<1x96x96x3xf32>
      %c = nn.conv2d(%t, @w, @b) : tensor<1x94x94x8xf32>

A row has its channels last, whatever the order of axes in the model file: the type of the input changes, and the
module's attribute `nhwc` names it. Inputs that the network reshapes to an image come as rows of that. Others (vectors,
several images in one) stay pointers; a remark says so. It is an error if no input has rows.

Behind this pass the rows are due in order, so images cannot be scanned by columns.

hold-input does the same with `sched.hold`, for every input: the application writes it into the arena.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from tinyir.diag import error
from tinyir.ir import Argument, Level, Module, Value
from tinyir.opdef import Op
from tinyir.ops import Hold, Pull, Quantize, Reshape, Transpose
from tinyir.pass_manager import Context, Pass
from tinyir.rewrite import Rewriter
from tinyir.types import TensorType

from ._values import tensor_type

_TO_NHWC = (0, 2, 3, 1)
_TO_NCHW = (0, 3, 1, 2)


class PullInput(Pass):
    """Ask the application for the rows of input images, one after the other."""

    name = "pull-input"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")
    to_level: ClassVar[Level] = "sched"

    def run(self, module: Module, ctx: Context) -> None:
        rewriter = self.rewriter(module, ctx)
        pulled = [argument for argument in module.main.inputs if _pull(argument, rewriter)]
        if not pulled:
            kinds = ", ".join(f"%{a.name}: {a.type_}" for a in module.main.inputs)
            raise error("no input of the model is an image of more than one row, so none can be handed over by rows",
                        notes=(f"inputs: {kinds}",), help="leave --input rows out: run() takes pointers then")
        for argument in module.main.inputs:
            if argument not in pulled:
                ctx.remark(f"pull-input: input %{argument.name} stays a pointer: it is no image of more than one row",
                           argument.loc)
        ctx.stat("pulled", len(pulled))
        module.version += 1


class HoldInput(Pass):
    """Let inputs lie in the arena, where their bytes are used again as soon as they have been read."""

    name = "hold-input"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")
    to_level: ClassVar[Level] = "sched"

    def run(self, module: Module, ctx: Context) -> None:
        rewriter = self.rewriter(module, ctx)
        for argument in module.main.inputs:
            turned = _prepare(argument, rewriter)
            image = _image_type(argument, turned)
            _put_behind(argument, image or tensor_type(argument), turned and image is not None, Hold, rewriter, "held")
        module.version += 1


def _prepare(argument: Argument, rw: Rewriter) -> bool:
    """Move what stands in the way; whether the network turns the input to NHWC."""
    _move_in_front_of_quantize(argument, rw)
    return any(isinstance(user, Transpose) and user.perm == _TO_NHWC for user in argument.users)


def _pull(argument: Argument, rw: Rewriter) -> bool:
    """Put a pull behind the argument, if it is an image."""
    turned = _prepare(argument, rw)
    type_ = _image_type(argument, turned)
    if type_ is not None:
        _put_behind(argument, type_, turned, Pull, rw)
    return type_ is not None


def _put_behind(argument: Argument, type_: TensorType, turned: bool, make: Callable[..., Op], rw: Rewriter,
                suffix: str = "rows") -> None:
    """Let the readers of the argument read the op that `make` makes of it, of this type."""
    users = [(use.op, use.index) for use in argument.uses]
    if turned:
        argument.type_ = type_
        names = rw.module.attrs.get("nhwc", ())
        rw.module.attrs["nhwc"] = (*names, argument.name) if isinstance(names, tuple) else (argument.name,)
    made = rw.insert_before(rw.module.main.ops[0], make(argument, result=type_), name=f"{argument.name}_{suffix}")
    made.loc = argument.loc
    for op, index in users:
        if isinstance(op, (Transpose, Reshape)) and op.out.type == type_:
            rw.replace(op, made.results[0])
        else:
            rw.set_operand(op, index, _as_before(op, made.results[0], argument, turned, rw))


def _as_before(op: Op, image: Value, argument: Argument, turned: bool, rw: Rewriter) -> Value:
    """What `op` read before the argument became `image`."""
    if turned:
        return rw.insert_before(op, Transpose(image, _TO_NCHW), name=argument.name).results[0]
    if image.type == argument.type:
        return image
    return rw.insert_before(op, Reshape(image, result=tensor_type(argument)), name=argument.name).results[0]


def _image_type(argument: Argument, turned: bool) -> TensorType | None:
    """The image that the network takes the argument for, if it has more than one row."""
    type_ = tensor_type(argument)
    if turned:
        shapes = [tuple(type_.shape[axis] for axis in _TO_NHWC)]
    else:  # what it is reshaped to first: one channel may come before or behind rows and columns
        readers = sorted(argument.users, key=lambda user: isinstance(user, Reshape))
        shapes = [user.out.shape if isinstance(user, Reshape) else type_.shape for user in readers]
    images = [shape for shape in shapes if len(shape) == 4 and shape[0] == 1 and shape[1] > 1]
    return TensorType(images[0], type_.dtype, type_.quant) if images else None


def _move_in_front_of_quantize(argument: Argument, rw: Rewriter) -> None:
    """An input that is quantised, and turned or reshaped then: the other way round."""
    for quantize in argument.users:
        users = quantize.out.users if isinstance(quantize, Quantize) else []
        stored = quantize.out.type.quant if users else None
        mover = users[0] if len(users) == 1 else None
        if stored is None or stored.axis is not None or not isinstance(mover, (Transpose, Reshape)):
            continue
        result = mover.out.type
        made: Op = Transpose(argument, mover.perm) if isinstance(mover, Transpose) \
            else Reshape(argument, result=TensorType(result.shape, argument.type.dtype))
        first = rw.insert_before(quantize, made, name=argument.name)
        rw.replace(mover, Quantize(first.results[0], result=TensorType(result.shape, result.dtype, stored)))
