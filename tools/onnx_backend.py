"""tinyc as an ONNX backend (`onnx.backend.base`), which is what the conformance suite `onnx.backend.test` drives.

    from tinyc.tools.onnx_backend import InterpreterBackend
    outputs = InterpreterBackend.run_model(onnx.load("model.onnx"), [image])

A static compiler needs shapes, axes and weights as constants, where single-operator test models often make them inputs
of the graph. What the compiler asks for as a constant is bound to the array that `run` is given; the rest stays input.
`Prepared.bound` says which inputs that were, and `folded` whether nothing was left to compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

from tinyir.diag import Unsupported
from tinyir.ir import Array, Module
from tinyir.registry import FRONTENDS

__all__ = ["InterpreterBackend", "Prepared", "TinycBackend"]

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

    execute: ClassVar[Execute]

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> Prepared:
        """The model, ready to be run."""
        return Prepared(model, cls.execute)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device.upper().startswith("CPU")


def _interpret(module: Module, inputs: Sequence[Array]) -> list[Array]:
    from tinyir.interp import run

    return run(module, inputs)


class InterpreterBackend(TinycBackend):
    """Runs the module as imported, on the interpreter."""

    execute = staticmethod(_interpret)
