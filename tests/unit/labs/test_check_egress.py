"""What the check of lab 12 says, with a shop that behaves as it is told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from labs.meshed import Probed
from tests.unit.labs.fake import PretendedShop, findings_of
from tools.mesh.render import MeshName, Shop

_CARRIER = "carrier.example.com"
_NO = Probed("failed", "connection refused", "")


@dataclass
class Shop12(PretendedShop):
    """A shop in a mesh.

    :ivar reached: by service, whom it reaches: "carrier", "sandbox" by its name (in Istio), and
        "elsewhere.example.com" and "elsewhere.example.net" by a host that no rule lists.
    """

    reached: Mapping[str, set[str]] = field(default_factory=lambda: {"shipping": {"carrier"}})
    has_pods: bool = True

    @property
    def where(self) -> Shop:
        return Shop(mesh=self.mesh, stripe_namespace="student-07-stripe")

    async def pods(self, workload: str) -> list[Any]:
        return [{}] if self.has_pods else []

    async def probe(
        self, pod: str, container: str, requests: Sequence[Mapping[str, Any]]
    ) -> list[Probed]:
        assert pod == f"deployment/{container}-service"
        reached = self.reached.get(container, set())
        return [
            Probed("answered", "200", "") if _whom(each) in reached else _NO for each in requests
        ]


def _whom(request: Mapping[str, Any]) -> str:
    host = request.get("headers", {}).get("host") or request["url"].split("/")[2]
    if host.startswith("stripe-sandbox."):
        return "sandbox"
    return "carrier" if host == _CARRIER else host


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
async def test_one_partner_and_nobody_else_is_right(mesh: MeshName) -> None:
    told = Shop12(mesh)
    findings = await findings_of("12", told)

    assert len(findings) == 5
    assert all(each.is_right for each in findings), findings
    assert told.cancelled == 1, "what a check has bought is for sale again"


_ALL = {"carrier", "sandbox", "elsewhere.example.com", "elsewhere.example.net"}
_PARTNER = {"shipping": {"carrier"}}


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (Shop12(reached={"shipping": _ALL}), r"shipping reaches stripe-sandbox.student-07-stripe"),
        (
            Shop12("linkerd", {"shipping": _ALL}),
            "shipping reaches elsewhere.example.com and elsewhere.example.net, too",
        ),
        # Closed by its name, and open to every other name.
        (
            Shop12(reached={"shipping": _ALL - {"sandbox"}}),
            "^shipping reaches elsewhere.example.com, too",
        ),
        (
            Shop12("linkerd", {"shipping": {"carrier", "elsewhere.example.net"}}),
            "^shipping reaches elsewhere.example.net, too",
        ),
        (Shop12(reached={}), "shipping does not reach the carrier"),
        (
            Shop12(reached=_PARTNER | {"product": {"carrier"}}),
            "product reaches carrier.example.com",
        ),
        (
            Shop12("linkerd", _PARTNER | {"product": _ALL}),
            "product reaches elsewhere.example.com and",
        ),
        (Shop12(has_pods=False), "shipping-service has no ready pod"),
        (Shop12(order=503), r"a customer cannot buy \(the answer is 503\)"),
    ],
)
async def test_another_way_out_is_told(told: Shop12, sentence: str) -> None:
    wrong = [each for each in await findings_of("12", told) if not each.is_right]

    assert any(re.search(sentence, each.what) for each in wrong), wrong
    assert all(each.look for each in wrong), "it says where to look"


async def test_in_linkerd_one_rule_is_for_all_services() -> None:
    told = Shop12("linkerd", _PARTNER | {"product": {"carrier"}})

    assert all(each.is_right for each in await findings_of("12", told))
