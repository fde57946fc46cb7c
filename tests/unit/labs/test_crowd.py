"""The customers who buy while a lab is done: what they do at a shop, and how they are counted."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from aiohttp import web

from labs import customers
from labs.commands import Commands
from labs.crowd import Crowd, let_customers_in
from labs.crowd import customers as counted
from labs.meshed import MeshedShop
from labs.visitor import ORDER
from tests.unit.labs.fake import FakeCluster
from tools.certificate import self_signed
from tools.mesh.render import Shop

HOST = "ecommerce.example.com"


@dataclass
class OneProcessShop:
    """A shop of one process.

    :ivar order: the status of orders that are placed, one after the other; the last for all others.
    :ivar asked: each request with its host.
    """

    order: list[int]
    page: int = 200
    asked: list[str] = field(default_factory=list[str])
    keys: list[str] = field(default_factory=list[str])

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.host.partition(':')[0]}{request.path}")
        match request.path:
            case "/products":
                return web.Response(status=self.page)
            case "/api/auth/guest":
                return web.json_response({"access_token": "token"}, status=201)
            case "/api/users/me":
                assert request.headers["authorization"] == "Bearer token"
                return web.json_response({})
            case "/api/orders":
                self.keys.append(request.headers["idempotency-key"])
                status = self.order.pop(0) if len(self.order) > 1 else self.order[0]
                return web.json_response({"order_id": "ord_1"}, status=status)
            case _:
                return web.json_response({})


@pytest.fixture
async def open_shop(tmp_path: Path) -> AsyncGenerator[tuple[OneProcessShop, dict[str, Any]]]:
    shop = OneProcessShop([201])
    file = tmp_path / "certificate.pem"
    file.write_bytes(self_signed(HOST).certificate_and_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", shop.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    port: int = runner.addresses[0][1]
    yield (
        shop,
        {
            "host": HOST,
            "gateway": f"localhost:{port}",
            "every_seconds": 0.1,
            "for_seconds": 0.05,
            "order": ORDER,
        },
    )
    await runner.cleanup()


async def test_a_customer_gets_what_they_came_for(
    open_shop: tuple[OneProcessShop, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    shop, where = open_shop

    await customers.main(where)

    assert shop.asked == [
        f"GET {HOST}/products",
        f"POST {HOST}/api/auth/guest",
        f"GET {HOST}/api/users/me",
        f"POST {HOST}/api/orders",
        f"POST {HOST}/api/orders/ord_1/cancel",
    ]
    number, came, what = capsys.readouterr().out.split()
    assert number == "0"
    assert abs(int(came) - time.time()) < 10
    assert what == "served"


async def test_an_order_that_hangs_is_a_customer_lost_and_asked_for_again(
    open_shop: tuple[OneProcessShop, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    shop, where = open_shop
    shop.order = [202, 201]

    await customers.main(where)

    assert "lost at the order: 202" in capsys.readouterr().out
    assert len(shop.keys) == 2
    assert len(set(shop.keys)) == 1, "it is the same order"
    assert shop.asked[-1] == f"POST {HOST}/api/orders/ord_1/cancel"


async def test_who_finds_nobody_is_lost(
    open_shop: tuple[OneProcessShop, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    shop, where = open_shop
    shop.page = 503
    await customers.main(where)
    assert "lost at the catalogue: 503" in capsys.readouterr().out

    await customers.main(where | {"gateway": "127.0.0.1:1"})
    assert "lost at the catalogue: 0" in capsys.readouterr().out


@dataclass
class Logs:
    """A pod of which nothing is there but its log."""

    text: str

    async def kubectl(self, *arguments: str) -> str:
        assert arguments == ("logs", "customers")
        return self.text


async def test_they_are_counted_by_their_lines() -> None:
    text = "0 100 served\n1 103 lost at the order: 503\nTraceback\n3 109 lost at the log-in: 0\n"

    crowd = await counted(cast("MeshedShop", Logs(text)))

    assert crowd.came_s == [100, 103, 109]
    assert crowd.lost == [(103, "at the order: 503"), (109, "at the log-in: 0")]
    assert crowd.reasons == {"at the order: 503": 1, "at the log-in: 0": 1}
    assert crowd.waiting == 1, "number 2 has heard nothing yet"
    assert not crowd.is_known_until(105)

    whole = await counted(cast("MeshedShop", Logs(f"{text}2 106 served\n")))
    assert whole.is_known_until(109)
    assert not whole.is_known_until(110)
    assert not Crowd([], []).is_known_until(1)


class _WithImage(FakeCluster):
    async def run(self, *command: str, given: str | None = None, within_seconds: float = 0) -> str:
        if "deployment" in command or "delete" in command:
            self.said.append(" ".join(command))
            return "registry/meshmart:1"
        return await super().run(*command, given=given)


async def test_their_pod_is_made_for_any_shop() -> None:
    cluster = _WithImage()
    shop = MeshedShop(cast("Commands", cluster), Shop(namespace="student-07", host="a.example.com"))

    await let_customers_in(shop, every_seconds=2, for_seconds=60)

    pod = cluster.objects["Pod", "student-07", "customers"]
    assert pod["spec"]["containers"][0]["image"] == "registry/meshmart:1"
    data = cluster.objects["ConfigMap", "student-07", "customers"]["data"]
    assert json.loads(data["where.json"]) == {
        "host": "a.example.com",
        "gateway": "istio-ingressgateway.istio-system:443",
        "every_seconds": 2,
        "for_seconds": 60,
        "order": ORDER,
    }
    assert "async def main" in data["customers.py"]
    assert "ecommerce" not in yaml.safe_dump(pod)
    assert any("delete pod customers" in line for line in cluster.said)
