"""The shop on a real cluster: the one that KUBECONFIG points at, with the image loaded into it.

`make test-cluster` builds, loads and runs all of it.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import aiohttp
import pytest

from tests.cluster.release import Release, installed
from tests.testkit.customer import Client

# Where the frontend's NodePort is reached. On kind, `make up` leads 127.0.0.1:8080 to it.
BASE_URL = os.environ.get("MESHMART_CLUSTER_URL", "http://127.0.0.1:30080")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/cluster" in item.nodeid:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def release() -> Generator[Release]:
    """The shop of all tests that leave it in order, with two pods of each service."""
    with installed(BASE_URL) as release:
        yield release


@pytest.fixture
def client(http: aiohttp.ClientSession, release: Release) -> Client:
    """Somebody without an account."""
    return Client(http, release.url)
