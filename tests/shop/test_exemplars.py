"""Metrics in OpenMetrics lead from a time to the trace of a request that took so long."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import cast

import aiohttp
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families,  # pyright: ignore[reportUnknownVariableType]  partly typed
)
from prometheus_client.samples import Exemplar, Sample

from services.common.observing.metrics import OPENMETRICS_MEDIA_TYPE
from tests.testkit.shop import Shop
from tests.testkit.waiting import eventually

# As Prometheus 3 asks.
ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
)


async def test_a_page_is_an_exemplar_of_all_who_have_made_it(
    shop: Shop, http: aiohttp.ClientSession
) -> None:
    trace_id = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
    async with http.get(f"{shop.url}/products/oak-serving-board", headers=headers) as page:
        assert page.status == 200

    async def found() -> set[tuple[str, str]]:
        """Which metrics of which services have the trace."""
        return {
            (process.service, sample.name)
            for process in shop.processes()
            if process.service != "stripe_sandbox"
            for sample, exemplar in await exemplars(http, f"{process.internal_url}/metrics")
            if exemplar.labels == {"trace_id": trace_id}
        }

    async def all_are_there() -> bool:
        requests, calls = "meshmart_request_seconds_bucket", "meshmart_call_seconds_bucket"
        wanted = {("frontend", requests), ("frontend", calls), ("product", requests)}
        return wanted <= await found()

    await eventually(all_are_there, "the page's trace is an exemplar", 60)


async def exemplars(http: aiohttp.ClientSession, url: str) -> list[tuple[Sample, Exemplar]]:
    """The samples with an exemplar, of an answer that the library's own parser takes."""
    async with http.get(url, headers={"accept": ACCEPT}) as answer:
        assert answer.headers["content-type"] == OPENMETRICS_MEDIA_TYPE
        text = await answer.text()
    families = list(cast("Iterator[Metric]", text_string_to_metric_families(text)))
    assert {"meshmart_request_seconds", "meshmart_process_info"} <= {
        family.name for family in families
    }
    return [
        (sample, sample.exemplar)
        for family in families
        for sample in family.samples
        if sample.exemplar is not None
    ]
