"""The cluster that a class is in, with the teacher's rights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from classroom.resources import Resources, allocatable, fitting, lab_requests, requested, used
from classroom.students import Student, gateway_of, is_students_name, student_of_certificate
from labs.commands import Commands
from labs.errors import CommandFailed, LabError
from labs.membership import CLASS_LABEL
from tools.kind import GATEWAY_PORT
from tools.mesh import render
from tools.mesh.render import MeshName, Object

MESHES: tuple[MeshName, ...] = ("istio", "linkerd")
POLICY_KIND = "validatingadmissionpolicies.admissionregistration.k8s.io"
POLICY_KINDS = f"{POLICY_KIND},validatingadmissionpolicybindings.admissionregistration.k8s.io"
# An annotation of the namespace of a student whose shop is open: how many seconds that took.
READY = "meshmart/ready-after-seconds"

# In a kind cluster of `make up` a port of this machine leads to a port of the node.
_KINDS_PORT, _KINDS_ADDRESS = GATEWAY_PORT["spec"]["ports"][0]["nodePort"], "127.0.0.1:8443"
_HTTPS = 443
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def texts_of(each: Object, name: Literal["labels", "annotations"]) -> Mapping[str, str]:
    """Returns an object's labels or annotations; empty if it has none."""
    return each.get("metadata", {}).get(name) or dict[str, str]()


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster of kubectl's current context. Methods raise CommandFailed if kubectl fails."""

    commands: Commands

    async def students(self) -> list[Student]:
        """Returns the students of the class, by name.

        :raises LabError: there is no class.
        """
        found = await self.find_students()
        if not found:
            raise LabError("There is no class in this cluster: make class STUDENTS=12 MESH=istio")
        return found

    async def find_students(self) -> list[Student]:
        """Returns the students who have a namespace or a certificate, by name; none if there is no
        class.
        """
        found: dict[str, Student] = {}
        for each in await self.namespaces():
            name, mesh = each["metadata"]["name"], each["metadata"]["labels"][CLASS_LABEL]
            if is_students_name(name) and mesh in MESHES:
                found[name] = Student(name, mesh)
        for mesh in MESHES:
            listed = ("get", "secrets", "--selector", CLASS_LABEL, "-o", "name")
            secrets = await self.kubectl(gateway_of(mesh).namespace, *listed)
            for line in secrets.split():
                student = student_of_certificate(line.partition("/")[2], mesh)
                found.setdefault(student.name, student)
        return [found[name] for name in sorted(found)]

    async def _is_on_this_machine(self) -> bool:
        """Whether kubectl reaches the API server at the loopback address, as in a kind cluster."""
        config: Object = json.loads(await self.run("config", "view", "--minify", "-o", "json"))
        server: str = config["clusters"][0]["cluster"]["server"]
        return urlsplit(server).hostname in _LOOPBACK

    async def namespaces(self) -> list[Object]:
        """Returns the students' namespaces."""
        return await self.items("get", "namespaces", "--selector", CLASS_LABEL)

    async def nodes(self) -> list[Object]:
        """Returns all nodes."""
        return await self.items("get", "nodes")

    async def pods(self) -> list[Object]:
        """Returns the pods of all namespaces."""
        return await self.items("get", "pods", "--all-namespaces")

    async def items(self, *arguments: str) -> list[Object]:
        """Returns the objects that ``kubectl get …`` finds.

        :param arguments: with ``get``, without ``-o``.
        """
        found: list[Object] = json.loads(await self.run(*arguments, "-o", "json"))["items"]
        return found

    async def _summaries(self, nodes: Sequence[Object]) -> list[Object]:
        """Returns what the kubelets measure of their pods, for which no metrics-server is needed;
        empty where the cluster does not allow to ask them.
        """
        paths = [f"/api/v1/nodes/{each['metadata']['name']}/proxy/stats/summary" for each in nodes]
        try:
            return [json.loads(await self.run("get", "--raw", path)) for path in paths]
        except CommandFailed:
            return []

    async def apply(self, objects: Sequence[Object]) -> None:
        """Applies objects, in their order."""
        await self.run("apply", "-f", "-", given=render.text_of(objects))

    async def kubectl(
        self,
        namespace: str,
        *arguments: str,
        given: str | None = None,
        within_seconds: float = 120.0,
    ) -> str:
        """Returns what ``kubectl`` prints, in a namespace."""
        return await self.commands.run(
            "kubectl", "-n", namespace, *arguments, given=given, within_seconds=within_seconds
        )

    async def run(self, *arguments: str, given: str | None = None) -> str:
        """Returns what ``kubectl`` prints."""
        return await self.commands.run("kubectl", *arguments, given=given)

    async def leftovers(self) -> list[str]:
        """Returns what the cluster has of a class, as ``namespace/student-01``: namespaces,
        admission policies, and certificates at the gateway.
        """
        kinds = f"namespaces,{POLICY_KINDS}"
        found = [await self.run("get", kinds, "--selector", CLASS_LABEL, "-o", "name")]
        for mesh in MESHES:
            namespace = gateway_of(mesh).namespace
            secrets = ("get", "secrets", "--selector", CLASS_LABEL, "-o", "name")
            found.append(await self.kubectl(namespace, *secrets))
        return "\n".join(found).split()

    async def cost(self, students: Sequence[Student]) -> list[str]:
        """Returns sentences: what each student requests and uses, and how many more fit."""
        nodes, pods = await self.nodes(), await self.pods()
        summaries = await self._summaries(nodes)
        seconds = {
            each["metadata"]["name"]: texts_of(each, "annotations").get(READY, "?")
            for each in await self.namespaces()
        }
        requests = [_requested_in(pods, student) for student in students]
        lines = [
            f"{student.name}: ready after {seconds.get(student.name, '?')} s; requests {each}; "
            f"{_use(summaries, student)}"
            for student, each in zip(students, requests, strict=True)
        ]
        free = allocatable(nodes).minus(requested(pods))
        most = Resources(*(max(each) for each in zip(*requests, strict=True)))
        more = fitting(free, most.plus(lab_requests(students[0].mesh)))
        lines.append(
            f"Free for others: {free}. There is room for {more} more, {more + len(students)} "
            "students in all."
        )
        return lines

    async def gateway_address(self, mesh: MeshName) -> str:
        """Returns where the gateway is reached from outside of the cluster, ``192.0.2.7:443``: at
        its load balancer, or at a port of a node.

        :raises LabError: its Service has neither.
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
                "of the nodes: give the address for students with --gateway-address."
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
        return "use unknown, because the kubelets do not answer"
    return f"uses {used(summaries, student.name).cpu_and_memory}"


def _requested_in(pods: Sequence[Object], student: Student) -> Resources:
    return requested([each for each in pods if each["metadata"]["namespace"] == student.name])
