"""The public API of pass authors: `import tinyir` is all that a custom pass needs.

Everything is loaded on first use, so that `import tinyir` costs nothing where only a part is needed.
"""

from __future__ import annotations
