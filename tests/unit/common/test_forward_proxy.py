"""Which proxy a call takes that leaves the shop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from services.common.errors import ConfigurationError
from services.common.forward_proxy import (
    TunnelError,
    open_tunnel,
    proxy_for,
    without_credentials,
)
from tests.testkit.ports import free_port
from tests.testkit.proxy import LOOPBACK

STRIPE = "https://api.stripe.com"
MAIL = "smtp://mail.example:587"
PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "smtp_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, STRIPE, None),
        ({"https_proxy": PROXY}, STRIPE, PROXY),
        ({"HTTPS_PROXY": PROXY}, STRIPE, PROXY),
        ({"https_proxy": "proxy.example:3128"}, STRIPE, PROXY),
        ({"http_proxy": PROXY}, STRIPE, None),
        ({"http_proxy": PROXY}, "http://api.stripe.com", PROXY),
        ({"all_proxy": PROXY}, STRIPE, PROXY),
        ({"https_proxy": "", "all_proxy": PROXY}, STRIPE, PROXY),
        ({"smtp_proxy": PROXY}, MAIL, PROXY),
        ({"all_proxy": PROXY}, MAIL, PROXY),
        ({"http_proxy": PROXY, "https_proxy": PROXY}, MAIL, None),
        ({"smtp_proxy": PROXY, "no_proxy": "mail.example"}, MAIL, None),
        ({"smtp_proxy": PROXY}, "smtp://[::1]:25", None),
        ({"smtp_proxy": PROXY}, "smtp://[2001:db8::1]:25", PROXY),
        ({"smtp_proxy": PROXY, "no_proxy": "2001:db8::1"}, "smtp://[2001:db8::1]:25", None),
        ({"https_proxy": PROXY, "no_proxy": "stripe.com"}, STRIPE, None),
        ({"https_proxy": PROXY, "no_proxy": "example.com, .stripe.com"}, STRIPE, None),
        ({"https_proxy": PROXY, "no_proxy": "*"}, STRIPE, None),
        ({"https_proxy": PROXY, "no_proxy": "tripe.com"}, STRIPE, PROXY),
        ({"http_proxy": PROXY}, "http://127.0.0.1:8090", None),
        ({"http_proxy": PROXY}, "http://[::1]:8090", None),
        ({"http_proxy": PROXY}, "http://localhost:8090", None),
        ({"http_proxy": PROXY}, "http://stripe-sandbox.stripe:12111", PROXY),
    ],
)
def test_it_is_the_one_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, proxy: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


@pytest.mark.parametrize(
    "proxy",
    ["socks5://proxy.example:1080", "https://proxy.example", "http://a:b:c", "//", "nonsense"],
)
def test_what_is_no_proxy_for_the_caller_is_refused_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("smtp_proxy", proxy)
    with pytest.raises(ConfigurationError) as refused:
        proxy_for(MAIL)
    assert str(refused.value) == (
        "The setting smtp_proxy is wrong for calls to smtp://mail.example: it should be like "
        "http://proxy.example:3128, or no_proxy should name the host."
    )


def test_the_password_of_a_proxy_is_not_shown() -> None:
    assert without_credentials("http://ada:secret@proxy.example:3128") == PROXY


def test_a_caller_may_know_proxies_behind_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "https://proxy.example")
    assert proxy_for(STRIPE, schemes=("http", "https")) == "https://proxy.example"


class TestATunnel:
    async def test_leaves_what_the_server_says_first_to_its_client(self) -> None:
        answer = b"HTTP/1.1 200 OK\r\nVia: 1.1 proxy\r\n\r\n220 mail.example"
        async with answering(answer) as (proxy, asked):
            with await open_tunnel(proxy, "mail.example", 587) as sock:
                assert await asyncio.get_running_loop().sock_recv(sock, 100) == b"220 mail.example"
        assert asked == [b"CONNECT mail.example:587 HTTP/1.1\r\nHost: mail.example:587\r\n\r\n"]

    async def test_to_an_address_of_ipv6_has_it_in_brackets(self) -> None:
        async with answering(b"HTTP/1.0 200 OK\r\n\r\n") as (proxy, asked):
            (await open_tunnel(proxy, "2001:db8::1", 587)).close()
        assert asked[0].startswith(b"CONNECT [2001:db8::1]:587 HTTP/1.1\r\n")

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (b"HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"),
            (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy"),
            (b"220 I am a mail server\r\n\r\n", "220 I am a mail server"),
            (b"HTTP/1.1 200 OK\r\n", "closed the connection"),
            (b"HTTP/1.1 200 OK\r\nX: " + 20_000 * b"x", "too long"),
        ],
    )
    async def test_that_is_refused_is_a_failed_connection(self, answer: bytes, said: str) -> None:
        async with answering(answer) as (proxy, _):
            with pytest.raises(TunnelError, match=said):
                await open_tunnel(proxy, "mail.example", 587)

    async def test_needs_a_proxy_that_is_there(self) -> None:
        with pytest.raises(TunnelError, match=r"The proxy cannot be reached: .*Connect"):
            await open_tunnel(f"http://{LOOPBACK}:{free_port()}", "mail.example", 587)


@asynccontextmanager
async def answering(answer: bytes) -> AsyncGenerator[tuple[str, list[bytes]]]:
    """A proxy that says the same to everybody and leaves; its URL, and what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, LOOPBACK, 0) as server:
        yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}", asked
