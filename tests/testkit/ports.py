"""Free ports for servers that tests run themselves."""

from __future__ import annotations

import socket

_holders: list[socket.socket] = []


def free_port() -> int:
    """A port of the loopback interface on which nobody listens. Until the test ends, nobody else
    gets it: neither another server nor an outgoing connection.

    It is held as the shop holds its own (see :class:`services.local.ports.Ports`).
    """
    holder = socket.socket()
    _holders.append(holder)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port: int = holder.getsockname()[1]
    return port


def give_back_ports() -> None:
    """Lets others have all those on which nobody listens by now."""
    while _holders:
        _holders.pop().close()
