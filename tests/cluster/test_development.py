"""What `skaffold dev` relies on: a file that is put into the running containers takes effect, and
only the services that it belongs to start again.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Generator

import aiohttp
import pytest

from tests.cluster.release import Release
from tests.testkit.cluster import ROOT
from tests.testkit.customer import Client
from tests.testkit.waiting import eventually

_PAGE = "services/frontend/templates/about.html"
# By their numbers, all but the one that looks.
_LIST_PROCESSES = (
    "import os, pathlib; "
    "print(sorted({int(p.name) for p in pathlib.Path('/proc').glob('[0-9]*')} - {os.getpid()}))"
)


@pytest.fixture
def developed(release: Release) -> Generator[Release]:
    """The shop as `skaffold dev` installs it."""
    release.upgrade("development=true", "defaults.replicas=1")
    yield release
    release.upgrade("development=false", "defaults.replicas=2")


def _sync(release: Release, pod: str, file: str, content: str) -> None:
    """Puts a file into a container as skaffold does: with tar, below /app."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(file)
        data = content.encode()
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    command = ["kubectl", "-n", release.namespace.name, "exec", "-i", pod, "--"]
    subprocess.run(
        [*command, "tar", "xmf", "-", "-C", "/app", "--no-same-owner"],
        input=packed.getvalue(),
        check=True,
    )


def _processes(release: Release, pod: str) -> str:
    return release.namespace.kubectl("exec", pod, "--", "python", "-c", _LIST_PROCESSES)


async def test_a_changed_file_restarts_its_own_service_only(
    developed: Release, client: Client
) -> None:
    (frontend,) = developed.pods("frontend")
    (order,) = developed.pods("order-service")
    before = _processes(developed, order)
    page = (ROOT / _PAGE).read_text(encoding="utf-8")
    changed = page.replace("<h1", "<p>Changed by a developer.</p><h1", 1)
    assert changed != page

    for pod in (frontend, order):
        _sync(developed, pod, _PAGE, changed)

    async def shows_it() -> bool:
        try:
            return "Changed by a developer." in await client.text("/about")
        except (AssertionError, aiohttp.ClientError):
            return False  # it is starting again

    await eventually(shows_it, "the page shows the change", 60)
    assert _processes(developed, order) == before
    assert developed.pods("frontend") == [frontend], "the pod itself stays"
