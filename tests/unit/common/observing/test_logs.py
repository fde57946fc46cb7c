"""Logs never trouble those who write them."""

from __future__ import annotations

import json
import logging
import resource
from datetime import datetime, timedelta
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


def test_a_line_that_fits_in_part_spoils_no_other(tmp_path: Path) -> None:
    file = tmp_path / "log"
    configure(file)
    log = get_logger("test")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        log.info("lost")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.info("after")
    log.info("last")
    part, *lines = file.read_text().splitlines()
    assert len(part) == 10
    assert [json.loads(line)["event"] for line in lines] == ["after", "last"]


def test_libraries_and_the_shop_write_the_same_kind_of_line(tmp_path: Path) -> None:
    file = tmp_path / "log"
    configure(file)
    get_logger("ours").warning("here", number=1)
    logging.getLogger("theirs").warning("there %s", "too", extra={"number": 2})
    get_logger("ours").debug("below the level")
    ours, theirs = (json.loads(line) for line in file.read_text().splitlines())
    assert ours.keys() == theirs.keys()
    assert (ours["event"], ours["number"], ours["logger"]) == ("here", 1, "ours")
    assert (theirs["event"], theirs["number"], theirs["logger"]) == ("there too", 2, "theirs")
    for line in (ours, theirs):
        assert (line["level"], line["service"], line["instance"]) == ("warning", "s", "i")
        assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)


def test_an_exception_is_in_its_line(tmp_path: Path) -> None:
    file = tmp_path / "log"
    configure(file)
    try:
        raise ValueError("what went wrong")
    except ValueError:
        get_logger("test").exception("failed")
    (line,) = map(json.loads, file.read_text().splitlines())
    assert (line["event"], line["level"]) == ("failed", "error")
    assert line["exception"].endswith("ValueError: what went wrong")
    assert "exc_info" not in line


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
