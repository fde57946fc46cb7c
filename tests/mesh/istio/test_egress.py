"""A proxy knows only whom its service calls."""

from __future__ import annotations

from tests.mesh.istio.mesh import IstioMesh
from tests.mesh.meshed import takes_effect


async def test_others_are_not_found(mesh: IstioMesh) -> None:
    stranger_to = {"method": "GET", "url": "http://payment-service.ecommerce:3000/metrics"}

    async def is_cut_off() -> bool:
        (answer,) = mesh.probe("deployment/frontend", [stranger_to])
        return answer.outcome == "failed" and "502" in answer.detail

    await takes_effect(is_cut_off, "frontend's proxy does not know payment")
