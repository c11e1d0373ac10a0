"""Compares every tensor of a quantised model with onnxruntime's integer path, byte for byte.

    report = compare_all("kws_int8.onnx", module, samples)        module: quant level, before lower-to-mem
    report.tensors, report.mismatches, report.first_mismatch, report.no_integer_kernel

onnxruntime's optimised graph (EXTENDED, int8 allowed) is run with every tensor as an output; a value of the module
stands for the tensor of its name, or else for the output of the ONNX node that it was made of. Where onnxruntime
computes in float what we compute on integers, the definition is ours: such nodes are listed, how far onnxruntime's
float route is from it is counted apart, and what follows is compared from onnxruntime's own tensor.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tinyir.diag import error, origins
from tinyir.interp import run
from tinyir.ir import Array, Module, Value, sanitise
from tinyir.opdef import Op
from tinyir.ops import Place, Reshape, Transpose

from .driver import Compiled, Emission
from .program import Sample
from .recording import kernel_calls, record

__all__ = ["IntegerGraph", "Report", "aligned", "compare_all", "compare_c", "different_bytes", "reading"]

_INTEGER = ("QLinear", "QGemm", "QAttention", "MatMulInteger", "ConvInteger", "DequantizeLinear")
"""Beginnings of the names of operators that compute on integers, or exactly from them."""
_MOVES = ("Concat", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Resize", "Slice", "Split",
          "Squeeze", "Tile", "Transpose", "Unsqueeze")

_GIVEN = "given "
"""Before the name of a tensor: the input that stands in for it."""


@dataclass
class Report:
    """What was compared. `values` and `mismatches` are summed over tensors and samples."""

    tensors: int = 0
    values: int = 0
    mismatches: int = 0
    first_mismatch: str | None = None
    """The ONNX node of the first value that differs."""
    no_integer_kernel: list[str] = field(default_factory=list)
    """ONNX nodes that onnxruntime computes in float: there the definition is the interpreter's."""
    float_route: int = 0
    """Values of these nodes where onnxruntime's float route differs from the definition."""
    unmatched: list[str] = field(default_factory=list)
    """Values of the module that no tensor of onnxruntime's graph stands for."""
    by_buffer: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Values and mismatches of what the C writes, by the names of the buffers."""

    def add(self, node: str, values: int, mismatches: int, buffer: str | None = None) -> None:
        """Count one tensor of one sample, which a call of the C wrote to `buffer`."""
        self.values += values
        self.mismatches += mismatches
        if buffer is not None:
            before = self.by_buffer.get(buffer, (0, 0))
            self.by_buffer[buffer] = before[0] + values, before[1] + mismatches
        if mismatches and self.first_mismatch is None:
            self.first_mismatch = node


def compare_all(model_path: str | Path, module: Module, inputs: Sequence[Sample]) -> Report:
    """Interpret `module` on `inputs` (samples as the model takes them) beside onnxruntime's integer path.

    Raises CompileError if onnxruntime refuses the model, or the module is at mem level.
    """
    if module.level == "mem":
        raise error("tensors are compared before lower-to-mem; this module is at level mem")
    graph = IntegerGraph(Path(model_path))
    report = Report(tensors=len(graph.matched(module)))
    for sample in inputs:
        _Walk(module, graph, graph.tensors(sample), report).run(sample)
    return report


# -- onnxruntime -----------------------------------------------------------------------------------------------------


class IntegerGraph:
    """onnxruntime's optimised graph of a model, and sessions that give all its tensors."""

    def __init__(self, path: Path) -> None:
        import onnx

        self.path = path
        with tempfile.TemporaryDirectory(prefix="tinyc-") as folder:
            optimised = str(Path(folder) / "optimised.onnx")
            self._session(str(path), "ORT_ENABLE_EXTENDED", optimised)
            model = onnx.load(optimised)
        self.nodes = list(model.graph.node)
        outputs = {output.name for output in model.graph.output}
        self.inputs = [i.name for i in model.graph.input]
        self.outputs = [o.name for o in model.graph.output]
        names = [name for node in self.nodes for name in node.output if name and name not in outputs]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        self._model = model
        self._sessions: dict[tuple[str, ...], Any] = {}

    def _session(self, source: str | bytes, level: str, optimised: str | None = None) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        if optimised is not None:
            options.optimized_model_filepath = optimised
        try:
            return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as problem:
            raise error(f"onnxruntime does not load {self.path}", notes=(str(problem).splitlines()[0],)) from problem

    def tensors(self, sample: Sample, given: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Every tensor of the optimised graph. Nodes that read a tensor of `given` get that array in its place; what
        onnxruntime itself computes for it is what is returned."""
        given = given or {}
        session = self._session_given(given)
        names = [output.name for output in session.get_outputs()]
        arrays = (*sample, *given.values())
        feed = dict(zip((i.name for i in session.get_inputs()), arrays, strict=True))
        return dict(zip(names, session.run(names, feed), strict=True))

    def _session_given(self, given: Mapping[str, Array]) -> Any:
        """A session with one more input for each tensor of `given`, in that order."""
        key = tuple(given)
        if key not in self._sessions:
            import onnx

            model = onnx.ModelProto()
            model.CopyFrom(self._model)
            for node in model.graph.node:
                node.input[:] = [_GIVEN + name if name in given else name for name in node.input]
            model.graph.input.extend(
                onnx.helper.make_tensor_value_info(_GIVEN + name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
                                                   array.shape) for name, array in given.items())
            self._sessions[key] = self._session(model.SerializeToString(), "ORT_DISABLE_ALL")
        return self._sessions[key]

    @cached_property
    def producers(self) -> dict[str, Any]:
        """Tensor -> node."""
        return {name: node for node in self.nodes for name in node.output}

    @cached_property
    def _by_name(self) -> dict[str, str]:
        return {sanitise(name): name for name in self.producers}

    @cached_property
    def _by_node(self) -> dict[str, str]:
        return {node.name: node.output[0] for node in self.nodes if node.name}

    def tensor_of(self, op: Op) -> str | None:
        """The tensor that what `op` computes stands for."""
        value = op.results[0] if op.results else op.writes[0]
        named = self._by_name.get(value.name)
        if named is not None:
            return named
        found = [self._by_node[node] for node in origins(op.loc) if node in self._by_node]
        return found[-1] if found else None

    def matched(self, module: Module) -> list[Op]:
        """The ops whose results are compared."""
        return [op for op in _computing(module) if self.tensor_of(op) is not None]

    @property
    def computes_integers(self) -> bool:
        """Whether onnxruntime has integer kernels for some of it."""
        return any(node.op_type.startswith(_INTEGER[:-1]) for node in self.nodes)

    def is_exact(self, tensor: str) -> bool:
        """Whether integers, or exact moves of them, make the tensor; else it went through float arithmetic."""
        node = self.producers.get(tensor)
        if node is None:
            return True  # an input or a constant
        if node.op_type.startswith(_INTEGER):
            return True
        if node.op_type == "QuantizeLinear" and self._interpolated(node.input[0]):
            return True
        if node.op_type == "QuantizeLinear" or (node.op_type in _MOVES and not _interpolates(node)):
            return all(self.is_exact(name) for name in node.input[:1] if name)
        return False

    def _interpolated(self, tensor: str) -> bool:
        """Whether the tensor is made of exact values by an image's bilinear Resize, of which we have every rounding."""
        node = self.producers.get(tensor)
        if node is None or node.op_type not in _MOVES:
            return False
        if not _interpolates(node):
            return self._interpolated(node.input[0])
        sizes = [i.dims[0] for i in self._model.graph.initializer if i.name in node.input[2:] and i.dims]
        return sizes[-1:] in ([2], [4]) and self.is_exact(node.input[0])  # not of a sequence


def _interpolates(node: Any) -> bool:
    """Whether a Resize computes means of what it reads."""
    return node.op_type == "Resize" and any(a.name == "mode" and a.s != b"nearest" for a in node.attribute)


# -- the walk --------------------------------------------------------------------------------------------------------


def _computing(module: Module) -> list[Op]:
    """The ops that make new values: not those that only put the same bytes in another order."""
    return [op for op in _leaves(module.main.ops) if op.results and not isinstance(op, (Place, Reshape, Transpose))]


def _leaves(ops: Iterable[Op]) -> Iterator[Op]:
    """The ops in order of execution, those inside of others in the place of these."""
    for op in ops:
        yield from _leaves(op.regions[0].ops) if op.regions else (op,)


class _Walk:
    """One sample through the module, op by op, each result beside its tensor."""

    def __init__(self, module: Module, graph: IntegerGraph, tensors: Mapping[str, Array], report: Report) -> None:
        self.module = module
        self.graph = graph
        self.tensors = tensors
        self.report = report
        self.arrays: dict[Value, Array] = {}

    def run(self, sample: Sample) -> None:
        for argument, array in zip(self.module.main.inputs, sample, strict=True):
            self.arrays[argument] = turned(np.asarray(array), argument.shape)
        self._run(self.module.main.ops, set(_computing(self.module)))

    def _run(self, ops: Iterable[Op], computing: set[Op]) -> None:
        for op in ops:
            if op.terminator:
                return
            if op.regions:
                inner = op.regions[0].ops
                self._run(inner, computing)
                self.arrays.update(zip(op.results, map(self._array, inner[-1].reads), strict=True))
                continue
            self._execute(op)
            if op in computing:
                self._compare(op)

    def _execute(self, op: Op) -> None:
        arguments: list[Any] = []
        for operand, group in zip(op.schema.operands, op.operand_groups, strict=True):
            arrays = [None if v is None else self._array(v) for v in group]
            arguments.append(arrays if operand.variadic else arrays[0])
        found = op.reference(*arguments)
        results = found if isinstance(found, tuple) else (found,)
        self.arrays.update(zip(op.results, (np.asarray(r) for r in results), strict=True))

    def _array(self, value: Value) -> Array:
        if value not in self.arrays:
            assert value.data is not None
            return value.data
        return self.arrays[value]

    def _compare(self, op: Op) -> None:
        result = op.results[0]
        tensor = self.graph.tensor_of(op)
        mine = self.arrays[result]
        theirs = None if tensor is None else reading(self.tensors[tensor], mine)
        node = ", ".join(origins(op.loc)) or result.name
        if tensor is None or theirs is None:
            if result.name not in self.report.unmatched:
                self.report.unmatched.append(result.name)
            return
        different = different_bytes(mine, theirs)
        if self.graph.is_exact(tensor):
            self.report.add(node, mine.size, different)
            return
        if node not in self.report.no_integer_kernel:
            self.report.no_integer_kernel.append(node)
        self.report.float_route += different
        self.arrays[result] = theirs


def reading(tensor: Array, like: Array) -> Array | None:
    """`tensor` in the order of axes of `like`: as it is, or channels last; the closer one where both fit. `like` may be
    flat.

    Where `like` has fewer channels than `tensor`, since dead ones were removed, those that stand for its channels.
    """
    if tensor.dtype != like.dtype or tensor.size < like.size:
        return None
    readings = [tensor, np.moveaxis(tensor, 1, -1)] if tensor.ndim >= 3 else [tensor]
    shape = [extent for extent in like.shape if extent != 1]
    flat = len(shape) == 1 and tensor.size == like.size
    fitting = [r.reshape(like.shape) for r in readings if flat or [e for e in r.shape if e != 1] == shape]
    if not fitting:
        fitting = [part for r in readings if r.ndim and (part := _some_channels(r, like)) is not None]
    return min(fitting, key=lambda r: int(np.count_nonzero(r != like)), default=None)


def _some_channels(tensor: Array, like: Array) -> Array | None:
    wide, mine = tensor.reshape(-1, tensor.shape[-1]), like.reshape(-1, like.shape[-1])
    if wide.shape[0] != mine.shape[0] or wide.shape[1] <= mine.shape[1]:
        return None
    return wide[:, aligned(mine, wide)].reshape(like.shape)


def aligned(mine: Array, wide: Array) -> list[int]:
    """For each column of `mine` one of `wide`, in order: equal ones if that is possible, else those that differ least.
    """
    columns, wanted = ([row.tobytes() for row in np.ascontiguousarray(a.T)] for a in (wide, mine))
    places: list[int] = []
    for column in wanted:
        try:
            places.append(columns.index(column, places[-1] + 1 if places else 0))
        except ValueError:
            return _closest(mine, wide)
    return places


def _closest(mine: Array, wide: Array) -> list[int]:
    """The alignment with the fewest differing elements, by dynamic programming over both orders."""
    count, total = mine.shape[1], wide.shape[1]
    cost = np.full((count + 1, total + 1), np.inf)
    cost[0] = 0
    for j in range(count):
        differ = (wide != mine[:, j:j + 1]).sum(axis=0)
        for i in range(j, total):
            cost[j + 1, i + 1] = min(cost[j + 1, i], cost[j, i] + differ[i])
    places, i = [], total
    for j in range(count, 0, -1):
        while cost[j, i] == cost[j, i - 1]:
            i -= 1
        places.append(i - 1)
        i -= 1
    return places[::-1]


def different_bytes(a: Array, b: Array) -> int:
    """How many elements differ in their bytes."""
    words = np.dtype(f"u{a.dtype.itemsize}")
    return int(np.count_nonzero(np.ascontiguousarray(a).view(words) != np.ascontiguousarray(b).view(words)))


def turned(array: Array, shape: tuple[int, ...]) -> Array:
    """An input of the model in the order of axes in which the module takes it."""
    if array.shape == shape or array.ndim != 4:
        return array
    return next((t for perm in ((0, 2, 3, 1), (0, 3, 1, 2)) if (t := array.transpose(perm)).shape == shape), array)


# -- the C -----------------------------------------------------------------------------------------------------------


def compare_c(compiled: Compiled, emission: Emission, inputs: Sequence[Sample], cc: str | None = None,
              cflags: str = "") -> Report:
    """What every kernel call of the C writes on this machine beside the interpreter at mem level, byte for byte.

    `inputs` are samples as the C takes them. Raises CompileError if the C cannot be built.
    """
    calls = kernel_calls(compiled.module)
    program = compiled.c_program(replace(emission, hooks=True))
    recorded = record(program, calls, inputs, cc, cflags)
    report = Report(tensors=len(calls))
    for sample, arrays in zip(inputs, recorded, strict=True):
        written: list[Array] = []

        def keep(op: Op, results: list[Array], written: list[Array] = written) -> None:
            if op.writes:
                written.append(np.array(results[len(op.results)]))

        run(compiled.module, [np.asarray(a) for a in sample], keep)
        for op, mine, theirs in zip(calls, written, arrays, strict=True):
            node = ", ".join(origins(op.loc)) or op.opname
            report.add(node, mine.size, different_bytes(mine, theirs))
    return report
