"""What the check of lab 12 says, with a shop that behaves as it is told."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from labs.finding import Finding
from labs.lab import all_labs, lab_named
from labs.meshed import MeshedShop, Probed
from labs.visitor import Answer
from tools.mesh.render import MeshName, Shop

_NO = Probed("failed", "connection refused", "")


@dataclass
class Told:
    """A shop in a mesh.

    :ivar reached: by service, whom of "carrier" and "elsewhere" it reaches.
    """

    mesh: MeshName = "istio"
    reached: Mapping[str, set[str]] = field(default_factory=lambda: {"shipping": {"carrier"}})
    has_pods: bool = True
    order: int = 201
    cancelled: int = 0

    @property
    def where(self) -> Shop:
        return Shop(mesh=self.mesh, stripe_namespace="student-07-stripe")

    @asynccontextmanager
    async def visitor(self) -> AsyncGenerator[Told]:
        yield self

    async def pods(self, workload: str) -> list[Any]:
        return [{}] if self.has_pods else []

    async def probe(
        self, pod: str, container: str, requests: Sequence[Mapping[str, Any]]
    ) -> list[Probed]:
        assert pod == f"deployment/{container}-service"
        reached = self.reached.get(container, set())
        whom = ["carrier" if "carrier" in str(each) else "elsewhere" for each in requests]
        return [Probed("answered", "200", "") if each in reached else _NO for each in whom]

    async def insist(self) -> Answer:
        return Answer(self.order, {"order_id": "ord_1"}, None)

    async def cancel(self, order_id: str) -> Answer:
        self.cancelled += 1
        return Answer(200, None, None)


async def checked(told: Told) -> list[Finding]:
    exercise = lab_named(all_labs(), "12").meshed
    assert exercise is not None
    return [each async for each in exercise.check(cast("MeshedShop", told))]


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
async def test_one_partner_and_nobody_else_is_right(mesh: MeshName) -> None:
    told = Told(mesh)
    findings = await checked(told)

    assert len(findings) == 4
    assert all(each.is_right for each in findings), findings
    assert told.cancelled == 1, "what a check has bought is for sale again"


_ALL = {"carrier", "elsewhere"}
_PARTNER = {"shipping": {"carrier"}}


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (Told(reached={"shipping": _ALL}), r"shipping reaches stripe-sandbox.student-07-stripe"),
        (Told("linkerd", {"shipping": _ALL}), "shipping reaches elsewhere.example.com, too"),
        (Told(reached={}), "shipping does not reach the carrier"),
        (Told(reached=_PARTNER | {"product": {"carrier"}}), "product reaches carrier.example.com"),
        (Told("linkerd", _PARTNER | {"product": _ALL}), "product reaches elsewhere.example.com,"),
        (Told(has_pods=False), "shipping-service has no pod"),
        (Told(order=503), r"a customer cannot buy \(the answer is 503\)"),
    ],
)
async def test_another_way_out_is_told(told: Told, sentence: str) -> None:
    wrong = [each for each in await checked(told) if not each.is_right]

    assert any(re.search(sentence, each.what) for each in wrong), wrong
    assert all(each.look for each in wrong), "it says where to look"


async def test_in_linkerd_one_rule_is_for_all_services() -> None:
    told = Told("linkerd", _PARTNER | {"product": {"carrier"}})

    assert all(each.is_right for each in await checked(told))
