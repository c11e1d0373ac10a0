"""Element-wise kernels of stored 8-bit integers: sums and products of two operands that broadcast, tables of 256.

    k.pair_s8(%a, %b, none) -> (%y) {function = add, form = [...]}      y = a + b in real values
    k.lookup(%x, @table) -> (%y)                                        y = table[x], any function of one value
    k.pair_rows_s8, k.lookup_rows                                       the same for a span of rows, with ring buffers

A kernel whose result lies in the memory of an operand takes one pointer for both.
"""

from __future__ import annotations

from typing import ClassVar, final

import numpy as np

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.ops.qeltwise import QAdd, QMul
from tinyir.ops.quant import Lookup, quant_of
from tinyir.types import DType

from ..text import c_type, fill
from .base import Argument, RowKernel
from .dsp_add import add_call, is_linear
from .eltwise import Pointwise, row_length
from .loops import broadcast_strides, nest, row_major
from .mve_lookup import lookup_call
from .mve_pair import VectorForm, pair_call, vector_form
from .qpairs import PairForm, PairFunction, apply_pair, pair_statement, product_form, sum_form
from .qsums import elements

__all__ = ["LookupRows", "LookupS8", "PairRowsS8", "PairS8"]


@final
class PairS8(Pointwise, opname="k.pair_s8"):
    """y = a + b or a * b in real values, a and b broadcast to y."""

    a: Value                               # i8 or u8
    b: Value
    table: Value | None                    # [256] i64, by the byte of b: for sums without a proved form
    y: Written
    function: PairFunction
    form: PairForm
    dsp: bool = False                      # whether the core has the instructions of dsp_add
    vector: VectorForm = ()                # for the instructions of mve_pair

    def stem(self) -> str:
        return f"{self.function}_s8_{self.y.type.dtype}"

    def dimensions(self) -> dict[str, int]:
        shape = self.y.shape
        named = {"channels": shape[3], "pixels": shape[1] * shape[2]} if len(shape) == 4 else {}
        return {**named, "count": self.y.type.elements, **_multipliers(self)}

    def reuses(self) -> tuple[int, ...]:
        return tuple(i for i, v in enumerate((self.a, self.b))
                     if v.shape == self.y.shape and v.type.dtype == self.y.type.dtype)

    def pointers(self) -> str:
        present = [("table", self.table)] if self.table is not None else []
        named = [(n, v) for n, v in (("a", self.a), ("b", self.b), *present) if n not in self.shared()]
        read = [f"const {c_type(v.type.dtype)} *restrict {n}" for n, v in named]
        return ", ".join([*read, f"{c_type(self.y.type.dtype)} *restrict y"])

    def arguments(self) -> tuple[Argument, ...]:
        return tuple(v for v in super().arguments() if v is not None)

    def reference(self, a: Array, b: Array, table: Array | None, y: Array) -> None:
        y[...] = apply_pair(self.function, self.form, a, b, table, self.y.type.dtype)

    def source(self) -> str:
        if self.dsp and _is_plain(*(v.type.dtype for v in (self.a, self.b, self.y))) and \
                self.a.shape == self.b.shape == self.y.shape:
            a, b = ("y" if name in self.shared() else name for name in "ab")
            call = add_call(self.form, str(self.y.type.dtype), f"{a}, {b}, y, {self.y.type.elements}")
            call = pair_call(self.function, self.vector, str(self.y.type.dtype), (a, b, "y"), (self.y.shape,) * 3, call)
            return fill("static void {name}({pointers})\n{\n    {call}\n}", pointers=self.pointers(), call=call)
        body = pair_statement(self.function, self.form, self.table is not None, self.y.type.dtype)
        out = self.y.shape
        strides = {"y": row_major(out), "a": broadcast_strides(self.a.shape, out),
                   "b": broadcast_strides(self.b.shape, out)}
        body = fill(body, **{name: "{y}" for name in self.shared()})
        a, b = ("y" if name in self.shared() else name for name in "ab")
        loops = pair_call(self.function, self.vector, str(self.y.type.dtype), (a, b, "y"),
                          (self.a.shape, self.b.shape, out), nest(out, strides, body))
        return fill("static void {name}({pointers})\n{\n    {body}\n}", pointers=self.pointers(), body=loops)


@final
class PairRowsS8(RowKernel, opname="k.pair_rows_s8"):
    """k.pair_s8 for a span of rows; an operand that does not `follow` y is the same for each row."""

    rings: ClassVar[tuple[str, ...]] = ("a", "b", "y")

    a: Value                               # [1, ring, W, C], or what broadcasts to [W, C]
    b: Value
    table: Value | None                    # [256] i64
    y: Written                             # [1, ring, W, C]
    function: PairFunction
    form: PairForm
    rows: tuple[int, int]
    height: int
    follow: tuple[bool, bool] = (True, True)
    dsp: bool = False                      # whether the core has the instructions of dsp_add
    vector: VectorForm = ()                # for the instructions of mve_pair
    a_base: int = 0
    b_base: int = 0
    y_base: int = 0

    def stem(self) -> str:
        return f"{self.function}_rows_s8_{self.y.type.dtype}"

    def dimensions(self) -> dict[str, int]:
        return {"channels": self.y.shape[3], "columns": self.y.shape[2], "length": self.pitch("y"),
                "ring": self.ring("y"), **_multipliers(self)}

    def _follows(self, operand: str) -> bool:
        return operand == "y" or self.follow["ab".index(operand)]

    def is_ring(self, operand: str) -> bool:
        return self._follows(operand) and super().is_ring(operand)

    def reuses(self) -> tuple[int, ...]:
        return tuple(i for i, v in enumerate((self.a, self.b))
                     if self.follow[i] and v.shape == self.y.shape and v.type.dtype == self.y.type.dtype)

    def reference(self, a: Array, b: Array, table: Array | None, y: Array) -> None:
        left, right = (self.read_rows(n, v)[0] if self._follows(n) else v for n, v in (("a", a), ("b", b)))
        self.write_rows("y", y, apply_pair(self.function, self.form, left, right, table, self.y.type.dtype))

    def source(self) -> str:
        body = pair_statement(self.function, self.form, self.table is not None, self.y.type.dtype)
        shape = self.y.shape[2:]
        strides = {f"{name}_row": self._strides(name) for name in ("a", "b")}
        loops = nest(shape, {**strides, "y_row": row_major(shape)}, fill(body, a="{a_row}", b="{b_row}", y="{y_row}"))
        alike = self.a.shape[2:] == self.b.shape[2:] == shape
        if self.dsp and all(self.follow) and alike and _is_plain(*(v.type.dtype for v in (self.a, self.b, self.y))):
            loops = add_call(self.form, str(self.y.type.dtype), f"a_row, b_row, y_row, {row_length(self.y)}")
        loops = pair_call(self.function, self.vector, str(self.y.type.dtype), ("a_row", "b_row", "y_row"),
                          (self._row_shape("a"), self._row_shape("b"), shape), loops)
        return fill("""
            static void {name}(const {at} *a, const {bt} *b, {table}{yt} *y, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const {at} *a_row = {a_row};
                    const {bt} *b_row = {b_row};
                    {yt} *y_row = {y_row};
                    {loops}
                }
            }
        """, at=c_type(self.a.type.dtype), bt=c_type(self.b.type.dtype), yt=c_type(self.y.type.dtype),
                    table="const int64_t *table, " if self.table is not None else "", rows=self.row_parameters(),
                    setup=self.row_setup(), loops=loops, a_row=self._row("a"), b_row=self._row("b"),
                    y_row=self._row("y"))

    def _row_shape(self, operand: str) -> tuple[int, ...]:
        shape: tuple[int, ...] = getattr(self, operand).shape
        return shape[2:] if len(shape) == 4 else shape

    def _strides(self, operand: str) -> tuple[int, ...]:
        return broadcast_strides(self._row_shape(operand), self.y.shape[2:])

    def _row(self, operand: str) -> str:
        if not self._follows(operand):
            return operand
        return self.address(operand, "row")


@final
class LookupS8(Pointwise, opname="k.lookup"):
    """y = table[x as an unsigned byte] for every element."""

    x: Value                               # i8 or u8
    table: Value                           # [256], by the byte of x
    y: Written
    vector: bool = False                   # whether the core has the instructions of mve_lookup

    def stem(self) -> str:
        return f"lookup_{self.x.type.dtype}_{self.y.type.dtype}"

    def reuses(self) -> tuple[int, ...]:
        return (0,) if self.y.type.size_bytes == self.x.type.size_bytes else ()

    def reference(self, x: Array, table: Array, y: Array) -> None:
        y[...] = table[x.view(np.uint8)]

    def arguments(self) -> tuple[Argument, ...]:
        return (*super().arguments(), self.y.type.elements)

    def source(self) -> str:
        loop = fill("for (int32_t i = 0; i < count; i++) {\n    y[i] = table[(uint8_t){x}];\n}",
                    x=self.element("x", "[i]"))
        if self.vector:
            loop = lookup_call((self.x.type.dtype, self.y.type.dtype), (self.element("x"), "table", "y"), "count", loop)
        return fill("static void {name}({pointers}, int32_t count)\n{\n    {loop}\n}", pointers=self.pointers(),
                    loop=loop)


@final
class LookupRows(RowKernel, opname="k.lookup_rows"):
    """k.lookup for a span of rows."""

    x: Value                               # [1, ring, W, C] i8 or u8
    table: Value                           # [256], by the byte of x
    y: Written                             # [1, ring, W, C]
    rows: tuple[int, int]
    height: int
    x_base: int = 0
    y_base: int = 0
    vector: bool = False                   # whether the core has the instructions of mve_lookup

    def stem(self) -> str:
        return f"lookup_rows_{self.x.type.dtype}_{self.y.type.dtype}"

    def reuses(self) -> tuple[int, ...]:
        return (0,) if self.y.type.size_bytes == self.x.type.size_bytes else ()

    def reference(self, x: Array, table: Array, y: Array) -> None:
        self.write_rows("y", y, table[np.ascontiguousarray(self.read_rows("x", x)[0]).view(np.uint8)])

    def source(self) -> str:
        length = row_length(self.y)
        loop = f"for (int32_t i = 0; i < {length}; i++) {{\n    y_row[i] = table[(uint8_t)x_row[i]];\n}}"
        if self.vector:
            loop = lookup_call((self.x.type.dtype, self.y.type.dtype), ("x_row", "table", "y_row"), str(length), loop)
        return fill("""
            static void {name}(const {xt} *x, const {yt} *table, {yt} *y, {rows})
            {
                {setup}
                for (int32_t row = row_begin; row < row_end; row++) {
                    const {xt} *x_row = {x_row};
                    {yt} *y_row = y + {y_slot} * {pitch};
                    {loop}
                }
            }
        """, xt=c_type(self.x.type.dtype), yt=c_type(self.y.type.dtype), rows=self.row_parameters(),
                    setup=self.row_setup(), loop=loop, pitch=self.pitch("y"), x_row=self.address("x", "row"),
                    y_slot=self.slot("y", "row"))


def _multipliers(kernel: PairS8 | PairRowsS8) -> dict[str, int]:
    """The constants of a 32-bit form that differ most between layers."""
    if kernel.function == "mul":
        return {"multiplier": kernel.form[2]}
    a, b, offset, *_, wide = kernel.form
    return {} if wide else {"a_multiplier": a, "b_multiplier": b, "less" if offset < 0 else "more": abs(offset)}


def _is_plain(*dtypes: DType) -> bool:
    """Whether all elements are of one type of 8 bits."""
    return len(set(dtypes)) == 1 and dtypes[0].bits == 8


def _lower_pair(op: QAdd | QMul, function: PairFunction, form: PairForm, table: Array | None, low: Lowering) -> None:
    const = None if table is None else low.const(f"{op.out.name}.table", table)
    dsp = low.target.dsp and function == "add" and table is None and is_linear(form)
    low.emit(PairS8(low.buffer(op.a), low.buffer(op.b), const, low.result(op.out), function, form, dsp,
                    vector_form(op, low)))


@lowers(QAdd)
def lower_add(op: QAdd, low: Lowering) -> None:
    """Find a form that equals onnxruntime's on all 65,536 pairs."""
    dtypes = (op.a.type.dtype, op.b.type.dtype, op.out.type.dtype)
    form, table = sum_form(op, quant_of(op.a), quant_of(op.b), quant_of(op.out), dtypes)
    low.remark(f"{op.opname}: {_sum_remark(form, table)}")
    _lower_pair(op, "add", form, table, low)


def _sum_remark(form: PairForm, table: Array | None) -> str:
    if table is not None:
        return "no linear form could be proved over all pairs of inputs, the single-precision sum is computed"
    ties = "ties to even" if form[4] else "ties up"
    return f"proved over all pairs of inputs with a {64 if form[5] else 32}-bit sum, {ties}"


@lowers(QMul)
def lower_mul(op: QMul, low: Lowering) -> None:
    """Prove the requantisation of the products."""
    dtypes = (op.a.type.dtype, op.b.type.dtype, op.out.type.dtype)
    form = product_form(op, quant_of(op.a), quant_of(op.b), quant_of(op.out), dtypes)
    how = "proved for all pairs of inputs with one 64-bit multiply" if form[2] >= 0 else "the emulated product"
    low.remark(f"{op.opname}: {how}")
    _lower_pair(op, "mul", form, None, low)


@lowers(Lookup)
def lower_lookup(op: Lookup, low: Lowering) -> None:
    """The table in the order of unsigned bytes."""
    table = elements(op.table, op)
    order = np.arange(256).astype(np.uint8).view(op.x.type.dtype.numpy).astype(np.int64) - op.x.type.dtype.range[0]
    low.emit(LookupS8(low.buffer(op.x), low.const(op.table.name, table[order]), low.result(op.out), low.target.mve))
