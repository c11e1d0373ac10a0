"""The official ONNX suite: every case passes, or tinyc itself says that it is unsupported.

On the interpreter in every run of the tests, as C (built and run on this machine) in the long one. `count.py` counts.
"""

from __future__ import annotations

import sys
import unittest
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from suite import Case, cases
from tinyc.tools.onnx_backend import CompiledBackend, InterpreterBackend, TinycBackend

CASES = list(cases())
CLAIMED: dict[type[TinycBackend], int] = {InterpreterBackend: 1030, CompiledBackend: 970}
"""So many cases pass at least: a change that makes tinyc refuse what it did before shows here."""
_passed: Counter[type[TinycBackend]] = Counter()
_seen: Counter[type[TinycBackend]] = Counter()
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}/{case.name}")


def run(case: Case, backend: type[TinycBackend]) -> None:
    _seen[backend] += 1
    try:
        case.run(backend)
        _passed[backend] += 1
    except unittest.SkipTest as answer:
        pytest.skip(str(answer))


@each_case
def test_interpreted(case: Case) -> None:
    run(case, InterpreterBackend)


@pytest.mark.long
@each_case
def test_compiled(case: Case) -> None:
    run(case, CompiledBackend)


@pytest.mark.parametrize("backend", [InterpreterBackend, pytest.param(CompiledBackend, marks=pytest.mark.long)])
def test_no_claim_is_lost(backend: type[TinycBackend]) -> None:
    if _seen[backend] < len(CASES):
        pytest.skip("not all cases were run in this process")
    assert _passed[backend] >= CLAIMED[backend]
