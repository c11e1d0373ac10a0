"""What exists, by name: ops, passes, frontends, backends, lowering rules.

Modules add to these tables when they are imported. Ours are found through the entry point group `tinyc.plugins`, as a
third party's are; `load_file` takes a single Python file for an afternoon's experiment.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .diag import did_you_mean, error

if TYPE_CHECKING:
    from .costs import Cost
    from .ir import Module
    from .opdef import Op
    from .pass_manager import Pass

__all__ = [
    "BACKENDS",
    "COSTS",
    "FRONTENDS",
    "KEEPS",
    "LOWERINGS",
    "OPERATORS",
    "OPS",
    "PART_FORMS",
    "PASSES",
    "PIPELINES",
    "ROW_FORMS",
    "STREAMS",
    "WAYS",
    "Table",
    "load_file",
    "load_plugins",
]

T = TypeVar("T")


class Table(Generic[T]):
    """Things by name. A second thing of one name is refused, and the message names both files."""

    def __init__(self, what: str, *, plugins: bool = True) -> None:
        self.what = what
        self._plugins = plugins
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> None:
        """Register `item`. The same definition (file and line) may come twice, as when a file is loaded again."""
        old = self._items.get(name)
        if old is not None and _source(old) != _source(item):
            raise error(f"two {self.what}s are called {name!r}", notes=(f"one in {_source(old)}",
                                                                     f"one in {_source(item)}"))
        self._items[name] = item

    def get(self, name: str) -> T:
        """The thing called `name`. Raises CompileError with a suggestion when there is none."""
        if name not in self._items and self._plugins:
            load_plugins()
        if name not in self._items:
            raise error(f"there is no {self.what} called {name!r}", help=did_you_mean(name, self._items))
        return self._items[name]

    def find(self, name: str) -> T | None:
        """The thing called `name` among those that are loaded, or None."""
        return self._items.get(name)

    def items(self) -> Iterator[tuple[str, T]]:
        """All, by name."""
        if self._plugins:
            load_plugins()
        yield from sorted(self._items.items())


def _source(item: object) -> str:
    """The file (and for a class its qualified name) that `item` is defined in."""
    subject: Any = item if inspect.isclass(item) or inspect.isfunction(item) else type(item)
    try:
        return f"{inspect.getsourcefile(subject)} ({subject.__qualname__})"
    except TypeError:
        return f"{subject.__module__} ({subject.__qualname__})"


OPS: Table[type[Op]] = Table("op", plugins=False)
PASSES: Table[type[Pass]] = Table("pass")
PIPELINES: Table[str] = Table("pipeline")
FRONTENDS: Table[Callable[..., Module]] = Table("frontend")
BACKENDS: Table[Callable[..., dict[str, bytes]]] = Table("backend")
OPERATORS: Table[Callable[[], list[str]]] = Table("list of operators")
"""By frontend: a function that names the operators it can convert."""
LOWERINGS: Table[Callable[..., None]] = Table("lowering rule")
KEEPS: Table[Callable[..., Op]] = Table("rule that keeps rows")
STREAMS: Table[Callable[[Op], bool]] = Table("op that runs row by row")
"""By opname: whether the kernels of an op can run row by row."""
ROW_FORMS: Table[Callable[..., list[Op]]] = Table("row form")
"""By the name of a kernel op: a function that gives the kernels that do the same row by row."""
PART_FORMS: Table[Callable[..., list[Op]]] = Table("part form")
"""By the name of a kernel op: a function that gives the kernels that do the same for a part of the channels."""
COSTS: Table[Callable[..., Cost]] = Table("price")
"""By the name of a kernel op: a function that says what it takes on a target (`tinyir.costs`)."""
WAYS: Table[Callable[..., Any]] = Table("provider of ways")
"""Functions that know ways to run parts of a network: what `schedule` chooses among."""

_loaded = False


def load_plugins() -> None:
    """Import every module of the entry point group `tinyc.plugins`; once a process."""
    global _loaded
    if _loaded:
        return
    _loaded = True
    from importlib.metadata import entry_points

    importlib.import_module("tinyir.ops")
    for point in sorted(entry_points(group="tinyc.plugins"), key=lambda p: p.name):
        point.load()


def load_file(path: str) -> None:
    """Import one Python file under a private name, so that the passes and ops in it are registered.

    Raises CompileError if it cannot be read or fails while it is loaded.
    """
    load_plugins()
    file = Path(path)
    if not file.is_file():
        raise error(f"--load-pass: there is no file {path}")
    name = f"_tinyc_loaded_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise error(f"--load-pass: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        del sys.modules[name]
        raise error(f"--load-pass: {path}: {type(problem).__name__}: {problem}") from problem
