"""Lab 17: each fault changes something and is taken back; the check tells a fixed shop from one
that is broken, slow or open to everybody; the score is what was lost.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from labs.commands import Commands
from labs.crowd import Crowd
from labs.errors import CommandFailed, LabError
from labs.finding import are_all_right
from labs.lab import all_labs, lab_named
from labs.meshed import MeshedShop, Probed
from labs.visitor import Answer
from tests.unit.labs.fake import FakeCluster, Object, PretendedShop, findings_of
from tools.mesh.render import TRAEFIK, MeshName, Shop

_LAB = lab_named(all_labs(), "17")
_MODULE: Any = sys.modules[type(_LAB.meshed).__module__]
_SEEDS = [(mesh, seed) for mesh, faults in _MODULE.FAULTS.items() for seed in range(len(faults))]
CAME_S = 1_800_000_000


def where(mesh: MeshName) -> Shop:
    return Shop(mesh=mesh, gateway=TRAEFIK) if mesh == "linkerd" else Shop()


@dataclass
class Shop17(PretendedShop):
    """A shop that answers as it is told.

    :ivar orders: the statuses of orders, one after the other; the last again and again.
    :ivar opened: who answers frontend without being allowed to.
    :ivar plain: whether the outsider is answered by all; None where there is none.
    :ivar log: of the customers; None where their pod is not there.
    """

    seed: int = 0
    orders: Sequence[int] = (201,)
    page: int = 200
    opened: int | None = None
    plain: bool | None = False
    log: str | None = f"0 {CAME_S} lost at the order: 503\n1 {CAME_S + 60} served\n"
    guests: int = 0
    _placed: int = 0

    @property
    def where(self) -> Shop:
        return where(self.mesh)

    def leave(self) -> None:
        self.guests += 1

    async def send(self, method: str, path: str) -> Answer:
        return Answer(self.page, None, None)

    async def buy(self) -> Answer:
        self._placed += 1
        status = self.orders[min(self._placed, len(self.orders)) - 1]
        return Answer(status, {"order_id": "ord_1"}, None)

    async def probe(
        self, pod: str, container: str, requests: Sequence[Mapping[str, Any]]
    ) -> list[Probed]:
        if pod == "outsider":
            if self.plain is None:
                raise CommandFailed('pods "outsider" not found')
            return [Probed("answered" if self.plain else "failed", "", "")] * len(requests)
        return [
            Probed("answered" if position == self.opened else "denied", "", "")
            for position in range(len(requests))
        ]

    async def kubectl(self, *arguments: str) -> str:
        if self.log is None:
            raise CommandFailed("pods not found")
        return self.log


@pytest.mark.parametrize(("mesh", "seed"), _SEEDS)
async def test_a_fixed_shop_names_the_fault(mesh: MeshName, seed: int) -> None:
    told = Shop17(mesh, seed + 10 * len(_MODULE.FAULTS[mesh]))

    findings = await findings_of(_LAB, told)

    assert are_all_right(findings)
    assert told.guests == 6, "each customer is another one"
    # A minute costs nothing that was not lost: the last who was lost came at the first moment.
    assert (
        findings[-2].what == "score 99 of 100: 1 of 2 customers were lost, fixed after 0.0 minutes"
    )
    assert findings[-1].what.startswith(f"the fault was: {_MODULE.FAULTS[mesh][seed].told} (seed ")


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (Shop17(orders=(503,)), r"the first was lost at the log-in or the order: 503"),
        (Shop17(orders=(201, 201, 202)), r"the third was lost at the log-in or the order: 202"),
        (Shop17(orders=(201, 201, 201, 0)), r"the 4th was lost at the log-in or the order: 0"),
        (Shop17(page=503), r"the first was lost at the catalogue: 503"),
        (
            Shop17(opened=0),
            "the shop was opened: payment answered calls that frontend may not make",
        ),
        (
            Shop17(opened=3),
            "the shop was opened: product answered calls that frontend may not make",
        ),
        (
            Shop17(plain=True),
            "the shop was opened: .* inventory .*answered a caller without",
        ),
        (Shop17(plain=None), "the pod outsider does not run"),
        (Shop17(log=""), "no customer has come yet"),
    ],
)
async def test_what_is_wrong_is_told_and_the_fault_is_not(told: Shop17, sentence: str) -> None:
    findings = await findings_of(_LAB, told)

    wrong = [each for each in findings if not each.is_right]
    assert any(re.search(sentence, each.what) for each in wrong), wrong
    assert all(each.look for each in wrong)
    fault = _MODULE.FAULTS["istio"][0].told
    assert not any(fault in f"{each.what}{each.look}" for each in findings)


async def test_a_slow_shop_is_not_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_MODULE, "_SLOW_SECONDS", -1.0)

    (first, *_) = await findings_of(_LAB, Shop17())

    assert "was lost at an order that took 0 s" in first.what


async def test_without_its_customers_a_lab_cannot_be_passed() -> None:
    with pytest.raises(
        LabError, match="nobody knows what became of the customers: start the lab again"
    ):
        await findings_of(_LAB, Shop17(log=None))


def test_the_score_is_what_was_lost() -> None:
    came_s = [CAME_S + 3 * number for number in range(200)]
    lost = [(each_s, "at the order: 503") for each_s in came_s[:41]]
    crowd = Crowd(came_s, lost)

    assert _MODULE.scored(crowd, until_s=None) == (
        87,  # two minutes, and 41 customers, which are eleven times four
        "41 of 200 customers were lost, fixed after 2.0 minutes",
    )
    assert _MODULE.scored(crowd, until_s=CAME_S + 300) == (
        84,
        "41 of 200 customers were lost, not fixed after 5.0 minutes",
    )
    # The stream has ended long ago, and nobody is lost any more.
    assert _MODULE.scored(crowd, until_s=CAME_S + 9000)[0] == 100 - 10 - 11
    everybody = Crowd(came_s, [(each_s, "at the catalogue: 0") for each_s in came_s])
    assert _MODULE.scored(everybody, until_s=CAME_S + 9000)[0] == 40
    nobody = Crowd(came_s, [])
    assert _MODULE.scored(nobody, until_s=None)[0] == 100


@dataclass
class Changed:
    """A shop of which nothing is there but what a fault changes: see :class:`MeshedShop`."""

    shop: MeshedShop
    put: list[Object] = field(default_factory=list[Object])
    said: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])

    def of_base(self, kind: str, name: str) -> Object:
        return self.shop.of_base(kind, name)

    async def put_back(self, each: Object) -> None:
        self.put.append(each)

    async def kubectl(self, *arguments: str) -> str:
        self.said.append(arguments)
        return ""


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize(("mesh", "seed"), _SEEDS)
async def test_each_fault_breaks_something_and_is_taken_back(mesh: MeshName, seed: int) -> None:
    fault = _MODULE.FAULTS[mesh][seed]
    changed = Changed(MeshedShop(cast("Commands", FakeCluster()), where(mesh)))

    await fault.break_it(changed)
    await fault.mend(changed)

    if isinstance(fault, _MODULE.OfBase):
        broken, fixed = changed.put
        assert fixed == changed.of_base(fault.kind, fault.name)
        assert broken != fixed
        assert broken["metadata"]["name"] == fixed["metadata"]["name"]
        assert not changed.said
    else:
        assert list(fault.breaks) != list(fault.mends)
        assert tuple(fault.breaks) in changed.said
        assert tuple(fault.mends) in changed.said
        assert not changed.put


def test_a_service_is_given_its_selector_back() -> None:
    assert json.loads(_MODULE._selector(None)) == {"spec": {"selector": {"version": None}}}


def test_there_are_five_faults_and_more_in_each_mesh() -> None:
    for faults in _MODULE.FAULTS.values():
        assert len({fault.told for fault in faults}) == len(faults) >= 5


async def test_a_check_takes_no_longer_than_it_must() -> None:
    async with asyncio.timeout(5):
        await findings_of(_LAB, Shop17(orders=(503,)))
