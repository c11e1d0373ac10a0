"""What a converter sees: one ONNX node, its inputs as IR values or known arrays, and a place to put ops.

    @converts("Relu")
    def relu(node: Node) -> Produced:
        return node.emit(Relu(node.value(0)))

A converter returns what the node produces: IR values, or arrays for what is known already (`Shape` of a static tensor).
When all inputs of a node are known, its ops go to a scratch block and are evaluated at once by their own reference, so
the arithmetic is that of the IR; no chain of shape operators reaches the module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import onnx

from tinyir.diag import CompileError, Diagnostic, NamedLoc, Unsupported, error
from tinyir.ir import Array, Block, Const, Module, Value, sanitise
from tinyir.opdef import Op
from tinyir.ops import Dequantize
from tinyir.rewrite import Builder
from tinyir.types import DType, Shape, dtype_of

from .onnx_model import GraphNode, tensor_array
from .onnx_stored import Dequantized, is_stored_form, stored_parts

__all__ = ["CONVERTERS", "Converter", "Known", "Node", "Operand", "Produced", "Site", "converts", "element_type"]

Known = Array
Operand = Value | Known
Produced = Operand | Sequence[Operand]
Function = TypeVar("Function", bound="Callable[[Node], Produced]")
Converter: TypeAlias = "Callable[[Node], Produced]"
LARGEST = 2**31 - 1
"""Elements of the largest tensor: what a 32-bit index in C can count."""
CONVERTERS: dict[str, Converter] = {}
"""Converters of the default domain, by ONNX operator."""


def converts(*operators: str) -> Callable[[Function], Function]:
    """Register a function as the converter of `operators`."""

    def register(function: Function) -> Function:
        for operator in operators:
            CONVERTERS[operator] = function
        return function

    return register


def element_type(code: int, what: str) -> DType:
    """The IR's element type for ONNX's `code` (a TensorProto.DataType). Raises Unsupported when there is none."""
    name = onnx.TensorProto.DataType.Name(code) if code in onnx.TensorProto.DataType.values() else str(code)
    try:
        return dtype_of(onnx.helper.tensor_dtype_to_np_dtype(code))
    except (KeyError, TypeError, ValueError):
        raise Unsupported((Diagnostic("error", f"{what} has elements of type {name}, which is not supported", notes=(
            "supported: float16, float, double, int8 to int64, uint8 to uint64, bool",)),)) from None


class Site:
    """Where ops are put: the module's main function, or a scratch block for what is evaluated at once."""

    def __init__(self, module: Module, block: Block, scratch: bool = False) -> None:
        self.scratch = scratch
        self.builder = Builder(module, block)
        self._consts: dict[tuple[str, str], Const] = {}

    def const(self, name: str, array: Array, kind: str = "") -> Const:
        """`array` as a constant called `name`; the same one for the same name and `kind` (of its layout)."""
        key = (name, kind)
        if key not in self._consts:
            array, type_ = stored_parts(array) if is_stored_form(array) else (array, None)
            self._consts[key] = self.builder.const(name, np.ascontiguousarray(array).reshape(np.shape(array)), type_)
        return self._consts[key]


class Facts(Protocol):
    """What the importer knows about the graph around a node."""

    def origins(self, name: str) -> tuple[str, ...]:
        """The inputs of the graph that the tensor `name` depends on."""

    def is_stored(self, name: str) -> bool:
        """Whether the tensor `name` comes from the file as it is."""


class Node:
    """One node of the graph, on behalf of its converter."""

    def __init__(self, node: GraphNode, opset: int, inputs: Sequence[Operand | None], site: Site, facts: Facts) \
            -> None:
        self._node = node
        self.proto = node.proto
        self.op_type = node.proto.op_type
        self.name = node.name
        self.opset = opset
        self.inputs = inputs
        self.loc = NamedLoc(node.name)
        self._site = site
        self._facts = facts
        self._attributes = {a.name: a for a in node.proto.attribute}
        self._used: set[str] = set()

    # -- inputs ------------------------------------------------------------------------------------------------------

    def has(self, index: int) -> bool:
        """Whether input number `index` is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def operand(self, index: int) -> Operand:
        """Input number `index`, which the node needs."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise error(f"{self.op_type} needs input number {index}", loc=self.loc)
        return found

    def input_name(self, index: int) -> str:
        return str(self.proto.input[index])

    def value(self, index: int) -> Value:
        """Input number `index` as a value of the IR; what is known becomes a constant."""
        operand = self.operand(index)
        return operand if isinstance(operand, Value) else self.materialise(operand, self.input_name(index))

    def values(self) -> list[Value]:
        """All inputs."""
        return [self.value(index) for index in range(len(self.inputs))]

    def shape(self, index: int = 0) -> Shape:
        return tuple(self.operand(index).shape)

    def rank(self, index: int = 0) -> int:
        return len(self.shape(index))

    def dtype(self, index: int = 0) -> DType:
        operand = self.operand(index)
        return operand.type.dtype if isinstance(operand, Value) else dtype_of(operand.dtype)

    def known(self, index: int) -> Known | None:
        """The elements of input number `index` if they are known, else None."""
        operand = self.inputs[index] if index < len(self.inputs) else None
        return None if operand is None or isinstance(operand, Value) else operand

    def array(self, index: int, what: str) -> Known:
        """The elements of input number `index`. Raises Unsupported, calling it `what`, if they are not known."""
        operand = self.operand(index)
        if isinstance(operand, Value):
            name = self.input_name(index)
            raise self.unsupported(f"{what} ({name!r}) has to be a constant", inputs=self._facts.origins(name))
        return operand

    def optional_array(self, index: int, what: str) -> Known | None:
        """The elements of input number `index`, or None if it is absent."""
        return self.array(index, what) if self.has(index) else None

    def integers(self, index: int, what: str) -> tuple[int, ...] | None:
        """Input number `index` as a list of integers, or None if it is absent."""
        found = self.optional_array(index, what)
        return None if found is None else tuple(int(v) for v in found.reshape(-1))

    def weight(self, index: int, what: str, scaled: float = 1.0) -> Known:
        """The elements of a trained parameter, times `scaled`; NaN and infinity are errors there.

        A weight that is stored as integers comes in the structured form of `onnx_stored`, to be turned and sliced only.
        """
        array = self.array(index, what)
        if isinstance(array, Dequantized) and array.elements is not None and scaled == 1:
            return array.elements
        self._check_finite(array, what, self.input_name(index))
        return array if scaled == 1 else array * array.dtype.type(scaled)

    def _check_finite(self, array: Known, what: str, name: str) -> None:
        if array.dtype.kind != "f" or bool(np.isfinite(array).all()):
            return
        bad = array[~np.isfinite(array)]
        raise error(f"{what} {name!r} has {bad.size} values that are not finite, of {array.size} (first: {bad[0]})",
                    loc=self.loc, help="the training diverged, or the file is damaged")

    # -- attributes --------------------------------------------------------------------------------------------------

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute as Python has it (bytes as str), or `default`."""
        self._used.add(name)
        if name not in self._attributes:
            return default
        value = onnx.helper.get_attribute_value(self._attributes[name])
        return value.decode() if isinstance(value, bytes) else value

    def integer(self, name: str, default: int) -> int:
        return int(self.attribute(name, default))

    def number(self, name: str, default: float) -> float:
        """A float attribute, as the shortest decimal that means the same single-precision number."""
        return float(str(np.float32(self.attribute(name, default))))

    def text(self, name: str, default: str) -> str:
        return str(self.attribute(name, default))

    def ints(self, name: str) -> tuple[int, ...] | None:
        found = self.attribute(name)
        return None if found is None else tuple(int(v) for v in found)

    def given_attributes(self) -> Iterable[str]:
        return self._attributes

    def tensor(self, name: str) -> Known:
        """An attribute that is a tensor."""
        self._used.add(name)
        return tensor_array(self._attributes[name].t, f"the attribute {name!r} of node {self.name!r}")

    def check_attributes(self) -> None:
        """Raise Unsupported if the converter did not look at some attribute: it would be ignored silently."""
        ignored = sorted(set(self._attributes) - self._used)
        if ignored:
            raise self.unsupported(f"the attribute {ignored[0]!r} is not known")

    # -- outputs -----------------------------------------------------------------------------------------------------

    def wants(self, index: int) -> bool:
        """Whether output number `index` has a name, so that somebody may read it."""
        return index < len(self.proto.output) and bool(self.proto.output[index])

    def base(self, index: int = 0) -> str:
        """The name for values that make up output number `index`."""
        return sanitise(self.proto.output[index]) if self.wants(index) else sanitise(self.name)

    def emit(self, op: Op, name: str | None = None, index: int = 0) -> Value:
        """Put `op` into the module, its result called `name` or after output number `index`."""
        op.loc = self.loc
        op.verify()
        self.check_size(op.results[0].type.shape)
        return self._site.builder.add(op, name=name or self.base(index), loc=self.loc).out

    def check_size(self, shape: Iterable[int]) -> None:
        """Raise an error for a tensor that no 32-bit machine can hold, before anything tries to make it."""
        dims = list(shape)
        if math.prod(dims) > LARGEST:
            raise self.error(f"the result of shape {dims} has {math.prod(dims)} elements, more than {LARGEST}")

    def const(self, suffix: str, array: Array) -> Const:
        """A constant that belongs to this node alone, called after its output."""
        return self._site.const(f"{self.base()}.{suffix}", array)

    def weight_const(self, index: int, array: Array, kind: str) -> Value:
        """`array`, the elements of input number `index` in a layout called `kind`, as a constant with its name."""
        return self._real(self._site.const(self.input_name(index), array, kind))

    def _real(self, const: Const) -> Value:
        """A constant as real values: behind a dequantize if it is stored as integers."""
        return const if const.type.quant is None else self.emit(Dequantize(const), f"{sanitise(const.name)}_real")

    def materialise(self, array: Known, name: str) -> Value:
        """A known tensor of the graph as a constant.

        Stored weights have to be finite; masks (Add), bounds (Min, Max) and what the model computes may be infinite.
        """
        if not array.size:
            raise self.unsupported(f"{name!r} has no elements: its shape is {list(array.shape)}")
        if isinstance(array, Dequantized) and array.elements is not None and not self._site.scratch:
            return self._real(self._site.const(name, array.elements, "stored"))
        mask = self.op_type in ("Add", "Min", "Max") and not bool(np.isnan(array).any())
        if self._facts.is_stored(name) and not mask and not self._site.scratch:
            self._check_finite(array, "the constant", name)
        return self._site.const(name, array)

    def as_operator(self, operator: str, inputs: Sequence[tuple[str, Operand]], ignored: Iterable[str] = (),
                    opset: int | None = None) -> Value:
        """What another operator makes of `inputs` (name, operand), with this node's attributes except `ignored`."""
        proto = onnx.NodeProto()
        proto.CopyFrom(self.proto)
        del proto.input[:], proto.attribute[:]
        proto.op_type, proto.domain = operator, ""
        proto.input.extend(name for name, _ in inputs)
        proto.attribute.extend(a for a in self.proto.attribute if a.name not in ignored)
        self._used.update(self._attributes)
        node = replace(self._node, proto=proto)
        inner = Node(node, opset or self.opset, [operand for _, operand in inputs], self._site, self._facts)
        produced = CONVERTERS[operator](inner)
        inner.check_attributes()
        if not isinstance(produced, (Value, np.ndarray)):
            raise self.unsupported(f"more than one result of {operator}")
        return produced if isinstance(produced, Value) else inner.materialise(produced, self.base())

    def unsupported(self, message: str, *, inputs: tuple[str, ...] = ()) -> Unsupported:
        """An error to raise: the node is well formed, but this about it is not supported."""
        return Unsupported((Diagnostic("error", f"{self.op_type}: {message}", self.loc),), inputs)

    def error(self, message: str) -> CompileError:
        """An error to raise: the node makes no sense."""
        return error(f"{self.op_type}: {message}", loc=self.loc)

    def axis(self, axis: int, rank: int) -> int:
        """`axis` counted from the front. Raises CompileError if there is no such axis."""
        if not -rank <= axis < max(rank, 1):
            raise self.error(f"axis {axis} does not exist in a tensor of rank {rank}")
        return axis + rank if axis < 0 else axis
