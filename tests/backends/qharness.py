"""Takes quantised ops through lowering and C, and compares every byte with the op's own reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyir.interp import run
from tinyir.ir import Argument, Array, Block, Func, Module, Value
from tinyir.opdef import Op
from tinyir.ops import Return
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.target import target_named
from tinyir.types import DType, Quant, TensorType, dtype_of

from .harness import COMPILERS, call, compile_library, emit

BUILDS = [("gcc", ("-O2",)), ("gcc", ("-std=gnu11", "-O3", "-ffp-contract=fast", "-march=native")),
          ("clang", ("-std=gnu11", "-O3", "-ffp-contract=fast", "-march=native"))]
Tensor = tuple[Array, Quant | None]


def per_tensor(scale: float, zero: int = 0) -> Quant:
    return Quant((float(np.float32(scale)),), (zero,))


def stored(rng: np.random.Generator, dtype: DType, *shape: int) -> Array:
    """Random stored values, the extremes among them more often than chance has it."""
    values = rng.integers(*dtype.range, shape, endpoint=True)
    extreme = rng.choice(dtype.range, shape)
    return np.where(rng.random(shape) < 0.1, extreme, values).astype(dtype.numpy)


def type_of(tensor: Tensor) -> TensorType:
    return TensorType(tensor[0].shape, dtype_of(tensor[0].dtype), tensor[1])


def quantised_module(build: Callable[..., Op], inputs: Sequence[Tensor], consts: Sequence[Tensor] = (),
                     **attrs: Any) -> Module:
    """A module at quant level whose main computes `build(*inputs, *consts)`."""
    module = Module("net", "quant")
    module.attrs.update(attrs)
    args = [Argument(type_of(t), f"x{i}") for i, t in enumerate(inputs)]
    weights: list[Value] = []
    for index, tensor in enumerate(consts):
        weights.append(module.add_const(f"w{index}", tensor[0], type_=type_of(tensor)))
    op = build(*args, *weights)
    block = Block(args)
    block.append(op)
    block.append(Return((op.out,)))
    module.funcs["main"] = Func("main", block, result_names=("y",))
    return module


def lowered(module: Module, target: str = "generic") -> tuple[Module, list[str]]:
    """The module at mem level, and the remarks of the lowering."""
    ctx = Context(target_named(target))
    PassManager(parse_pipeline("lower-to-mem,plan-arena")).run(module, ctx)
    return module, [d.message for d in ctx.diagnostics if d.severity == "remark"]


def check_exact(build: Callable[..., Op], inputs: Sequence[Tensor], consts: Sequence[Tensor] = (),
                builds: Sequence[tuple[str, tuple[str, ...]]] = tuple(BUILDS), target: str = "generic",
                **attrs: Any) -> list[str]:
    """Op reference, kernel reference and the C of every compiler give the same bytes. Returns the remarks."""
    arrays = [a for a, _ in inputs]
    expected = run(quantised_module(build, inputs, consts, **attrs), arrays)[0]
    module, remarks = lowered(quantised_module(build, inputs, consts, **attrs), target)
    assert np.array_equal(run(module, arrays)[0], expected), "kernel reference"
    for compiler, flags in builds:
        if compiler in COMPILERS:
            found = call(compile_library(emit(module), compiler, flags), module, arrays)[0]
            wrong = int(np.sum(found != expected))
            assert np.array_equal(found, expected), f"{compiler} {flags}: {wrong} of {expected.size} differ"
    return remarks
