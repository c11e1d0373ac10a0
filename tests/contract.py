"""The onnxruntime whose integer kernels tinyc reproduces, and the mark for tests that compare bytes with it.

Python 3.10 gets an older onnxruntime, whose softmax rounds differently.
"""

from __future__ import annotations

import onnxruntime
import pytest

CONTRACT = (1, 32)
_FOUND = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])

same_bytes = pytest.mark.skipif(
    _FOUND < CONTRACT, reason=f"the contract is with onnxruntime {CONTRACT[0]}.{CONTRACT[1]}, this is "
    f"{onnxruntime.__version__}")
"""For a test whose expected bytes come from onnxruntime."""
