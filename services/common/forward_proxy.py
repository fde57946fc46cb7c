"""The proxy for calls that leave the shop, from the environment's variables."""

from __future__ import annotations

import asyncio
import socket
from base64 import b64encode
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import ip_address
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from services.common.errors import ConfigurationError

_HEAD_END = b"\r\n\r\n"
_LONGEST_HEAD_BYTES = 16 * 1024


class TunnelError(ConnectionError):
    """The proxy cannot be reached, opens no tunnel, or no answer of HTTP comes from it."""


def proxy_for(url: str, *, schemes: Sequence[str] = ("http",)) -> str | None:
    """Returns the proxy for a URL, None where it is to be asked directly.

    It is that of the variable that is named after the URL's scheme, such as `https_proxy` or
    `smtp_proxy`, else of `all_proxy`; each may be in upper case. An address without a scheme is one
    of HTTP, and needs a port. Hosts that `no_proxy` names and this machine are asked directly.

    :param schemes: those of proxies that the caller can talk to.
    :raises ConfigurationError: the variable names another one, or no address.
    """
    target = URL(url)
    host = target.host or ""
    if _is_here(host) or proxy_bypass(f"{host}:{target.port}"):
        return None
    named = getproxies()
    name = target.scheme if named.get(target.scheme) else "all"
    proxy = named.get(name)
    if not proxy:
        return None
    is_whole = "://" in proxy
    proxy = proxy if is_whole else f"http://{proxy}"
    if not _is_proxy(proxy, schemes, needs_port=not is_whole):
        raise ConfigurationError(
            f"The setting {name}_proxy is wrong for calls to {target.scheme}://{host}: it should "
            f"be like {schemes[0]}://proxy.example:3128, or no_proxy should name the host."
        )
    return proxy


async def open_tunnel(proxy: str, host: str, port: int) -> socket.socket:
    """Returns a connection to a server through an HTTP proxy (RFC 9110 §9.3.6), for protocols whose
    client knows no proxies. Nothing that the server has sent is read from it yet.

    :param proxy: ``http://HOST:PORT``, with a user and a password if the proxy wants them.
    :raises TunnelError: see there.
    """
    url = URL(proxy)
    assert url.host is not None, "a proxy has a host"
    assert url.port is not None, "http has a usual port"
    loop = asyncio.get_running_loop()
    with ExitStack() as on_failure:
        try:
            sock = await _connected(url.host, url.port)
        except OSError as error:
            raise TunnelError(f"The proxy cannot be reached: {error}") from error
        on_failure.callback(sock.close)
        await loop.sock_sendall(sock, _connect_request(url, host, port))
        status_line = await _read_head(sock)
        version, _, status = status_line.partition(" ")
        if not (version.startswith("HTTP/1.") and status.startswith("2")):
            raise TunnelError(f"The proxy opens no tunnel to {host}:{port}: {status_line[:100]!r}")
        on_failure.pop_all()
        return sock


def without_credentials(proxy: str) -> str:
    """The address of a proxy as logs may show it."""
    return str(URL(proxy).with_user(None))


def _is_proxy(address: str, schemes: Sequence[str], *, needs_port: bool) -> bool:
    try:
        url = URL(address)
    except ValueError:
        return False
    if needs_port and url.explicit_port is None:
        return False
    return url.scheme in schemes and bool(url.host)


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


async def _connected(host: str, port: int) -> socket.socket:
    """Tries the host's addresses, one after the other."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        with ExitStack() as on_failure:
            try:
                sock = socket.socket(family, kind, protocol)
                on_failure.callback(sock.close)
                sock.setblocking(False)
                await loop.sock_connect(sock, address)
            except OSError as error:
                failure = error
                continue
            on_failure.pop_all()
            return sock
    raise failure or OSError(f"{host} has no address")


def _connect_request(proxy: URL, host: str, port: int) -> bytes:
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.user is not None:
        credentials = b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {credentials}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _read_head(sock: socket.socket) -> str:
    """Returns the first line of the proxy's answer. Byte by byte: what comes after the head is the
    server's first word, and its client's to read.
    """
    loop = asyncio.get_running_loop()
    head = bytearray()
    while not head.endswith(_HEAD_END):
        byte = await loop.sock_recv(sock, 1)
        if not byte:
            raise TunnelError("The proxy closed the connection before it had answered")
        head += byte
        if len(head) > _LONGEST_HEAD_BYTES:
            raise TunnelError("The proxy's answer is too long to be one")
    return head.split(b"\r\n", 1)[0].decode("latin-1")
