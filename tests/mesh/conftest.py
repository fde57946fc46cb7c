"""The shop in a mesh, on the cluster that KUBECONFIG points at: the mesh is installed there, and
the image is loaded. `make test-mesh` does both, or says that there is no such mesh.

``--mesh istio``, ``linkerd`` or ``none``. The tests of a mesh's own are in the folder of its name.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from tests.harness.customer import Client
from tests.mesh.meshed import Mesh
from tests.mesh.observers import installed_observers
from tests.mesh.shops import (
    MESHES,
    chosen,
    mesh,
    need_a_cluster,
    proxied,
    pytest_sessionfinish,
    pytest_terminal_summary,
)

# pytest finds hooks and fixtures here by their names.
__all__ = ["mesh", "proxied", "pytest_sessionfinish", "pytest_terminal_summary"]

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The folders of the other meshes."""
    others = {HERE / name for name in MESHES} - {HERE / chosen(config).name}
    return True if collection_path in others else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    need_a_cluster(config, items, HERE)


@pytest.fixture
def in_a_mesh(mesh: Mesh) -> Mesh:
    """For what is said of meshes only."""
    if mesh.name == "none":
        pytest.skip("it is about a mesh, and here is none")
    return mesh


@pytest.fixture(scope="module")
def observed(mesh: Mesh) -> Generator[Mesh]:
    """The shop with observability/ of its mesh, in the place of the tests' own collector."""
    with installed_observers(mesh):
        yield mesh


@pytest.fixture
async def client(mesh: Mesh) -> AsyncGenerator[Client]:
    """Somebody outside, at the gateway."""
    async with mesh.gateway() as client:
        yield client
