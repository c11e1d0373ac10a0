"""Models that cannot be compiled: each gets a diagnostic that says what was found, never a traceback."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tinyir.diag import CompileError, Diagnostic, Unsupported
from tinyir.ir import Module

Small = Callable[..., onnx.ModelProto]
Importer = Callable[..., Module]
node = helper.make_node
RELU = node("Relu", ["x"], ["y"])


@pytest.fixture
def refused(import_onnx: Importer) -> Callable[..., Diagnostic]:
    """The only diagnostic that importing gives, which is an error of the user's."""

    def importing(model: Any, **options: Any) -> Diagnostic:
        with pytest.raises(CompileError) as caught:
            import_onnx(model, **options)
        (diagnostic,) = caught.value.diagnostics
        assert diagnostic.severity == "error"
        return diagnostic

    return importing


# -- the file ----------------------------------------------------------------------------------------------------------


def test_missing_file(refused: Callable[..., Diagnostic], tmp_path: Path) -> None:
    assert "cannot read" in refused(tmp_path / "none.onnx").message


def test_truncated_file(refused: Callable[..., Diagnostic], small: Small, tmp_path: Path) -> None:
    data = small([RELU], {"x": [1]}, ["y"]).SerializeToString()
    for size in (0, 1, 10, len(data) // 2, len(data) - 1):
        path = tmp_path / "cut.onnx"
        path.write_bytes(data[:size])
        found = refused(path)
        assert "not an ONNX model, or a truncated one" in found.message or "opset" in found.message


@pytest.mark.parametrize("data", [b"hello, this is text", b"TFL3" * 20, b"\x89PNG\r\n\x1a\n", bytes(100), b"\x08\x07"])
def test_other_files(data: bytes, refused: Callable[..., Diagnostic]) -> None:
    assert "is not an ONNX model" in refused(data).message


def test_names_that_are_not_text(refused: Callable[..., Diagnostic], small: Small) -> None:
    data = small([node("Relu", ["x"], ["name"])], {"x": [1]}, ["name"]).SerializeToString()
    assert "a name in it is not text" in refused(data.replace(b"name", b"n\xffme")).message


def test_no_outputs(refused: Callable[..., Diagnostic], small: Small) -> None:
    assert "has no outputs" in refused(small([RELU], {"x": [1]}, [])).message


@pytest.mark.parametrize(("opset", "message"), [
    (999, "uses opset 999; the installed onnx"), (0, "uses opset 0, which does not exist"),
    (8, "uses opset 8, which cannot be brought to 11"),
])
def test_unknown_opsets(opset: int, message: str, refused: Callable[..., Diagnostic], small: Small) -> None:
    assert message in refused(small([node("Unheard", ["x"], ["y"])], {"x": [1]}, ["y"], opset=opset)).message


def test_no_opset(refused: Callable[..., Diagnostic], small: Small) -> None:
    model = small([RELU], {"x": [1]}, ["y"])
    del model.opset_import[:]
    assert "does not say which opset it uses" in refused(model).message


# -- the graph ---------------------------------------------------------------------------------------------------------

A, B = node("Relu", ["x"], ["a"], name="first"), node("Neg", ["a"], ["y"], name="second")
GRAPHS: list[Any] = [
    ([A, node("Neg", ["aa"], ["y"], name="second")],
     "node 'second' (Neg) reads the tensor 'aa', which nothing defines"),
    ([A, node("Abs", ["x"], ["a"], name="again"), B], "the tensor 'a' is defined twice: by node 'first' (Relu) and by"),
    ([node("Abs", ["y"], ["x"]), B, A], "the tensor 'x' is defined twice: by the input 'x'"),
    ([node("Add", ["x", "c"], ["b"], name="p"), node("Neg", ["b"], ["c"], name="q"), node("Relu", ["c"], ["y"])],
     "the graph has a cycle: 'p' <- 'q' <- 'p'"),
    ([node("Add", ["x", "y"], ["y"], name="p")], "the graph has a cycle: 'p' <- 'p'"),
    ([A], "the graph's output 'y' is not defined by any node"),
    ([node("Relu", ["x", "x"], ["y"])], "node 'Relu_0' (Relu) is not valid in opset 17"),
    ([node("Relu", ["x"], ["y"], alpha=1.0)], "node 'Relu_0' (Relu) is not valid in opset 17"),
    ([node("Transpose", ["x"], ["y"], perm=[0, 5])], "Transpose: perm is [0, 5], expected each of 0 to 1 once"),
    ([node("Reshape", ["x", "three"], ["y"])], "Reshape: [1, 4] cannot become [3]"),
    ([node("Add", ["x", "five"], ["y"])], "shapes 1x4 and 5 do not broadcast"),
    ([node("Concat", ["x", "five"], ["y"], axis=2)], "Concat: axis 2 does not exist in a tensor of rank 2"),
    ([node("Gemm", ["x", "five"], ["y"])], "Gemm: A is [1, 4] and B [5]"),
    ([node("MatMul", ["x", "five"], ["y"])], "MatMul: A is [1, 4] and B [5]: they do not fit"),
    ([node("Gather", ["x", "three"], ["y"])], "Gather: the indices go from 3 to 3, expected -1 to 0"),
    ([node("Expand", ["x", "huge"], ["y"])], "the result of shape [1000000, 1000000, 1, 4] has 4000000000000"),
    ([node("ConstantOfShape", ["huge"], ["c"]), node("Add", ["x", "c"], ["y"])], "the result of shape"),
    ([node("Conv", ["x", "image"], ["y"])], "is not supported"),
    ([node("MaxPool", ["x"], ["y"], kernel_shape=[9])], "is not supported"),
]


@pytest.mark.parametrize(("nodes", "message"), GRAPHS)
def test_broken_graphs(nodes: list[onnx.NodeProto], message: str, refused: Callable[..., Diagnostic], small: Small) \
        -> None:
    weights = {"huge": np.array([10**6, 10**6, 1, 1]), "three": np.array([3]), "five": np.ones(5, "f"),
               "image": np.ones((2, 3, 3, 3), "f")}
    assert message in refused(small(nodes, {"x": [1, 4]}, ["y"], weights=weights)).message


SPATIAL: list[Any] = [
    (node("Conv", ["x", "w"], ["y"], pads=[1, 1]), "does not fit its inputs: pads has 2 entries, expected 4"),
    (node("Conv", ["x", "w"], ["y"], kernel_shape=[2, 2]), "Conv: kernel_shape is (2, 2), the weight is [2, 3, 3, 3]"),
    (node("Conv", ["x", "w"], ["y"], strides=[0, 1]), "have to be at least 1"),
    (node("Conv", ["x", "w"], ["y"], group=3), "channels"),
    (node("Conv", ["x", "w"], ["y"], auto_pad="SAME"), "auto_pad is 'SAME', expected NOTSET, SAME_UPPER"),
    (node("Conv", ["x", "w"], ["y"], dilations=[4, 4]), "the result would be"),
    (node("MaxPool", ["x"], ["y"], kernel_shape=[9, 9]), "the result would be"),
    (node("MaxPool", ["x"], ["y"], kernel_shape=[3]), "kernel_shape is (3,), expected 2 entries"),
    (node("Resize", ["x", "", "", "s"], ["y"]), "does not fit its inputs"),
]


@pytest.mark.parametrize(("broken", "message"), SPATIAL)
def test_broken_spatial_nodes(broken: onnx.NodeProto, message: str, refused: Callable[..., Diagnostic],
                              small: Small) -> None:
    weights = {"w": np.ones((2, 3, 3, 3), "f"), "s": np.array([1, 3, 4])}
    found = refused(small([broken], {"x": [1, 3, 5, 5]}, ["y"], weights=weights))
    assert message in found.message
    assert found.loc != Diagnostic("error", "").loc


# -- weights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("nodes", "shape"), [
    ([node("Conv", ["x", "w"], ["y"])], (2, 3, 1, 1)), ([node("Mul", ["x", "w"], ["y"])], (3, 1, 1)),
    ([node("MatMul", ["x", "w"], ["y"])], (4, 2)), ([node("PRelu", ["x", "w"], ["y"])], (3, 1, 1)),
])
def test_weights_that_are_not_finite(value: float, nodes: list[onnx.NodeProto], shape: tuple[int, ...],
                                     refused: Callable[..., Diagnostic], small: Small) -> None:
    weight = np.ones(shape, np.float32)
    weight.flat[1] = value
    found = refused(small(nodes, {"x": [1, 3, 4, 4]}, ["y"], weights={"w": weight}))
    assert f"'w' has 1 values that are not finite, of {weight.size} (first: {value})" in found.message


def test_masks_may_be_infinite(import_onnx: Importer, small: Small) -> None:
    mask = np.array([0, -np.inf], np.float32)
    import_onnx(small([node("Add", ["x", "w"], ["y"])], {"x": [1, 2]}, ["y"], weights={"w": mask}))


def with_tensor(small: Small, tensor: TensorProto) -> onnx.ModelProto:
    model = small([node("Add", ["x", "w"], ["y"])], {"x": [1, 3]}, ["y"])
    model.graph.initializer.append(tensor)
    return model


def test_initialisers_of_the_wrong_size(refused: Callable[..., Diagnostic], small: Small) -> None:
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "w")
    tensor.raw_data = tensor.raw_data[:-2]
    assert "initializer 'w' has the wrong size" in refused(with_tensor(small, tensor)).message
    values = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], float_data=[1, 2, 3])
    assert "initializer 'w' has the wrong size" in refused(with_tensor(small, values)).message
    negative = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[-3], float_data=[1, 2, 3])
    assert "with a negative dimension" in refused(with_tensor(small, negative)).message
    text = TensorProto(name="w", data_type=TensorProto.STRING, dims=[1], string_data=[b"a"])
    assert "holds STRING elements" in refused(with_tensor(small, text)).message
    odd = TensorProto(name="w", data_type=77, dims=[1], raw_data=b"abcd")
    assert "initializer 'w'" in refused(with_tensor(small, odd)).message


def test_two_initialisers_of_one_name(refused: Callable[..., Diagnostic], small: Small) -> None:
    model = with_tensor(small, numpy_helper.from_array(np.ones(3, np.float32), "w"))
    model.graph.initializer.append(model.graph.initializer[0])
    assert "two initializers are called 'w'" in refused(model).message


def test_two_inputs_of_one_name(refused: Callable[..., Diagnostic], small: Small) -> None:
    model = small([RELU], {"x": [1]}, ["y"])
    model.graph.input.append(model.graph.input[0])
    assert "two inputs of the graph are called 'x'" in refused(model).message


# -- what is not supported ---------------------------------------------------------------------------------------------


def test_one_table_for_the_whole_model(import_onnx: Importer, small: Small) -> None:
    nodes = [
        node("LSTM", ["x", "w", "w"], ["a"], name="rnn", hidden_size=3), node("Cos", ["a"], ["b"], name="wave"),
        node("Cos", ["b"], ["c"]), node("Resize", ["x", "", "s"], ["d"], mode="cubic"),
        node("Custom", ["d"], ["e"], domain="my.ops"),
        node("MatMulIntegerToFloat", ["x", "w"], ["q"], domain="com.microsoft"),
        node("Sum", ["b", "c", "e"], ["y"]), node("LayerNormalization", ["x", "w"], ["n"]),
    ]
    model = small(nodes, {"x": [1, 3, 4, 4]}, ["y", "q", "n"],
                  weights={"w": np.ones(3, np.float32), "s": np.ones(4, np.float32)})
    with pytest.raises(Unsupported) as caught:
        import_onnx(model, name="net")
    first, *rows = caught.value.diagnostics[0].message.splitlines()
    assert first == "6 operators of net are not supported"
    assert [re.split("  +", row.strip()) for row in rows] == [
        ["operator", "domain", "nodes", "first node", "what to do"],
        ["LSTM", "ai.onnx", "1", "rnn", "recurrent layers: not yet"],
        ["Cos", "ai.onnx", "2", "wave", "not supported"],
        ["Resize", "ai.onnx", "1", "Resize_3", "in mode cubic: only nearest and linear are"],
        ["Custom", "my.ops", "1", "Custom_4",
         "an operator of another domain: express it with standard operators, or as a model-local function"],
        ["MatMulIntegerToFloat", "com.microsoft", "1", "MatMulIntegerToFloat_5",
         "scales found at run time: not supported; quantise the model with static scales"],
        ["LayerNormalization", "ai.onnx", "1", "LayerNormalization_7", "transformers: not yet"],
    ]
    assert rows[1].index("rnn") == rows[0].index("first node")


UNSUPPORTED: list[Any] = [
    (node("Conv", ["x", "x"], ["y"]), "the weight ('x') has to be a constant"),
    (node("Reshape", ["x", "i"], ["y"]), "the shape ('i') has to be a constant"),
    (node("MaxPool", ["x"], ["y", "indices"], kernel_shape=[2, 2]), "with the output Indices"),
    (node("Resize", ["x", "", "s"], ["y"], coordinate_transformation_mode="tf_crop_and_resize"), "tf_crop_and_resize"),
    (node("Resize", ["x", "", "channels"], ["y"]), "only the spatial dimensions"),
    (node("Dropout", ["x", "", "true"], ["y"]), "in training mode"),
    (node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16), "elements of type BFLOAT16, which is not supported"),
    (node("If", ["i"], ["y"], then_branch=helper.make_graph([], "a", [], []),
          else_branch=helper.make_graph([], "b", [], [])), "the condition has to be a constant"),
]


@pytest.mark.parametrize(("asked", "message"), UNSUPPORTED)
def test_unsupported_variants(asked: onnx.NodeProto, message: str, import_onnx: Importer, small: Small) -> None:
    weights = {"s": np.array([1, 1, 2, 2], "f"), "channels": np.array([1, 2, 1, 1], "f"), "true": np.array(True)}
    model = small([asked], {"x": [1, 3, 4, 4]}, ["y"], weights=weights)
    model.graph.input.append(helper.make_tensor_value_info("i", TensorProto.INT64, [2]))
    with pytest.raises(Unsupported) as caught:
        import_onnx(model)
    assert message in str(caught.value)


def test_inputs_that_are_no_tensors(import_onnx: Importer, small: Small) -> None:
    model = small([RELU], {"x": [1]}, ["y"])
    model.graph.input.append(helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, [1]))
    with pytest.raises(Unsupported, match="the input 'list' is not a tensor but a sequence_type"):
        import_onnx(model)
    model.graph.input[1].CopyFrom(helper.make_tensor_value_info("list", TensorProto.STRING, [1]))
    with pytest.raises(Unsupported, match="the input 'list' has elements of type STRING"):
        import_onnx(model)
