"""Lab 01 on one machine: a version that is slow is found even where few requests reach it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from labs.finding import Finding
from labs.lab import all_labs, lab_named
from labs.local import LocalShop
from labs.visitor import Answer
from services.common.call_record import Served


@dataclass
class Shop01:
    """A shop on one machine whose versions take turns.

    :ivar slow_turns: of a hundred turns, how many the slow version has.
    """

    slow_turns: int
    folder: Path = field(default_factory=Path)
    url: str = "http://127.0.0.1:8080"
    _asked: int = 0

    @asynccontextmanager
    async def visitor(self) -> AsyncGenerator[Shop01]:
        yield self

    async def send(self, method: str, path: str) -> Answer:
        self._asked += 1
        is_slow = -self._asked % 100 < self.slow_turns
        version, milliseconds = ("v2", 510.0) if is_slow else ("v1", 5.0)
        return Answer(200, None, Served("product", version, "product", milliseconds))


async def _findings(slow_turns: int) -> list[Finding]:
    exercise = lab_named(all_labs(), "01").local
    assert exercise is not None
    shop = cast("LocalShop", cast("Any", Shop01(slow_turns)))
    return [each async for each in exercise.check(shop)]


@pytest.mark.parametrize("slow_turns", [10, 1])
async def test_a_slow_version_is_found_however_rarely_it_answers(slow_turns: int) -> None:
    served, quick = await _findings(slow_turns)

    assert served.is_right
    assert quick.what == "a version that answers for the catalogue takes 510 ms"


async def test_a_shop_without_it_is_right() -> None:
    assert all(each.is_right for each in await _findings(0))
