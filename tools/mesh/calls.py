"""How long each call inside the shop may take, worked out from topology.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from services.common.topology import GrpcCall, HttpCall, Topology


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
