"""Prints what became of every case of the official ONNX suite:  python tests/conformance/count.py [--compiled] [-v]

| column      | meaning                                                                                     |
|-------------|---------------------------------------------------------------------------------------------|
| passed      | compiled as it is, results agree                                                            |
| bound       | the same, with shapes, axes or weights that the case has as graph inputs bound as constants |
| folded      | nothing was left to compute: shape arithmetic, evaluated by the importer                    |
| unsupported | tinyc said so                                                                               |
| failed      | anything else                                                                               |
"""

from __future__ import annotations

import argparse
import sys
import unittest
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from suite import KINDS, Case, cases
from tinyc.tools.onnx_backend import CompiledBackend, InterpreterBackend, TinycBackend

COLUMNS = ("passed", "bound", "folded", "unsupported", "failed")


def outcome(case: Case, backend: type[TinycBackend], verbose: bool) -> str:
    """The column that the case belongs to."""
    try:
        return case.run(backend)
    except unittest.SkipTest as answer:
        if verbose:
            print(f"{case.name}: {answer}")
        return "unsupported"
    except Exception as problem:
        print(f"FAILED {case.name}: {type(problem).__name__}: {str(problem).strip()[:600]}")
        return "failed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiled", action="store_true", help="compile to C and run that (slow)")
    parser.add_argument("-v", "--verbose", action="store_true", help="print why cases are unsupported")
    parser.add_argument("-k", default="", help="only cases whose names contain this")
    options = parser.parse_args()
    backend = CompiledBackend if options.compiled else InterpreterBackend
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for case in cases():
        if options.k in case.name:
            counts[case.kind][outcome(case, backend, options.verbose)] += 1
    print(table(counts))
    return 1 if any(c["failed"] for c in counts.values()) else 0


def table(counts: dict[str, Counter[str]]) -> str:
    """The counts as a table in Markdown."""
    rows = [(kind, *(c[column] for column in COLUMNS), c.total()) for kind, c in counts.items()]
    total = sum(counts.values(), Counter())
    rows.append(("all", *(total[column] for column in COLUMNS), total.total()))
    lines = ["| cases | " + " | ".join(COLUMNS) + " | total |", "|---|" + "---:|" * (len(COLUMNS) + 1)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


if __name__ == "__main__":
    sys.exit(main())
