"""Gives out ports: the ones asked for, free ones, or fixed ones that are easy to remember."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Mapping

from services.common.errors import ConfigurationError
from services.common.listening import LOOPBACK, LOOPBACK_6, NO_SUCH_ADDRESS
from services.local.programs import SANDBOX

SHOP_PORT = 8080
SANDBOX_PORT = 8090
_HTTP_BASE = 3001
_INTERNAL_BASE = 3011
_GRPC_BASE = 9001
_REPLICA_STRIDE = 20
# What is free in IPv4 may be taken in IPv6.
_ATTEMPTS = 20


class Ports:
    """The ports of one shop, taken as long as the shop runs.

    On Linux each is held by a socket that is bound but does not listen. That keeps the system from
    giving it to somebody's outgoing connection, also while a process of ours is being restarted,
    and yet lets that process listen there (both set SO_REUSEADDR; see socket(7)).

    :param asked: HTTP ports by service and gRPC ports by `grpc_name`, as the user wants them.
    :param any_free: whether all others may be any free ones.
    """

    def __init__(self, asked: Mapping[str, int], *, any_free: bool) -> None:
        self._asked = asked
        self._any_free = any_free
        self._held = contextlib.ExitStack()
        self._names: dict[int, str] = {}

    def close(self) -> None:
        """Gives all ports back."""
        self._held.close()

    def http(self, service: str, position: int = 0, replica: int = 0) -> int:
        """Takes the HTTP port of a service's process.

        :param position: the service's place in the topology, which decides its usual port.
        :raises ConfigurationError: it cannot be had.
        """
        if replica == 0 and service in self._asked:
            return self._take(self._asked[service], service)
        return self._take(0 if self._any_free else usual_http(service, position, replica), service)

    def grpc(self, service: str, position: int, replica: int = 0) -> int:
        """Takes the gRPC port of a service's process.

        :raises ConfigurationError: it cannot be had.
        """
        name = grpc_name(service)
        if replica == 0 and name in self._asked:
            return self._take(self._asked[name], name)
        return self._take(0 if self._any_free else usual_grpc(position, replica), name)

    def internal(self, service: str, position: int, replica: int = 0) -> int:
        """Takes the internal port of a service's process.

        :raises ConfigurationError: it cannot be had.
        """
        name = internal_name(service)
        if replica == 0 and name in self._asked:
            return self._take(self._asked[name], name)
        return self._take(0 if self._any_free else usual_internal(position, replica), name)

    def _take(self, wanted: int, name: str) -> int:
        if wanted in self._names:
            raise ConfigurationError(
                f"Port {wanted} is wanted for both {self._names[wanted]} and {name}: "
                f"choose another for one of them with --ports."
            )
        refusal: OSError | None = None
        for _ in range(_ATTEMPTS if wanted == 0 else 1):
            with contextlib.ExitStack() as holders:
                try:
                    port = _hold(holders, LOOPBACK, wanted)
                    if wanted == 0 or name == "frontend":  # which listens in both families
                        _hold_if_there(holders, LOOPBACK_6, port)
                except OSError as error:
                    refusal = error
                    continue
                if sys.platform == "linux":
                    self._held.push(holders.pop_all())
                self._names[port] = name
                return port
        raise ConfigurationError(
            f"Port {wanted} for {name} is not available "
            f"({refusal.strerror if refusal else 'none is free'}): "
            f"stop what listens there, or choose another with --ports {name}=PORT or "
            f"--ports free (make run ARGS='--ports {name}=PORT')."
        ) from refusal


def _hold(holders: contextlib.ExitStack, address: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    holder = holders.enter_context(socket.socket(family))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((address, port))
    taken: int = holder.getsockname()[1]
    return taken


def _hold_if_there(holders: contextlib.ExitStack, address: str, port: int) -> None:
    """The same where the machine has that address."""
    try:
        _hold(holders, address, port)
    except OSError as error:
        if error.errno not in NO_SUCH_ADDRESS:
            raise


def grpc_name(service: str) -> str:
    """What a service's gRPC port is called on the command line."""
    return f"{service}.grpc"


def internal_name(service: str) -> str:
    """What a service's internal port is called on the command line."""
    return f"{service}.internal"


def usual_http(service: str, position: int = 0, replica: int = 0) -> int:
    """The HTTP port of a service's process when nobody asks for another."""
    if service == "frontend" and replica == 0:
        return SHOP_PORT
    if service == SANDBOX:
        return SANDBOX_PORT
    return _HTTP_BASE + position + _REPLICA_STRIDE * replica


def usual_internal(position: int, replica: int = 0) -> int:
    """The internal port of a service's process when nobody asks for another."""
    return _INTERNAL_BASE + position + _REPLICA_STRIDE * replica


def usual_grpc(position: int, replica: int = 0) -> int:
    """The gRPC port of a service's process when nobody asks for another."""
    return _GRPC_BASE + position + _REPLICA_STRIDE * replica
