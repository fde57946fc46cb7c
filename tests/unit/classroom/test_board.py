"""The teacher's board: what it says, to whom, and that it takes nothing for a command."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from classroom.board import Row, rows, table
from classroom.cluster import Cluster
from classroom.page import Board, served
from labs.errors import CommandFailed, LabError
from labs.lab import all_labs
from labs.report import CheckLine, Passed, Report
from tests.testkit.browser import MISSING, chromium, open_browser
from tests.testkit.usability import problems_of
from tests.unit.classroom.fake import FakeClassCluster

MINUTE_MS = 60_000
NOW_MS = 100 * MINUTE_MS
EVIL = "<script>alert(1)</script>\x1b[2J"


def add_student(cluster: FakeClassCluster, name: str, *ready: bool, **report: Any) -> None:
    """Adds a student with pods, ready or not, and with a report if it has fields."""
    labels = {"meshmart/class": "istio"}
    cluster.put({"kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    for number, is_ready in enumerate(ready):
        cluster.put(
            {
                "kind": "Pod",
                "metadata": {
                    "name": f"pod-{number}",
                    "namespace": name,
                    "labels": {"app.kubernetes.io/part-of": "meshmart"},
                },
                "status": {
                    "phase": "Running",
                    "conditions": [{"type": "Ready", "status": str(is_ready)}],
                },
            }
        )
    if report:
        cluster.put(Report(**report).manifest(), name)


@pytest.fixture
def cluster() -> FakeClassCluster:
    """Four: one is wrong, one is right, one has not begun, one writes what they like."""
    cluster = FakeClassCluster()
    passed = Passed(minutes=12, checks=2, hints=0, was_solved=False)
    add_student(
        cluster,
        "student-01",
        True,
        True,
        lab="06-canary",
        place="istio",
        started_ms=NOW_MS - 14 * MINUTE_MS,
        checks=3,
        hints=1,
        checked_ms=NOW_MS - 2 * MINUTE_MS,
        lines=[
            CheckLine(is_right=True, what="who asks with the header is answered by v2"),
            CheckLine(is_right=False, what="21 of 200 requests at /api, some fail"),
        ],
        passed={"01-see-the-mesh (istio)": passed},
    )
    add_student(
        cluster,
        "student-02",
        True,
        False,
        lab="03-who-may-call-whom",
        place="istio",
        started_ms=NOW_MS - 5 * MINUTE_MS,
        checks=1,
        checked_ms=NOW_MS,
        lines=[CheckLine(is_right=True, what="the books agree")],
    )
    add_student(cluster, "student-03", True)
    add_student(
        cluster,
        "student-04",
        True,
        lab=EVIL,
        checks=1,
        checked_ms=NOW_MS,
        lines=[CheckLine(is_right=False, what=EVIL)],
    )
    cluster.put(
        {"kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt", "namespace": "student-01"}}
    )
    return cluster


async def seen(cluster: FakeClassCluster) -> list[Row]:
    return await rows(Cluster(cluster), all_labs(), NOW_MS)


async def test_each_student_is_a_row(cluster: FakeClassCluster) -> None:
    wrong, right, nothing, evil = await seen(cluster)

    assert (wrong.lab, wrong.minutes, wrong.verdict) == (
        "06 A canary by header, cookie and weight",
        14,
        "1 wrong, 2 min ago",
    )
    assert wrong.wrong == ["21 of 200 requests at /api, some fail"]
    assert (wrong.is_open, wrong.passed) == (True, ["01"])
    assert (right.verdict, right.is_right, right.is_open, right.ready) == (
        "all right, 0 min ago",
        True,
        False,
        (1, 2),
    )
    assert (nothing.lab, nothing.minutes, nothing.verdict, nothing.report) == ("", None, "", None)
    assert evil.lab == EVIL


async def test_what_is_no_report_is_a_row_too(cluster: FakeClassCluster) -> None:
    config_map = cluster.objects["ConfigMap", "student-01", "meshmart-lab"]
    config_map["data"] = {"report.json": '{"checks": "<b>"}'}
    first, *_ = await seen(cluster)
    assert (first.lab, first.verdict) == ("its report cannot be read", "")


async def test_pods_that_end_are_not_waited_for(cluster: FakeClassCluster) -> None:
    for number, more in enumerate(({"deletionTimestamp": "now"}, {})):
        cluster.put(
            {
                "kind": "Pod",
                "metadata": {
                    "name": f"ending-{number}",
                    "namespace": "student-03",
                    "labels": {"app.kubernetes.io/part-of": "meshmart"},
                    **more,
                },
                "status": {"phase": "Running" if more else "Succeeded"},
            }
        )
    assert (await seen(cluster))[2].ready == (1, 1)


async def test_a_terminal_obeys_nothing_of_it(cluster: FakeClassCluster) -> None:
    text = table(await seen(cluster))

    assert "\x1b" not in text
    heading, first, *_ = text.splitlines()
    assert heading.split("  ")[0] == "student"
    assert "student-01  2/2   06 A canary by header, cookie and weight" in first
    assert first.rstrip().endswith("01")
    assert len(text.splitlines()) == 5


@asynccontextmanager
async def browsing(look: Any) -> AsyncGenerator[tuple[aiohttp.ClientSession, str, Board]]:
    board = Board(look)
    await board.look_once()
    async with served(board, 0) as address, aiohttp.ClientSession() as session:
        yield session, address, board


async def test_the_page_shows_the_class(cluster: FakeClassCluster) -> None:
    async with browsing(lambda: seen(cluster)) as (session, address, _):
        async with session.get(address) as answer:
            page = await answer.text()
            assert answer.status == 200
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        for words in (
            "student-03",
            "06 A canary by header, cookie and weight",
            "1 wrong, 2 min ago",
            "21 of 200 requests at /api, some fail",
            "1 of 2 pods ready",
            "4 students, seen 0 s ago",
        ):
            assert words in page, words
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert 'http-equiv="refresh"' not in page
        async with session.get(f"{address}/?live") as answer:
            assert '<meta http-equiv="refresh" content="5">' in await answer.text()
        for name, status in (("base.css", 200), ("board.css", 200), ("page.py", 404)):
            async with session.get(f"{address}/{name}") as answer:
                assert answer.status == status
        for host in ("board.example", "127.0.0.1.example:80"):
            async with session.get(address, headers={"host": host}) as answer:
                assert answer.status == 421


async def test_what_was_seen_last_stays_while_the_cluster_is_away(
    cluster: FakeClassCluster,
) -> None:
    is_away = False

    async def look() -> Sequence[Row]:
        if is_away:
            raise CommandFailed("kubectl get: connection refused")
        return await seen(cluster)

    async with browsing(look) as (session, address, board):
        is_away = True
        await board.look_once()
        async with session.get(address) as answer:
            page = await answer.text()
        assert "The cluster was not seen: kubectl get: connection refused" in page
        assert "student-04" in page


async def test_a_port_that_is_taken_is_refused(cluster: FakeClassCluster) -> None:
    async with browsing(lambda: seen(cluster)) as (_, address, _):
        port = int(address.rpartition(":")[2])
        with pytest.raises(LabError, match=f"Port {port} cannot be used"):
            async with served(Board(lambda: seen(cluster)), port):
                raise AssertionError("it is served twice")


async def test_everybody_can_read_it(cluster: FakeClassCluster, tmp_path: Path) -> None:
    executable = chromium()
    if executable is None:
        pytest.skip(MISSING)
    folder = Path(os.environ.get("MESHMART_SCREENSHOTS") or tmp_path)
    async with (
        browsing(lambda: seen(cluster)) as (_, address, _),
        open_browser(executable) as browser,
    ):
        page = await browser.new_page(viewport={"width": 1280, "height": 640})
        await page.goto(address)
        await page.screenshot(path=folder / "board.png", full_page=True)
        assert await problems_of(page) == []
