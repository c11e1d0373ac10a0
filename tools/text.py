"""A module as files: its text, and beside it an .npz file with the constants that are too large for text."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from tinyir.ir import Module
from tinyir.printer import Facts, Sidecar, print_module

__all__ = ["Style", "module_files", "module_text"]


@dataclass(frozen=True)
class Style:
    """What of the text is optional."""

    locations: bool = True
    facts: Facts = "header"


def module_text(module: Module, style: Style = Style()) -> str:
    """The text alone; large constants are marked `elided`."""
    return print_module(module, locations=style.locations, facts=style.facts)


def module_files(module: Module, stem: str, style: Style = Style()) -> dict[str, bytes]:
    """`<stem>.tir` and, where there are large constants, `<stem>.npz`."""
    side = Sidecar(f"{stem}.npz")
    text = print_module(module, sidecar=side, locations=style.locations, facts=style.facts)
    files = {f"{stem}.tir": text.encode()}
    with tempfile.TemporaryDirectory(prefix="tinyc-") as folder:
        side.save(folder)
        path = Path(folder) / side.name
        if path.exists():
            files[side.name] = path.read_bytes()
    return files
