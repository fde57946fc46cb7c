"""A lesson: students do labs with their own rights, and the teacher watches and helps."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from classroom.board import rows
from classroom.cluster import Cluster
from classroom.page import Board, served
from labs.commands import Programs
from labs.lab import Lab, all_labs
from labs.runner import NOT_PASSED
from services.common.clock import now_ms
from tests.labs.class_of_three.users import Classroom, StudentUser
from tests.labs.mistakes import case_of
from tests.mesh.meshed import Mesh
from tests.mesh.shops import chosen
from tests.testkit.browser import MISSING, chromium, open_browser
from tests.testkit.matrix import TOPOLOGY
from tests.testkit.usability import problems_of

_RESET_SECONDS = 90.0
_FIRST_LABS = {"03", "06", "10"}


def some_labs(config: pytest.Config) -> Sequence[Any]:
    """Returns the labs that a class can do in the mesh of this run; most of them take long."""
    place = chosen(config).name
    here = [each for each in all_labs() if place in each.places and not each.changes_the_gateway]
    return [
        pytest.param(lab, id=lab.name, marks=() if lab.number in _FIRST_LABS else pytest.mark.long)
        for lab in here
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "lab" in metafunc.fixturenames:
        metafunc.parametrize("lab", some_labs(metafunc.config))


def test_a_lab_is_done_with_a_students_rights(
    lab: Lab, classroom: Classroom, kind: type[Mesh]
) -> None:
    assert kind.name != "none"
    user = classroom.users[0]
    status, text = user.labs("readme", lab.number)
    assert status == 0, text
    assert user.name in text
    assert TOPOLOGY.namespace not in text

    assert user.labs("start", lab.number)[0] == 0
    status, said = user.labs("check")
    assert status == NOT_PASSED, said
    assert re.search(case_of(lab.name, kind.name).first, said), said
    assert "was not written" not in said
    table = classroom.run("board", "--table")
    line = next(each for each in table.splitlines() if each.startswith(user.name))
    assert re.search(rf"{lab.number} .* \d+ wrong, 0 min ago", line), table

    assert user.labs("solve")[0] == 0
    status, said = user.labs("check")
    assert status == 0, said
    assert user.labs("reset")[0] == 0


async def test_one_is_reset_and_solved_while_the_others_sell(classroom: Classroom) -> None:
    first, *others = classroom.users
    assert first.labs("start", "06")[0] == 0
    is_over = asyncio.Event()
    bought: Counter[str] = Counter()
    failed: list[str] = []

    async def buys(user: StudentUser) -> None:
        async with user.shop(classroom.gateway_address).visitor() as visitor:
            while not is_over.is_set():
                answer = await visitor.buy()
                if answer.status in {201, 202}:
                    bought[user.name] += 1
                    await visitor.cancel(answer.body["order_id"])
                else:
                    failed.append(f"{user.name}: {answer}")

    buying = [asyncio.create_task(buys(user)) for user in others]
    try:
        await asyncio.to_thread(classroom.solve, first)
        status, said = await asyncio.to_thread(first.labs, "check")
        assert status == 0, said
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.to_thread(classroom.reset, first)
        seconds = loop.time() - began
    finally:
        is_over.set()
        await asyncio.gather(*buying)
    print(f"{first.name} was reset after {seconds:.0f} s; meanwhile bought: {dict(bought)}")
    assert not failed
    assert all(bought[user.name] >= 3 for user in others)
    assert seconds <= _RESET_SECONDS
    async with first.shop(classroom.gateway_address).visitor() as visitor:
        assert (await visitor.buy()).status in {201, 202}


async def test_the_board_shows_labs_and_checks(classroom: Classroom, tmp_path: Path) -> None:
    executable = chromium()
    if executable is None:
        pytest.skip(MISSING)
    first, second, _ = classroom.users
    assert first.labs("start", "06")[0] == 0
    assert first.labs("check")[0] == NOT_PASSED
    assert second.labs("start", "10")[0] == 0
    cluster, labs = Cluster(Programs()), all_labs()
    board = Board(lambda: rows(cluster, labs, now_ms()))
    await board.look_once()
    folder = Path(os.environ.get("MESHMART_SCREENSHOTS") or tmp_path)
    async with served(board, 0) as address, open_browser(executable) as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 640})
        await page.goto(address)
        await page.screenshot(path=folder / "class-board.png", full_page=True)
        print(f"picture: {folder / 'class-board.png'}")
        text = await page.inner_text("main")
        for words in (first.name, "06 A canary", r"\d wrong, \d min ago", "10 A sick pod"):
            assert re.search(words, text), text
        assert await problems_of(page) == []
    for user in (first, second):
        assert user.labs("reset")[0] == 0


def test_the_cost_of_each_student_is_printed(classroom: Classroom) -> None:
    said = classroom.run("cost")
    line = re.compile(
        r"student-0\d: ready after \d+ s; requests [\d.]+ CPU, [\d.]+ GiB, 1[1-9] pods; "
        r"uses [\d.]+ CPU, [\d.]+ GiB"
    )
    assert len(line.findall(said)) == 3, said
    assert "There is room for " in said
