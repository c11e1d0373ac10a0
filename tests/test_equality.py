"""A sample of tests/bench/equality.py: small networks in every way there is to execute them, beside layer by layer."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from tinyc.tools.toolchain import routes_present

BENCH = Path(__file__).parent / "bench"
MODELS = Path(__file__).resolve().parents[1].parent / "shared" / "models"
SAMPLE = (("kws_dscnn_int8", "generic"), ("kws_dscnn_int8", "cortex-m4"), ("micro_kws_qop_int8", "cortex-m4"),
          ("resnet8_ortq_u8s8", "cortex-m4"), ("hello_world_int8", "generic"), ("denoise_unet_resize_f32", "generic"),
          ("kws_conv1d_f32", "generic"), ("kws_dscnn_f32", "cortex-m4"))

pytestmark = [pytest.mark.skipif(not MODELS.exists(), reason="the shared models are absent"),
              pytest.mark.skipif(not routes_present(), reason="no C compiler")]


@pytest.fixture
def equality(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The bench, whose files import each other as scripts do."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("equality")


def measured(equality: Any, name: str, target: str, settings: tuple[str, ...], folder: Path) -> dict[str, Any]:
    rows: dict[str, Any] = equality.rows_of(name, target, settings, folder)
    assert set(rows) == set(settings)
    return rows


@pytest.mark.long
@pytest.mark.parametrize(("name", "target"), SAMPLE)
def test_every_setting(equality: Any, name: str, target: str, tmp_path: Path) -> None:
    rows = measured(equality, name, target, equality.SETTINGS, tmp_path)
    assert {setting: row for setting, row in rows.items() if row.get("wrong") or "failed" in row} == {}
    assert all(row["values"] for row in rows.values() if "reason" not in row)


@pytest.mark.long
def test_under_sanitizers(equality: Any, tmp_path: Path) -> None:
    row = measured(equality, "kws_dscnn_int8", "cortex-m4", (equality.SANITIZED,), tmp_path)[equality.SANITIZED]
    assert "reason" in row or (row["wrong"], row["runs"]) == (0, 6)


def test_schedules_by_hand(equality: Any, tmp_path: Path) -> None:
    """What they are is told, and differs from what is compiled layer by layer."""
    rows = measured(equality, "kws_dscnn_int8", "generic", ("stream", "patch 2x2", "split"), tmp_path)
    assert [row["wrong"] for row in rows.values()] == [0, 0, 0]
    assert rows["stream"]["passes"].startswith("stream{rows=1},expand-patches")
    assert "patch{grid=2x2,from_=" in rows["patch 2x2"]["passes"]
    assert "parts=4" in rows["split"]["passes"]
    assert rows["patch 2x2"]["macs"] > rows["stream"]["macs"]
    assert len({row["arena_bytes"] for row in rows.values()}) == 3


def test_what_does_not_apply(equality: Any, tmp_path: Path) -> None:
    rows = measured(equality, "hello_world_int8", "generic", ("--ram 1/3", "stream", "split by rows"), tmp_path)
    assert all("reason" in row for row in rows.values())


def test_a_wrong_byte_is_found(equality: Any, tmp_path: Path) -> None:
    comparison = equality.Comparison("hello_world_int8", "generic", tmp_path)
    assert comparison.measure(comparison.plain)["wrong"] == 0
    array = comparison.expected[3][0].copy()
    array.flat[-1] ^= 1
    comparison.expected[3] = (array,)
    assert comparison.measure(comparison.plain)["wrong"] == 1


def test_the_page(equality: Any) -> None:
    good = {"wrong": 0, "values": 10, "other_bits": 0, "exact": True, "relative": None, "of_bound": 0.0}
    near = {**good, "exact": False, "relative": 3e-7, "other_bits": 4, "of_bound": 0.03}
    rows = {"a": {"-O0": good, "-O2": {"reason": "no room"}}, "b": {"-O0": near, "-O2": {**good, "wrong": 3}},
            "c": {"-O0": {"failed": "it crashed\nhere"}}}
    text = equality.report({"generic": rows}, ["a", "b", "c"], ["-O0", "-O2"])
    assert "| a | 0 | - |" in text
    assert "| b | 3e-07 | **3** |" in text
    assert "| c | **failed** |  |" in text
    assert "- no room: a" in text
    assert "- failed: it crashed: c" in text
    assert "2 differ or failed" in text
