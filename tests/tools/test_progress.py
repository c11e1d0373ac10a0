"""The progress line: nothing for what is quick, one line for what is slow."""

from __future__ import annotations

import time

import pytest
from tinyc.tools.cli import Progress


def test_quick_stages_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("tinyc")
    with progress.stage("reading"):
        pass
    assert capsys.readouterr().err == ""


def test_slow_stages_say_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "DELAY", 0.01)
    with Progress("tinyc").stage("building the C"):
        time.sleep(0.2)
    assert capsys.readouterr().err == "tinyc: building the C ...\n"


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "DELAY", 0.01)
    with Progress("tinyc", enabled=False).stage("building the C"):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""
