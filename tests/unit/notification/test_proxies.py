"""Mail goes to its server through the proxy that the environment names."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from services.common.errors import Kind, ShopError
from services.notification.clients import Mailer
from services.notification.settings import NotificationSettings
from tests.testkit.ports import free_port
from tests.testkit.proxy import LOOPBACK, Proxy, proxy_to
from tests.unit.failure import failure
from tests.unit.notification.examples import a_message
from tests.unit.notification.mail_server import mail_server
from tools.certificate import self_signed

# Nobody finds it but the proxy.
HOST = "mail.meshmart.test"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("smtp_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """That of a server named HOST, in whose certificate everybody trusts."""
    return _tls_of(HOST, tmp_path, monkeypatch)


def _tls_of(host: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    certificate = folder / "mail.pem"
    certificate.write_bytes(self_signed(host).certificate_and_key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


async def send(**changes: Any) -> None:
    settings: dict[str, Any] = {
        "smtp_host": HOST,
        "smtp_starttls": False,
        "smtp_timeout_seconds": 5.0,
        **changes,
    }
    await Mailer(NotificationSettings(**settings)).send(a_message())


def assert_asked_for(proxy: Proxy, port: int) -> None:
    ((line, who),) = proxy.asked
    assert line == f"CONNECT {HOST}:{port} HTTP/1.1"
    assert who == f"basic {b64encode(b'ada:s cret').decode()}".lower()


@pytest.mark.parametrize("waits", [False, True], ids=["greeting after", "greeting with the head"])
@pytest.mark.parametrize("variable", ["smtp_proxy", "SMTP_PROXY", "all_proxy"])
async def test_through_a_tunnel(
    monkeypatch: pytest.MonkeyPatch, variable: str, waits: bool
) -> None:
    async with mail_server() as server, proxy_to(server.port) as (proxy, url):
        proxy.waits = waits
        monkeypatch.setenv(variable, url)
        await send(smtp_port=25)
    assert_asked_for(proxy, 25)
    assert [mail["Subject"] for mail in server.mails] == [a_message().subject]


async def test_with_starttls_and_a_log_in(
    monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext
) -> None:
    logins: list[tuple[LoginPassword, bool]] = []

    def let_in(server: SMTP, session: Any, *arguments: Any) -> AuthResult:
        logins.append((arguments[-1], session.ssl is not None))
        return AuthResult(success=True)

    async with (
        mail_server(tls_context=tls, require_starttls=True, authenticator=let_in) as server,
        proxy_to(server.port) as (proxy, url),
    ):
        monkeypatch.setenv("smtp_proxy", url)
        await send(smtp_starttls=True, smtp_username="shop", smtp_password="right")
    assert_asked_for(proxy, 587)
    assert logins == [(LoginPassword(b"shop", b"right"), True)]
    assert len(server.mails) == 1


async def test_with_tls_from_the_first_byte(
    monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext
) -> None:
    async with mail_server(tls) as server, proxy_to(server.port) as (proxy, url):
        monkeypatch.setenv("smtp_proxy", url)
        await send(smtp_implicit_tls=True)
    assert_asked_for(proxy, 465)
    assert len(server.mails) == 1


@pytest.mark.parametrize("way", ["smtp_starttls", "smtp_implicit_tls"])
async def test_a_certificate_for_another_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    tls = _tls_of("other.meshmart.test", tmp_path, monkeypatch)
    server_options: dict[str, Any] = (
        {"tls": tls} if way == "smtp_implicit_tls" else {"tls_context": tls}
    )
    async with mail_server(**server_options) as server, proxy_to(server.port) as (_, url):
        monkeypatch.setenv("smtp_proxy", url)
        with pytest.raises(ShopError) as failed:
            await send(**{way: True})
    assert failed.value.code == "mail-unavailable"
    assert f"not valid for '{HOST}'" in str(failed.value.__cause__)
    assert server.mails == []


@pytest.mark.parametrize(
    "refusal", [b"HTTP/1.1 403 Forbidden\r\n\r\n", b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b""]
)
async def test_a_tunnel_that_is_refused_is_an_outage(
    monkeypatch: pytest.MonkeyPatch, refusal: bytes
) -> None:
    async with proxy_to(free_port()) as (proxy, url):
        proxy.refusal = refusal
        monkeypatch.setenv("smtp_proxy", url)
        with pytest.raises(ShopError) as failed:
            await send()
    assert (failed.value.kind, failed.value.code) == (Kind.UNAVAILABLE, "mail-unavailable")


async def test_a_proxy_that_is_away_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("smtp_proxy", f"http://ada:secret@{LOOPBACK}:{port}")
    failed = await failure(send())
    assert failed.kind is Kind.UNAVAILABLE
    assert failed.detail == (
        f"The mail server cannot be reached through the proxy http://{LOOPBACK}:{port}."
    )
    assert str(failed.__cause__).startswith("The proxy cannot be reached: ")


async def test_a_proxy_that_says_nothing_is_waited_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        left.set()

    async with await asyncio.start_server(say_nothing, LOOPBACK, 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("smtp_proxy", f"http://{LOOPBACK}:{port}")
        with pytest.raises(ShopError) as failed:
            await send(smtp_timeout_seconds=0.2)
        await asyncio.wait_for(left.wait(), 5.0)
    assert failed.value.kind is Kind.UNAVAILABLE
    assert isinstance(failed.value.__cause__, TimeoutError)


async def test_a_server_that_no_proxy_names_is_asked_directly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with mail_server() as server, proxy_to(server.port) as (proxy, url):
        monkeypatch.setenv("smtp_proxy", url)
        await send(smtp_host=LOOPBACK, smtp_port=server.port)
        monkeypatch.setenv("no_proxy", "meshmart.test")
        with pytest.raises(ShopError, match="cannot be reached"):
            await send()  # no name server knows it
    assert (proxy.asked, len(server.mails)) == ([], 1)
