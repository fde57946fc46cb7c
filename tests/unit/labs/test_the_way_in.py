"""What the check of lab 15 says of a way in that is right, and of each mistake; and that it reads a
certificate as a browser does.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509

from labs.certificate import is_for, names_of, shown_at
from labs.errors import CommandFailed
from labs.meshed import Scheme
from labs.visitor import CATALOGUE, Answer
from tests.unit.labs.fake import PretendedShop, findings_of
from tools.certificate import self_signed
from tools.mesh.render import TRAEFIK, IngressGateway, MeshName, Shop

HOST = "ecommerce.example.com"
REDIRECT = Answer(301, None, None, f"https://{HOST}/products")


@dataclass
class Shop15(PretendedShop):
    """A shop with a gateway that answers as it is told.

    :ivar certificate_of: the host of its certificate; empty for none.
    :ivar plain: the answer over plain HTTP, and `api` that to a request for the catalogue.
    :ivar private: the status of what is not public.
    """

    is_there: bool = True
    certificate_of: str = HOST
    plain: Answer = REDIRECT
    api: Answer = REDIRECT
    private: int = 404
    asked: list[tuple[IngressGateway, Scheme]] = field(
        default_factory=list[tuple[IngressGateway, Scheme]]
    )
    _scheme: Scheme = "https"

    @property
    def where(self) -> Shop:
        return Shop(mesh=self.mesh, gateway=TRAEFIK) if self.mesh == "linkerd" else Shop()

    async def certificate_at(self, gateway: IngressGateway) -> x509.Certificate | None:
        if not self.is_there:
            raise CommandFailed("services not found")
        if not self.certificate_of:
            return None
        return x509.load_pem_x509_certificate(self_signed(self.certificate_of).certificate)

    @asynccontextmanager
    async def visitor_at(
        self, gateway: IngressGateway, scheme: Scheme = "https"
    ) -> AsyncGenerator[Shop15]:
        self.asked.append((gateway, scheme))
        self._scheme = scheme
        yield self

    async def send(self, method: str, path: str) -> Answer:
        if self._scheme == "https":
            return Answer(self.private, None, None)
        return self.api if path == CATALOGUE else self.plain


@pytest.mark.parametrize(
    ("mesh", "service"), [("istio", "ecommerce-gateway-istio"), ("linkerd", "traefik")]
)
async def test_a_right_way_in_is_told_right(mesh: MeshName, service: str) -> None:
    told = Shop15(mesh)

    findings = await findings_of("15", told)

    assert len(findings) == 5
    assert all(each.is_right for each in findings), findings
    assert {(gateway.namespace, gateway.service) for gateway, _ in told.asked} == {
        ("shop-ingress", service)
    }
    assert [scheme for _, scheme in told.asked] == ["http", "https"]


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (
            Shop15(is_there=False),
            "this check cannot connect to ecommerce-gateway-istio in shop-ingress",
        ),
        (Shop15(certificate_of=""), "the gateway shows no certificate"),
        (Shop15(certificate_of=f"old.{HOST}"), f"is for old.{HOST}, not for {HOST}"),
        (Shop15(plain=Answer(200, None, None)), "over plain HTTP gets 200"),
        (Shop15(plain=Answer(301, None, None, "http://x/")), "over plain HTTP gets 301"),
        (
            Shop15(plain=Answer(301, None, None, "https://old.example.com/products")),
            "/products over plain HTTP gets 301, and no redirect",
        ),
        (
            Shop15(api=Answer(200, None, None)),
            "/api/products?limit=1 over plain HTTP gets 200, and no redirect",
        ),
        (Shop15(order=500), "who logs in and buys over https gets 500"),
        (
            Shop15(private=200),
            "paths that are not public are answered from outside: {'/metrics': 200",
        ),
    ],
)
async def test_a_mistake_is_told(told: Shop15, sentence: str) -> None:
    wrong = [each for each in await findings_of("15", told) if not each.is_right]

    assert len(wrong) == 1
    assert sentence in wrong[0].what
    assert wrong[0].look


async def test_the_certificate_that_is_shown_is_read(tmp_path: Path) -> None:
    file = tmp_path / "certificate.pem"
    file.write_bytes(self_signed(HOST).certificate_and_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    runner = web.AppRunner(web.Application())
    await runner.setup()
    try:
        for served in (context, None):
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=served)
            await site.start()
        encrypted, plain = (f"127.0.0.1:{address[1]}" for address in runner.addresses)

        shown = await shown_at(encrypted, HOST)

        assert shown is not None
        assert names_of(shown) == [HOST]
        assert is_for(shown, HOST)
        assert not is_for(shown, f"old.{HOST}")
        assert await shown_at(plain, HOST) is None
    finally:
        await runner.cleanup()
    assert await shown_at(encrypted, HOST) is None


def test_a_wildcard_stands_for_one_label() -> None:
    certificate = x509.load_pem_x509_certificate(self_signed("*.example.com").certificate)

    assert is_for(certificate, HOST)
    assert not is_for(certificate, f"old.{HOST}")
