"""What follows from topology.yaml is written, and its drift is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import derived


def test_what_has_drifted_is_said_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(derived, "ROOT", tmp_path)
    files = {tmp_path / "a.yaml": "new", tmp_path / "below/b.yaml": "b", tmp_path / "c.yaml": "c"}
    (tmp_path / "a.yaml").write_text("old", encoding="utf-8")
    (tmp_path / "c.yaml").write_text("c", encoding="utf-8")

    assert derived.written(files, "mesh", is_check=True) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"{name} is not what topology.yaml says; run `make mesh`"
        for name in ("a.yaml", "below/b.yaml")
    ]
    assert (tmp_path / "a.yaml").read_text(encoding="utf-8") == "old"

    assert derived.written(files, "mesh", is_check=False) == 0
    assert derived.written(files, "mesh", is_check=True) == 0
    assert (tmp_path / "below/b.yaml").read_text(encoding="utf-8") == "b"
