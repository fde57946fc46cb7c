"""What a lab reads out of a pod, and how it compares the books."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from labs.errors import CommandFailed
from labs.meshed import PROBE, Done, MeshedShop
from tools.mesh.render import Shop

_METRICS = """\
# TYPE meshmart_request_seconds histogram
meshmart_request_seconds_bucket{le="1.0",operation="GET /api/products",status="200"} 3.0
meshmart_request_seconds_count{operation="GET /api/products",protocol="http",status="200"} 4.0
meshmart_request_seconds_sum{operation="GET /api/products",protocol="http",status="200"} 4.5
meshmart_request_seconds_count{operation="GET /api/products",protocol="http",status="503"} 1.0
meshmart_request_seconds_sum{operation="GET /api/products",protocol="http",status="503"} 1.0
meshmart_request_seconds_count{operation="GET /api/products/{product_id}",status="200"} 9.0
meshmart_requests_in_flight 1.0
"""


class _Pod:
    """Answers whoever asks for its metrics."""

    async def run(self, *command: str, given: str | None = None, within_seconds: float = 0) -> str:
        assert command[:7] == ("kubectl", "-n", "ecommerce", "exec", "product-1", "-c", "product")
        return _METRICS

    @asynccontextmanager
    async def forwarded(self, namespace: str, target: str, port: int) -> AsyncGenerator[str]:
        yield ""


async def test_what_a_service_has_done_is_read_from_its_metrics() -> None:
    shop = MeshedShop(_Pod(), Shop())

    assert await shop.done("product-1", "product", "GET /api/products") == Done(5, 5.5, errors=1)
    assert await shop.done("product-1", "product", "GET /api/categories") == Done(0, 0.0)


@dataclass
class _Payment:
    """The pod in which the books are compared.

    :ivar greeting: what comes of its greeting MongoDB.
    :ivar audit: what the audit prints; None where it is not done in time.
    :ivar limits_seconds: how long each command may take that does not have the usual time.
    """

    greeting: str = "answered"
    audit: str | None = "3 orders: nothing disagrees.\naudit status 0\n"
    limits_seconds: list[float] = field(default_factory=list[float])

    async def run(self, *command: str, given: str | None = None, within_seconds: float = 0) -> str:
        if within_seconds:
            self.limits_seconds.append(within_seconds)
        if "secret" in command:
            return json.dumps({"data": {"url": base64.b64encode(b"mongodb://root").decode()}})
        assert command[3:7] == ("exec", "-i", "deployment/payment-service", "-c")
        if command[-1] == PROBE.read_text(encoding="utf-8"):
            assert json.loads(given or "") == [{"database": "mongodb:27017"}]
            return json.dumps([[self.greeting, "", ""]])
        assert given == "mongodb://root\n"
        if self.audit is None:
            raise CommandFailed("kubectl exec: not done\nin 60 s")
        return self.audit

    @asynccontextmanager
    async def forwarded(self, namespace: str, target: str, port: int) -> AsyncGenerator[str]:
        yield ""


async def test_books_that_agree_are_told_right() -> None:
    pod = _Payment()
    finding = await MeshedShop(pod, Shop()).audit()

    assert finding.is_right
    assert finding.what == "the stores and Stripe agree: 3 orders"
    assert pod.limits_seconds, "it does not take the time that a roll-out has"


@pytest.mark.parametrize(
    ("pod", "told"),
    [
        (_Payment(audit="ord_1: paid twice\n1\naudit status 1\n"), "the stores disagree: ord_1:"),
        (_Payment("failed"), "the stores cannot be compared: payment does not reach MongoDB"),
        (_Payment(audit=None), "the stores cannot be compared: kubectl exec: not done in 60 s"),
        (
            _Payment(audit="The shop cannot be audited: no Stripe.\naudit status 2\n"),
            "the stores cannot be compared: The shop cannot be audited: no Stripe",
        ),
        (
            _Payment(audit="audit status 137\n"),
            "the stores cannot be compared: the audit ended with status 137",
        ),
    ],
)
async def test_books_that_do_not_agree_or_cannot_be_compared_are_one_line(
    pod: _Payment, told: str
) -> None:
    finding = await MeshedShop(pod, Shop()).audit()

    assert not finding.is_right
    assert finding.what.startswith(told)
    assert finding.look
    assert "\n" not in str(finding)
