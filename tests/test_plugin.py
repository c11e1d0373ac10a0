"""Passes and ops of third parties: the README's custom pass from a file, and an installed plugin (tests/plugin).

The plugin is a project of its own. The quick tests lay it out as an installer does (package and .dist-info in a folder
on the path), so they need no network; one long test lets pip install it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "tests" / "plugin"
MODEL = ROOT / "examples" / "digits_cnn.onnx"
SQUARED = """\
module @squared {level = graph} {
  func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
    %r = nn.relu(%x) : tensor<2x3xf32>
    %y = nn.mul(%r, %r) : tensor<2x3xf32>
    nn.return(%y)
  }
}
"""


def readme_pass() -> str:
    """The text of the README's custom pass."""
    blocks: list[str] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if "class DropSoftmax" in block]
    return found


def run(tool: str, *arguments: str | Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of our programs, with the folder `path` on Python's path."""
    environment = {**os.environ, "PYTHONPATH": str(path)} if path is not None else None
    command = [sys.executable, "-m", f"tinyc.tools.{tool}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugin installed in it, as an installer lays it out."""
    folder = tmp_path_factory.mktemp("site")
    package = folder / "tinyc_example"
    package.mkdir()
    for file in sorted((PLUGIN / "tinyc_example").glob("*.py")):
        (package / file.name).write_bytes(file.read_bytes())
    project = (PLUGIN / "pyproject.toml").read_text("utf-8")
    points = project.partition('[project.entry-points."tinyc.plugins"]\n')[2].partition("\n\n")[0]
    metadata = folder / "tinyc_example-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tinyc-example\nVersion: 1.0\n", "utf-8")
    (metadata / "entry_points.txt").write_text("[tinyc.plugins]\n" + points.replace('"', "") + "\n", "utf-8")
    return folder


def test_readme_pass_is_short_and_needs_only_tinyir() -> None:
    text = readme_pass()
    assert len(text.splitlines()) <= 25
    imports = re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE)
    assert set(imports) == {"tinyir"}


def test_readme_pass_is_that_of_the_plugin() -> None:
    assert readme_pass() == (PLUGIN / "tinyc_example" / "drop_softmax.py").read_text("utf-8")


def test_readme_pass_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "drop_softmax.py"
    file.write_text(readme_pass(), "utf-8")
    done = run("tinyc", MODEL, "--load-pass", file, "-p", "drop-softmax,O2", "--emit", "ir", "-o", "-", "--remarks")
    assert done.returncode == 0, done.stderr
    assert "level = mem" in done.stdout
    assert "softmax(" not in done.stdout
    assert "softmax does not change which output is the greatest" in done.stderr


def test_readme_pass_keeps_the_greatest_output(tmp_path: Path) -> None:
    from tinyir.interp import run as interpret
    from tinyir.pass_manager import PassManager, parse_pipeline
    from tinyir.registry import FRONTENDS, load_file

    file = tmp_path / "drop_softmax.py"
    file.write_text(readme_pass(), "utf-8")
    load_file(str(file))
    plain, changed = (FRONTENDS.get("onnx")(str(MODEL)) for _ in range(2))
    PassManager(parse_pipeline("drop-softmax")).run(changed)
    with np.load(MODEL.with_name("digits_cnn_test.npz")) as data:
        images = data["image"][:20]
    for image in images:
        (chances,), (logits,) = interpret(plain, [image[None]]), interpret(changed, [image[None]])
        assert chances.argmax() == logits.argmax()
        assert not np.allclose(logits.sum(), 1)


def test_option_of_the_readme_pass(site: Path) -> None:
    done = run("tinyc", MODEL, "-p", "drop-softmax{classes=11},O2", "--emit", "ir", "-o", "-", path=site)
    assert done.returncode == 0, done.stderr
    assert "softmax(" in done.stdout


def test_readme_pass_as_an_installed_plugin(site: Path) -> None:
    assert "drop-softmax" in run("tinyc", "--list-passes", path=site).stdout
    assert "drop-softmax" not in run("tinyc", "--list-passes").stdout
    done = run("tinyc", MODEL, "-p", "drop-softmax,O2", "--emit", "ir", "-o", "-", path=site)
    assert done.returncode == 0, done.stderr
    assert "softmax(" not in done.stdout


def test_without_the_plugin_its_pass_is_unknown() -> None:
    done = run("tinyc", MODEL, "-p", "drop-softmax,O2", "--emit", "ir", "-o", "-")
    assert done.returncode == 1
    assert "there is no pass called 'drop-softmax'" in done.stderr


def test_op_of_a_plugin_in_text_and_passes(site: Path, tmp_path: Path) -> None:
    text = tmp_path / "squared.tir"
    text.write_text(SQUARED, "utf-8")
    found = run("tinyc_opt", text, "-p", "recognise-squared-relu", path=site)
    assert found.returncode == 0, found.stderr
    assert "acme.squared_relu(%x)" in found.stdout
    assert "nn.mul" not in found.stdout
    text.write_text(found.stdout, "utf-8")
    back = run("tinyc_opt", text, "-p", "expand-squared-relu", path=site)
    assert back.returncode == 0, back.stderr
    assert "acme" not in back.stdout
    assert "nn.relu(%x)" in back.stdout


def test_op_of_a_plugin_has_its_meaning(site: Path, tmp_path: Path) -> None:
    text = tmp_path / "squared.tir"
    text.write_text(SQUARED, "utf-8")
    pipeline = "recognise-squared-relu,expand-squared-relu,recognise-squared-relu"
    done = run("tinyc", text, "-p", pipeline, "--check-each", "--emit", "ir", "-o", "-", path=site)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_plugin_installed_by_pip(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "site")]
    project = tmp_path / "project"
    for file in (*sorted(PLUGIN.rglob("*.py")), PLUGIN / "pyproject.toml"):
        copy = project / file.relative_to(PLUGIN)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    done = subprocess.run([*command, str(project)], capture_output=True, text=True, check=False)
    if "No matching distribution found for setuptools" in done.stderr:
        pytest.skip("pip cannot fetch setuptools here")
    assert done.returncode == 0, done.stderr
    listed = run("tinyc", "--list-passes", path=tmp_path / "site").stdout
    assert "drop-softmax" in listed
    assert "expand-squared-relu" in listed
