"""`tinyc-plan`: tables of buffers in, offsets out."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from .conftest import Run

TABLE = """\
id,lower,upper,size
b1,0,3,4
b2,3,9,4
b3,0,9,4
b4,9,21,4
b5,0,21,4
"""
UNPLACEABLE = """\
id,lower,upper,size
a,0,1,3
b,1,2,2
c,0,3,2
d,0,4,1
e,2,4,1
f,3,4,1
g,2,5,1
h,1,6,1
i,3,6,1
j,4,7,3
k,5,7,1
l,6,7,2
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "buffers.csv"
    path.write_text(TABLE)
    return path


def test_offsets_are_written(run_plan: Run, table: Path, tmp_path: Path) -> None:
    answer = run_plan(table, "--capacity", 12, "-o", tmp_path / "placed.csv")
    assert answer.status == 0
    assert "peak          12 bytes, optimal" in answer.out
    assert "lower bound   12 bytes, proved" in answer.out
    assert "capacity      12 bytes: it fits" in answer.out
    with open(tmp_path / "placed.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [",".join(list(row.values())[:4]) for row in rows] == TABLE.split()[1:]
    spans = {row["id"]: range(int(row["offset"]), int(row["offset"]) + 4) for row in rows}
    for one, other in (("b1", "b3"), ("b1", "b5"), ("b2", "b3"), ("b2", "b5"), ("b3", "b5"), ("b4", "b5")):
        assert not set(spans[one]) & set(spans[other])


def test_what_is_written_can_be_read(run_plan: Run, table: Path, tmp_path: Path) -> None:
    run_plan(table, "-o", tmp_path / "placed.csv")
    answer = run_plan(tmp_path / "placed.csv", "-o", "-")
    assert answer.out == (tmp_path / "placed.csv").read_text()
    assert "optimal" in answer.err


def test_json(run_plan: Run, table: Path) -> None:
    found = json.loads(run_plan(table, "--json", "--align", 16).out)
    assert found.pop("seconds") < 10
    assert found == {"buffers": 5, "arena_bytes": 36, "lower_bound_bytes": 36, "optimal": True,
                     "capacity_bytes": None, "fits": True, "align": 16, "nodes": 0}


def test_too_small_for_one_moment(run_plan: Run, table: Path, tmp_path: Path) -> None:
    """Nothing is written, and what is needed when is said."""
    answer = run_plan(table, "--capacity", 11, "-o", tmp_path / "placed.csv")
    assert answer.status == 1
    assert "does not fit into 11 bytes" in answer.err
    assert "at time 0 3 buffers need 12 bytes together" in answer.err
    assert not (tmp_path / "placed.csv").exists()


def test_too_small_for_any_placement(run_plan: Run, table: Path) -> None:
    """Each moment fits, all together do not: the search proves it."""
    table.write_text(UNPLACEABLE)
    answer = run_plan(table, "--capacity", 6)
    assert answer.status == 1
    assert "the search proved that at least 7 are necessary" in answer.err
    assert "peak          7 bytes, optimal" in answer.out
    assert run_plan(table, "--capacity", 7).status == 0


@pytest.mark.parametrize(("text", "message"), [
    ("id,lower,upper\n", "the first line should name the columns id, lower, upper, size; there is no size"),
    ("", "there is no id and no lower and no upper and no size"),
    ("id,lower,upper,size,sise\n", "there is a column 'sise', which means nothing here\nhelp: did you mean 'size'?"),
    ("id,lower,upper,size,size\n", "there are 2 columns 'size'"),
    ("id,lower,upper,size\na,0,2,-4\n", "buffers.csv:2: size -4 is negative"),
    ("id,lower,upper,size\na,2,2,4\n", "buffers.csv:2: lower 2 should be less than upper 2"),
    ("id,lower,upper,size\n\na,0,2,4\na,1,2,4\n", "buffers.csv:4: id 'a' is that of line 3 too"),
    ("id,lower,upper,size\na,0,2,1.5\n", "buffers.csv:2: size should be a whole number, not '1.5'"),
    ("id,lower,upper,size\na,0\n", "buffers.csv:2: 2 columns are too few: 'a,0'"),
    ('id,lower,upper,size\n"a,0,2,4\n', "is not CSV: unexpected end of data"),
    ("id,lower,upper,size\n" + "a,0,2,x\n" * 13, "and 3 more"),
])
def test_bad_tables(run_plan: Run, table: Path, text: str, message: str) -> None:
    table.write_text(text)
    answer = run_plan(table)
    assert answer.status == 1
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_bad_bytes_and_missing_files(run_plan: Run, table: Path, tmp_path: Path) -> None:
    table.write_bytes(b"id,\xff\n")
    assert "is not text: byte 3 is not UTF-8" in run_plan(table).err
    assert "cannot read" in run_plan(tmp_path / "none.csv").err


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "which file?"),
    (["x.csv", "--capacity", "0"], "'0' is not a number of bytes above zero"),
    (["x.csv", "--capacity", "1G"], "'1G' is not a number of bytes above zero"),
    (["x.csv", "--time-limit", "nan"], "'nan' is not a number of seconds above zero"),
    (["x.csv", "--capasity", "1"], "did you mean '--capacity'?"),
    (["x.csv", "--json", "-o", "-"], "both want standard output"),
])
def test_usage(run_plan: Run, arguments: list[str], message: str) -> None:
    answer = run_plan(*arguments)
    assert answer.status == 2
    assert message in answer.err


def test_a_hard_instance_in_kibibytes(run_plan: Run, shared: Path, tmp_path: Path) -> None:
    answer = run_plan(shared / "minimalloc" / "A.1048576.csv", "--capacity", "1M", "-o", tmp_path / "a.csv")
    assert answer.status == 0
    assert "1048576 bytes, optimal" in answer.out
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 155
