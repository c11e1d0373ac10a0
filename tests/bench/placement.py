"""How long placement takes on MiniMalloc's challenging instances: `python tests/bench/placement.py [--seconds S]`.

Two tables: first any placement within 1,048,576 bytes, which is what is asked of these instances; then the least peak,
with at most S seconds for each, and how it compares with what is proved.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tinyc.tools.cli import table
from tinyc.tools.plan_csv import read_buffers

from tinyir.placement import place, verify

INSTANCES = Path(__file__).resolve().parents[2].parent / "shared" / "minimalloc"
CAPACITY = 1_048_576
_UNLIMITED = 1 << 62
_HEAD = ("instance", "buffers", "peak", "lower bound", "gap", "nodes", "s")


def row(path: Path, capacity: int | None, seconds: float) -> tuple[str, ...]:
    """One line of a table; the offsets are verified."""
    blocks = read_buffers(path).blocks
    begin = time.monotonic()
    found = place(blocks, capacity=capacity, nodes=_UNLIMITED, stop=lambda: time.monotonic() - begin > seconds)
    elapsed = time.monotonic() - begin
    verify(blocks, found.offsets)
    gap = "optimal" if found.optimal else f"{100 * (found.peak - found.lower_bound) / found.peak:.1f} %"
    return (path.name.partition(".")[0], str(len(blocks)), f"{found.peak:,}", f"{found.lower_bound:,}", gap,
            f"{found.nodes:,}", f"{elapsed:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="the most for each instance")
    seconds = parser.parse_args().seconds
    for title, capacity in ((f"within {CAPACITY:,} bytes", CAPACITY), ("the least peak", None)):
        rows = [row(path, capacity, seconds) for path in sorted(INSTANCES.glob("*.csv"))]
        print(f"{title}:\n{table([_HEAD, *rows], right=(1, 2, 3, 4, 5, 6))}\n")


if __name__ == "__main__":
    main()
