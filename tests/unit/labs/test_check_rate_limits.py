"""What the check of lab 11 says, with a shop that behaves as it is told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from labs.visitor import CATALOGUE, Answer
from tests.unit.labs.fake import PretendedShop, findings_of
from tests.unit.labs.skipping_loop import run
from tools.mesh.render import MeshName


@dataclass
class Shop11(PretendedShop):
    """A shop in a mesh, whose visitors need 20 ms for a request.

    :ivar rate: how many requests a second a pod of the catalogue takes, with a burst of as many.
    :ivar has_one_limit: whether other pages come out of the same bucket.
    :ivar takes_ms: how long a request takes those who send it.
    """

    rate: float = 10
    pods_ready: int = 1
    has_one_limit: bool = False
    error: int = 0
    takes_ms: float = 20
    _tokens: float = 0
    _filled_at: float = 0

    @asynccontextmanager
    async def visitor(self) -> AsyncGenerator[Shop11]:
        self._tokens = self.rate * self.pods_ready
        yield self

    async def pods(self, workload: str) -> list[Any]:
        assert workload == "product-service"
        return [{}] * self.pods_ready

    async def send(self, method: str, path: str) -> Answer:
        await asyncio.sleep(self.takes_ms / 1000)
        if path != CATALOGUE and not self.has_one_limit:
            return Answer(200, None, None)
        now = asyncio.get_running_loop().time()
        rate = self.rate * self.pods_ready
        self._tokens = min(rate, self._tokens + rate * (now - self._filled_at))
        self._filled_at = now
        if self._tokens < 1:
            return Answer(self.error or 429, None, None)
        self._tokens -= 1
        return Answer(200, None, None)


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
@pytest.mark.parametrize("pods", [1, 2])
def test_ten_a_second_for_each_pod_are_right(mesh: MeshName, pods: int) -> None:
    told = Shop11(mesh, pods_ready=pods)
    findings = run(findings_of("11", told))

    assert len(findings) == 4
    assert all(each.is_right for each in findings), findings
    assert told.cancelled == 1, "what a check has bought is for sale again"


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (Shop11(rate=600), r"of 1[56]\d\d requests in 4 s 1[56]\d\d were accepted and 0 refused"),
        (
            Shop11(rate=40),
            r"requests in 4 s \d+ were accepted and \d+ refused, not 10 a second",
        ),
        (Shop11(rate=1), "10 customers, four a second, are refused"),
        (Shop11(has_one_limit=True), "[1-6] of 6 other pages are refused"),
        (Shop11(rate=600, takes_ms=500), "too few were sent to test the limit"),
        (Shop11(error=503), r"some got \[503\]"),
        (Shop11(pods_ready=0), "no pod of the catalogue is ready"),
        (Shop11(order=429), r"a customer cannot buy \(the answer is 429\)"),
    ],
)
def test_another_rate_is_told(told: Shop11, sentence: str) -> None:
    wrong = [each for each in run(findings_of("11", told)) if not each.is_right]

    assert any(re.search(sentence, each.what) for each in wrong), wrong
    assert all(each.look for each in wrong), "it says where to look"
