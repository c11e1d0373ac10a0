"""Bilinear resizing of stored integers: reference, kernel and C agree in every byte, with floats and without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tinyir.ops import QResize
from tinyir.ops.resize import Coordinates
from tinyir.types import I8, U8, DType, TensorType

from .harness import COMPILERS
from .qharness import BUILDS, check_exact, per_tensor, stored

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
SIZES = [((5, 6), (10, 12)), ((5, 6), (13, 9)), ((8, 9), (4, 3)), ((1, 4), (3, 9)), ((4, 5), (1, 1))]


def checked(dtypes: tuple[DType, DType], sizes: tuple[tuple[int, int], tuple[int, int]], coordinates: Coordinates,
            scales: tuple[float, float], **attrs: Any) -> str:
    """The remark of the lowering."""
    turned = attrs.pop("turned", False)
    (rows, columns), after = sizes
    x = stored(np.random.default_rng(3), dtypes[0], 2, rows, columns, 5)
    zeros = [3 if d is I8 else 120 for d in dtypes]
    result = TensorType((2, *after, 5), dtypes[1], per_tensor(scales[1], zeros[1]))
    factors = after[0] / rows, after[1] / columns
    remarks = check_exact(lambda x: QResize(x, coordinates, factors, result, turned),
                          [(x, per_tensor(scales[0], zeros[0]))], **attrs)
    return remarks[0]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "half_pixel_symmetric"])
def test_every_arithmetic(coordinates: Coordinates, sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    for scales in ((0.05, 0.05), (0.031, 0.0273)):
        checked((I8, I8), sizes, coordinates, scales, builds=BUILDS[1:])
        checked((I8, I8), sizes, coordinates, scales, builds=BUILDS[:1], requant="integer")


@pytest.mark.parametrize("dtypes", [(I8, I8), (U8, U8), (U8, I8), (I8, U8)])
@pytest.mark.parametrize("scale", [0.05, 0.04723])
def test_every_type(scale: float, dtypes: tuple[DType, DType]) -> None:
    for attrs in ({}, {"requant": "integer"}):
        checked(dtypes, SIZES[0], "half_pixel", (0.05, scale), builds=BUILDS[:2], **attrs)


@pytest.mark.parametrize("attrs", [{}, {"requant": "integer"}])
def test_turned_images_are_summed_in_the_order_of_the_model(attrs: dict[str, Any]) -> None:
    checked((I8, I8), SIZES[1], "asymmetric", (0.05, 0.05), turned=True, builds=BUILDS[:2], **attrs)


def test_whole_weights_are_taken_where_they_are_proved() -> None:
    remark = checked((I8, I8), ((5, 6), (15, 18)), "half_pixel", (0.05, 0.0613), builds=BUILDS[:1])
    assert remark == "qnn.resize: proved for all inputs with weights of 3 x 3 parts"
    remark = checked((I8, I8), SIZES[0], "half_pixel", (0.05, 0.05), builds=BUILDS[:1])
    assert remark == "qnn.resize: no integer form could be proved, the single-precision sum is computed"
