"""Somebody in the cluster who is in no mesh, and what the shop's services answer them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labs.errors import CommandFailed
from labs.meshed import MONGODB, MeshedShop, Probed
from services.common.topology import load_topology

_MANIFEST = Path(__file__).parent / "outsider.yaml"


async def let_outsider_in(shop: MeshedShop) -> None:
    """Starts a pod without a proxy, and so without a certificate.

    :raises LabError: it does not start.
    """
    await shop.apply(_MANIFEST)


async def asked_in_plain(shop: MeshedShop) -> Mapping[str, Sequence[Probed]] | None:
    """Returns what each service answers the outsider. None where there is nobody."""
    asked = list(_requests())
    try:
        probed = await shop.probe("outsider", "shell", [request for _, request in asked])
    except CommandFailed:
        return None
    answers: dict[str, list[Probed]] = {}
    for (name, _), each in zip(asked, probed, strict=True):
        answers.setdefault(name, []).append(each)
    return answers


def _requests() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """One to each HTTP port, one to each RPC that somebody calls, and one to MongoDB, by who gets
    it.
    """
    topology = load_topology()
    for name, service in topology.services.items():
        port = service.http.service_port
        yield name, {"method": "GET", "url": f"http://{service.workload}:{port}/metrics"}
        if service.grpc is not None:
            target = f"{service.workload}:{service.grpc.service_port}"
            called = {call.rpc for _, edge in topology.callers_of(name) for call in edge.grpc}
            for rpc in sorted(called):
                yield name, {"target": target, "rpc": f"/{rpc}"}
    yield "mongodb", MONGODB
