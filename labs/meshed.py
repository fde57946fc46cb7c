"""A shop in a mesh that a lab changes and looks at."""

from __future__ import annotations

import json
import socket
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509

from labs.certificate import shown_at
from labs.commands import Commands
from labs.errors import CommandFailed, LabError
from labs.finding import Finding, right, wrong
from labs.restoring import put_back, restore
from labs.visitor import CATALOGUE, Visitor, connected
from labs.waiting import eventually
from tools import cluster_audit
from tools.mesh import render
from tools.mesh.render import Object

PROBE = Path(__file__).parent / "probe.py"

Scheme = Literal["https", "http"]
_GATEWAY_PORTS: Mapping[Scheme, int] = {"https": 443, "http": 80}
_OPEN_SECONDS = 60.0
# The image of which the files speak, instead of which comes the one that the shop has.
_IMAGE = "meshmart:0.1.0"
_AUDIT_SECONDS = 60.0
_WHY_CHARACTERS = 200
_AGREED = ": nothing disagrees."
_PAYMENT = ("deployment/payment-service", "payment")
# What a probe greets to find out who reaches MongoDB.
MONGODB: Mapping[str, Any] = {"database": "mongodb:27017"}

_REQUESTS, _ERRORS = "meshmart_request_seconds_count", "errors"
# Past the pod's own proxy.
_METRICS = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:3000/metrics").read().decode())
"""


class Probed(NamedTuple):
    """The outcome of a request that a pod has sent: see probe.py."""

    outcome: Literal["answered", "denied", "refused", "failed"]
    detail: str
    who: str


class Done(NamedTuple):
    """How many requests a service has answered, the sum of their durations in seconds, and how
    many of the answers were errors of its own.
    """

    requests: int
    seconds: float
    errors: int = 0


class MeshedShop:
    """A shop in Istio or Linkerd.

    :param where: its namespace, host and gateway.
    :param gateway_address: where this machine reaches its gateway, ``127.0.0.1:8443`` say; without
        one a port is forwarded.
    :ivar seed: what a lab that draws by lot begins with.
    """

    def __init__(
        self, commands: Commands, where: render.Shop, *, gateway_address: str = "", seed: int = 0
    ) -> None:
        self.where = where
        self.seed = seed
        self._commands = commands
        self._gateway_address = gateway_address

    def __str__(self) -> str:
        return (
            f"The shop is https://{self.where.host}, in the namespace {self.where.namespace}, "
            f"in {self.mesh.capitalize()}."
        )

    @property
    def mesh(self) -> render.MeshName:
        """Which mesh it is in."""
        return self.where.mesh

    async def kubectl(self, *arguments: str, given: str | None = None, namespace: str = "") -> str:
        """Returns what ``kubectl`` prints, in the shop's namespace unless another one is given.

        :raises CommandFailed: it ended with an error.
        """
        return await self._commands.run(
            "kubectl", "-n", namespace or self.where.namespace, *arguments, given=given
        )

    async def restore(self, values: Mapping[str, Any] | None = None) -> None:
        """Brings back the base from any state, and waits until the shop is open.

        :param values: of the chart, on top of those that the base has.
        """
        await restore(self._commands, self.where, values or {})
        await self.until_open()

    async def until_open(self) -> None:
        """Waits until people outside can look at the catalogue.

        :raises LabError: they cannot in time.
        """
        async with self.visitor() as visitor:

            async def is_open() -> bool:
                return (await visitor.send("GET", CATALOGUE)).status == 200

            await eventually(
                is_open, f"{self.where.host} answers 200 at {CATALOGUE}", _OPEN_SECONDS
            )

    async def apply(self, folder: Path) -> None:
        """Applies a folder of a lab."""
        await self._apply(render.placed(self.where, folder))

    async def apply_of_mesh(self, folder: str) -> None:
        """Applies a folder or a file of mesh/istio or mesh/linkerd: ``base/authorization.yaml``."""
        await self._apply(render.rendered(self.where, folder))

    def of_base(self, kind: str, name: str) -> Object:
        """Returns an object of the base. Both meshes have kinds of the same name, and a shop is in
        one of them.
        """
        (found,) = [
            each
            for each in render.rendered(self.where, "base")
            if (each["kind"], each["metadata"]["name"]) == (kind, name)
        ]
        return found

    async def put_back(self, each: Object) -> None:
        """Replaces an object whole, or makes it."""
        await put_back(self._commands, self.where, [each])

    async def _apply(self, objects: Sequence[Object]) -> None:
        text = render.text_of(objects)
        if _IMAGE in text:
            text = text.replace(_IMAGE, await self._image())
        await self._commands.run("kubectl", "apply", "-f", "-", given=text)
        for each in objects:
            if each["kind"] in {"Deployment", "Pod"}:
                await self._wait_for(each)

    async def _wait_for(self, each: Object) -> None:
        name = each["metadata"]["name"]
        if each["kind"] == "Pod":
            await self.kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=90s")
        else:
            await self.kubectl("rollout", "status", f"deployment/{name}", "--timeout=90s")

    async def take_annotation_off(self, deployment: str, name: str) -> None:
        """Takes an annotation off the pods of a Deployment, whose pods are then replaced."""
        template = {"metadata": {"annotations": {name: None}}}
        patch = json.dumps({"spec": {"template": template}})
        await self.kubectl("patch", "deployment", deployment, "--type=merge", "-p", patch)
        await self.kubectl("rollout", "status", f"deployment/{deployment}", "--timeout=90s")

    async def _image(self) -> str:
        path = "jsonpath={.spec.template.spec.containers[?(@.name=='frontend')].image}"
        return await self.kubectl("get", "deployment", "frontend", "-o", path)

    async def objects(self, kinds: str, selector: str = "") -> list[Any]:
        """Returns the objects of kinds, ``pods,services``, in the shop's namespace."""
        labels = ("-l", selector) if selector else ()
        found: list[Any] = json.loads(await self.kubectl("get", kinds, *labels, "-o", "json"))[
            "items"
        ]
        return found

    async def pods(self, workload: str) -> list[Any]:
        """Returns a workload's pods that are ready and do not end, ordered by name."""
        found = await self.objects("pods", f"app.kubernetes.io/name={workload}")
        return sorted(
            (pod for pod in found if is_ready(pod)), key=lambda pod: pod["metadata"]["name"]
        )

    async def probe(
        self, pod: str, container: str, requests: Sequence[Mapping[str, Any]]
    ) -> list[Probed]:
        """Sends requests from inside a pod with the shop's image: ``deployment/order-service``.

        :param requests: as probe.py takes them. The result has their order.
        :raises CommandFailed: the pod or the container does not run.
        """
        script = PROBE.read_text(encoding="utf-8")
        said = await self.kubectl(
            *("exec", "-i", pod, "-c", container, "--", "python", "-c", script),
            given=json.dumps(list(requests)),
        )
        return [Probed(*each) for each in json.loads(said)]

    async def done(self, pod: str, container: str, operation: str) -> Done:
        """Returns what a service has done in a pod for an operation, ``GET /api/products``, since
        its process started. Requests whose caller has given up are counted, too.
        """
        text = await self.kubectl("exec", pod, "-c", container, "--", "python", "-c", _METRICS)
        totals = defaultdict[str, float](float)
        for line in text.splitlines():
            name, _, labels_and_value = line.partition("{")
            if f'operation="{operation}"' in labels_and_value:
                value = float(labels_and_value.rpartition(" ")[2])
                totals[name] += value
                if name == _REQUESTS and 'status="5' in labels_and_value:
                    totals[_ERRORS] += value
        return Done(
            requests=int(totals[_REQUESTS]),
            seconds=totals["meshmart_request_seconds_sum"],
            errors=int(totals[_ERRORS]),
        )

    @asynccontextmanager
    async def visitor(self) -> AsyncGenerator[Visitor]:
        """Yields a visitor from outside, at the gateway."""
        if self._gateway_address:
            async with self._visitor_at(self._gateway_address) as visitor:
                yield visitor
            return
        async with self.visitor_at(self.where.gateway) as visitor:
            yield visitor

    @asynccontextmanager
    async def visitor_at(
        self, gateway: render.IngressGateway, scheme: Scheme = "https"
    ) -> AsyncGenerator[Visitor]:
        """Yields a visitor from outside, at any gateway."""
        async with (
            self._forwarded(gateway, scheme) as address,
            self._visitor_at(address, scheme) as visitor,
        ):
            yield visitor

    async def certificate_at(self, gateway: render.IngressGateway) -> x509.Certificate | None:
        """Returns the certificate that a gateway has for the shop's host; None if it has none."""
        async with self._forwarded(gateway, "https") as address:
            return await shown_at(address, self.where.host)

    def _forwarded(
        self, gateway: render.IngressGateway, scheme: Scheme
    ) -> AbstractAsyncContextManager[str]:
        return self._commands.forwarded(
            gateway.namespace, f"service/{gateway.service}", _GATEWAY_PORTS[scheme]
        )

    @asynccontextmanager
    async def _visitor_at(self, address: str, scheme: Scheme = "https") -> AsyncGenerator[Visitor]:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise LabError(
                f"--gateway-address takes an address such as 127.0.0.1:8443, "
                f"and {address!r} is none."
            )
        # Its certificate vouches for itself, and which one it is does not matter here.
        connector = aiohttp.TCPConnector(ssl=False, resolver=_Always(host))
        async with connected(f"{scheme}://{self.where.host}:{port}", connector) as visitor:
            yield visitor

    async def audit(self) -> Finding:
        """Returns the finding whether the books agree: docs/backup.md. That they cannot be compared
        is one, too, and is known after some ten seconds where MongoDB is out of reach.
        """
        try:
            (greeting,) = await self.probe(*_PAYMENT, [MONGODB])
            if greeting.outcome != "answered":
                return self._not_compared("payment does not reach MongoDB")
            secret = await self.kubectl(*cluster_audit.SECRET_COMMAND)
            said = await self._commands.run(
                *("kubectl", "-n", self.where.namespace, *cluster_audit.AUDIT_COMMAND),
                given=cluster_audit.given(secret),
                within_seconds=_AUDIT_SECONDS,
            )
        except CommandFailed as error:
            return self._not_compared(str(error))
        match cluster_audit.outcome(said):
            case 0, [*_, last]:
                return right(f"the stores and Stripe agree: {last.removesuffix(_AGREED)}")
            case 1, [first, *_]:
                return wrong(f"the stores disagree: {first}", "docs/backup.md#audit")
            case status, lines:
                return self._not_compared(
                    " ".join(lines) or f"the audit ended with status {status}"
                )

    def _not_compared(self, why: str) -> Finding:
        why = " ".join(why.split())[:_WHY_CHARACTERS].rstrip(".")
        return wrong(
            f"the stores cannot be compared: {why}",
            f"kubectl -n {self.where.namespace} get pods: do MongoDB and payment run, and does "
            "MongoDB's policy let payment in?",
        )


class _Always(AbstractResolver):
    """Every name leads to one address."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=self._address,
                port=port,
                family=socket.AF_INET,
                proto=0,
                flags=0,
            )
        ]

    async def close(self) -> None:
        """Nothing is open."""


def is_ready(pod: Any) -> bool:
    """Returns whether a pod, as ``kubectl get`` returns it, is ready and not about to end."""
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
    return "deletionTimestamp" not in pod["metadata"] and conditions.get("Ready") == "True"
