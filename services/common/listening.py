"""The sockets of a server: IPv4 and IPv6, as far as the machine has them."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterator

# Either one means every address of both families, as it does for gRPC.
ALL_ADDRESSES = frozenset({"0.0.0.0", "::"})  # noqa: S104  what HOST may say
LOCALHOST = "localhost"
LOOPBACK, LOOPBACK_6 = "127.0.0.1", "::1"

# What a machine answers that lacks the address, or its whole family.
NO_SUCH_ADDRESS = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})

_BACKLOG = 2048


def open_listeners(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on a host: an address, a name, or all addresses of the machine.

    ``localhost`` is both loopback addresses, whatever the machine's name service says (RFC 6761
    §6.3). A family that the machine does not have is left out.

    :param port: 0 lets the system choose.
    :raises OSError: the machine has no such address, or the port is taken.
    """
    if host in ALL_ADDRESSES:
        try:
            return [_listener("::", port, takes_both=True)]
        except OSError as error:
            if error.errno not in NO_SUCH_ADDRESS:
                raise
            return [_listener("0.0.0.0", port)]  # noqa: S104  what was asked for
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    with contextlib.ExitStack() as opened:
        for address in dict.fromkeys(_addresses(host)):
            try:
                listener = opened.enter_context(_listener(address, port))
            except OSError as error:
                if error.errno not in NO_SUCH_ADDRESS:
                    raise
                missing = error
                continue
            listeners.append(listener)
            port = listener.getsockname()[1]
        if not listeners and missing is not None:
            raise missing
        opened.pop_all()
    return listeners


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on that host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == LOCALHOST


def with_port(host: str, port: int) -> str:
    """``host:port``, with the brackets that an IPv6 address needs (RFC 3986 §3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _addresses(host: str) -> Iterator[str]:
    if host == LOCALHOST:
        yield from (LOOPBACK, LOOPBACK_6)
        return
    for *_, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        yield str(address[0])


def _listener(address: str, port: int, *, takes_both: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named: an answer would wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not takes_both)
        listener.bind(socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][4])
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
