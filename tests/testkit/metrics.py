"""What a process counts, as Prometheus would read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


async def samples(http: aiohttp.ClientSession, internal_url: str) -> Sequence[Sample]:
    """All samples of a process."""
    async with http.get(f"{internal_url}/metrics") as answer:
        assert answer.status == 200, answer
        families = text_string_to_metric_families(await answer.text())
        return [sample for family in families for sample in family.samples]


async def requests_served(http: aiohttp.ClientSession, internal_url: str) -> Counter[str]:
    """How many requests a process has answered since it started, by operation."""
    served = Counter[str]()
    for sample in await samples(http, internal_url):
        if sample.name == "meshmart_request_seconds_count":
            served[sample.labels["operation"]] += round(sample.value)
    return served
