"""Targets as TOML: a board of the user's, which extends one of the built-in targets.

    # my_board.toml
    extends = "cortex-m4"
    summary = "sensor node, revision B"
    [costs]
    branch = 3
    [[region]]
    name = "SRAM2"
    kind = "ram"
    size = "64K"
    section = ".sram2"

`tinyc --print-target cortex-m4` writes a built-in one in this form, to be copied.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from .board import Costs, Region, size_of, size_text
from .diag import did_you_mean, error
from .target import Target, target_named

__all__ = ["read_target", "target_text"]

_TABLES = ("costs", "region")


def read_target(path: str) -> Target:
    """The target that the file `path` describes. Raises CompileError."""
    table = _table(path)
    base = table.pop("extends", None)
    if not isinstance(base, str) or base.endswith(".toml"):
        raise error(f"{path}: extends should name the built-in target that this one extends",
                    help='extends = "cortex-m4", for example (tinyc --list-targets)')
    core = target_named(base)
    plain = _facts(path, core, {k: v for k, v in table.items() if k not in _TABLES})
    costs = _costs(path, core, table["costs"]) if "costs" in table else core.costs
    regions = tuple(_region(path, row) for row in _rows(path, table.get("region", [])))
    return dataclasses.replace(core, **{"name": Path(path).stem, **plain}, extends=core.core, costs=costs,
                               regions=regions)


def _table(path: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(Path(path).read_text())
    except OSError as problem:
        raise error(f"cannot read the target {path}: {problem.strerror or problem}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise error(f"{path} is not TOML: {problem}") from None


def _facts(path: str, core: Target, given: Mapping[str, Any]) -> dict[str, Any]:
    known = {f.name for f in dataclasses.fields(Target)} - {"extends", "costs", "regions"}
    _check_keys(path, "a target", given, known)
    for key, value in given.items():
        wanted = type(getattr(core, key))
        if type(value) is not wanted:
            raise error(f"{path}: {key} should be of type {wanted.__name__}, not {value!r}")
    return dict(given)


def _costs(path: str, core: Target, given: Any) -> Costs:
    _check_keys(path, "[costs]", given, {f.name for f in dataclasses.fields(Costs)})
    for key, value in given.items():
        if type(value) is not int or value < 0:
            raise error(f"{path}: [costs] {key} should be a number of cycles, not {value!r}")
    return dataclasses.replace(core.costs or Costs(), **given)


def _rows(path: str, given: Any) -> list[Any]:
    if not isinstance(given, list):
        raise error(f"{path}: write [[region]], with two brackets: there may be several")
    return given


def _region(path: str, row: Mapping[str, Any]) -> Region:
    _check_keys(path, "[[region]]", row, {f.name for f in dataclasses.fields(Region)})
    missing = [key for key in ("name", "kind", "size") if key not in row]
    if missing:
        raise error(f"{path}: a [[region]] lacks {', '.join(missing)}")
    if row["kind"] not in ("ram", "flash"):
        raise error(f"{path}: region {row['name']}: kind should be ram or flash, not {row['kind']!r}")
    try:
        return Region(str(row["name"]), row["kind"], size_of(row["size"]), str(row.get("section", "")))
    except (ValueError, TypeError):
        message = f"{path}: region {row['name']}: size should be like 65536 or \"64K\", not {row['size']!r}"
        raise error(message) from None


def _check_keys(path: str, what: str, given: Any, known: Collection[str]) -> None:
    if not isinstance(given, Mapping):
        raise error(f"{path}: {what} should be a table")
    for key in given:
        if key not in known:
            raise error(f"{path}: {what} has no key {key!r}", help=did_you_mean(key, known))


# -- writing -----------------------------------------------------------------------------------------------------------


def target_text(target: Target) -> str:
    """`target` as TOML: everything that it says, and an example of regions where it has none."""
    skipped = ("name", "extends", "costs", "regions")
    facts = [(f.name, getattr(target, f.name)) for f in dataclasses.fields(target) if f.name not in skipped]
    lines = [f'extends = "{target.core}"', *(f"{key} = {_value(value)}" for key, value in facts)]
    if target.costs is not None:
        lines += ["", "[costs]  # cycles, for tinyc-bench"]
        lines += [f"{key} = {value}" for key, value in dataclasses.asdict(target.costs).items()]
    for region in target.regions or _EXAMPLE:
        rows = [("name", region.name), ("kind", region.kind), ("size", size_text(region.size)),
                ("section", region.section)]
        comment = "" if target.regions else "# "
        lines += ["", f"{comment}[[region]]", *(f"{comment}{key} = {_value(value)}" for key, value in rows if value)]
    return "\n".join(lines) + "\n"


_EXAMPLE = (Region("SRAM", "ram", 96 << 10, ".sram"), Region("FLASH", "flash", 1 << 20, ".rodata"))


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int) else f'"{value}"'
