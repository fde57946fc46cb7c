"""A TCP relay whose connections can be reset, slowed down and cut off.

It knows no back pressure: a request or an answer of the shop is a few megabytes at most.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter, deque
from enum import StrEnum
from typing import cast

LOOPBACK = "127.0.0.1"

_BACKLOG = 512
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # socket(7), SO_LINGER: on, for no time


class TcpFault(StrEnum):
    """What can happen to a connection. Resets are counted in connections, the others in pieces of
    data.
    """

    RESET = "reset"
    BLACK_HOLE = "black hole"
    SLOW = "slow"


class Gate:
    """What happens to connections, and what has happened.

    :ivar resets_new: whether each new connection is reset.
    :ivar delay_seconds: how much longer each piece of data takes, either way.
    """

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self.resets_new = False
        self.delay_seconds = 0.0
        self.ends: set[End] = set()
        self._black_hole = False

    @property
    def black_hole(self) -> bool:
        """Whether connections are accepted and nothing goes through. What was sent meanwhile
        arrives when it ends, since TCP repeats what was lost.
        """
        return self._black_hole

    @black_hole.setter
    def black_hole(self, black_hole: bool) -> None:
        self._black_hole = black_hole
        if not black_hole:
            for end in tuple(self.ends):
                end.let_go()

    @property
    def is_open(self) -> bool:
        """Whether data goes through at once."""
        return not self._black_hole and not self.delay_seconds

    def reset_connections(self) -> None:
        """Resets the connections that there are."""
        for end in tuple(self.ends):
            end.reset()

    def close_connections(self) -> None:
        """Ends the connections that there are."""
        for end in tuple(self.ends):
            end.abort()

    def heal(self) -> None:
        """Ends all faults."""
        self.resets_new = False
        self.delay_seconds = 0.0
        self.black_hole = False


class Relay:
    """Listens on a free port, and relays to another one through a gate."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server

    @classmethod
    async def start(cls, gate: Gate, to_port: int) -> Relay:
        """Begins to listen."""
        loop = asyncio.get_running_loop()
        return cls(
            await loop.create_server(
                lambda: CallersEnd(gate, to_port), LOOPBACK, 0, backlog=_BACKLOG
            )
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Listens no more."""
        self._server.close()


class End(asyncio.Protocol):
    """One end of a relayed connection. What comes from it goes to its peer."""

    peer: End

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._early: list[bytes | None] | None = []  # until this end is connected
        self._held: deque[bytes | None] = deque()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._gate.ends.add(self)
        early, self._early = self._early or [], None
        for data in early:
            self.send(data)

    def data_received(self, data: bytes) -> None:
        self.peer.send(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._held.clear()
        self._gate.ends.discard(self)
        self.peer.send(None)

    def send(self, data: bytes | None) -> None:
        """Sends data to this end, or closes it for None, when the gate lets it."""
        if self._early is not None:
            self._early.append(data)
            return
        if self._transport is None:
            return
        if self._gate.is_open and not self._held:
            self._write(self._transport, data)
            return
        self._held.append(data)
        if self._gate.black_hole:
            self._gate.counts[TcpFault.BLACK_HOLE] += 1
        else:
            self._gate.counts[TcpFault.SLOW] += 1
            loop = asyncio.get_running_loop()
            loop.call_later(self._gate.delay_seconds, self._let_one_go)

    def let_go(self) -> None:
        """Sends what is held."""
        while self._held and self._transport is not None:
            self._write(self._transport, self._held.popleft())

    def abort(self) -> None:
        """Closes this end at once."""
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """Closes this end with a RST."""
        if self._transport is not None:
            connection: socket.socket | None = self._transport.get_extra_info("socket")
            if connection is not None:  # otherwise it is closed already, and about to say so
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            self._transport.abort()

    def _let_one_go(self) -> None:
        # Each timer sends what is oldest, so the order stays whatever the delay changes to.
        if self._held and self._transport is not None and not self._gate.black_hole:
            self._write(self._transport, self._held.popleft())

    def _write(self, transport: asyncio.Transport, data: bytes | None) -> None:
        if data is None:
            transport.close()
        else:
            transport.write(data)


class CallersEnd(End):
    """The end that a caller has opened, which opens the other one."""

    def __init__(self, gate: Gate, to_port: int) -> None:
        super().__init__(gate)
        self.peer = End(gate)
        self.peer.peer = self
        self._to_port = to_port
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._gate.resets_new:
            self.reset()
            return
        self._opening = asyncio.create_task(self._open_peer())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._opening is not None:
            self._opening.cancel()
        super().connection_lost(exc)

    def reset(self) -> None:
        """Closes this end with a RST, and counts it."""
        self._gate.counts[TcpFault.RESET] += 1
        super().reset()

    async def _open_peer(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.peer, LOOPBACK, self._to_port)
        except OSError:  # the proxy behind it is being closed
            self.abort()
