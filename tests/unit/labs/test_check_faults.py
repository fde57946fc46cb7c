"""What the check of lab 09 says, with a shop that behaves as it is told."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from labs.chance import is_about
from labs.finding import Finding, right, wrong
from labs.meshed import Probed
from labs.visitor import Answer
from tests.testkit.chance import chance_of
from tests.unit.labs.fake import PretendedShop, findings_of
from tools.mesh.render import MeshName

CALLS = 700
_FAILED = Probed("failed", "UNAVAILABLE", "")
_ANSWERED = Probed("answered", "INVALID_ARGUMENT", "")


@dataclass
class Shop09(PretendedShop):
    """A shop in a mesh.

    :ivar authorize: how many of 700 calls to payment's Authorize fail, and `capture` of those to
        its Capture.
    :ivar order: the status of an order's answer, and `page` of another page's.
    """

    authorize: int = 210
    capture: int = 210
    has_payment: bool = True
    page: int = 200
    do_books_agree: bool = True

    async def pods(self, workload: str) -> list[Any]:
        assert workload == "payment-service"
        return [{}] if self.has_payment else []

    async def probe(
        self, pod: str, container: str, requests: Sequence[Mapping[str, Any]]
    ) -> list[Probed]:
        rpcs = [each["rpc"].rpartition("/")[2] for each in requests]
        assert Counter(rpcs) == {"Authorize": CALLS, "Capture": CALLS}
        left = {"Authorize": self.authorize, "Capture": self.capture}
        probed: list[Probed] = []
        for rpc in rpcs:
            left[rpc] -= 1
            probed.append(_FAILED if left[rpc] >= 0 else _ANSWERED)
        return probed

    async def send(self, method: str, path: str) -> Answer:
        return Answer(self.page, None, None)

    async def audit(self) -> Finding:
        return right("the books agree") if self.do_books_agree else wrong("they do not", "them")


def passing(share: float) -> float:
    """The chance that one of the two RPCs looks right with a share."""
    counts = [count for count in range(CALLS + 1) if is_about(count, 0.3, of=CALLS)]
    return math.fsum(chance_of(count, CALLS, share) for count in counts)


def test_chance_decides_nothing() -> None:
    assert passing(0.3) ** 2 > 0.999
    assert passing(0.15) < 0.001, "of one RPC alone, too"
    assert passing(0.2) ** 2 < 0.001


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
@pytest.mark.parametrize(("authorize", "capture"), [(210, 210), (170, 250)])
async def test_the_experiment_as_it_was_meant_is_right(
    mesh: MeshName, authorize: int, capture: int
) -> None:
    told = Shop09(mesh, authorize, capture)
    findings = await findings_of("09", told)

    assert len(findings) == 5
    assert all(each.is_right for each in findings), findings
    assert told.cancelled == 5, "what a check has bought is for sale again"


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (Shop09(authorize=0, capture=0), "^0 of 700 calls to payment's Authorize fail, not about"),
        (Shop09(authorize=0), "^0 of 700 calls to payment's Authorize fail, not about 210"),
        (Shop09(capture=0), "^0 of 700 calls to payment's Capture fail, not about 210"),
        (Shop09(authorize=63, capture=63), "63 of 700 calls"),  # three in ten, each tried again
        (Shop09(authorize=700, capture=700), "700 of 700 calls"),
        (Shop09(has_payment=False, authorize=700), "payment has no pod"),
        (Shop09(order=503), "only 0 of 5 customers have their order"),
        (Shop09(page=503), "10 of 10 other pages fail too"),
        (Shop09(do_books_agree=False), "they do not"),
    ],
)
async def test_another_one_is_told(told: Shop09, sentence: str) -> None:
    wrong_ones = [each for each in await findings_of("09", told) if not each.is_right]

    assert any(re.search(sentence, each.what) for each in wrong_ones), wrong_ones
    assert all(each.look for each in wrong_ones), "it says where to look"
