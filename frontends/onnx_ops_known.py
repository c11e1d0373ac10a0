"""Converters: what exists at compile time only, in numpy. No op of the IR comes out of these.

    Constant, Shape, Size, Range, ConstantOfShape, comparisons, logic, Where, ...

Exported models compute shapes with them: Shape(x) is known, since all shapes are static, and so is all that follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyir.ir import Array
from tinyir.types import DType

from .onnx_node import Known, Node, Produced, converts, element_type

__all__: list[str] = []


@converts("Constant")
def constant(node: Node) -> Produced:
    given = next(iter(node.given_attributes()), "nothing")
    if given == "value":
        return node.tensor("value")
    kinds: dict[str, Any] = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64,
                             "value_ints": np.int64}
    if given not in kinds:
        raise node.unsupported(f"with the attribute {given!r}")
    return np.asarray(node.attribute(given), dtype=kinds[given])


@converts("Shape")
def shape(node: Node) -> Produced:
    dims = np.asarray(node.shape(0), np.int64)
    end = node.attribute("end")
    return dims[slice(node.integer("start", 0), None if end is None else int(end))]


@converts("Size")
def size(node: Node) -> Produced:
    return np.asarray(np.prod(node.shape(0), dtype=np.int64))


@converts("ConstantOfShape")
def constant_of_shape(node: Node) -> Produced:
    value = node.tensor("value") if "value" in node.given_attributes() else np.zeros(1, np.float32)
    dims = node.integers(0, "the shape") or ()
    if any(d < 0 for d in dims):
        raise node.error(f"the shape {list(dims)} has a negative dimension")
    node.check_size(dims)
    return np.full(dims, value.reshape(-1)[0], value.dtype)


@converts("Range")
def arange(node: Node) -> Produced:
    node.integer("stash_type", 1)  # about 16-bit floats
    start, limit, delta = (node.array(i, what).reshape(()) for i, what in enumerate(("start", "limit", "delta")))
    if delta == 0:
        raise node.error("delta is 0")
    count = max(int(np.ceil((limit.astype(np.float64) - start) / delta)), 0)
    node.check_size([count])
    return np.asarray(start + np.arange(count).astype(start.dtype) * delta, start.dtype)


@converts("EyeLike")
def eye_like(node: Node) -> Produced:
    code = node.attribute("dtype")
    dtype: DType = node.dtype(0) if code is None else element_type(int(code), "the result of EyeLike")
    rows, columns = node.shape(0)
    return np.eye(rows, columns, node.integer("k", 0), dtype=dtype.numpy)


_BINARY: dict[str, Callable[[Array, Array], Any]] = {
    "Equal": np.equal, "Greater": np.greater, "Less": np.less, "GreaterOrEqual": np.greater_equal,
    "LessOrEqual": np.less_equal, "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
}


@converts(*_BINARY, "Not", "Where", "Mod", "NonZero", "IsNaN")
def evaluated(node: Node) -> Produced:
    arrays = [node.array(i, f"input {i}") for i in range(len(node.inputs)) if node.has(i)]
    if node.op_type in _BINARY:
        return np.asarray(_BINARY[node.op_type](*arrays))
    return _KNOWN[node.op_type](node, *arrays)


def _mod(node: Node, a: Known, b: Known) -> Known:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.fmod(a, b) if node.integer("fmod", 0) else np.mod(a, b))


def _non_zero(node: Node, x: Known) -> Known:
    return np.asarray(np.nonzero(np.atleast_1d(x)), np.int64)


def _where(node: Node, condition: Known, x: Known, y: Known) -> Known:
    return np.asarray(np.where(condition, x, y))


_KNOWN: dict[str, Callable[..., Known]] = {
    "Not": lambda node, x: np.logical_not(x),
    "Where": _where,
    "Mod": _mod,
    "NonZero": _non_zero,
    "IsNaN": lambda node, x: np.isnan(x),
}
