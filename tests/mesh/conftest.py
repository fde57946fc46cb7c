"""The shop in a mesh, on the cluster that KUBECONFIG points at: the mesh is installed there, and
the image is loaded. `make test-mesh` does both, or says that there is no such mesh.

``--mesh istio``, ``linkerd`` or ``none``. The tests of a mesh's own are in the folder of its name.
MESHMART_SCREENSHOTS names the folder for pictures; without it they are in pytest's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Generator, Mapping
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page

from tests.cluster.release import Release, install, uninstall
from tests.harness.browser import MISSING, chromium, open_browser
from tests.harness.cluster import run
from tests.harness.customer import Client
from tests.mesh.istio.mesh import IstioMesh
from tests.mesh.linkerd.mesh import LinkerdMesh
from tests.mesh.mesh_page import Take
from tests.mesh.meshed import (
    HOST,
    NODE,
    Mesh,
    install_bystanders,
    install_certificate,
    remove_bystanders,
)
from tests.mesh.none.mesh import NoMesh
from tests.mesh.observers import installed_observers
from tools.kind import PROMETHEUS_URL

HERE = Path(__file__).parent
MESHES: Mapping[str, type[Mesh]] = {each.name: each for each in (IstioMesh, LinkerdMesh, NoMesh)}
_LEFT_OUT = pytest.StashKey[str]()
# `-m` asks for tests in a cluster, be it for some of them.
_CLUSTER = re.compile(r"(?<!not )\bcluster\b")
# Whoever takes one of these fixtures needs the mesh in the cluster.
_MESHED = {"mesh", "kind"}


def chosen(config: pytest.Config) -> type[Mesh]:
    """The mesh of this run."""
    return MESHES[config.option.mesh]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The folders of the other meshes."""
    others = {HERE / name for name in MESHES} - {HERE / chosen(config).name}
    return True if collection_path in others else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = [item for item in items if item.path.is_relative_to(HERE)]
    for item in here:
        item.add_marker(pytest.mark.cluster)
        item.add_marker(pytest.mark.timeout(600))
    is_asked_for = _CLUSTER.search(config.option.markexpr)
    if not is_asked_for or config.option.collectonly or not here:
        return
    if not chosen(config).is_installed():
        lacking = chosen(config).name.capitalize()
        need_it = [item for item in here if _MESHED & set(getattr(item, "fixturenames", ()))]
    elif "rollouts.argoproj.io" not in run("kubectl", "get", "crds", "-o", "name"):
        lacking = "Argo Rollouts"
        need_it = [item for item in here if item.get_closest_marker("argo_rollouts")]
    else:
        return
    config.stash[_LEFT_OUT] = (
        f"This cluster has no {lacking}; tests that need it, and are not run: {len(need_it)}"
    )
    config.hook.pytest_deselected(items=need_it)
    items[:] = [item for item in items if item not in need_it]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if line := config.stash.get(_LEFT_OUT, None):
        terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _LEFT_OUT in session.config.stash and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture(scope="session")
def proxied(request: pytest.FixtureRequest) -> Generator[Mesh]:
    """The shop whose pods have proxies, reached through the gateway, before anything is refused."""
    kind = chosen(request.config)
    release = Release("", enforced="privileged")
    uninstall(release)
    remove_bystanders()
    mesh = kind(release, install_certificate(kind.name))
    install(
        release,
        *kind.chart_values(),
        *("--set", "services.product.variants.v2=1"),
        *("--set", "services.frontend.variants.mobile-optimized=1"),
        *("--set", "services.frontend.variants.beta-features=1"),
        *("--set", "observability.otlpEndpoint=http://jaeger.observability:4317"),
        *("--set-string", "services.shipping.environment.SHIPPING_STEP_SECONDS=3600"),
    )
    for label in mesh.namespace_labels:
        run("kubectl", "label", "namespace", mesh.namespace.name, label)
    mesh.apply(*mesh.entry)
    mesh.certificates.append(install_bystanders(kind.name))
    release.upgrade()
    mesh.has_policies = bool(mesh.closed_to_outsiders())
    yield mesh
    mesh.remove()
    uninstall(release)
    remove_bystanders()


@pytest.fixture(scope="session")
def mesh(proxied: Mesh) -> Mesh:
    """The same, with all of the mesh's base."""
    proxied.close()
    return proxied


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
