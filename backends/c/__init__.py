"""The C backend: a module at mem level becomes freestanding C99. Importing it registers the backend and its kernels."""

from __future__ import annotations

from . import costs as _costs  # noqa: F401  (registers prices)
from .emit import emit_c

__all__ = ["emit_c"]
