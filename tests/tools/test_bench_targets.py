"""Boards as TOML files: what they may say, what is refused, and what follows for sections and sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tinyc.tools.cores import core_named, is_emulated

from tinyir.board import Costs, Region, size_of, size_text
from tinyir.diag import CompileError
from tinyir.target import TARGETS, target_named
from tinyir.target_file import target_text

from .conftest import Run

BOARD = """\
extends = "cortex-m4"
summary = "sensor node"
dsp = false

[costs]
branch = 3

[[region]]
name = "SRAM2"
kind = "ram"
size = "16K"
section = ".sram2"

[[region]]
name = "FLASH"
kind = "flash"
size = 1_000_000
"""


def board(tmp_path: Path, text: str = BOARD) -> str:
    path = tmp_path / "node.toml"
    path.write_text(text)
    return str(path)


def test_file_extends_a_core(tmp_path: Path) -> None:
    target = target_named(board(tmp_path))
    assert (target.name, target.core, target.summary) == ("node", "cortex-m4", "sensor node")
    assert (target.dsp, target.float_registers) == (False, 32)
    assert target.costs == Costs(branch=3)
    assert target.region("ram") == Region("SRAM2", "ram", 16384, ".sram2")
    assert target.region("flash") == Region("FLASH", "flash", 1_000_000)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_printed_target_reads_back(tmp_path: Path, name: str) -> None:
    again = target_named(board(tmp_path, target_text(TARGETS[name])))
    assert again.core == name
    assert target_text(again) == target_text(TARGETS[name])


@pytest.mark.parametrize(("text", "message"), [
    ("", "extends should name the built-in target"),
    ('extends = "cortex-m44"', "no target called 'cortex-m44'"),
    ('extends = "other.toml"', "extends should name the built-in target"),
    ("extends = ", "is not TOML"),
    ('extends = "host"\nflaot_lanes = 4', "has no key 'flaot_lanes'"),
    ('extends = "host"\nfma = 1', "fma should be of type bool"),
    ('extends = "host"\n[costs]\nload = -1', "load should be a number of cycles"),
    ('extends = "host"\n[region]\nname = "A"', r"\[\[region\]\], with two brackets"),
    ('extends = "host"\n[[region]]\nname = "A"', "lacks kind, size"),
    ('extends = "host"\n[[region]]\nname = "A"\nkind = "rom"\nsize = 1', "kind should be ram or flash"),
    ('extends = "host"\n[[region]]\nname = "A"\nkind = "ram"\nsize = "1G"', 'size should be like 65536 or "64K"'),
])
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        target_named(board(tmp_path, text))


def test_missing_file() -> None:
    with pytest.raises(CompileError, match=r"cannot read the target none\.toml"):
        target_named("none.toml")


def test_sizes() -> None:
    assert [size_of(text) for text in ("64K", "1m", "100", 7)] == [65536, 1 << 20, 100, 7]
    assert [size_text(size) for size in (65536, 1 << 20, 100)] == ["64K", "1M", "100"]


def test_regions_choose_sections(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    assert run_tinyc(model, "--target", board(tmp_path)).status == 0
    assert 'section(".sram2")' in Path("tiny.c").read_text()
    assert run_tinyc(model, "--target", board(tmp_path), "--section", "arena=.mine").status == 0
    assert 'section(".mine")' in Path("tiny.c").read_text()


def test_what_does_not_fit_is_an_error_with_numbers(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    answer = run_tinyc(model, "--target", board(tmp_path, BOARD.replace('"16K"', "64")))
    assert answer.status == 1
    assert "bytes, SRAM2 of node has 64" in answer.err
    assert "the largest values: %" in answer.err
    assert not Path("tiny.c").exists()
    answer = run_tinyc(model, "--target", board(tmp_path, BOARD.replace("1_000_000", "100")))
    assert "the constants take" in answer.err


def test_generated_files_name_the_board_not_its_path(run_tinyc: Run, model: Path, tmp_path: Path) -> None:
    run_tinyc(model, "--target", board(tmp_path))
    text = Path("tiny.c").read_text()
    assert "--target node.toml" in text
    assert str(tmp_path) not in text


def test_print_target(run_tinyc: Run) -> None:
    answer = run_tinyc("--print-target", "cortex-m4")
    assert answer.status == 0
    assert 'extends = "cortex-m4"' in answer.out
    assert "load = 2" in answer.out


def test_every_microcontroller_can_be_emulated(tmp_path: Path) -> None:
    assert [name for name in TARGETS if not is_emulated(name)] == ["generic", "host"]
    assert core_named(board(tmp_path)).name == "cortex-m4"
    with pytest.raises(CompileError, match="host cannot be emulated"):
        core_named("host")
