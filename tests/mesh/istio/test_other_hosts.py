"""What the shop says at the shared gateway is said of its own host alone."""

from __future__ import annotations

import aiohttp

from tests.mesh.istio.mesh import IstioMesh
from tests.mesh.meshed import ECHO_HOST, takes_effect
from tests.mesh.test_edge import FORGED


async def test_another_hosts_headers_are_its_own_matter(mesh: IstioMesh) -> None:
    """Nobody has rendered base/edge.yaml for this one."""
    mesh.forget_echos_edge()
    told = {name: FORGED[name] for name in ("x-user-id", "user-id", "x-deadline-ms")}
    async with mesh.gateway(port=mesh.echo_port, host=ECHO_HOST) as people:

        async def reaches_it() -> bool:
            try:
                answer = await people.send("GET", "/", headers=told)
            except aiohttp.ClientError:
                return False  # the gateway has not been told of it
            return answer.status == 200 and told.items() <= answer.body.items()

        await takes_effect(reaches_it, "the echo hears all that is told")
