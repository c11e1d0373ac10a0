"""The C backend: a module at mem level becomes freestanding C99. Importing it registers the backend and its kernels."""

from __future__ import annotations

from .emit import emit_c

__all__ = ["emit_c"]
