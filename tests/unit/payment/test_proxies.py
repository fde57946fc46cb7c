"""Payments go to Stripe through the proxy that the environment names."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import stripe
from pydantic import SecretStr

from services.audit.ledger import read_ledger
from services.audit.snapshot import Ledger
from services.common import context
from services.common.errors import ShopError
from services.payment.clients import Stripe
from services.payment.settings import PaymentSettings
from stand_ins.stripe.server import running
from stand_ins.stripe.settings import SandboxSettings
from tests.testkit.ports import free_port
from tests.testkit.proxy import LOOPBACK, Proxy, proxy_to
from tests.unit.common.kit import call_tools
from tools.certificate import self_signed


@pytest.fixture(autouse=True)
def request_context() -> Generator[None]:
    with context.background(30.0):
        yield


@asynccontextmanager
async def stripe_at(url: str) -> AsyncGenerator[Stripe]:
    settings = PaymentSettings(
        stripe_api_key=SecretStr("sk_test_unit"), stripe_api_base=url, stripe_max_retries=0
    )
    client = Stripe(settings, call_tools())
    try:
        yield client
    finally:
        await client.close()


async def test_plain_requests_name_their_target_to_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        running(SandboxSettings(port=0)) as url,
        proxy_to(int(url.rpartition(":")[2])) as (proxy, proxy_url),
    ):
        monkeypatch.setenv("http_proxy", proxy_url)
        async with stripe_at("http://stripe.test") as client:
            assert await client.newest_seconds() is None
    ((line, who),) = proxy.asked
    assert line.startswith("GET http://stripe.test/v1/payment_intents?")
    assert who == f"basic {b64encode(b'ada:s cret').decode()}".lower()


@asynccontextmanager
async def stripe_behind_a_proxy(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> AsyncGenerator[Proxy]:
    """An api.stripe.com that only the proxy finds, and in whose certificate the SDK trusts."""
    certificate = folder / "stripe.pem"
    certificate.write_bytes(self_signed("api.stripe.com").certificate_and_key)
    monkeypatch.setattr(stripe, "ca_bundle_path", str(certificate))
    port = free_port()
    settings = SandboxSettings(port=0, tls_port=port, tls_certificate=certificate)
    async with running(settings), proxy_to(port) as (proxy, proxy_url):
        monkeypatch.setenv("https_proxy", proxy_url)
        yield proxy


async def test_https_goes_through_a_tunnel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with (
        stripe_behind_a_proxy(monkeypatch, tmp_path) as proxy,
        stripe_at("https://api.stripe.com") as client,
    ):
        assert await client.newest_seconds() is None
    ((line, who),) = proxy.asked
    assert line == "CONNECT api.stripe.com:443 HTTP/1.1"
    assert who.startswith("basic ")


async def test_an_audit_goes_the_same_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with stripe_behind_a_proxy(monkeypatch, tmp_path) as proxy:
        settings = PaymentSettings(stripe_api_key=SecretStr("sk_test_unit"))
        assert await read_ledger(settings) == Ledger({}, {})
    assert {line for line, _ in proxy.asked} == {"CONNECT api.stripe.com:443 HTTP/1.1"}


async def test_the_sandbox_on_this_machine_is_asked_directly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{LOOPBACK}:{free_port()}")
    async with running(SandboxSettings(port=0)) as url, stripe_at(url) as client:
        assert await client.newest_seconds() is None


async def test_a_proxy_that_is_away_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://{LOOPBACK}:{free_port()}")
    async with stripe_at("https://api.stripe.com") as client:
        with pytest.raises(ShopError) as failed:
            await client.newest_seconds()
    assert failed.value.code == "stripe-unavailable"
