"""The hunt for secrets (tests/testkit/hunt.py) goes through all that a shop emits: it finds what is
planted there.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.testkit.collector import Collector, collecting
from tests.testkit.customer import Client
from tests.testkit.hunt import SecretTold
from tests.testkit.shop import Shop
from tests.testkit.waiting import eventually

# A process names its instance in each log line, span, metric and record.
PLANTED = {"product": {"INSTANCE": "ada@example.com"}}


async def test_a_secret_in_a_log_a_span_a_metric_and_a_record_is_found(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    told = ""
    with pytest.raises(SecretTold, match="an e-mail address in the spans: "):
        async with collecting() as (collector, endpoint):
            told = await _run(http, tmp_path, collector, endpoint)
    assert "product.log: …" in told
    assert "/metrics: …" in told


async def _run(
    http: aiohttp.ClientSession, folder: Path, collector: Collector, endpoint: str
) -> str:
    """Runs a shop, asks it something, and stops it; what it has told."""
    shop = Shop(
        folder,
        *("--only", "product"),
        environment={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "TRACE_SAMPLING_RATIO": "1"},
        own_environment=PLANTED,
    )
    await asyncio.to_thread(shop.__enter__)  # the collector goes on meanwhile
    try:
        client = Client(http, shop.of_service("product")[0].url)
        with pytest.raises(SecretTold, match="in x-served-by of GET /api/products: "):
            await client.send("GET", "/api/products")

        async def has_come() -> bool:
            return bool(collector.spans)

        await eventually(has_come, "a span has come", 60)
    finally:
        with pytest.raises(SecretTold) as told:
            await asyncio.to_thread(shop.stop)
    return str(told.value)


async def test_a_secret_in_a_kept_trace_is_found(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    shop = Shop(tmp_path / "shop", "--only", "product", environment={"TRACE_SAMPLING_RATIO": "1"})
    await asyncio.to_thread(shop.__enter__)
    try:
        client = Client(http, shop.of_service("product")[0].url)
        answer = await client.send("GET", "/api/products/ada@example.com")
    finally:
        with pytest.raises(SecretTold, match=r"an e-mail address in \S+/traces: "):
            await asyncio.to_thread(shop.stop)
    assert answer.status == 404
