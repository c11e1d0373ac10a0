"""Whole graphs: input shapes, what folds, functions, opsets, several inputs and outputs, names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tinyir.diag import CompileError, NamedLoc
from tinyir.interp import run
from tinyir.ir import Array, Module
from tinyir.pass_manager import Context

Small = Callable[..., onnx.ModelProto]
Importer = Callable[..., Module]
Check = Callable[..., Module]
node = helper.make_node


def opnames(module: Module) -> list[str]:
    return [op.opname for op in module.main.ops]


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_symbolic_batch_becomes_one(small: Small, import_onnx: Importer) -> None:
    context = Context()
    module = import_onnx(small([node("Relu", ["x"], ["y"])], {"x": ["batch", 3]}, ["y"]), ctx=context)
    assert module.main.inputs[0].shape == (1, 3)
    assert [d.message for d in context.diagnostics] == ["the dimension 'batch' is the batch: fixed to 1"]


def test_nameless_batch_becomes_one(small: Small, import_onnx: Importer) -> None:
    module = import_onnx(small([node("Relu", ["x"], ["y"])], {"x": [None, 3]}, ["y"]))
    assert module.main.inputs[0].shape == (1, 3)


def test_batch_symbol_holds_for_all_inputs(small: Small, import_onnx: Importer) -> None:
    model = small([node("Add", ["x", "z"], ["y"])], {"x": ["n", 3], "z": [3, "n"]}, ["y"])
    assert [a.shape for a in import_onnx(model).main.inputs] == [(1, 3), (3, 1)]


def test_input_dim_fixes_a_symbol(small: Small, import_onnx: Importer) -> None:
    model = small([node("Relu", ["x"], ["y"])], {"x": ["n", "h", "h"]}, ["y"])
    assert import_onnx(model, input_dims={"h": 5, "n": 2}).main.inputs[0].shape == (2, 5, 5)


def test_input_shape_fixes_an_input(small: Small, import_onnx: Importer) -> None:
    model = small([node("Relu", ["x"], ["y"])], {"x": ["n", 3, None]}, ["y"])
    assert import_onnx(model, input_shapes={"x": (4, 3, 7)}).main.inputs[0].shape == (4, 3, 7)


BAD_SHAPES: list[Any] = [
    (["n", "h"], {}, "dimension 1 ('h') of the input 'x' is dynamic", "--input-dim h=96 or --input-shape x=1x96"),
    (["n", None], {}, "dimension 1, which has no name, of the input 'x' is dynamic", "with --input-shape x=1x96"),
    (["n", "h"], {"input_dims": {"hh": 5}}, "--input-dim: 'hh' is not a symbolic dimension", "did you mean 'h'?"),
    (["n", 3], {"input_shapes": {"z": (1, 3)}}, "--input-shape: 'z' is not an input", "known: x"),
    (["n", 3], {"input_shapes": {"x": (1, 4)}}, "--input-shape: x=1x4 does not fit the model, where it is [n, 3]", ""),
    (["n", 3], {"input_shapes": {"x": (1, 3, 1)}}, "does not fit the model", ""),
    ([1, 0], {}, "the input 'x' has the shape 1x0: no elements at all", "--input-shape x="),
    ([1, -2], {}, "the input 'x' has the shape 1x-2, with a negative dimension", "--input-shape x="),
    (["n", 3], {"input_dims": {"n": 0}}, "the input 'x' has the shape 0x3: no elements at all", ""),
]


@pytest.mark.parametrize(("dims", "options", "message", "help"), BAD_SHAPES)
def test_bad_input_shapes(dims: list[Any], options: dict[str, Any], message: str, help: str, small: Small,
                          import_onnx: Importer) -> None:
    with pytest.raises(CompileError) as caught:
        import_onnx(small([node("Relu", ["x"], ["y"])], {"x": dims}, ["y"]), **options)
    (diagnostic,) = caught.value.diagnostics
    assert message in diagnostic.message
    assert help in (diagnostic.help or "")


def test_input_without_a_shape(import_onnx: Importer) -> None:
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    graph = helper.make_graph([node("Relu", ["x"], ["y"])], "g", [info], [helper.make_empty_tensor_value_info("y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(CompileError, match="has no shape"):
        import_onnx(model)
    assert import_onnx(model, input_shapes={"x": (2, 2)}).main.inputs[0].shape == (2, 2)


def test_initialiser_that_is_an_input_too(small: Small, check: Check) -> None:
    model = small([node("Add", ["x", "w"], ["y"])], {"x": [1, 3], "w": [3]}, ["y"], weights={"w": np.ones(3, "f")})
    module = check(model, [np.ones((1, 3), np.float32)])
    assert [a.name for a in module.main.inputs] == ["x"]


def test_bound_inputs_are_constants(small: Small, import_onnx: Importer) -> None:
    model = small([node("Add", ["x", "b"], ["y"])], {"x": [1, 3], "b": [3]}, ["y"])
    module = import_onnx(model, constants={"b": np.arange(3, dtype=np.float32)})
    assert run(module, [np.zeros((1, 3), np.float32)])[0].tolist() == [[0, 1, 2]]


# -- names -------------------------------------------------------------------------------------------------------------


def test_names_and_locations(small: Small, import_onnx: Importer) -> None:
    nodes = [node("Relu", ["in:0"], ["a/b"], name="act"), node("Neg", ["a/b"], ["out:0"])]
    module = import_onnx(small(nodes, {"in:0": [1]}, ["out:0"]), name="net")
    relu, neg = module.main.ops[:2]
    assert (module.name, module.main.inputs[0].name, module.main.result_names) == ("net", "in_0", ("out:0",))
    assert (relu.out.name, relu.loc, neg.loc) == ("a_b", NamedLoc("act"), NamedLoc("Neg_1"))


def test_the_module_is_called_after_the_file(small: Small, import_onnx: Importer, tmp_path: Path) -> None:
    path = tmp_path / "2 layers.onnx"
    path.write_bytes(small([node("Relu", ["x"], ["y"])], {"x": [1]}, ["y"]).SerializeToString())
    assert import_onnx(path).name == "m_2_layers"


def test_several_outputs_in_order(small: Small, check: Check) -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["b"])]
    module = check(small(nodes, {"x": [3]}, ["b", "a", "b", "x"]), [np.array([-1, 0, 2], np.float32)])
    assert module.main.result_names == ("b", "a", "b", "x")


def test_unused_nodes_are_left_out_and_unused_inputs_stay(small: Small, import_onnx: Importer) -> None:
    nodes = [node("Relu", ["x"], ["y"]), node("NonMaxSuppression", ["x", "x"], ["dead"])]
    module = import_onnx(small(nodes, {"x": [3], "unused": [2]}, ["y"]))
    assert opnames(module) == ["nn.relu", "nn.return"]
    assert [a.name for a in module.main.inputs] == ["x", "unused"]


def test_unsorted_nodes_are_put_in_order(small: Small, import_onnx: Importer) -> None:
    nodes = [node("Neg", ["a"], ["y"]), node("Relu", ["x"], ["a"])]
    module = import_onnx(small(nodes, {"x": [3]}, ["y"]))
    assert opnames(module) == ["nn.relu", "nn.neg", "nn.return"]


def test_shared_weights_are_one_constant(small: Small, check: Check) -> None:
    weights = {"w": np.random.default_rng(0).standard_normal((3, 3, 1, 1)).astype(np.float32)}
    nodes = [node("Conv", ["x", "w"], ["a"]), node("Conv", ["a", "w"], ["y"])]
    module = check(small(nodes, {"x": [1, 3, 2, 2]}, ["y"], weights=weights), [np.ones((1, 3, 2, 2), np.float32)])
    assert list(module.consts) == ["w"]


# -- what folds --------------------------------------------------------------------------------------------------------


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def test_shape_chain_folds(small: Small, check: Check) -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"], axis=0),
        node("Slice", ["shape", "one", "two"], ["c"]),
        node("Unsqueeze", ["n", "zero1"], ["n1"]),
        node("Cast", ["c"], ["cf"], to=TensorProto.FLOAT),
        node("Mul", ["cf", "half"], ["cm"]),
        node("Cast", ["cm"], ["ci"], to=TensorProto.INT64),
        node("Concat", ["n1", "ci", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    weights = {"zero": np.array(0), "one": ints(1), "two": ints(2), "zero1": ints(0), "rest": ints(-1),
               "half": np.array(0.5, np.float32)}
    module = check(small(nodes, {"x": ["n", 4, 6]}, ["y"], weights=weights), [np.ones((1, 4, 6), np.float32)])
    assert opnames(module) == ["nn.reshape", "nn.return"]
    assert not module.consts


def test_expand_of_a_computed_shape_folds(small: Small, check: Check) -> None:
    """What PyTorch writes for x.expand(-1, 4): ConstantOfShape, Mul, Equal, Where."""
    nodes = [
        node("ConstantOfShape", ["two"], ["ones"], value=numpy_helper.from_array(ints(1))),
        node("Mul", ["ones", "minus"], ["negative"]),
        node("Equal", ["wanted", "negative"], ["is_open"]),
        node("Where", ["is_open", "ones", "wanted"], ["shape"]),
        node("Expand", ["x", "shape"], ["y"]),
    ]
    weights = {"two": ints(2), "minus": np.array(-1), "wanted": ints(-1, 4)}
    module = check(small(nodes, {"x": [3, 1]}, ["y"], weights=weights), [np.ones((3, 1), np.float32)])
    assert opnames(module) == ["nn.broadcast_to", "nn.return"]


def test_empty_pieces_of_shapes_fold(small: Small, check: Check) -> None:
    nodes = [node("Shape", ["x"], ["shape"]), node("Slice", ["shape", "two", "nine"], ["none"]),
             node("Concat", ["none", "minus"], ["target"], axis=0), node("Reshape", ["x", "target"], ["y"])]
    weights = {"two": ints(2), "nine": ints(9), "minus": ints(-1)}
    module = check(small(nodes, {"x": [2, 3]}, ["y"], weights=weights), [np.ones((2, 3), np.float32)])
    assert opnames(module) == ["nn.reshape", "nn.return"]


def test_computed_weights_fold_with_the_arithmetic_of_the_ir(small: Small, check: Check) -> None:
    rng = np.random.default_rng(1)
    weights = {"v": rng.standard_normal((2, 3, 1, 1)).astype("f"), "g": rng.standard_normal((2, 1, 1, 1)).astype("f")}
    nodes = [node("Mul", ["v", "g"], ["w"]), node("Conv", ["x", "w"], ["y"])]
    module = check(small(nodes, {"x": [1, 3, 4, 4]}, ["y"], weights=weights), [np.ones((1, 3, 4, 4), np.float32)])
    assert [op for op in opnames(module) if op != "nn.transpose"] == ["nn.conv2d", "nn.return"]


def test_range_and_dynamic_condition(small: Small, import_onnx: Importer) -> None:
    nodes = [node("Range", ["a", "b", "c"], ["r"]), node("Gather", ["x", "r"], ["y"])]
    weights = {"a": np.array(0), "b": np.array(5), "c": np.array(2)}
    module = import_onnx(small(nodes, {"x": [6]}, ["y"], weights=weights))
    assert run(module, [np.arange(6, dtype=np.float32)])[0].tolist() == [0, 2, 4]


def branch(name: str, operator: str) -> onnx.GraphProto:
    inner = node(operator, ["x"], [f"{name}_y"])
    return helper.make_graph([inner], name, [], [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, [3])])


@pytest.mark.parametrize(("rank", "expected"), [(1, "nn.relu"), (2, "nn.neg")])
def test_if_with_a_known_condition_is_its_branch(rank: int, expected: str, small: Small, check: Check) -> None:
    nodes = [node("Shape", ["x"], ["shape"]), node("Size", ["shape"], ["rank"]), node("Equal", ["rank", "n"], ["cond"]),
             node("If", ["cond"], ["y"], then_branch=branch("a", "Relu"), else_branch=branch("b", "Neg"))]
    model = small(nodes, {"x": [3]}, ["y"], weights={"n": np.array(rank)})
    assert opnames(check(model, [np.array([-1, 0, 1], np.float32)])) == [expected, "nn.return"]


# -- functions, versions, files ----------------------------------------------------------------------------------------


def test_local_functions_are_inlined(small: Small, check: Check) -> None:
    imports = [helper.make_opsetid("", 17)]
    body = [node("Softplus", ["a"], ["s"]), node("Tanh", ["s"], ["t"]), node("Mul", ["a", "t"], ["b"])]
    mish = helper.make_function("mine", "Mish", ["a"], ["b"], body, imports)
    model = small([node("Mish", ["x"], ["y"], domain="mine")], {"x": [4]}, ["y"], functions=[mish])
    model.opset_import.append(helper.make_opsetid("mine", 1))
    module = check(model, [np.linspace(-2, 2, 4, dtype=np.float32)])
    assert opnames(module) == ["nn.softplus", "nn.tanh", "nn.mul", "nn.return"]


@pytest.mark.parametrize("opset", [7, 9, 11, 12, 13, 17, 18, 21])
def test_opsets(opset: int, small: Small, check: Check) -> None:
    nodes = [node("Conv", ["x", "w"], ["a"]), node("Relu", ["a"], ["b"]), node("Flatten", ["b"], ["c"]),
             node("Softmax", ["c"], ["y"], axis=1)]
    weights = {"w": np.random.default_rng(0).standard_normal((2, 3, 2, 2)).astype(np.float32)}
    check(small(nodes, {"x": [1, 3, 4, 4]}, ["y"], weights=weights, opset=opset), [np.ones((1, 3, 4, 4), np.float32)])


OLD: list[Any] = [
    (9, node("Upsample", ["x", "s"], ["y"], mode="linear")), (9, node("Upsample", ["x", "s"], ["y"], mode="nearest")),
    (10, node("Resize", ["x", "s"], ["y"], mode="linear")), (10, node("Resize", ["x", "s"], ["y"], mode="nearest")),
    (7, node("Upsample", ["x"], ["y"], mode="linear", scales=[1.0, 1.0, 2.0, 3.0])),
    (7, node("Clip", ["x"], ["y"], min=-0.5, max=0.5)), (7, node("Pad", ["x"], ["y"], pads=[0, 0, 1, 2, 0, 0, 0, 1])),
    (7, node("Slice", ["x"], ["y"], starts=[1], ends=[3], axes=[2])), (7, node("Dropout", ["x"], ["y"], ratio=0.3)),
    (7, node("PRelu", ["x", "p"], ["y"])), (7, node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2])),
]


@pytest.mark.parametrize(("opset", "old"), OLD)
def test_old_operators(opset: int, old: onnx.NodeProto, small: Small, check: Check) -> None:
    known = {"s": np.array([1, 1, 1.5, 2], np.float32), "p": np.array([[[0.5]], [[0.1]]], np.float32)}
    weights = {name: array for name, array in known.items() if name in old.input}
    x = np.random.default_rng(2).standard_normal((1, 2, 4, 5)).astype(np.float32)
    check(small([old], {"x": [1, 2, 4, 5]}, ["y"], weights=weights, opset=opset), [x])


def test_external_data(small: Small, import_onnx: Importer, tmp_path: Path) -> None:
    weights = {"w": np.arange(600, dtype=np.float32)}
    model = small([node("Add", ["x", "w"], ["y"])], {"x": [600]}, ["y"], weights=weights)
    path = tmp_path / "big.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="big.data", size_threshold=100)
    assert run(import_onnx(path), [np.zeros(600, np.float32)])[0][-1] == 599
    (tmp_path / "big.data").write_bytes(b"short")
    with pytest.raises(CompileError, match=r"big.data|wrong size"):
        import_onnx(path)
    (tmp_path / "big.data").unlink()
    with pytest.raises(CompileError, match=re.escape("the external data file 'big.data' is missing")):
        import_onnx(path)
    with pytest.raises(CompileError, match="keeps weights in other files"):
        import_onnx(path.read_bytes())
