"""What the check of lab 09 says, with a shop that behaves as it is told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from labs.finding import Finding, right, wrong
from labs.meshed import Probed
from labs.visitor import Answer
from tests.unit.labs.fake import PretendedShop, findings_of
from tools.mesh.render import MeshName


@dataclass
class Shop09(PretendedShop):
    """A shop in a mesh.

    :ivar fails: how many of 200 calls of payment fail.
    :ivar order: the status of an order's answer, and `page` of another page's.
    """

    fails: int = 60
    has_payment: bool = True
    page: int = 200
    do_books_agree: bool = True

    async def pods(self, workload: str) -> list[Any]:
        assert workload == "payment-service"
        return [{}] if self.has_payment else []

    async def probe(
        self, pod: str, container: str, requests: Sequence[Mapping[str, Any]]
    ) -> list[Probed]:
        assert {each["rpc"].rpartition("/")[2] for each in requests} == {"Authorize", "Capture"}
        failed = [Probed("failed", "UNAVAILABLE", "")] * self.fails
        return [*failed, *[Probed("answered", "INVALID_ARGUMENT", "")] * 200][: len(requests)]

    async def send(self, method: str, path: str) -> Answer:
        return Answer(self.page, None, None)

    async def audit(self) -> Finding:
        return right("the books agree") if self.do_books_agree else wrong("they do not", "them")


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
@pytest.mark.parametrize("fails", [60, 40, 80])
async def test_the_experiment_as_it_was_meant_is_right(mesh: MeshName, fails: int) -> None:
    told = Shop09(mesh, fails)
    findings = await findings_of("09", told)

    assert len(findings) == 4
    assert all(each.is_right for each in findings), findings
    assert told.cancelled == 5, "what a check has bought is for sale again"


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (Shop09(fails=0), "0 of 200 calls of payment fail, not about 60"),
        (Shop09(fails=18), "18 of 200 calls"),  # three in ten, and each tried again
        (Shop09(fails=200), "200 of 200 calls"),
        (Shop09(has_payment=False, fails=200), "payment has no pod"),
        (Shop09(order=503), "only 0 of 5 customers have their order"),
        (Shop09(page=503), "10 of 10 other pages fail, too"),
        (Shop09(do_books_agree=False), "they do not"),
    ],
)
async def test_another_one_is_told(told: Shop09, sentence: str) -> None:
    wrong_ones = [each for each in await findings_of("09", told) if not each.is_right]

    assert any(re.search(sentence, each.what) for each in wrong_ones), wrong_ones
    assert all(each.look for each in wrong_ones), "it says where to look"
