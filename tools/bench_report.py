"""What `tinyc-bench` found out, as JSON and as a person reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .cli import table
from .hot_code import CACHE_BYTES

__all__ = ["BenchReport", "LayerFigures"]


@dataclass(frozen=True)
class LayerFigures:
    """One call of a kernel; None: not measured. `hot_bytes`: how much code nearly all of its time is spent in."""

    number: int
    name: str
    """The ONNX nodes that it computes."""
    op: str
    macs: int
    instructions: int | None = None
    cycles: int | None = None
    fetch_stalls: int | None = None
    hot_bytes: int | None = None


@dataclass(frozen=True)
class BenchReport:
    """One inference. What was not measured is None; sizes in bytes, times in seconds."""

    model: str
    target: str
    opt: str
    macs: int
    arena_bytes: int
    code_bytes: int
    """Machine code of the model and of the compiler's routines that it calls."""
    const_bytes: int
    compiler: str
    flags: str
    instructions: int | None = None
    instructions_qemu: int | None = None
    """The same by QEMU's timer, where both emulators ran."""
    modelled_instructions: int | None = None
    """What the scheduler takes it for, by the prices of the target."""
    cycles: int | None = None
    fetch_stalls: int | None = None
    """Cycles that code would wait for a flash with a small cache, beside `cycles`."""
    stack_bytes: int | None = None
    """Measured: how much of the painted stack was overwritten."""
    ran_on: str = "host"
    seconds: float | None = None
    peer: str | None = None
    peer_seconds: float | None = None
    layers: tuple[LayerFigures, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain objects, with the rates beside the counts."""
        fields = asdict(self)
        layers = fields.pop("layers")
        fields["instructions_per_mac"] = _rate(self.instructions, self.macs)
        fields["cycles_per_mac"] = _rate(self.cycles, self.macs)
        fields["peer_ratio"] = _rate(self.seconds, self.peer_seconds)
        return {**fields, "layers": layers}

    def text(self, *, layers: bool = False) -> str:
        """The figures in columns, and the layers below if asked for."""
        head = f"{self.model}: {self.opt}, {self.target} ({self.ran_on}, {self.compiler} {self.flags})"
        lines = [head, table(self._rows(), right=(1,))]
        if layers and self.layers and self.instructions is not None:
            lines.append(self._layer_table())
        if (large := self._large_loops()) and layers:
            lines.append(f"  hot code above {CACHE_BYTES} bytes, a small flash cache: layers {', '.join(large)}")
        return "\n".join(lines)

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("MACs", f"{self.macs:,}", "")]
        if self.instructions is not None:
            rows.append(("instructions", f"{self.instructions:,}", _a_mac(self.instructions, self.macs)))
        if self.instructions_qemu is not None:
            rows.append(("  by QEMU's timer", f"{self.instructions_qemu:,}", ""))
        if self.modelled_instructions and self.instructions:
            error = 100 * (self.modelled_instructions / self.instructions - 1)
            rows.append(("  by the scheduler's prices", f"{self.modelled_instructions:,}", f"{error:+.1f} %"))
        if self.cycles is not None:
            rows.append(("modelled cycles", f"{self.cycles:,}", _a_mac(self.cycles, self.macs)))
        if self.cycles and self.fetch_stalls is not None:
            rows.append(("  waiting for code", f"{self.fetch_stalls:,}",
                         f"+ {100 * self.fetch_stalls / self.cycles:.1f} %, from flash with a small cache"))
        if self.seconds is not None:
            rows.append(("milliseconds", f"{self.seconds * 1e3:.4f}", ""))
        if self.seconds is not None and self.peer_seconds is not None:
            rows.append((f"  {self.peer}", f"{self.peer_seconds * 1e3:.4f}",
                         f"ours is {self.seconds / self.peer_seconds:.2f} of it"))
        rows.append(("arena", f"{self.arena_bytes:,}", "bytes"))
        if self.stack_bytes is not None:
            rows.append(("stack", f"{self.stack_bytes:,}", "bytes, painted"))
        return [*rows, ("code", f"{self.code_bytes:,}", "bytes of flash"),
                ("constants", f"{self.const_bytes:,}", "bytes of flash")]

    def _layer_table(self) -> str:
        total = max(1, sum(layer.instructions or 0 for layer in self.layers))
        rows: list[tuple[str, ...]] = [("layer", "op", "MACs", "instructions", "share", "a MAC", "cycles", "waits",
                                        "hot code", "ONNX")]
        for layer in self.layers:
            rate = _rate(layer.instructions, layer.macs)
            rows.append((str(layer.number), layer.op, f"{layer.macs:,}", _count(layer.instructions),
                         f"{100 * (layer.instructions or 0) / total:.1f} %", "" if rate is None else f"{rate:.2f}",
                         _count(layer.cycles), _count(layer.fetch_stalls), _count(layer.hot_bytes),
                         _short(layer.name)))
        return table(rows, right=(0, 2, 3, 4, 5, 6, 7, 8))

    def _large_loops(self) -> list[str]:
        return [str(layer.number) for layer in self.layers if (layer.hot_bytes or 0) > CACHE_BYTES]


def _rate(value: float | None, base: float | None) -> float | None:
    return round(value / base, 4) if value is not None and base else None


def _a_mac(value: int, macs: int) -> str:
    return f"{value / macs:.2f} a MAC" if macs else ""


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _short(name: str) -> str:
    return name if len(name) <= 48 else f"{name[:45]}..."
