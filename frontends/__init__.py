"""Frontends: what turns a model file into a module. Registered by name; loaded when they are called."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tinyir.registry import FRONTENDS, OPERATORS

if TYPE_CHECKING:
    from tinyir.ir import Array, Module
    from tinyir.pass_manager import Context
    from tinyir.types import Shape

__all__ = ["import_onnx", "onnx_operators"]


def import_onnx(source: str | os.PathLike[str] | bytes, *, input_dims: Mapping[str, int] | None = None,
                input_shapes: Mapping[str, Shape] | None = None, constants: Mapping[str, Array] | None = None,
                name: str | None = None, ctx: Context | None = None) -> Module:
    """The module at graph level for an ONNX model (a path, or the file's bytes).

    `input_dims` gives symbolic dimensions a size ({"N": 1}), `input_shapes` fixes inputs whole ({"x": (1, 3, 96, 96)});
    an open first dimension becomes 1 by itself. `constants` binds inputs of the model to arrays: they are no longer
    inputs of the module. `name` names the module (default: the file's stem). Remarks go to `ctx`.

    The function `main` has the model's inputs in ONNX order (without those that have an initialiser) and returns its
    outputs; `result_names` keeps their names as they are in the file. Layouts are those of the file.

    Raises CompileError; Unsupported (with one table over the whole model) when the model is well formed but uses
    something that is not supported.
    """
    from .onnx import import_model

    return import_model(source, input_dims=input_dims, input_shapes=input_shapes, constants=constants, name=name,
                        ctx=ctx)


def onnx_operators() -> list[str]:
    """The ONNX operators that have a converter, by name."""
    from . import onnx_ops as onnx_ops  # fills CONVERTERS
    from .onnx_node import CONVERTERS

    return sorted([*CONVERTERS, "If"])


FRONTENDS.add("onnx", import_onnx)
OPERATORS.add("onnx", onnx_operators)
