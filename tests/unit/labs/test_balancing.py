"""Lab 05: what its check says of pods that have all the work, and of users who have no pod."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import pytest

from labs.visitor import Answer
from services.common.call_record import Call, Served
from tests.unit.labs.fake import PretendedShop, findings_of


@dataclass
class Shop05(PretendedShop):
    """A shop in a mesh, and somebody at its gateway.

    :ivar everybody: which pods tell people the stock whom nobody knows, in turn; an empty name is
        no answer.
    :ivar users: the same for the pages of users: by user, in turn.
    """

    replicas: int = 3
    everybody: tuple[str, ...] = ("a", "b", "c")
    users: tuple[tuple[str, ...], ...] = (("a",), ("b",), ("c",))
    guest: int = 201
    _turns: Iterator[str] = field(init=False)
    _of_user: dict[str, Iterator[str]] = field(default_factory=dict[str, Iterator[str]])

    def __post_init__(self) -> None:
        self._turns = cycle(self.everybody)

    async def pods(self, workload: str) -> list[Any]:
        assert workload == "inventory-service"
        return [{}] * self.replicas

    async def send(
        self, method: str, path: str, *, json: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        if path == "/api/auth/guest":
            name = str(len(self._of_user))
            self._of_user[name] = cycle(self.users[int(name) % len(self.users)])
            return Answer(self.guest, {"access_token": name}, None)
        if headers is None:
            return self._told_by(next(self._turns))
        return self._told_by(next(self._of_user[headers["cookie"].rpartition("=")[2]]))

    def _told_by(self, pod: str) -> Answer:
        """A page, which product has asked inventory for."""
        stock = (Call("inventory", "GetStock", "v1", pod, 1.0, "ok"),) if pod else ()
        product = Call("product", "GET /api/products", "v1", "product", 2.0, "200", stock)
        return Answer(200, None, Served("frontend", "stable", "frontend", 3.0, (product,)))


@pytest.mark.parametrize(
    "told",
    [Shop05(), Shop05(everybody=("a", "a", "b")), Shop05("linkerd", users=(("a", "b"),))],
    ids=["istio", "one-that-always-wins", "linkerd-has-no-affinity"],
)
async def test_what_is_right_is_told_right(told: Shop05) -> None:
    findings = await findings_of("05", told)

    assert len(findings) == (5 if told.mesh == "istio" else 4)
    assert all(each.is_right for each in findings), findings
    assert told.cancelled == 1, "what a check has bought is for sale again"


_BROKEN = [
    (Shop05(everybody=("a",)), "90 of 90 requests for the stock were answered by one of 3"),
    (
        Shop05(everybody=("a",) * 9 + ("b",)),
        "81 of 90 requests for the stock were answered by one",
    ),
    (Shop05(everybody=("a", "")), "45 of 90 requests for the stock got no answer"),
    (Shop05(users=(("a",), ("a", "b"))), "of 12 customers 6 were answered by more than one"),
    (Shop05(users=(("b",),)), "all of 12 customers are answered by the same inventory pod"),
    (Shop05(users=(("a",), ("",))), "a customer's page came without the stock"),
    (Shop05(guest=503), "a customer's page came without the stock, or not at all"),
    (Shop05(replicas=1), "ready pods of inventory: 1, not 3 or more"),
    (Shop05(order=503), r"a customer cannot buy \(the answer is 503\)"),
]


@pytest.mark.parametrize(("told", "sentence"), _BROKEN, ids=map(str, range(len(_BROKEN))))
async def test_what_is_wrong_is_told_wrong(told: Shop05, sentence: str) -> None:
    wrong = [each for each in await findings_of("05", told) if not each.is_right]

    assert any(re.search(sentence, each.what) for each in wrong), wrong
    assert all(each.look for each in wrong), "it says where to look"
