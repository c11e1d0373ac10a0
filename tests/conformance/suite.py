"""The official ONNX suite (`onnx.backend.test`), driven through tinyc: which cases, and what became of each.

A case that tinyc answers with `Unsupported` is skipped; every other error is a failure.
"""

from __future__ import annotations

import unittest
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tinyc.tools.onnx_backend import Prepared, TinycBackend

from tinyir.diag import Unsupported

KINDS = {"node": "NodeModel", "simple": "SimpleModel", "pytorch-operator": "PyTorchOperatorModel",
         "pytorch-converted": "PyTorchConvertedModel"}


@dataclass(frozen=True)
class Case:
    """One case of the suite, for the CPU."""

    kind: str
    name: str
    run: Callable[[], str]
    """Runs it: how it passed. Raises unittest.SkipTest where tinyc says that it is unsupported."""


class _Watched(Prepared):
    """Turns tinyc's own answer into a skip, and notes how the last run went."""

    last = ""

    def __init__(self, inner: Prepared) -> None:
        self.inner = inner

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        try:
            outputs = self.inner.run(inputs, **kwargs)
        except Unsupported as answer:
            raise unittest.SkipTest(str(answer)) from None
        _Watched.last = "folded" if self.inner.folded else "bound" if self.inner.bound else "passed"
        return outputs


def cases(backend: type[TinycBackend]) -> Iterator[Case]:
    """All cases of all kinds, by kind and name."""
    import onnx.backend.test

    class Watching(backend):  # type: ignore[misc,valid-type]
        @classmethod
        def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Any:
            return _Watched(super().prepare(model, device, **kwargs))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite's own numpy expectations overflow on purpose
        classes = onnx.backend.test.BackendTest(Watching, __name__).test_cases
    for kind, label in KINDS.items():
        suite = classes[f"OnnxBackend{label}Test"]
        for name in sorted(n for n in dir(suite) if n.startswith("test_") and n.endswith("_cpu")):
            yield Case(kind, name.removesuffix("_cpu"), _runner(suite, name))


def _runner(suite: type[unittest.TestCase], name: str) -> Callable[[], str]:
    def run() -> str:
        _Watched.last = "passed"
        getattr(suite(name), name)()
        return _Watched.last

    return run
