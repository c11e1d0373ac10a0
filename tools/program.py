"""A compiled model as the tools handle it: the C files and what `NAME_run` takes.

    int NAME_run(const float *input, float *output);      Program.inputs = (Port("input", (1, 49, 10, 1), F32),) ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinyir.ir import Array, Module, Value
from tinyir.types import DType, Shape

__all__ = ["Port", "Program", "program_of"]


@dataclass(frozen=True)
class Port:
    """One input or output of `NAME_run`. `layout` is empty where its axes are in the order of the model file, else the
    order that they were turned to (--input-layout)."""

    name: str
    shape: Shape
    dtype: DType
    layout: str = ""

    @property
    def size_bytes(self) -> int:
        count = 1
        for extent in self.shape:
            count *= extent
        return (count * self.dtype.bits + 7) // 8

    @property
    def model_shape(self) -> Shape:
        """The shape in the model file."""
        if self.layout == "nhwc":
            return (self.shape[0], self.shape[-1], *self.shape[1:-1])
        if self.layout == "nchw":
            return (self.shape[0], *self.shape[2:], self.shape[1])
        return self.shape

    def from_model(self, array: Array) -> Array:
        """An array in the model's order of axes, as the C takes it."""
        axes = {"nhwc": (1, -1), "nchw": (-1, 1)}.get(self.layout)
        return array if axes is None else np.moveaxis(array, *axes)

    def to_model(self, array: Array) -> Array:
        """An array of the C in the model's order of axes."""
        axes = {"nhwc": (-1, 1), "nchw": (1, -1)}.get(self.layout)
        return array if axes is None else np.moveaxis(array, *axes)


@dataclass(frozen=True)
class Program:
    """C files by name, and the arguments of `NAME_run` in their order: inputs, then outputs."""

    name: str
    files: Mapping[str, bytes]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    caller_arena: int | None = None
    """Bytes of the arena that the caller passes as the first argument; None where the C has its own."""

    @property
    def header(self) -> str:
        return f"{self.name}.h"


Sample = tuple[Array, ...]
"""One array an input (or an output), in the order of the ports."""


def _ports(module: Module, values: list[Value], names: tuple[str, ...]) -> tuple[Port, ...]:
    labels = names if len(names) == len(values) else tuple(v.name for v in values)
    turned = {name: layout for layout in ("nhwc", "nchw") for name in module.attrs.get(layout, ())}
    return tuple(Port(label, v.shape, v.type.dtype, turned.get(label, ""))
                 for label, v in zip(labels, values, strict=True))


def program_of(module: Module, name: str, files: Mapping[str, bytes], *, caller_arena: int | None = None) -> Program:
    """What the tools need to know of `files`, which a backend made of `module`."""
    main = module.main
    return Program(name, files, _ports(module, list(main.inputs), ()),
                   _ports(module, main.results, main.result_names), caller_arena)
