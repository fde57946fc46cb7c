"""Two runs of the load test are compared in a table and in pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtest import compare, report
from tests.unit.load_runs import made_up_run, took

BEFORE = made_up_run([20, 20], lambda level: took(int(level), 10), label="no mesh")
AFTER = made_up_run([20, 20], lambda level: took(int(level), 25, failures=1), label="in a mesh")


def test_each_group_has_both_figures_and_their_ratio():
    rows = compare.comparison(BEFORE, AFTER)

    assert rows[0] == ["", "", "no mesh", "in a mesh", "ratio"]
    assert rows[1] == ["all requests", "per second", "20.0", "19.0", "0.95"]
    assert ["", "failed", "0.00%", "5.00%", ""] in rows
    assert ["", "p95", "10 ms", "25 ms", "2.50"] in rows
    assert "pages" in {row[0] for row in rows}


def test_runs_of_the_same_name_are_told_apart_by_their_time():
    assert compare.label(BEFORE, BEFORE) == "no mesh 00:00:00"


def test_another_load_is_told():
    assert compare.notes(BEFORE, AFTER) == []
    other = made_up_run([20, 30], lambda level: took(int(level), 10))
    assert compare.notes(BEFORE, other)


def test_the_command_writes_a_page_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folders = [tmp_path / "before", tmp_path / "after"]
    for folder, run in zip(folders, (BEFORE, AFTER), strict=True):
        report.keep(run, folder)
    monkeypatch.setattr(sys, "argv", ["compare", *map(str, folders)])

    assert compare.main() == 0

    assert "2.50" in capsys.readouterr().out
    picture = ElementTree.parse(folders[1] / "comparison.svg").getroot()  # noqa: S314  our own
    assert "in a mesh" in "".join(picture.itertext())
    assert "<svg" in (folders[1] / "comparison.html").read_text("utf-8")


def test_a_run_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["compare", str(tmp_path / "a"), str(tmp_path / "b")])

    assert compare.main() == 2
    assert "the file cannot be read" in capsys.readouterr().err
