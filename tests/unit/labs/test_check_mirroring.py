"""What the check of lab 13 says, with a shop that behaves as it is told."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from labs.meshed import Done
from tests.unit.labs.fake import PretendedShop, findings_of
from tests.unit.labs.skipping_loop import run


@dataclass
class Shop13(PretendedShop):
    """A shop in Istio.

    :ivar copied: how many of a hundred requests v2 gets a copy of.
    :ivar late: for how many looks the last copy is still under way.
    :ivar customers: how many of a hundred v2 answers, and `pages` of those who look at pages.
    :ivar single: how many of a hundred requests for one product v2 gets a copy of.
    """

    copied: int = 100
    late: int = 0
    customers: int = 0
    pages: int = 0
    single: int = 100
    pods_of_v2: int = 1
    asked: int = 7

    async def pods(self, workload: str) -> list[Any]:
        names = ["v1", *["v2"] * self.pods_of_v2]
        return [{"metadata": {"name": name, "labels": {"version": name}}} for name in names]

    async def versions(self, count: int, *, path: str) -> Counter[str]:
        copied = self.copied if "?" in path else self.single
        self.asked += count * (copied + self.customers) // 100
        self.late *= -1  # from now on it counts
        return +Counter({"v1": count * (100 - self.customers) // 100, "v2": count * self.customers})

    async def versions_behind_pages(self, count: int) -> Counter[str]:
        v2 = count * self.pages // 100
        return +Counter({"v1": count - v2, "v2": v2})

    async def done(self, pod: str, container: str, operation: str) -> Done:
        assert (pod, container) == ("v2", "product")
        assert operation in {"GET /api/products", "GET /api/products/{product_id}"}
        is_under_way = self.late < 0
        self.late += is_under_way
        return Done(self.asked + self.late if is_under_way else self.asked, 0.0)


@pytest.mark.parametrize("late", [0, 3])
def test_a_copy_of_each_request_is_right(late: int) -> None:
    findings = run(findings_of("13", Shop13(late=late)))

    assert len(findings) == 7
    assert all(each.is_right for each in findings), findings


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (Shop13(copied=0), "v2 got 0 copies of 60 requests"),
        (Shop13(copied=10), "v2 got 6 copies of 60 requests"),
        (
            Shop13(copied=0, customers=50),
            "answered 30 times v1 and .* times v2 at /api/products: v2 is not for them",
        ),
        (Shop13(single=0), "0 copies of 60 requests at /api/products/linen-tea-towels"),
        (Shop13(pages=50), "what 20 pages request .* 10 times v1 and 10 times v2: v2 is not for"),
        (Shop13(pods_of_v2=0), "v2 has 0 ready pods"),
    ],
)
def test_what_is_wrong_is_told(told: Shop13, sentence: str) -> None:
    wrong = [each for each in run(findings_of("13", told)) if not each.is_right]

    assert any(re.search(sentence, each.what) for each in wrong), wrong
    assert all(each.look for each in wrong), "it says where to look"
