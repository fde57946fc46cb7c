"""What the check of lab 08 says, with a shop that behaves as it is told."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from labs.meshed import Done
from tests.unit.labs.fake import PretendedShop, findings_of
from tests.unit.labs.skipping_loop import run
from tools.mesh.render import MeshName


@dataclass
class Shop08(PretendedShop):
    """A shop in a mesh, with two pods of the catalogue.

    :ivar tries: how often the catalogue is asked for each customer.
    :ivar errors: how many of 200 customers get none.
    :ivar seconds: how long the catalogue takes for an answer.
    :ivar failing: the share of its answers that are errors.
    """

    tries: float = 1.1
    errors: int = 2
    seconds: float = 1.01
    failing: float = 0.1
    asked: int = 5

    async def statuses(self, count: int, *, at_once: int) -> Counter[int]:
        assert at_once < count
        self.asked += int(count * self.tries)
        return Counter({200: count - self.errors, 503: self.errors})

    async def pods(self, workload: str) -> list[Any]:
        return [{"metadata": {"name": name}} for name in ("busy", "idle")]

    async def done(self, pod: str, container: str, operation: str) -> Done:
        assert (container, operation) == ("product", "GET /api/products")
        asked = self.asked if pod == "busy" else 0
        return Done(asked, asked * self.seconds, int(asked * self.failing))


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
def test_one_more_try_for_an_error_is_right(mesh: MeshName) -> None:
    findings = run(findings_of("08", Shop08(mesh)))

    assert len(findings) == 3
    assert all(each.is_right for each in findings), findings


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (Shop08(tries=5, errors=200), r"200 customers make 1000 requests .* 5.0 for each"),
        (Shop08(tries=5, errors=0), r"200 customers make 1000 requests"),
        (Shop08(tries=1, errors=20), r"20 of 200 customers do not get .* \(20 times 503\)"),
        (Shop08(seconds=0.01), "got 220 requests, and is not slow any more"),
        (Shop08(failing=0, tries=1, errors=0), "of 200 answers .* 0 are errors, .* was fixed"),
        (Shop08(tries=0, errors=200), "got 0 requests"),
    ],
)
def test_what_is_wrong_is_told(told: Shop08, sentence: str) -> None:
    wrong = [each for each in run(findings_of("08", told)) if not each.is_right]

    assert any(re.search(sentence, each.what) for each in wrong), wrong
    assert all(each.look for each in wrong), "it says where to look"
