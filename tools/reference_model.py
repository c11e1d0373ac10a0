"""The ONNX model that a compilation is to be checked against, where that is not the file that was given.

With --quantize it is the quantised network as ONNX, with --io the model with that boundary: both are written on the
way, in front of the passes that make integer ops.
"""

from __future__ import annotations

from contextlib import suppress

from tinyir.clone import clone_module
from tinyir.diag import CompileError
from tinyir.ir import Module
from tinyir.pass_manager import Context, Instrument, Pass, PassManager, parse_pipeline
from tinyir.registry import BACKENDS, PIPELINES

__all__ = ["ReferenceModel"]


class ReferenceModel(Instrument):
    """Writes the model of one compilation; `data` is None where it is the given one, or cannot be written."""

    def __init__(self, *, quantize: bool, io: str | None) -> None:
        self.data: bytes | None = None
        self._quantize = quantize
        self._io = f"set-io{{io={io}}}" if io else ""

    def start(self, module: Module, ctx: Context) -> None:
        if self._io and not self._quantize and module.level == "graph":
            self._write(module, f"{PIPELINES.get('quantised-graph')},{self._io}")

    def after(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        if self._quantize and pass_.name == "move-stored":
            self._write(module, self._io)

    def _write(self, module: Module, pipeline: str) -> None:
        copy, _ = clone_module(module)
        with suppress(CompileError):  # the compilation itself may well go on
            PassManager(parse_pipeline(pipeline)).run(copy)
            self.data = next(iter(BACKENDS.get("onnx")(copy, name="reference").values()))
