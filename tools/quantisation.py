"""What there is to say about a model that was quantised here: the table and --report show it.

    value        op                 sqnr     own        dB of all error so far, and of the error made right there
    conv_0       nn.relu            42.1    42.3
"""

from __future__ import annotations

import math
from typing import Any

from tinyir.pass_manager import Context

from .cli import table

__all__ = ["quantisation_facts", "quantisation_lines", "quantisation_table"]


def quantisation_facts(context: Context) -> dict[str, Any] | None:
    """Plain objects for JSON; None where nothing was quantised. Ratios are in dB, null where there is no error."""
    errors = context.options.get("quantisation_error")
    if errors is None:
        return None
    proof = context.stats.get("nudge-scales", {})
    values = [{"value": v.name, "op": v.op, "nodes": list(v.nodes), "sqnr_db": _decibel(v.sqnr),
               "own_db": _decibel(v.own)} for v in errors.values]
    tried = [{"pipeline": text, "sqnr_db": _decibel(found)}
             for text, found in context.options.get("quantisations_tried", ())]
    return {"output_sqnr_db": [_decibel(found) for found in errors.outputs], "values": values, "layers":
            proof.get("layers", 0), "layers_proved": proof.get("layers-proved", 0), "layers_proved_in_two_instructions":
            proof.get("layers-in-two-instructions", 0), "tried": tried}


def _decibel(value: float) -> float | None:
    return round(value, 2) if math.isfinite(value) else None


def quantisation_lines(context: Context) -> list[tuple[str, str, str]]:
    """Rows for the table at the end of a compilation: name, figure, unit."""
    facts = quantisation_facts(context)
    if facts is None:
        return []
    outputs = ", ".join("exact" if found is None else f"{found:.1f}" for found in facts["output_sqnr_db"])
    known = [v for v in facts["values"] if v["own_db"] is not None]
    worst = min(known, key=lambda v: float(v["own_db"]), default=None)
    where = f"dB; most is lost at {worst['value']} ({worst['own_db']:.1f} dB)" if worst else "dB"
    proved = f"{facts['layers_proved']}/{facts['layers']}"
    return [("output SQNR", outputs, where), ("proved layers", proved,
            f"with integer requantisation, {facts['layers_proved_in_two_instructions']} in two instructions")]


def quantisation_table(context: Context) -> str | None:
    """Every value, for a person; None where nothing was quantised."""
    facts = quantisation_facts(context)
    if facts is None:
        return None
    rows = [("value", "op", "sqnr", "own")]
    rows += [(v["value"], v["op"], _shown(v["sqnr_db"]), _shown(v["own_db"])) for v in facts["values"]]
    text = table(rows, right=(2, 3))
    if facts["tried"]:
        text += "\n" + table([(_shown(t["sqnr_db"]), t["pipeline"]) for t in facts["tried"]], right=(0,))
    return text


def _shown(found: float | None) -> str:
    return "exact" if found is None else f"{found:.1f}"
