"""The shop in a mesh, for the tests of the meshes and of the labs; a run of tests for which the
cluster lacks something.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from pathlib import Path

import pytest

from tests.cluster.release import Release, install, uninstall
from tests.mesh.istio.mesh import IstioMesh
from tests.mesh.linkerd.mesh import LinkerdMesh
from tests.mesh.meshed import Mesh, install_bystanders, install_certificate, remove_bystanders
from tests.mesh.none.mesh import NoMesh
from tests.testkit.cluster import run

MESHES: Mapping[str, type[Mesh]] = {each.name: each for each in (IstioMesh, LinkerdMesh, NoMesh)}
_LEFT_OUT = pytest.StashKey[str]()
# `-m` asks for tests in a cluster, be it for some of them.
_CLUSTER = re.compile(r"(?<!not )\bcluster\b")
# Whoever takes one of these fixtures needs the mesh in the cluster.
_MESHED = {"mesh", "kind"}


def chosen(config: pytest.Config) -> type[Mesh]:
    """The mesh of this run."""
    return MESHES[config.option.mesh]


def need_a_cluster(config: pytest.Config, items: list[pytest.Item], folder: Path) -> None:
    """Marks the tests in a folder, and leaves those out for which the cluster lacks something."""
    here = [item for item in items if item.path.is_relative_to(folder)]
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
