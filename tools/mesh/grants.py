"""The permissions as Linkerd's rules say them: by request, and for each who may send it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from services.common.topology import PathTemplate, Topology
from tools.mesh.permissions import permissions


class Request(NamedTuple):
    """One kind of request. Of gRPC: POST to ``/package.Service/Method``."""

    method: str
    path: PathTemplate


@dataclass(frozen=True, slots=True)
class Grant:
    """Requests to one port of a service that exactly the same callers may send.

    :ivar callers: names of services, or GATEWAY.
    """

    callee: str
    port: int
    callers: tuple[str, ...]
    requests: tuple[Request, ...]


def grants(topology: Topology, callee: str) -> Iterator[Grant]:
    """Everything that is allowed at a service; each request is in one grant."""
    callers: dict[tuple[int, Request], list[str]] = {}
    for permission in permissions(topology):
        if permission.callee != callee:
            continue
        for operation in permission.operations:
            for method in operation.methods:
                request = operation.port, Request(method, operation.path)
                callers.setdefault(request, []).append(permission.caller)
    by_callers: dict[tuple[int, tuple[str, ...]], list[Request]] = {}
    for (port, request), who in callers.items():
        by_callers.setdefault((port, tuple(who)), []).append(request)
    for (port, who), requests in by_callers.items():
        yield Grant(callee, port, who, tuple(requests))


def caller_groups(topology: Topology) -> list[tuple[str, ...]]:
    """The different groups of callers of all services."""
    found = (grant.callers for callee in topology.services for grant in grants(topology, callee))
    return list(dict.fromkeys(found))
