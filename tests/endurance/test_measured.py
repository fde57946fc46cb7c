"""The verdicts on what was measured: each promise that is broken is named, and only that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.endurance.amplification import amplified
from tests.endurance.measure import Footprint
from tests.endurance.soak import Sample, SoakRun, violations

_MIB = 2**20
_SAMPLES = 60
_USUAL = Footprint(
    pid=1,
    own_bytes=30 * _MIB,
    pss_bytes=40 * _MIB,
    rss_bytes=100 * _MIB,
    open_files=50,
    connections=10,
    threads=14,
)


def _run(
    *,
    last: Footprint = _USUAL,
    bytes_per_order: tuple[int, int] = (15_000, 15_000),
    wal_mib: int = 4,
) -> SoakRun:
    """Two processes for an hour; one of them ends as `last`, on a straight line."""
    samples: list[Sample] = []
    stored_bytes = 0
    for minute in range(_SAMPLES + 1):
        share = minute / _SAMPLES
        order = replace(
            _USUAL,
            pid=_USUAL.pid if share < 1 else last.pid,
            own_bytes=round(_USUAL.own_bytes + share * (last.own_bytes - _USUAL.own_bytes)),
            threads=round(_USUAL.threads + share * (last.threads - _USUAL.threads)),
        )
        samples.append(
            Sample(
                seconds=60.0 * minute,
                orders=1000 * minute,
                requests=8000 * minute,
                unexpected=0,
                processes={"frontend": replace(_USUAL, own_bytes=1000 * _MIB), "order": order},
                store_bytes={"order": stored_bytes},
                wal_bytes={"order": wal_mib * _MIB},
                log_bytes=0,
            )
        )
        stored_bytes += 1000 * bytes_per_order[minute > _SAMPLES / 2]
    return SoakRun(samples, 60.0 * _SAMPLES)


def test_a_steady_run_breaks_no_promise() -> None:
    assert list(violations(_run())) == []


@pytest.mark.parametrize(
    ("run", "violation"),
    [
        (_run(last=replace(_USUAL, own_bytes=33 * _MIB)), "order's memory grew by 6.6%"),
        (_run(last=replace(_USUAL, threads=1014)), "order's threads grew from 255.5 to 931"),
        (_run(last=replace(_USUAL, pid=2)), "order died and was replaced"),
        (
            _run(bytes_per_order=(15_000, 18_000)),
            "an order took 15000 bytes in the stores at first and 18000 at last",
        ),
        (_run(wal_mib=17), "the write-ahead log of order has 17 MiB"),
    ],
)
def test_what_grows_is_named(run: SoakRun, violation: str) -> None:
    assert list(violations(run)) == [violation]


def test_memory_is_also_judged_as_a_whole() -> None:
    (whole, _) = violations(_run(last=replace(_USUAL, own_bytes=130 * _MIB)))
    assert whole == "the shop's memory grew by 6.4%"


@pytest.mark.parametrize(("captures", "is_too_many"), [(120, False), (126, False), (127, True)])
def test_amplification_is_a_fifth_more_than_usual(captures: int, is_too_many: bool) -> None:
    normal = _requests(payment={"Capture": 100})
    outage = _requests(payment={"Capture": captures})
    assert bool(list(amplified(normal, {"stripe hung": outage}))) is is_too_many


def test_amplification_names_the_outage_and_what_grew() -> None:
    normal = _requests(payment={"Authorize": 50, "Capture": 50}, order={"POST": 50})
    outage = _requests(payment={"Authorize": 500})
    assert list(amplified(normal, {"stripe hung": outage})) == [
        "payment got 500 requests, not 100, while stripe was hung: 450 more Authorize"
    ]


def _requests(**services: Mapping[str, int]) -> Mapping[str, Counter[str]]:
    return {service: Counter(operations) for service, operations in services.items()}
