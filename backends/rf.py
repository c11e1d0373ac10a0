"""`--emit rf`: receptive field and jump of each layer, what patches would recompute, and which windows cost most then.

    layer      result      window    field    jump     MACs   patches 2x2    3x3    4x4
    conv_0     48x48x8     3x3/2     3x3      2        0.5 M        +0.4 %  +0.9 %  +1.3 %

The columns under `patches` say by how much the MACs of the whole network grow if everything up to that layer is
computed tile by tile of its result (MCUNetV2); row streaming needs no recomputation. Below, the windows whose shrinking
by two taps would save most of that, up to the last layer of each resolution (windows stay as large as their stride).
"""

from __future__ import annotations

from collections.abc import Mapping

from tinyir.diag import error, origins
from tinyir.ir import Func, Module, Value
from tinyir.opdef import Op
from tinyir.ops.base import Spatial
from tinyir.receptive_field import Field, fields, patch_macs, window_of
from tinyir.registry import BACKENDS

__all__ = ["emit_rf"]

_GRIDS = (2, 3, 4)
_ADVICE = 3
_LEAST_SAVING = 0.005


def emit_rf(module: Module, *, name: str = "", **_: object) -> dict[str, bytes]:
    """The table of function @main, a text file. Raises CompileError for a module at mem level."""
    if module.level == "mem":
        raise error("receptive fields are found above level mem", help="end the pipeline in front of lower-to-mem")
    func = module.main
    lines = [*_layers(func), "", *_advice(func)]
    return {f"{name or module.name}.rf.txt": ("\n".join(line.rstrip() for line in lines) + "\n").encode()}


BACKENDS.add("rf", emit_rf)


def _is_layer(op: Op) -> bool:
    return bool(op.results) and isinstance(op, Spatial) and op.out.type.rank == 4


def _layers(func: Func) -> list[str]:
    rows, columns = fields(func, "rows"), fields(func, "columns")
    total = sum(op.macs() for op in func.ops)
    layers = [op for op in func.ops if _is_layer(op)]
    head = ["layer", "result", "window", "field", "jump", "MACs", *(f"{g}x{g}" for g in _GRIDS)]
    table = [head]
    for op in layers:
        table.append([op.out.name, "x".join(map(str, op.out.shape[1:])), _window_text(op),
                      f"{_extent(rows[op.out])}x{_extent(columns[op.out])}", f"{rows[op.out].jump}", f"{op.macs():,}",
                      *(_percent(_overhead(func, op.out, g), total) for g in _GRIDS)])
    return ["receptive field of each layer in the input, and MACs added by computing all up to it in patches", "",
            *_aligned(table)]


def _aligned(table: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return ["  ".join(cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in
                      enumerate(zip(row, widths, strict=True))) for row in table]


def _extent(field: Field) -> str:
    return "all" if field.extent is None else str(-(-field.extent.numerator // field.extent.denominator))


def _window_text(op: Op) -> str:
    window = window_of(op, "rows"), window_of(op, "columns")
    if window[0] is None or window[1] is None:
        return op.opname.partition(".")[2]
    (kh, sh, dh, _), (kw, sw, dw, _) = window[0], window[1]
    stride = f"/{sh}" if sh == sw else f"/{sh}x{sw}"
    return f"{kh}x{kw}{stride if (sh, sw) != (1, 1) else ''}{f' dilated {dh}x{dw}' if (dh, dw) != (1, 1) else ''}"


def _overhead(func: Func, until: Value, grid: int, shrunk: tuple[Op, ...] = ()) -> int:
    """MACs that a grid of patches adds."""
    once, tiled = patch_macs(func, until, (grid, grid), shrunk)
    return tiled - once


def _percent(part: int, total: int) -> str:
    return f"+{100 * part / total:.1f} %" if total else "-"


def _advice(func: Func) -> list[str]:
    """What smaller windows would save, at the last layer before each reduction of the resolution."""
    total = sum(op.macs() for op in func.ops)
    lines = ["where a smaller window early would save recomputation (patches of 3x3; add the field back later)"]
    for until in _stage_ends(func):
        plain = _overhead(func, until.out, 3)
        if plain > total:
            continue  # nobody would
        found = sorted(_savings(func, until, plain).items(), key=lambda item: (-item[1], item[0].out.name))
        for op, saved in found[:_ADVICE]:
            if total and saved / total >= _LEAST_SAVING:
                lines.append(f"  up to {until.out.name}: {op.out.name} {_window_text(op)} -> {_smaller(op)}: "
                             f"{_percent(plain, total)} -> {_percent(plain - saved, total)} MACs"
                             f" ({', '.join(origins(op.loc)) or op.opname})")
    return lines if len(lines) > 1 else [lines[0], "  nowhere: no window adds more than 0.5 % of the MACs"]


def _stage_ends(func: Func) -> list[Op]:
    """The last layer with MACs of each resolution that a smaller one follows."""
    last: dict[int, Op] = {}
    for op in func.ops:
        if _is_layer(op) and op.macs():
            last[op.out.shape[1]] = op
    return [last[height] for height in sorted(last, reverse=True)[:-1]]


def _savings(func: Func, until: Op, plain: int) -> Mapping[Op, int]:
    found: dict[Op, int] = {}
    for op in func.ops[:func.ops.index(until) + 1]:
        if all((w := window_of(op, axis)) is not None and w[0] - 2 >= w[1] for axis in ("rows", "columns")):
            found[op] = plain - _overhead(func, until.out, 3, (op,))
    return found


def _smaller(op: Op) -> str:
    rows, columns = window_of(op, "rows"), window_of(op, "columns")
    assert rows is not None
    assert columns is not None
    return f"{rows[0] - 2}x{columns[0] - 2}"


