"""The checks of the labs in a mesh, with a shop that behaves as it is told: what they say of the
right state, and of each wrong one. `tests/labs` has the same on a cluster.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from labs.errors import CommandFailed
from labs.meshed import Probed
from labs.visitor import Answer
from services.common.call_record import Call, Served, encode
from tests.unit.labs.fake import PretendedShop, findings_of
from tools.mesh.render import MeshName

_ADDRESS = "10.0.0.9"


def _answered_by(version: str) -> Probed:
    """What comes of a request: from a version, or an error with that status."""
    if version.isdecimal():
        return Probed("failed", f"{version} no healthy upstream", "")
    return Probed("answered", "200", encode(Served("product", version, "product-1", 1.0)))


def _balancers(pending: int) -> str:
    """The metrics of a proxy in Linkerd that say how many pods it may ask. One of shipping's waits,
    and is none of payment's.
    """
    labels = 'endpoint_state="{}",backend_name="{}",backend_port="9000",parent_name="x"'
    counts = (("ready", "payment-service", 2 - pending), ("pending", "payment-service", pending))
    return "\n".join(
        f"outbound_http_balancer_endpoints{{{labels.format(state, name)}}} {count}"
        for state, name, count in (*counts, ("pending", "shipping-service", 1))
    )


@dataclass
class LabShop(PretendedShop):
    """A shop in a mesh, and somebody at its gateway.

    :ivar header: who answers those who ask for v2 by the header, and `cookie` by the cookie.
    :ivar others: how 100 requests of all others are answered, and `behind_pages` those of frontend.
    :ivar order: the status of an order's answer.
    :ivar slow_ms: how long shipping takes.
    :ivar payment: what comes of the RPCs of lab 03's pods, and `databases` of their greeting
        MongoDB. Both also of a service's own pod: "gone" where it has none.
    :ivar sick: how many sick pods there are beside one that is well.
    :ivar asks: how many requests reach the sick pod for an order.
    :ivar ejected: in which looks order's proxy keeps requests from it, one after the other.
    :ivar subset: of payment's pods, to which order sends its requests.
    """

    header: str = "v2"
    cookie: str = "v2"
    others: Mapping[str, int] = field(default_factory=lambda: {"v1": 90, "v2": 10})
    behind_pages: Mapping[str, int] = field(default_factory=lambda: {"v1": 90, "v2": 10})
    slow_ms: float = 10.0
    payment: Mapping[str, str] = field(default_factory=dict[str, str])
    databases: Mapping[str, str] = field(default_factory=dict[str, str])
    sick: int = 1
    is_well: bool = False
    asks: int = 0
    ejected: Sequence[bool] = (True,)
    subset: str = ""
    _looks: int = 0
    _asked: int = 0

    async def versions(
        self, count: int, *, headers: Mapping[str, str] | None = None, at_once: int = 1
    ) -> Counter[str]:
        if headers:
            return Counter({self.header if "canary" in headers else self.cookie: count})
        return Counter({version: share * count // 100 for version, share in self.others.items()})

    versions_behind_pages = versions

    async def insist(self, key: str = "", headers: Mapping[str, str] | None = None) -> Answer:
        self._asked += self.asks
        calls = (Call("shipping", "GetQuotes", "v1", "shipping", self.slow_ms, "ok"),)
        served = Served("order", "v1", "order", self.slow_ms + 1, calls)
        return Answer(self.order, {"order_id": "ord_1"}, served)

    async def probe(
        self, pod: str, container: str, requests: Sequence[Mapping[str, Any]]
    ) -> list[Probed]:
        if "url" in requests[0]:
            return [
                _answered_by(version)
                for version, share in self.behind_pages.items()
                for _ in range(share * len(requests) // 100)
            ]
        is_service = container != "shell"
        who = container if is_service else pod.removeprefix("taken-over-")
        allowed = "answered" if is_service or who == "shipping" else "failed"
        database = self.databases.get(who, allowed)
        if database == "gone":
            raise CommandFailed(f"{pod}: no pods")
        rpc = self.payment.get(who, "denied")
        outcomes = [database] if is_service else [rpc, rpc, rpc, "denied", database]
        assert len(outcomes) == len(requests)
        return [Probed(cast("Any", each), "", "") for each in outcomes]

    async def pods(self, workload: str) -> list[Any]:
        labels = {"istio": {"sick": "true"}, "linkerd": {"version": "sick"}}[self.mesh]
        sick = {"metadata": {"labels": {"version": "v1", **labels}}, "status": {"podIP": _ADDRESS}}
        well = {"metadata": {"labels": {"version": "v1"}}, "status": {"podIP": "10.0.0.1"}}
        return [well, *([sick] * self.sick)]

    async def objects(self, kinds: str, selector: str) -> list[Any]:
        assert "sick=true" in selector
        return (await self.pods(""))[1:]

    async def kubectl(self, *arguments: str) -> str:
        if "logs" in arguments:
            return "failed /meshmart.payment.v1.PaymentService/Authorize\n" * self._asked
        if "test" in arguments:
            if self.is_well:
                return ""
            raise CommandFailed("status 1")
        is_ejected = self.ejected[self._looks % len(self.ejected)]
        if "python" in arguments:
            self._looks += 1
            return _balancers(int(is_ejected))
        self._looks += 1
        hosts = [
            {
                "address": {"socket_address": {"address": address}},
                "health_status": {"failed_outlier_check": is_ejected and address == _ADDRESS},
                "stats": [{"name": "rq_error", "value": "7"}, {"name": "rq_total", "value": total}],
            }
            for address, total in ((_ADDRESS, str(self._asked)), ("10.0.0.1", "99"))
        ]
        name = f"outbound|9000|{self.subset}|payment-service.ecommerce.svc.cluster.local"
        return json.dumps({"cluster_statuses": [{"name": name, "host_statuses": hosts}]})


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
@pytest.mark.parametrize("lab", ["01", "03", "06", "10"])
async def test_what_is_right_is_told_right(lab: str, mesh: MeshName) -> None:
    told = LabShop(mesh)
    findings = await findings_of(lab, told)

    assert findings
    assert all(each.is_right for each in findings), findings
    if lab != "06":
        assert told.cancelled > 0, "what a check has bought is for sale again"


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
async def test_a_pod_that_is_tried_again_now_and_then_is_ejected(mesh: MeshName) -> None:
    told = LabShop(mesh, ejected=(False, False, False, True))

    assert all(each.is_right for each in await findings_of("10", told))


_BROKEN = [
    ("01", LabShop(slow_ms=510), r"3 calls for 3 orders took more than 300 ms"),
    ("01", LabShop(order=503), "only 0 of 3 orders were placed"),
    (
        "03",
        LabShop(payment={"frontend": "answered"}),
        "a taken-over frontend gets an answer from .* RPCs",
    ),
    (
        "03",
        LabShop(payment={"shipping": "answered"}),
        "a taken-over shipping gets an answer from .* RPCs",
    ),
    ("03", LabShop(payment={"frontend": "failed"}), "frontend does not reach payment"),
    ("03", LabShop(databases={"frontend": "answered"}), "MongoDB answers a taken-over frontend"),
    ("03", LabShop(payment={"intruder": "answered"}), "a stranger of the namespace gets an answer"),
    ("03", LabShop(databases={"intruder": "answered"}), "MongoDB answers a stranger"),
    (
        "03",
        LabShop(databases={"notification": "failed", "user": "gone"}),
        "MongoDB does not answer services that keep a database: user, notification",
    ),
    ("03", LabShop(order=503), r"a customer cannot buy \(the answer is 503\)"),
    ("06", LabShop(header="v1"), "of 20 requests with the header, 20 are answered by v1, not all"),
    ("06", LabShop(cookie="503"), "of 20 requests with the cookie, 20 fail with 503, not all by"),
    ("06", LabShop(others={"v1": 90, "503": 10}), "of 1500 requests at /api, 150 fail with 503 an"),
    ("06", LabShop(others={"v1": 95, "v2": 5}), "^75 of 1500 requests at /api are answered by v2"),
    ("06", LabShop(behind_pages={"v1": 100}), "^0 of 1500 requests that frontend makes for pages"),
    ("06", LabShop(behind_pages={"v1": 95, "v2": 5}), "^75 of 1500 requests that frontend makes"),
    ("06", LabShop(behind_pages={"v1": 90, "503": 10}), "pages, 150 fail with 503 and 1350 are an"),
    (
        "06",
        LabShop(others={"v2": 100}),
        "1500 of 1500 requests at /api are answered by v2, not about",
    ),
    (
        "06",
        LabShop(others={"v1": 100}),
        "^0 of 1500 requests at /api are answered by v2, not about 150",
    ),
    ("06", LabShop(others={"v1": 50, "v2": 50}), "^750 of 1500 requests at /api are answered"),
    ("10", LabShop(asks=2), "the sick pod is still used: 12 requests reached it during 6 orders"),
    ("10", LabShop("linkerd", asks=1), "the sick pod is still used: 6 requests reached it"),
    ("10", LabShop(asks=2, subset="v1"), "the sick pod is still used: 12 requests reached it"),
    ("10", LabShop(ejected=(False,)), "not because it failed: order's proxy has not ejected it"),
    (
        "10",
        LabShop("linkerd", ejected=(False,)),
        "order's proxy has not ejected it, and would use",
    ),
    ("10", LabShop(sick=0), "payment does not have a sick pod and a healthy one"),
    ("10", LabShop("linkerd", sick=0), "payment does not have a sick pod and a healthy one"),
    (
        "10",
        LabShop("linkerd", is_well=True),
        "payment does not have a sick pod and a healthy one",
    ),
    ("10", LabShop(order=503), "only 0 of 12 orders were paid"),
]


@pytest.mark.parametrize(("lab", "told", "sentence"), _BROKEN, ids=map(str, range(len(_BROKEN))))
async def test_what_is_wrong_is_told_wrong(lab: str, told: LabShop, sentence: str) -> None:
    wrong = [each for each in await findings_of(lab, told) if not each.is_right]

    assert any(re.search(sentence, each.what) for each in wrong), wrong
    assert all(each.look for each in wrong), "it says where to look"
