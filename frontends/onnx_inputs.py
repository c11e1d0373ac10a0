"""Fixes the shapes of a model's inputs: everything behind them is static.

    x: float[N, 3, H, 96]  with  --input-dim H=96   ->   tensor<1x3x96x96xf32>

The first dimension is the batch and becomes 1 where the model leaves it open. Any other open dimension is an error that
names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from tinyir.diag import CompileError, Diagnostic, NamedLoc, Unsupported, did_you_mean, error
from tinyir.pass_manager import Context
from tinyir.types import Shape, TensorType

from .onnx_node import element_type

__all__ = ["input_types"]

BATCH = 1
Dim = onnx.TensorShapeProto.Dimension


def input_types(inputs: Sequence[onnx.ValueInfoProto], dims: Mapping[str, int], shapes: Mapping[str, Shape],
                ctx: Context) -> list[TensorType]:
    """The type of each input. `dims` fixes symbols, `shapes` whole inputs. Raises CompileError."""
    for info in inputs:
        if not info.type.HasField("tensor_type"):
            kind = info.type.WhichOneof("value") or "value without a type"
            raise Unsupported((Diagnostic("error", f"the input {info.name!r} is not a tensor but a {kind}",
                                          NamedLoc(info.name)),))
    symbols = {d.dim_param for info in inputs for d in info.type.tensor_type.shape.dim if d.dim_param}
    _check_known("--input-dim", dims, symbols, "a symbolic dimension")
    _check_known("--input-shape", shapes, {i.name for i in inputs}, "an input")
    batch = {d.dim_param for info in inputs for d in info.type.tensor_type.shape.dim[:1]
             if d.dim_param and info.name not in shapes and d.dim_param not in dims}
    fixed = {**dict.fromkeys(sorted(batch), BATCH), **dims}
    for symbol in sorted(batch):
        ctx.remark(f"the dimension {symbol!r} is the batch: fixed to {BATCH}")
    return [_type(info, fixed, shapes.get(info.name)) for info in inputs]


def _check_known(flag: str, given: Mapping[str, object], known: set[str], what: str) -> None:
    for name in given:
        if name not in known:
            raise error(f"{flag}: {name!r} is not {what} of the model",
                        help=did_you_mean(name, known) or f"the model has no {what.partition(' ')[2]}")


def _type(info: onnx.ValueInfoProto, fixed: Mapping[str, int], wanted: Shape | None) -> TensorType:
    tensor = info.type.tensor_type
    dtype = element_type(tensor.elem_type, f"the input {info.name!r}")
    if not tensor.HasField("shape"):
        if wanted is None:
            raise error(f"the input {info.name!r} has no shape", loc=NamedLoc(info.name),
                        help=f"say it: --input-shape {info.name}=1x3x96x96")
        return TensorType(_positive(info.name, wanted), dtype)
    if wanted is not None:
        return TensorType(_positive(info.name, _matched(info.name, tensor.shape.dim, wanted)), dtype)
    shape = tuple(_dimension(info, axis, fixed) for axis in range(len(tensor.shape.dim)))
    return TensorType(_positive(info.name, shape), dtype)


def _matched(name: str, declared: Sequence[Dim], wanted: Shape) -> Shape:
    """`wanted`, if it agrees with what the model says about the input."""
    static = [d.dim_value if d.dim_value > 0 else None for d in declared]
    if len(static) != len(wanted) or any(s not in (None, w) for s, w in zip(static, wanted, strict=True)):
        raise error(f"--input-shape: {name}={_text(wanted)} does not fit the model, where it is {_declared(declared)}",
                    loc=NamedLoc(name))
    return wanted


def _dimension(info: onnx.ValueInfoProto, axis: int, fixed: Mapping[str, int]) -> int:
    dim = info.type.tensor_type.shape.dim[axis]
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    if dim.dim_param in fixed:
        return fixed[dim.dim_param]
    if axis == 0:
        return BATCH
    raise _dynamic(info, axis)


def _dynamic(info: onnx.ValueInfoProto, axis: int) -> CompileError:
    declared = info.type.tensor_type.shape.dim
    symbol = declared[axis].dim_param
    example = _text(tuple(d.dim_value if d.dim_value > 0 else 1 if i == 0 else 96 for i, d in enumerate(declared)))
    which = f"dimension {axis} ({symbol!r})" if symbol else f"dimension {axis}, which has no name,"
    flags = f"--input-dim {symbol}=96 or " if symbol else ""
    return error(f"{which} of the input {info.name!r} is dynamic: it is {_declared(declared)}, expected fixed sizes",
                 loc=NamedLoc(info.name), help=f"fix it with {flags}--input-shape {info.name}={example}")


def _positive(name: str, shape: Shape) -> Shape:
    if all(d > 0 for d in shape):
        return shape
    if min(shape) == 0:
        raise Unsupported((Diagnostic("error", f"the input {name!r} has the shape {_text(shape)}: no elements at all",
                                      NamedLoc(name), help=f"fix it with --input-shape {name}=1x3x96x96"),), (name,))
    raise error(f"the input {name!r} has the shape {_text(shape)}, with a negative dimension",
                loc=NamedLoc(name), help=f"fix it with --input-shape {name}=1x3x96x96 (its true shape)")


def _declared(dims: Sequence[Dim]) -> str:
    return "[" + ", ".join(d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in dims) + "]"


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
