"""The schedules that the optimiser found: those that no other one beats in RAM, work, instructions and code.

    front = front_of(compiled.context, compiled.facts.const_bytes)
    front.text()          a table, the chosen one marked
    front.as_json()       the same as plain objects
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tinyir.pass_manager import Context

from .cli import table

__all__ = ["Front", "FrontPoint", "front_of"]


@dataclass(frozen=True)
class FrontPoint:
    """One schedule. `peak_bytes` is the most that is planned to be live at one time, scratch of kernels included."""

    peak_bytes: int
    macs_again: int
    """Multiply-accumulates that are computed more than once."""
    instructions: int
    """Modelled, for the target."""
    code_bytes: int
    """Estimated."""
    scan: str
    """Whether images are gone through by rows or by columns; layers: neither."""
    schedule: tuple[str, ...]
    """A line for each group of layers that is not computed layer by layer."""


@dataclass(frozen=True)
class Front:
    """All of them, least RAM first."""

    points: tuple[FrontPoint, ...]
    chosen_index: int
    macs_layerwise: int
    const_bytes: int

    @property
    def chosen(self) -> FrontPoint:
        return self.points[self.chosen_index]

    def factor(self, point: FrontPoint) -> float:
        """Multiply-accumulates, as a multiple of those of the network layer by layer."""
        return 1 + point.macs_again / max(1, self.macs_layerwise)

    def flash(self, point: FrontPoint) -> int:
        """Constants and code, estimated."""
        return self.const_bytes + point.code_bytes

    def as_json(self) -> list[dict[str, Any]]:
        """The points as plain objects."""
        return [{**asdict(p), "macs_factor": round(self.factor(p), 6), "flash_bytes": self.flash(p),
                 "chosen": p is self.chosen} for p in self.points]

    def text(self) -> str:
        """A row for each point; the schedule of each below, numbered, those that are equal once."""
        rows: list[tuple[str, ...]] = [("", "RAM", "MACs", "instructions", "flash", "schedule")]
        lines: dict[tuple[str, ...], int] = {}
        for point in self.points:
            key = point.scan, *point.schedule
            number = lines.setdefault(key, len(lines) + 1) if point.schedule else 0
            mark = ">" if point is self.chosen else ""
            rows.append((mark, f"{point.peak_bytes:,}", f"{self.factor(point):.3f} x", f"{point.instructions:,}",
                         f"{self.flash(point):,}", f"[{number}]" if number else "layer by layer"))
        text = [table(rows, right=(1, 2, 3, 4))]
        for (scan, *groups), number in lines.items():
            text.append(f"  [{number}] by {scan}" + "".join(f"\n      {group}" for group in groups))
        return "\n".join(text)


def front_of(context: Context, const_bytes: int) -> Front | None:
    """What the pass `schedule` found, if it has run."""
    found: dict[str, Any] = context.found.get("schedule", {})
    if not found:
        return None
    points = tuple(FrontPoint(int(p["peak_bytes"]), int(p["macs_again"]), int(p["instructions"]), int(p["code_bytes"]),
                              str(p["scan"]), tuple(p["schedule"])) for p in found["points"])
    return Front(points, int(found["chosen"]), int(found["macs_layerwise"]), const_bytes)
