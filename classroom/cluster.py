"""The cluster that a class is in, as the teacher sees it, who may do everything there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from classroom.shares import Share, allocatable, fitting, requested, used, what_labs_add
from classroom.students import Student, gateway_of, is_students_name
from labs.commands import Commands
from labs.errors import CommandFailed, LabError
from labs.seat import CLASS_LABEL
from tools.kind import GATEWAY_PORT
from tools.mesh import render
from tools.mesh.render import MeshName, Object

MESHES: tuple[MeshName, ...] = ("istio", "linkerd")
POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"
GUARDS = f"{POLICIES},validatingadmissionpolicybindings.admissionregistration.k8s.io"
# On the namespace of a student whose shop is there: after how many seconds it was.
READY = "meshmart/ready-after-seconds"

# In a kind cluster of `make up` a port of this machine leads to a port of the node.
_KINDS_PORT, _KINDS_ADDRESS = GATEWAY_PORT["spec"]["ports"][0]["nodePort"], "127.0.0.1:8443"
_HTTPS = 443
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def texts_of(each: Object, name: Literal["labels", "annotations"]) -> Mapping[str, str]:
    """An object's labels or annotations, of which it may have none."""
    return each.get("metadata", {}).get(name) or dict[str, str]()


@dataclass(frozen=True, slots=True)
class Cluster:
    """That of the current kubeconfig."""

    commands: Commands

    async def students(self) -> list[Student]:
        """Those whose namespaces are there, by name.

        :raises LabError: there is no class.
        """
        found = await self.seated()
        if not found:
            raise LabError("There is no class in this cluster: make class STUDENTS=12 MESH=istio")
        return found

    async def seated(self) -> list[Student]:
        """Whose namespace or certificate is there."""
        found: dict[str, Student] = {}
        for each in await self.namespaces():
            name, mesh = each["metadata"]["name"], each["metadata"]["labels"][CLASS_LABEL]
            if is_students_name(name) and mesh in MESHES:
                found[name] = Student(name, mesh)
        for mesh in MESHES:
            listed = ("get", "secrets", "--selector", CLASS_LABEL, "-o", "name")
            secrets = await self.kubectl(gateway_of(mesh).namespace, *listed)
            for line in secrets.split():
                name = line.partition("/")[2].removesuffix("-tls-secret")
                found.setdefault(name, Student(name, mesh))
        return [found[name] for name in sorted(found)]

    async def _is_on_this_machine(self) -> bool:
        """Whether the API server is reached by the loopback address, as in a kind cluster."""
        config: Object = json.loads(await self.run("config", "view", "--minify", "-o", "json"))
        server: str = config["clusters"][0]["cluster"]["server"]
        return urlsplit(server).hostname in _LOOPBACK

    async def namespaces(self) -> list[Object]:
        """Those of students."""
        return await self.items("get", "namespaces", "--selector", CLASS_LABEL)

    async def nodes(self) -> list[Object]:
        """All of them."""
        return await self.items("get", "nodes")

    async def pods(self) -> list[Object]:
        """Those of all namespaces."""
        return await self.items("get", "pods", "--all-namespaces")

    async def items(self, *arguments: str) -> list[Object]:
        """What ``kubectl get`` finds."""
        found: list[Object] = json.loads(await self.run(*arguments, "-o", "json"))["items"]
        return found

    async def _summaries(self, nodes: Sequence[Object]) -> list[Object]:
        """What the kubelets count of their pods, for which no metrics-server is needed; nothing
        where they may not be asked.
        """
        paths = [f"/api/v1/nodes/{each['metadata']['name']}/proxy/stats/summary" for each in nodes]
        try:
            return [json.loads(await self.run("get", "--raw", path)) for path in paths]
        except CommandFailed:
            return []

    async def apply(self, objects: Sequence[Object]) -> None:
        """Applies them, in their order."""
        await self.run("apply", "-f", "-", given=render.text_of(objects))

    async def kubectl(
        self,
        namespace: str,
        *arguments: str,
        given: str | None = None,
        within_seconds: float = 120.0,
    ) -> str:
        """What ``kubectl`` prints, in a namespace."""
        return await self.commands.run(
            "kubectl", "-n", namespace, *arguments, given=given, within_seconds=within_seconds
        )

    async def run(self, *arguments: str, given: str | None = None) -> str:
        """What ``kubectl`` prints."""
        return await self.commands.run("kubectl", *arguments, given=given)

    async def left(self) -> list[str]:
        """What there is of a class outside of its namespaces, and the namespaces."""
        kinds = f"namespaces,{GUARDS}"
        found = [await self.run("get", kinds, "--selector", CLASS_LABEL, "-o", "name")]
        for mesh in MESHES:
            namespace = gateway_of(mesh).namespace
            secrets = ("get", "secrets", "--selector", CLASS_LABEL, "-o", "name")
            found.append(await self.kubectl(namespace, *secrets))
        return "\n".join(found).split()

    async def cost(self, students: Sequence[Student]) -> list[str]:
        """What each student takes now, in sentences."""
        nodes, pods = await self.nodes(), await self.pods()
        summaries = await self._summaries(nodes)
        seconds = {
            each["metadata"]["name"]: texts_of(each, "annotations").get(READY, "?")
            for each in await self.namespaces()
        }
        asked = [_requested_in(pods, student) for student in students]
        lines = [
            f"{student.name}: ready after {seconds.get(student.name, '?')} s; requests {share}; "
            f"{_use(summaries, student)}"
            for student, share in zip(students, asked, strict=True)
        ]
        free = allocatable(nodes).minus(requested(pods))
        most = Share(*(max(each) for each in zip(*asked, strict=True)))
        more = fitting(free, most.plus(what_labs_add(students[0].mesh)))
        lines.append(
            f"Free for others: {free}. There is room for {more} more, {more + len(students)} "
            "students in all."
        )
        return lines

    async def gateway_address(self, mesh: MeshName) -> str:
        """Where the gateway is reached from outside of the cluster: its load balancer, or a port of
        a node.
        """
        gateway = gateway_of(mesh)
        get = ("get", "service", gateway.service, "-o", "json")
        service = json.loads(await self.kubectl(gateway.namespace, *get))
        for each in service.get("status", {}).get("loadBalancer", {}).get("ingress") or ():
            return f"{each.get('ip') or each['hostname']}:{_HTTPS}"
        ports = {each["port"]: each.get("nodePort") for each in service["spec"]["ports"]}
        if not ports.get(_HTTPS):
            raise LabError(
                f"The gateway's Service {gateway.service} has neither a load balancer nor a port "
                "of the nodes: say where students reach it with --gateway-address."
            )
        if ports[_HTTPS] == _KINDS_PORT and await self._is_on_this_machine():
            return _KINDS_ADDRESS
        addresses = [
            address["address"]
            for node in await self.nodes()
            for address in node["status"]["addresses"]
            if address["type"] == "InternalIP"
        ]
        return f"{addresses[0]}:{ports[_HTTPS]}"


def _use(summaries: Sequence[Object], student: Student) -> str:
    if not summaries:
        return "the kubelets do not report its use"
    share = used(summaries, student.name)
    return f"uses {share.cpu_millicores / 1000:.2f} CPU, {share.memory_mib / 1024:.2f} GiB"


def _requested_in(pods: Sequence[Object], student: Student) -> Share:
    return requested([each for each in pods if each["metadata"]["namespace"] == student.name])
