"""Where servers listen: both families of addresses, as far as the machine has them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

import aiohttp
import pytest

from services.common.errors import ConfigurationError
from services.common.listening import LOOPBACK, LOOPBACK_6, is_loopback, open_listeners
from services.common.serving.host import Host
from services.common.settings import ProcessSettings
from tests.unit.common.kit import serving


async def nothing(_: Host) -> None:
    return


def reached(listeners: Iterable[socket.socket]) -> set[str]:
    """The loopback addresses on which they can be reached."""
    listeners = list(listeners)
    port = listeners[0].getsockname()[1]
    found: set[str] = set()
    for address in (LOOPBACK, LOOPBACK_6):
        try:
            socket.create_connection((address, port), 5).close()
        except ConnectionRefusedError:
            continue
        found.add(address)
    for listener in listeners:
        listener.close()
    return found


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("0.0.0.0", {LOOPBACK, LOOPBACK_6}),  # noqa: S104  what is tested
        ("::", {LOOPBACK, LOOPBACK_6}),
        ("localhost", {LOOPBACK, LOOPBACK_6}),
        (LOOPBACK, {LOOPBACK}),
        (LOOPBACK_6, {LOOPBACK_6}),
    ],
)
def test_a_host_is_the_addresses_that_it_stands_for(host: str, addresses: set[str]) -> None:
    assert reached(open_listeners(host, 0)) == addresses


@pytest.mark.parametrize("host", ["::", "localhost"])
@pytest.mark.parametrize("refusal", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_machine_without_ipv6_listens_all_the_same(
    monkeypatch: pytest.MonkeyPatch, host: str, refusal: int
) -> None:
    class WithoutIpv6(socket.socket):
        def __init__(self, family: int = socket.AF_INET, *rest: int) -> None:
            if family == socket.AF_INET6:
                raise OSError(refusal, "no such family")
            super().__init__(family, *rest)

    monkeypatch.setattr("services.common.listening.socket.socket", WithoutIpv6)
    listeners = open_listeners(host, 0)
    monkeypatch.undo()
    assert reached(listeners) == {LOOPBACK}


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(OSError, match="annot assign"):
        open_listeners(host, 0)


def test_a_port_that_is_taken_in_one_family_is_refused() -> None:
    with socket.create_server((LOOPBACK_6, 0), family=socket.AF_INET6) as taken:
        with pytest.raises(OSError, match="in use"):
            open_listeners("localhost", taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            open_listeners("::", taken.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (LOOPBACK, True),
        ("127.0.0.2", True),
        (LOOPBACK_6, True),
        ("localhost", True),
        ("::", False),
        ("0.0.0.0", False),  # noqa: S104  what is tested
        ("192.0.2.1", False),
        ("shop.example", False),
    ],
)
def test_only_loopback_is_for_this_machine_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


async def test_a_service_answers_in_both_families_where_nobody_chooses() -> None:
    default = ProcessSettings.model_fields["host"].default
    async with serving(nothing, host=default) as running, aiohttp.ClientSession() as client:
        for address in (LOOPBACK, f"[{LOOPBACK_6}]"):
            url = f"http://{address}:{running.process.http_port}/livez"
            async with client.get(url) as answer:
                assert answer.status == 200
            grpc_port = running.process.grpc_port
            socket.create_connection((address.strip("[]"), grpc_port or 0), 5).close()


async def test_a_taken_address_is_named_as_urls_write_it() -> None:
    with socket.create_server((LOOPBACK_6, 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"address \[::1\]:{port} cannot be used \("):
            async with serving(nothing, host=LOOPBACK_6, http_port=port):
                raise AssertionError("it cannot have started")
