"""Fixtures for the frontend: build small models, import them, compare the interpreter with onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tinyir.interp import run
from tinyir.ir import Array, Module
from tinyir.registry import FRONTENDS

Importer = Callable[..., Module]


@dataclass(frozen=True)
class NodeCase:
    """One ONNX node. Inputs are arrays or None; `constants`: which are initialisers (default: all but the first)."""

    kind: str
    inputs: Sequence[Array | None]
    attrs: dict[str, Any] = field(default_factory=dict)
    constants: Iterable[int] | None = None
    opset: int = 21
    outputs: int = 1
    tolerance: float = 1e-5

    def model(self) -> onnx.ModelProto:
        names = [f"i{n}" if array is not None else "" for n, array in enumerate(self.inputs)]
        fixed = set(range(1, len(names)) if self.constants is None else self.constants)
        results = [f"y{n}" for n in range(self.outputs)]
        node = helper.make_node(self.kind, names, results, **self.attrs)
        given = [(n, a) for n, a in zip(names, self.inputs, strict=True) if a is not None]
        free = [(n, a) for n, a in given if int(n[1:]) not in fixed]
        stored = [numpy_helper.from_array(a, n) for n, a in given if int(n[1:]) in fixed]
        infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in free]
        outputs = [helper.make_empty_tensor_value_info(name) for name in results]
        graph = helper.make_graph([node], "case", infos, outputs, stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)

    def free_inputs(self) -> list[Array]:
        fixed = set(range(1, len(self.inputs)) if self.constants is None else self.constants)
        return [a for n, a in enumerate(self.inputs) if a is not None and n not in fixed]


@pytest.fixture
def import_onnx() -> Importer:
    """The registered frontend; takes a model, bytes or a path."""

    def load(model: Any, **options: Any) -> Module:
        source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
        return FRONTENDS.get("onnx")(source, **options)

    return load


@pytest.fixture
def ort_run() -> Callable[..., list[Array]]:
    """What onnxruntime computes for a model (a ModelProto or a path) on inputs in order."""

    def outputs(model: Any, inputs: Sequence[Array]) -> list[Array]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]
        return [np.asarray(a) for a in session.run(None, dict(zip(names, inputs, strict=True)))]

    return outputs


@pytest.fixture
def check(import_onnx: Importer, ort_run: Callable[..., list[Array]]) -> Callable[..., Module]:
    """Import a model and compare what the interpreter makes of it with onnxruntime; gives back the module."""

    def compare(model: onnx.ModelProto, inputs: Sequence[Array], tolerance: float = 1e-5) -> Module:
        module = import_onnx(model)
        for found, expected in zip(run(module, inputs), ort_run(model, inputs), strict=True):
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=tolerance * max(1.0, _peak(expected)))
        return module

    return compare


def _peak(array: Array) -> float:
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    return float(np.abs(finite).max()) if finite.size else 1.0


def small_model(nodes: Sequence[onnx.NodeProto], inputs: dict[str, Sequence[Any]], outputs: Sequence[str], *,
                weights: dict[str, Array] | None = None, opset: int = 17, **more: Any) -> onnx.ModelProto:
    """A float model of `nodes`; dimensions may be numbers, symbols or None."""
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in inputs.items()]
    stored = [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()]
    graph = helper.make_graph(nodes, "small", infos, [helper.make_empty_tensor_value_info(o) for o in outputs], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **more)


@pytest.fixture
def small() -> Callable[..., onnx.ModelProto]:
    return small_model


@pytest.fixture
def node_case() -> type[NodeCase]:
    return NodeCase


def pytest_make_parametrize_id(val: object) -> str | None:
    """Cases in tables are tuples (operator, ...): call the test after the operator."""
    return str(val[0]) if isinstance(val, tuple) and val and isinstance(val[0], str) else None
