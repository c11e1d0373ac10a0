"""NAME_run_rows(): the C asks for each row of an input once, in order, and stores only those that are needed."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyir import ops
from tinyir.diag import CompileError
from tinyir.interp import run
from tinyir.ir import Argument, Array, Block, Func, Module
from tinyir.pass_manager import PassManager, parse_pipeline
from tinyir.types import F32, TensorType

from .harness import COMPILERS, compile_library, emit

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
ROW = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p)
GOLDEN = Path(__file__).parent / "golden"
LOWER = "lower-to-mem,plan-arena"


def net(*extra: tuple[int, ...]) -> Module:
    """Two convolutions of an image of 24 rows, and sums of `extra` inputs."""
    module, rng = Module("net"), np.random.Generator(np.random.PCG64(1))
    image = Argument(TensorType((1, 24, 6, 3), F32), "image")
    others = [Argument(TensorType(shape, F32), f"x{i}") for i, shape in enumerate(extra)]
    block = Block([image, *others])
    a = ops.Conv2D(image, module.add_const("w1", rng.uniform(-1, 1, (4, 3, 3, 3)).astype(np.float32)), None,
                   stride=(2, 2), pad=(1, 1, 0, 0))
    b = ops.Conv2D(a.out, module.add_const("w2", rng.uniform(-1, 1, (5, 3, 3, 4)).astype(np.float32)), None,
                   pad=(1, 1, 1, 1))
    sums = [ops.ReduceSum(other, axes=tuple(range(1, other.type.rank))) for other in others]
    for op, name in ((a, "a"), (b, "b"), *((s, f"s{i}") for i, s in enumerate(sums))):
        op.out.name = name
        block.append(op)
    block.append(ops.Return((b.out, *(s.out for s in sums))))
    module.funcs["main"] = Func("main", block)
    return module


def lowered(module: Module, passes: str) -> Module:
    PassManager(parse_pipeline(f"pull-input,{passes}")).run(module)
    return module


def images(*shapes: tuple[int, ...]) -> list[Array]:
    rng = np.random.Generator(np.random.PCG64(2))
    return [rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes]


class Camera:
    """Gives the rows of an image, and notes which it was asked for."""

    def __init__(self, image: Array) -> None:
        self.image, self.asked, self.users = image, list[int](), set[int | None]()
        self.row = ROW(self._row)

    def _row(self, user: int | None, row: int, to: int) -> None:
        self.asked.append(row)
        self.users.add(user)
        data = np.ascontiguousarray(self.image[0, row])
        ctypes.memmove(to, data.ctypes.data, data.nbytes)

    def assert_right(self, user: int | None) -> None:
        assert self.asked == list(range(self.image.shape[1]))
        assert self.users == {user}


def pointers(arrays: Sequence[Array]) -> list[Any]:
    return [ctypes.c_void_p(a.ctypes.data) for a in arrays]


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("passes", ["stream{cuts=b},", "stream{cuts=b,rows=3},", ""])
def test_rows_are_asked_for_once_in_order(passes: str, compiler: str) -> None:
    inputs = images((1, 24, 6, 3))
    expected = run(net(), inputs)[0]
    module = lowered(net(), passes + LOWER)
    np.testing.assert_array_equal(run(module, inputs)[0], expected)
    library, camera, found = compile_library(emit(module), compiler), Camera(inputs[0]), np.empty_like(expected)
    assert library.net_run_rows(camera.row, ctypes.c_void_p(77), *pointers([found])) == 0
    camera.assert_right(77)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_image_is_not_stored() -> None:
    row = 6 * 3 * 4
    whole = lowered(net(), LOWER).arenas["arena"].size
    rows = lowered(net(), f"stream{{cuts=b}},{LOWER}").arenas["arena"].size
    pointer = net()
    PassManager(parse_pipeline(f"stream{{cuts=b}},{LOWER}")).run(pointer)
    assert whole is not None
    assert rows is not None
    assert whole >= 24 * row
    assert rows <= (pointer.arenas["arena"].size or 0) + 3 * row + 16


def test_no_function_is_refused() -> None:
    library = compile_library(emit(lowered(net(), LOWER)))
    found = np.empty((1, 12, 3, 5), np.float32)
    assert library.net_run_rows(None, None, *pointers([found])) == -1
    assert library.net_run_rows(Camera(images((1, 24, 6, 3))[0]).row, None, None) == -1


def test_several_inputs() -> None:
    """Each image has a function and a pointer of its own; what is no image is passed as it was."""
    inputs = images((1, 24, 6, 3), (1, 8, 2, 2), (1, 7))
    expected = run(net((1, 8, 2, 2), (1, 7)), inputs)
    module = lowered(net((1, 8, 2, 2), (1, 7)), f"stream{{cuts=b}},{LOWER}")
    library, cameras = compile_library(emit(module)), [Camera(image) for image in inputs[:2]]
    found = [np.empty_like(array) for array in expected]
    assert library.net_run_rows(cameras[0].row, ctypes.c_void_p(1), cameras[1].row, ctypes.c_void_p(2),
                                *pointers([inputs[2], *found])) == 0
    for user, camera in enumerate(cameras, 1):
        camera.assert_right(user)
    for mine, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-6)


def test_hooks_and_arena_of_the_caller() -> None:
    inputs = images((1, 24, 6, 3))
    expected = run(net(), inputs)[0]
    module = lowered(net(), f"stream{{cuts=b}},{LOWER}")
    library = compile_library(emit(module, hooks=True, arena="caller"))
    camera, found, memory = Camera(inputs[0]), np.empty_like(expected), np.empty(8192, np.uint8)
    layers: list[int] = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_size_t)
    def hook(user: int | None, layer: int, data: int, size: int) -> None:
        layers.append(layer)

    start = ctypes.c_void_p(memory.ctypes.data + -memory.ctypes.data % 64)
    assert library.net_run_rows_hooked(start, camera.row, None, *pointers([found]), hook, None) == 0
    camera.assert_right(None)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert layers
    assert layers == sorted(set(layers))


def test_names_that_the_parameters_take() -> None:
    module = net((1, 2))
    module.main.inputs[0].name, module.main.inputs[1].name = "user", "row"
    header = emit(lowered(module, LOWER))["net.h"].decode()
    assert "int net_run_rows(net_row row, void *user, const float *row_, float *" in header
    assert "#define NET_USER__ROWS 24" in header


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_cpp(tmp_path: Path) -> None:
    for name, data in emit(lowered(net(), LOWER), hooks=True).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "use.cpp").write_text('#include "net.h"\nstatic void row(void *, int32_t, float *) {}\n'
                                      "int use(float *y) { return net_run_rows(row, NULL, y); }\n")
    subprocess.run(["g++", "-Wall", "-Wextra", "-Werror", "-c", "use.cpp"], cwd=tmp_path, check=True)


def test_nothing_to_ask_for() -> None:
    module = Module("net")
    vector = Argument(TensorType((1, 7), F32), "vector")
    block = Block([vector])
    relu = ops.Relu(vector)
    block.append(relu)
    block.append(ops.Return((relu.out,)))
    module.funcs["main"] = Func("main", block)
    with pytest.raises(CompileError, match="no input of the model is an image of more than one row"):
        lowered(module, LOWER)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("owner", ["static", "caller"])
def test_inputs_in_the_arena(owner: str, compiler: str) -> None:
    """They are written to where the C says; what is no image too."""
    inputs = images((1, 24, 6, 3), (1, 7))
    expected = run(net((1, 7)), inputs)
    module = net((1, 7))
    PassManager(parse_pipeline(f"hold-input,stream{{cuts=b}},{LOWER}")).run(module)
    for mine, wanted in zip(run(module, inputs), expected, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-6)
    library, memory = compile_library(emit(module, arena=owner), compiler), np.zeros(16384, np.uint8)
    arena = [] if owner == "static" else [ctypes.c_void_p(memory.ctypes.data + -memory.ctypes.data % 64)]
    found = [np.empty_like(array) for array in expected]
    for _ in range(2):  # the run writes over its inputs
        for number, image in enumerate(inputs):
            place = library[f"net_input_{number}"]
            place.restype = ctypes.c_void_p
            ctypes.memmove(place(*arena), image.ctypes.data, image.nbytes)
        assert library.net_run(*arena, *pointers(found)) == 0
        for mine, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-6)


def test_bytes_of_an_input_in_the_arena_are_used_again() -> None:
    image = 24 * 6 * 3 * 4
    module, whole = net(), net()
    PassManager(parse_pipeline(f"hold-input,stream{{cuts=b}},{LOWER}")).run(module)
    PassManager(parse_pipeline(LOWER)).run(whole)
    assert image < (module.arenas["arena"].size or 0) < image + (whole.arenas["arena"].size or 0) / 2


def test_golden_files(update_golden: bool) -> None:
    """The C of a network that runs row by row, without its kernels, for those who want to read one."""
    files = emit(lowered(net(), f"stream{{cuts=b}},{LOWER}"), name="rows")
    head, _, rest = files["rows.c"].decode().partition("/* Functions that the kernels use")
    shown = {"rows.h": files["rows.h"].decode(), "rows.c": f"{head}...\n\n{rest[rest.index('int rows_run_rows('):]}"}
    for name, whole in shown.items():
        text = whole.replace(f"tinyc {metadata.version('tinyc')}", "tinyc VERSION")
        path = GOLDEN / name
        if update_golden:
            path.write_text(text)
        assert path.read_text() == text, f"{path.name} differs: pytest --update-golden shows how in git diff"
