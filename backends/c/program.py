"""What the emitter says about a module at mem level, as facts: names, calls, slots and their lives, sizes.

Everything is decided here, once, in textual order; `emit`, `header` and `data` only write it down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from tinyir.diag import CompileError, Diagnostic, error, origins
from tinyir.ir import Arena, Const, Module, Value
from tinyir.literals import attribute_text
from tinyir.loops import bases_of, runs_of, slot_lives
from tinyir.opdef import MISSING, Op
from tinyir.ops.mem import Join, Loop, MemReturn, Next, Part, Slot, View, Window

from .kernels.base import Kernel
from .kernels.pull import HoldInput, PullRows
from .shared import NOINLINE, share
from .text import RESERVED, c_identifier, c_type, readable

__all__ = ["Call", "Names", "PlacedSlot", "Program", "Tensor", "gather"]


KernelT = TypeVar("KernelT", bound=Kernel)
_WHEN = ("rows", "height", "pace", "fresh", "keep")


class Names:
    """Identifiers of one scope: each given out once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def fresh(self, wanted: str) -> str:
        """`wanted`, with a number behind it if it is taken."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name


@dataclass(frozen=True)
class Tensor:
    """A graph input or output: `name` is the C parameter, `macro` what its macros start with.

    An input that comes row by row has `pull`, the op that asks for its rows, and two parameters: `name` is the function
    that fills a row, of type `row_type`, and `user` is what is passed to it. One that lies in the arena has `held`, the
    op that says where, and no parameter: the function `place` gives its address.
    """

    name: str
    macro: str
    value: Value
    pull: PullRows | None = None
    user: str = ""
    row_type: str = ""
    held: HoldInput | None = None
    place: str = ""


@dataclass(frozen=True)
class PlacedSlot:
    """A slot of an arena; `first` and `last` are the numbers of the calls between which its bytes count."""

    name: str
    value: Value
    arena: Arena
    offset: int
    first: int
    last: int


@dataclass(frozen=True)
class Call:
    """Call number `number`: a kernel op and the function that computes it; none if there is nothing to do."""

    number: int
    op: Kernel
    function: str
    dimensions: tuple[int, ...] = ()
    """What is passed behind the arguments of the op, to a function that kernels of several dimensions share."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of an inference."""
        return self.op.macs() * runs_of(self.op)

    @property
    def nodes(self) -> list[str]:
        """The ONNX nodes that it stems from."""
        return origins(self.op.loc)


@dataclass
class Program:
    """A module as the C files show it."""

    module: Module
    symbol: str
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    slots: list[PlacedSlot] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    functions: dict[str, str] = field(default_factory=dict)
    """Text of each kernel function by its name, in the order of first use."""
    consts: dict[Const, str] = field(default_factory=dict)
    """The symbol of each constant that a call reads."""
    roots: dict[Value, str] = field(default_factory=dict)
    """The C expression for the address of each argument, slot and constant."""

    @property
    def macro(self) -> str:
        return self.symbol.upper()

    @property
    def by_rows(self) -> bool:
        """Whether inputs come row by row."""
        return any(tensor.pull is not None for tensor in self.inputs)

    @property
    def run_name(self) -> str:
        """The function that computes everything."""
        return f"{self.symbol}_run_rows" if self.by_rows else f"{self.symbol}_run"

    @property
    def arenas(self) -> list[Arena]:
        """The arenas that have bytes, in the order of the module."""
        return [a for a in self.module.arenas.values() if a.size]

    @property
    def arena_bytes(self) -> int:
        return sum(a.size or 0 for a in self.arenas)

    @property
    def const_bytes(self) -> int:
        return sum(c.type.size_bytes for c in self.consts)

    @property
    def macs(self) -> int:
        return sum(call.macs for call in self.calls)

    def address(self, value: Value) -> str:
        """The C expression for the address of a buffer, typed by its elements."""
        root, offset = root_of(value), offset_of(value)
        behind = (f" + {offset}" if offset else "") + _of_part(value)
        if root.type.dtype == value.type.dtype:
            return self.roots[root] + behind
        const = "const " if isinstance(root, Const) else ""
        return f"({const}{c_type(value.type.dtype)} *)({const}void *){self.roots[root]}{behind}"


def _of_part(value: Value) -> str:
    """C text that adds, in a loop over parts, where the part `value` begins; nothing for what is no part."""
    part = value.defining(Part)
    return f" + part * {part.elements}" if part is not None else ""


def root_of(value: Value) -> Value:
    """The slot, argument or constant whose bytes `value` is a view of; the ring of a join."""
    return bases_of(value)[0]


def offset_of(value: Value) -> int:
    """Elements of a buffer in front of the part of it that `value` is; of its rows, for a part of a join."""
    window, view = value.defining(Window), value.defining(View)
    if view is not None:
        return offset_of(view.x)
    return 0 if window is None else window.offset + offset_of(window.x)


def gather(module: Module, symbol: str) -> Program:
    """The facts of `module`, whose external names begin with `symbol`. Raises CompileError if it is not ready for C."""
    if module.level != "mem":
        raise error(f"C is written from level mem, module @{module.name} is at level {module.level}",
                    help="the pipeline has to end with lower-to-mem,plan-arena")
    program = Program(module, symbol)
    _name_tensors(program)
    _name_calls(program)
    _place_slots(program)
    return program


def _name_tensors(program: Program) -> None:
    """Parameters get the names of the graph's inputs and outputs; macros the same in capitals."""
    func = program.module.main
    locals_ = Names(RESERVED | {f"{word}_{name}" for name in program.module.arenas for word in ("arena", "base")})
    macros = Names({"ARENA", "ERROR"})
    pulls = {value: pull for value in func.inputs if (pull := _reader(value, PullRows)) is not None}
    for value in func.inputs:
        name = c_identifier(value.name)
        tensor = Tensor(locals_.fresh(name), f"{program.macro}_{macros.fresh(name.upper())}", value)
        if value in pulls:
            row, user = (word if len(pulls) == 1 else locals_.fresh(f"{word}_{name}") for word in ("row", "user"))
            tensor = replace(tensor, name=row, user=user, row_type=f"{program.symbol}_{row}", pull=pulls[value])
        held = _reader(value, HoldInput)
        if held is not None:
            number = f"_{len(program.inputs)}" if len(func.inputs) > 1 else ""
            tensor = replace(tensor, held=held, place=f"{program.symbol}_input{number}")
        program.inputs.append(tensor)
        program.roots[value] = f"{tensor.name}, {tensor.user}" if tensor.user else tensor.name
    for value in func.written:
        name = c_identifier(value.name)
        tensor = Tensor(locals_.fresh(name), f"{program.macro}_{macros.fresh(name.upper())}", value)
        program.outputs.append(tensor)
        program.roots[value] = tensor.name
    taken = ("run", "run_rows", "run_hooked", "run_rows_hooked", "hook", "layer_name", "arena")
    symbols = Names({f"{program.symbol}_{word}" for word in taken}
                    | {name for t in program.inputs for name in (t.row_type, t.place)})
    for op in program.module.main.block.walk():
        for const in (root_of(v) for v in op.reads if isinstance(op, Kernel)):
            if isinstance(const, Const) and const not in program.consts:
                name = symbols.fresh(f"{program.symbol}_{c_identifier(readable(const.name))}")
                program.consts[const] = program.roots[const] = name
        if isinstance(op, Slot):
            program.roots[op.out] = locals_.fresh(c_identifier(readable(op.out.name)))


def _reader(value: Value, kind: type[KernelT]) -> KernelT | None:
    """The op of that kind that reads an input. Raises CompileError if something else reads it as well."""
    found = [op for op in value.users if isinstance(op, kind)]
    if found and len(value.uses) > 1:
        raise error(f"%{value.name} does not come as a pointer, so nothing but {found[0].opname} can read it",
                    loc=found[0].loc, help="let the other readers read what that writes")
    return found[0] if found else None


def _name_calls(program: Program) -> None:
    """One function for each different text; its name is the kernel's stem, with a number where stems collide."""
    names = Names(program.roots.values())
    by_text: dict[str, str] = {}
    functions = share(list(_kernels(program.module)))
    for op, (text, dimensions) in functions.items():
        if not text:
            program.calls.append(Call(len(program.calls), op, ""))
            continue
        key = f"{op.stem()}\n{text}"
        if key not in by_text:
            by_text[key] = names.fresh(op.stem())
            program.functions[by_text[key]] = text.replace("{name}", by_text[key])
        if op.block is not None and isinstance(op.block.parent, Loop):
            # Inside of run(), what the loop counts takes registers away from what the function computes.
            program.functions[by_text[key]] = program.functions[by_text[key]].replace(
                "static void ", f"static {NOINLINE} void ")
        program.calls.append(Call(len(program.calls), op, by_text[key], dimensions))


def _kernels(module: Module) -> Iterator[Kernel]:
    for op in module.main.block.walk():
        if isinstance(op, Kernel):
            yield op
        elif not isinstance(op, (Join, Loop, Next, Part, Slot, View, Window, MemReturn)):
            message = f"the C backend does not know how to write {op.opname}"
            raise CompileError((Diagnostic("internal", message, op.loc),))


def _place_slots(program: Program) -> None:
    block = program.module.main.block
    lives, order = slot_lives(block), list(block.walk())
    numbers = {call.op: call.number for call in program.calls}
    for op in order:
        if isinstance(op, Slot) and op in lives:
            first, last = lives[op]
            calls = [numbers[user] for user in order[first:last + 1] if user in numbers]
            program.slots.append(_placed(op, program.roots[op.out], calls))


def _placed(slot: Slot, name: str, life: list[int]) -> PlacedSlot:
    arena = slot.arena
    if slot.offset is None or not isinstance(arena, Arena) or arena.size is None:
        raise error(f"slot %{slot.out.name} has no place in its arena yet", loc=slot.loc,
                    help="the pipeline has to end with plan-arena")
    return PlacedSlot(name, slot.out, arena, slot.offset, min(life), max(life))


def op_text(op: Op) -> str:
    """The op as its line in the IR: `k.dense_f32(%image, @w, none) -> (%p1) {act = relu}`; without the attributes that
    say when it computes which rows, in a loop."""
    def name(value: Value | None) -> str:
        if value is None:
            return "none"
        return f"{'@' if isinstance(value, Const) else '%'}{readable(value.name)}"

    fields = type(op).schema.operands
    reads = [v for f, group in zip(fields, op.operand_groups, strict=True) if not f.written for v in group]
    hidden = _WHEN if op.attrs.get("pace") is not None else ()
    attrs = ", ".join(f"{key} = {text}" for key, text in _given_attributes(op) if key not in hidden)
    behind = f" {{{attrs}}}" if attrs else ""
    return f"{op.opname}({', '.join(map(name, reads))}) -> ({', '.join(map(name, op.writes))}){behind}"


def _given_attributes(op: Op) -> Iterator[tuple[str, str]]:
    """The attributes that do not have their default value, as text."""
    for attribute in type(op).schema.attrs:
        value = getattr(op, attribute.name)
        if attribute.default is MISSING or value != attribute.default:
            yield attribute.name, attribute_text(attribute.annotation, value)
