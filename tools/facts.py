"""What there is to say about a compiled model: sizes, work, layers, the memory plan. The table and --report show it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tinyir.diag import origins
from tinyir.ir import Const, Module
from tinyir.loops import runs_of
from tinyir.opdef import Op
from tinyir.pass_manager import Context, Instrument, Pass

__all__ = ["Facts", "GraphFacts", "Layer", "SlotFact", "gather_facts"]


@dataclass(frozen=True)
class Layer:
    """One call of a kernel: the op, the ONNX nodes behind it, its work and the size of what it writes."""

    number: int
    op: str
    nodes: tuple[str, ...]
    macs: int
    output_bytes: int


@dataclass(frozen=True)
class SlotFact:
    """One slot of an arena."""

    arena: str
    name: str
    offset: int
    bytes: int


@dataclass(frozen=True)
class Facts:
    """Everything about one module; sizes in bytes. The fields of the lower levels are empty before mem level."""

    level: str
    nodes: int
    operators: int
    macs: int
    """As they are computed: those that a schedule computes again included."""
    macs_layerwise: int
    parameters: int
    arena_bytes: int
    const_bytes: int
    layers: tuple[Layer, ...]
    slots: tuple[SlotFact, ...]

    def as_json(self) -> dict[str, Any]:
        """The same as plain objects."""
        return asdict(self)


class GraphFacts(Instrument):
    """Counts work and parameters where they are easiest to see: at graph level, right before lowering."""

    def __init__(self) -> None:
        self.nodes = 0
        self.macs = 0
        self.macs_layerwise = 0
        self.parameters = 0

    def start(self, module: Module, ctx: Context) -> None:
        self._count(module)

    def before(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        if module.level != "mem":
            self._count(module)

    def _count(self, module: Module) -> None:
        ops = list(module.walk())
        self.macs = sum(op.macs() for op in ops)
        if module.level != "sched" or not self.macs_layerwise:
            self.macs_layerwise = self.macs
        self.parameters = sum(c.type.elements for c in module.consts.values() if c.uses)
        self.nodes = max(self.nodes, len({name for op in ops for name in origins(op.loc)}))


def _is_work(op: Op) -> bool:
    """Whether the op computes or moves something: not a terminator, a slot or a view."""
    return not op.terminator and not op.opname.startswith("mem.")


def gather_facts(module: Module, graph: GraphFacts) -> Facts:
    """The facts about `module`, which `graph` has watched on its way."""
    ops = [op for op in module.walk() if _is_work(op)]
    layers = tuple(Layer(i, op.opname, tuple(origins(op.loc)), op.macs() * runs_of(op), _output_bytes(op))
                   for i, op in enumerate(ops)) if module.level == "mem" else ()
    arena = sum(a.size or 0 for a in module.arenas.values())
    consts = sum(c.type.size_bytes for c in module.consts.values() if c.uses)
    return Facts(module.level, graph.nodes, len(ops), graph.macs, graph.macs_layerwise,
                 graph.parameters, arena, consts, layers, _slots(module))


def _output_bytes(op: Op) -> int:
    return sum(v.type.size_bytes for v in op.writes if not isinstance(v, Const))


def _slots(module: Module) -> tuple[SlotFact, ...]:
    slots = [op for op in module.walk() if op.opname == "mem.slot"]
    return tuple(SlotFact(op.reads[0].name, op.out.name, op.attrs["offset"], op.out.type.size_bytes)
                 for op in slots if op.attrs.get("offset") is not None)
