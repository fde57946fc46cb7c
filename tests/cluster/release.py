"""The chart, installed for the tests."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from services.inventory.settings import InventorySettings
from tests.testkit.books import Books, open_books_at
from tests.testkit.cluster import CHART, Namespace, run

IMAGE = os.environ.get("MESHMART_CLUSTER_IMAGE", "meshmart:0.1.0")
_AT_NODE_PORT = ("--set", "frontend.service.type=NodePort,frontend.service.nodePort=30080")


@dataclass(frozen=True, slots=True)
class Release:
    """An installed shop.

    :ivar url: where its frontend is reached from here; empty when it has no port of the node.
    :ivar enforced: the Pod Security Standard that its namespace enforces.
    """

    url: str
    namespace: Namespace = field(default_factory=lambda: Namespace("ecommerce"))
    stripe: Namespace = field(default_factory=lambda: Namespace("stripe"))
    enforced: str = "restricted"

    def upgrade(self, *values: str) -> None:
        """Changes its values, and waits until all pods are as they say."""
        self.namespace.helm(
            *("upgrade", "shop", str(CHART), "--reuse-values", "--wait", "--timeout", "300s"),
            *(argument for value in values for argument in ("--set", value)),
        )

    @asynccontextmanager
    async def books(self) -> AsyncGenerator[Books]:
        """All that the shop has written down, read with MongoDB's root user."""
        with (
            self.namespace.forwarded("service/mongodb", 27017) as mongodb,
            self.stripe.forwarded("service/stripe-sandbox", 12111) as sandbox,
        ):
            password = self.namespace.secret("mongodb", "password")
            async with open_books_at(
                f"mongodb://root:{password}@{mongodb}/?directConnection=true",
                sandbox_url=lambda: f"http://{sandbox}",
                stock_file=InventorySettings().stock_file,
            ) as books:
                yield books

    def pods(self, workload: str) -> list[str]:
        """The names of a workload's pods that are not about to end."""
        return [
            pod["metadata"]["name"]
            for pod in self.namespace.objects("pods", f"app.kubernetes.io/name={workload}")
            if "deletionTimestamp" not in pod["metadata"]
        ]


def install(release: Release, *arguments: str) -> None:
    """Installs the shop as a user does, on an enforcing namespace, and does not wait."""
    repository, _, tag = IMAGE.rpartition(":")
    run("kubectl", "create", "namespace", release.namespace.name)
    enforce = f"pod-security.kubernetes.io/enforce={release.enforced}"
    run("kubectl", "label", "namespace", release.namespace.name, enforce)
    release.namespace.helm(
        *("install", "shop", str(CHART)),
        *("--set", f"image.repository={repository},image.tag={tag}"),
        *(_AT_NODE_PORT if release.url else ()),
        *arguments,
    )


def uninstall(release: Release) -> None:
    """Removes the shop and its namespace; what was there before stays."""
    release.namespace.helm("uninstall", "shop", "--ignore-not-found")
    names = {release.namespace.name, release.stripe.name}
    # Nobody is served any more, so no pod needs to drain. A namespace that still has pods is looked
    # at again only after half their grace period, so they go first.
    for name in names:
        run("kubectl", "-n", name, "delete", "pods", "--all", "--grace-period=1")
    run("kubectl", "delete", "namespace", *names, "--ignore-not-found", "--wait")


@contextmanager
def installed(url: str) -> Generator[Release]:
    """The shop with two pods of each service, ready, whose parcels do not move."""
    release = Release(url)
    uninstall(release)  # what a former run has left
    install(
        release,
        *("--set", "defaults.replicas=2"),
        *("--set-string", "services.shipping.environment.SHIPPING_STEP_SECONDS=3600"),
        *("--wait", "--timeout", "300s"),
    )
    yield release
    uninstall(release)
