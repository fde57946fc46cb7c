"""Who could ask, what could be asked for, and what topology.yaml says to each."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import NamedTuple

from services.common.topology import HttpCall, load_topology

TOPOLOGY = load_topology()
RPC = "RPC"
# A pod of the mesh that is none of the shop's services.
STRANGER = "stranger"
# People outside, behind the ingress gateway.
GATEWAY = "gateway"

# What services offer and the topology gives to nobody.
_UNDECLARED = (("GET", "/metrics"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/livez"))


class Operation(NamedTuple):
    """Something to ask a service for.

    :ivar verb: an HTTP method, or RPC. :ivar path: a path template, or ``package.Service/Method``.
    """

    callee: str
    verb: str
    path: str
    needs_user: bool = False


def operations() -> Iterator[Operation]:
    """All that any service offers."""
    for callee, service in TOPOLOGY.services.items():
        for verb, path in _UNDECLARED:
            yield Operation(callee, verb, path)
        for route in service.public:
            for method in route.methods:
                yield Operation(callee, method, route.path, route.user)
        if service.grpc is not None:
            proto = importlib.import_module(f"services.pb.{callee}_pb2").DESCRIPTOR
            for name, offered in proto.services_by_name.items():
                for method in offered.methods_by_name:
                    yield Operation(callee, RPC, f"{proto.package}.{name}/{method}")


def is_declared(caller: str, operation: Operation) -> bool:
    """Whether the topology lets the caller ask for it."""
    if caller == GATEWAY:
        return TOPOLOGY.public_service(operation.verb, operation.path) == operation.callee
    if caller == STRANGER:
        return False
    for edge in TOPOLOGY.services[caller].calls:
        if edge.callee == operation.callee:
            return any(_is_same(call, operation) for call in edge.http) or any(
                operation.verb == RPC and call.rpc == operation.path for call in edge.grpc
            )
    return False


def is_connected(caller: str, operation: Operation) -> bool:
    """Whether the topology has the caller connect to the port at which this is offered."""
    if caller == STRANGER:
        return operation.callee == "frontend"  # people may come from anywhere
    return any(
        is_declared(caller, other)
        for other in operations()
        if other.callee == operation.callee and (other.verb == RPC) == (operation.verb == RPC)
    )


def sample(path: str) -> str:
    """A path that falls under a template: ``/orders/{order_id}`` as ``/orders/order_id``."""
    return path.replace("/**", "/x").replace("{", "").replace("}", "")


def _is_same(call: HttpCall, operation: Operation) -> bool:
    return (call.method, call.path) == (operation.verb, operation.path)
