"""Runs a module of any level on numpy, through each op's own `reference`: this defines what the module computes.

    outputs = run(module, [image])

At mem level each arena is one array of bytes that begins as 0xA5 everywhere, and slots are views into it: buffers that
overlap by mistake, and bytes that are read before they are written, give wrong answers here as they would on the chip.

An op with regions gets, behind its operands, one callable a region: it takes arrays for the block's arguments and
returns the list of arrays that the block's terminator reads. With `step=n` it runs the ops as they are in that step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .diag import CompileError, Diagnostic, error
from .ir import Arena, Argument, Array, Block, Const, Func, Module, Value
from .opdef import Op
from .types import BufferType, TensorType

__all__ = ["Observer", "run", "run_func"]

Observer = Callable[[Op, list[Array]], None]
"""Called after each op with its result arrays, or those that it wrote (mem level). Copy what is to be kept."""

_UNWRITTEN = 0xA5


def run(module: Module, inputs: Sequence[Array], observer: Observer | None = None) -> list[Array]:
    """The outputs of function @main for `inputs`, in order. Array `i` has exactly the type of input `i`.

    Raises CompileError if inputs do not fit, or a constant's data was left out of the text that it was read from.
    """
    if "main" not in module.funcs:
        raise error(f"module @{module.name} has no function @main, so it cannot be run")
    return run_func(module, module.main, inputs, observer)


def run_func(module: Module, func: Func, inputs: Sequence[Array], observer: Observer | None = None) -> list[Array]:
    """The outputs of `func`; see `run`."""
    arrays = _check_inputs(func, inputs)
    machine = _Machine(module, observer)
    machine.bind(func.inputs, arrays)
    written = [_fresh(arg) for arg in func.written]
    machine.bind(func.written, written)
    returned = machine.run_block(func.block)
    return written if func.outputs else [np.array(a) for a in returned]


def _check_inputs(func: Func, inputs: Sequence[Array]) -> list[Array]:
    wanted = [f"%{a.name}: {a.type_}" for a in func.inputs]
    if len(inputs) != len(wanted):
        raise error(f"@{func.name} takes {len(wanted)} inputs, found {len(inputs)}",
                    notes=[f"expected {text}" for text in wanted])
    arrays = [np.asarray(array) for array in inputs]
    for array, arg, text in zip(arrays, func.inputs, wanted, strict=True):
        if array.shape != arg.shape or array.dtype != arg.type.dtype.numpy:
            raise error(f"input %{arg.name} is {_kind(array)}, expected {text.partition(': ')[2]}", loc=arg.loc)
    return [_read_only(array) for array in arrays]


def _kind(array: Array) -> str:
    return f"an array of {array.dtype} with shape {'x'.join(map(str, array.shape)) or '()'}"


def _read_only(array: Array) -> Array:
    """A view that nothing can be written to: inputs and constants are const in the C as well."""
    view = array.view()
    view.flags.writeable = False
    return view


def _fresh(value: Value) -> Array:
    """Memory for `value`, every byte 0xA5."""
    numpy_type = value.type.dtype.numpy
    size = value.type.elements * numpy_type.itemsize
    return np.full(size, _UNWRITTEN, np.uint8).view(numpy_type).reshape(value.shape)


class _Machine:
    """The arrays that are alive, by value."""

    def __init__(self, module: Module, observer: Observer | None) -> None:
        self.module = module
        self.observer = observer
        self.arrays: dict[Value, Any] = {}

    def bind(self, values: Sequence[Argument], arrays: Sequence[Any]) -> None:
        self.arrays.update(zip(values, arrays, strict=True))

    def run_block(self, block: Block, dies: dict[Op, list[Value]] | None = None, step: int | None = None) -> list[Any]:
        """Run its ops; the arrays that its terminator reads."""
        dies = _last_uses(block) if dies is None else dies
        for op in block.ops:
            if op.terminator:
                return [self._array(v) for v in op.reads]
            now = op if step is None else op.at_step(step)
            if now is not None:
                self._run_op(now)
            for value in dies.get(op, ()):
                self.arrays.pop(value, None)
        return []

    def _run_op(self, op: Op) -> None:
        arguments = [self._argument(group, field.variadic)
                     for field, group in zip(op.schema.operands, op.operand_groups, strict=True)]
        bodies = [self._body(region) for region in op.regions]
        found = op.reference(*arguments, *bodies)
        results = _as_list(found)
        _check_results(op, results)
        self.arrays.update(zip(op.results, results, strict=True))
        if self.observer is not None:
            self.observer(op, [*results, *(self._array(v) for v in op.writes)])

    def _argument(self, group: list[Value | None], variadic: bool) -> Any:
        arrays = [None if v is None else self._array(v) for v in group]
        return arrays if variadic else arrays[0]

    def _body(self, region: Block) -> Callable[..., list[Any]]:
        dies = _last_uses(region)

        def body(*arrays: Any, step: int | None = None) -> list[Any]:
            self.bind(region.args, arrays)
            return self.run_block(region, dies, step)

        return body

    def _array(self, value: Value) -> Any:
        if value not in self.arrays:
            self.arrays[value] = _constant(value)
        return self.arrays[value]


def _constant(value: Value) -> Array:
    if isinstance(value, Arena):
        return np.full(value.size or 0, _UNWRITTEN, np.uint8)
    data = value.data if isinstance(value, Const) else None
    if data is None and isinstance(value, Const):
        raise error(f"@{value.name} has no data: it was left out of the text", loc=value.loc,
                    help="print the module with its .npz file beside it, or use random<seed>")
    if data is None:
        raise CompileError((Diagnostic("internal", f"%{value.name} is used before it is computed", value.loc),))
    return _read_only(data)


def _as_list(found: Any) -> list[Any]:
    if found is None:
        return []
    return list(found) if isinstance(found, (tuple, list)) else [found]


def _check_results(op: Op, results: list[Any]) -> None:
    """Refuse results that are not of the declared types: the op's `infer` and `reference` contradict each other."""
    if len(results) != len(op.results):
        raise _broken(op, f"gives {len(results)} arrays for {len(op.results)} results")
    for index, (array, result) in enumerate(zip(results, op.results, strict=True)):
        type_ = result.type_
        if not isinstance(type_, (TensorType, BufferType)):
            continue
        results[index] = array = np.asarray(array)
        if array.shape != type_.shape or array.dtype != type_.dtype.numpy:
            raise _broken(op, f"gives {_kind(array)}, declared is {type_}")


def _broken(op: Op, message: str) -> CompileError:
    return CompileError((Diagnostic("internal", f"{op.opname}: the reference {message}", op.loc),))


def _last_uses(block: Block) -> dict[Op, list[Value]]:
    """Which values nobody reads any more after each op. A value of an outer block is left alone: it is not ours."""
    number = {op: index for index, op in enumerate(block.ops)}
    for op, index in list(number.items()):
        for region in op.regions:
            number.update(dict.fromkeys(region.walk(), index))
    dies: dict[Op, list[Value]] = {}
    for op in block.ops:
        for value in op.results:
            last = max((number[use.op] for use in value.uses if use.op in number), default=number[op])
            dies.setdefault(block.ops[last], []).append(value)
    return dies
