"""Lab 16: the check tells who is still out of the mesh, what is still open, and that customers were
lost; the solution changes the pods first, and closes when the old ones have gone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from labs.lab import all_labs, lab_named
from labs.meshed import MeshedShop, Probed
from tests.unit.labs.fake import PretendedShop, findings_of
from tools.mesh.render import TRAEFIK, MeshName, Shop

_LAB: Any = lab_named(all_labs(), "16")
_MODULE: Any = sys.modules[type(_LAB.meshed).__module__]
LATER_S = 4_000_000_000


def log(count: int, lost: int = 0, *, first: int = 0) -> str:
    """Customers from a number on, who come after each check."""
    ends = ["lost at the order: 503"] * lost + ["served"] * (count - lost)
    return "".join(
        f"{first + number} {LATER_S + number} {end}\n" for number, end in enumerate(ends)
    )


@dataclass
class Shop16(PretendedShop):
    """A shop that answers as it is told.

    :ivar left: the policies that the lab has made, and that are still there.
    :ivar stock: what comes of asking inventory from outside of the mesh, and `database` of MongoDB.
    :ivar pods_before: the containers of inventory's pods, by how often somebody looks; the last
        for ever after.
    """

    stock: str = "failed"
    database: str = "failed"
    left: Sequence[str] = ()
    log: str = field(default_factory=lambda: log(60, 1))
    pods_before: Sequence[Sequence[Sequence[str]]] = ()
    said: list[str] = field(default_factory=list[str])
    _looks: int = 0

    @property
    def where(self) -> Shop:
        return Shop(mesh=self.mesh, gateway=TRAEFIK) if self.mesh == "linkerd" else Shop()

    async def probe(
        self, pod: str, container: str, requests: Sequence[Mapping[str, Any]]
    ) -> list[Probed]:
        assert (pod, container, len(requests)) == ("customers", "customers", 2)
        return [Probed(cast("Any", each), "", "") for each in (self.stock, self.database)]

    async def kubectl(self, *arguments: str) -> str:
        self.said.append(" ".join(arguments))
        return self.log

    async def objects(self, kinds: str, selector: str) -> list[Any]:
        if selector == "meshmart/lab=16":
            assert kinds.startswith("authorizationpolicies.")
            return [{"metadata": {"name": name}} for name in self.left]
        assert (kinds, selector) == ("pods", "app.kubernetes.io/name=inventory-service")
        now = self.pods_before[min(self._looks, len(self.pods_before) - 1)]
        self._looks += 1
        self.said.append(f"there are {len(now)} pods")
        return [
            {
                "spec": {
                    "containers": [{"name": "inventory"}],
                    "initContainers": [{"name": name} for name in names],
                }
            }
            for names in now
        ]


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
async def test_a_closed_shop_whose_customers_were_served_is_right(mesh: MeshName) -> None:
    findings = await findings_of(_LAB, Shop16(mesh, database="denied"))

    assert len(findings) == 6
    assert all(each.is_right for each in findings), findings
    assert "59 of 60 customers were served meanwhile" in [each.what for each in findings]


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (Shop16(stock="answered"), "inventory answers a caller outside the mesh"),
        (Shop16(database="answered"), "MongoDB answers a caller outside the mesh"),
        (Shop16(left=["mongodb-for-inventory"]), "a policy is left .*: mongodb-for-inventory"),
        (Shop16(order=503), r"a customer cannot buy \(the answer is 503\)"),
        (Shop16(log=log(60, 2)), r"2 of 60 customers were lost meanwhile \(2 at the order: 503\)"),
    ],
)
async def test_what_is_open_or_lost_is_told(told: Shop16, sentence: str) -> None:
    wrong = [each for each in await findings_of(_LAB, told) if not each.is_right]

    assert len(wrong) == 1
    assert re.search(sentence, wrong[0].what)
    assert wrong[0].look


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "0 customers were served or lost, 0 still wait"),
        (log(5), "5 customers were served or lost, 0 still wait"),
        (log(30, first=1), "30 customers were served or lost, 1 still wait"),
    ],
)
async def test_without_enough_customers_it_is_not_passed(
    text: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_MODULE, "_KNOWN_SECONDS", 0.0)
    monkeypatch.setattr(_MODULE, "eventually", _at_once)

    wrong = [each for each in await findings_of(_LAB, Shop16(log=text)) if not each.is_right]

    assert [each.what for each in wrong] == [sentence]


async def _at_once(look: Any, *_: Any, **__: Any) -> None:
    """Looks once."""
    await look()


@pytest.mark.parametrize(
    ("mesh", "proxy", "asks"),
    [
        ("istio", "istio-proxy", '{"labels": {"sidecar.istio.io/inject": "true"}}'),
        ("linkerd", "linkerd-proxy", '{"annotations": {"linkerd.io/inject": "enabled"}}'),
    ],
)
async def test_it_is_closed_when_the_old_pod_has_gone(
    mesh: MeshName, proxy: str, asks: str
) -> None:
    told = Shop16(mesh, pods_before=([[proxy], []], [[proxy]]))

    await _LAB.meshed.solve(cast("MeshedShop", told))

    patch, status, *looks, closing = told.said
    assert patch.startswith("patch deployment inventory-service ")
    assert asks in patch
    assert status.startswith("rollout status deployment/inventory-service")
    assert looks == ["there are 2 pods", "there are 1 pods"]
    assert closing.startswith("delete ")
    assert closing.endswith("--selector meshmart/lab=16")
