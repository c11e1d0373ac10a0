"""EQUALITY.md: a row for each model, a column for each setting.

    report({"generic": {"resnet8_int8": {"-O2": {"wrong": 0, ...}}}}, ["resnet8_int8"], ["-O2"])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyc.tools.compare import ABSOLUTE, RELATIVE

__all__ = ["report"]

Row = dict[str, Any]

_HEAD = f"""\
# Equality

Made by `python tests/bench/equality.py`. Each model is compiled in many ways, built by the host's compiler, run on
random inputs and, where there are any, real ones, and compared with the layer-by-layer program (no schedule, -O1).

- int8: a cell is the number of values whose bits differ; `0` is byte-identical.
- float: `0` is bit-identical. Otherwise the largest difference, relative to the largest output. Sums may be in another
  order: a split adds up parts, a scan by columns turns windows, and -O0 does not fold batch normalisation. What is
  allowed is `{ABSOLUTE:g} * max|output| + {RELATIVE:g} * |output|` for each value; a cell beyond that is in bold.
- `-`: does not apply; the reasons are below the table. Empty: not measured yet (`--missing` does that).

`--ram 1/3` and `--ram 2/3` are sizes this far from the least arena to that of the layers one by one; `--recompute 10%`
is with `--ram min`. Columns from `stream` on are given by hand with `--passes`: streamed row by row, two rows a step,
and column by column; a patch of 2 x 2 tiles; three strips, each row by row; a chain of layers for some channels at a
time, on whole images and row by row. `sanitizers`: -O2, `--ram min` and `--recompute 10%` with a guard in front of
every call, under AddressSanitizer and UndefinedBehaviorSanitizer, where only the call's own slots are open, and with
noise in every byte that no slot holds.
"""


def report(results: Row, models: Sequence[str], columns: Sequence[str]) -> str:
    """The whole page; `results` by target, model, setting."""
    parts = [_HEAD]
    for target in sorted(results, key=lambda name: (name != "generic", name)):
        rows = results[target]
        parts += [f"## --target {target}\n", _sums(rows), _table(rows, models, columns), _reasons(rows, models)]
    return "\n".join(parts)


def _sums(rows: Row) -> str:
    """How much was compared, and what came of it."""
    cells = [(name, cell) for name, found in rows.items() for cell in found.values()]
    compared = [cell for _, cell in cells if "values" in cell]
    wrong = sum(1 for _, cell in cells if cell.get("wrong") or "failed" in cell)
    exact = [cell for cell in compared if cell["exact"]]
    floats = [cell for cell in compared if not cell["exact"]]
    parts = [f"{len(compared)} programs compared, {wrong} differ or failed."]
    if exact:
        parts.append(f"int8: {sum(c['wrong'] for c in exact):,} of {sum(c['values'] for c in exact):,} values differ.")
    if floats:
        identical = sum(1 for cell in floats if not cell["other_bits"])
        parts.append(f"Float: {identical} of {len(floats)} programs are bit-identical, the largest difference is "
                     f"{max(c['of_bound'] for c in floats):.2f} of what is allowed.")
    return "\n".join(parts) + "\n"


def _table(rows: Row, models: Sequence[str], columns: Sequence[str]) -> str:
    """Of what was measured."""
    models = [name for name in models if rows.get(name)]
    columns = [column for column in columns if any(column in rows[name] for name in models)]
    lines = [f"| model | {' | '.join(columns)} |", "| --- " + "| --: " * len(columns) + "|"]
    for name in sorted(models):
        found = rows.get(name, {})
        lines.append(f"| {name} | {' | '.join(_cell(found.get(column)) for column in columns)} |")
    return "\n".join(lines) + "\n"


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if "reason" in row:
        return "-"
    if "failed" in row:
        return "**failed**"
    if row["wrong"]:
        return f"**{row['wrong']:,}**" if row.get("relative") is None else f"**{row['relative']:.1e}**"
    return f"{row['relative']:.0e}" if row.get("relative") else "0"


def _reasons(rows: Row, models: Sequence[str]) -> str:
    """Why there are cells without a figure, and which models have them."""
    found: dict[str, dict[str, list[str]]] = {}
    for name in sorted(models):
        for column, cell in rows.get(name, {}).items():
            why = cell.get("reason") or (f"failed: {cell['failed'].splitlines()[0]}" if "failed" in cell else None)
            if why is not None:
                found.setdefault(why, {}).setdefault(name, []).append(column)
    return "\n".join(f"- {why}: {', '.join(names)}" for why, names in sorted(found.items())) + "\n"
