"""The official ONNX suite (`onnx.backend.test`), driven through tinyc: which cases, and what became of each.

A case that tinyc answers with `Unsupported` is skipped; every other error is a failure.
"""

from __future__ import annotations

import unittest
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from onnx.backend.base import Backend, BackendRep
from tinyc.tools.onnx_backend import Prepared, TinycBackend

from tinyir.diag import Unsupported

KINDS = {"node": "NodeModel", "simple": "SimpleModel", "pytorch-operator": "PyTorchOperatorModel",
         "pytorch-converted": "PyTorchConvertedModel"}


class _Watched(BackendRep):
    """Turns tinyc's own answer into a skip, and notes how the model was run."""

    def __init__(self, inner: Prepared) -> None:
        self.inner = inner

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        try:
            outputs = self.inner.run(inputs, **kwargs)
        except Unsupported as answer:
            raise unittest.SkipTest(str(answer)) from None
        _Current.outcome = "folded" if self.inner.folded else "bound" if self.inner.bound else "passed"
        return outputs


class _Current(Backend):
    """What the suite drives: whichever backend a case is being run on."""

    backend: type[TinycBackend]
    outcome = ""

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> BackendRep:
        return _Watched(cls.backend.prepare(model, device, **kwargs))

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"


@dataclass(frozen=True)
class Case:
    """One case of the suite, for the CPU."""

    kind: str
    name: str
    test: type[unittest.TestCase]

    def run(self, backend: type[TinycBackend]) -> str:
        """How it passed (a column of count.py). Raises SkipTest where tinyc says that it is unsupported."""
        _Current.backend, _Current.outcome = backend, "passed"
        method = f"{self.name}_cpu"
        getattr(self.test(method), method)()
        return _Current.outcome


def cases() -> Iterator[Case]:
    """All cases of all kinds, by kind and name."""
    import onnx.backend.test

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite's own numpy expectations overflow on purpose
        classes = onnx.backend.test.BackendTest(_Current, __name__).test_cases
    for kind, label in KINDS.items():
        suite = classes[f"OnnxBackend{label}Test"]
        for name in sorted(n for n in dir(suite) if n.startswith("test_") and n.endswith("_cpu")):
            yield Case(kind, name.removesuffix("_cpu"), suite)
