"""Logs never trouble those who write them."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from services.common.errors import ConfigurationError
from services.common.observing import logs
from services.common.observing.logs import configure_logging, get_logger

pytestmark = pytest.mark.usefixtures("process_as_before")


def configure(file: Path) -> None:
    configure_logging(service="s", version="v1", instance="i", level="info", file=file)


def test_full_disk_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    """Where pytest keeps standard error, which is told of the loss, the disk is full too."""
    file = tmp_path / "log"
    configure(file)
    log = get_logger("test")
    log.info("before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, hard))
    try:
        for number in range(100):
            log.info("lost", number=number, text="t" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.info("after")
    events = [json.loads(line)["event"] for line in file.read_text().splitlines()]
    assert (events[0], events[-1]) == ("before", "after")


def test_file_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"LOG_FILE is wrong: .*No such file"):
        configure(tmp_path / "missing" / "log")


def test_a_large_file_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_MAX_FILE_BYTES", 10_000)
    file = tmp_path / "log"
    configure(file)
    for number in range(1000):
        get_logger("test").info("line", number=number)
    assert json.loads(file.read_text().splitlines()[-1])["number"] == 999
    assert sum(kept.stat().st_size for kept in tmp_path.iterdir()) <= 20_000
