"""The generated files as a whole: options, names, checks, symbols, languages, determinism."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinyc.backends.c.text import readable

from tinyir import ops
from tinyir.diag import CompileError, NamedLoc
from tinyir.ir import Argument, Array, Block, Func, Module
from tinyir.registry import BACKENDS
from tinyir.types import F32, TensorType

from .harness import COMPILERS, STRICT, call, compile_library, emit, lower, module_of, seeded

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
GOLDEN = Path(__file__).parent / "golden"
SHAPE = (1, 6, 6, 4)


def values() -> Array:
    return seeded().uniform(-2, 2, SHAPE).astype(np.float32)


def small_net(name: str = "net", scale: float = 0.5) -> Module:
    """image -> sigmoid -> * weight -> max pool; and the mean of the product. Two outputs, an arena, a constant."""
    module = Module(name)
    image = Argument(TensorType(SHAPE, F32), "image")
    weight = module.add_const("gain", np.linspace(-1, scale, 4, dtype=np.float32))
    block = Block([image])
    gate = ops.Sigmoid(image)
    product = ops.Mul(gate.out, weight, act="relu")
    pooled = ops.MaxPool(product.out, kernel=(2, 2), stride=(2, 2))
    mean = ops.ReduceMean(product.out, axes=(1, 2))
    for op, value in ((gate, "gate"), (product, "product"), (pooled, "pooled"), (mean, "mean")):
        op.loc = NamedLoc(f"/model/{value}")
        op.out.name = value
        block.append(op)
    block.append(ops.Return((pooled.out, mean.out)))
    module.funcs["main"] = Func("main", block, result_names=("pooled", "mean"))
    return module


def expected(x: Array, scale: float = 0.5) -> list[Array]:
    product = np.maximum(1 / (1 + np.exp(-x)) * np.linspace(-1, scale, 4, dtype=np.float32), 0)
    return [product.reshape(1, 3, 2, 3, 2, 4).max(axis=(2, 4)), product.mean(axis=(1, 2), keepdims=True)]


def assert_right(outputs: list[Array], x: Array, scale: float = 0.5) -> None:
    for found, wanted in zip(outputs, expected(x, scale), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_golden_files(update_golden: bool) -> None:
    module = lower(small_net())
    module.attrs.update(model_file="net.onnx", model_sha256="0" * 64, options="-O2 --emit c")
    for name, data in emit(module, hooks=True).items():
        text = data.decode().replace(_version(), "VERSION")
        path = GOLDEN / name
        if update_golden:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.read_text() == text, f"{path.name} differs: pytest --update-golden shows how in git diff"


def _version() -> str:
    from importlib import metadata

    return f"tinyc {metadata.version('tinyc')}"


def test_equal_modules_give_equal_bytes() -> None:
    assert emit(lower(small_net())) == emit(lower(small_net()))


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("flags", [("-O0",), ("-O3",), ("-Os",), ("-O3", "-ffp-contract=fast", "-march=native"),
                                   ("-O1", "-std=gnu11")])
def test_runs_at_any_optimisation(compiler: str, flags: tuple[str, ...]) -> None:
    module, x = lower(small_net()), values()
    assert_right(call(compile_library(emit(module), compiler, flags), module, [x]), x)


def test_null_pointers_are_refused() -> None:
    library = compile_library(emit(lower(small_net())))
    x = values()
    assert library.net_run(None, ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(x.ctypes.data)) == -1


def test_arena_of_the_caller() -> None:
    module, x = lower(small_net()), values()
    files = emit(module, arena="caller")
    assert b"static uint8_t arena" not in files["net.c"]
    outputs = [np.empty_like(v) for v in expected(x)]
    memory = np.empty(4096 + 64, np.uint8)
    start = memory.ctypes.data + (-memory.ctypes.data) % 64
    run = compile_library(files).net_run
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (x, *outputs)]
    assert run(ctypes.c_void_p(start), *pointers) == 0
    assert_right(outputs, x)
    assert run(ctypes.c_void_p(start + 1), *pointers) == -2
    assert run(None, *pointers) == -1


def test_one_file() -> None:
    module, x = lower(small_net()), values()
    files = emit(module, single_file=True)
    assert sorted(files) == ["net.c", "net.h"]
    assert_right(call(compile_library(files), module, [x]), x)


def test_hooks_see_every_layer() -> None:
    module, x = lower(small_net()), values()
    library = compile_library(emit(module, hooks=True))
    seen: list[tuple[int, bytes]] = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_size_t)
    def hook(_: int, layer: int, data: int, size: int) -> None:
        seen.append((layer, ctypes.string_at(data, size)))

    outputs = [np.empty_like(v) for v in expected(x)]
    arrays = (ctypes.c_void_p(a.ctypes.data) for a in (x, *outputs))
    assert library.net_run_hooked(*arrays, hook, None) == 0
    assert_right(outputs, x)
    assert [layer for layer, _ in seen] == [0, 1, 2, 3]
    assert seen[3][1] == outputs[1].tobytes()
    library.net_layer_name.restype = ctypes.c_char_p
    names = [library.net_layer_name(n) for n in range(-1, 5)]
    assert names == [None, b"/model/gate", b"/model/product", b"/model/pooled", b"/model/mean", None]


def test_sections(tmp_path: Path) -> None:
    files = emit(lower(small_net()), sections={"arena": ".fast", "weights": ".slow"})
    objects = build(tmp_path, files, "gcc")
    listing = subprocess.run(["objdump", "-h", *objects], capture_output=True, text=True, check=True).stdout
    assert " .fast " in listing
    assert " .slow " in listing


def build(folder: Path, files: dict[str, bytes], compiler: str, *flags: str, standard: bool = True) -> list[str]:
    """Object files of the C files, compiled under all warnings."""
    objects = []
    for name, data in sorted(files.items()):
        (folder / name).write_bytes(data)
    for name in sorted(n for n in files if n.endswith(".c")):
        made = folder / f"{name}.o"
        strict = STRICT if standard else STRICT[1:]
        done = subprocess.run([compiler, *strict, *flags, "-c", str(folder / name), "-o", str(made)], text=True,
                              capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        objects.append(str(made))
    return objects


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_all_files_are_also_cpp(tmp_path: Path) -> None:
    files = dict(emit(lower(small_net()), hooks=True))
    build(tmp_path, files, "g++", "-x", "c++", "-std=c++11", standard=False)
    main = tmp_path / "main.cpp"
    main.write_text('#include "net.h"\nfloat x[NET_IMAGE_SIZE], p[NET_POOLED_SIZE], m[NET_MEAN_SIZE];\n'
                    "int main() { return net_run(x, p, m); }\n")
    objects = build(tmp_path, files, "gcc")
    subprocess.run(["g++", str(main), *objects, "-o", str(tmp_path / "main")], check=True)
    assert subprocess.run([str(tmp_path / "main")], check=False).returncode == 0


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")
@pytest.mark.parametrize("target", ["", "thumb-freestanding-eabihf", "riscv32-freestanding"])
def test_compiler_of_the_cc_extra(target: str, tmp_path: Path) -> None:
    wrapper = tmp_path / "cc"
    chosen = f"-target {target}" if target else ""
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -m ziglang cc {chosen} "$@"\n')
    wrapper.chmod(0o755)
    assert len(build(tmp_path, emit(lower(small_net()), hooks=True), str(wrapper), "-O2")) == 2


def test_several_models_in_one_program(tmp_path: Path) -> None:
    first, second = emit(lower(small_net()), name="first"), emit(lower(small_net(scale=2)), name="second")
    objects = build(tmp_path, {**first, **second}, "gcc", "-fPIC")
    subprocess.run(["gcc", "-shared", *objects, "-o", str(tmp_path / "both.so")], check=True)
    library, x = ctypes.CDLL(str(tmp_path / "both.so")), values()
    module = lower(small_net())
    assert_right(call(library, module, [x], "first"), x)
    assert_right(call(library, module, [x], "second"), x, scale=2)


@pytest.mark.parametrize("compiler", [c for c in ("gcc", "clang", "arm-none-eabi-gcc") if shutil.which(c)])
@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2", "-O3", "-Os"])
def test_nothing_outside_is_called(compiler: str, level: str, tmp_path: Path) -> None:
    """Copies and fills of any length stay loops; libgcc's arithmetic of a core without an FPU is allowed."""
    big = np.zeros((1, 64, 64, 8), np.float32)
    modules = {
        "net": small_net(),
        "pad": module_of(lambda x: ops.Pad(x, (0, 9, 9, 0), (0, 9, 9, 0)), [big], name="pad"),
        "cat": module_of(lambda x, y: ops.Concat((x, y), 1), [big, big], name="cat"),
        "sum": module_of(lambda x: ops.ReduceSum(x, (0,)), [big], name="sum"),
        "tile": module_of(lambda x: ops.Tile(x, (1, 2, 1, 1)), [big], name="tile"),
        "max": module_of(lambda x: ops.MaxPool(x, (3, 3), pad=(1, 1, 1, 1)), [big], name="max"),
        "erf": module_of(ops.Erf, [big], name="erf"),
        "sqrt": module_of(ops.Sqrt, [big], name="sqrt"),
    }
    core = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16") if compiler.startswith("arm") else ()
    for name, module in modules.items():
        objects = build(tmp_path, emit(lower(module), name=name), compiler, level, *core)
        linked = str(tmp_path / f"{name}.all.o")
        linker = "arm-none-eabi-ld" if core else "ld"
        subprocess.run([linker, "-r", *objects, "-o", linked], check=True)
        listing = subprocess.run(["nm", "-u", linked], capture_output=True, text=True, check=True).stdout
        assert [s for s in listing.split() if s != "U"] == [], f"{name} needs {listing}"


@pytest.mark.parametrize(("node", "shown"), [("a*/b", "a* /b"), ("what??/", "what? ?/"), ("/*x", "/ *x"),
                                             ("caf\u00e9\nnext", "caf\\xe9 next"), ("ends with \\", "ends with \\")])
def test_any_node_name_fits_into_a_comment(node: str, shown: str, tmp_path: Path) -> None:
    module = small_net()
    module.main.ops[0].loc = NamedLoc(node)
    files = emit(lower(module), hooks=True)
    assert shown in files["net.c"].decode()
    build(tmp_path, files, "gcc")


@pytest.mark.parametrize("name", ["int", "3d", "x y", "restrict", "", "arena", "hook", "main", "tc_exp",
                                  "NULL", "n", "int32_t", "sigmoid_f32", "net_gain"])
def test_any_tensor_name_becomes_an_identifier(name: str, tmp_path: Path) -> None:
    module = small_net()
    module.main.args[0].name = name
    module.main.ops[0].results[0].name = name
    module.main.ops[1].results[0].name = name.upper()
    build(tmp_path, emit(lower(module), hooks=True), "gcc")


@pytest.mark.parametrize("arena", ["static", "caller"])
def test_names_longer_than_a_line(arena: str, tmp_path: Path) -> None:
    module, name = small_net(), "features_" * 20
    module.main.args[0].name = module.main.args[0].name * 30
    module.funcs["main"] = Func("main", module.main.block, result_names=(f"{name}a", f"{name}b"))
    build(tmp_path, emit(lower(module), hooks=True, arena=arena), "gcc")


def test_scalars_and_copies() -> None:
    x = np.array(3.5, np.float32)
    module = lower(module_of(ops.Relu, [x]))
    (y,) = call(compile_library(emit(module)), module, [x])
    assert y.shape == ()
    assert y == x


def test_a_module_that_is_not_ready_is_refused() -> None:
    with pytest.raises(CompileError, match="level graph"):
        emit(small_net())


def test_types_without_c_are_refused() -> None:
    x = np.zeros((2, 3), np.float16)
    with pytest.raises(CompileError, match="f16"):
        emit(lower(module_of(lambda v: ops.Transpose(v, (1, 0)), [x])))
    with pytest.raises(CompileError, match="sigmoid of f64"):
        emit(lower(module_of(ops.Sigmoid, [x.astype(np.float64)])))


def test_dot_shows_ops_and_values() -> None:
    module: Any = small_net()
    for _ in range(2):
        text = BACKENDS.get("dot")(module, name="net")["net.dot"].decode()
        assert "/model/gate" in text
        assert text.count("->") == 6
        lower(module) if module.level == "graph" else None


@pytest.mark.parametrize(("name", "short"), [
    ("conv_1_1", "conv_1_1"),
    ("features_features_2_c_c_0_c_0_2_Clip_output_0_QuantizeLinear_Output_row", "features_2_c_0_2_Clip_row"),
    ("ConvBnFusion_W_features.0.0.weight_DequantizeLinear_Output.stream", "W_features_0_0_weight_stream"),
    ("backbone_stage_1_1_1_1_conv_conv_conv_1", "backbone_stage_1_1_1_1_conv_1"),
    ("QuantizeLinear_Output_QuantizeLinear_Output", "QuantizeLinear_Output_QuantizeLinear_Output"),
])
def test_long_names_become_readable(name: str, short: str) -> None:
    assert readable(name) == short
