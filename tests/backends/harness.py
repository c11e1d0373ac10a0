"""Takes a graph-level module through lowering, C and a C compiler, and runs the result in this process."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tinyir.ir import Argument, Array, Block, Const, Func, Module, Value
from tinyir.opdef import Op
from tinyir.ops import Return
from tinyir.pass_manager import PassManager, parse_pipeline
from tinyir.registry import BACKENDS
from tinyir.types import TensorType, dtype_of

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-ffreestanding"]
COMPILERS = [c for c in ("gcc", "clang") if shutil.which(c)]
_CACHE = Path(tempfile.gettempdir()) / "tinyc-test-libraries"


def tensor(array: Array) -> TensorType:
    return TensorType(array.shape, dtype_of(array.dtype))


def module_of(build: Callable[..., Op], inputs: Sequence[Array], consts: Sequence[Array] = (), name: str = "net") \
        -> Module:
    """A module whose main computes `build(*inputs, *consts)`."""
    module = Module(name)
    args: list[Value] = [Argument(tensor(a), f"x{i}") for i, a in enumerate(inputs)]
    weights: list[Value] = [module.add_const(f"w{i}", a) for i, a in enumerate(consts)]
    op = build(*args, *weights)
    block = Block([a for a in args if isinstance(a, Argument)])
    block.append(op)
    block.append(Return(tuple(op.results)))
    module.funcs["main"] = Func("main", block, result_names=tuple(f"y{i}" for i in range(len(op.results))))
    return module


def lower(module: Module) -> Module:
    """To mem level, all slots placed."""
    PassManager(parse_pipeline("lower-to-mem,plan-arena")).run(module)
    return module


def emit(module: Module, **options: Any) -> dict[str, bytes]:
    return BACKENDS.get("c")(module, **options)


def compile_library(files: dict[str, bytes], compiler: str = "gcc", flags: Sequence[str] = ("-O2",)) -> ctypes.CDLL:
    """A shared library of the files, compiled under all warnings; cached by content."""
    command = [compiler, *STRICT, *flags, "-fPIC", "-shared"]
    digest = hashlib.sha256(repr((command, sorted(files.items()))).encode()).hexdigest()[:24]
    library = _CACHE / digest / "net.so"
    if not library.exists():
        folder = library.parent
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        sources = [str(folder / name) for name in files if name.endswith(".c")]
        done = subprocess.run([*command, *sources, "-o", str(library)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def call(library: ctypes.CDLL, module: Module, inputs: Sequence[Array], name: str = "net") -> list[Array]:
    """The outputs of NAME_run()."""
    function = library[f"{name}_run"]
    outputs = [np.full(v.shape, 85, v.type.dtype.numpy) for v in module.main.written]
    arrays = [*(np.ascontiguousarray(a) for a in inputs), *outputs]
    assert function(*(ctypes.c_void_p(a.ctypes.data) for a in arrays)) == 0
    return outputs


def run_c(module: Module, inputs: Sequence[Array], compiler: str = "gcc", flags: Sequence[str] = ("-O2",)) \
        -> list[Array]:
    """Compile and run a module that is at mem level."""
    return call(compile_library(emit(module), compiler, flags), module, inputs, module.name)


@cache
def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def check(build: Callable[..., Op], inputs: Sequence[Array], consts: Sequence[Array] = (), *, rtol: float = 1e-6,
          atol: float = 1e-6, compilers: Sequence[str] = ("gcc",)) -> None:
    """The op's own reference, the kernels' references and the C all give the same."""
    from tinyir.interp import run

    graph = module_of(build, inputs, consts)
    expected = run(graph, inputs)
    lowered = lower(module_of(build, inputs, consts))
    found = {"kernel reference": run(lowered, inputs)}
    for compiler in compilers:
        found[compiler] = run_c(lowered, inputs, compiler)
    for who, results in found.items():
        for result, wanted in zip(results, expected, strict=True):
            np.testing.assert_allclose(result, wanted, rtol=rtol, atol=atol, err_msg=who)


__all__ = ["COMPILERS", "STRICT", "Const", "call", "check", "compile_library", "emit", "lower", "module_of", "run_c",
           "seeded", "tensor"]
