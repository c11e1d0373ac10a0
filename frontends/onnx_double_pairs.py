"""Two quantisations in a row become one, as onnxruntime makes them.

    x -> Quantize(s1, z1) -> Dequantize(s1, z1) -> Quantize(s2, z2) -> Dequantize(s2, z2)
        ->
    x -> Quantize(s, z) -> Dequantize(s, z)

where (s, z) covers the values that both ranges have in common. Only where each result in between has one reader, and
both pairs have one scale and store the same type. The result differs in rounding from quantising twice; the numbers are
those of onnxruntime's optimised graph, which is the reference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from tinyir.ir import Array

from .onnx_model import Graph, GraphNode

__all__ = ["merge_double_pairs"]

_F32 = np.float32


@dataclass(frozen=True)
class _Chain:
    """Quantize, dequantize, quantize, dequantize."""

    nodes: tuple[GraphNode, GraphNode, GraphNode, GraphNode]


def merge_double_pairs(graph: Graph) -> tuple[list[GraphNode], dict[str, Array]]:
    """The nodes of `graph` with such pairs merged, and the constants that the changed ones read, by name."""
    nodes, constants = list(graph.nodes), dict[str, Array]()
    while (chain := _find(nodes, graph, constants)) is not None:
        first, _, _, last = chain.nodes
        scale, zero = _common(_parameters(first, graph, constants), _parameters(last, graph, constants))
        names = (f"{first.name}.common_scale", f"{first.name}.common_zero_point")
        constants.update(zip(names, (scale, zero), strict=True))
        changed = {first: _reading(first, first.proto.input[0], names),
                   last: _reading(last, first.proto.output[0], names)}
        nodes = [changed.get(node, node) for node in nodes if node not in chain.nodes[1:3]]
    return nodes, constants


def _reading(node: GraphNode, x: str, parameters: Sequence[str]) -> GraphNode:
    """`node` with other inputs."""
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    del proto.input[:]
    proto.input.extend((x, *parameters))
    return GraphNode(proto, node.name)


def _find(nodes: Sequence[GraphNode], graph: Graph, constants: dict[str, Array]) -> _Chain | None:
    readers = Counter(name for node in nodes for name in node.reads())
    producer = {name: node for node in nodes for name in node.proto.output}
    for last in nodes:
        chain = [last]
        for kind in ("QuantizeLinear", "DequantizeLinear", "QuantizeLinear"):
            source = producer.get(chain[-1].proto.input[0]) if _is_bridge(chain[-1]) else None
            if source is None or source.proto.op_type != kind:
                break
            if readers[source.proto.output[0]] != 1 or source.proto.output[0] in graph.outputs:
                break
            chain.append(source)
        if len(chain) == 4 and last.proto.op_type == "DequantizeLinear":
            found = _Chain((chain[3], chain[2], chain[1], chain[0]))
            if _mergeable(found, graph, constants):
                return found
    return None


def _is_bridge(node: GraphNode) -> bool:
    return node.proto.op_type in ("QuantizeLinear", "DequantizeLinear") and bool(node.proto.input)


Parameters = tuple[Array, Array]


def _parameters(node: GraphNode, graph: Graph, constants: dict[str, Array]) -> Parameters | None:
    """Scale and zero point, if both are given as constants of one element."""
    arrays = []
    for name in node.proto.input[1:3]:
        if name not in constants and not graph.is_initializer(name):
            return None
        arrays.append(constants[name] if name in constants else graph.array(name))
    if len(arrays) != 2 or any(a.size != 1 for a in arrays) or arrays[1].dtype not in (np.int8, np.uint8):
        return None
    return arrays[0], arrays[1]


def _mergeable(chain: _Chain, graph: Graph, constants: dict[str, Array]) -> bool:
    """Whether both pairs are in themselves consistent, store one type, and have a range in common."""
    found = [_parameters(node, graph, constants) for node in chain.nodes]
    known = [p for p in found if p is not None]
    if len(known) < 4:
        return False
    pairs_agree = all(known[i][k] == known[i + 1][k] for i in (0, 2) for k in (0, 1))
    return bool(pairs_agree) and len({p[1].dtype for p in known}) == 1 and len({p[0].dtype for p in known}) == 1


def _common(first: Parameters | None, second: Parameters | None) -> Parameters:
    """Scale and zero point of the values that both quantisations can hold, in onnxruntime's arithmetic."""
    assert first is not None  # `_mergeable` has looked
    assert second is not None
    if first == second:
        return first
    dtype = first[1].dtype
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    ends = [[_F32(end - int(zero.reshape(-1)[0])) * _F32(scale.reshape(-1)[0]) for end in (low, high)]
            for scale, zero in (first, second)]
    least, greatest = max(e[0] for e in ends), min(e[1] for e in ends)
    scale = _F32(_F32(greatest - least) / _F32(high - low))
    exact = float(_F32(_F32(low) - _F32(least / scale)))
    zero = np.floor(abs(exact) + 0.5) * np.sign(exact)  # half away from zero
    return np.asarray(scale), np.asarray(zero, dtype)
