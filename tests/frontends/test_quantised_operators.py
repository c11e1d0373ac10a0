"""Quantised models but for layers: functions, sums, pools, moving ops, islands of float; onnxruntime's bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests import contract
from tests.frontends.quantised import (
    FROM_ZERO,
    INPUT,
    OTHER,
    OUTPUT,
    S8,
    U8,
    Builder,
    close_bytes,
    kinds,
    onnxruntime_kinds,
    same_bytes,
)

pytestmark = contract.same_bytes
TYPES = pytest.mark.parametrize("dtype", [S8, U8], ids=["int8", "uint8"])
Body = Callable[[Builder, str], str]


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def _conv(b: Builder, x: str, outputs: int = 8, inputs: int = 4, **attrs: Any) -> str:
    return b.op("Conv", x, b.weight(outputs, inputs, 3, 3, axis=0), **{"pads": [1, 1, 1, 1], **attrs})


def network(dtype: Any, body: Body) -> onnx.ModelProto:
    """A model of one quantised image."""
    b = Builder()
    return b.model(body(b, b.both(b.input(1, 4, 8, 8), INPUT[dtype])))


# -- functions of one value ------------------------------------------------------------------------------------------

FUNCTIONS = ["Sigmoid", "LeakyRelu", "Relu", "Tanh", "HardSigmoid", "HardSwish", "Softplus", "Elu", "Exp", "Abs", "Neg",
             "Erf", "Sqrt"]


@TYPES
@pytest.mark.parametrize("kind", FUNCTIONS)
def test_functions_are_tables(kind: str, dtype: Any) -> None:
    module = same_bytes(network(dtype, lambda b, x: b.both(b.op(kind, x), OUTPUT[dtype])))
    assert kinds(module) == ["qnn.dequantize", "qnn.lookup", "qnn.quantize"]


@TYPES
def test_table_before_a_move(dtype: Any) -> None:
    module = same_bytes(network(dtype, lambda b, x: b.both(b.op("Transpose", b.op("Sigmoid", x), perm=[0, 2, 3, 1]),
                                                            OUTPUT[dtype])))
    assert kinds(module) == ["qnn.dequantize", "qnn.lookup", "qnn.quantize"]


@TYPES
def test_quantised_twice_in_a_row(dtype: Any) -> None:
    """Two pairs of one stored type are merged, as onnxruntime does; of two types they make a table."""
    merged = same_bytes(network(dtype, lambda b, x: b.both(x, OUTPUT[dtype])))
    assert kinds(merged) == ["qnn.dequantize", "qnn.quantize"]
    other = OUTPUT[U8 if dtype is S8 else S8]
    table = same_bytes(network(dtype, lambda b, x: b.both(x, other)))
    assert kinds(table) == ["qnn.dequantize", "qnn.lookup", "qnn.quantize"]


@TYPES
def test_two_pairs_behind_a_layer(dtype: Any) -> None:
    same_bytes(network(dtype, lambda b, x: b.both(b.both(_conv(b, x), OTHER[dtype]), OUTPUT[dtype])))


@TYPES
@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("scale", [1 / 256, 1 / 255, 0.11])
def test_softmax(scale: float, axis: int, dtype: Any) -> None:
    output = (scale, FROM_ZERO[dtype][1])
    module = same_bytes(network(dtype, lambda b, x: b.both(b.op("Softmax", x, axis=axis), output)))
    assert kinds(module) == ["qnn.dequantize", "qnn.quantize", "qnn.softmax"]


# -- sums and products -----------------------------------------------------------------------------------------------


def _pair(kind: str, x: Any, y: Any, output: Any, shape: tuple[int, ...], constant: bool) -> onnx.ModelProto:
    b = Builder()
    first = b.both(b.input(2, 3, 4, 5), x)
    second = b.dequantize(b.const(b.random(y[1].dtype, *shape)), y) if constant else b.both(b.input(*shape), y)
    return b.model(b.both(b.op(kind, first, second), output))


@TYPES
@pytest.mark.parametrize("constant", [False, True], ids=["value", "constant"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 1, 1), (2, 1, 4, 5), ()], ids=str)
@pytest.mark.parametrize("kind", ["Add", "Mul"])
def test_pairs(kind: str, shape: tuple[int, ...], constant: bool, dtype: Any) -> None:
    module = same_bytes(_pair(kind, INPUT[dtype], OTHER[dtype], OUTPUT[dtype], shape, constant or not shape))
    assert f"qnn.{kind.lower()}" in kinds(module)


@pytest.mark.parametrize("kind", ["Add", "Mul"])
def test_pairs_of_two_types(kind: str) -> None:
    """onnxruntime computes these in float."""
    module = close_bytes(_pair(kind, INPUT[S8], OTHER[U8], OUTPUT[S8], (2, 3, 4, 5), False), OUTPUT[S8][0])
    assert f"qnn.{kind.lower()}" in kinds(module)


@TYPES
@pytest.mark.parametrize("kind", ["Sub", "Div", "Max", "Min"])
def test_pairs_without_integer_kernel_stay_in_float(kind: str, dtype: Any) -> None:
    module = same_bytes(_pair(kind, INPUT[dtype], OTHER[dtype], OUTPUT[dtype], (1, 3, 1, 1), False))
    assert f"nn.{kind.lower()}" in kinds(module)


@TYPES
def test_sum_with_itself(dtype: Any) -> None:
    same_bytes(network(dtype, lambda b, x: b.both(b.op("Add", x, x), OUTPUT[dtype])))


@TYPES
def test_relu_behind_a_sum(dtype: Any) -> None:
    """Implied by the zero point it vanishes, else it is a clamp; onnxruntime then adds in float."""
    def model(output: Any) -> onnx.ModelProto:
        return network(dtype, lambda b, x: b.both(b.op("Relu", b.op("Add", x, x)), output))

    assert kinds(same_bytes(model(FROM_ZERO[dtype]))) == ["qnn.add", "qnn.dequantize", "qnn.quantize"]
    assert "qnn.lookup" in kinds(close_bytes(model(OUTPUT[dtype]), OUTPUT[dtype][0]))


# -- pools and means -------------------------------------------------------------------------------------------------

POOLS: list[dict[str, Any]] = [
    {"kernel_shape": [2, 2]}, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, {"kernel_shape": [8, 8]},
    {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"},
]


@TYPES
@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("attrs", POOLS, ids=str)
def test_average_pool(attrs: dict[str, Any], include: int, dtype: Any) -> None:
    if include and "ceil_mode" in attrs:
        pytest.skip("what counts is not agreed on")
    module = same_bytes(network(dtype, lambda b, x: b.both(
        b.op("AveragePool", x, count_include_pad=include, **attrs), OUTPUT[dtype])))
    assert kinds(module)[0] == "qnn.avg_pool" or attrs["kernel_shape"] == [8, 8]


@TYPES
@pytest.mark.parametrize("attrs", [a for a in POOLS if "auto_pad" not in a], ids=str)
def test_max_pool(attrs: dict[str, Any], dtype: Any) -> None:
    for output in (INPUT[dtype], OUTPUT[dtype]):
        module = same_bytes(network(dtype, lambda b, x, y=output: b.both(b.op("MaxPool", x, **attrs), y)))
        assert kinds(module)[0] == "nn.max_pool"


@TYPES
@pytest.mark.parametrize("kind", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools(kind: str, dtype: Any) -> None:
    module = same_bytes(network(dtype, lambda b, x: b.both(b.op(kind, x), OUTPUT[dtype])))
    assert kinds(module)[0] in ("nn.max_pool", "qnn.dequantize")
    assert not any(kind.startswith("nn.reduce") for kind in kinds(module))


@TYPES
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reduce_mean(keepdims: int, dtype: Any) -> None:
    """onnxruntime has no integer kernel of ReduceMean: ours is the exact mean, rounded once."""
    module = close_bytes(network(dtype, lambda b, x: b.both(
        b.op("ReduceMean", b.both(_conv(b, x), OUTPUT[dtype]), b.const(ints(2, 3)), keepdims=keepdims),
        INPUT[dtype])), INPUT[dtype][0], seeds=range(20))
    mean = next(op for op in module.walk() if op.opname == "qnn.reduce_mean")
    assert mean.attrs["rule"] == "exact"


# -- what moves elements, on either side of quantize and dequantize --------------------------------------------------


def _pad(b: Builder, x: str, value: float | None = None, mode: str = "constant") -> str:
    fill = [] if value is None else [b.const(np.float32(value))]
    return b.op("Pad", x, b.const(ints(0, 0, 1, 1, 0, 0, 2, 1)), *fill, mode=mode)


def _slice(b: Builder, x: str) -> str:
    return b.op("Slice", x, *(b.const(ints(*v)) for v in ((1, 0), (7, 8), (2, 3), (1, 2))))


def _resize(b: Builder, x: str) -> str:
    return b.op("Resize", x, "", b.const(np.array([1, 1, 2, 2], np.float32)), mode="nearest", nearest_mode="floor",
                coordinate_transformation_mode="asymmetric")


def _linear(b: Builder, x: str, scales: tuple[float, float], coordinates: str) -> str:
    return b.op("Resize", x, "", b.const(np.array([1, 1, *scales], np.float32)), mode="linear",
                coordinate_transformation_mode=coordinates)


@TYPES
@pytest.mark.parametrize("scales", [(2, 2), (3, 2), (1.625, 0.5), (0.25, 0.375)], ids=str)
@pytest.mark.parametrize("coordinates", ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric",
                                         "align_corners"])
def test_bilinear_resize(coordinates: str, scales: tuple[float, float], dtype: Any) -> None:
    """onnxruntime computes in float, and has every rounding of ours; ties are many where the scales are equal."""
    for quants in ((INPUT, INPUT), (INPUT, OTHER), (OTHER, OUTPUT)):
        def body(b: Builder, x: str, quants: Any = quants) -> str:
            image = b.both(_conv(b, x), quants[0][dtype])
            return b.both(_linear(b, image, scales, coordinates), quants[1][dtype])

        assert "qnn.resize" in kinds(same_bytes(network(dtype, body)))


@TYPES
def test_bilinear_resize_of_channels_last(dtype: Any) -> None:
    def body(b: Builder, x: str) -> str:
        image = b.op("Transpose", b.both(_conv(b, x), INPUT[dtype]), perm=[0, 2, 3, 1])
        resized = _linear(b, b.op("Transpose", image, perm=[0, 3, 1, 2]), (2, 2), "half_pixel")
        return b.both(b.op("Transpose", resized, perm=[0, 2, 3, 1]), INPUT[dtype])

    assert "qnn.resize" in kinds(same_bytes(network(dtype, body)))


@TYPES
@pytest.mark.parametrize("between", ["Relu", "Sigmoid"])
def test_bilinear_resize_and_a_function(between: str, dtype: Any) -> None:
    module = close_bytes(network(dtype, lambda b, x: b.both(
        b.op(between, _linear(b, x, (2, 2), "half_pixel")), FROM_ZERO[dtype])), FROM_ZERO[dtype][0])
    assert ("qnn.resize" in kinds(module)) == (between == "Relu")


@pytest.mark.parametrize("scale", [0.03, 0.0285])
def test_sequences_are_resized_on_integers_where_no_order_matters(scale: float) -> None:
    """onnxruntime adds up eight terms there."""
    b = Builder()
    x = b.both(b.input(1, 4, 9), (0.03, S8(5)))
    resized = b.op("Resize", x, "", b.const(np.array([1, 1, 2], np.float32)), mode="linear")
    module = close_bytes(b.model(b.both(resized, (scale, S8(5)))), scale)
    assert ("qnn.resize" in kinds(module)) == (scale != 0.03)


MOVES: dict[str, Body] = {
    "pad": _pad, "pad exactly": lambda b, x: _pad(b, x, float(np.float32(0.03) * np.float32(3))),
    "pad reflected": lambda b, x: _pad(b, x, mode="reflect"), "slice": _slice, "resize": _resize,
    "transpose": lambda b, x: b.op("Transpose", x, perm=[0, 1, 3, 2]),
    "gather": lambda b, x: b.op("Gather", x, b.const(ints(3, 1, 0, 2)), axis=1),
    "max pool": lambda b, x: b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]),
    "unsqueeze": lambda b, x: b.op("Squeeze", b.op("Unsqueeze", x, b.const(ints(0))), b.const(ints(0))),
}
LAYER = ["qnn.conv2d", "qnn.dequantize", "qnn.quantize"]


def _without_moves(names: list[str]) -> list[str]:
    return [n for n in names if n not in ("nn.resize", "nn.gather", "nn.max_pool")]


@TYPES
@pytest.mark.parametrize("name", MOVES)
def test_move_before_a_layer(name: str, dtype: Any) -> None:
    """Directly behind the dequantize, and with a pair of its own behind it."""
    move = MOVES[name]
    bare = network(dtype, lambda b, x: b.both(_conv(b, move(b, x)), OUTPUT[dtype]))
    paired = network(dtype, lambda b, x: b.both(_conv(b, b.both(move(b, x), INPUT[dtype])), OUTPUT[dtype]))
    assert _without_moves(kinds(close_bytes(bare, OUTPUT[dtype][0]))) == LAYER
    assert _without_moves(kinds(same_bytes(paired))) == LAYER


@TYPES
@pytest.mark.parametrize("name", MOVES)
def test_move_behind_a_layer(name: str, dtype: Any) -> None:
    """Between the layer and its quantize, and behind both."""
    move = MOVES[name]
    bare = network(dtype, lambda b, x: b.both(move(b, _conv(b, x)), OUTPUT[dtype]))
    paired = network(dtype, lambda b, x: b.both(move(b, b.both(_conv(b, x), OUTPUT[dtype])), OUTPUT[dtype]))
    assert _without_moves(kinds(close_bytes(bare, OUTPUT[dtype][0]))) == LAYER
    assert _without_moves(kinds(same_bytes(paired))) == LAYER if name != "pad exactly" else True


@TYPES
def test_pad_with_a_value_between_two_stored_ones(dtype: Any) -> None:
    same_bytes(network(dtype, lambda b, x: b.both(_pad(b, x, 0.1234), INPUT[dtype])))


@TYPES
def test_flatten_and_linear(dtype: Any) -> None:
    def body(b: Builder, x: str) -> str:
        flat = b.both(b.op("Reshape", b.both(_conv(b, x), OUTPUT[dtype]), b.const(ints(1, -1))), OUTPUT[dtype])
        return b.both(b.op("Gemm", flat, b.weight(10, 512, axis=0), transB=1), INPUT[dtype])

    assert kinds(same_bytes(network(dtype, body))) == ["qnn.conv2d", "qnn.dense", "qnn.dequantize", "qnn.quantize"]


@TYPES
@pytest.mark.parametrize("second", [INPUT, OTHER], ids=["equal", "different"])
def test_concat(second: Any, dtype: Any) -> None:
    def body(b: Builder, x: str) -> str:
        stored = b.dequantize(b.const(b.random(dtype, 1, 2, 8, 8)), second[dtype])
        parts = (x, b.both(_conv(b, x), second[dtype]), stored)
        return b.both(b.op("Concat", *parts, axis=1), INPUT[dtype])

    names = kinds(same_bytes(network(dtype, body)))
    assert names == sorted([*LAYER, "nn.concat", *(["qnn.lookup"] if second is OTHER else [])])


@TYPES
def test_split(dtype: Any, tmp_path: Path) -> None:
    """onnxruntime convolves the halves in float."""
    def body(b: Builder, x: str) -> str:
        first, second = b.ops("Split", 2, x, axis=1, num_outputs=2)
        sums = [b.both(_conv(b, half, inputs=2), OUTPUT[dtype]) for half in (first, second)]
        return b.both(b.op("Add", *sums), OUTPUT[dtype])

    model = network(dtype, body)
    assert "Conv" in onnxruntime_kinds(model, tmp_path)
    assert kinds(close_bytes(model, OUTPUT[dtype][0])) == sorted([*LAYER, "qnn.conv2d", "qnn.add"])


@TYPES
def test_sequence_of_one_dimension(dtype: Any) -> None:
    b = Builder()
    x = b.both(b.input(1, 4, 16), INPUT[dtype])
    made = b.op("Conv", x, b.weight(6, 4, 3, axis=0), pads=[1, 1], strides=[2])
    assert kinds(same_bytes(b.model(b.both(made, OUTPUT[dtype])))) == LAYER


@TYPES
def test_integer_inputs_and_outputs(dtype: Any) -> None:
    b = Builder()
    x = b.dequantize(b.input(1, 4, 8, 8, dtype=dtype), INPUT[dtype])
    assert kinds(same_bytes(b.model(b.quantize(_conv(b, x), OUTPUT[dtype])))) == ["qnn.conv2d"]


# -- several readers, and what stays in float ------------------------------------------------------------------------


@TYPES
def test_dequantize_with_several_readers(dtype: Any) -> None:
    def body(b: Builder, x: str) -> str:
        parts = [b.both(_conv(b, x), OUTPUT[dtype]), b.both(b.op("Add", x, x), OUTPUT[dtype])]
        return b.both(b.op("Concat", *parts, axis=1), OUTPUT[dtype])

    names = kinds(same_bytes(network(dtype, body)))
    assert names == sorted([*LAYER, "nn.concat", "qnn.add"])


@TYPES
@pytest.mark.parametrize("equal", [True, False])
def test_value_quantised_twice(equal: bool, dtype: Any) -> None:
    """In one way: one integer layer. In two: the accumulator is scaled to float, then quantised twice."""
    def body(b: Builder, x: str) -> str:
        made = _conv(b, x)
        parts = [b.both(made, OUTPUT[dtype]), b.both(made, OUTPUT[dtype] if equal else FROM_ZERO[dtype])]
        return b.both(b.op("Add", *parts), OUTPUT[dtype])

    names = kinds(close_bytes(network(dtype, body), 2 * OUTPUT[dtype][0]))
    assert names.count("qnn.quantize") == (1 if equal else 3)
    assert names.count("qnn.conv2d") == 1


@TYPES
def test_island_of_float_at_the_end(dtype: Any) -> None:
    module = close_bytes(network(dtype, lambda b, x: b.op("Sigmoid", b.both(_conv(b, x), OUTPUT[dtype]))), 1e-4)
    assert kinds(module) == ["nn.sigmoid", *LAYER]


@TYPES
def test_island_of_float_in_the_middle(dtype: Any) -> None:
    def body(b: Builder, x: str) -> str:
        made = b.both(_conv(b, x), OUTPUT[dtype])
        gated = b.both(b.op("Mul", made, b.op("Sigmoid", made)), OUTPUT[dtype])
        return b.both(_conv(b, gated, inputs=8), OUTPUT[dtype])

    module = same_bytes(network(dtype, body))
    assert kinds(module) == sorted([*LAYER, *LAYER, "nn.mul", "nn.sigmoid"])


@TYPES
def test_layer_with_float_weights(dtype: Any) -> None:
    def body(b: Builder, x: str) -> str:
        made = b.both(_conv(b, x), OUTPUT[dtype])
        return b.op("Conv", made, b.floats(4, 8, 3, 3, spread=0.1), pads=[1, 1, 1, 1])

    assert kinds(close_bytes(network(dtype, body), 1e-3)) == ["nn.conv2d", *LAYER]


def test_only_the_weights_are_quantised() -> None:
    """They become floats: the layer reads floats."""
    b = Builder()
    made = b.op("Relu", _conv(b, b.input(1, 4, 8, 8)))
    module = close_bytes(b.model(made), 1e-3)
    assert kinds(module) == ["nn.conv2d", "nn.relu"]


@TYPES
def test_transposed_convolution_stays_in_float(dtype: Any) -> None:
    module = close_bytes(network(dtype, lambda b, x: b.both(
        b.op("ConvTranspose", x, b.weight(4, 6, 3, 3), strides=[2, 2]), OUTPUT[dtype])), OUTPUT[dtype][0])
    assert "nn.conv_transpose2d" in kinds(module)


@TYPES
def test_batch_normalisation_stays_in_float(dtype: Any) -> None:
    module = close_bytes(network(dtype, lambda b, x: b.both(b.op(
        "BatchNormalization", _conv(b, x), *(b.const(b.rng.uniform(0.5, 1.5, 8).astype(np.float32))
                                             for _ in range(4))), OUTPUT[dtype])), OUTPUT[dtype][0])
    assert "nn.batch_norm" in kinds(module)
