"""What --list-passes, --list-ops, --list-targets and --print-target print."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Sequence
from typing import Any, cast

from tinyir.pass_manager import Pass
from tinyir.registry import OPERATORS, PASSES, PIPELINES, load_file
from tinyir.target import TARGETS, Target, target_named
from tinyir.target_file import target_text

from .cli import table

__all__ = ["operators", "passes", "target", "targets"]


def targets() -> str:
    """One line a target: what the core is, and what its kernels use."""
    return table([(t.name, t.summary, _features(t)) for t in TARGETS.values()], indent="")


def _features(target: Target) -> str:
    floats = f"{target.float_registers} float registers" if target.float_registers else "integers only"
    lanes = [f"{target.float_lanes} lanes"] if target.float_lanes > 1 else []
    flags = [f.name for f in dataclasses.fields(target) if getattr(target, f.name) is True]
    return ", ".join([floats, *lanes, *flags, *(["cycle model"] if target.costs else [])])


def target(name: str) -> str:
    """A target as TOML."""
    return target_text(target_named(name))


def passes(loaded: Sequence[str] = ()) -> str:
    """Every pass with its summary and options, then the pipelines of the levels."""
    for path in loaded:
        load_file(path)
    lines = []
    for name, kind in PASSES.items():
        levels = (kind.level,) if isinstance(kind.level, str) else kind.level
        to = f" -> {kind.to_level}" if kind.to_level and (kind.to_level,) != levels else ""
        lines.append(f"{name}  ({', '.join(levels)}{to})")
        lines += [f"    {line}" for line in (_summary(kind), *_options(kind)) if line]
    lines.append("")
    lines += [f"-{name}: {text}" if name.startswith("O") else f"{name}: {text}" for name, text in PIPELINES.items()]
    return "\n".join(lines)


def _summary(kind: type[Pass]) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def _options(kind: type[Pass]) -> list[str]:
    hints = typing.get_type_hints(kind)
    lines = []
    for field in dataclasses.fields(cast(Any, kind)):
        words = typing.get_args(hints[field.name])
        values = "|".join(map(str, words)) if words else getattr(hints[field.name], "__name__", str(hints[field.name]))
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        lines.append(f"{field.name.replace('_', '-')}={values}  (default {default})  {field.metadata.get('help', '')}")
    return lines


def operators() -> str:
    """The ONNX operators that can be compiled, several a line."""
    return textwrap.fill(", ".join(OPERATORS.get("onnx")()), 100)
