"""Installing and removing the shop."""

from __future__ import annotations

import base64

import pytest

from services.common.topology import load_topology
from tests.cluster.release import Release
from tests.testkit.cluster import CommandFailed
from tests.testkit.customer import Client

WORKLOADS = [service.workload for service in load_topology().services.values()]


def test_every_pod_is_ready_and_none_had_to_start_twice(release: Release) -> None:
    pods = [
        pod
        for pod in release.namespace.objects("pods")
        if pod["metadata"]["labels"]["app.kubernetes.io/name"] != "mongodb-users"
    ]
    names = [pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in pods]
    assert sorted(names) == sorted(["mongodb", *WORKLOADS, *WORKLOADS])
    for pod in pods:
        (status,) = pod["status"]["containerStatuses"]
        assert (status["ready"], status["restartCount"]) == (True, 0), pod["metadata"]["name"]


def test_helm_test_buys_something(release: Release) -> None:
    assert "Succeeded" in release.namespace.helm("test", "shop", "--timeout", "120s")


async def test_what_is_for_operators_is_not_open_to_people(client: Client) -> None:
    for path in ("/metrics", "/docs", "/openapi.json", "/livez", "/readyz"):
        assert (await client.send("GET", path)).status == 404, path


def test_a_pod_that_wants_more_than_restricted_is_refused(release: Release) -> None:
    """The namespace enforces the standard, so all that runs in it meets the standard."""
    with pytest.raises(CommandFailed, match='violates PodSecurity "restricted'):
        release.namespace.kubectl(
            *("run", "greedy", "--image=curlimages/curl:8.14.1", "--privileged", "--dry-run=server")
        )


def test_an_upgrade_that_changes_nothing_starts_nothing_again(release: Release) -> None:
    def pods() -> set[str]:
        return {pod["metadata"]["uid"] for pod in release.namespace.objects("pods")}

    before = pods()
    release.upgrade()
    assert pods() == before


def test_a_volume_at_data_would_belong_to_the_images_user(release: Release) -> None:
    """Docker gives a new volume the owner of what it covers (compose.yaml)."""
    look = "import os; print(os.stat('/data').st_uid == os.getuid() != 0)"
    command = ("exec", "deployment/order-service", "--", "python", "-c", look)
    assert release.namespace.kubectl(*command).strip() == "True"


def test_secrets_outlive_an_upgrade(release: Release) -> None:
    names = [
        secret["metadata"]["name"]
        for secret in release.namespace.objects("secrets", "app.kubernetes.io/part-of=meshmart")
    ]
    assert len(names) == 11

    def contents() -> dict[str, object]:
        return {name: release.namespace.object("secret", name)["data"] for name in names}

    before = contents()
    release.upgrade("defaults.environment.LOG_LEVEL=info")
    assert contents() == before


def test_each_database_user_sees_its_own_database_only(release: Release) -> None:
    script = (
        "import asyncio, os, sys\n"
        "from pymongo import AsyncMongoClient\n"
        "from pymongo.errors import OperationFailure\n"
        "async def main():\n"
        "    client = AsyncMongoClient(os.environ['DATABASE_URL'])\n"
        "    await client['order']['orders'].find_one()\n"
        "    try:\n"
        "        await client['payment']['payments'].find_one()\n"
        "    except OperationFailure as error:\n"
        "        print(error.code)\n"
        "asyncio.run(main())\n"
    )
    output = release.namespace.kubectl(
        "exec", "deployment/order-service", "--", "python", "-c", script
    )
    assert output.strip() == "13"  # Unauthorized


def test_an_audit_in_the_pod_of_payment_finds_nothing_wrong(release: Release) -> None:
    """As docs/backup.md says."""
    url = base64.b64decode(release.namespace.object("secret", "mongodb")["data"]["url"]).decode()
    audited = release.namespace.kubectl(
        *("exec", "deployment/payment-service", "--"),
        *("env", f"DATABASE_URL={url}", "python", "-m", "services", "audit"),
    )
    assert "nothing disagrees" in audited
    assert int(audited.split()[0]) > 0, "orders"
