"""What a process counts, as Prometheus would read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from services.common.observing.metrics import Metrics


async def samples(http: aiohttp.ClientSession, internal_url: str) -> Sequence[Sample]:
    """All samples of a process."""
    async with http.get(f"{internal_url}/metrics") as answer:
        assert answer.status == 200, answer
        return samples_in(await answer.text())


def samples_in(exposition: str) -> Sequence[Sample]:
    """All samples in what a process shows to Prometheus."""
    families = text_string_to_metric_families(exposition)
    return [sample for family in families for sample in family.samples]


def values_of(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """The values of a metric by those of its labels, in the order of the labels' names; by ``()``
    where it has none.
    """
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for sample in samples_in(metrics.exposition().decode())
        if sample.name == name
    }


async def requests_served(http: aiohttp.ClientSession, internal_url: str) -> Counter[str]:
    """How many requests a process has answered since it started, by operation."""
    served = Counter[str]()
    for sample in await samples(http, internal_url):
        if sample.name == "meshmart_request_seconds_count":
            served[sample.labels["operation"]] += round(sample.value)
    return served
