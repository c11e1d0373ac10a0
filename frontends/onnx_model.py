"""Reads an ONNX file and makes sure that it is a well-formed graph, before anything is converted.

    path or bytes -> ModelProto -> functions inlined, opset 11 or newer -> Graph: names checked, nodes in order

Everything that can be wrong with the file itself is found here. What single nodes mean is in `onnx_ops*`.
Source: the ONNX IR specification (https://github.com/onnx/onnx/blob/main/docs/IR.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper

from tinyir.diag import NamedLoc, did_you_mean, error
from tinyir.ir import Array

__all__ = ["OLDEST_OPSET", "Graph", "GraphNode", "named_nodes", "read_graph", "tensor_array"]

OLDEST_OPSET = 11
_DEFAULT_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, eq=False)
class GraphNode:
    """A node and what messages and locations call it: its name, or its operator and number when it has none."""

    proto: onnx.NodeProto
    name: str

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.proto.op_type})"

    def reads(self) -> list[str]:
        """The tensors that it reads; those that the graphs inside it take from outside are among them."""
        return _reads(self.proto)


@dataclass
class Graph:
    """A checked graph. `nodes` are in execution order and only those that some output depends on."""

    name: str
    opset: int
    ir_version: int
    imports: dict[str, int]
    inputs: list[onnx.ValueInfoProto]  # those without an initialiser
    outputs: list[str]
    nodes: list[GraphNode]
    _tensors: dict[str, onnx.TensorProto] = field(default_factory=dict)
    _arrays: dict[str, Array] = field(default_factory=dict)

    def is_initializer(self, name: str) -> bool:
        """Whether `name` is stored in the file."""
        return name in self._tensors

    def array(self, name: str) -> Array:
        """The elements of an initialiser. Raises CompileError if its bytes do not fit its shape."""
        if name not in self._arrays:
            self._arrays[name] = tensor_array(self._tensors[name], f"initializer {name!r}")
        return self._arrays[name]


def read_graph(source: str | os.PathLike[str] | bytes, name: str | None = None) -> Graph:
    """The graph of the model in a file, or in `source` itself if that is bytes. Raises CompileError."""
    path = None if isinstance(source, bytes) else Path(source)
    what = "the model" if path is None else str(path)
    model = _parse(source if isinstance(source, bytes) else _read_file(Path(source)), what)
    _load_external(model, path.parent if path else None, what)
    model = _upgrade(_inline(model, what), what)
    stem = name or (path.stem if path else "") or model.graph.name or "model"
    return _graph(model, stem)


def tensor_array(tensor: onnx.TensorProto, what: str) -> Array:
    """The elements of a tensor of the file. Raises CompileError if shape and bytes do not fit together."""
    shape = list(tensor.dims)
    if any(d < 0 for d in shape):
        raise error(f"{what} has the shape {shape}, with a negative dimension")
    if tensor.data_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        raise error(f"{what} holds {onnx.TensorProto.DataType.Name(tensor.data_type)} elements, expected numbers")
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as problem:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type) if tensor.data_type in _ELEMENT_TYPES else "?"
        raise error(f"{what} has the wrong size: its shape {shape} of {kind} elements does not fit the bytes stored",
                    notes=[str(problem)], help="the file is damaged; export the model again") from None


_ELEMENT_TYPES = set(onnx.TensorProto.DataType.values())


# -- the file ----------------------------------------------------------------------------------------------------------


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror or problem}") from None


def _parse(data: bytes, what: str) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise _not_a_model(what, len(data)) from None
    if not model.HasField("graph") or not model.ir_version:
        raise _not_a_model(what, len(data))
    if any(isinstance(word, bytes) for word in _words(model)):
        raise error(f"{what} is damaged: a name in it is not text (UTF-8)", help="export the model again")
    if not model.graph.output:
        raise error(f"{what}: the graph has no outputs, so there is nothing to compile")
    return model


def _words(model: onnx.ModelProto) -> Iterator[str | bytes]:
    """All names in the model's graph; protobuf gives bytes for what is not UTF-8."""
    graph = model.graph
    yield graph.name
    yield from (entry.domain for entry in model.opset_import)
    yield from (tensor.name for tensor in graph.initializer)
    for value in (*graph.input, *graph.output):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


def _not_a_model(what: str, size: int) -> Exception:
    return error(f"{what} is not an ONNX model, or a truncated one ({size} bytes)",
                 help="expected the binary protobuf that torch.onnx.export, tf2onnx or paddle2onnx write (.onnx)")


def _load_external(model: onnx.ModelProto, folder: Path | None, what: str) -> None:
    stored = sorted({_location(t) for t in _all_tensors(model) if t.data_location == onnx.TensorProto.EXTERNAL})
    if not stored:
        return
    files = ", ".join(stored)
    if folder is None:
        raise error(f"the model keeps weights in other files ({files}), which bytes alone do not name",
                    help="pass the path of the model")
    from onnx.external_data_helper import load_external_data_for_model

    try:
        load_external_data_for_model(model, str(folder))
    except (OSError, ValueError, onnx.checker.ValidationError) as problem:
        missing = [name for name in stored if not (folder / name).is_file()]
        if missing:
            raise error(f"{what}: the external data file {missing[0]!r} is missing",
                        help=f"put it beside the model, into {folder}") from None
        raise error(f"{what}: cannot read its external data ({files})", notes=[str(problem)]) from None


def _location(tensor: onnx.TensorProto) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "?")


def _all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in (a for node in nodes for a in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for graph in _subgraphs(attribute):
            yield from _graph_tensors(graph)


def _subgraphs(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    return ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs)


# -- functions and versions --------------------------------------------------------------------------------------------


def _inline(model: onnx.ModelProto, what: str) -> onnx.ModelProto:
    if not model.functions:
        return model
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model)
    except Exception as problem:
        raise error(f"{what}: its local functions cannot be inlined", notes=[_first_line(problem)]) from None


def _upgrade(model: onnx.ModelProto, what: str) -> onnx.ModelProto:
    opset, newest = _opset(model, what), onnx.defs.onnx_opset_version()
    if opset > newest:
        raise error(f"{what} uses opset {opset}; the installed onnx {onnx.__version__} knows up to {newest}",
                    help="install a newer onnx package, or export the model with an older opset")
    if opset >= OLDEST_OPSET:
        return model
    from onnx import version_converter

    try:
        return _with_old_resize(version_converter.convert_version(model, OLDEST_OPSET))
    except Exception as problem:
        raise error(f"{what} uses opset {opset}, which cannot be brought to {OLDEST_OPSET}, the oldest one supported",
                    notes=[_first_line(problem)], help="export the model again with opset 13 or newer") from None


def _with_old_resize(model: onnx.ModelProto) -> onnx.ModelProto:
    """Before opset 11 a resized pixel o lay at o / scale, rounded down; the version converter leaves that out."""
    for node in model.graph.node:
        if node.op_type == "Resize" and not any(a.name == "coordinate_transformation_mode" for a in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
            node.attribute.append(onnx.helper.make_attribute("nearest_mode", "floor"))
    return model


def _opset(model: onnx.ModelProto, what: str) -> int:
    versions = [o.version for o in model.opset_import if o.domain in _DEFAULT_DOMAINS]
    if not versions and all(node.domain not in _DEFAULT_DOMAINS for node in model.graph.node):
        return int(onnx.defs.onnx_opset_version())  # its operators are all of other domains
    if not versions:
        raise error(f"{what} does not say which opset it uses", help="the field opset_import has no entry for ai.onnx")
    if versions[0] < 1:
        raise error(f"{what} uses opset {versions[0]}, which does not exist")
    return int(versions[0])


def _first_line(problem: BaseException) -> str:
    text = str(problem).strip().splitlines()
    return text[0] if text else type(problem).__name__


# -- names and order ---------------------------------------------------------------------------------------------------

Producers = dict[str, GraphNode]


def _graph(model: onnx.ModelProto, name: str) -> Graph:
    graph = model.graph
    nodes, tensors = named_nodes(graph), _initializers(graph)
    producers = _producers(graph, nodes, tensors)
    given = set(tensors) | {i.name for i in graph.input}
    order = _in_order(nodes, producers, given)
    outputs = [o.name for o in graph.output]
    for output in outputs:
        if output not in producers and output not in given:
            raise error(f"the graph's output {output!r} is not defined by any node",
                        help=did_you_mean(output, producers))
    return Graph(
        name, _opset(model, name), model.ir_version, {o.domain: o.version for o in model.opset_import},
        [i for i in graph.input if i.name not in tensors], outputs, _live(order, outputs), tensors,
    )


def named_nodes(graph: onnx.GraphProto, prefix: str = "") -> list[GraphNode]:
    """The nodes of a graph in the order of the file, each with its name."""
    return [GraphNode(node, prefix + (node.name or f"{node.op_type}_{index}")) for index, node in enumerate(graph.node)]


def _initializers(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    tensors: dict[str, onnx.TensorProto] = {}
    for tensor in graph.initializer:
        if tensor.name in tensors:
            raise error(f"two initializers are called {tensor.name!r}")
        tensors[tensor.name] = tensor
    if graph.sparse_initializer:
        raise error("the model has sparse initializers", help="store its weights dense")
    return tensors


def _producers(graph: onnx.GraphProto, nodes: list[GraphNode], tensors: dict[str, onnx.TensorProto]) -> Producers:
    """The node that defines each tensor. Raises CompileError when two things define one."""
    seen = {name: f"the initializer {name!r}" for name in tensors}
    inputs: set[str] = set()
    for value in graph.input:
        if value.name in inputs:
            raise error(f"two inputs of the graph are called {value.name!r}")
        inputs.add(value.name)
        seen[value.name] = f"the input {value.name!r}"
    producers: Producers = {}
    for node in nodes:
        for output in filter(None, node.proto.output):
            if output in seen:
                raise error(f"the tensor {output!r} is defined twice: by {seen[output]} and by {node}",
                            loc=NamedLoc(node.name), help="each name may be defined once (SSA)")
            seen[output] = str(node)
            producers[output] = node
    return producers


def _reads(node: onnx.NodeProto) -> list[str]:
    found = [name for name in node.input if name]
    for graph in (g for attribute in node.attribute for g in _subgraphs(attribute)):
        inner = {t.name for t in graph.initializer} | {i.name for i in graph.input}
        inner |= {output for child in graph.node for output in child.output}
        wanted = [name for child in graph.node for name in _reads(child)] + [o.name for o in graph.output]
        found += [name for name in wanted if name not in inner]
    return list(dict.fromkeys(found))


def _in_order(nodes: list[GraphNode], producers: Producers, given: set[str]) -> list[GraphNode]:
    """`nodes` with every producer before its readers, else in the order of the file (iterative depth-first search)."""
    order: dict[GraphNode, None] = {}
    opened: set[GraphNode] = set()
    for root in nodes:
        stack = [root]
        while stack:
            node = stack[-1]
            waiting = next((p for p in _producers_of(node, producers, given) if p not in order), None)
            if node in order or waiting is None:
                order[stack.pop()] = None
                continue
            opened.add(node)
            if waiting in opened:
                raise _cycle(stack, waiting)
            stack.append(waiting)
    return list(order)


def _producers_of(node: GraphNode, producers: Producers, given: set[str]) -> Iterator[GraphNode]:
    for name in node.reads():
        if name in producers:
            yield producers[name]
        elif name not in given:
            raise error(f"{node} reads the tensor {name!r}, which nothing defines", loc=NamedLoc(node.name),
                        help=did_you_mean(name, [*producers, *given]))


def _cycle(stack: list[GraphNode], again: GraphNode) -> Exception:
    around = " <- ".join(repr(node.name) for node in [*stack[stack.index(again):], again])
    return error(f"the graph has a cycle: {around}", loc=NamedLoc(again.name),
                 help="a node may not depend on its own output")


def _live(order: list[GraphNode], outputs: list[str]) -> list[GraphNode]:
    wanted = set(outputs)
    live: list[GraphNode] = []
    for node in reversed(order):
        if wanted.intersection(node.proto.output):
            wanted.update(node.reads())
            live.append(node)
    return live[::-1]
