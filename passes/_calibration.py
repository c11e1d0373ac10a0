"""What the passes that quantise need from outside: samples of the inputs, and the float network to compare with."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, cast

from tinyir.clone import clone_module
from tinyir.diag import error
from tinyir.ir import Array, Module, Value
from tinyir.pass_manager import Context

DATA = "calibration"
REFERENCE = "float_reference"
KEEP = "keep_float"


class CalibrationData(Protocol):
    """Samples of a model's inputs; what stands in `ctx.options["calibration"]`."""

    def samples(self, inputs: Sequence[Value]) -> Iterator[list[Array]]:
        """One array for each of `inputs`, sample by sample, of exactly their types. Raises CompileError."""


@dataclass(frozen=True)
class FloatReference:
    """The float network as it was when its ranges were measured; `same` leads from its values' descendants to them."""

    module: Module
    same: dict[Value, Value]

    @classmethod
    def of(cls, module: Module) -> FloatReference:
        """A copy of `module`."""
        return cls(*clone_module(module))


def samples(module: Module, ctx: Context, limit: int | None = None) -> Iterator[list[Array]]:
    """Inputs of @main to calibrate with. Raises CompileError where there are none."""
    data = ctx.options.get(DATA)
    if data is None:
        raise error(f"{ctx.current_pass} needs samples of the model's inputs",
                    help="give them with --calibrate FILE.npz: arrays named after the inputs, first axis = samples")
    return islice(cast(CalibrationData, data).samples(module.main.inputs), limit)


def reference(ctx: Context) -> FloatReference:
    """The float network. Raises CompileError where calibrate has not run in this compilation."""
    found = ctx.options.get(REFERENCE)
    if found is None:
        raise error(f"{ctx.current_pass} compares with the float model, which is not there any more",
                    help="run it in one pipeline behind calibrate and quantize")
    return cast(FloatReference, found)


def kept(ctx: Context) -> Collection[str]:
    """The nodes and values that the user wants to keep in float."""
    return cast("Collection[str]", ctx.options.get(KEEP, ()))
