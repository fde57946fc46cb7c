"""Who may send which requests to whom, worked out from topology.yaml; both meshes' rules say it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from services.common.topology import HttpCall, PublicRoute, Service, Topology

# The caller that stands for people outside.
GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Operation:
    """Requests that a service offers on one port.

    :ivar path: a template of the topology for HTTP; ``/package.Service/Method`` for gRPC.
    :ivar needs_user: answers only to a user's access token.
    """

    port: int
    methods: tuple[str, ...]
    path: str
    needs_user: bool = False


@dataclass(frozen=True, slots=True)
class Permission:
    """What one caller may ask one callee for.

    :ivar caller: a service's name, or GATEWAY.
    """

    caller: str
    callee: str
    operations: tuple[Operation, ...]


def permissions(topology: Topology) -> Iterator[Permission]:
    """Everything that is allowed, by callee and then by caller; all else is not."""
    for callee, service in topology.services.items():
        if service.public:
            offered = tuple(_public(service, route) for route in service.public)
            yield Permission(GATEWAY, callee, offered)
        for caller, edge in topology.callers_of(callee):
            called = [_called(service, call) for call in edge.http]
            if service.grpc is not None:
                called += [
                    Operation(service.grpc.port, ("POST",), f"/{call.rpc}") for call in edge.grpc
                ]
            yield Permission(caller, callee, tuple(called))


def _route_of(service: Service, call: HttpCall) -> PublicRoute | None:
    """The public route that a service's callers inside the shop use as well."""
    for route in service.public:
        if route.path == call.path and call.method in route.methods:
            return route
    return None


def _public(service: Service, route: PublicRoute) -> Operation:
    # Whatever is read may be asked for by HEAD (RFC 9110 §9.3.2); only people do so.
    methods = tuple(
        each
        for method in route.methods
        for each in ((method, "HEAD") if method == "GET" else (method,))
    )
    return Operation(service.http.port, methods, route.path, route.user)


def _called(service: Service, call: HttpCall) -> Operation:
    route = _route_of(service, call)
    needs_user = route is not None and route.user
    return Operation(service.http.port, (call.method,), call.path, needs_user)
