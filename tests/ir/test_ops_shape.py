"""Ops that move elements against onnxruntime, resizing in all its modes, and the ops of the mem level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinyir.ir import Arena, Array, Value
from tinyir.ops import (
    BroadcastTo,
    Concat,
    Gather,
    MemReturn,
    Pad,
    Reshape,
    Resize,
    Return,
    Slice,
    Slot,
    Tile,
    Transpose,
    View,
)
from tinyir.types import F32, I8, BufferType, Quant, TensorType

Run = Callable[..., Array]
Rng = np.random.Generator


def floats(rng: Rng, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize(("before", "after"), [((0, 1, 2, 0), (0, 2, 1, 0)), ((0, 3, 4, 1), (1, 0, 3, 2)),
                                               ((0, -1, 2, 0), (0, 1, -2, 0))])
def test_pad(mode: Any, before: tuple[int, ...], after: tuple[int, ...], run_op: Run, ort_node: Run, rng: Rng) -> None:
    x = floats(rng, 2, 4, 5, 3)
    amounts = np.array(before + after, np.int64)
    expected = ort_node("Pad", x, amounts, np.float32(1.5).reshape(()), mode=mode)
    np.testing.assert_array_equal(run_op(Pad, x, before=before, after=after, mode=mode, value=1.5), expected)


def test_pad_crops(run_op: Run) -> None:
    x = np.arange(10, dtype=np.int8)
    assert run_op(Pad, x, before=(-2,), after=(-3,)).tolist() == [2, 3, 4, 5, 6]
    assert run_op(Pad, x, before=(-2,), after=(1,), value=-1.0).tolist() == [2, 3, 4, 5, 6, 7, 8, 9, -1]


def test_reshape_and_transpose(run_op: Run, ort_node: Run, rng: Rng) -> None:
    x = floats(rng, 2, 3, 4)
    np.testing.assert_array_equal(run_op(Reshape, x, result=TensorType((6, 4), F32)), x.reshape(6, 4))
    np.testing.assert_array_equal(run_op(Transpose, x, perm=(2, 0, 1)), ort_node("Transpose", x, perm=(2, 0, 1)))


@pytest.mark.parametrize("axis", [0, 2, -1])
def test_concat(axis: int, run_op: Run, ort_node: Run, rng: Rng) -> None:
    shapes = [[2, 3, 4] for _ in range(3)]
    for extra, shape in enumerate(shapes):
        shape[axis] += extra
    parts = [floats(rng, *s) for s in shapes]
    np.testing.assert_array_equal(run_op(Concat, parts, axis=axis), ort_node("Concat", *parts, axis=axis))


@pytest.mark.parametrize(("begin", "step", "size"), [((1, 0), (1, 2), (5, 4)), ((6, 7), (-1, -3), (7, 3)),
                                                     ((4, 2), (-2, 1), (2, 1))])
def test_slice(begin: tuple[int, ...], step: tuple[int, ...], size: tuple[int, ...], run_op: Run, ort_node: Run,
               rng: Rng) -> None:
    x = floats(rng, 7, 8)
    ends = [b + s * n if b + s * n >= 0 else -100 for b, s, n in zip(begin, step, size, strict=True)]
    expected = ort_node("Slice", x, np.array(begin), np.array(ends), np.array([0, 1]), np.array(step))
    np.testing.assert_array_equal(run_op(Slice, x, begin=begin, step=step, result=TensorType(size, F32)), expected)


def test_broadcast_and_tile(run_op: Run, ort_node: Run, rng: Rng) -> None:
    x = floats(rng, 3, 1, 4)
    expected = ort_node("Expand", x, np.array([2, 3, 5, 4]))
    np.testing.assert_array_equal(run_op(BroadcastTo, x, result=TensorType((2, 3, 5, 4), F32)), expected)
    np.testing.assert_array_equal(run_op(Tile, x, repeats=(2, 3, 1)), ort_node("Tile", x, np.array([2, 3, 1])))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("indices", [[0, 2, -1], [[1, 0], [2, 2]], 1])
def test_gather(axis: int, indices: Any, run_op: Run, ort_node: Run, rng: Rng) -> None:
    x, index = floats(rng, 3, 4, 5), np.array(indices, np.int64)
    np.testing.assert_array_equal(run_op(Gather, x, index, axis=axis), ort_node("Gather", x, index, axis=axis))


SCALES = [(2.0, 2.0), (1.5, 3.0), (0.5, 0.4), (1.0, 2.6), (0.2, 1.7)]
COORDINATES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric", "align_corners"]


def resized(x: Array, scales: tuple[float, float]) -> TensorType:
    rows, columns = (int(np.floor(np.float32(d) * np.float32(s))) for d, s in zip(x.shape[1:3], scales, strict=True))
    return TensorType((x.shape[0], rows, columns, x.shape[3]), F32)


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_resize_nearest(scales: tuple[float, float], coordinates: Any, nearest: Any, run_op: Run, ort_node: Run,
                        rng: Rng) -> None:
    x = floats(rng, 1, 7, 10, 2)
    expected = ort_node("Resize", np.ascontiguousarray(x.transpose(0, 3, 1, 2)), None,
                        np.array([1, 1, *scales], np.float32), mode="nearest", nearest_mode=nearest,
                        coordinate_transformation_mode=coordinates)
    found = run_op(Resize, x, mode="nearest", coordinates=coordinates, nearest=nearest, scales=scales,
                   result=resized(x, scales))
    np.testing.assert_array_equal(found, expected.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_resize_linear(scales: tuple[float, float], coordinates: Any, run_op: Run, ort_node: Run, rng: Rng) -> None:
    x = floats(rng, 2, 7, 10, 3)
    expected = ort_node("Resize", np.ascontiguousarray(x.transpose(0, 3, 1, 2)), None,
                        np.array([1, 1, *scales], np.float32), mode="linear",
                        coordinate_transformation_mode=coordinates)
    found = run_op(Resize, x, mode="linear", coordinates=coordinates, scales=scales, result=resized(x, scales))
    np.testing.assert_allclose(found, expected.transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("size", [(14, 25), (3, 4), (1, 1), (7, 9)])
def test_resize_to_sizes(mode: Any, coordinates: Any, size: tuple[int, int], run_op: Run, ort_node: Run,
                         rng: Rng) -> None:
    x = floats(rng, 1, 7, 10, 2)
    expected = ort_node("Resize", np.ascontiguousarray(x.transpose(0, 3, 1, 2)), None, None, np.array([1, 2, *size]),
                        mode=mode, coordinate_transformation_mode=coordinates)
    found = run_op(Resize, x, mode=mode, coordinates=coordinates, scales=(size[0] / 7, size[1] / 10),
                   result=TensorType((1, *size, 2), F32))
    np.testing.assert_allclose(found, expected.transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-6)


def test_quantisation_moves_along() -> None:
    per_tensor = Value(TensorType((2, 3), I8, Quant((0.5,), (3,))))
    assert Transpose(per_tensor, perm=(1, 0)).out.type == TensorType((3, 2), I8, Quant((0.5,), (3,)))
    per_axis = Value(TensorType((2, 3), I8, Quant((0.5, 0.25), (0, 0), 0)))
    assert Transpose(per_axis, perm=(1, 0)).out.type.quant == Quant((0.5, 0.25), (0, 0), 1)


def test_return_gives_what_it_gets(rng: Rng) -> None:
    x = floats(rng, 2)
    op = Return((Value(TensorType((2,), F32)),))
    assert op.results == []
    assert op.terminator
    assert op.reference([x])[0] is x


def test_slots_are_views_of_the_arena() -> None:
    memory = np.full(64, 0xA5, np.uint8)
    arena = Arena("ram", 64)
    slot = Slot(arena, offset=16, result=BufferType((2, 3), F32))
    slot.verify()
    array = slot.reference(memory)
    array[:] = 1
    assert memory[16:40].view(np.float32).tolist() == [1.0] * 6
    flat = View(slot.out, result=BufferType((6,), F32)).reference(array)
    flat[0] = 7
    assert array[0, 0] == 7
    assert MemReturn().terminator


def test_a_slot_without_an_offset_has_memory_of_its_own() -> None:
    memory = np.zeros(64, np.uint8)
    array = Slot(Arena("ram", 64), result=BufferType((8,), I8)).reference(memory)
    assert (array.view(np.uint8) == 0xA5).all()
    array[:] = 1
    assert not memory.any()
