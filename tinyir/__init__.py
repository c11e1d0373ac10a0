"""The public API of pass authors: `import tinyir` is all that a custom pass needs.

    from tinyir import Pass, Rewriter, ops, rewrites

Everything is loaded on first use, so that `import tinyir` costs nothing where only a part is needed. Op classes are in
`tinyir.ops`.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import ops
    from .diag import (
        UNKNOWN,
        CompileError,
        Diagnostic,
        FileLoc,
        FusedLoc,
        Location,
        NamedLoc,
        did_you_mean,
        error,
        fuse,
        origins,
    )
    from .equality import structural_difference, structurally_equal
    from .geometry import Span
    from .instrument import (
        CheckEach,
        DumpDir,
        PrintAfter,
        PrintBefore,
        Reproducer,
        Statistics,
        Timing,
        VerifyEach,
    )
    from .interp import run
    from .ir import Arena, Argument, Array, Block, Const, Func, Level, Module, Result, Use, Value
    from .lowering import Lowering, lowers
    from .opdef import Op, Written
    from .parser import parse, parse_file
    from .pass_manager import (
        Analysis,
        Context,
        Instrument,
        Pass,
        PassManager,
        option,
        parse_pipeline,
        print_pipeline,
    )
    from .printer import Sidecar, print_module, write_module
    from .registry import load_file, load_plugins
    from .rewrite import Builder, Rewriter, rewrites
    from .target import Target, target_named
    from .types import BufferType, DType, IndexType, Quant, Shape, TensorType, Type, dtype, dtype_of
    from .verify import verify

__all__ = [
    "UNKNOWN", "Analysis", "Arena", "Argument", "Array", "Block", "BufferType", "Builder", "CheckEach", "CompileError",
    "Const", "Context", "DType", "Diagnostic", "DumpDir", "FileLoc", "Func", "FusedLoc", "IndexType", "Instrument",
    "Level", "Location", "Lowering", "Module", "NamedLoc", "Op", "Pass", "PassManager", "PrintAfter", "PrintBefore",
    "Quant", "Reproducer", "Result", "Rewriter", "Shape", "Sidecar", "Span", "Statistics", "Target", "TensorType",
    "Timing", "Type", "Use", "Value", "VerifyEach", "Written", "did_you_mean", "dtype", "dtype_of", "error", "fuse",
    "load_file", "load_plugins", "lowers", "ops", "option", "origins", "parse", "parse_file", "parse_pipeline",
    "print_module", "print_pipeline", "rewrites", "run", "structural_difference", "structurally_equal", "target_named",
    "verify", "write_module",
]

_NAMES = {
    "diag": "UNKNOWN CompileError Diagnostic FileLoc FusedLoc Location NamedLoc did_you_mean error fuse origins",
    "equality": "structural_difference structurally_equal",
    "geometry": "Span",
    "instrument": "CheckEach DumpDir PrintAfter PrintBefore Reproducer Statistics Timing VerifyEach",
    "interp": "run",
    "ir": "Arena Argument Array Block Const Func Level Module Result Use Value",
    "lowering": "Lowering lowers",
    "opdef": "Op Written",
    "parser": "parse parse_file",
    "pass_manager": "Analysis Context Instrument Pass PassManager option parse_pipeline print_pipeline",
    "printer": "Sidecar print_module write_module",
    "registry": "load_file load_plugins",
    "rewrite": "Builder Rewriter rewrites",
    "target": "Target target_named",
    "types": "BufferType DType IndexType Quant Shape TensorType Type dtype dtype_of",
    "verify": "verify",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name == "ops":
        return importlib.import_module(".ops", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """Importing the submodule `tinyir.verify` would set it as an attribute here, and hide the function of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _HOME or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
