"""Element-wise kernels: one function of one operand, one of two operands that broadcast, casts, copies, batch norm.

    k.map(%x) -> (%y) {function = sigmoid}               relu, clip, exp, ... of every element
    k.binary(%a, @b) -> (%y) {function = add, act = relu}
    k.map_rows, k.binary_rows                            the same for a span of rows, with ring buffers

A kernel whose result lies in the memory of an operand takes one pointer for both.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import numpy as np

from tinyir import ops
from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, copies, lowers
from tinyir.opdef import Op, Written
from tinyir.ops.activation import Activation, apply_activation

from ..text import c_type, fill
from .base import Argument, Kernel, RowKernel, evaluate
from .loops import broadcast_strides, nest, row_major
from .scalar import activated, binary_expression, unary_expression

__all__ = ["Binary", "BinaryRows", "Cast", "Copy", "Map", "MapRows", "Pointwise"]

MapFunction = Literal[
    "relu", "clip", "leaky_relu", "sigmoid", "tanh", "hard_sigmoid", "hard_swish", "elu", "selu", "softplus",
    "softsign", "gelu", "gelu_tanh", "erf", "exp", "log", "sqrt", "neg", "abs", "reciprocal", "floor", "ceil", "round",
    "sign"]
BinaryFunction = Literal["add", "sub", "mul", "div", "pow", "min", "max", "prelu"]

# The op that each function is, and the attributes that make its arguments.
_UNARY: dict[str, tuple[type[Op], tuple[str, ...]]] = {
    "relu": (ops.Relu, ()), "clip": (ops.Clip, ("low", "high")), "leaky_relu": (ops.LeakyRelu, ("alpha",)),
    "sigmoid": (ops.Sigmoid, ()), "tanh": (ops.Tanh, ()), "hard_sigmoid": (ops.HardSigmoid, ("alpha", "beta")),
    "hard_swish": (ops.HardSwish, ()), "elu": (ops.Elu, ("alpha",)), "selu": (ops.Selu, ()),
    "softplus": (ops.Softplus, ()), "softsign": (ops.Softsign, ()), "gelu": (ops.Gelu, ()), "erf": (ops.Erf, ()),
    "exp": (ops.Exp, ()), "log": (ops.Log, ()), "sqrt": (ops.Sqrt, ()), "neg": (ops.Neg, ()), "abs": (ops.Abs, ()),
    "reciprocal": (ops.Reciprocal, ()), "floor": (ops.Floor, ()), "ceil": (ops.Ceil, ()), "round": (ops.Round, ()),
    "sign": (ops.Sign, ()),
}
_BINARY: dict[str, type[Op]] = {
    "add": ops.Add, "sub": ops.Sub, "mul": ops.Mul, "div": ops.Div, "pow": ops.Pow, "min": ops.Minimum,
    "max": ops.Maximum, "prelu": ops.PRelu,
}


class Pointwise(Kernel):
    """Reads and writes element by element, so that the result may lie on an operand."""

    def pointers(self) -> str:
        """The pointer parameters: operands that share the memory of the result are left out."""
        shared = self.shared()
        names = [f for f in type(self).schema.operands if f.written or f.name not in shared]
        return ", ".join(f"{'' if f.written else 'const '}{c_type(getattr(self, f.name).type.dtype)} *restrict {f.name}"
                         for f in names)

    def arguments(self) -> tuple[Argument, ...]:
        shared = self.shared()
        return tuple(getattr(self, f.name) for f in type(self).schema.operands if f.name not in shared)

    def element(self, operand: str, suffix: str = "") -> str:
        """The name of the array that holds the operand: `y` if it shares the memory of the result."""
        return f"{'y' if operand in self.shared() else operand}{suffix}"


class _MapBase(Pointwise):
    """What k.map and k.map_rows have in common."""

    def stem(self) -> str:
        return f"{self.fields[0]}{'_rows' if isinstance(self, RowKernel) else ''}_{self.x_value.type.dtype}"

    @property
    def fields(self) -> tuple[str, tuple[float, ...]]:
        """Function and its arguments."""
        raise NotImplementedError

    @property
    def x_value(self) -> Value:
        """The operand x."""
        raise NotImplementedError

    def expression(self, x: str) -> str:
        """C expression for one element of the result."""
        function, args = self.fields
        found = unary_expression(function, x, args, self.x_value.type.dtype)
        if found is None:
            raise self.unsupported(function, self.x_value)
        return found

    def compute(self, x: Array) -> Array:
        """The function of every element, by the graph op's own semantics."""
        function, args = self.fields
        if function == "gelu_tanh":
            return evaluate(ops.Gelu, x, approximate="tanh")
        kind, names = _UNARY[function]
        return evaluate(kind, x, **dict(zip(names, args, strict=True)))


@final
class Map(_MapBase, opname="k.map"):
    """y = function(x) for every element."""

    x: Value
    y: Written
    function: MapFunction
    args: tuple[float, ...] = ()

    @property
    def fields(self) -> tuple[str, tuple[float, ...]]:
        return self.function, self.args

    @property
    def x_value(self) -> Value:
        return self.x

    def reuses(self) -> tuple[int, ...]:
        return (0,)

    def reference(self, x: Array, y: Array) -> None:
        y[...] = self.compute(x)

    def arguments(self) -> tuple[Argument, ...]:
        return (*super().arguments(), self.y.type.elements)

    def source(self) -> str:
        return fill("""
            static void {name}({pointers}, int32_t count)
            {
                for (int32_t i = 0; i < count; i++) {
                    y[i] = {value};
                }
            }
        """, pointers=self.pointers(), value=self.expression(self.element("x", "[i]")))


@final
class MapRows(_MapBase, RowKernel, opname="k.map_rows"):
    """y = function(x) for a span of rows."""

    x: Value                               # [1, ring, W, C]
    y: Written                             # [1, ring, W, C]
    function: MapFunction
    rows: tuple[int, int]
    height: int
    args: tuple[float, ...] = ()
    x_base: int = 0
    y_base: int = 0

    @property
    def fields(self) -> tuple[str, tuple[float, ...]]:
        return self.function, self.args

    @property
    def x_value(self) -> Value:
        return self.x

    def reuses(self) -> tuple[int, ...]:
        return (0,)

    def reference(self, x: Array, y: Array) -> None:
        self.write_rows("y", y, self.compute(self.read_rows("x", x)[0]))

    def arguments(self) -> tuple[Argument, ...]:
        return (self.x, self.y, *self.row_arguments())

    def source(self) -> str:
        kind = c_type(self.x.type.dtype)
        return fill("""
            static void {name}(const {kind} *x, {kind} *y, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const {kind} *x_row = {x_row};
                    {kind} *y_row = y + {y_slot} * {pitch};
                    for (int32_t i = 0; i < {length}; i++) {
                        y_row[i] = {value};
                    }
                }
            }
        """, kind=kind, rows=self.row_parameters(), setup=self.row_setup(), x_row=self.address("x", "row"),
            y_slot=self.slot("y", "row"), length=row_length(self.y), pitch=self.pitch("y"),
            value=self.expression("x_row[i]"))


def row_length(value: Value) -> int:
    """Elements of one row of a [N, H, W, C] buffer."""
    return int(np.prod(value.shape[2:]))


class _BinaryBase(Pointwise):
    """What k.binary and k.binary_rows have in common."""

    def assignment(self, function: str, act: str, act_args: tuple[float, ...], value: Value) -> str:
        """Statement(s) that set {y} from {a} and {b}."""
        dtype = value.type.dtype
        result = binary_expression(function, "{a}", "{b}", dtype)
        final_value = activated("value", act, act_args, dtype)
        if result is None or final_value is None:
            raise self.unsupported(function if result is None else act, value)
        if act == "none":
            return f"{{y}} = {result};"
        return f"const {c_type(dtype)} value = {result};\n{{y}} = {final_value};"


def compute_binary(function: str, act: Activation, act_args: tuple[float, ...], a: Array, b: Array) -> Array:
    """The function of every pair, by the graph op's own semantics."""
    return apply_activation(evaluate(_BINARY[function], a, b), act, act_args)


@final
class Binary(_BinaryBase, opname="k.binary"):
    """y = act(function(a, b)), a and b broadcast to y."""

    a: Value
    b: Value
    y: Written
    function: BinaryFunction
    act: Activation = "none"
    act_args: tuple[float, ...] = ()

    def stem(self) -> str:
        act = "" if self.act == "none" else f"_{self.act}"
        return f"{self.function}{act}_{self.a.type.dtype}"

    def reuses(self) -> tuple[int, ...]:
        return tuple(i for i, v in enumerate((self.a, self.b)) if v.shape == self.y.shape)

    def reference(self, a: Array, b: Array, y: Array) -> None:
        y[...] = compute_binary(self.function, self.act, self.act_args, a, b)

    def arguments(self) -> tuple[Argument, ...]:
        return (*super().arguments(), *((self.y.type.elements,) if self._same_shape() else ()))

    def _same_shape(self) -> bool:
        return self.a.type.elements == self.b.type.elements == self.y.type.elements

    def source(self) -> str:
        body = self.assignment(self.function, self.act, self.act_args, self.a)
        if self._same_shape():
            body = fill(body, y="y[i]", a=self.element("a", "[i]"), b=self.element("b", "[i]"))
            loops = fill("for (int32_t i = 0; i < count; i++) {\n    {body}\n}", body=body)
            return _function(self.pointers() + ", int32_t count", loops)
        out = self.y.shape
        strides = {"y": row_major(out), "a": broadcast_strides(self.a.shape, out),
                   "b": broadcast_strides(self.b.shape, out)}
        body = fill(body, **{name: "{y}" for name in self.shared()})
        return _function(self.pointers(), nest(out, strides, body))


def _function(parameters: str, body: str) -> str:
    return fill("static void {name}({parameters})\n{\n    {body}\n}", parameters=parameters, body=body)


@final
class BinaryRows(_BinaryBase, RowKernel, opname="k.binary_rows"):
    """y = act(function(a, b)) for a span of rows; an operand that does not `follow` y is the same for each row."""

    rings: ClassVar[tuple[str, ...]] = ("a", "b", "y")

    a: Value                               # [1, ring, W, C], or what broadcasts to [W, C]
    b: Value
    y: Written                             # [1, ring, W, C]
    function: BinaryFunction
    rows: tuple[int, int]
    height: int
    follow: tuple[bool, bool] = (True, True)
    act: Activation = "none"
    act_args: tuple[float, ...] = ()
    a_base: int = 0
    b_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        act = "" if self.act == "none" else f"_{self.act}"
        return f"{self.function}{act}_rows_{self.a.type.dtype}"

    def _follows(self, operand: str) -> bool:
        return operand == "y" or self.follow["ab".index(operand)]

    def is_ring(self, operand: str) -> bool:
        return self._follows(operand) and super().is_ring(operand)

    def reuses(self) -> tuple[int, ...]:
        return tuple(i for i, v in enumerate((self.a, self.b)) if self.follow[i] and v.shape == self.y.shape)

    def reference(self, a: Array, b: Array, y: Array) -> None:
        left, right = (self.read_rows(n, v)[0] if self._follows(n) else v for n, v in (("a", a), ("b", b)))
        self.write_rows("y", y, compute_binary(self.function, self.act, self.act_args, left, right))

    def arguments(self) -> tuple[Argument, ...]:
        return (self.a, self.b, self.y, *self.row_arguments())

    def source(self) -> str:
        kind = c_type(self.a.type.dtype)
        body = self.assignment(self.function, self.act, self.act_args, self.a)
        shape = self.y.shape[2:]
        inside = {name: self._row_strides(name, value) for name, value in (("a", self.a), ("b", self.b))}
        strides = {"a_row": inside["a"], "b_row": inside["b"], "y_row": row_major(shape)}
        loops = nest(shape, strides, fill(body, a="{a_row}", b="{b_row}", y="{y_row}"))
        return fill("""
            static void {name}(const {kind} *a, const {kind} *b, {kind} *y, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const {kind} *a_row = {a_row};
                    const {kind} *b_row = {b_row};
                    {kind} *y_row = {y_row};
                    {loops}
                }
            }
        """, kind=kind, rows=self.row_parameters(), setup=self.row_setup(), loops=loops, a_row=self._row("a"),
            b_row=self._row("b"), y_row=self._row("y"))

    def _row_strides(self, operand: str, value: Value) -> tuple[int, ...]:
        shape = value.shape[2:] if self._follows(operand) or value.type.rank == 4 else value.shape
        return broadcast_strides(shape, self.y.shape[2:])

    def _row(self, operand: str) -> str:
        if not self._follows(operand):
            return operand
        return self.address(operand, "row")


@final
class Cast(Kernel, opname="k.cast"):
    """y = x as the element type of y."""

    x: Value
    y: Written

    def stem(self) -> str:
        return f"cast_{self.x.type.dtype}_{self.y.type.dtype}"

    def reference(self, x: Array, y: Array) -> None:
        with np.errstate(invalid="ignore"):
            y[...] = x.astype(y.dtype)

    def arguments(self) -> tuple[Argument, ...]:
        return self.x, self.y, self.y.type.elements

    def source(self) -> str:
        to = self.y.type.dtype
        value = "x[i] != 0" if to.name == "bool" else f"({c_type(to)})x[i]"
        return fill("""
            static void {name}(const {source} *restrict x, {result} *restrict y, int32_t count)
            {
                for (int32_t i = 0; i < count; i++) {
                    y[i] = {value};
                }
            }
        """, source=c_type(self.x.type.dtype), result=c_type(to), value=value)


@final
class Copy(Kernel, opname="k.copy"):
    """y = x, the same elements in the same order."""

    x: Value
    y: Written

    def stem(self) -> str:
        return f"copy_{self.x.type.dtype}"

    def reference(self, x: Array, y: Array) -> None:
        y[...] = x.reshape(y.shape)

    def arguments(self) -> tuple[Argument, ...]:
        return self.x, self.y, self.y.type.elements

    def source(self) -> str:
        return fill("""
            static void {name}(const {kind} *restrict x, {kind} *restrict y, int32_t count)
            {
                for (int32_t i = 0; i < count; i++) {
                    y[i] = x[i];
                }
            }
        """, kind=c_type(self.x.type.dtype))


def _lower_unary(op: Any, low: Lowering) -> None:
    function = op.opname.removeprefix("nn.")
    args = tuple(getattr(op, name) for name in _UNARY[function][1])
    if function == "gelu" and op.approximate == "tanh":
        function = "gelu_tanh"
    low.emit(Map(low.buffer(op.x), low.result(op.out), function, args))


def _lower_binary(op: Any, low: Lowering) -> None:
    first, second = op.reads
    low.emit(Binary(low.buffer(first), low.buffer(second), low.result(op.out), op.opname.removeprefix("nn."),
                    getattr(op, "act", "none"), getattr(op, "act_args", ())))


for _kind, _ in _UNARY.values():
    lowers(_kind)(_lower_unary)
for _kind in (k for word, k in _BINARY.items() if word != "pow"):
    lowers(_kind)(_lower_binary)


@lowers(ops.Pow)
def lower_pow(op: ops.Pow, low: Lowering) -> None:
    """Exponents that need no logarithm get a cheaper kernel, which is also more exact."""
    exponents = op.b.data
    constant = float(exponents.flat[0]) if exponents is not None and np.ptp(exponents) == 0 else None
    x, y = low.buffer(op.a), low.result(op.out)
    if constant == 2 and x.shape == y.shape:
        low.emit(Binary(x, x, y, "mul"))
    elif constant in (0.5, -1) and x.shape == y.shape:
        low.emit(Map(x, y, "sqrt" if constant == 0.5 else "reciprocal"))
    else:
        _lower_binary(op, low)


@lowers(ops.Cast)
def lower_cast(op: ops.Cast, low: Lowering) -> None:
    low.emit(Cast(low.buffer(op.x), low.result(op.out)))


@copies
def copy(source: Value, destination: Value, low: Lowering) -> None:
    low.emit(Copy(source, destination))
