"""The mesh page's figures out of Prometheus, which has counted for all replicas of all services.

A series' target labels depend on who scrapes. So which process of the shop a series is of is not
read from them: each process says it in ``meshmart_process_info``, which is joined.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp
from pydantic import BaseModel

from services.common.call_record import REFUSED, is_failure
from services.common.observing.logs import get_logger
from services.common.observing.recent_traffic import TREND_POINTS, Tally, WayReport
from services.frontend.mesh_page.figures import (
    MESH_OPERATION,
    NO_TREND,
    VISITORS,
    ProcessStatus,
    Traffic,
)
from services.frontend.mesh_page.sources import TrafficSource

log = get_logger(__name__)

_PATIENCE = aiohttp.ClientTimeout(total=4.0)
# Two scrapes at the usual intervals: a rate over less would have gaps.
_RATE_SECONDS = 60
# What services have answered and nobody in the shop has called came by the gateway. Below this
# share it is the scrapes' being at different moments.
_LEAST_SHARE_FROM_OUTSIDE = 0.05
_DENIED = "denied"

# Within that time another pod may get a pod's address. Without pods both labels are empty.
_TARGET = "job, instance, namespace, pod"
_INFO = (
    "max by ({target}, shop_service, shop_version, shop_instance) "
    "(max_over_time(meshmart_process_info{{{selector}}}[15m]))"
)
# Of all but the mesh page.
_ANSWERS = f'{{operation!="{MESH_OPERATION}"}}'
_JOINED = "* on ({target}) group_left (shop_service, shop_version, shop_instance) ({info})"
_NOW = {
    "calls": "sum by (shop_service, callee, callee_version, status) "
    "(increase(meshmart_call_seconds_count[{window}s]) {joined})",
    "call_times": "sum by (shop_service, callee, callee_version, le) "
    "(increase(meshmart_call_seconds_bucket[{window}s]) {joined})",
    "served": "sum by (shop_service, shop_version, status) "
    "(increase(meshmart_request_seconds_count{answers}[{window}s]) {joined})",
    "served_times": "sum by (shop_service, shop_version, le) "
    "(increase(meshmart_request_seconds_bucket{answers}[{window}s]) {joined})",
    "retries": "sum by (shop_service, callee) "
    "(increase(meshmart_call_retries_total[{window}s]) {joined})",
    "circuits": "max by (shop_service, callee) (meshmart_circuit_open {joined}) > 0",
    "up": "min by (shop_service, shop_version, shop_instance) (up {joined})",
}
_TRENDS = {
    "call_trends": "{step} * sum by (shop_service, callee) "
    "(rate(meshmart_call_seconds_count[{range}s]) {joined})",
    "served_trends": "{step} * sum by (shop_service) "
    "(rate(meshmart_request_seconds_count{answers}[{range}s]) {joined})",
}

Labels = Mapping[str, str]
Key = TypeVar("Key", bound=tuple[str, ...])


class _Series(BaseModel):
    metric: dict[str, str]
    value: tuple[float, float] | None = None
    values: list[tuple[float, float]] = []


class _Data(BaseModel):
    result: list[_Series]


class _QueryAnswer(BaseModel):
    data: _Data


def queries(window_seconds: int, selector: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """What is asked for now, and what for each point of a trend."""
    info = _INFO.format(target=_TARGET, selector=selector)
    joined = _JOINED.format(target=_TARGET, info=info)
    step = window_seconds // TREND_POINTS
    return (
        {
            name: query.format(window=window_seconds, answers=_ANSWERS, joined=joined)
            for name, query in _NOW.items()
        },
        {
            name: query.format(
                range=max(_RATE_SECONDS, step), step=step, answers=_ANSWERS, joined=joined
            )
            for name, query in _TRENDS.items()
        },
    )


class PrometheusFailed(Exception):
    """It cannot be asked, or answers something else."""


class PrometheusSource:
    """Asks for what the shop's metrics say; says what `fallback` has where that fails.

    :param url: where Prometheus is, without ``/api``.
    :param selector: matchers that single out this shop, such as ``namespace="ecommerce"``.
    :param now: seconds since 1970.
    """

    def __init__(
        self,
        url: str,
        selector: str,
        session: aiohttp.ClientSession,
        fallback: TrafficSource,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._url = url.rstrip("/")
        self._session = session
        self._fallback = fallback
        self._now = now
        self._selector = selector

    async def traffic(self, window_seconds: int) -> Traffic:
        try:
            return await self._asked(window_seconds)
        except PrometheusFailed as error:
            log.warning("prometheus.failed", reason=str(error))
            traffic = await self._fallback.traffic(window_seconds)
            traffic.notes.insert(0, f"Prometheus cannot be asked now: {error}.")
            return traffic

    async def _asked(self, window_seconds: int) -> Traffic:
        instant, ranges = queries(window_seconds, self._selector)
        answers = await asyncio.gather(
            *(self._get("query", {"query": query}) for query in instant.values()),
            *(self._range(query, window_seconds) for query in ranges.values()),
        )
        found = dict(zip((*instant, *ranges), answers, strict=True))
        ways = _ways(found)
        served = _served(found)
        return Traffic(
            seconds=float(window_seconds),
            ways=[*ways.reports(), *_from_outside(served, ways, found["served_trends"])],
            notes=[
                "From Prometheus: all replicas, whoever called them. What came by the gateway is "
                "what services have answered beyond what others called; its times are those of "
                "all answers."
            ],
            served=served,
            processes=[
                ProcessStatus(
                    service=series.metric.get("shop_service", ""),
                    instance=series.metric.get("shop_instance", ""),
                    version=series.metric.get("shop_version", ""),
                    is_up=_value(series) > 0,
                )
                for series in found["up"]
            ],
            open_circuits={
                (series.metric.get("shop_service", ""), series.metric.get("callee", ""))
                for series in found["circuits"]
            },
        )

    async def _range(self, query: str, window_seconds: int) -> Sequence[_Series]:
        step = window_seconds // TREND_POINTS
        end = self._now()
        start = end - step * (TREND_POINTS - 1)
        asked = {"query": query, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": str(step)}
        return await self._get("query_range", asked)

    async def _get(self, what: str, query: Mapping[str, str]) -> Sequence[_Series]:
        try:
            async with self._session.post(
                f"{self._url}/api/v1/{what}", data=query, timeout=_PATIENCE
            ) as answer:
                if answer.status != 200:
                    raise PrometheusFailed(f"it answered {answer.status}")
                return _QueryAnswer.model_validate_json(await answer.read()).data.result
        except TimeoutError as error:
            raise PrometheusFailed("it did not answer in time") from error
        except aiohttp.ClientError as error:
            raise PrometheusFailed("it cannot be reached") from error
        except ValueError as error:
            raise PrometheusFailed("its answer cannot be read") from error


@dataclass(slots=True)
class _Ways:
    """Tallies by caller, callee and version, and trends by caller and callee."""

    tallies: defaultdict[tuple[str, str, str], Tally] = field(
        default_factory=lambda: defaultdict[tuple[str, str, str], Tally](Tally)
    )
    trends: dict[tuple[str, str], list[float]] = field(
        default_factory=dict[tuple[str, str], list[float]]
    )

    def reports(self) -> list[WayReport]:
        trends = dict(self.trends)  # an edge's trend is told once, with the first of its versions
        return [
            WayReport(*way, tally=tally, trend=trends.pop(way[:2], list(NO_TREND)))
            for way, tally in self.tallies.items()
        ]


def _ways(found: Mapping[str, Sequence[_Series]]) -> _Ways:
    ways = _Ways()
    for series in found["calls"]:
        tally = ways.tallies[_way(series.metric)]
        count, status = _value(series), series.metric.get("status", "")
        if status == REFUSED:
            tally.refused += count
            continue
        tally.calls += count
        if is_failure(status):
            tally.errors += count
        if status == _DENIED and series.metric.get("callee_version"):
            tally.denied += count
        elif status == _DENIED:
            tally.denied_before += count
    for way, times in _times(found["call_times"], _way).items():
        ways.tallies[way].times = times.times
    for series in found["retries"]:
        caller, callee, _ = _way(series.metric)
        ways.tallies[caller, callee, ""].retries += _value(series)
    for series in found["call_trends"]:
        ways.trends[_way(series.metric)[:2]] = _trend(series)
    return ways


def _served(found: Mapping[str, Sequence[_Series]]) -> dict[tuple[str, str], Tally]:
    served: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
    for series in found["served"]:
        tally = served[_version(series.metric)]
        tally.calls += _value(series)
        tally.errors += _value(series) if is_failure(series.metric.get("status", "")) else 0
    for version, times in _times(found["served_times"], _version).items():
        served[version].times = times.times
    return dict(served)


def _from_outside(
    served: Mapping[tuple[str, str], Tally], ways: _Ways, served_trends: Sequence[_Series]
) -> list[WayReport]:
    """What nobody in the shop has called."""
    called: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
    for (_, callee, version), tally in ways.tallies.items():
        called[callee, version].add(tally)
    trends = {series.metric.get("shop_service", ""): _trend(series) for series in served_trends}
    for (_, callee), trend in ways.trends.items():
        if callee in trends:
            trends[callee] = [
                max(0.0, all_ - inside) for all_, inside in zip(trends[callee], trend, strict=True)
            ]
    reports: list[WayReport] = []
    for (service, version), tally in served.items():
        inside = called[service, version]
        calls = tally.calls - inside.calls
        if calls < 1 or calls < _LEAST_SHARE_FROM_OUTSIDE * tally.calls:
            continue
        outside = Tally(
            calls=calls, errors=max(0.0, tally.errors - inside.errors), times=tally.times
        )
        trend = trends.pop(service, list(NO_TREND))  # told once, with the first of the versions
        reports.append(WayReport(VISITORS, service, version, outside, trend))
    return reports


def _times(found: Sequence[_Series], key_of: Callable[[Labels], Key]) -> Mapping[Key, Tally]:
    """Histograms out of Prometheus' cumulative buckets."""
    buckets: defaultdict[Key, dict[float, float]] = defaultdict(dict)
    for series in found:
        bound = float(series.metric.get("le", "+Inf"))
        buckets[key_of(series.metric)][bound] = _value(series)
    tallies: dict[Key, Tally] = {}
    for key, counts in buckets.items():
        tally = tallies[key] = Tally()
        lower, before = 0.0, 0.0
        for bound in sorted(counts):
            # Beyond the last bound nothing is known; Prometheus takes that bound.
            upper = bound if math.isfinite(bound) else lower * 1.0001
            if counts[bound] > before and upper > lower:
                tally.add_times(
                    counts[bound] - before, above_ms=1000 * lower, up_to_ms=1000 * upper
                )
            lower, before = upper, max(before, counts[bound])
    return tallies


def _way(labels: Labels) -> tuple[str, str, str]:
    caller, callee = labels.get("shop_service", ""), labels.get("callee", "")
    return caller, callee, labels.get("callee_version", "")


def _version(labels: Labels) -> tuple[str, str]:
    return labels.get("shop_service", ""), labels.get("shop_version", "")


def _trend(series: _Series) -> list[float]:
    points = [value if math.isfinite(value) else 0.0 for _, value in series.values]
    return [*NO_TREND, *points][-TREND_POINTS:]


def _value(series: _Series) -> float:
    value = series.value[1] if series.value is not None else 0.0
    return value if math.isfinite(value) else 0.0
