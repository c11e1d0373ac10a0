"""The README shows what the commands print: each block in it is made by one, and compared here.

    <!-- block: help -->
    ...
    <!-- /block -->

`pytest tests/test_readme.py --update-golden` writes them anew. Long outputs are shortened by naming the lines to keep;
`...` stands for the others.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
EXAMPLES = ROOT / "examples"
PASS = ROOT / "tests/plugin/tinyc_example/drop_softmax.py"
_BLOCK = re.compile(r"<!-- block: ([\w-]+) -->\n(.*?)<!-- /block -->", re.DOTALL)
_FRAME = ("^module", "^  func", r"^ *\}", "return")
_DIFFERS = re.compile(r"\([\w .-]+\):|\S+e-\d\d +\S+ %|time +\S+  s")  # compiler, rounding, time differ by machine
_PROGRESS = re.compile(r"^tinyc: .*\.\.\.\n", re.MULTILINE)  # what is said of a step that takes more than a second
_CONTINUED = "\n" + " " * 12  # how the IR goes on with a statement that does not fit a line


def run(*command: str, cwd: Path = ROOT, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `python -m tinyc.tools.COMMAND`, as on a terminal of 110 columns; another status shows what it said."""
    environment = {**os.environ, "COLUMNS": "110"}
    program = [sys.executable, "-m", f"tinyc.tools.{command[0]}", *command[1:]]
    done = subprocess.run(program, capture_output=True, text=True, cwd=cwd, env=environment, check=False)
    assert done.returncode == status, f"{' '.join(command)}\n{done.stderr}"
    done.stderr = _PROGRESS.sub("", done.stderr)
    return done


def fenced(language: str, text: str) -> str:
    """A block of code."""
    return f"```{language}\n{text.strip()}\n```\n"


def keep(statements: Iterable[str], *patterns: str) -> str:
    """The statements in which one of the patterns is found, and `...` in the place of the others."""
    shown: list[str] = []
    for statement in statements:
        if any(re.search(pattern, statement) for pattern in patterns):
            shown.append(statement)
        elif statement.strip() and shown and not shown[-1].endswith("..."):
            shown.append(statement[: len(statement) - len(statement.lstrip())] + "...")
    return "\n".join(shown)


def between(text: str, begin: str, end: str) -> str:
    """The part of `text` from `begin` on and before `end`."""
    return begin + text.partition(begin)[2].partition(end)[0]


def ir(*arguments: str) -> list[str]:
    """The statements of the example's IR, without its constants."""
    text = run("tinyc", "examples/digits_cnn.onnx", "--emit", "ir", "-q", "-o", "-", *arguments).stdout
    text = re.sub(r"^module (\S+) \{(level = \w+),[^}]*\}\s*\{", r"module \1 {\2, ...} {", text, flags=re.MULTILINE)
    statements = [s.replace("\0", _CONTINUED) for s in text.replace(_CONTINUED, "\0").split("\n")]
    return [s for s in statements if not s.startswith(("  const", " " * 8))]


@cache
def generated() -> dict[str, str]:
    """The example's C, by file name."""
    with tempfile.TemporaryDirectory() as folder:
        run("tinyc", "examples/digits_cnn.onnx", "-q", "-o", f"{folder}/")
        return {file.name: file.read_text("utf-8") for file in sorted(Path(folder).iterdir())}


# -- the blocks


def compile_and_check() -> str:
    """What the README's first command prints."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(EXAMPLES, Path(folder) / "examples")
        said = run("tinyc", "examples/digits_cnn.onnx", "-O2", "--emit", "c", "--check", cwd=Path(folder)).stderr
    return fenced("text", said)


def imported() -> str:
    first = ("%image_nhwc", "%conv1_out", "%norm1_out", "%relu1_out", "%conv2_out =")
    return fenced("text", keep(ir("-p", ""), "^//", *_FRAME, *first, "%flatten1_out", "%dense1_out", "%digit"))


def fused() -> str:
    return fenced("text", keep(ir("--stop-after=fuse-activation"), *_FRAME, "%image_nhwc", "%relu[12]_out", "%digit"))


def lowered() -> str:
    calls = ("%image_nhwc", "%relu1_out = ", r"-> \(%relu[12]_out", "%digit")
    return fenced("text", keep(ir(), *_FRAME, "  arena", *calls))


def c_text() -> str:
    """The memory plan, one kernel, and the calls of the first and last layers."""
    text = generated()["digits_cnn.c"]
    plan = between(text, "/* Memory plan", "static uint8_t arena")
    pool = between(text, "static void max_pool_2x2_f32(", "\n}\n")
    begin = between(text, "int digits_cnn_run(", "    /* 2:")
    end = between(text, "    /* 8:", "\n}\n")
    return fenced("c", f"{plan}\n...\n\n{pool}\n}}\n\n...\n\n{begin}    ...\n\n{end}\n}}")


def header() -> str:
    return fenced("c", generated()["digits_cnn.h"].partition("*/\n")[2])


def firmware() -> str:
    return fenced("c", (EXAMPLES / "firmware" / "main.c").read_text("utf-8"))


def firmware_rows() -> str:
    return fenced("c", (EXAMPLES / "firmware" / "rows.c").read_text("utf-8"))


def command_line() -> str:
    text = run("tinyc", "--help").stdout
    return fenced("text", re.sub(r"(-\w) (\S+), (--[\w-]+ \2)", r"\1, \3", text))  # as Python 3.13 writes it


def passes() -> str:
    return fenced("text", run("tinyc", "--list-passes").stdout)


def load_pass() -> str:
    """The README's pass from a file, in front of -O2."""
    arguments = ["digits_cnn.onnx", "--load-pass", "drop_softmax.py", "-p", "drop-softmax,O2", "--remarks"]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(EXAMPLES / "digits_cnn.onnx", folder)
        shutil.copy(PASS, folder)
        said = run("tinyc", *arguments, cwd=Path(folder)).stderr
    return fenced("text", f"$ tinyc {' '.join(arguments)}\n{said}")


def operators() -> str:
    return fenced("text", run("tinyc", "--list-ops").stdout)


def targets() -> str:
    return fenced("text", run("tinyc", "--list-targets").stdout)


def metal() -> str:
    """The first table of what the other benchmark wrote: instructions at both levels, beside peers and goals."""
    return (ROOT / "tests/bench/METAL.md").read_text("utf-8").split("\n## ")[1].partition("\n\n")[2].strip() + "\n"


def conformance() -> str:
    """The counts of the official suite, which comes with the package onnx."""
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests/conformance/count.py")]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return f"With onnx {version('onnx')}:\n\n{table}"


def figures() -> str:
    """What the benchmark wrote when it ran last: measuring again would give other times."""
    text = (ROOT / "tests/bench/RESULTS.md").read_text("utf-8")
    return text[text.index("## "):].replace("## ", "### ")


def exactness() -> str:
    """What the comparison of all bytes wrote when it ran last."""
    text = (ROOT / "tests/bench/EXACT.md").read_text("utf-8")
    return text[text.index("Made by"):]


def quantisation() -> str:
    """What the benchmark of quantisation wrote when it ran last."""
    text = (ROOT / "tests/bench/QUANTIZE.md").read_text("utf-8")
    return text[text.index("\n") + 1:].lstrip()


def pareto() -> str:
    """What the example has to choose from."""
    arguments = ["examples/digits_cnn.onnx", "--target", "cortex-m4", "--ram", "min", "--pareto"]
    return fenced("text", f"$ tinyc {' '.join(arguments)}\n{run('tinyc', *arguments, '-q').stdout}")


def too_small() -> str:
    """What is said where nothing fits."""
    arguments = ["examples/digits_cnn.onnx", "--target", "cortex-m4", "--ram", "4K"]
    said = run("tinyc", *arguments, status=1).stderr
    return fenced("text", f"$ tinyc {' '.join(arguments)}\n{said}")


def memory() -> str:
    """The tables of the bars, as the benchmark wrote them when it ran last."""
    text = (ROOT / "tests/bench/MEMORY.md").read_text("utf-8")
    return "\n".join(between(text, f"## {title}\n", "\n## ").replace("## ", "#### ", 1).rstrip() + "\n"
                     for title in ("--ram min", "--ram min --recompute 10%"))


def custom_pass() -> str:
    return fenced("python", PASS.read_text("utf-8"))


BLOCKS: dict[str, Callable[[], str]] = {
    "compile": compile_and_check, "ir-import": imported, "ir-fused": fused, "ir-mem": lowered, "c": c_text,
    "header": header, "firmware": firmware, "firmware-rows": firmware_rows, "help": command_line, "passes": passes,
    "pass": custom_pass, "load-pass": load_pass, "operators": operators, "conformance": conformance,
    "targets": targets, "metal": metal, "figures": figures, "exact": exactness, "quantize": quantisation,
    "pareto": pareto, "too-small": too_small, "memory": memory,
}
SLOW = ("conformance",)


def replaced(text: str, name: str, made: str) -> str:
    """`text` with the block called `name` made anew."""
    begin, end = f"<!-- block: {name} -->\n", "<!-- /block -->"
    before, _, behind = text.partition(begin)
    return before + begin + made + end + behind.partition(end)[2]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.long] * (n in SLOW)) for n in BLOCKS])
def test_block_is_what_the_command_prints(name: str, update_golden: bool) -> None:
    text = README.read_text("utf-8")
    if name == "conformance" and not update_golden and f"With onnx {version('onnx')}:" not in text:
        pytest.skip("the counts in the README are those of another version of onnx")
    shown, made = dict(_BLOCK.findall(text))[name], BLOCKS[name]()
    same = _DIFFERS.sub("...", shown) == _DIFFERS.sub("...", made)
    if update_golden and not same:
        README.write_text(replaced(text, name, made), "utf-8")
    else:
        assert same, f"--update-golden writes it anew:\n{made}"


def test_every_block_is_made_by_something() -> None:
    assert {name for name, _ in _BLOCK.findall(README.read_text("utf-8"))} == set(BLOCKS)


# -- what the text says besides


BOARD = """\
#include <stdio.h>
#include <stdlib.h>

void camera_read(float image[64])
{
    if (fread(image, sizeof(float), 64, stdin) != 64) {
        exit(0);
    }
}

void camera_read_line(float pixels[8])
{
    if (fread(pixels, sizeof(float), 8, stdin) != 8) {
        exit(0);
    }
}

void display_digit(int digit)
{
    printf("%d\\n", digit);
}
"""


def by_rows() -> dict[str, str]:
    """The example's C that asks for its input row by row, by file name."""
    with tempfile.TemporaryDirectory() as folder:
        run("tinyc", "examples/digits_cnn.onnx", "--input", "rows", "-q", "-o", f"{folder}/")
        return {file.name: file.read_text("utf-8") for file in sorted(Path(folder).iterdir())}


@pytest.mark.parametrize("main", ["main.c", "rows.c"])
def test_firmware_runs(main: str, tmp_path: Path) -> None:
    from tinyc.tools.toolchain import STRICT, compile_objects, host_compiler

    files = {name: text.encode() for name, text in (by_rows() if main == "rows.c" else generated()).items()}
    files[main] = (EXAMPLES / "firmware" / main).read_bytes()
    compiler = host_compiler()
    objects = [*compile_objects(files, compiler, tmp_path, (*STRICT, "-O2")),
               *compile_objects({"board.c": BOARD.encode()}, compiler, tmp_path)]
    compiler.run([*compiler.flags, *(o.name for o in objects), "-o", "firmware"], tmp_path)
    with np.load(EXAMPLES / "digits_cnn_test.npz") as data:
        images, labels = data["image"], data["y"]
    done = subprocess.run([str(tmp_path / "firmware")], input=images.tobytes(), capture_output=True, check=True)
    shown = np.array([int(line) for line in done.stdout.split()])
    assert shown.shape == labels.shape
    assert (shown == labels).mean() >= 0.97


def test_firmware_compiles_as_shown(tmp_path: Path) -> None:
    commands: list[str] = re.findall(r"^arm-none-eabi-gcc .*$", README.read_text("utf-8"), re.MULTILINE)
    (words,) = [shlex.split(command) for command in commands]
    if shutil.which(words[0]) is None:
        pytest.skip("there is no arm-none-eabi-gcc")
    for name, text in generated().items():
        (tmp_path / name).write_text(text, "utf-8")
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    subprocess.run(words, cwd=tmp_path, check=True)


def test_dumps_read_back(tmp_path: Path) -> None:
    for arguments in (["-p", ""], ["--stop-after=fuse-activation"], []):
        run("tinyc", "examples/digits_cnn.onnx", "--emit", "ir", "-q", "-o", f"{tmp_path}/dump.tir", *arguments)
        again = run("tinyc_opt", f"{tmp_path}/dump.tir", "-p", "", "-o", f"{tmp_path}/again.tir")
        assert not again.stdout
        dump, back = ((tmp_path / f"{name}.tir").read_text("utf-8") for name in ("dump", "again"))
        assert back.replace("again.npz", "dump.npz") == dump


def test_statuses() -> None:
    """0, 1 and 2 as the README lists them."""
    program = [sys.executable, "-m", "tinyc.tools.tinyc"]
    for arguments, status in ((["--version"], 0), (["no_such_model.onnx"], 1), (["--no-such-option"], 2)):
        done = subprocess.run([*program, *arguments], capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == status
        assert "Traceback" not in done.stderr


def test_paths_in_the_readme_exist() -> None:
    named: set[str] = set(re.findall(r"`((?:examples|tests|tinyir|passes|backends|frontends|tools)/[\w./-]*)`",
                                     README.read_text("utf-8")))
    assert named
    assert not [name for name in sorted(named) if not (ROOT / name).exists()]


def test_no_line_is_too_long() -> None:
    outside = _BLOCK.sub("", README.read_text("utf-8"))
    assert not [line for line in outside.splitlines() if len(line) > 120 and not line.startswith(("arm-none", "| "))]
