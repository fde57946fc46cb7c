"""How long each call inside the shop may take, and which may be repeated, worked out from
topology.yaml.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.common.topology import GrpcCall, HttpCall, Topology

# A mesh gives up a moment before the caller does, so that the caller hears why.
_SHARE_OF_PATIENCE = 0.95


@dataclass(frozen=True, slots=True)
class TimedCall:
    """A call of one service, as all who make it see it, or one caller alone.

    :ivar caller: the workload, where callers differ in their patience; otherwise None.
    """

    call: HttpCall | GrpcCall
    caller: str | None

    @property
    def is_grpc(self) -> bool:
        """Whether it is an RPC."""
        return isinstance(self.call, GrpcCall)

    @property
    def timeout_ms(self) -> float:
        """How long the mesh waits for an answer, repetitions included."""
        return self.call.timeout_ms * _SHARE_OF_PATIENCE


@dataclass(frozen=True, slots=True)
class ServiceRoute:
    """Calls of one service that Linkerd treats alike: a GRPCRoute, or an HTTPRoute, each of whose
    rules may have a time-out of its own.

    :ivar calls: none for all that no other route fits.
    :ivar timeout_ms: of every call, for gRPC.
    """

    name: str
    is_grpc: bool
    calls: Sequence[TimedCall] = ()
    is_retried: bool = False
    timeout_ms: float | None = None


def timed_calls(topology: Topology, callee: str) -> Iterator[TimedCall]:
    """All declared calls of a service, HTTP first."""
    edges = list(topology.callers_of(callee))
    all_calls: list[tuple[str, HttpCall | GrpcCall]] = [
        *((caller, call) for caller, edge in edges for call in edge.http),
        *((caller, call) for caller, edge in edges for call in edge.grpc),
    ]
    by_operation: dict[str, list[tuple[str, HttpCall | GrpcCall]]] = {}
    for caller, call in all_calls:
        by_operation.setdefault(call.operation, []).append((caller, call))
    for made in by_operation.values():
        if len({(call.timeout_ms, call.idempotent) for _, call in made}) == 1:
            yield TimedCall(made[0][1], None)
        else:
            for caller, call in made:
                yield TimedCall(call, topology.services[caller].workload)


def service_routes(topology: Topology, callee: str) -> Iterator[ServiceRoute]:
    """The routes of a service. A route on a Service is the same for all callers of its namespace:
    where they differ the most patient one's time-out holds, and what one calls not idempotent is
    not repeated for any.
    """
    made: dict[str, list[TimedCall]] = {}
    for timed in timed_calls(topology, callee):
        made.setdefault(timed.call.operation, []).append(timed)
    groups: dict[tuple[bool, bool, float | None], list[TimedCall]] = {}
    for by_callers in made.values():
        timed = max(by_callers, key=lambda each: each.timeout_ms)
        is_retried = all(each.call.idempotent for each in by_callers)
        key = (timed.is_grpc, is_retried, timed.timeout_ms if timed.is_grpc else None)
        groups.setdefault(key, []).append(timed)
    workload = topology.services[callee].workload
    for is_grpc in sorted({is_grpc for is_grpc, _, _ in groups}):
        yield ServiceRoute(f"{workload}-undeclared", is_grpc)
    for (is_grpc, is_retried, timeout_ms), calls in groups.items():
        name = f"{workload}-{'repeatable' if is_retried else 'once'}"
        if timeout_ms is not None:
            name += f"-{calls[0].call.timeout_ms}ms"
        yield ServiceRoute(name, is_grpc, calls, is_retried, timeout_ms)
