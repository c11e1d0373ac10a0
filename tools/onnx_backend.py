"""tinyc as an ONNX backend (`onnx.backend.base`), which is what the conformance suite `onnx.backend.test` drives.

    from tinyc.tools.onnx_backend import InterpreterBackend
    outputs = InterpreterBackend.run_model(onnx.load("model.onnx"), [image])

`InterpreterBackend` runs the module as imported, `CompiledBackend` the C that -O2 makes of it, on this machine.

A static compiler needs shapes, axes and weights as constants, where single-operator test models often make them inputs
of the graph. What the compiler asks for as a constant is bound to the array that `run` is given; the rest stays input.
`Prepared.bound` says which inputs that were, and `folded` whether nothing was left to compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

from tinyir.diag import CompileError, Unsupported
from tinyir.ir import Array, Module
from tinyir.registry import FRONTENDS

from .program import Program, program_of

__all__ = ["CompiledBackend", "InterpreterBackend", "Prepared", "TinycBackend"]

FLAGS = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-ffreestanding")
Execute = Callable[[Module, Sequence[Array]], list[Array]]


class Prepared(BackendRep):
    """A model that is compiled when its inputs are there."""

    def __init__(self, model: onnx.ModelProto, execute: Execute) -> None:
        initialized = {tensor.name for tensor in model.graph.initializer}
        self.names = [i.name for i in model.graph.input if i.name not in initialized]
        self.bound: tuple[str, ...] = ()
        self.folded = False
        self._source = model.SerializeToString()
        self._execute = execute

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, in order. Raises CompileError; Unsupported for what tinyc does not do."""
        given = dict(zip(self.names, inputs, strict=False))
        module = self._import(given)
        free = [np.asarray(given[name]) for name in self.names if name not in self.bound]
        self.folded = bool(self.bound) and not free
        return tuple(self._execute(module, free))

    def _import(self, given: dict[str, Any]) -> Module:
        """The module, with ever more inputs bound until it is one."""
        constants: dict[str, Array] = {}
        while True:
            try:
                module = FRONTENDS.get("onnx")(self._source, constants=constants)
            except Unsupported as problem:
                missing = [name for name in problem.inputs if name in given and name not in constants]
                if not missing:
                    raise
                constants.update({name: np.asarray(given[name]) for name in missing})
                continue
            self.bound = tuple(constants)
            return module


class TinycBackend(Backend):
    """A backend that imports with tinyc; subclasses say how modules are executed."""

    @staticmethod
    def execute(module: Module, inputs: Sequence[Array]) -> list[Array]:
        """The outputs of the function main."""
        raise NotImplementedError

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> Prepared:
        """The model, ready to be run."""
        return Prepared(model, cls.execute)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device.upper().startswith("CPU")


class InterpreterBackend(TinycBackend):
    """Runs the module as imported, on the interpreter."""

    @staticmethod
    def execute(module: Module, inputs: Sequence[Array]) -> list[Array]:
        from tinyir.interp import run

        return run(module, inputs)


_REFUSALS = ("there is no C for", "there is no kernel for")
"""How the C backend begins its answer to element types and ops that it has no kernels for."""


def _program(module: Module) -> Program:
    from tinyir.pass_manager import PassManager, parse_pipeline
    from tinyir.registry import BACKENDS, PIPELINES

    try:
        PassManager(parse_pipeline(PIPELINES.get("O2"))).run(module)
        return program_of(module, "model", BACKENDS.get("c")(module, name="model"))
    except CompileError as problem:
        if any(refusal in d.message for d in problem.diagnostics for refusal in _REFUSALS):
            raise Unsupported(problem.diagnostics) from None
        raise


class CompiledBackend(TinycBackend):
    """Compiles the module to C with -O2, builds that for this machine and runs it."""

    @staticmethod
    def execute(module: Module, inputs: Sequence[Array]) -> list[Array]:
        from .harness import run_on_host
        from .toolchain import host_compiler

        return list(run_on_host(_program(module), [tuple(inputs)], compiler=host_compiler(), flags=FLAGS).outputs[0])
