"""Products of two matrices that are both computed, with numpy's broadcasting of the leading dimensions.

    k.matmul_f32(%a, %b) -> (%y) {form = scalar, pixels = 4}

A block of rows of a times neighbouring columns of b keeps its sums in registers; b is read as it lies, so its columns
are the lanes. What is left over at the right side goes column by column.
"""

from __future__ import annotations

import math
from typing import final

import numpy as np

from tinyir.ir import Array, Value
from tinyir.lowering import Lowering, lowers
from tinyir.opdef import Written
from tinyir.ops.linear import MatMul
from tinyir.types import Shape

from ..text import fill
from .base import Kernel
from .blocking import Form, block_sizes, choose_pixels, form_of
from .channels import by_form
from .tile import Tile
from .weights import require_f32

__all__ = ["MatMulF32"]


@final
class MatMulF32(Kernel, opname="k.matmul_f32"):
    """y[..., i, j] = sum over k of a[..., i, k] * b[..., k, j]."""

    a: Value                                # [..., I, K] or [K]
    b: Value                                # [..., K, J] or [K]
    y: Written
    form: Form
    pixels: int                             # rows of a in a block
    fma: bool

    def macs(self) -> int:
        return self.y.type.elements * self.a.shape[-1]

    def reference(self, a: Array, b: Array, y: Array) -> None:
        y[...] = np.matmul(a, b)

    def source(self) -> str:
        return by_form(self.form, self._text) if self._vector_lanes() else self._text(False)

    def _dimensions(self) -> tuple[int, int, int]:
        """I, K and J, the rows of all matrices as one where b is the same for all."""
        rows, inputs = _rows(self.a.shape), self.a.shape[-1]
        columns = self.b.shape[-1] if self.b.type.rank > 1 else 1
        if not _leading(self.b.shape):
            rows *= math.prod(_leading(self.a.shape))
        return rows, inputs, columns

    def _vector_lanes(self) -> int:
        """The vector type whose lanes the columns fill at least once, or 0."""
        return next((lanes for lanes in (16, 8, 4) if self._dimensions()[2] >= lanes), 0)

    def _text(self, vector: bool) -> str:
        columns = self._dimensions()[2]
        tiles = [Tile(self.pixels, 1, columns, fma=self.fma)]
        if vector:
            tiles.insert(0, Tile(self.pixels, 1, columns, f"tc_vec{self._vector_lanes()}"))
        elif columns >= 4:
            tiles.insert(0, Tile(self.pixels, 4, columns, fma=self.fma))
        if columns % (self._vector_lanes() if vector else tiles[0].lanes) == 0:
            del tiles[1:]
        body = "int32_t j = 0;\n" + "".join(self._columns_text(tile) for tile in tiles)
        shapes = " times ".join("x".join(map(str, v.shape)) for v in (self.a, self.b))
        return fill("""
            /* {shapes}: {tile} at a time. */
            static void {name}(const float *restrict a, const float *restrict b, float *restrict y)
            {
                {loops}
            }
        """, shapes=shapes, tile=tiles[0].describe("rows"), loops=self._matrix_loops(body))

    def _matrix_loops(self, body: str) -> str:
        """`body`, which takes one product at left, right and out, for each pair of matrices."""
        if not _leading(self.b.shape):
            return f"const float *left = a;\nconst float *right = b;\nfloat *out = y;\n{body}"
        batch = np.broadcast_shapes(_leading(self.a.shape), _leading(self.b.shape))
        rows, inputs, columns = self._dimensions()
        text = fill("""
            const float *left = a{left};
            const float *right = b{right};
            float *out = y{out};
            {body}
        """, left=_offset(_leading(self.a.shape), batch, rows * inputs),
                    right=_offset(_leading(self.b.shape), batch, inputs * columns),
                    out=_offset(batch, batch, rows * columns), body=body)
        for axis in reversed(range(len(batch))):
            text = fill("""
                for (int32_t n{axis} = 0; n{axis} < {count}; n{axis}++) {
                    {text}
                }
            """, axis=axis, count=batch[axis], text=text)
        return text

    def _columns_text(self, tile: Tile) -> str:
        """Column after column, or as many at a time as the tile has lanes."""
        rows, _, columns = self._dimensions()
        lanes = f"(int32_t)(sizeof({tile.kind}) / sizeof(float))" if tile.vector else str(tile.lanes)
        condition = "j < " + str(columns) if lanes == "1" else f"j + {lanes} <= {columns}"
        blocks = "".join(self._block_text(tile, first, size, count) for first, size, count in _runs(rows, self.pixels))
        return fill("""
            for (; {condition}; {step}) {
                {blocks}
            }
        """, condition=condition, step="j++" if lanes == "1" else f"j += {lanes}", blocks=blocks)

    def _block_text(self, tile: Tile, first: int, size: int, count: int) -> str:
        """`count` blocks of `size` rows from row `first` on."""
        _, inputs, columns = self._dimensions()
        opening = f"for (int32_t i = {first}; i < {first + size * count}; i += {size}) {{" if count > 1 else \
            f"{{   /* rows {first} to {first + size - 1} */"
        row = "i" if count > 1 else str(first)
        return fill("""
            {opening}
                const float *xs = left + {row} * {inputs};
                const float *ws = right + j;
                float *to = out + {row} * {columns} + j;
                {totals}
                {declare}
                {inner}
                {stores}
            }
        """, opening=opening, row=row, inputs=inputs, columns=columns, totals=tile.start(size, ""),
                    declare=tile.declare(), inner=tile.accumulate((0, size), inputs, inputs),
                    stores=tile.finish(size, "to", columns, "none", (), ""))


def _leading(shape: Shape) -> Shape:
    """The dimensions in front of a matrix; a matrix or a vector has none."""
    return shape[:-2]


def _rows(shape: Shape) -> int:
    return shape[-2] if len(shape) > 1 else 1


def _offset(leading: Shape, batch: Shape, size: int) -> str:
    """C for where the matrix of `size` elements is for the loop counters n0, n1, ... over `batch`."""
    terms, step = [], size
    for axis, extent in zip(reversed(range(len(batch))), reversed(leading), strict=False):
        if extent > 1:
            terms.append(f" + n{axis} * {step}")
        step *= extent
    return "".join(reversed(terms))


def _runs(count: int, size: int) -> list[tuple[int, int, int]]:
    """`count` rows as (first, rows of a block, blocks), the smaller block last."""
    whole = count // size
    runs = [(0, size, whole)] if whole else []
    return [*runs, (whole * size, count % size, 1)] if count % size else runs


@lowers(MatMul)
def lower_matmul(op: MatMul, low: Lowering) -> None:
    """Choose the block of rows for the target."""
    require_f32(op)
    kernel_rows = _rows(op.a.shape) * (1 if _leading(op.b.shape) else math.prod(_leading(op.a.shape)))
    low.emit(MatMulF32(
        low.buffer(op.a), low.buffer(op.b), low.result(op.out), form=form_of(low.target),
        pixels=choose_pixels(lambda pixels: block_sizes(kernel_rows, pixels), 4, low.target.float_registers),
        fma=low.target.fma))
