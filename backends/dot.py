"""A module as a Graphviz graph: `tinyc model.onnx --emit dot`, then `dot -Tsvg`.

    %c = nn.conv2d(%x, @w) : tensor<1x8x8x4xf32>
        ->
    n1 [label="nn.conv2d\\n442368 MACs"];
    in0 -> n1 [label="x 1x8x8x3 f32"];

Boxes are ops, ellipses the inputs and outputs of the graph, and an edge is a value, from the op that makes it to one
that reads it. At mem level the maker is the last op that wrote the buffer; slots and views are not shown. Weights are
left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from tinyir.diag import origins
from tinyir.ir import Const, Func, Module, Value
from tinyir.opdef import Op
from tinyir.registry import BACKENDS
from tinyir.types import IndexType

__all__ = ["emit_dot"]

_PLACES = frozenset({"mem.slot", "mem.view"})


def emit_dot(module: Module, *, name: str = "") -> dict[str, bytes]:
    """One file, `<name>.dot`, with a cluster for each function. Works at any level."""
    lines = [f"digraph {_quoted(module.name)} {{", "    rankdir=TB;", '    node [shape=box, fontname="monospace"];']
    for number, func in enumerate(module.funcs.values()):
        lines += [f"    subgraph cluster_{number} {{", f"        label={_quoted(func.name)};"]
        lines += [f"        {line}" for line in _Graph(f"f{number}_", func).lines()]
        lines.append("    }")
    return {f"{name or module.name}.dot": "\n".join([*lines, "}", ""]).encode()}


BACKENDS.add("dot", emit_dot)


class _Graph:
    """One function: which node makes each value at the point that has been reached."""

    def __init__(self, prefix: str, func: Func) -> None:
        self._prefix = prefix
        self._func = func
        self._makers: dict[Value, str] = {}

    def lines(self) -> Iterator[str]:
        for number, value in enumerate(self._func.inputs):
            self._makers[value] = f"{self._prefix}in{number}"
            yield f"{self._makers[value]} [label={_quoted(_describe(value))}, shape=ellipse];"
        ops = [op for op in self._func.block.walk() if op.opname not in _PLACES and not op.terminator]
        for number, op in enumerate(ops):
            yield from self._op(op, f"{self._prefix}n{number}")
        for number, result in enumerate(self._func.results):
            node = f"{self._prefix}out{number}"
            yield f"{node} [label={_quoted(_describe(result))}, shape=ellipse];"
            yield from self._edge(result, node)

    def _op(self, op: Op, node: str) -> Iterator[str]:
        facts = [op.opname, *origins(op.loc)[:3], *([f"{op.macs()} MACs"] if op.macs() else [])]
        yield f"{node} [label={_quoted(chr(10).join(facts))}];"
        for value in op.reads:
            yield from self._edge(value, node)
        for value in (*op.results, *op.writes):
            self._makers[_owner(value)] = node

    def _edge(self, value: Value, node: str) -> Iterator[str]:
        maker = self._makers.get(_owner(value))
        if maker is not None and not isinstance(value, Const):
            yield f"{maker} -> {node} [label={_quoted(_describe(value))}];"


def _owner(value: Value) -> Value:
    """The buffer whose bytes a view shows, or the value itself."""
    while value.op is not None and value.op.opname == "mem.view":
        value = value.op.reads[0]
    return value


def _describe(value: Value) -> str:
    if isinstance(value.type_, IndexType):
        return f"{value.name} index"
    return f"{value.name} {'x'.join(map(str, value.shape)) or 'scalar'} {value.type.dtype}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
