"""What the check of lab 14 says of orders whose steps are quick or slow, and of logs that tell of
their trace or not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from labs.lab import all_labs, lab_named
from labs.records import all_calls, own_milliseconds
from labs.visitor import Answer
from services.common.call_record import Call, Served
from tests.unit.labs.fake import PretendedShop, findings_of

SERVICES = ("order", "user", "product", "inventory", "payment", "shipping")


@dataclass
class Shop14(PretendedShop):
    """A shop whose orders take as long as it is told.

    :ivar commit_ms: how long that step takes, one order after the other.
    :ivar stripe_ms: how long payment waits for Stripe.
    :ivar stock_ms: how long the catalogue waits for the stock.
    :ivar telling: whose logs tell of a trace, and `seldom` who tells of the first one alone.
    """

    commit_ms: tuple[float, ...] = (10.0,)
    stripe_ms: float = 10.0
    stock_ms: float = 10.0
    telling: tuple[str, ...] = SERVICES
    seldom: tuple[str, ...] = ()
    traces: list[str] = field(default_factory=list[str])

    async def insist(self, key: str = "", headers: Mapping[str, str] | None = None) -> Answer:
        assert headers is not None
        version, trace, _, flags = headers["traceparent"].split("-")
        assert (version, flags) == ("00", "01")
        commit_ms = self.commit_ms[len(self.traces) % len(self.commit_ms)]
        self.traces.append(trace)
        stripe = Call("stripe", "POST /v1/payment_intents", "", "", self.stripe_ms, "200")
        calls = (
            Call("payment", "Authorize", "v1", "payment", self.stripe_ms + 5, "ok", (stripe,)),
            Call("inventory", "Commit", "v1", "inventory", commit_ms, "ok"),
        )
        served = Served("order", "v1", "order", 1000, calls)
        return Answer(self.order, {"order_id": "ord_1"}, served)

    async def send(self, method: str, path: str) -> Answer:
        assert (method, path) == ("GET", "/api/products?limit=1")
        calls = (Call("inventory", "GetStock", "v1", "inventory", self.stock_ms, "ok"),)
        return Answer(200, None, Served("product", "v1", "product", 20, calls))

    async def kubectl(self, *arguments: str) -> str:
        assert arguments[0] == "logs"
        lines = [
            json.dumps({"event": "grpc.served", "trace_id": trace, "service": f"{name}-service"})
            for trace in self.traces
            for name in self.telling
            if name not in self.seldom or trace == self.traces[0]
        ]
        return "\n".join(["[warning] a proxy", *lines, f"a proxy: {self.traces[-1]}"])


@pytest.mark.parametrize(
    "told",
    [
        Shop14(),
        # Chance makes single orders slow.
        Shop14(commit_ms=(900.0, 800.0, 20.0, 700.0)),
    ],
)
async def test_quick_steps_and_logs_that_tell_are_right(told: Shop14) -> None:
    findings = await findings_of("14", told)

    assert len(findings) == 5
    assert all(each.is_right for each in findings), findings
    assert len(set(told.traces)) == 4, "each order is a trace of its own"


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (Shop14(commit_ms=(810.0, 1200.0)), "one step of each order takes 810 ms or more"),
        (Shop14(commit_ms=(400.0,)), "one step of each order takes 400 ms or more"),
        (Shop14(stock_ms=800.0), "one call for the catalogue takes 800 ms or more: the fault has"),
        (Shop14(stripe_ms=900.0), "one step of each order takes 900 ms or more"),
        (Shop14(order=503), "only 0 of 4 orders were placed"),
    ],
)
async def test_what_is_slow_or_fails_is_told(told: Shop14, sentence: str) -> None:
    wrong = [each for each in await findings_of("14", told) if not each.is_right]

    assert any(sentence in each.what for each in wrong), wrong
    assert all(each.look for each in wrong)


@pytest.mark.parametrize(
    "told",
    [
        Shop14(telling=("order", "user", "product", "inventory", "payment")),
        Shop14(seldom=("shipping",)),  # one of its pods is silent
    ],
)
async def test_a_silent_service_is_told(told: Shop14, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = lab_named(all_labs(), "14")

    monkeypatch.setattr(sys.modules[type(lab.meshed).__module__], "_LOG_SECONDS", 0.0)

    wrong = [each for each in await findings_of(lab, told) if not each.is_right]

    assert len(wrong) == 1
    assert wrong[0].what == (
        f"the trace {told.traces[-1]} is not complete: its id is in no log of shipping"
    )


def test_who_waits_for_another_is_not_slow_itself() -> None:
    inner = Call("stripe", "POST", "", "", 90.0, "200")
    outer = Call("payment", "Authorize", "v1", "payment", 100.0, "ok", (inner,))

    assert list(all_calls([outer])) == [outer, inner]
    assert (own_milliseconds(outer), own_milliseconds(inner)) == (10.0, 90.0)
