"""The shop in Istio, on the cluster that KUBECONFIG points at: the mesh is installed there, and the
image is loaded. `make test-mesh` does both.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import pytest

from tests.cluster.release import Release, install, uninstall
from tests.harness.customer import Client
from tests.mesh.meshed import (
    BASE,
    Mesh,
    install_bystanders,
    install_certificate,
    remove_bystanders,
)
from tools.kind import ISTIO_ENTRY, WAY_IN

# What must be there before the proxies are.
ENTRY = tuple(BASE / name for name in ISTIO_ENTRY)

# How the chart is installed for it.
IN_ISTIO = ("--set", f"mesh=istio,{WAY_IN['istio']}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/mesh" in item.nodeid:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def proxied() -> Generator[Mesh]:
    """The shop whose pods have proxies, reached through the gateway, before anything is refused."""
    release = Release("", enforced="privileged")
    uninstall(release)
    remove_bystanders()
    mesh = Mesh(release, install_certificate())
    install(
        release,
        *IN_ISTIO,
        *("--set", "services.product.variants.v2=1"),
        *("--set", "services.frontend.variants.mobile-optimized=1"),
        *("--set", "services.frontend.variants.beta-features=1"),
        *("--set", "observability.otlpEndpoint=http://jaeger.observability:4317"),
        *("--set-string", "services.shipping.environment.SHIPPING_STEP_SECONDS=3600"),
    )
    mesh.apply(*ENTRY)
    install_bystanders()
    release.upgrade()
    yield mesh
    mesh.delete(BASE)
    uninstall(release)
    remove_bystanders()


@pytest.fixture(scope="session")
def mesh(proxied: Mesh) -> Mesh:
    """The same, with all of mesh/istio/base."""
    proxied.apply(BASE)
    return proxied


@pytest.fixture
async def client(mesh: Mesh) -> AsyncGenerator[Client]:
    """Somebody outside, at the gateway."""
    async with mesh.gateway() as client:
        yield client
