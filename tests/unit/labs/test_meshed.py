"""What a lab reads out of a pod."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from labs.meshed import Done, MeshedShop
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

    assert await shop.done("product-1", "product", "GET /api/products") == Done(5, 5.5)
    assert await shop.done("product-1", "product", "GET /api/categories") == Done(0, 0.0)
