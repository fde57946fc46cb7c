"""The shop in a mesh, and what can be asked of it from inside and outside."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import string
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from services.common import record
from tests.cluster.release import IMAGE, Release
from tests.harness.cluster import ROOT, Namespace, run
from tests.harness.customer import Client
from tests.harness.matrix import STRANGER, TOPOLOGY
from tests.harness.waiting import eventually
from tools.certificate import HOST, Certificate, secret, self_signed

HERE = Path(__file__).parent
BASE = ROOT / "mesh/istio/base"
SCENARIOS = ROOT / "mesh/istio/scenarios"

# Where the nodes' ports are reached from here.
NODE = os.environ.get("MESHMART_CLUSTER_NODE", "127.0.0.1")
# istiod takes a moment to tell a change, and a proxy to take it.
SETTLE_SECONDS = 60.0

OUTSIDER = "outsider"


class Namespaced(NamedTuple):
    """The name of something in a namespace."""

    namespace: str
    name: str


INGRESS_GATEWAY = Namespaced("istio-system", "istio-ingressgateway")

Outcome = Literal["answered", "denied", "refused", "failed"]


class Probed(NamedTuple):
    """What came of a request that a pod has sent; see probe.py."""

    outcome: Outcome
    detail: str
    who: str

    @property
    def pod(self) -> str:
        """Which pod has answered."""
        served = record.decode(self.who)
        return served.instance if served else ""


@dataclass(frozen=True, slots=True)
class Mesh:
    """A shop whose pods have proxies, and Istio's ingress gateway in front of it."""

    release: Release
    certificate: Certificate

    @property
    def namespace(self) -> Namespace:
        """The shop's."""
        return self.release.namespace

    def apply(self, *paths: Path) -> None:
        """Applies files, or folders with a kustomization."""
        for path in paths:
            run("kubectl", "apply", "-k" if path.is_dir() else "-f", str(path))

    def delete(self, *paths: Path) -> None:
        """Takes back what `apply` has made."""
        for path in paths:
            option = "-k" if path.is_dir() else "-f"
            run("kubectl", "delete", option, str(path), "--ignore-not-found")

    @contextmanager
    def scenario(self, name: str) -> Generator[None]:
        """One of the scenarios on top of the base, taken back at the end as README.md says."""
        self.apply(SCENARIOS / name)
        try:
            yield
        finally:
            self.take_back()

    def take_back(self) -> None:
        """Leaves the base and nothing else, by the commands in the README of mesh/istio."""
        text = (BASE.parent / "README.md").read_text(encoding="utf-8")
        (commands,) = re.findall(
            r"^```sh\n(kubectl apply -k mesh/istio/base\n.*?)^```$", text, re.MULTILINE | re.DOTALL
        )
        run("bash", "-euo", "pipefail", "-c", commands)

    def probe(self, pod: str, requests: Sequence[Mapping[str, Any]]) -> list[Probed]:
        """Sends requests from inside a pod of the shop, ``deployment/order-service`` say, or from
        STRANGER or OUTSIDER.
        """
        namespace = Namespace("outside") if pod == OUTSIDER else self.namespace
        script = (HERE / "probe.py").read_text(encoding="utf-8")
        container = [] if "/" not in pod else ["-c", _container(pod)]
        answers = namespace.kubectl(
            *("exec", "-i", pod, *container, "--", "python", "-c", script),
            given=json.dumps(list(requests)),
        )
        return [Probed(*answer) for answer in json.loads(answers)]

    @asynccontextmanager
    async def gateway(
        self, *, port: str = "https", host: str = HOST, service: Namespaced = INGRESS_GATEWAY
    ) -> AsyncGenerator[Client]:
        """A client of the ingress gateway, as people outside are."""
        node_port = gateway_port(port, service)
        connector = aiohttp.TCPConnector(limit=0, ssl=self.trust(), resolver=_Resolver())
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Client(session, f"{port}://{host}:{node_port}")

    def trust(self) -> ssl.SSLContext:
        """Trusts the gateway's certificate."""
        return ssl.create_default_context(cadata=self.certificate.certificate.decode())

    def spans(self) -> list[dict[str, Any]]:
        """All spans that services and proxies have sent."""
        read = ("exec", "-n", "observability", "jaeger", "--", "cat", "/spans/all")
        *whole, _ = run("kubectl", *read).split("\n")
        return [json.loads(line) for line in whole]

    def upstream_hosts(self, pod: str, service: str) -> list[Any]:
        """Whom a pod's Envoy sends requests for a service to, and how it finds them."""
        clusters = json.loads(self.proxy_admin(pod, "clusters?format=json"))["cluster_statuses"]
        return [
            host
            for cluster in clusters
            if cluster["name"].startswith("outbound|") and service in cluster["name"]
            for host in cluster.get("host_statuses", ())
        ]

    def proxy_admin(self, pod: str, path: str, *, method: str = "GET") -> str:
        """What the admin interface of a pod's Envoy says."""
        return self.namespace.kubectl(
            *("exec", pod, "-c", "istio-proxy", "--", "pilot-agent", "request", method, path)
        )


def gateway_port(name: str, service: Namespaced = INGRESS_GATEWAY) -> int:
    """The node's port for ``http`` or ``https`` of a gateway."""
    ports = Namespace(service.namespace).object("service", service.name)["spec"]["ports"]
    number = {"http": 80, "https": 443}[name]
    return next(port["nodePort"] for port in ports if port["port"] == number)


def install_certificate() -> Certificate:
    """Makes the certificate that people see, as `make certificate` does."""
    certificate = self_signed(HOST)
    run("kubectl", "apply", "-f", "-", given=secret(certificate))
    return certificate


def install_bystanders() -> None:
    """The pods of manifests.yaml, ready."""
    template = string.Template((HERE / "manifests.yaml").read_text(encoding="utf-8"))
    manifests = template.substitute(
        IMAGE=IMAGE,
        COLLECTOR=json.dumps((HERE / "collector.py").read_text(encoding="utf-8")),
        ECHO=json.dumps((HERE / "echo.py").read_text(encoding="utf-8")),
    )
    run("kubectl", "apply", "-f", "-", given=manifests)
    for namespace, pod in (
        ("outside", OUTSIDER),
        ("ecommerce", STRANGER),
        ("ecommerce", "echo"),
        ("observability", "jaeger"),
    ):
        run("kubectl", "wait", "-n", namespace, f"pod/{pod}", "--for=condition=Ready")


def remove_bystanders() -> None:
    """What `install_bystanders` has made and the shop's namespace does not take along."""
    for namespace in ("outside", "observability"):
        run("kubectl", "delete", "namespace", namespace, "--ignore-not-found", "--wait")


async def takes_effect(look: Callable[[], Awaitable[bool]], what: str) -> None:
    """Waits until a change has reached the proxies: `look` then gives True."""
    await eventually(look, what, SETTLE_SECONDS)


async def at_rest(count: Callable[[], int], seconds: float) -> int:
    """A number that grows, once it has not for so long."""
    last, since = count(), time.monotonic()

    async def look() -> int | None:
        nonlocal last, since
        now = count()
        if now != last:
            last, since = now, time.monotonic()
        return now if time.monotonic() - since >= seconds else None

    return await eventually(look, "the number rests", SETTLE_SECONDS)


def _container(pod: str) -> str:
    """The service's own container of a deployment's pod."""
    workload = pod.partition("/")[2].removesuffix("-v2")
    for name, service in TOPOLOGY.services.items():
        if service.workload == workload:
            return name
    return workload


class _Resolver(AbstractResolver):
    """Every host is the node."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host=NODE, port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        """Nothing is open."""
