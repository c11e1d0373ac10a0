"""`import tinyir`: cheap, complete, and the same names for people, type checkers and the interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tinyir


def test_names_for_type_checkers_are_the_names_there_are() -> None:
    tree = ast.parse(Path(tinyir.__file__).read_text(encoding="utf-8"))
    branch = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {(node.module, alias.name) for node in branch.body if isinstance(node, ast.ImportFrom)
                for alias in node.names}
    assert imported == {(module, name) for name, module in tinyir._HOME.items()} | {(None, "ops")}
    assert sorted(tinyir.__all__) == sorted(name for _, name in imported)
    for name in tinyir.__all__:
        assert getattr(tinyir, name) is not None


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, tinyir; print([m for m in ('numpy', 'lark', 'onnx', 'onnxruntime') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_submodule_does_not_hide_the_function_of_its_name() -> None:
    code = "import tinyir, tinyir.verify; from tinyir.verify import verify; assert tinyir.verify is verify"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'verifi'"):
        _ = tinyir.verifi
