"""The shop in a mesh, on the cluster that KUBECONFIG points at: the mesh is installed there, and
the image is loaded. `make test-mesh` does both, or says that there is no such mesh.

``--mesh istio``, ``linkerd`` or ``none``. The tests of a mesh's own are in the folder of its name.
MESHMART_SCREENSHOTS names the folder for pictures; without it they are in pytest's own.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page

from tests.mesh.mesh_page import Take
from tests.mesh.meshed import HOST, NODE, Mesh
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
from tests.testkit.browser import MISSING, chromium, open_browser
from tests.testkit.customer import Client
from tools.kind import PROMETHEUS_URL

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


@pytest.fixture(scope="module")
def shown(observed: Mesh) -> Generator[Mesh]:
    """The shop whose mesh page asks Prometheus."""
    observed.release.upgrade(f"observability.prometheusUrl={PROMETHEUS_URL}")
    yield observed
    observed.release.upgrade("observability.prometheusUrl=")


@pytest.fixture
async def window(shown: Mesh, client: Client) -> AsyncGenerator[BrowserContext]:
    """A browser of somebody outside."""
    executable = chromium()
    if executable is None:
        pytest.skip(MISSING)
    async with open_browser(executable, {HOST: NODE}) as browser:
        # The certificate is one of the shop's own making; test_edge.py verifies it.
        yield await browser.new_context(
            base_url=client.base_url,
            ignore_https_errors=True,
            viewport={"width": 1280, "height": 900},
        )


@pytest.fixture
async def page(window: BrowserContext) -> Page:
    """The one that stays open."""
    return await window.new_page()


@pytest.fixture
def pictures(shown: Mesh, tmp_path: Path) -> Take:
    """Takes a picture of a page, by a name."""
    folder = Path(os.environ.get("MESHMART_SCREENSHOTS") or tmp_path)

    async def take(page: Page, name: str) -> None:
        path = folder / f"{shown.name}-{name}.png"
        await page.screenshot(path=path, full_page=True)
        print(f"picture: {path}")

    return take
