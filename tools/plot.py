"""A drawing of a schedule as one SVG file: the front of RAM and instructions, and the memory map over time.

    tinyc model.onnx --ram min --emit plot -o model.svg

The file needs nothing else, and follows the reader's choice of light or dark. Every mark has a title with its figures,
which a browser shows under the pointer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from .front import Front, FrontPoint
from .memory_plan import MemoryPlan, PlannedSlot

__all__ = ["plot"]

_WIDTH, _LEFT, _RIGHT, _HEIGHT = 960, 84, 24, 320
_LETTER = 6.6
_LIGHT = {"back": "#ffffff", "ink": "#1b1f24", "soft": "#57606a", "grid": "#d8dee4", "slot0": "#3b6fb6",
          "slot1": "#5f8fce", "scratch": "#c98f2b", "again": "#3f8f5f", "mark": "#c0392b", "label": "#ffffff"}
_DARK = {"back": "#15191e", "ink": "#e6e9ec", "soft": "#9aa4ae", "grid": "#2d343c", "slot0": "#3d6cab",
         "slot1": "#2c517f", "scratch": "#a57a2b", "again": "#56a877", "mark": "#ef7a6c", "label": "#ffffff"}
_SHAPES = """
text { font: 12px system-ui, sans-serif; }
.title { font-size: 16px; font-weight: 600; }
.head { font-size: 13px; font-weight: 600; }
.label { font-size: 11px; }
.loop { opacity: 0.45; }
.box { stroke-width: 1; }
.line { fill: none; stroke-width: 1.5; }
.chosen { fill: none; stroke-width: 2; }
"""


def _colours(of: Mapping[str, str]) -> str:
    rules = [("fill", ".back", "back"), ("fill", "text", "ink"), ("fill", ".soft", "soft"), ("fill", ".loop", "grid"),
             ("stroke", ".grid", "grid"), ("stroke", ".axis", "soft"), ("stroke", ".box", "back"),
             ("fill", ".slot0", "slot0"), ("fill", ".slot1", "slot1"), ("fill", ".scratch", "scratch"),
             ("fill", ".label", "label"), ("stroke", ".line", "slot0"), ("fill", ".point", "slot0"),
             ("fill", ".again", "again"), ("stroke", ".chosen", "mark")]
    return "\n".join(f"{what} {{ {kind}: {of[name]}; }}" for kind, what, name in rules)


_STYLE = f"{_SHAPES}{_colours(_LIGHT)}\n@media (prefers-color-scheme: dark) {{\n{_colours(_DARK)}\n}}\n"
"""Plain rules for each of the two: not every viewer knows variables."""


@dataclass
class _Drawing:
    """Elements so far, and how far down they reach."""

    bottom: float = 0.0
    parts: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.parts.append(text)

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        self.add(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self.add(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>')

    def box(self, corner: tuple[float, float], size: tuple[float, float], kind: str, title: str) -> None:
        (x, y), (width, height) = corner, size
        self.add(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{max(height, 1):.1f}" '
                 f'class="{kind}"><title>{escape(title)}</title></rect>')

    def svg(self, title: str) -> str:
        height = self.bottom + 16
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" '
                f'height="{height:.0f}" role="img">\n<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n'
                f'<rect class="back" width="{_WIDTH}" height="{height:.0f}"/>\n' + "\n".join(self.parts) + "\n</svg>\n")


@dataclass(frozen=True)
class _Scale:
    """Values to places on the page."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)


def plot(name: str, front: Front | None, plan: MemoryPlan | None, subtitle: str) -> str:
    """The text of the SVG file: what there is of the two."""
    drawing = _Drawing(56)
    drawing.text(_LEFT, 28, name, "title")
    drawing.text(_LEFT, 48, subtitle, "soft")
    if front is not None and front.points:
        _draw_front(drawing, front)
    if plan is not None and plan.slots:
        _draw_plan(drawing, plan)
    return drawing.svg(name)


# -- the front ---------------------------------------------------------------------------------------------------------


def _draw_front(drawing: _Drawing, front: Front) -> None:
    top, bottom = drawing.bottom + 44, drawing.bottom + 44 + _HEIGHT * 0.75
    drawing.text(_LEFT, drawing.bottom + 22, "Schedules that no other one beats: RAM and instructions", "head")
    costs = [point.instructions for point in front.points]
    sizes = [point.peak_bytes for point in front.points]
    x = _Scale(*_padded(sizes), _LEFT, _WIDTH - _RIGHT)
    y = _Scale(*_padded(costs), bottom, top)
    _axis(drawing, x, y, bottom)
    steps = sorted((p for p in front.points), key=lambda p: p.peak_bytes)
    plain = [p for p in steps if p.macs_again == 0]
    path = " ".join(f"{x(p.peak_bytes):.1f},{y(p.instructions):.1f}" for p in plain)
    drawing.add(f'<polyline class="line" points="{path}"/>')
    for point in steps:
        _draw_point(drawing, front, point, (x(point.peak_bytes), y(point.instructions)))
    drawing.text(_WIDTH - _RIGHT, bottom + 36, "RAM of the plan, bytes", "soft", "end")
    drawing.text(_LEFT, top - 8, "modelled instructions", "soft")
    _key(drawing, bottom + 36, [("point", "nothing computed twice"), ("again", "some computed twice"),
                                ("chosen", "this one")], dots=True)
    drawing.bottom = bottom + 48


def _draw_point(drawing: _Drawing, front: Front, point: FrontPoint, place: tuple[float, float]) -> None:
    kind = "again" if point.macs_again else "point"
    title = f"{point.peak_bytes:,} bytes, {point.instructions:,} instructions, {front.factor(point):.3f} x MACs, " \
            f"{point.code_bytes:,} bytes of code\n{point.scan}\n" + "\n".join(point.schedule)
    drawing.add(f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="4.5" class="{kind}">'
                f"<title>{escape(title)}</title></circle>")
    if point is front.chosen:
        drawing.add(f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="8" class="chosen"/>')


def _padded(values: Sequence[int]) -> tuple[float, float]:
    """A range with some room on both sides; it begins at 0 where the values do not lie close together."""
    low, high = min(values), max(values)
    room = (high - low or high or 1) * 0.08
    return (0.0 if low < 0.5 * high else max(0.0, low - room)), high + room


def _axis(drawing: _Drawing, x: _Scale, y: _Scale, bottom: float) -> None:
    for value in _ticks(y.low, y.high):
        drawing.line(_LEFT, y(value), _WIDTH - _RIGHT, y(value), "grid")
        drawing.text(_LEFT - 8, y(value) + 4, _short(value), "soft", "end")
    for value in _ticks(x.low, x.high):
        drawing.line(x(value), bottom, x(value), bottom + 5, "axis")
        drawing.text(x(value), bottom + 19, _short(value), "soft", "middle")
    drawing.line(_LEFT, bottom, _WIDTH - _RIGHT, bottom, "axis")


def _ticks(low: float, high: float) -> list[float]:
    """About five round values."""
    span = max(high - low, 1.0)
    power = 10.0 ** (len(str(int(span / 5))) - 1)
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 6)
    first = int(-(-low // step))
    return [step * i for i in range(first, int(high // step) + 1)]


def _short(value: float) -> str:
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e6 if unit == 'M' else 1e3):.4g} {unit}"
    return f"{value:,.0f}"


def _key(drawing: _Drawing, y: float, rows: Sequence[tuple[str, str]], *, dots: bool = False) -> None:
    x = float(_LEFT)
    for kind, words in rows:
        if dots:
            drawing.add(f'<circle cx="{x + 5:.1f}" cy="{y - 4:.1f}" r="4.5" class="{kind}"/>')
        else:
            drawing.box((x, y - 10), (10, 10), kind, words)
        drawing.text(x + 16, y, words, "soft")
        x += 30 + len(words) * _LETTER


# -- the memory map ----------------------------------------------------------------------------------------------------


def _draw_plan(drawing: _Drawing, plan: MemoryPlan) -> None:
    top, bottom = drawing.bottom + 36, drawing.bottom + 36 + _HEIGHT
    words = f"The arena over time: {plan.arena_bytes:,} bytes, of which activations need {plan.activation_bytes:,}"
    drawing.text(_LEFT, drawing.bottom + 22, words, "head")
    x = _Scale(0, len(plan.calls), _LEFT, _WIDTH - _RIGHT)
    y = _Scale(0, plan.arena_bytes, bottom, top)
    for loop in plan.loops:
        drawing.box((x(loop.first), top), (x(loop.last + 1) - x(loop.first), bottom - top), "loop",
                    f"a loop of {loop.steps} steps")
    for value in _ticks(0, plan.arena_bytes):
        drawing.line(_LEFT, y(value), _WIDTH - _RIGHT, y(value), "grid")
        drawing.text(_LEFT - 8, y(value) + 4, _short(value), "soft", "end")
    for index, slot in enumerate(plan.slots):
        _draw_slot(drawing, slot, f"{'scratch' if slot.scratch else f'slot{index % 2}'} box", (x, y))
    drawing.line(_LEFT, bottom, _WIDTH - _RIGHT, bottom, "axis")
    _call_axis(drawing, plan, x, bottom)
    _key(drawing, bottom + 40, [("slot0", "tensors and rings"), ("scratch", "scratch of a kernel"),
                                ("loop", "loops over rows or parts")])
    drawing.bottom = bottom + 52


def _draw_slot(drawing: _Drawing, slot: PlannedSlot, kind: str, scales: tuple[_Scale, _Scale]) -> None:
    x, y = scales
    left, right = x(slot.first), x(slot.last + 1)
    upper, lower = y(slot.offset + slot.bytes), y(slot.offset)
    title = f"%{slot.name}: {slot.bytes:,} bytes at {slot.offset:,}, calls {slot.first} to {slot.last}"
    drawing.box((left, upper), (right - left, lower - upper), kind, title)
    words = f"%{slot.name}"
    fitting = int((right - left - 6) / _LETTER)
    if lower - upper >= 13 and fitting >= 4:
        shown = words if len(words) <= fitting else "…" + words[1 - fitting:]
        drawing.text(left + 4, (upper + lower) / 2 + 4, shown, "label")


def _call_axis(drawing: _Drawing, plan: MemoryPlan, x: _Scale, bottom: float) -> None:
    count = len(plan.calls)
    step = max(1, -(-count // 24))
    for call in range(0, count, step):
        drawing.text((x(call) + x(call + 1)) / 2, bottom + 18, str(call), "soft", "middle")
    drawing.text(_WIDTH - _RIGHT, bottom + 40, "kernel calls, in order", "soft", "end")
