"""Backends: what becomes of a module. Importing this registers them, their kernels and lowering rules."""

from __future__ import annotations

from . import c, dot, onnx, rf

__all__ = ["c", "dot", "onnx", "rf"]
