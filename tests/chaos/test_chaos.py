"""Short chaos runs with fixed seeds, and that a run notices when a safeguard is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.order.model import OrderState
from tests.chaos.mutations import MUTATIONS
from tests.chaos.proxies import Fault, TcpFault
from tests.chaos.run import Options, Report, run, schedule_of
from tests.chaos.schedule import Incident, IncidentKind, Schedule
from tests.testkit.mongodb import mongodb_executable

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

_CHECKOUTS_PER_INCIDENT = 20.0
# How soon a shop is quiet depends on the machine; what an outage may leave is the backlog's matter.
_REST_SECONDS = 180.0


def _check(report: Report) -> None:
    """No promise was broken, although all went wrong that was to, and most customers bought."""
    print(report)
    assert not [str(violation) for violation in report.violations]
    assert report.unrest is None
    assert report.ends[OrderState.CONFIRMED] > report.options.checkouts / 2
    assert {incident.kind for incident in report.schedule.incidents} <= report.incidents.keys()
    assert {*Fault, TcpFault.RESET, TcpFault.BLACK_HOLE} <= report.requests.keys()


async def test_no_promise_is_broken_on_sqlite(checkouts: int, tmp_path: Path) -> None:
    options = Options(
        checkouts,
        seed=1,
        checkouts_per_incident=_CHECKOUTS_PER_INCIDENT,
        rest_seconds=_REST_SECONDS,
    )
    report = await run(options, schedule_of(options), tmp_path)
    _check(report)


async def test_no_promise_is_broken_on_mongodb(checkouts: int, tmp_path: Path) -> None:
    options = Options(
        checkouts,
        seed=2,
        checkouts_per_incident=_CHECKOUTS_PER_INCIDENT,
        rest_seconds=_REST_SECONDS,
        mongodb_server=mongodb_executable(),
    )
    report = await run(options, schedule_of(options), tmp_path)
    _check(report)


def _all_along(kind: IncidentKind, target: str, rate: float) -> tuple[Incident, ...]:
    return (Incident(at_checkout=0, kind=kind, target=target, seconds=600.0, rate=rate),)


# What a safeguard is for, and nothing else, goes wrong: the less noise, the surer the finding.
_INCIDENTS = {
    "idempotency-key": _all_along(IncidentKind.LOST_REPLY, "payment > stripe", rate=0.6),
    "fence": _all_along(IncidentKind.LATE, "order > inventory", rate=0.5),
    "resume": tuple(
        Incident(
            at_checkout=checkout, kind=IncidentKind.KILL, target="order-1", seconds=0.0, rate=0.0
        )
        for checkout in (20, 60, 100)
    ),
    "guard": (),
}
_FOUND = {
    "idempotency-key": "authorized by",
    "fence": "its reservation is",
    "resume": "ended working",
    "guard": "less than nothing is there",
}


@pytest.mark.in_turn
@pytest.mark.parametrize("safeguard", MUTATIONS)
async def test_a_missing_safeguard_is_noticed(safeguard: str, tmp_path: Path) -> None:
    options = Options(checkouts=150, mutation=safeguard, rest_seconds=10.0)
    schedule = Schedule(options.seed, options.checkouts, _INCIDENTS[safeguard], skews_seconds={})
    report = await run(options, schedule, tmp_path)
    print(report)
    assert any(_FOUND[safeguard] in violation.what for violation in report.violations)
