"""Labs without a cluster, done as a student does: from the start to the reset, with mistakes that
students make, and each command of the README.md as it stands there.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labs.__main__ import described_shop
from labs.commands import Programs
from labs.lab import all_labs, lab_named
from labs.local import LocalShop
from labs.progress import Attempt, read_progress, write_progress
from labs.runner import NOT_PASSED, Runner
from labs.visitor import Visitor
from tests.mesh.readme import disagreement
from tests.shop.conftest import OpenShop
from tests.testkit.waiting import eventually

ROOT = Path(__file__).parents[2]
_USUAL = "http://127.0.0.1:8080"

pytestmark = pytest.mark.timeout(600)


@dataclass
class LocalStudent:
    """Somebody at a terminal, with a shop of their own."""

    folder: Path
    said: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.runner = Runner(
            all_labs(), self.folder / "labs.json", Programs(), described_shop, self.said.append
        )
        self.data = self.folder / "data"

    async def start(self, lab: str) -> None:
        options = Attempt(lab="", place="local", started_ms=0, data=self.data, ports="free")
        await self.runner.start(lab, None, options)

    async def check(self) -> tuple[int, str]:
        """The status of a check, and all that it says."""
        self.said.clear()
        status = await self.runner.check(None)
        return status, "\n".join(self.said)

    async def reset(self) -> None:
        await self.runner.reset(None, Attempt(lab="", place="local", started_ms=0))

    @property
    def shop(self) -> LocalShop:
        return LocalShop(self.data)

    def follow(self, lab: str) -> None:
        """Types what the README.md says, and sees what it says."""
        for step in lab_named(all_labs(), lab).readme.steps("local"):
            if "labs start" in step.commands:
                continue
            commands = step.commands.replace(_USUAL, self.shop.url).replace(
                "services audit", f"services audit --data {self.data}"
            )
            done = subprocess.run(
                ["bash", "-c", commands],
                capture_output=True,
                text=True,
                cwd=ROOT,
                timeout=120,
                check=False,
            )
            assert step.sees is not None, commands
            assert not disagreement(step.sees, done.stdout), done

    async def restarts(self, *arguments: str) -> None:
        """Stops the shop, and starts it in another way."""
        progress = read_progress(self.runner.file)
        assert progress.under_way is not None
        shop = LocalShop(self.data, ports="free", own_pid=progress.under_way.shop_pid)
        await shop.start(*arguments)
        progress.under_way.shop_pid = shop.own_pid
        write_progress(self.runner.file, progress)

    async def ends(self, service: str, how: signal.Signals) -> None:
        """Ends a process, and waits until another one is in its place."""
        pid = self.shop.running().of_service(service)[0].pid
        os.kill(pid, how)

        async def is_back() -> bool:
            return self.shop.running().of_service(service)[0].pid != pid

        await eventually(is_back, f"{service} is back")


@pytest.fixture
async def student(tmp_path: Path) -> AsyncGenerator[LocalStudent]:
    student = LocalStudent(tmp_path)
    yield student
    if read_progress(student.runner.file).under_way is not None:
        await student.reset()
    assert student.shop.state() is None


Mistake = Callable[[LocalStudent, Visitor], Awaitable[None]]


async def _kills_nothing(student: LocalStudent, visitor: Visitor) -> None:
    for _ in range(5):
        await visitor.insist()


async def _has_one_key(student: LocalStudent, visitor: Visitor) -> None:
    key = uuid.uuid4().hex
    await visitor.insist(key)
    await student.ends("payment", signal.SIGKILL)
    for _ in range(4):
        await visitor.insist(key)


async def _asks_a_process_to_end(student: LocalStudent, visitor: Visitor) -> None:
    await visitor.insist()
    await student.ends("payment", signal.SIGTERM)
    for _ in range(4):
        await visitor.insist()


async def _kills_before_anybody_buys(student: LocalStudent, visitor: Visitor) -> None:
    await student.ends("payment", signal.SIGKILL)
    for _ in range(5):
        await visitor.insist()


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        (_kills_nothing, "no process was killed since the lab began"),
        (_has_one_key, "1 of 5 orders are confirmed .* its own idempotency key"),
        (_asks_a_process_to_end, "no process was killed .*`kill` without -9 is no crash"),
        (_kills_before_anybody_buys, "killed, but not between .*: payment"),
    ],
)
async def test_pay_once_tells_what_is_wrong(
    student: LocalStudent, mistake: Mistake, told: str
) -> None:
    await student.start("00")
    async with student.shop.visitor() as visitor:
        await mistake(student, visitor)

    status, said = await student.check()

    assert status == NOT_PASSED
    wrong = [line for line in said.splitlines() if "WRONG" in line]
    assert re.search(told, wrong[0]), said


async def test_pay_once_from_start_to_reset(student: LocalStudent) -> None:
    await student.start("00")
    status, said = await student.check()
    assert status == NOT_PASSED
    assert "0 of 5 orders are confirmed" in said

    student.follow("00")
    status, said = await student.check()
    assert status == NOT_PASSED, "the steps alone do not pass it"

    await student.runner.solve(None)
    status, said = await student.check()
    assert status == 0, said
    assert "killed between the first and the last of these orders: payment, order" in said

    await student.reset()
    assert student.shop.state() is None
    assert read_progress(student.runner.file).passed["00-pay-once (local)"].was_solved


async def test_a_shop_that_runs_already_is_used_and_goes_on(
    student: LocalStudent, open_shop: OpenShop
) -> None:
    own = open_shop(data=student.data)
    await student.start("00")
    assert student.shop.url == own.url
    await student.reset()
    assert own.is_open
    assert "it was not started by the labs" in "\n".join(student.said)
    own.stop()


SLOW = ("--slow", "product:v2=500ms")


async def test_see_the_mesh_from_start_to_reset(student: LocalStudent) -> None:
    await student.start("01")
    status, said = await student.check()
    assert status == NOT_PASSED
    assert re.search(r"a version that answers for the catalogue takes \d+ ms", said), said
    student.follow("01")

    for versions in ("product=v1:8,v2:2", "product=v2"):  # another share, and the wrong one
        await student.restarts("--versions", versions, *SLOW)
        status, said = await student.check()
        assert status == NOT_PASSED, versions
        assert "a version that answers for the catalogue takes" in said

    await student.runner.solve(None)
    status, said = await student.check()
    assert status == 0, said
    await student.reset()
    assert student.shop.state() is None
