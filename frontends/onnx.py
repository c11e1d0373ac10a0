"""The ONNX frontend: a model becomes a module at graph level.

    Conv(x, w, b) {strides = [2, 2]}  ->  %x_nhwc = nn.transpose(%x) {perm = (0, 2, 3, 1)}
                                          %y = nn.conv2d(%x_nhwc, @w, @b) {stride = (2, 2)}
                                          %y_nchw = nn.transpose(%y) {perm = (0, 3, 1, 2)}

The steps: read and check the file (`onnx_model`), fix the shapes of the inputs (`onnx_inputs`), convert node after node
(`onnx_ops*`, one small converter per operator), evaluating at once what is known. What cannot be converted is collected
over the whole model and reported as one table (`onnx_unsupported`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx

from tinyir.diag import UNKNOWN, CompileError, Diagnostic, NamedLoc, Unsupported, error
from tinyir.interp import run
from tinyir.ir import Argument, Array, Block, Func, Module, Value, sanitise
from tinyir.ops import Return
from tinyir.pass_manager import Context
from tinyir.rewrite import Builder
from tinyir.types import Shape

from . import onnx_ops as onnx_ops  # fills CONVERTERS
from .onnx_double_pairs import merge_double_pairs
from .onnx_inputs import input_types
from .onnx_model import Graph, GraphNode, named_nodes, read_graph, tensor_array
from .onnx_node import CONVERTERS, Node, Operand, Site
from .onnx_stored import MOVING, moved_parts
from .onnx_unsupported import Row, report, why

__all__ = ["import_model"]

_MICROSOFT = "com.microsoft"
"""Where onnxruntime keeps the quantised operators that the standard does not have."""
_DOMAINS = ("", "ai.onnx", _MICROSOFT)
_INCONSISTENT = (ValueError, IndexError, TypeError, KeyError, ArithmeticError)


class _Missing:
    """What stands for a tensor that an unsupported node would have produced."""


_MISSING = _Missing()


def import_model(source: str | os.PathLike[str] | bytes, *, input_dims: Mapping[str, int] | None = None,
                 input_shapes: Mapping[str, Shape] | None = None, constants: Mapping[str, Array] | None = None,
                 name: str | None = None, ctx: Context | None = None) -> Module:
    """The module at graph level for an ONNX model: a file, or its bytes. See `frontends.import_onnx`."""
    graph = read_graph(source, name)
    return _Importer(graph, ctx or Context()).run(input_dims or {}, input_shapes or {}, constants or {})


class _Importer:
    def __init__(self, graph: Graph, ctx: Context) -> None:
        self.graph = graph
        self.ctx = ctx
        self.module = Module(_symbol(graph.name), "graph", {"opset": graph.opset})
        self.site = Site(self.module, Block())
        self.tensors: dict[str, Operand | _Missing] = {}
        self.sources: dict[str, tuple[str, ...]] = {}  # tensor -> inputs of the graph that it depends on
        self.stored = {n.proto.output[0] for n in graph.nodes if n.proto.op_type == "Constant"}
        self.unsupported: list[Row] = []

    def run(self, dims: Mapping[str, int], shapes: Mapping[str, Shape], constants: Mapping[str, Array]) -> Module:
        """Convert everything. Raises CompileError."""
        block = self.site.builder.block
        block.args = self._inputs(dims, shapes, constants)
        nodes, merged = merge_double_pairs(self.graph)
        self.tensors.update(merged)
        self._convert_all(nodes)
        if self.unsupported:
            raise report(self.graph.name, self.unsupported)
        results = [self._result(name) for name in self.graph.outputs]
        Builder(self.module, block).add(Return(tuple(results)))
        self.module.funcs["main"] = Func("main", block, 0, tuple(self.graph.outputs))
        self.module.drop_unused_consts()
        return self.module

    def _inputs(self, dims: Mapping[str, int], shapes: Mapping[str, Shape], constants: Mapping[str, Array]) \
            -> list[Argument]:
        free = [i for i in self.graph.inputs if i.name not in constants]
        self.tensors.update(constants)
        args = []
        for info, type_ in zip(free, input_types(free, dims, shapes, self.ctx), strict=True):
            arg = Argument(type_, sanitise(info.name), NamedLoc(info.name))
            args.append(arg)
            self.tensors[info.name] = arg
            self.sources[info.name] = (info.name,)
        return args

    def _result(self, name: str) -> Value:
        found = self._tensor(name)
        if isinstance(found, _Missing):
            raise AssertionError("unsupported nodes were reported")
        if isinstance(found, Value):
            return found
        if not found.size:
            message = f"the output {name!r} has no elements: its shape is {list(found.shape)}"
            raise Unsupported((Diagnostic("error", message),))
        return self.site.const(name, found)

    def _tensor(self, name: str) -> Operand | _Missing:
        if name not in self.tensors:
            self.tensors[name] = self.graph.array(name)
        return self.tensors[name]

    def origins(self, name: str) -> tuple[str, ...]:
        """The inputs of the graph that the tensor `name` depends on."""
        return self.sources.get(name, ())

    def is_stored(self, name: str) -> bool:
        """Whether the tensor `name` comes from the file as it is: an initialiser, or a Constant node."""
        return self.graph.is_initializer(name) or name in self.stored

    # -- nodes -------------------------------------------------------------------------------------------------------

    def _convert_all(self, nodes: Sequence[GraphNode]) -> None:
        for node in nodes:
            sources = [source for read in node.reads() for source in self.origins(read)]
            for output in filter(None, node.proto.output):
                self.sources[output] = tuple(dict.fromkeys(sources))
            produced = self._convert(node)
            self.tensors.update(zip(node.proto.output, produced, strict=False))

    def _convert(self, node: GraphNode) -> Sequence[Operand | _Missing]:
        """What the node produces; if it is not supported, remember why and go on without its outputs."""
        nothing = [_MISSING for _ in node.proto.output]
        operator = node.proto.op_type
        if node.proto.domain not in _DOMAINS or (operator not in CONVERTERS and operator != "If"):
            self.unsupported.append(Row(operator, node.proto.domain, node.name, why(operator, node.proto.domain)))
            return nothing
        inputs = [self._tensor(name) if name else None for name in node.proto.input]
        if any(isinstance(i, _Missing) for i in inputs):
            return nothing
        known = [None if isinstance(i, _Missing) else i for i in inputs]
        try:
            return self._checked(node, known)
        except Unsupported as problem:
            reason = problem.diagnostics[0].message.removeprefix(f"{operator}: ")
            self.unsupported.append(Row(operator, node.proto.domain, node.name, reason, problem.inputs))
            return nothing

    def _checked(self, node: GraphNode, inputs: list[Operand | None]) -> Sequence[Operand | _Missing]:
        """Convert, and turn whatever goes wrong into a diagnostic that names the node."""
        try:
            if node.proto.op_type == "If":
                return self._convert_if(node, inputs[0])
            self._check_schema(node)
            return self._run_converter(node, inputs)
        except Unsupported:
            raise
        except CompileError as problem:
            raise CompileError(tuple(replace(d, loc=NamedLoc(node.name)) if d.loc == UNKNOWN else d
                                     for d in problem.diagnostics)) from None
        except _INCONSISTENT as problem:
            shapes = [f"{n!r} is {list(v.shape)}" for n, v in zip(node.proto.input, inputs, strict=True)
                      if v is not None]
            message = f"{node} does not fit its inputs: {problem}"
            raise error(message, loc=NamedLoc(node.name), notes=shapes) from problem

    def _check_schema(self, node: GraphNode) -> None:
        if node.proto.domain == _MICROSOFT:
            return  # the onnx package does not know these
        context = onnx.checker.DEFAULT_CONTEXT.__class__()
        context.ir_version = self.graph.ir_version
        context.opset_imports = {**self.graph.imports, "": self.graph.opset}
        try:
            onnx.checker.check_node(node.proto, context)
        except onnx.checker.ValidationError as problem:
            raise error(f"{node} is not valid in opset {self.graph.opset}: {str(problem).splitlines()[0]}",
                        loc=NamedLoc(node.name)) from None

    def _run_converter(self, node: GraphNode, inputs: list[Operand | None]) -> Sequence[Operand]:
        if all(i is None or isinstance(i, np.ndarray) for i in inputs):
            return self._evaluated(node, inputs)
        return self._call(node, inputs, self.site)

    def _evaluated(self, node: GraphNode, inputs: list[Operand | None]) -> Sequence[Operand]:
        """What the node makes of known inputs; stored weights that are only moved stay stored integers."""
        def evaluate(arrays: list[Operand | None]) -> list[Array]:
            scratch = Site(Module("scratch"), Block(), scratch=True)
            return _evaluate(scratch, self._call(node, arrays, scratch))

        first = inputs[0] if inputs and node.proto.op_type in MOVING else None
        parts = moved_parts(lambda part: evaluate([part, *inputs[1:]]), first)
        return evaluate(inputs) if parts is None else parts

    def _call(self, node: GraphNode, inputs: list[Operand | None], site: Site) -> Sequence[Operand]:
        view = Node(node, self.graph.opset, inputs, site, self)
        produced = CONVERTERS[view.op_type](view)
        view.check_attributes()
        results = [produced] if isinstance(produced, (Value, np.ndarray)) else list(produced)
        if any(node.proto.output[len(results):]):
            raise view.unsupported(f"output number {len(results)} is not supported")
        return results

    def _convert_if(self, node: GraphNode, condition: Operand | None) -> Sequence[Operand | _Missing]:
        """The branch that is taken, when that is known; its nodes join those of the graph."""
        if not isinstance(condition, np.ndarray):
            view = Node(node, self.graph.opset, (), self.site, self)
            raise view.unsupported("the condition has to be a constant", inputs=self.origins(node.proto.input[0]))
        wanted = "then_branch" if bool(condition) else "else_branch"
        branch = next(a.g for a in node.proto.attribute if a.name == wanted)
        for tensor in branch.initializer:
            self.tensors[tensor.name] = tensor_array(tensor, f"initializer {tensor.name!r}")
        self._convert_all(named_nodes(branch, f"{node.name}/"))
        return [self._tensor(output.name) for output in branch.output]


def _evaluate(site: Site, produced: Sequence[Operand]) -> list[Array]:
    """The elements of what a node produced out of constants: the scratch block that it filled is run."""
    values = [v for v in produced if isinstance(v, Value)]
    scratch = site.builder
    scratch.add(Return(tuple(values)))
    scratch.module.funcs["main"] = Func("main", scratch.block)
    computed = iter(run(scratch.module, []))
    return [next(computed) if isinstance(v, Value) else v for v in produced]


def _symbol(name: str) -> str:
    symbol = sanitise(name)
    return symbol if symbol[0].isalpha() else f"m_{symbol}"


