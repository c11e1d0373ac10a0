"""`tinyc-opt`: text in, passes, text out."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Run

TEXT = """\
// RUN: canonicalize
module @m {level = graph} {
  const @w : tensor<4x30xf32> = random<1>

  func @main(%x: tensor<1x30xf32>) -> tensor<1x4xf32> {
    %unused = nn.relu(%x) : tensor<1x30xf32>
    %y = nn.dense(%x, @w, none) : tensor<1x4xf32>
    nn.return(%y)
  }
}
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "m.tir"
    path.write_text(TEXT)
    return path


def test_run_line(run_opt: Run, source: Path) -> None:
    answer = run_opt(source)
    assert answer.status == 0
    assert "nn.relu" not in answer.out
    assert "nn.dense" in answer.out


def test_pipeline_option_wins(run_opt: Run, source: Path) -> None:
    assert "nn.relu" in run_opt(source, "-p", "").out


def test_output_reads_back(run_opt: Run, source: Path, tmp_path: Path) -> None:
    assert run_opt(source, "-o", tmp_path / "out.tir").status == 0
    first = run_opt(tmp_path / "out.tir", "-p", "canonicalize", "--facts", "none", "--no-locations").out
    assert first == run_opt(source, "--facts", "none", "--no-locations").out


def test_needs_a_pipeline(run_opt: Run, source: Path) -> None:
    source.write_text(TEXT.replace("// RUN: canonicalize\n", ""))
    answer = run_opt(source)
    assert answer.status == 1
    assert "-p PIPELINE" in answer.err


def test_errors(run_opt: Run, source: Path, tmp_path: Path) -> None:
    assert "did you mean 'canonicalize'?" in run_opt(source, "-p", "canonicalise").err
    assert run_opt(tmp_path / "no.tir", "-p", "canonicalize").status == 1
    assert run_opt(source, "-o", tmp_path / "out.txt").status == 1
    assert run_opt().status == 2
    (tmp_path / "bytes.tir").write_bytes(b"\xff\xfe\x00")
    answer = run_opt(tmp_path / "bytes.tir", "-p", "canonicalize")
    assert answer.status == 1
    assert "not text" in answer.err


def test_looks_inside(run_opt: Run, source: Path) -> None:
    answer = run_opt(source, "--print-ir-before", "--print-ir-after", "--time-passes", "--check-each")
    assert answer.status == 0
    assert answer.err.count("module @m") == 2
