"""The shop in a mesh, and what can be asked of it from inside and outside, whichever mesh it is."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import string
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from labs.meshed import PROBE
from services.common import call_record
from tests.cluster.release import IMAGE, Release
from tests.testkit.cluster import ROOT, CommandFailed, Namespace, run
from tests.testkit.customer import Client
from tests.testkit.matrix import STRANGER, TOPOLOGY, Operation, is_connected
from tests.testkit.waiting import eventually, wait_until
from tools.certificate import HOST, SECRET_NAMESPACE, Certificate, secret, self_signed
from tools.kind import WAY_IN

HERE = Path(__file__).parent

# Where the nodes' ports are reached from here.
NODE = os.environ.get("MESHMART_CLUSTER_NODE", "127.0.0.1")
# A control plane takes a moment to tell a change, and a proxy to take it.
SETTLE_SECONDS = 60.0

OUTSIDER = "outsider"
ECHO_HOST = "echo.example.com"


class Namespaced(NamedTuple):
    """The name of something in a namespace."""

    namespace: str
    name: str


Outcome = Literal["answered", "denied", "refused", "failed"]
# What may refuse a request, in the order in which it passes them.
Layer = Literal["the caller's proxy", "the network", "the mesh"]
# NetworkPolicies refuse the connection, or drop its packets: in words of Python, gRPC and Envoy.
_NO_CONNECTION = re.compile(
    r"ConnectionRefused|Connection refused|TimeoutError|ConnectionTimeout"
    r"|remote connection failure|connection timeout|upstream request timeout|Deadline Exceeded"
)
# Before this release asyncio leaves a TLS connection open when the other end is gone before it has
# said so, as a gateway's is that takes new settings: https://github.com/python/cpython/issues/118950.
_FORGETS_CONNECTIONS = sys.version_info < (3, 12, 7)
# A network follows policies one after the other, and a busy one slowly.
_POLICIES_SECONDS = 120.0


class Probed(NamedTuple):
    """What came of a request that a pod has sent; see labs/probe.py.

    :ivar refuses_silently: which layer refuses without a word to such a pod.
    """

    outcome: Outcome
    detail: str
    who: str
    refuses_silently: Layer

    @property
    def pod(self) -> str:
        """Which pod has answered."""
        served = call_record.decode(self.who)
        return served.instance if served else ""

    @property
    def refused_by(self) -> Layer | None:
        """Which layer has refused the request, if one has."""
        if self.outcome == "answered":
            return None
        if self.outcome != "failed":
            return "the mesh"
        if _NO_CONNECTION.search(self.detail):
            return "the network"
        return self.refuses_silently


class SickPod(Protocol):
    """One of payment's pods, which fails."""

    def is_left_alone(self) -> bool:
        """Whether order's proxy does not ask it any more."""
        ...

    def recover(self) -> None:
        """Makes it well."""
        ...

    def is_asked_again(self) -> bool:
        """Whether it gets requests again, and answers them."""
        ...


class Mesh(ABC):
    """A shop whose pods have proxies, and the way in to it. What differs between meshes is in their
    own subclasses.

    :cvar way_in: the Service of the gateway.
    :cvar namespace_labels: what README.md says of the shop's namespace.
    :cvar entry: what the way in needs, before the proxies are there.
    :cvar verifies_users: whether the mesh looks at users' tokens.
    :cvar egress_is_by_workload: whether the mesh can let out one service and not another.
    :cvar refuses_silently: which layer has refused a request of a pod with a proxy that is answered
        502 or 503 without a word. Of one without a proxy it is the mesh: the callee's hangs up.
    :cvar catalogue_routes: those of the base for `product-service`.
    :cvar echo_port: the gateway's port by which people come to the echo.
    :cvar partner: a request to the partner of scenario 14.
    :cvar first_span: how the service is called at which a trace begins.
    :ivar has_policies: whether the cluster's network does as the shop's NetworkPolicies say.
    """

    name: ClassVar[Literal["istio", "linkerd", "none"]]
    proxy: ClassVar[str]
    way_in: ClassVar[Namespaced]
    namespace_labels: ClassVar[Sequence[str]] = ()
    entry: ClassVar[Sequence[Path]]
    verifies_users: ClassVar[bool]
    egress_is_by_workload: ClassVar[bool]
    refuses_silently: ClassVar[Layer]
    catalogue_routes: ClassVar[Sequence[str]]
    echo_port: ClassVar[Literal["http", "https"]] = "http"
    partner: ClassVar[Mapping[str, Any]]
    first_span: ClassVar[str]

    def __init__(self, release: Release, certificate: Certificate) -> None:
        self.release = release
        self.certificates = [certificate]
        self.has_policies = False  # until the shop is there to be tried

    @classmethod
    @abstractmethod
    def is_installed(cls) -> bool:
        """Whether the cluster has this mesh."""

    @classmethod
    def chart_values(cls) -> Sequence[str]:
        """How the chart is installed for it."""
        return ("--set", f"mesh={cls.name},{WAY_IN[cls.name]}")

    @classmethod
    def base(cls) -> Path:
        """The kustomization of the secure shop."""
        return ROOT / "mesh" / cls.name / "base"

    @classmethod
    def scenarios(cls) -> Path:
        """The folder of its scenarios."""
        return ROOT / "mesh" / cls.name / "scenarios"

    @property
    def namespace(self) -> Namespace:
        """The shop's."""
        return self.release.namespace

    @abstractmethod
    def close(self) -> None:
        """Refuses what nobody has declared: the last steps of the mesh's README.md."""

    @abstractmethod
    def open(self) -> None:
        """Takes that back; the way in and the proxies stay."""

    def remove(self) -> None:
        """Takes all of the base away, the way in with it."""
        self.delete(self.base())

    @abstractmethod
    def allows(self, caller: str, operation: Operation, *, user: bool) -> bool:
        """Whether the base lets a caller's request through, with or without a user's token."""

    def first_to_refuse(self, caller: str, operation: Operation) -> Layer | None:
        """Which layer refuses a caller's request with a user's token, if one does, where
        NetworkPolicies are enforced.
        """
        if not is_connected(caller, operation):
            return "the network"
        return None if self.allows(caller, operation, user=True) else "the mesh"

    @abstractmethod
    def answer_to_outsiders(self, operation: Operation) -> Outcome:
        """What comes of a request by somebody without a proxy, where the network lets it pass."""

    @abstractmethod
    def callees_judge_alone(self) -> AbstractContextManager[None]:
        """Takes away what the caller's own proxy would refuse."""

    @contextmanager
    def without_network_policies(self) -> Generator[None]:
        """Takes away what the network would refuse, so that what is refused the mesh refuses."""
        self.release.upgrade("networkPolicies.enabled=false")
        try:
            wait_until(lambda: not self.closed_to_outsiders(), "all may connect", _POLICIES_SECONDS)
            yield
        finally:
            self.release.upgrade("networkPolicies.enabled=true")
            if self.has_policies:
                closed = TOPOLOGY.services.keys() - {"frontend"}
                wait_until(
                    lambda: self.closed_to_outsiders() == closed,
                    "the policies are back",
                    _POLICIES_SECONDS,
                )

    def closed_to_outsiders(self) -> set[str]:
        """The services to which the network lets nobody connect from another namespace."""
        asked = [
            {
                "method": "GET",
                "url": f"http://{service.workload}.ecommerce:{service.http.service_port}/livez",
            }
            for service in TOPOLOGY.services.values()
        ]
        answers = zip(TOPOLOGY.services, self.probe(OUTSIDER, asked), strict=True)
        return {name for name, answer in answers if answer.refused_by == "the network"}

    @abstractmethod
    def nobody_asks_for_stock(self) -> AbstractContextManager[None]:
        """Refuses whoever asks inventory for the stock, by the mesh's rules alone."""

    @abstractmethod
    def sick_payment_pod(self) -> AbstractContextManager[SickPod]:
        """A sick pod beside one that is well, within scenario 08."""

    @abstractmethod
    def counts_answers(self) -> bool:
        """Whether its proxies make the metrics by which scenario 19 judges a version."""

    @abstractmethod
    def lead_to_echo(self) -> None:
        """Makes the way in lead ECHO_HOST to the echo, by way of what the shop's requests
        go through.
        """

    @abstractmethod
    def span_service(self, workload: str) -> str:
        """What a workload's proxy calls itself in traces."""

    @abstractmethod
    def words_of_a_refusal(self, workload: str, path: str) -> Iterator[str]:
        """What the proxy's log says when the stranger asks a workload for a path."""

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
        self.apply(self.scenarios() / name)
        try:
            for deployment in self.namespace.objects("deployments", "meshmart/scenario"):
                self.namespace.roll_out(f"deployment/{deployment['metadata']['name']}")
            yield
        finally:
            self.take_back()

    def take_back(self) -> None:
        """Leaves the base and nothing else."""
        self.run_steps(f"kubectl apply -k mesh/{self.name}/base")
        kinds = run("kubectl", "api-resources", "--verbs=list,delete", "-o", "name").split()
        labelled = ("--all-namespaces", "--selector", "meshmart/scenario", "-o", "name")
        left = run("kubectl", "get", ",".join(kinds), *labelled)
        assert not left, left

    def run_steps(self, first: str) -> None:
        """The commands in the mesh's README.md of which the first begins so."""
        text = (self.base().parent / "README.md").read_text(encoding="utf-8")
        pattern = rf"^```sh\n({re.escape(first)}[^\n]*\n.*?)^```$"
        (commands,) = re.findall(pattern, text, re.MULTILINE | re.DOTALL)
        run("bash", "-euo", "pipefail", "-c", commands)

    def probe(
        self, pod: str, requests: Sequence[Mapping[str, Any]], namespace: Namespace | None = None
    ) -> list[Probed]:
        """Sends requests from inside a pod of the shop, ``deployment/order-service`` say, from
        STRANGER or OUTSIDER, or from a pod of another namespace.
        """
        namespace = namespace or (Namespace("outside") if pod == OUTSIDER else self.namespace)
        script = PROBE.read_text(encoding="utf-8")
        container = ["-c", _container(pod)]
        answers = namespace.kubectl(
            *("exec", "-i", pod, *container, "--", "python", "-c", script),
            given=json.dumps(list(requests)),
        )
        silent: Layer = "the mesh" if pod == OUTSIDER else self.refuses_silently
        return [Probed(*answer, refuses_silently=silent) for answer in json.loads(answers)]

    @asynccontextmanager
    async def gateway(
        self, *, port: str = "https", host: str = HOST, service: Namespaced | None = None
    ) -> AsyncGenerator[Client]:
        """A client of the ingress gateway, as people outside are."""
        node_port = gateway_port(port, service or self.way_in)
        connector = aiohttp.TCPConnector(
            limit=0,
            ssl=self.trust(),
            resolver=_Resolver(),
            enable_cleanup_closed=_FORGETS_CONNECTIONS,
        )
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Client(session, f"{port}://{host}:{node_port}")

    def trust(self) -> ssl.SSLContext:
        """Trusts the gateway's certificates."""
        trusted = b"".join(each.certificate for each in self.certificates)
        return ssl.create_default_context(cadata=trusted.decode())

    def spans(self) -> list[dict[str, Any]]:
        """All spans that services and proxies have sent."""
        read = ("exec", "-n", "observability", "jaeger", "-c", "jaeger", "--", "cat", "/spans/all")
        *whole, _ = run("kubectl", *read).split("\n")
        return [json.loads(line) for line in whole]


def gateway_port(name: str, service: Namespaced) -> int:
    """The node's port for ``http`` or ``https`` of a gateway."""
    ports = Namespace(service.namespace).object("service", service.name)["spec"]["ports"]
    number = {"http": 80, "https": 443}[name]
    return next(port["nodePort"] for port in ports if port["port"] == number)


def install_certificate(mesh: str) -> Certificate:
    """Makes the certificate that people see, as `make certificate` does."""
    certificate = self_signed(HOST)
    if namespace := SECRET_NAMESPACE.get(mesh):
        run("kubectl", "apply", "-f", "-", given=secret(certificate, namespace))
    return certificate


def install_bystanders(mesh: str) -> Certificate:
    """The pods of manifests.yaml, ready, and what is in them for one mesh. Returns the echo's
    certificate.
    """
    certificate = self_signed(ECHO_HOST)
    files = [HERE / "manifests.yaml", *(HERE / mesh).glob("manifests.yaml")]
    template = string.Template("---\n".join(path.read_text(encoding="utf-8") for path in files))
    manifests = template.substitute(
        IMAGE=IMAGE,
        COLLECTOR=json.dumps((HERE / "collector.py").read_text(encoding="utf-8")),
        ECHO=json.dumps((HERE / "echo.py").read_text(encoding="utf-8")),
        ECHO_CERTIFICATE=json.dumps(certificate.certificate.decode()),
        ECHO_KEY=json.dumps(certificate.key.decode()),
    )

    def are_there() -> bool:
        try:
            run("kubectl", "apply", "-f", "-", given=manifests)
        except CommandFailed as error:
            # Linkerd's injector learns of a namespace a moment after it was made.
            if 'namespaces "' in str(error) and "not found" in str(error):
                return False
            raise
        return True

    wait_until(are_there, "the injector knows the namespaces")
    for namespace, pod in (
        ("outside", OUTSIDER),
        ("ecommerce", STRANGER),
        ("ecommerce", "echo"),
        ("observability", "jaeger"),
    ):
        ready = ("--for=condition=Ready", "--timeout=120s")  # a node's first proxies start slowly
        run("kubectl", "wait", "-n", namespace, f"pod/{pod}", *ready)
    return certificate


def remove_bystanders() -> None:
    """What `install_bystanders` has made and the shop's namespace does not take along."""
    names = ("outside", "observability")
    run("kubectl", "delete", "namespace", *names, "--ignore-not-found", "--wait")


# Policies add up: one that lets all pass is enough.
_OPEN = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: open}
spec: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}
"""


@contextmanager
def everybody_connects(*namespaces: Namespace) -> Generator[None]:
    """Lets the network pass everything there, so that what is refused the mesh refuses."""
    for namespace in namespaces:
        namespace.kubectl("apply", "-f", "-", given=_OPEN)
    try:
        yield
    finally:
        for namespace in namespaces:
            namespace.kubectl("delete", "networkpolicy", "open")


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
    """The service's own container of a deployment's pod, or the only one of a bystander."""
    workload = pod.rpartition("/")[2].removesuffix("-v2")
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
