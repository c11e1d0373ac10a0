"""`tinyc --emit rf`: the table of receptive fields and the advice behind it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tinyc.tools.tinyc import main

NETWORK = """module @net {
  const @w1 : tensor<4x5x5x3xf32> = random<1>
  const @w2 : tensor<4x3x3x4xf32> = random<2>
  const @w3 : tensor<4x3x3x4xf32> = random<3>
  func @main(%x: tensor<1x32x32x3xf32>) -> tensor<1x8x8x4xf32> {
    %a = nn.conv2d(%x, @w1, none) {pad = [2, 2, 2, 2]} : tensor<1x32x32x4xf32>
    %b = nn.conv2d(%a, @w2, none) {stride = [2, 2], pad = [1, 1, 1, 1]} : tensor<1x16x16x4xf32>
    %c = nn.conv2d(%b, @w3, none) {stride = [2, 2], pad = [1, 1, 1, 1]} : tensor<1x8x8x4xf32>
    nn.return(%c)
  }
}
"""


def test_table_and_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.tir"
    path.write_text(NETWORK)
    assert main([str(path), "--emit", "rf", "-o", "-", "-q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = {line.split()[0]: line.split()[1:] for line in lines if line[:1] in "abc" and "x" in line}
    assert table["a"][:4] == ["32x32x4", "5x5", "5x5", "1"]
    assert table["b"][:4] == ["16x16x4", "3x3/2", "7x7", "2"]
    assert table["c"][:4] == ["8x8x4", "3x3/2", "11x11", "4"]
    assert any("a 5x5 -> 3x3" in line for line in lines)
